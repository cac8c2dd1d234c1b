"""The first row of every id, over several chunks."""

import pyarrow as pa

from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.first_rows import FirstRows


def chunk(ids, colors, problems=None):
    rows = pa.RecordBatch.from_arrays([pa.array(ids), pa.array(colors)], names=["id", "color"])
    return Chunk(rows, pa.array(problems or [None] * len(ids), pa.string()))


def test_an_id_brings_one_row_and_never_comes_again():
    firsts = FirstRows()
    first = firsts.rows(chunk(["b", "a", "b", None], ["red", "blue", "green", "gray"]), "id")
    second = firsts.rows(chunk(["a", "c", "c"], ["black", "white", "pink"]), "id")
    assert first["color"].to_pylist() == ["red", "blue"]
    assert second["color"].to_pylist() == ["white"]
    assert len(firsts.rows(chunk(["a"], ["x"]), "id")) == 0


def test_rows_that_could_not_be_read_bring_no_id():
    firsts = FirstRows()
    assert len(firsts.rows(chunk([1, 2], ["x", "y"], ["bad_row", None]), "id")) == 1
    assert firsts.rows(chunk([1], ["z"]), "id")["color"].to_pylist() == ["z"]
