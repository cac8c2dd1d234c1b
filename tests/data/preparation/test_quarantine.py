"""Bad input: every reason, nothing lost, and the good rows as if the bad ones had never been there."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.layout import Manifest
from clickscale.data.preparation.prepare import prepare
from clickscale.data.preparation.quarantine import EXAMPLES, Quarantine, RowProblems
from clickscale.data.source import TableName
from clickscale.errors import DataError
from tests.data.tiny import DAY, START, source_of, tiny_schema, tiny_tables
from tests.everyday import thinned

Tables = dict[TableName, list[dict[str, Any]]]
BEFORE_BOUNDS, AFTER_BOUNDS = START - 3651 * DAY, START + 3651 * DAY
TEXTS: dict[TableName, tuple[str, ...]] = {
    "users": ("user", "gender", "age"),
    "items": ("item", "genre", "price", "released"),
    "behaviors": ("user", "item", "time", "known_at", "action", "dwell"),
    "impressions": ("user", "item", "time", "label.click", "label.like", "position", "hour"),
}

# (table, what is changed in a good row, the reason)
BAD: list[tuple[TableName, dict[str, Any], str]] = [
    ("impressions", {"user": None}, "null_user"),
    ("impressions", {"user": ""}, "null_user"),
    ("impressions", {"item": None}, "null_item"),
    ("impressions", {"user": "abc"}, "bad_user"),
    ("impressions", {"user": "3.5"}, "bad_user"),
    ("impressions", {"item": "x1"}, "bad_item"),
    ("impressions", {"item": "-10"}, "negative_id"),
    ("impressions", {"user": str(2**63)}, "id_overflow"),
    ("impressions", {"time": None}, "null_time"),
    ("impressions", {"time": "soon"}, "bad_time"),
    ("impressions", {"time": "0"}, "time_out_of_bounds"),
    ("impressions", {"time": "-5"}, "time_out_of_bounds"),
    ("impressions", {"time": str(BEFORE_BOUNDS)}, "time_out_of_bounds"),
    ("impressions", {"time": str(AFTER_BOUNDS)}, "time_out_of_bounds"),
    ("impressions", {"time": str(START * 1000)}, "time_in_milliseconds"),
    ("impressions", {"time": str(START * 10**6)}, "time_out_of_bounds"),
    ("impressions", {"label.click": "2"}, "bad_label"),
    ("impressions", {"label.click": "-1"}, "bad_label"),
    ("impressions", {"label.like": "perhaps"}, "bad_label"),
    ("impressions", {"label.like": "0.5"}, "bad_label"),
    ("impressions", {"hour": "1e99"}, "non_finite"),
    ("impressions", {"hour": "-inf"}, "non_finite"),
    ("impressions", {"hour": "noon"}, "bad_number"),
    ("impressions", {"position": "first"}, "bad_value"),
    ("impressions", {"position": b"\xff\xfe"}, "invalid_utf8"),
    ("impressions", {"user": b"\xff"}, "invalid_utf8"),
    ("impressions", {"problem": "bad_row"}, "bad_row"),
    ("impressions", {"problem": "bad_row", "user": None}, "bad_row"),
    ("behaviors", {"item": None}, "null_item"),
    ("behaviors", {"user": "no"}, "bad_user"),
    ("behaviors", {"time": str(START * 1000)}, "time_in_milliseconds"),
    ("behaviors", {"known_at": str(START - 3000 * DAY)}, "known_before_time"),
    ("behaviors", {"known_at": str(AFTER_BOUNDS)}, "known_at_out_of_bounds"),
    ("behaviors", {"known_at": str(START * 1000)}, "known_at_in_milliseconds"),
    ("behaviors", {"dwell": "1e999"}, "non_finite"),
    ("behaviors", {"action": b"\xc3\x28"}, "invalid_utf8"),
    ("users", {"user": None}, "null_user"),
    ("users", {"age": "old"}, "bad_number"),
    ("users", {}, "duplicate_user"),
    ("items", {"item": "3.5"}, "bad_item"),
    ("items", {"price": "inf"}, "non_finite"),
    ("items", {"text": [1.0]}, "bad_vector"),
    ("items", {"text": [1.0, 2.0, 3.0, float("nan")]}, "non_finite"),
    ("items", {}, "duplicate_item"),
    ("behaviors", {}, "duplicate"),
    ("impressions", {}, "duplicate"),
]


def as_table(name: TableName, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a file of text would give them: every value text that nobody has checked, or null."""
    columns: dict[str, pa.Array] = {}
    for column in (*TEXTS[name], "problem"):
        values = [row.get(column) for row in rows]
        raw = [v if v is None or isinstance(v, bytes) else str(v).encode() for v in values]
        unchecked = pa.array(raw, pa.binary())
        columns[column] = pa.Array.from_buffers(pa.string(), len(raw), unchecked.buffers())
    if name == "items":
        columns["text"] = pa.array([row.get("text") for row in rows], pa.list_(pa.float32()))
    return pa.table(columns)


def prepare_texts(tables: Tables, out: Path, chunk_rows: int = 17, max_quarantined: float = 0.5) -> Manifest:
    source = source_of(
        tiny_schema(), {name: as_table(name, rows) for name, rows in tables.items()}, chunk_rows=chunk_rows
    )
    return prepare(source, out, max_quarantined=max_quarantined)


def columns_of(out: Path) -> dict[str, bytes]:
    """Every file of a data set but the manifest, the quarantine, and the numbers of rows in the log."""
    files = [path for path in out.rglob("*") if path.is_file() and "quarantine" not in path.parts]
    left_out = ("manifest.json", "row.npy")
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.name not in left_out}


def bad_row(table: str, rows: int) -> int:
    """Row of the impressions that was refused."""
    return rows - 1 if table == "impressions" else -1


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("clean") / "out"
    prepare_texts(tiny_tables(known_at=True), out)
    return columns_of(out)


@thinned(("table", "change", "reason"), BAD, ids=lambda value: str(value)[:40], every=5)
def test_a_bad_row_goes_to_quarantine_and_changes_nothing_else(
    tmp_path: Path, clean: dict[str, bytes], table: TableName, change: dict[str, Any], reason: str
) -> None:
    tables = tiny_tables(known_at=True)
    rows = len(tables[table])
    tables[table].insert(rows - 1, tables[table][3] | change)
    manifest = prepare_texts(tables, tmp_path / "out")
    assert manifest.report[table].quarantined == {reason: 1}
    assert (manifest.report[table].rows, manifest.report[table].kept) == (rows + 1, rows)
    lines = (tmp_path / "out" / "quarantine" / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["reason"] == reason
    assert json.loads(lines[0])["row"] == rows - 1
    assert columns_of(tmp_path / "out") == clean
    kept = np.sort(np.load(tmp_path / "out" / "impressions" / "row.npy"))
    assert kept.tolist() == [row for row in range(len(tables["impressions"])) if row != bad_row(table, rows)]


def test_everything_bad_at_once_changes_nothing_else(tmp_path: Path, clean: dict[str, bytes]) -> None:
    tables = tiny_tables(known_at=True)
    for place, (table, change, _) in enumerate(BAD):
        tables[table].insert(4 + place % 3, tables[table][0] | change)
    manifest = prepare_texts(tables, tmp_path / "out", chunk_rows=5)
    assert columns_of(tmp_path / "out") == clean
    for table, report in manifest.report.items():
        assert report.rows == report.kept + sum(report.quarantined.values())
        assert report.rows == len(tables[table])  # type: ignore[index]
    assert sum(sum(report.quarantined.values()) for report in manifest.report.values()) == len(BAD)


def test_an_example_shows_the_row_the_column_and_the_value(tmp_path: Path) -> None:
    tables = tiny_tables()
    tables["impressions"][7] |= {"position": b"caf\xe9"}
    tables["impressions"][30] |= {"hour": "x" * 500}
    prepare_texts(tables, tmp_path / "out")
    lines = (tmp_path / "out" / "quarantine" / "impressions.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert first == {"row": 7, "reason": "invalid_utf8", "column": "position", "value": "caf\\xe9"}
    assert second["value"] == "x" * 200 + "..."


def test_the_number_of_examples_is_limited_but_not_the_count() -> None:
    quarantine = Quarantine()
    chunk = pa.record_batch({"user": pa.array(range(EXAMPLES + 5))})
    problems = RowProblems(len(chunk))
    problems.mark(problems.usable, "null_user", "user")
    problems.mark(problems.usable, "later", "user")
    quarantine.add_chunk("users", chunk, problems)
    quarantine.add_chunk("users", chunk, problems)
    assert quarantine.report()["users"].quarantined == {"null_user": 2 * (EXAMPLES + 5)}
    with tempfile.TemporaryDirectory() as folder:
        quarantine.write(Path(folder))
        assert len((Path(folder) / "users.jsonl").read_text().splitlines()) == EXAMPLES


def test_too_many_bad_rows_stop_the_work_and_say_why(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"][:70]:
        row["time"] *= 1000
    with pytest.raises(DataError, match=r"70 of 120 .*time_in_milliseconds 70 .*divide .* by 1000"):
        prepare_texts(tables, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    assert prepare_texts(tables, tmp_path / "out", max_quarantined=0.6).report["impressions"].kept == 50


def test_a_log_of_bad_rows_alone_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"]:
        row["label.click"] = "maybe"
    with pytest.raises(DataError, match=r"120 of 120 .*bad_label 120 .*label.click = maybe"):
        prepare_texts(tables, tmp_path / "out", max_quarantined=1.0)


NUMBERS = ["7", "3.5", "-2", str(2**70), "nan", "1", str(START + 5), str(START * 1000)]
JUNK = st.sampled_from(["", "abc", None, *NUMBERS])
CHANGES = st.dictionaries(st.sampled_from(["user", "item", "time", "label.click", "position", "hour"]), JUNK)


@settings(max_examples=12)
@given(st.lists(CHANGES, max_size=12), st.integers(1, 40))
def test_rows_in_are_rows_kept_and_rows_quarantined(changes: list[dict[str, Any]], chunk_rows: int) -> None:
    check_balance(changes, chunk_rows)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(CHANGES, max_size=12), st.integers(1, 40))
def test_rows_in_are_rows_kept_and_quarantined_in_many_more_logs(
    changes: list[dict[str, Any]], chunk_rows: int
) -> None:
    check_balance(changes, chunk_rows)


def check_balance(changes: list[dict[str, Any]], chunk_rows: int) -> None:
    """Prepare a log with strange rows, and compare the counts with those of rules said another way."""
    tables = tiny_tables(impressions=30, behaviors=10)
    bad = 0
    for place, change in enumerate(changes):
        row = tables["impressions"][0] | {"time": START + 10 + place} | change
        tables["impressions"].append(row)
        bad += not is_good(row)
    with tempfile.TemporaryDirectory() as folder:
        manifest = prepare_texts(tables, Path(folder) / "out", chunk_rows, max_quarantined=1.0)
    report = manifest.report["impressions"]
    duplicates = report.quarantined.get("duplicate", 0)
    assert report.rows == 30 + len(changes)
    assert report.kept == report.rows - bad - duplicates
    assert report.kept == manifest.counts["impressions"]
    assert sum(report.quarantined.values()) == bad + duplicates


def is_good(row: dict[str, Any]) -> bool:
    """The rules for the columns that the property test changes, said another way."""

    def whole(value: Any) -> bool:
        return str(value).isdigit() and str(int(value)) == str(value) and int(value) < 2**63

    in_time = whole(row["time"]) and BEFORE_BOUNDS < int(row["time"]) < AFTER_BOUNDS
    label = row["label.click"] in (0, 1, "1", "", "nan", None)
    position = row["position"] in ("", "nan", None) or whole(row["position"])
    hour = row["hour"] != "abc"
    return whole(row["user"]) and whole(row["item"]) and in_time and label and position and hour
