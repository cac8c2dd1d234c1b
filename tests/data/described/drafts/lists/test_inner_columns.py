"""Values inside of objects in the sample of a table."""

import json
import tomllib

import pyarrow as pa
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.lists.inner_columns import inner_columns
from tests.data.described.logs import clicks, drafted, save


def columns_of(**values):
    arrays = [value if isinstance(value, pa.Array) else pa.array(value) for value in values.values()]
    found = inner_columns(pa.RecordBatch.from_arrays(arrays, names=list(values)))
    return {name: array.to_pylist() for name, array in found.items()}


def test_objects_are_a_column_for_each_value_inside():
    assert columns_of(a=[1, 2], user=[{"id": "u1", "device": {"os": "x"}}, {"id": "u2", "device": None}]) == {
        "a": [1, 2],
        "user.id": ["u1", "u2"],
        "user.device.os": ["x", None],
    }


def test_texts_that_hold_objects_are_read_and_other_texts_stay():
    texts = ['{"page": "home", "price": 2.5}', None, "{'page': 'cart'}", '{"page'] + ['{"page": "x"}'] * 40
    found = columns_of(properties=texts, title=["{a} title"] * 44)
    assert found["properties.page"][:5] == ["home", None, "cart", None, "x"]
    assert found["properties.price"][:2] == [2.5, None]
    assert found["title"] == ["{a} title"] * 44


@pytest.mark.parametrize("odd", ["null", "n/a", "[" * 5000 + "]" * 5000])
def test_an_odd_text_among_objects_hides_none_of_them(odd):
    assert columns_of(properties=['{"page": "home"}'] * 40 + [odd])["properties.page"] == ["home"] * 40 + [
        None
    ]
    assert list(columns_of(properties=['{"page": "home"}'] * 4 + [odd])) == ["properties"]  # one of five


def test_lists_of_named_values_are_a_column_for_each_name():
    pairs = [
        [
            {"key": "page", "value": {"string_value": "home", "int_value": None}},
            {"key": "index", "value": {"string_value": None, "int_value": 3}},
        ],
        [],
    ]
    assert columns_of(params=pairs) == {"params.page": ["home", None], "params.index": [3, None]}


def test_objects_with_names_that_are_ids_stay_one_column():
    assert list(columns_of(stock=[{f"sku{n}": n} for n in range(300)])) == ["stock"]


@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet", "log.csv"])
def test_a_log_of_objects_is_drafted_and_prepared_by_paths(tmp_path, name):
    rows = [
        {
            "event": {"ts": row["time"], "context": {"position": n % 3}},
            "user": {"id": row["user_id"], "device": {"lang": ("en", "de")[int(row["user_id"][1:]) % 2]}},
            "app": {"id": row["item_id"], "meta": {"category": f"c{int(row['item_id'][1:]) % 4}"}},
            "result": {"installed": bool(row["clicked"]), "install_ms": 80 + n if row["clicked"] else None},
        }
        for n, row in enumerate(clicks())
    ]
    if name.endswith("csv"):
        lines = ["event;user;app;result", *(";".join(map(json.dumps, row.values())) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    else:
        save(tmp_path, rows, name)
    text = drafted(tmp_path, name)
    tree = tomllib.loads(text)
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user.id", "app.id")
    assert tree["impressions"]["time"] == "event.ts"
    assert [label["column"] for label in tree["labels"]] == ["result.installed"]
    assert [field["column"] for field in tree["impressions"]["fields"]] == ["event.context.position"]
    assert [field["column"] for field in tree["users"]["fields"]] == ["user.device.lang"]
    assert [field["column"] for field in tree["items"]["fields"]] == ["app.meta.category"]
    assert "# left out: result.install_ms (by its name written after the outcome)" in text
    dataset = open_dataset(tmp_path / "drafted")
    assert dataset.manifest.report["impressions"].kept == 600
    label = dataset.impressions["label.result_installed"]
    assert int((label == 1).sum()) == sum(row["clicked"] for row in clicks())
