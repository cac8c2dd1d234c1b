"""How an unknown table is written, and what its columns look like."""

import gzip
import json

import pyarrow as pa
import pytest

from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.log import load_log
from clickscale.errors import InputError
from tests.data.described.drafts.test_guess import draft, shop, write_csv
from tests.data.sources import drained


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::"])
def test_the_separator_is_the_one_that_splits_all_lines_alike(tmp_path, separator):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(separator.join(line) for line in (("user", "tags"), ("1", "a b"), ("2", "c"))))
    head = read_head(path)
    assert head.named
    assert head.text.separator == separator
    assert list(head.columns) == ["user", "tags"]


def test_a_list_inside_a_column_is_not_taken_for_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1::Heat (1995)::Action|Crime\n2::Up (2009)::Animation\n")
    head = read_head(path)
    assert (head.text.separator, head.named, list(head.columns)) == (
        "::",
        False,
        ["column_1", "column_2", "column_3"],
    )


def test_bytes_that_are_not_utf8_are_read_as_latin_1(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("id,title\n1,Café\n".encode("latin-1"))
    head = read_head(path)
    assert head.text.encoding == "latin-1"
    assert head.columns["title"].values.to_pylist() == ["Café"]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_file_in_utf_16_is_refused_with_the_way_out(tmp_path, name):
    path = tmp_path / name
    path.write_bytes("id,title\n1,Café\n".encode("utf-16"))
    with pytest.raises(InputError, match=f"iconv -f UTF-16 -t UTF-8 {name}"):
        read_head(path)


@pytest.mark.parametrize(
    ("values", "traits"),
    [
        ([1, 2, 3], {"is_id", "is_whole"}),
        (["1", "2", "3"], {"is_id", "is_whole"}),
        (["007", "008"], {"is_whole"}),
        ([-1, 5], {"is_whole"}),
        ([0.5, 1.0], set()),
        (["0", "1", None], {"is_id", "is_whole", "is_flag"}),
        ([True, False], {"is_flag", "is_id", "is_whole"}),
        (["a", "b"], set()),
    ],
)
def test_traits_of_values(values, traits):
    column = Column("c", pa.array(values))
    assert {trait for trait in ("is_id", "is_whole", "is_flag") if getattr(column, trait)} == traits


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_600_000_000, 1_600_000_060], "s"),
        ([1_600_000_000_000, 1_600_000_060_000], "ms"),
        (["2020-01-01", "2020-01-02 10:00:00"], "iso"),
        ([1, 2], ""),
        (["red", "blue"], ""),
        ([7, 7], ""),
    ],
)
def test_moments_are_told_by_their_range(values, unit):
    assert Column("c", pa.array(values)).unit == unit


def test_hours_are_moments_only_under_a_name_of_times():
    hours = pa.array([14_102_100, 14_102_101, 14_102_223])
    assert [Column(name, hours).unit for name in ("hour", "click_time", "C14")] == ["YYMMDDHH"] * 2 + [""]


@pytest.mark.parametrize(
    ("values", "is_date"),
    [
        (["01-Jan-1922", "17-Mar-1995"], True),
        (["1922-01-01", "1995-03-17"], True),
        (["1922", "1995"], False),
        ([-1_000_000_000, 1_600_000_000], False),
        (["red", "blue"], False),
    ],
)
def test_old_dates_are_told_from_numbers(values, is_date):
    column = Column("c", pa.array(values))
    assert (column.unit, column.is_date) == ("", is_date)


@pytest.mark.parametrize(
    ("values", "separator", "most"),
    [
        (["a|b", "b", "a", "b|a|c", "c|a", "a|b"], "|", 3),
        (["['a', 'b']", "['b']", "[]", '["b", "a", "c"]', "['c', 'a']", "['a', 'b']"], "[]", 3),
        (["[1, 2]", "[2]", "[1, 3, 2]", "[3, 1]", "[2, 3]"], "[]", 3),
        (["N1 N2", "N2 N1 N3", "N3 N1", "N1"], " ", 3),
        (["a good day", "a bad day", "a day"], "", 1),
        (["[10,100)", "[1,5)", "[10,100)"], "", 1),
        (["x", "y"], "", 1),
    ],
)
def test_repeated_tokens_are_lists_but_sentences_and_ranges_are_not(values, separator, most):
    column = Column("c", pa.array(values))
    assert column.separator == separator
    assert not separator or column.most == most


def test_vectors_have_one_length():
    assert Column("c", pa.array([[0.5, 1.0], [1.0, 2.0]])).width == 2
    assert Column("c", pa.array([[0.5], [1.0, 2.0]])).width == 0
    assert Column("c", pa.array([[1, 2]])).width == 0


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("user_id,time,2023,7d\n5,1700000077,1,2\n6,1700000088,3,4\n", ["user_id", "time", "2023", "7d"]),
        ("click,101,205\n0,516,4003\n1,224,4091\n", ["click", "101", "205"]),
        ("user,item,2023\nu1,i4,9\nu2,i5,9\n", ["user", "item", "2023"]),
    ],
)
def test_a_number_among_the_names_leaves_the_first_line_a_header(tmp_path, lines, names):
    path = tmp_path / "t.csv"
    path.write_text(lines)
    assert list(read_head(path).columns) == names


@pytest.mark.parametrize(
    "lines",
    [
        "male,25,7\nfemale,31,8\nmale,40,9\n",
        "-,25,7\n3,31,8\n4,40,9\n",
        "NULL,25,0fba5\n3,31,1176b\n4,40,beef7\n",
        "u1,1700000077,0\nu2,1700000088,1\nu3,1700000099,1\n",
        "7,2023\n8,2024\n9,2025\n",
    ],
)
def test_a_first_line_of_the_same_kind_as_those_below_is_no_header(tmp_path, lines):
    path = tmp_path / "t.csv"
    path.write_text(lines)
    assert not read_head(path).named


@pytest.mark.parametrize("separator", [" ", "  "])
def test_spaces_divide_columns_under_a_header(tmp_path, separator):
    lines = ("time user_id tags", "1700000077 u1 5;7", "1700000088 u2 5;9")
    path = tmp_path / "t.txt"
    path.write_text("\n".join(line.replace(" ", separator) for line in lines) + "\n")
    head = read_head(path)
    assert (head.text.separator, list(head.columns)) == (separator, ["time", "user_id", "tags"])


@pytest.mark.parametrize("lines", ["7 12 15\n8 13 15\n9 12 14\n", "a b\n1 2\n3 4\n", "a b c\nd e f\na c b\n"])
def test_spaces_in_lists_and_sentences_divide_no_columns(tmp_path, lines):
    path = tmp_path / "t.txt"
    path.write_text(lines)
    assert len(read_head(path).columns) == 1


@pytest.mark.parametrize(
    "line", ["0 1:241 2:32 3:5", "0 0:241:1 1:1032:1", "-1 3:0.5", "1 qid:3 1:0.2 2:1e-3", "1.0 1:2"]
)
def test_sparse_lines_are_refused_by_name(tmp_path, line):
    path = tmp_path / "t.txt"
    path.write_text(f"{line}\n" * 20)
    with pytest.raises(InputError, match="libsvm or libffm"):
        read_head(path)


def test_lists_of_which_none_holds_a_value_are_left_out(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"item_id": {n}, "tags": []}}\n' for n in range(3)))
    head = read_head(path)
    assert list(head.columns) == ["item_id"]
    assert head.left_out == {"tags": "no value in 3 sampled rows"}


def test_values_of_a_column_stay_in_their_rows_where_a_file_lacks_it(tmp_path):
    lines = ['{"item_id": 1, "tags": []}\n', '{"item_id": 2, "tags": ["a"]}\n', '{"item_id": 3}\n']
    for number, line in enumerate(lines):
        (tmp_path / f"{number}.jsonl").write_text(line)
    head = read_head(tmp_path)
    assert head.columns["item_id"].values.to_pylist() == [1, 2, 3]
    assert head.columns["tags"].values.to_pylist() == [None, ["a"], None]


@pytest.mark.parametrize(
    ("before", "skip"),
    [
        ("# ------\n# Ad report, May\n# exported by a, b and c\n\n", 4),
        ("Ad report;May 2024\r\n\r\nAccount: 12\r\n", 3),
        ("Ad report,,,,,\n", 1),
        ("\n", 1),
        ("", 0),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_before_the_header_are_skipped(tmp_path, before, skip, mark):
    rows = "".join(
        f"u{n % 40},{n % 30},{1_704_067_200 + 60 * n},{n % 3},cat {n % 5},{n % 2}\n" for n in range(200)
    )
    path = tmp_path / "report.csv"
    path.write_text(mark + before + " user_id ,item_id,time,place,category,clicked\n" + rows, newline="")
    _, tree = draft(tmp_path, path)
    assert tree["impressions"].get("skip", 0) == skip
    assert tree["user"]["column"] == "user_id"
    read = drained(load_log(tmp_path / "log.toml"))["impressions"]
    assert (len(read), read[0]["user"], read[-1]["time"]) == (200, "u0", 1_704_067_200 + 60 * 199)


def test_a_first_line_that_belongs_to_a_table_is_not_skipped(tmp_path):
    header = "#user_id,item_id,time,clicked\n"
    rows = "".join(f"{n % 40},{n % 30},{1_704_067_200 + 60 * n},{n % 2}\n" for n in range(200))
    for number, text in enumerate((header + rows, rows, rows.replace(",1704067200,0", ",,", 1))):
        path = tmp_path / f"{number}.csv"
        path.write_text(text)
        assert read_head(path).text.skip == 0


@pytest.mark.parametrize(
    ("texts", "separator"),
    [
        (
            [
                f"{job} (m/w/d); {city}"
                for job in ("Nurse", "Cook", "Clerk")
                for city in ("Rome", "Bonn", "Oslo")
            ],
            "",
        ),
        ([f'Hello "friend",\nsave {n} euros' for n in range(9)], ""),
        ([f"Dear {who}, good news, today" for who in ("Ann", "Bob")], ""),
        (["Action, Crime", "Crime, Drama", "Drama", "Action, Drama", "Comedy, Action"], ","),
        (["Action; Crime", "Crime; Drama", "Drama", "Action; Drama", "Comedy; Action"], ";"),
        (["a;x", "a;y", "b;x", "b;y"], ";"),  # codes
    ],
)
def test_titles_and_sentences_are_no_lists_of_tags(texts, separator):
    assert Column("what", pa.array(texts * 20)).separator == separator


def test_a_mark_or_nothing_is_said_to_be_so(tmp_path):
    marked = [row | {"promoted": "Y" if n % 3 else "", "shop": "s1"} for n, row in enumerate(shop())]
    text, _ = draft(tmp_path, write_csv(tmp_path / "clicks.csv", marked))
    assert "# left out: promoted (it is 'Y' or nothing in 300 sampled rows)" in text
    assert "# left out: shop (it has one value in 300 sampled rows)" in text


@pytest.mark.parametrize("indent", [None, 1])
def test_arrays_of_objects_are_sampled_and_prepared(tmp_path, indent):
    (tmp_path / "clicks.json").write_text(json.dumps([*shop()], indent=indent))
    head = read_head(tmp_path / "clicks.json")
    assert (head.format, head.rows, head.estimated_rows) == ("jsonl", 300, 300.0)
    _, tree = draft(tmp_path, tmp_path / "clicks.json")
    assert [label["column"] for label in tree["labels"]] == ["clicked"]
    read = drained(load_log(tmp_path / "log.toml"))["impressions"]
    assert [row["time"] for row in read] == [row["timestamp"] for row in shop()]


@pytest.mark.parametrize(
    "text",
    [
        "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n",
        "CREATE TABLE clicks (id int, item text);\nINSERT INTO clicks VALUES (1, 'a');\n",
        "COPY public.clicks (id, item) FROM stdin;\n1\ta\n2\tb\n",
    ],
)
def test_a_dump_of_a_database_is_refused_with_the_way_out(tmp_path, text):
    path = tmp_path / "backup.sql"
    path.write_text(text)
    with pytest.raises(InputError, match="holds commands of SQL, not a table"):
        read_head(path)


def test_the_rows_of_a_compressed_table_are_estimated_by_how_well_it_is_compressed(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"user,item\n" + b"u1,the same thing again\n" * 60_000))
    assert read_head(path).estimated_rows == pytest.approx(60_001, rel=0.1)
