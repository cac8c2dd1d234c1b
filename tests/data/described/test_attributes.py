"""Attributes of users and items in further tables, some of them with several rows for an id."""

import random
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError, SchemaError
from clickscale.features import FIRST
from tests.data.described.logs import START, Row, clicks, drafted, prepared, save

MORE = """
[[items.more]]
files = "kinds.csv"
fields = [{ name = "kind", values = 3 }, { name = "first", column = "kind" }]
[[items.more]]
files = "prices.jsonl"
key = "sku"
fields = [{ name = "price", kind = "numeric" }, { name = "since", kind = "timestamp" }]
[[users.more]]
files = "profiles.csv"
fields = [{ name = "city" }]
"""
BRANDS = '[items]\nfiles = "items.csv"\nfields = [{ name = "brand" }]\n'


def kinds(item: int) -> list[str]:
    return ["red", "blue", "green"][: item % 3 + 1] if item % 4 else []


def write_tables(folder: Path) -> None:
    """Clicks; brands; kinds of items in several rows that stand apart; prices; cities of some users."""
    save(folder, clicks())
    save(folder, [{"item_id": f"i{n}", "brand": f"b{n % 2}"} for n in range(20)], "items.csv")
    items = random.Random(1).sample(range(25), 25)
    rows: list[Row] = [
        {"item_id": f"i{n}", "kind": kinds(n)[place]}
        for place in range(3)
        for n in items
        if place < len(kinds(n))
    ]
    save(folder, rows, "kinds.csv")
    prices = [{"sku": f"i{n}", "price": n / 2, "since": f"{n}-Mar-2020"} for n in range(1, 25)]
    save(folder, prices, "prices.jsonl")
    save(folder, [{"user_id": f"u{n}", "city": f"c{n % 3}"} for n in range(30)], "profiles.csv")


def kinds_of(dataset: Dataset, field: str) -> list[set[str]]:
    """Values of a field of the items by their number."""
    names: list[str] = dataset.encoder.vocabulary(field).values.to_pylist()
    rows = dataset.encoder.item_rows.encode(pa.array([f"i{n}" for n in range(25)]))
    indices = np.asarray(dataset.items[f"field.{field}"])[rows].reshape(25, -1)
    return [{names[n - FIRST] for n in row if n >= FIRST} for row in indices.tolist()]


@pytest.mark.parametrize("main", ["", BRANDS])
def test_attributes_of_an_id_come_from_all_of_its_tables(tmp_path: Path, main: str) -> None:
    write_tables(tmp_path)
    manifest = prepared(tmp_path, main + MORE, chunk_rows=7)
    assert not sum(sum(report.quarantined.values()) for report in manifest.report.values())
    dataset = open_dataset(tmp_path / "out")
    assert kinds_of(dataset, "kind") == [set(kinds(n)) for n in range(25)]
    assert kinds_of(dataset, "first") == [set(kinds(n)[:1]) for n in range(25)]
    rows = dataset.encoder.item_rows.encode(pa.array([f"i{n}" for n in range(25)]))
    prices = np.asarray(dataset.items["field.price"])[rows]
    assert np.isnan(prices).tolist() == [n == 0 for n in range(25)]
    assert (np.diff(prices[1:]) > 0).all()
    assert dataset.encoder.vocabulary("city").values.to_pylist() == ["c0", "c1", "c2"]


def test_rows_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    write_tables(tmp_path)
    with (tmp_path / "prices.jsonl").open("a") as file:
        file.write('{"sku": "i0", "price": 1, "since": "soon"}\n')
        file.write('{"sku": null, "price": 1, "since": "2020-01-01"}\n')
    manifest = prepared(tmp_path, MORE)
    assert any("2 rows of prices.jsonl cannot be read" in note for note in manifest.notes)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[[items.more]]\nfiles = "kinds.csv"\nkey = "gone"\nfields = [{ name = "kind" }]', "column 'gone'"),
        ('[[items.more]]\nfiles = "kinds.csv"\nfields = [{ name = "gone" }]', "items.more .*column 'gone'"),
        ('[[items.more]]\nfiles = "none.csv"\nfields = [{ name = "kind" }]', "items.more"),
        (MORE + '[[users.more]]\nfiles = "profiles.csv"\nfields = [{ name = "kind" }]', "used twice"),
    ],
)
def test_tables_that_cannot_be_are_refused(tmp_path: Path, toml: str, message: str) -> None:
    write_tables(tmp_path)
    with pytest.raises((InputError, SchemaError), match=message):
        prepared(tmp_path, toml)


def test_a_draft_takes_all_tables_of_attributes(tmp_path: Path) -> None:
    write_tables(tmp_path)
    notes = [{"user_id": f"u{n}", "item_id": f"i{n}", "note": f"t{n % 3}"} for n in range(20)]
    save(tmp_path, notes, "notes.csv")
    save(tmp_path, [{"item_id": f"i{n}", "isbn": f"00{n:03}"} for n in range(25)], "codes.csv")
    names = ("clicks.csv", "items.csv", "kinds.csv", "profiles.csv", "notes.csv", "codes.csv")
    tree = tomllib.loads(drafted(tmp_path, *names))
    assert (tree["items"]["files"], tree["users"]["files"]) == ("items.csv", "profiles.csv")
    assert tree["items"]["more"] == [{"files": "kinds.csv", "fields": [{"name": "kind", "values": 3}]}]
    text = guess([tmp_path / name for name in names], tmp_path)
    assert text.count("# Not used") == 2
    assert ["user", "kind"] in [statistic["by"] for statistic in tree["statistics"]]


def test_several_rows_alone_are_a_table_of_attributes(tmp_path: Path) -> None:
    write_tables(tmp_path)
    tree: dict[str, Any] = tomllib.loads(drafted(tmp_path, "clicks.csv", "kinds.csv"))
    assert tree["items"] == {"more": [{"files": "kinds.csv", "fields": [{"name": "kind", "values": 3}]}]}
    manifest = prepare(load_log(tmp_path / "draft.toml"), tmp_path / "again")
    assert manifest.report["items"].kept == 25


def test_items_that_nobody_was_shown_have_their_attributes(tmp_path: Path) -> None:
    write_tables(tmp_path)
    views = [{"user_id": f"u{n % 40}", "item_id": f"i{n % 25}", "at": START - 60 * n} for n in range(99)]
    save(tmp_path, views, "views.csv")
    save(tmp_path, [row for row in clicks() if row["item_id"] != "i3"])
    prepared(tmp_path, '[behaviors]\nfiles = "views.csv"\ntime = "at"\n' + MORE)
    assert kinds_of(open_dataset(tmp_path / "out"), "kind")[3] == set(kinds(3))


OTHERS: dict[str, list[Row]] = {
    "searches.csv": [{"user_id": f"u{n % 40}", "time": START + n, "topic": f"t{n % 5}"} for n in range(200)],
    "groups.csv": [{"id": n, "name": f"g{n % 7}"} for n in range(25)],
    "stats.csv": [{"item_id": n, "click_count": n, "ctr": n / 9} for n in range(25)],
}


@pytest.mark.parametrize("name", OTHERS)
def test_logs_other_ids_and_totals_are_no_attributes(tmp_path: Path, name: str) -> None:
    save(tmp_path, [row | {"item_id": row["item_id"][1:]} for row in clicks()])
    save(tmp_path, [{"item_id": n, "brand": f"b{n % 2}"} for n in range(20)], "items.csv")
    save(tmp_path, [{"user_id": f"u{n}", "city": f"c{n % 3}"} for n in range(30)], "profiles.csv")
    save(tmp_path, OTHERS[name], name)
    tables = ("clicks.csv", "items.csv", "profiles.csv", name)
    assert f"# Not used: {name}" in guess([tmp_path / table for table in tables], tmp_path)


def test_numbers_that_come_back_are_categories_of_an_id(tmp_path: Path) -> None:
    save(tmp_path, clicks())
    rows = [{"item_id": f"i{n}", "shelf": float(shelf % 8)} for n in range(25) for shelf in (n, n + 3)]
    save(tmp_path, rows, "shelves.parquet")
    tree = tomllib.loads(drafted(tmp_path, "clicks.csv", "shelves.parquet"))
    assert tree["items"]["more"][0]["fields"] == [{"name": "shelf", "values": 2}]
    assert len(open_dataset(tmp_path / "drafted").encoder.vocabulary("shelf").values) == 8


def test_lists_of_several_types_are_lists_of_texts(tmp_path: Path) -> None:
    save(tmp_path, clicks())
    for name, tags in (("m1", ["a"]), ("m2", [7]), ("m3", [])):
        save(tmp_path, [{"item_id": f"i{name[1]}", "tags": tags}], f"{name}.parquet")
    prepared(tmp_path, '[[items.more]]\nfiles = "m*.parquet"\nfields = [{ name = "tags", values = 2 }]\n')
    encoder = open_dataset(tmp_path / "out").encoder
    assert encoder.vocabulary("tags").values.to_pylist() == ["7", "a"]


def test_rows_that_are_users_of_their_own_have_no_tables_of_users(tmp_path: Path) -> None:
    save(tmp_path, [{"past": "i1 i2"} | row for row in clicks()])
    (tmp_path / "log.toml").write_text(
        'name = "x"\nitem = { name = "item", column = "item_id" }\n'
        'labels = [{ name = "c", column = "clicked" }]\n'
        '[impressions]\nfiles = "clicks.csv"\ntime = "time"\n[history]\nitems = "past"\nper_row = true\n'
        '[[users.more]]\nfiles = "clicks.csv"\nkey = "user_id"\nfields = [{ name = "age" }]\n'
    )
    with pytest.raises(SchemaError, match=r"users\.more means nothing"):
        load_log(tmp_path / "log.toml")
