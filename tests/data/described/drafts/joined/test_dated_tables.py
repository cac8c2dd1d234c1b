"""Drafts of logs beside which a table has a row for each version of an item."""

import datetime as dt

import pytest

from clickscale.cli.data import _warnings
from clickscale.data.described.log import load_log
from tests.data.described.drafts.test_guess import draft, shop, write_csv
from tests.data.sources import drained

CHANGED = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)


def versions(item="item_id", begin="valid_from", end="valid_to", last=""):
    """Two versions of each of 30 items; their prices differ, and their shelves do not."""
    days = [dt.datetime(2023, 12, 1, tzinfo=dt.UTC), CHANGED]
    for number in range(30):
        for version, day in enumerate(days):
            until = f"{CHANGED:%Y-%m-%d %H:%M:%S}" if not version else last
            row = {item: number, "shelf": number % 5, "price": 10 * number + version}
            yield row | {begin: f"{day:%Y-%m-%d %H:%M:%S}", end: until, "is_current": version}


def impressions():
    for number, row in enumerate(shop(600)):
        when = CHANGED + dt.timedelta(minutes=30 * (number - 300))
        del row["price"], row["category"]
        yield row | {"item_id": number % 30, "timestamp": f"{when:%Y-%m-%d %H:%M:%S}"}


@pytest.mark.parametrize(
    ("begin", "end", "last"),
    [
        ("valid_from", "valid_to", "9999-12-31 00:00:00"),
        ("effective_date", "end_date", ""),
        ("gültig ab", "gültig bis", ""),
        ("valide_du", "valide_au", "9999-12-31 00:00:00"),
        ("dbt_valid_from", "dbt_valid_to", ""),
    ],
)
def test_an_impression_gets_the_version_of_its_time(tmp_path, begin, end, last):
    paths = [
        write_csv(tmp_path / "log.csv", impressions()),
        write_csv(tmp_path / "prices.csv", versions(begin=begin, end=end, last=last)),
    ]
    text, tree = draft(tmp_path, *paths)
    (joined,) = tree["joined"]
    assert joined == {"files": "prices.csv", "key": ["item_id"], "valid_from": begin, "valid_to": end}
    assert "prices.csv is not used" not in " ".join(_warnings(text))
    assert "is_current (it tells at any time which version is the last one)" in text
    assert "price" in [field["name"] for field in tree["impressions"]["fields"]]
    assert "shelf" in [field["name"] for field in tree["items"]["fields"]]
    read = drained(load_log(tmp_path / "log.toml"))["impressions"]
    assert [row["price"] for row in read] == [10 * (n % 30) + (n >= 300) for n in range(600)]


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_table_that_is_not_used_is_named_with_the_reason(tmp_path, overlapping):
    rows = [*versions("sku" if not overlapping else "item_id")]
    for number, row in enumerate(rows):
        if overlapping:  # such as discounts that end when they like
            row["valid_to"] = f"2024-02-{1 + number % 28:02} 00:00:00"
        else:
            row["sku"] = f"x{row['sku']}"
    paths = [write_csv(tmp_path / "log.csv", impressions()), write_csv(tmp_path / "prices.csv", rows)]
    text, tree = draft(tmp_path, *paths)
    assert "joined" not in tree
    (told,) = [line for line in _warnings(text) if line.startswith("prices.csv is not used. ")]
    why = "so an impression might see what came later" if overlapping else "None of its columns names users"
    assert why in told


def test_a_table_of_versions_is_not_taken_for_the_impressions(tmp_path):
    rows = [
        {"banner_no": n % 30, "moment": row["timestamp"], "done": n % 3 == 0} for n, row in enumerate(shop())
    ]
    held = [row | {"shop": f"s{n % 7}"} for n, row in enumerate(versions("banner_no"))] * 3
    paths = [write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", held)]
    _, tree = draft(tmp_path, *paths)
    assert tree["impressions"]["files"] == "a.csv"


def tags(overlapping):
    """Two or three tags of each item at any time; those of a version begin together unless they overlap."""
    for item in range(30):
        for number in range(6):
            day = dt.datetime(2023, 12, 1, tzinfo=dt.UTC) if number < 3 else CHANGED
            last = dt.datetime(2024, 3, 1, tzinfo=dt.UTC) if number > 2 else CHANGED
            shift = dt.timedelta(hours=overlapping * 12 * (number % 3))
            yield {
                "item_id": item,
                "tag": f"t{(item + number) % 9}",
                "valid_from": f"{day + shift:%Y-%m-%d %H:%M:%S}",
                "valid_to": f"{last + shift:%Y-%m-%d %H:%M:%S}",
            }


@pytest.mark.parametrize("overlapping", [False, True])
def test_an_impression_gets_all_tags_that_hold_at_its_time(tmp_path, overlapping):
    shown = list(impressions())
    paths = [write_csv(tmp_path / "log.csv", shown), write_csv(tmp_path / "tags.csv", tags(overlapping))]
    text, tree = draft(tmp_path, *paths)
    (joined,) = tree["joined"]
    assert (joined["several"], joined["valid_from"], joined["valid_to"]) == (True, "valid_from", "valid_to")
    (field,) = [field for field in tree["impressions"]["fields"] if field["name"] == "tag"]
    assert field["values"] == 3
    assert "Not used" not in text
    read = drained(load_log(tmp_path / "log.toml"))["impressions"]
    held = list(tags(overlapping))
    for row, impression in zip(read, shown, strict=True):
        when = impression["timestamp"]
        expected = [
            tag["tag"]
            for tag in held
            if tag["item_id"] == impression["item_id"] and tag["valid_from"] <= when < tag["valid_to"]
        ]
        assert sorted(row["tag"]) == sorted(expected)


def test_a_version_that_stands_there_twice_is_one(tmp_path):
    paths = [
        write_csv(tmp_path / "log.csv", impressions()),
        write_csv(tmp_path / "prices.csv", [*versions(), *versions()]),
    ]
    _, tree = draft(tmp_path, *paths)
    (joined,) = tree["joined"]
    assert "several" not in joined
    assert "price" in [field["name"] for field in tree["impressions"]["fields"]]


@pytest.mark.parametrize(
    ("change", "is_joined"),
    [
        (lambda row: row, True),
        (lambda row: row | {"changed_at": row["changed_at"][:10]}, False),  # some time of the day
        (lambda row: row | {"user_id": f"u{row['price'] % 40}"}, False),  # what users did
    ],
)
def test_a_row_of_changes_holds_until_the_next_one(tmp_path, change, is_joined):
    rows = [
        change({"item_id": row["item_id"], "price": row["price"], "changed_at": row["from"][:14] + "07:30"})
        for row in versions(begin="from")
    ]
    paths = [write_csv(tmp_path / "log.csv", impressions()), write_csv(tmp_path / "changes.csv", rows)]
    _, tree = draft(tmp_path, *paths)
    assert ("joined" in tree) == is_joined
    if is_joined:
        assert tree["joined"] == [{"files": "changes.csv", "key": ["item_id"], "valid_from": "changed_at"}]
        read = drained(load_log(tmp_path / "log.toml"))["impressions"]
        assert [row["price"] for row in read] == [10 * (n % 30) + (n >= 301) for n in range(600)]
