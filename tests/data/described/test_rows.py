"""Rows of a table as rows of one event each."""

import tomllib
from pathlib import Path

import pyarrow as pa
import pytest

from clickscale.config_text import build
from clickscale.data.described.log_config import LogConfig
from clickscale.data.described.log_schema import log_schema
from clickscale.data.described.rows import ORDER, ROW, Lists, RowShape, as_text, composed, moment_texts
from clickscale.data.tables.chunks import Chunk, empty_problems
from clickscale.errors import SchemaError
from clickscale.schema import composite

FILE = Path("log.csv")


def chunk(**columns):
    arrays = [pa.array(values) for values in columns.values()]
    return Chunk(pa.RecordBatch.from_arrays(arrays, names=list(columns)), empty_problems(len(arrays[0])))


def apply(shape, rows, *wanted):
    """Rows of one event each: the wanted columns and the problem."""
    done = shape.apply(rows, FILE, list(wanted))
    columns = [done[name].to_pylist() for name in wanted]
    return list(zip(*columns, done.problem.to_pylist(), strict=True))


def test_shown_and_chosen_ids_become_impressions_with_an_outcome():
    rows = chunk(user=["a", "b"], shown=[[1, 2, 3], [2]], clicked=[[2], []])
    shape = RowShape("shown", Lists(chosen=("clicked",), position="place"))
    assert apply(shape, rows, "user", "shown", "clicked", "place") == [
        ("a", 1, 0, 1, None),
        ("a", 2, 1, 2, None),
        ("a", 3, 0, 3, None),
        ("b", 2, 0, 1, None),
    ]


def test_a_missing_list_of_chosen_ids_means_that_nothing_was_chosen():
    rows = chunk(shown=[[1, 2]], clicked=pa.array([None], pa.list_(pa.int64())))
    shape = RowShape("shown", Lists(chosen=("clicked",)))
    assert apply(shape, rows, "shown", "clicked") == [(1, 0, None), (2, 0, None)]


def test_a_chosen_id_that_was_not_shown_is_a_row_with_a_problem():
    rows = chunk(user=["a", "b"], shown=[[1, 2], [4]], clicked=[[2, 9], [4]])
    found = apply(RowShape("shown", Lists(chosen=("clicked",))), rows, "user", "shown", "clicked")
    assert [(row[1], row[3]) for row in found] == [(1, None), (2, None), (9, "chosen_not_shown"), (4, None)]
    assert [row[2] for row in found if row[3] is None] == [0, 1, 1]


def test_texts_of_ids_and_outcomes_are_divided():
    rows = chunk(user=["a", "b", "c"], shown=["N1-0 N2-1", "N-3", " "])
    found = apply(RowShape("shown", Lists(suffix="click")), rows, "user", "shown", "click")
    assert found == [
        ("a", "N1", "0", None),
        ("a", "N2", "1", None),
        ("b", "N-3", None, None),
        ("c", None, None, "empty_list"),
    ]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("[1, 2, 3]", ""),
        ("1 2 3", ""),
        ("1,2,3", ""),
        ("['1' '2'\n '3']", ""),
        ("1|2|3|", "|"),
        ("1; 2; 3", ";"),
    ],
)
def test_lists_are_read_from_texts_of_many_forms(text, separator):
    rows = chunk(shown=[text])
    found = apply(RowShape("shown", Lists(separator=separator)), rows, "shown")
    assert [item.strip() for item, _ in found] == ["1", "2", "3"]


def test_parallel_lists_are_taken_apart_together_and_uneven_ones_keep_their_row():
    rows = chunk(shown=[[1, 2], [3, 4]], price=[[0.5, 1.5], [9.0]])
    found = apply(RowShape("shown", Lists(parallel=("price",))), rows, "shown", "price")
    assert found == [(1, 0.5, None), (2, 1.5, None), (None, None, "uneven_lists")]


def test_lists_of_every_type_of_arrow_are_taken_apart():
    rows = Chunk(
        pa.RecordBatch.from_arrays(
            [
                pa.array([[1, 2], None], pa.large_list(pa.uint16())),
                pa.array([[3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
            ],
            names=["large", "fixed"],
        ),
        empty_problems(2),
    )
    assert apply(RowShape("large", Lists()), rows, "large") == [(1, None), (2, None), (None, "empty_list")]
    assert [row[0] for row in apply(RowShape("fixed", Lists()), rows, "fixed")] == [3, 4, 5, 6]


def test_rows_in_order_get_moments_one_second_apart_across_chunks():
    shape = RowShape(order="rows")
    first = apply(shape, chunk(user=["a", "b"]), "user", ORDER)
    second = apply(shape, chunk(user=["c"]), "user", ORDER)
    moments = [row[1] for row in first + second]
    assert moments == [moments[0], moments[0] + 1, moments[0] + 2]


def test_lists_in_order_all_end_at_one_moment_and_a_second_list_of_a_user_is_a_problem():
    shape = RowShape("line", Lists(separator=" ", first="user"), order="lists", owner="user")
    found = apply(shape, chunk(line=["u 1 2 3", "v 4", "u 5 6"]), "user", "line", ORDER)
    end = found[2][2]
    assert [(row[0], row[1], row[2] - end) for row in found] == [
        ("u", "1", -2),
        ("u", "2", -1),
        ("u", "3", 0),
        ("v", "4", 0),
        ("u", "5", -1),
        ("u", "6", 0),
    ]
    assert [row[3] for row in found] == [None] * 4 + ["second_list_of_user"] * 2


def test_without_a_user_the_row_stands_for_one():
    shape = RowShape("shown", Lists())
    assert [row[0] for row in apply(shape, chunk(shown=[[1, 2], [3]]), ROW, "shown")] == [0, 0, 1]
    assert [row[0] for row in apply(shape, chunk(shown=[[4]]), ROW, "shown")] == [2]


def test_composite_ids_differ_wherever_their_parts_differ():
    left, right = ["a|b", "a", "a\\", None, None], ["c", "b|c", "|c", "c", None]
    found = composed([pa.array(left), pa.array(right)]).to_pylist()
    assert len(set(found)) == 5
    assert found[-1] is None
    known = [composite([x or "", y or ""]) for x, y in zip(left[:-1], right[:-1], strict=True)]
    assert found[:-1] == known  # as a request writes them


def test_ids_that_are_whole_numbers_are_one_text_whatever_their_type():
    assert as_text(pa.array([12.0, None])).to_pylist() == ["12", None]
    assert as_text(pa.array([12], pa.uint16())).to_pylist() == ["12"]


@pytest.mark.parametrize(
    ("dates", "clocks", "texts"),
    [
        (["2011-05-01", None], ["10:26:11", "1:00"], ["2011-05-01 10:26:11", None]),
        ([20_110_501, 20_110_502], [7, 23], ["20110501 07:00", "20110502 23:00"]),
        (["01-May-2011"], [" 7:05 "], ["01-May-2011 07:05"]),
    ],
)
def test_a_date_and_a_time_of_day_are_one_moment(dates, clocks, texts):
    assert moment_texts([pa.array(dates), pa.array(clocks)]).to_pylist() == texts


def test_places_of_chosen_entries_count_twice_shown_items_apart():
    rows = chunk(user=["a", "b", "c"], shown=[["x", "y", "x"], ["z"], ["w"]], at=[[0, 1], [], None])
    shape = RowShape("shown", Lists(chosen_places=("at",)))
    assert apply(shape, rows, "user", "shown", "at") == [
        ("a", "x", 1, None),
        ("a", "y", 1, None),
        ("a", "x", 0, None),
        ("b", "z", 0, None),
        ("c", "w", 0, None),
    ]


@pytest.mark.parametrize(
    ("places", "first", "flags"),
    [
        ([1, -1, None], 0, [(0, 1), (0, 0), (0, 0)]),
        ([1.0, 0.0, float("nan")], 1, [(1, 0), (0, 0), (0, 0)]),
        (["[1, 2]", "", "2"], 1, [(1, 1), (0, 0), (0, 1)]),
        (["0|1", "-1", "1.0"], 0, [(1, 1), (0, 0), (0, 1)]),
    ],
)
def test_places_are_numbers_lists_or_texts(places, first, flags):
    rows = chunk(shown=[["x", "y"]] * 3, at=places)
    found = apply(RowShape("shown", Lists(chosen_places=("at",), first_place=first)), rows, "at")
    assert found == [(flag, None) for pair in flags for flag in pair]


@pytest.mark.parametrize("place", [2, 7, 1e30, 0.5, "x"])
def test_a_place_that_the_list_does_not_have_is_a_row_with_a_problem(place):
    found = apply(
        RowShape("shown", Lists(chosen_places=("at",))), chunk(shown=[["x", "y"]], at=[place]), "shown"
    )
    assert found == [("x", None), ("y", None), (None, "chosen_not_shown")]


def test_columns_beside_each_other_are_gathered_and_empty_ones_keep_their_place():
    rows = chunk(
        user=["a", "b", "c"],
        item_1=["x", None, None],
        item_2=["y", "z", None],
        click_1=[1, None, None],
        click_2=[0, 1, None],
    )
    gather = {"item": ("item_1", "item_2"), "click": ("click_1", "click_2")}
    shape = RowShape("item", Lists(gather=gather, parallel=("click",), position="place"))
    assert shape.raw_columns(["user", "item"]) == ["user", "item_1", "item_2", "click_1", "click_2"]
    assert apply(shape, rows, "user", "item", "click", "place") == [
        ("a", "x", 1, 1, None),
        ("a", "y", 0, 2, None),
        ("b", "z", 1, 2, None),
        ("c", None, None, None, "empty_list"),
    ]


def test_gathered_columns_of_several_types_become_text():
    rows = chunk(item_1=[1, None], item_2=["y", "z"], clicked=["1", "q"])
    shape = RowShape("item", Lists(gather={"item": ("item_1", "item_2")}, chosen=("clicked",)))
    assert apply(shape, rows, "item", "clicked") == [
        ("1", 1, None),
        ("y", 0, None),
        ("z", 0, None),
        ("q", 0, "chosen_not_shown"),
    ]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ("first_place = -1", r"first_place = -1; places begin with 0 or 1"),
        (
            'first = "user"\ngather = { shown = ["item_1", "item_2"] }',
            r"first = 'user', an entry of .*, and gathers 'shown' of several columns",
        ),
        ("gather = { shown = [] }", r"gathers 'shown' of no columns"),
        (
            'parallel = ["click"]\ngather = { shown = ["item_1", "item_2"], click = ["click_1"] }',
            r"gathers lists of different lengths: 'shown' has 2, 'click' has 1",
        ),
    ],
)
def test_lists_that_cannot_be_made_are_refused(lists, message):
    text = """
name = "x"
user = { name = "user" }
item = { name = "item", column = "shown" }
labels = [{ name = "click", column = "click" }]
[impressions]
files = "log.csv"
[impressions.lists]
"""
    with pytest.raises(SchemaError, match=message):
        log_schema(build(LogConfig, tomllib.loads(text + lists), "a log"), 0)
