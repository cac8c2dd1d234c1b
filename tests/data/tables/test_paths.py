"""Values inside of objects and of lists of objects, by their path."""

from typing import Any

import pyarrow as pa
import pytest

from clickscale.data.tables.paths import leads_into, object_at, value_at

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
    assert [
        leads_into(path.split("."), kind) for path in ("item", "price.eur", "price", "gone", "item.id")
    ] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_what_is_no_object_holds_nothing() -> None:
    assert object_at({"a": 3}, ["a", "b"]) is None
    assert object_at({"a": [1, {"b": 2}]}, ["a", "b"]) == [None, 2]
