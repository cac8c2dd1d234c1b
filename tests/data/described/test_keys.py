"""Keys that join the rows of two tables."""

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.described.keys import KeyedRows, gathered, row_keys, together
from clickscale.data.features.values import MISSING
from clickscale.data.tables.chunks import Chunk, empty_problems
from clickscale.errors import InputError


def chunk(**columns: list[object]) -> Chunk:
    rows = pa.RecordBatch.from_pydict(columns)
    return Chunk(rows, empty_problems(rows.num_rows))


def test_a_key_is_the_same_whatever_the_type_of_its_column() -> None:
    texts = row_keys("Tables", chunk(id=["12", "007", "a", None, ""]), ["id"])
    assert row_keys("Tables", chunk(id=[12.0, float("nan")]), ["id"]).tolist() == [texts[0], MISSING]
    assert row_keys("Tables", chunk(id=[12, 7, None]), ["id"]).tolist()[:1] == [texts[0]]
    assert texts.tolist()[3:] == [MISSING, MISSING]
    assert len({*texts.tolist(), *row_keys("Tables", chunk(id=[7]), ["id"]).tolist()}) == 5


def test_keys_of_several_columns_differ_wherever_one_does() -> None:
    keys = row_keys("Tables", chunk(a=["1", "1", "11", None], b=["1", "2", "", None]), ["a", "b"])
    assert len(set(keys.tolist())) == 4
    assert keys[3] == MISSING


def test_a_key_of_lists_is_refused() -> None:
    with pytest.raises(InputError, match="Tables: the key 'id' holds lists"):
        row_keys("Tables", chunk(id=[["a"]]), ["id"])


def test_rows_are_found_by_their_keys() -> None:
    rows = KeyedRows(np.array([3, 5, 9]), {"x": pa.array(["c", "e", "i"])})
    assert rows.of(np.array([9, 4, 3, 10, 9]))["x"].to_pylist() == ["i", None, "c", None, "i"]
    none = KeyedRows(np.zeros(0, np.int64), {"x": pa.array([], pa.string())})
    assert none.of(np.array([1, 2]))["x"].to_pylist() == [None, None]


def test_parts_of_several_types_become_texts() -> None:
    assert together([pa.array([1, 2]), pa.nulls(1), pa.array(["x"])]).to_pylist() == ["1", "2", None, "x"]
    assert together([pa.array([1]), pa.array([2])]).to_pylist() == [1, 2]
    assert together([]).type == pa.string()


def test_values_of_any_type_are_gathered_and_those_of_lists_are_put_together() -> None:
    ends = np.array([0, 2, 2, 3])
    objects = pa.array([{"x": 1}, {"x": 2}, None])
    assert gathered(objects, ends).to_pylist() == [[{"x": 1}, {"x": 2}], [], [None]]
    lists = pa.array([["a"], None, ["b", "c"]])
    assert gathered(lists, ends).to_pylist() == [["a"], [], ["b", "c"]]
