"""Blocks of lines, and the problems of rows."""

import gzip

import pyarrow as pa
import pytest

from clickscale.data.tables import chunks
from clickscale.data.tables.chunks import empty_problems, mark
from clickscale.errors import InputError
from tests.data.raw import ABC, rows, written


def test_gzipped_tables_are_read_and_truncated_ones_named(tmp_path):
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(5000)))
    assert len(rows(written(tmp_path, whole, "t.csv.gz"))) == 5000
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0\0\0" + whole[103:], b"no gzip"):
        with pytest.raises(InputError, match=r"t\.csv\.gz"):
            rows(written(tmp_path, damaged, "t.csv.gz"))


def test_a_binary_file_without_line_ends_is_no_text_table(tmp_path):
    path = written(tmp_path, b"\0" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_BLOCK", 10)
        patch.setattr(chunks, "_LONGEST", 50)
        with pytest.raises(InputError, match="it is not text"):
            rows(path, text=ABC)


def test_the_first_problem_of_a_row_stands():
    problem = mark(empty_problems(3), pa.array([True, False, False]).to_numpy(zero_copy_only=False), "first")
    later = mark(problem, pa.array([True, True, False]).to_numpy(zero_copy_only=False), "second")
    assert later.to_pylist() == ["first", "second", None]
