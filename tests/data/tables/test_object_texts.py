"""Objects that were written as text, in tables of any format."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.tables.object_texts import array_of, object_of
from clickscale.errors import InputError
from tests.data.raw import rows, written

TEXTS = ['{"page": "home", "price": 12.5}', "{'page': 'cart', 'price': None}", '{"page": "ho', None, "hello"]
FOUND = [("home", 12.5, None), ("cart", None, None), (None, None, "bad_object"), (None,) * 3, (None,) * 3]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (' {"a": 1} ', {"a": 1}),
        ('[{"a": 1}]', [{"a": 1}]),
        ("{'a': None, 'b': True}", {"a": None, "b": True}),
        ("plain", None),
        ("12", None),
        ("", None),
    ],
)
def test_texts_that_begin_like_objects_are_parsed(text, found):
    assert object_of(text) == found


def test_broken_objects_are_an_error_and_code_is_never_run():
    assert math.isnan(object_of('{"a": NaN}')["a"])
    for text in (
        '{"a',
        "[1, 2",
        "{__import__('os').getcwd(): 1}",
        "{1, 2}",
        "{" * 2000,
        "[" * 5000 + "]" * 5000,
    ):
        with pytest.raises(ValueError, match="not an object"):
            object_of(text)


def test_values_without_a_common_type_become_text():
    assert array_of([1, 2.5, None]).to_pylist() == [1.0, 2.5, None]
    assert array_of([1, "x", {"a": 1}]).to_pylist() == ["1", "x", '{"a": 1}']


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_values_inside_of_texts_are_columns_and_broken_texts_are_counted(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        cells = ["" if text is None else '"' + text.replace('"', '""') + '"' for text in TEXTS]
        path.write_text("n,properties\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))
    elif ending == "jsonl":
        path.write_text(
            "".join(json.dumps({"n": n, "properties": text}) + "\n" for n, text in enumerate(TEXTS))
        )
    else:
        pq.write_table(pa.table({"n": range(5), "properties": TEXTS}), path)
    read = rows(path, ["properties.price", "n", "properties.page"])
    assert [(row["properties.page"], row["properties.price"], row["problem"]) for row in read] == FOUND
    assert [int(row["n"]) for row in read] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_path_into_plain_texts_is_an_error_that_shows_one(tmp_path, ending):
    if ending == "csv":
        path = written(tmp_path, "name,n\nann,1\n")
    else:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"name": ["ann"]}), path)
    with pytest.raises(InputError, match=r"'name.x' names a value inside of objects, .* texts such as 'ann'"):
        rows(path, ["name.x"])
    with pytest.raises(InputError, match="nam"):
        rows(path, ["nam.x"])


def test_broken_texts_deeper_inside_are_counted_for_each_path(tmp_path):
    lines = [{"a": {"b": '{"c": 1}', "d": 5}}, {"a": {"b": '{"c', "d": 6}}]
    path = written(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "t.jsonl")
    assert rows(path, ["a.b.c", "a.d"]) == [
        {"a.b.c": 1, "a.d": 5, "problem": None},
        {"a.b.c": None, "a.d": 6, "problem": "bad_object"},
    ]


def test_entries_of_lists_without_a_common_type_become_texts(tmp_path):
    lines = [{"a": [1, "x"], "b": [{"c": 1, "d": [2]}, None]}, {"a": None, "b": [{"c": "y"}]}]
    path = written(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "t.jsonl")
    assert rows(path, ["a", "b", "b.c"]) == [
        {"a": ["1", "x"], "b": [{"c": "1", "d": [2]}, None], "b.c": ["1", None], "problem": None},
        {"a": None, "b": [{"c": "y", "d": None}], "b.c": ["y"], "problem": None},
    ]
