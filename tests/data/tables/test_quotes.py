"""Quotes of delimited text: no quote swallows rows, and no row depends on where a block ends."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.tables import chunks, quotes
from clickscale.data.tables.delimited import TextFormat, split_line
from clickscale.data.tables.quotes import Grammar
from tests.data.raw import ABC, rows, written

COMMA = Grammar(b",", b'"', 3)


def headlines(stray: dict[int, str], count: int = 600) -> str:
    lines = ["user_id\titem_id\ttime\tclicked\ttitle"]
    lines += [
        f"u{n % 40}\ti{n % 25}\t{1704067200 + n}\t{n % 2}\t{stray.get(n, f'Headline {n}')}"
        for n in range(count)
    ]
    return "\n".join(lines) + "\n"


def titles(folder, text: str, **options) -> list[str]:
    found = rows(written(folder, text, "clicks.tsv"), ["title"], **options)
    assert {row["problem"] for row in found} <= {None}
    return [row["title"] for row in found]


def test_stray_quotes_at_the_start_of_values_keep_all_rows(tmp_path):
    found = titles(tmp_path, headlines({100: '"Stray headline', 130: '"Another one'}))
    assert len(found) == 600
    assert (found[100], found[130], found[131]) == ('"Stray headline', '"Another one', "Headline 131")


def test_a_stray_quote_and_a_value_that_ends_with_one_keep_all_rows(tmp_path):
    found = titles(tmp_path, headlines({100: '"Stray headline', 130: 'Screen of 32"'}))
    assert len(found) == 600
    assert (found[100], found[130]) == ('"Stray headline', 'Screen of 32"')


def test_stray_quotes_far_apart_in_a_long_file_keep_all_rows(tmp_path):
    found = titles(tmp_path, headlines({1_000: '"Early', 59_000: '"Late'}, 60_000))
    assert len(found) == 60_000


def test_text_after_a_closing_quote_makes_the_value_plain(tmp_path):
    found = rows(written(tmp_path, '1,"Top" hits,3\n4,"x",6\n'), text=ABC)
    assert [row["b"] for row in found] == ['"Top" hits', "x"]


def test_texts_of_several_lines_stay_one_value(tmp_path):
    review = '"good,\nI bought 2, used 3, love it"'
    found = rows(written(tmp_path, f'u1,B00,{review}\nu2,B01,"ok\nthen, well"\n'), text=ABC)
    assert [row["c"] for row in found] == ["good,\nI bought 2, used 3, love it", "ok\nthen, well"]


def test_a_value_of_lines_in_a_row_of_the_wrong_width_costs_each_line_alone(tmp_path):
    found = rows(written(tmp_path, '1,2,3\n4,"x\ny",6,7\n8,9,10\n'), text=ABC)
    assert [(row["a"], row["problem"]) for row in found] == [
        ("1", None),
        (None, "bad_row"),
        ('y"', None),
        ("8", None),
    ]


def test_a_quote_without_an_end_is_plain_after_the_longest_value(tmp_path, monkeypatch):
    monkeypatch.setattr(quotes, "_LONGEST_VALUE", 50)
    monkeypatch.setattr(chunks, "_BLOCK", 64)
    long = "word " * 30
    found = rows(written(tmp_path, f'1,"open,3\n4,{long},6\n7,closed",9\n'), text=ABC)
    assert [row["b"] for row in found] == ['"open', long, 'closed"']


def test_a_lone_carriage_return_stays_in_its_value(tmp_path):
    found = rows(written(tmp_path, b'1,a\rb,3\r\n4,"c\rd",6\r\r\n7,8,9\r'), text=ABC)
    assert [list(row.values()) for row in found] == [
        ["1", "a\rb", "3", None],
        ["4", "c\rd", "6", None],
        ["7", "8", "9", None],
    ]
    plain = TextFormat(names=("a", "b"), quote="")
    assert [row["b"] for row in rows(written(tmp_path, b"1,x\ry\n2,z\n"), text=plain)] == ["x\ry", "z"]


def test_carriage_returns_alone_end_the_lines_of_an_old_file(tmp_path):
    assert [row["item"] for row in rows(written(tmp_path, b"user,item\r1,2\r3,4\r"))] == ["2", "4"]


FIELDS = st.text(st.sampled_from('ab7 ,"\n\r'), max_size=6)


@given(st.lists(st.tuples(FIELDS, FIELDS, FIELDS), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_a_writer_quotes_is_read_back(tmp_path_factory, table):
    table = [
        row for row in table if not any("\n" in value for value in row)
    ]  # lines are ambiguous: see above
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("id0", "x", "1"), *table])
    path = written(tmp_path_factory.mktemp("t"), stream.getvalue())
    found = rows(path, text=TextFormat(names=("a", "b", "c"), nulls=()))
    assert [(row["a"], row["b"], row["c"]) for row in found] == [("id0", "x", "1"), *table]


@given(st.lists(st.sampled_from(['"', '""', ",", "\n", "\r", "\r\n", "a", "7", "\0", "é"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_the_same_rows_in_blocks_of_any_size(tmp_path_factory, tokens):
    path = written(tmp_path_factory.mktemp("t"), "k,1\n" + "".join(tokens))
    text = TextFormat(names=("k", "v"), nulls=())
    whole = rows(path, text=text)
    for size in (1, 7, 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks, "_BLOCK", size)
            assert rows(path, text=text) == whole


@pytest.mark.wide
@given(st.lists(st.sampled_from(['"', '""', ",", "\n", "\r", "a", "7"]), max_size=40).map("".join))
@settings(max_examples=300, deadline=None)
def test_arrow_reads_settled_text_as_the_slow_way_does(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("t"), "k,1,x\n" + text)
    fast = rows(path, text=TextFormat(names=("a", "b", "c"), nulls=()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clickscale.data.tables.delimited._parse_fast", lambda *_: None)
        assert rows(path, text=TextFormat(names=("a", "b", "c"), nulls=())) == fast


def test_settled_text_ends_with_a_whole_row():
    assert COMMA.settle(b'1,2,3\n4,"5\n6', False) == (b"1,2,3\n", 6)
    assert COMMA.settle(b'4,"5\n6', False) == (b"", 0)
    assert COMMA.settle(b'4,"5\n6', True) == (b'4,"""5"\n6', 6)


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("a,b,,d", ["a", "b", "", "d"]),
        ('a,"b,c",d', ["a", "b,c", "d"]),
        ("a,b\r", ["a", "b"]),
        ("a,b\nc,d", ["a", "b"]),
        ("", [""]),
        ("é,\udc80", ["é", "\udc80"]),
    ],
)
def test_a_line_without_quotes_is_split_as_one_with_them(line: str, fields: list[str]) -> None:
    assert split_line(line, TextFormat(separator=",")) == fields


def test_a_separator_of_several_characters_splits_a_line() -> None:
    assert split_line("a::b:c::", TextFormat(separator="::")) == ["a", "b:c", ""]
