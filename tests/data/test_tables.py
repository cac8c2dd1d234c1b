"""Reading raw tables: every line is accounted for, whatever it holds."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data import chunks
from clickscale.data.chunks import empty_problems, mark
from clickscale.data.delimited import TextFormat
from clickscale.data.jsonlines import literal_line, read_lines
from clickscale.data.tables import column_names, find_file, read
from clickscale.errors import InputError

ABC = TextFormat(names=("a", "b", "c"))


def rows(path: Path, columns: list[str] | None = None, **options) -> list[dict]:
    found = []
    for chunk in read(path, columns, **options):
        problems = chunk.problem.to_pylist()
        found += [{**row, "problem": p} for row, p in zip(chunk.rows.to_pylist(), problems, strict=True)]
    return found


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_csv_with_a_header_gives_text_columns_in_the_wanted_order(tmp_path):
    path = written(tmp_path, "user,item ,time\n1,7,10\n2,,30\r\n")
    assert column_names(path) == ["user", "item", "time"]
    assert rows(path, ["time", "item"]) == [
        {"time": "10", "item": "7", "problem": None},
        {"time": "30", "item": None, "problem": None},
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert column_names(written(tmp_path, b"\xef\xbb\xbfuser,item\n1,2\n")) == ["user", "item"]


def test_lines_with_too_few_or_too_many_fields_stay_in_place_as_bad_rows(tmp_path):
    path = written(tmp_path, "1,2,3\n4,5\n\n6,7,8\n9,9,9,9\n")
    assert [(r["a"], r["problem"]) for r in rows(path, text=ABC)] == [
        ("1", None),
        (None, "bad_row"),
        ("6", None),
        (None, "bad_row"),
    ]


def test_bytes_that_are_not_utf8_cost_one_row(tmp_path):
    path = written(tmp_path, b"1,fine,3\n4,\xff\xfe,6\n7,caf\xc3\xa9,9\n")
    assert [(r["b"], r["problem"]) for r in rows(path, text=ABC)] == [
        ("fine", None),
        ("��", "invalid_utf8"),
        ("café", None),
    ]


def test_a_bad_line_that_is_not_utf8_costs_one_row(tmp_path):
    path = written(tmp_path, b"1,fine,3\n4,\xff\n7,8,9\n")
    assert [(r["a"], r["problem"]) for r in rows(path, text=ABC)] == [
        ("1", None),
        (None, "bad_row"),
        ("7", None),
    ]


def test_quotes_hold_separators_and_line_ends(tmp_path):
    path = written(tmp_path, '1,"x,\ny",3\n4,"say ""hi""",6\n7,5" disc,9\n7,5" disc,9\n')
    assert [r["b"] for r in rows(path, text=ABC)] == ["x,\ny", 'say "hi"', '5" disc', '5" disc']


def test_a_quote_that_nothing_closes_costs_only_its_own_line(tmp_path):
    path = written(tmp_path, '1,2,3\n4,"5,6\n7,8,9\n')
    assert [(r["a"], r["problem"]) for r in rows(path, text=ABC)] == [
        ("1", None),
        (None, "bad_row"),
        ("7", None),
    ]


def test_quotes_are_plain_text_where_the_table_has_none(tmp_path):
    path = written(tmp_path, '1,"2,3\n4,5,6\n')
    assert [r["b"] for r in rows(path, text=TextFormat(names=("a", "b", "c"), quote=""))] == ['"2', "5"]


def test_a_separator_of_two_characters_and_latin_1(tmp_path):
    text = TextFormat(separator="::", names=("id", "title"), quote="", encoding="latin-1")
    path = written(tmp_path, "1::Misérables: part 1\n2::Up\n".encode("latin-1"), "movies.dat")
    assert [r["title"] for r in rows(path, text=text)] == ["Misérables: part 1", "Up"]


@given(st.lists(st.sampled_from(["a,1", 'b,"x\ny"', "c", "d,1,2", 'e,"', "f,"]), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_small_blocks_give_the_same_rows_as_one(tmp_path_factory, lines):
    path = written(tmp_path_factory.mktemp("t"), "k,1\n" + "\n".join(lines) + "\n")
    text = TextFormat(names=("k", "v"))
    whole = rows(path, text=text)
    if 'e,"' not in lines:  # an open quote makes the extent of a value a matter of what is in sight
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "BLOCK", 7)
            assert rows(path, text=text) == whole
    records = sum(1 if line == 'b,"x\ny"' and 'e,"' not in lines else line.count("\n") + 1 for line in lines)
    assert 'e,"' in lines or len(whole) == records + 1


def test_a_file_in_which_no_row_fits_is_an_error_that_names_the_separator(tmp_path):
    with pytest.raises(InputError, match="is ',' the separator"):
        rows(written(tmp_path, "1\t2\t3\n4\t5\t6\n"), text=ABC)


def test_an_empty_file_without_a_header_is_an_error(tmp_path):
    with pytest.raises(InputError, match="is empty"):
        rows(written(tmp_path, ""))
    assert rows(written(tmp_path, ""), text=ABC) == []


def test_a_missing_column_is_named_with_its_neighbors(tmp_path):
    path = written(tmp_path, "user_id,item_id\n1,2\n")
    with pytest.raises(
        InputError, match=r"Unknown column 'user_ids'; did you mean 'user_id'\? Known: item_id, user_id"
    ):
        rows(path, ["user_ids"])


def test_a_column_named_twice_is_an_error(tmp_path):
    with pytest.raises(InputError, match="'a' twice"):
        rows(written(tmp_path, "a,b,a\n1,2,3\n"))


def test_gzipped_tables_are_read_and_truncated_ones_named(tmp_path):
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(5000)))
    assert len(rows(written(tmp_path, whole, "t.csv.gz"))) == 5000
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\0\0\0" + whole[103:], b"no gzip"):
        with pytest.raises(InputError, match=r"t\.csv\.gz"):
            rows(written(tmp_path, damaged, "t.csv.gz"))


def test_a_binary_file_without_line_ends_is_no_text_table(tmp_path):
    path = written(tmp_path, b"\0" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "BLOCK", 10)
        patch.setattr(chunks, "LONGEST", 50)
        with pytest.raises(InputError, match="no text table"):
            rows(path, text=ABC)


def test_a_missing_file_is_named(tmp_path):
    for name in ("t.csv", "t.parquet", "t.jsonl", "t.csv.gz"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            rows(tmp_path / name)


def test_an_unknown_ending_is_an_error_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"\.parquet"):
        rows(tmp_path / "t.xlsx")


def test_parquet_keeps_its_types_and_decodes_dictionaries(tmp_path):
    path = tmp_path / "t.parquet"
    colors = pa.array(["red", None, "red"]).dictionary_encode()
    pq.write_table(
        pa.table({"n": pa.array([1, 2, 3], pa.int32()), "color": colors, "x": [0.5, None, 1.0]}), path
    )
    (chunk,) = read(path, ["color", "n"])
    assert chunk.rows.schema.names == ["color", "n"]
    assert chunk["n"].type == pa.int32()
    assert chunk["color"].to_pylist() == ["red", None, "red"]
    assert chunk["color"].type == pa.string()


def test_parquet_text_that_is_not_utf8_costs_one_row(tmp_path):
    path = tmp_path / "t.parquet"
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    pq.write_table(pa.table({"t": text}), path)
    assert [r["problem"] for r in rows(path)] == [None, "invalid_utf8"]


def test_lists_of_text_that_is_not_utf8_cost_one_row(tmp_path):
    path = tmp_path / "t.parquet"
    raw = pa.array([b"a", b"\xff", b"b"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    lists = pa.ListArray.from_arrays([0, 1, 1, 3], text, mask=pa.array([False, True, False]))
    pq.write_table(pa.table({"t": lists}), path)
    assert [(r["t"], r["problem"]) for r in rows(path)] == [
        (["a"], None),
        (None, None),
        (["\ufffd", "b"], "invalid_utf8"),
    ]


def test_a_stray_line_end_inside_a_line_costs_only_that_line(tmp_path):
    path = written(tmp_path, b'1,2,3\n4,"5\rx,6\n7,8,9\n')
    assert [(r["a"], r["problem"]) for r in rows(path, text=ABC)] == [
        ("1", None),
        (None, "bad_row"),
        ("7", None),
    ]


def test_damaged_parquet_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": list(range(10_000))}), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-4], b"", b"PAR1" + b"x" * 50 + b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"t\.parquet"):
            rows(path)


def test_a_changed_byte_anywhere_in_parquet_is_read_or_named_and_never_a_crash(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": list(range(300)), "t": [f"text {n}" for n in range(300)]}), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            rows(path)
        except InputError as error:
            assert "t.parquet" in str(error)  # noqa: PT017 (most changes are read, and that is fine)


def test_json_lines_hold_numbers_lists_and_broken_lines(tmp_path):
    lines = ['{"u": 1, "tags": ["a", "b"], "x": 0.5}', "{broken", "[1]", '{"u": 2, "x": NaN}', ""]
    found = rows(written(tmp_path, "\n".join(lines), "t.jsonl"), ["u", "tags"])
    assert found == [
        {"u": 1, "tags": ["a", "b"], "problem": None},
        {"u": None, "tags": None, "problem": "bad_row"},
        {"u": None, "tags": None, "problem": "bad_row"},
        {"u": 2, "tags": None, "problem": None},
    ]


def test_json_values_of_several_kinds_become_text_and_huge_numbers_survive(tmp_path):
    lines = [json.dumps({"u": value}) for value in (1, "x", 10**30, {"deep": 1}, None)]
    found = [r["u"] for r in rows(written(tmp_path, "\n".join(lines), "t.jsonl"))]
    assert found == ["1", "x", str(10**30), '{"deep": 1}', None]


def test_json_bytes_that_are_not_utf8_cost_one_row(tmp_path):
    path = written(tmp_path, b'{"u": "a"}\n{"u": "\xff"}\n', "t.jsonl")
    assert [r["problem"] for r in rows(path)] == [None, "invalid_utf8"]


def test_a_json_column_that_no_line_has_is_an_error(tmp_path):
    with pytest.raises(InputError, match="did you mean 'user'"):
        rows(written(tmp_path, '{"user": 1}\n', "t.jsonl"), ["usr"])


def test_literal_lines_are_read_and_never_run(tmp_path):
    marker = tmp_path / "ran"
    lines = ["{'asin': 'A', 'price': 1.5}", f"__import__('pathlib').Path({str(marker)!r}).touch()", "{" * 500]
    path = written(tmp_path, "\n".join(lines) + "\n", "meta.json")
    (chunk,) = read_lines(path, ["asin", "price"], literal_line)
    assert chunk["asin"].to_pylist() == ["A", None, None]
    assert chunk.problem.to_pylist() == [None, "bad_row", "bad_row"]
    assert not marker.exists()


def test_the_first_problem_of_a_row_stands():
    problem = mark(empty_problems(3), pa.array([True, False, False]).to_numpy(zero_copy_only=False), "first")
    later = mark(problem, pa.array([True, True, False]).to_numpy(zero_copy_only=False), "second")
    assert later.to_pylist() == ["first", "second", None]


def test_a_file_is_found_in_the_folder_or_one_below_or_gzipped(tmp_path):
    inner = tmp_path / "ml-1m"
    inner.mkdir()
    path = written(inner, "x", "ratings.dat.gz")
    assert find_file(tmp_path, "ratings.dat") == path
    assert find_file(inner, "other.dat", "ratings.dat") == path
    with pytest.raises(InputError, match=r"holds no u\.data; it holds ml-1m"):
        find_file(tmp_path, "u.data")
    with pytest.raises(InputError, match="is not a folder"):
        find_file(tmp_path / "absent", "u.data")
