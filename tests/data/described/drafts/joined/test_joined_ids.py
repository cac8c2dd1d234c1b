"""Ids that no name tells: found by a table with a row for each of their values."""

import random
import tomllib
from typing import Any

import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, write_csv

Row = dict[str, Any]


def events(user: str, item: str) -> list[Row]:
    draw = random.Random(3)
    return [
        {user: f"p{draw.randrange(60)}", item: f"x{draw.randrange(40)}", "shown_at": START + 60 * n}
        | {"clicked": int(draw.random() < 0.3), "region": f"r{n % 12}"}
        for n in range(2_000)
    ]


def people(name: str) -> list[Row]:
    return [{name: f"p{n}", "birth_year": 1950 + n % 40, "city": f"c{n % 5}"} for n in range(60)]


def things(name: str) -> list[Row]:
    return [{name: f"x{n}", "kind": f"k{n % 6}", "price": 1.5 + n} for n in range(40)]


def roles(folder, tables: dict[str, list[Row]]) -> tuple[str | None, str | None, dict[str, Any]]:
    text = guess([write_csv(folder / name, rows) for name, rows in tables.items()], folder)
    (folder / "draft.toml").write_text(text)
    tree = tomllib.loads(text)
    return tree.get("user", {}).get("column"), tree.get("item", {}).get("column"), tree


@pytest.mark.parametrize(
    ("user", "item"), [("courier", "dish"), ("user_id", "dish"), ("courier", "item_id"), ("who", "what")]
)
def test_ids_are_what_other_tables_describe(tmp_path, user: str, item: str) -> None:
    tables = {"log.csv": events(user, item), "a.csv": people(user), "b.csv": things(item)}
    found = roles(tmp_path, tables)
    assert found[:2] == (user, item)
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    assert data.manifest.counts["users"] == 60
    assert {field.name for field in data.schema.profile} == {"birth_year", "city"}
    assert {field.name for field in data.schema.items} == {"kind", "price"}


def test_texts_join_under_other_names(tmp_path) -> None:
    tables = {"log.csv": events("user_id", "spot_uri"), "tracks.csv": things("uri")}
    _, item, tree = roles(tmp_path, tables)
    assert item == "spot_uri"
    assert tree["items"]["item"] == "uri"


def test_a_table_of_places_makes_no_user(tmp_path) -> None:
    regions = [{"region": f"r{n}", "area": 10.5 * n} for n in range(12)]
    rows = [{name: value for name, value in row.items() if name != "p"} for row in events("p", "item_id")]
    assert roles(tmp_path, {"log.csv": rows, "regions.csv": regions})[:2] == (None, "item_id")


def visits(user: str, item: str, shown: str = "lp", write: str = "{}") -> list[Row]:
    """Rows of visits, each with four items of one user, in the order of time."""
    draw = random.Random(5)
    rows: list[Row] = []
    for visit in range(400):
        who, begin = draw.randrange(60), START + 3_600 * visit
        for place in range(4):
            row = {shown: len(rows), item: write.format(draw.randrange(40)), user: write.format(who)}
            row |= {"kiedy": begin + place, "miejsce": place, "clicked": int(draw.random() < 0.3)}
            rows.append(row)
    return rows


def rows_of(name: str, count: int, write: str = "{}") -> list[Row]:
    return [{name: write.format(n), "typ": f"t{n % 5}", "grupa": f"g{n % 7}"} for n in range(count)]


@pytest.mark.parametrize("write", ["{}", "{:010d}"])
@pytest.mark.parametrize(("user", "item"), [("kto", "co"), ("KUNNR", "MATNR"), ("会員ID", "商品コード")])
def test_rows_of_a_user_follow_each_other_where_no_word_tells(tmp_path, user, item, write) -> None:
    tables = {
        "log.csv": visits(user, item, write=write),
        "a.csv": rows_of(item, 40, write),
        "b.csv": rows_of(user, 60, write),
    }
    found = roles(tmp_path, tables)
    assert found[:2] == (user, item)
    assert (found[2]["items"]["files"], found[2]["users"]["files"]) == ("a.csv", "b.csv")


def test_without_such_rows_the_user_stands_before_the_item(tmp_path) -> None:
    draw = random.Random(4)
    log = [
        {"lp": n, "kto": draw.randrange(60), "co": draw.randrange(40), "clicked": int(draw.random() < 0.3)}
        | {"kiedy": START + 600 * n}
        for n in range(2_000)
    ]
    tables = {"log.csv": log, "a.csv": rows_of("co", 40), "b.csv": rows_of("kto", 60)}
    assert roles(tmp_path, tables)[:2] == ("kto", "co")


def test_an_id_of_visits_is_no_item(tmp_path) -> None:
    log = [row | {"wizyta": n // 4} for n, row in enumerate(visits("user_id", "co"))]
    tables = {"log.csv": log, "wizyty.csv": rows_of("wizyta", 400), "a.csv": rows_of("co", 40)}
    assert roles(tmp_path, tables)[:2] == ("user_id", "co")


@pytest.mark.parametrize("described", [True, False])
def test_the_id_of_an_offer_gives_way_to_what_was_offered(tmp_path, described: bool) -> None:
    draw = random.Random(6)
    log: list[Row] = [
        {"offer_id": f"f{n}", "customer_id": f"p{draw.randrange(60)}", "product_cd": f"x{draw.randrange(40)}"}
        | {"shown_at": START + 60 * n, "clicked": int(draw.random() < 0.3)}
        for n in range(1_200)
    ]
    products = [{"product_cd": f"x{n}", "segment": f"s{n % 4}"} for n in range(40)]
    tables = {"log.csv": log, **({"products.csv": products} if described else {})}
    assert roles(tmp_path, tables)[:2] == ("customer_id", "product_cd")
