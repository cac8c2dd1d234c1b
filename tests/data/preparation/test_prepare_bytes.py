"""Same log, same bytes, however it is cut up, ordered or repeated; and what a killed process leaves."""

import random
from pathlib import Path
from typing import Any

import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Source, Split
from clickscale.errors import DataError
from clickscale.files import FAILPOINT
from tests.data.tiny import STATISTICS, source_of, tiny_schema, tiny_source, tiny_tables
from tests.everyday import thinned
from tests.forked_commands import CommandServer

Bytes = dict[str, bytes]


def bytes_of(out: Path) -> Bytes:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def prepared(source: Source, out: Path, chunk_rows: int = 1 << 17, memory_rows: int = 1 << 20) -> Bytes:
    prepare(source, out, chunk_rows=chunk_rows, memory_rows=memory_rows)
    return bytes_of(out)


@thinned(
    ("chunk_rows", "memory_rows", "given", "string_ids"),
    [
        (7, 20, 1000, True),
        (7, 20, 1000, False),
        (1000, 5, 64, True),
        (1, 1, 3, False),
        (1, 1, 3, True),
        (1000, 5, 64, False),
    ],
)
def test_the_bytes_do_not_depend_on_how_much_memory_may_be_used(
    tmp_path: Path, chunk_rows: int, memory_rows: int, given: int, string_ids: bool
) -> None:
    def source(rows: int) -> Source:
        return tiny_source(known_at=True, string_ids=string_ids, statistics=STATISTICS, chunk_rows=rows)

    whole = prepared(source(10**6), tmp_path / "whole")
    assert prepared(source(given), tmp_path / "pieces", chunk_rows, memory_rows) == whole


@pytest.mark.parametrize("kind", ["time", "user_time"])
def test_sampled_negatives_and_duplicates_do_not_depend_on_memory_either(tmp_path: Path, kind: Any) -> None:
    tables = tiny_tables()
    for name in ("behaviors", "impressions", "users", "items"):
        tables[name] += tables[name][5:9]  # type: ignore[index]

    def source(rows: int) -> Source:
        return source_of(tiny_schema(), tables, chunk_rows=rows, split=Split(kind=kind), negatives=2)

    whole = prepared(source(10**6), tmp_path / "whole")
    assert prepared(source(3), tmp_path / "pieces", 2, 4) == whole
    report = open_dataset(tmp_path / "whole").manifest.report
    assert report["behaviors"].quarantined == {"duplicate": 4}
    assert report["impressions"].quarantined["duplicate"] == 4
    assert report["users"].quarantined == {"duplicate_user": 2}  # of 7 rows, only 5 and 6 could be repeated


def test_a_shuffled_log_with_repeated_rows_gives_the_same_columns(tmp_path: Path) -> None:
    tables = tiny_tables(known_at=True)
    whole = prepared(source_of(tiny_schema(), tables), tmp_path / "whole")
    shuffle = random.Random(5).shuffle
    for name in ("behaviors", "impressions"):
        tables[name] = tables[name] + tables[name][::3]  # type: ignore[index]
        shuffle(tables[name])  # type: ignore[index]
    shuffle(tables["users"])
    shuffle(tables["items"])
    mixed = prepared(source_of(tiny_schema(), tables), tmp_path / "mixed")
    own = set(whole) - {"manifest.json", "impressions/row.npy"}
    assert {name: mixed[name] for name in own} == {name: whole[name] for name in own}
    report = open_dataset(tmp_path / "mixed").manifest.report
    assert report["impressions"].quarantined == {"duplicate": 40}
    shown = open_dataset(tmp_path / "mixed").impressions  # each impression knows its own row of this order
    times = [tables["impressions"][row]["time"] for row in shown["row"]]
    assert times == shown["time"].tolist()


CHILD = """
import sys
from pathlib import Path
from clickscale.data.preparation.prepare import prepare
from tests.data.tiny import STATISTICS, tiny_source
prepare(tiny_source(statistics=STATISTICS), Path(sys.argv[1]), overwrite=True)
"""


def run_child(server: CommandServer, out: Path, failure: str) -> int:
    return server.run_program(CHILD, str(out), environment={FAILPOINT: failure}).returncode


@pytest.mark.parametrize("point", ["prepare_read", "prepare_sort", "prepare_encode", "folder_built"])
def test_a_killed_preparation_leaves_nothing_to_read_and_can_be_run_again(
    tmp_path: Path, point: str, command_server: CommandServer
) -> None:
    out = tmp_path / "out"
    assert run_child(command_server, out, f"{point}:kill") == 137
    assert not out.exists()
    with pytest.raises(DataError, match="not a prepared data set"):
        open_dataset(out)
    expected = prepared(tiny_source(statistics=STATISTICS), tmp_path / "expected")
    assert prepared(tiny_source(statistics=STATISTICS), out) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "out"]


@pytest.mark.parametrize("point", ["prepare_encode", "folder_synced", "folder_moved_away"])
def test_a_killed_overwrite_leaves_the_old_data_set(
    tmp_path: Path, point: str, command_server: CommandServer
) -> None:
    old = prepared(tiny_source(), tmp_path / "out")
    assert run_child(command_server, tmp_path / "out", f"{point}:kill") == 137
    open_dataset(tmp_path / "out").verify()  # opening it heals it
    assert bytes_of(tmp_path / "out") == old


@pytest.mark.parametrize("point", ["folder_published", "folder_removed"])
def test_an_overwrite_that_is_killed_late_leaves_the_new_data_set(
    tmp_path: Path, point: str, command_server: CommandServer
) -> None:
    prepare(tiny_source(), tmp_path / "out")
    assert run_child(command_server, tmp_path / "out", f"{point}:kill") == 137
    new = prepared(tiny_source(statistics=STATISTICS), tmp_path / "new")
    open_dataset(tmp_path / "out").verify()
    assert bytes_of(tmp_path / "out") == new
    prepare(tiny_source(), tmp_path / "out", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


@pytest.mark.parametrize("point", ["prepare_read", "prepare_sort", "prepare_encode"])
def test_a_full_disk_is_a_clear_error_and_leaves_the_old_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    old = prepared(tiny_source(), tmp_path / "out")
    monkeypatch.setenv(FAILPOINT, f"{point}:enospc")
    with pytest.raises(DataError, match=r"disk is full: .* [\d,]+ bytes that were free"):
        prepare(tiny_source(), tmp_path / "out", overwrite=True)
    assert bytes_of(tmp_path / "out") == old
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_data_set_is_replaced_only_on_demand(tmp_path: Path) -> None:
    old = prepared(tiny_source(), tmp_path / "out")
    with pytest.raises(DataError, match="exists already"):
        prepare(tiny_source(seed=1), tmp_path / "out")
    assert bytes_of(tmp_path / "out") == old
    prepare(tiny_source(seed=1), tmp_path / "out", overwrite=True)
    assert bytes_of(tmp_path / "out") != old
    open_dataset(tmp_path / "out").verify()


def test_bounds_of_memory_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 1"):
        prepare(tiny_source(), tmp_path / "out", memory_rows=0)
