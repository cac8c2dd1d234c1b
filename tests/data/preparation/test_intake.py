from pathlib import Path

import numpy as np
import pytest

from clickscale.data.preparation.intake import Intake, read_log
from clickscale.data.preparation.records import ids_of, record_type, table_fields
from clickscale.errors import InputError
from tests.data.tiny import START, source_of, tiny_schema, tiny_source, tiny_tables


def silent(done: int) -> None:
    """Show no progress."""


def read(tmp_path: Path, chunk_rows: int = 1000) -> Intake:
    return read_log(tiny_source(known_at=True), tmp_path / "spill", chunk_rows, silent)


def test_a_record_holds_ids_times_labels_and_raw_values() -> None:
    schema = tiny_schema()
    names = record_type(schema, "impressions").names
    assert names == (
        "row",
        "user",
        "item",
        "time",
        "label.click",
        "label.like",
        "field.position",
        "field.hour",
    )
    assert record_type(schema, "behaviors").names[-3:] == ("known_at", "field.action", "field.dwell")
    items = record_type(schema, "items")
    assert items["field.genre"].shape == (3,)
    assert items["field.text"].shape == (4,)
    assert items["field.text"].base == np.float16
    assert [field.name for field in table_fields(schema, "users")] == ["gender", "age"]


@pytest.mark.parametrize("chunk_rows", [1, 10, 1000])
def test_records_number_the_rows_of_their_table(tmp_path: Path, chunk_rows: int) -> None:
    intake = read(tmp_path, chunk_rows)
    for table, rows in (("users", 7), ("items", 11), ("behaviors", 90), ("impressions", 120)):
        assert intake.files[table].read()["row"].tolist() == list(range(rows))
    assert intake.known_at
    assert intake.distinct[ids_of("user")].sorted().to_pylist() == list(range(100, 108))


def test_progress_counts_all_rows(tmp_path: Path) -> None:
    told: list[int] = []
    read_log(tiny_source(chunk_rows=100), tmp_path / "spill", 50, told.append)
    assert told == [7, 18, 68, 108, 158, 208, 228]


def test_ids_of_bad_rows_are_not_remembered(tmp_path: Path) -> None:
    for string_ids in (False, True):
        tables = tiny_tables(string_ids=string_ids)
        stranger = "stranger" if string_ids else 999
        tables["impressions"][3] |= {"user": stranger, "item": stranger, "time": START * 1000}
        schema = tiny_schema(dtype="string" if string_ids else "int")
        intake = read_log(source_of(schema, tables), tmp_path / f"spill{string_ids}", 1000, silent)
        assert len(intake.distinct[ids_of("user")].sorted()) == 8
        assert len(intake.distinct[ids_of("item")].sorted()) == 12


def test_labels_may_be_missing_only_where_all_rows_are_positive(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"]:
        del row["label.like"]
    with pytest.raises(InputError, match=r"'label\.like'; did you mean 'label\.click'"):
        read_log(source_of(tiny_schema(), tables), tmp_path / "one", 1000, silent)
    intake = read_log(source_of(tiny_schema(), tables, negatives=1), tmp_path / "two", 1000, silent)
    records = intake.files["impressions"].read()
    assert records["label.like"].tolist() == [1] * 120
    assert records["label.click"].tolist() == [row["label.click"] for row in tables["impressions"]]
