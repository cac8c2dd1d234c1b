from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.features.texts import hash_texts
from clickscale.data.preparation import records as module
from clickscale.data.preparation.records import Distinct, RecordFile, part_records
from clickscale.errors import DataError

TYPE = np.dtype([("row", "<i8"), ("tags", "<i4", (2,)), ("label", "i1")])


def records(count: int) -> module.Records:
    made = np.zeros(count, TYPE)
    made["row"] = np.arange(count)
    made["tags"] = np.arange(2 * count).reshape(count, 2)
    return made


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "some.rows", TYPE)
    assert file.rows == 0
    assert len(file.read()) == 0
    file.append(records(5)[:2])
    file.append(records(5)[2:])
    assert file.rows == 5
    np.testing.assert_array_equal(file.read(), records(5))
    assert [chunk["row"].tolist() for chunk in file.chunks(2)] == [[0, 1], [2, 3], [4]]


def test_records_are_dealt_out_in_the_order_of_the_log(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "some.rows", TYPE)
    file.append(records(7))
    parts = part_records(file, 3, lambda chunk: chunk["row"] % 3, chunk_rows=2)
    assert [part.read()["row"].tolist() for part in parts] == [[0, 3, 6], [1, 4], [2, 5]]
    assert not file.path.exists()


def test_one_bucket_needs_no_copy(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "some.rows", TYPE)
    file.append(records(3))
    assert part_records(file, 1, lambda chunk: chunk["row"] * 0, chunk_rows=2) == [file]


@given(st.lists(st.lists(st.sampled_from(["b", "a", "ab", "é", "z"]), max_size=4), max_size=8))
def test_distinct_texts_are_those_that_were_added(chunks: list[list[str]]) -> None:
    distinct = Distinct("word", textual=True)
    for chunk in chunks:
        texts = pa.array(sorted(set(chunk)), pa.large_string())
        distinct.add(hash_texts(texts), texts)
    expected = sorted({text for chunk in chunks for text in chunk}, key=lambda text: text.encode())
    assert distinct.sorted().to_pylist() == expected
    asked = pa.array(expected, pa.large_string())
    assert distinct.texts_of(hash_texts(asked)).to_pylist() == expected


def test_distinct_ids_are_merged_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", 2)
    distinct = Distinct("id", textual=False)
    for start in range(10):
        distinct.add(np.array([start + 3, start, start]))
    assert distinct.sorted().to_pylist() == list(range(13))


def test_two_texts_with_one_hash_are_never_taken_for_each_other() -> None:
    distinct = Distinct("word", textual=True)
    distinct.add(np.array([5]), pa.array(["one"]))
    distinct.add(np.array([5]), pa.array(["two"]))
    with pytest.raises(DataError, match="'two' and 'one'"):
        distinct.sorted()
