"""Delimited text: every line is accounted for, whatever it holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.tables import chunks
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import column_names, read
from clickscale.errors import InputError
from tests.data.raw import ABC, rows, written


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


def test_a_quote_that_nothing_closes_is_plain_text(tmp_path):
    path = written(tmp_path, '1,2,3\n4,"5,6\n7,8,9\n')
    assert [(r["b"], r["problem"]) for r in rows(path, text=ABC)] == [("2", None), ('"5', None), ("8", None)]


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
            patch.setattr(chunks, "_BLOCK", 7)
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


def test_latin_1_has_the_letters_that_windows_puts_beside_it(tmp_path):
    text = TextFormat(separator=";", names=("price", "name"), encoding="latin-1")
    path = written(tmp_path, "12,50 €;Œuvre\n".encode("cp1252") + b"1;a\x81b\n", "prices.csv")
    assert [(r["price"], r["name"]) for r in rows(path, text=text)] == [("12,50 €", "Œuvre"), ("1", "a\x81b")]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_file_in_utf_16_is_an_error_that_says_how_to_convert_it(tmp_path, encoding):
    for form in ("utf-16", "utf-16-le", "utf-16-be"):  # only the first one begins with a mark
        path = written(tmp_path, ("user,item\n" + 30 * "1,2\n").encode(form))
        with pytest.raises(InputError, match="UTF-16 text; save it as UTF-8, such as by: iconv -f UTF-16"):
            rows(path, text=TextFormat(separator=",", encoding=encoding))


def test_a_missing_column_is_named_with_its_neighbors(tmp_path):
    path = written(tmp_path, "user_id,item_id\n1,2\n")
    with pytest.raises(
        InputError, match=r"Unknown column 'user_ids'; did you mean 'user_id'\? Known: item_id, user_id"
    ):
        rows(path, ["user_ids"])


def test_a_column_named_twice_is_an_error(tmp_path):
    with pytest.raises(InputError, match="'a' twice"):
        rows(written(tmp_path, "a,b,a\n1,2,3\n"))


def test_a_row_of_the_wrong_width_shows_its_text(tmp_path):
    chunk = next(read(written(tmp_path, "1,2,3\n4,5\n"), text=ABC))
    assert chunk.evidence.to_pylist() == [None, {"column": "line", "value": "4,5"}]


@pytest.mark.parametrize("skip", [0, 1, 3])
@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_lines_before_a_table_are_left_out(tmp_path, monkeypatch, skip, names):
    monkeypatch.setattr(chunks, "_BLOCK", 3)
    head = "" if names else "a,b\n"
    path = written(
        tmp_path, "\ufeff" + "of May, June\n" * (skip > 0) + "\n" * (skip - 1) + head + "1,2\n3,4\n"
    )
    layout = TextFormat(separator=",", names=names, skip=skip)
    assert [(r["a"], r["b"], r["problem"]) for r in rows(path, text=layout)] == [
        ("1", "2", None),
        ("3", "4", None),
    ]
