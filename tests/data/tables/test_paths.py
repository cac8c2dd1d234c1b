"""Values inside of objects and of lists of objects, by their path."""

from typing import Any

import pyarrow as pa
import pytest

from clickscale.data.tables.paths import (
    base_of,
    leads_into,
    names_of_pairs,
    object_at,
    steps_below,
    value_at,
)

OBJECTS: list[Any] = [
    {"where": {"page": 3}, "shown": [{"item": "a", "tags": ["x"]}, {"item": None, "tags": None}]},
    {"where": None, "shown": []},
    {"where": {"page": None}, "shown": None},
    {"where": {"page": 5}, "shown": [{"item": "b", "tags": []}]},
]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("where.page", [3, None, None, 5]),
        ("shown.item", [["a", None], [], None, ["b"]]),
        ("shown.tags", [[["x"], None], [], None, [[]]]),
    ],
)
@pytest.mark.parametrize("rows", [slice(None), slice(1, 3), slice(3, 4), slice(0, 0)])
def test_arrays_and_objects_are_read_alike(path: str, found: list[Any], rows: slice) -> None:
    first, *inner = path.split(".")
    column = pa.table({first: pa.array([entry[first] for entry in OBJECTS])})[first].combine_chunks()
    start, stop, _ = rows.indices(len(OBJECTS))
    assert value_at(column.slice(start, stop - start), inner).to_pylist() == found[rows]
    assert [object_at(entry, [first, *inner]) for entry in OBJECTS[rows]] == found[rows]


def test_a_path_leads_through_lists_to_what_objects_have() -> None:
    kind = pa.list_(pa.struct([("item", pa.string()), ("price", pa.struct([("eur", pa.float64())]))]))
    for path, leads in {
        "item": True,
        "price.eur": True,
        "price": True,
        "gone": False,
        "price.eur.cent": False,
        "item.id": True,  # a text may be an object in JSON
    }.items():
        assert leads_into(path.split("."), kind) is leads


def test_what_is_no_object_holds_nothing() -> None:
    assert object_at({"a": 3}, ["a", "b"]) is None
    assert object_at({"a": [1, {"b": 2}]}, ["a", "b"]) == [None, 2]


NAMED: list[Any] = [
    [
        {"key": "page", "value": {"string_value": "home", "int_value": None}},
        {"key": "index", "value": {"string_value": None, "int_value": 6}},
    ],
    [{"key": "index", "value": {"string_value": None, "int_value": 2}}],
    [],
    None,
]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (["page"], ["home", None, None, None]),
        (["index"], [6, 2, None, None]),
        (["gone"], [None, None, None, None]),
        (["key"], [["page", "index"], ["index"], [], None]),
    ],
)
def test_lists_of_named_values_are_read_by_their_names(path: list[str], found: list[Any]) -> None:
    assert value_at(pa.array(NAMED), path).to_pylist() == found
    assert value_at(pa.array(NAMED).slice(1, 2), path).to_pylist() == found[1:3]
    told = [object_at(entry, path) for entry in NAMED]
    assert [None if value == [] else value for value in told] == [None if v == [] else v for v in found]


def test_named_values_of_several_types_become_text() -> None:
    rows = [[{"key": "x", "value": {"string_value": "a", "int_value": None}}]]
    rows += [[{"key": "x", "value": {"string_value": None, "int_value": 7}}]]
    assert value_at(pa.array(rows), ["x"]).to_pylist() == ["a", "7"]


def test_maps_are_read_by_their_keys() -> None:
    maps = pa.array([[("page", 3)], [], None], pa.map_(pa.string(), pa.int64()))
    assert value_at(maps, ["page"]).to_pylist() == [3, None, None]
    assert names_of_pairs(maps) == ["page"]


def test_names_with_dots_are_found_as_they_stand() -> None:
    rows = [{"utm.source": "mail", "utm": {"term": "x"}}]
    for path, value in {"utm.source": "mail", "utm.term": "x"}.items():
        assert object_at(rows[0], path.split(".")) == value
        assert value_at(pa.array(rows), path.split(".")).to_pylist() == [value]
    assert base_of("a.b.c", ["a", "a.b"]) == "a.b"
    assert steps_below("a.b.c", "a.b") == ["c"]
    assert base_of("b.c", ["a"]) is None


def test_texts_on_the_way_are_read_as_objects() -> None:
    assert object_at({"a": '{"b": [{"c": 1}, {"c": 2}]}'}, ["a", "b", "c"]) == [1, 2]
    assert object_at({"a": "plain"}, ["a", "b"]) is None
    assert value_at(pa.array([{"a": '{"b": 1}'}, {"a": "{"}, {"a": None}]), ["a", "b"]).to_pylist() == [
        1,
        None,
        None,
    ]
