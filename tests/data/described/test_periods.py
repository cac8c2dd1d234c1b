"""Rows that hold for a time: each impression gets what held at its moment."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.described.periods import FIRST_OF_ALL, NEVER, Periods, Stretches
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError, SchemaError
from tests.data.described.logs import START, Row, clicks, save
from tests.data.sources import drained

LOG = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "clicked", column = "clicked" }]
[[joined]]
files = "prices.csv"
key = ["item"]
shown_key = ["item_id"]
VALID
[impressions]
files = "clicks.csv"
time = "time"
fields = [{ name = "price", kind = "numeric" }]
"""
BOTH = 'valid_from = "since"\nvalid_to = "until"'


def described(folder: Path, prices: list[Row], rows: list[Row], valid: str = BOTH) -> list[float | None]:
    save(folder, prices, "prices.csv")
    save(folder, rows)
    (folder / "log.toml").write_text(LOG.replace("VALID", valid))
    return [row["price"] for row in drained(load_log(folder / "log.toml"))["impressions"]]


def shown(*times: int, item: str = "i1") -> list[Row]:
    return [{"user_id": "u1", "item_id": item, "time": START + time, "clicked": 1} for time in times]


def price(value: int, since: int | None, until: int | str | None = None, item: str = "i1") -> Row:
    ends = "" if until is None else until if isinstance(until, str) else START + until
    return {"item": item, "price": value, "since": "" if since is None else START + since, "until": ends}


def test_a_row_counts_from_its_begin_up_to_its_end(tmp_path: Path) -> None:
    prices = [price(3, 20), price(1, 0, 10), price(2, 10, 15), price(9, 0, item="i2")]
    found = described(tmp_path, prices, shown(-1, 0, 9, 10, 14, 15, 19, 20, 10**6) + shown(5, item="gone"))
    assert found == [None, 1, 1, 2, 2, None, None, 3, 3, None]


def test_rows_without_an_end_or_a_begin_hold_as_long_as_no_other_one_does(tmp_path: Path) -> None:
    prices = [price(2, 10), price(3, 20), price(1, None, 10)]
    assert described(tmp_path, prices, shown(-9, 9, 10, 25)) == [1, 1, 2, 3]
    assert described(tmp_path, prices, shown(-9, 9, 10, 25), 'valid_from = "since"') == [1, 1, 2, 3]


def test_moments_in_texts_and_an_end_in_the_year_9999_are_read(tmp_path: Path) -> None:
    prices: list[Row] = [
        {"item": "i1", "price": 1, "since": "2023-12-01 00:00:00", "until": "2024-01-01 00:00:10"},
        {"item": "i1", "price": 2, "since": "2024-01-01 00:00:10", "until": "9999-12-31 00:00:00"},
    ]
    assert described(tmp_path, prices, shown(9, 10)) == [1, 2]


def test_notes_count_what_does_not_hold_and_what_comes_again(tmp_path: Path) -> None:
    rows = clicks()
    prices = [price(n, 0, 6000, f"i{n}") for n in range(25)] + [price(7, 0, item="i1")]
    described(tmp_path, prices, rows)
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    dataset: Dataset = open_dataset(tmp_path / "out")
    notes = " ".join(dataset.manifest.notes)
    assert "500 of 600 rows of impressions name no row of prices.csv by item_id at their time." in notes
    assert "1 rows of prices.csv have the item and since of an earlier row, and do not count." in notes
    assert np.isnan(np.asarray(dataset.impressions["field.price"])).sum() == 500


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        ('valid_to = "until"', "needs valid_from"),
        ('valid_from = "gone"', "gone"),
    ],
)
def test_periods_that_cannot_be_are_refused(tmp_path: Path, valid: str, message: str) -> None:
    with pytest.raises((SchemaError, InputError), match=message):
        described(tmp_path, [price(1, 0)], shown(1), valid)


PERIODS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 12)), max_size=12)


@given(PERIODS, st.lists(st.tuples(st.integers(-1, 4), st.integers(-2, 14)), max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_last_period_that_began_is_found(
    periods: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    keys, begins, ends = (np.array([row[n] for row in periods], np.int64) for n in range(3))
    begins[begins == 0], ends[ends == 12] = FIRST_OF_ALL, NEVER
    held = Periods.of(keys, [begins, ends])
    places = held.places(*(np.array([row[n] for row in asked], np.int64) for n in range(2)))
    for (key, time), place in zip(asked, places.to_pylist(), strict=True):
        begun = [n for n in range(len(periods)) if keys[n] == key and begins[n] <= time]
        last = max(begun, key=lambda n: (begins[n], -n), default=None)
        expected = last if last is not None and time < ends[last] else None
        assert (None if place is None else held.row[place]) == expected


@given(PERIODS, st.lists(st.tuples(st.integers(-1, 4), st.integers(-2, 14)), max_size=20))
@settings(max_examples=200, deadline=None)
def test_a_stretch_has_all_periods_that_hold_in_it(
    periods: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    keys, begins, ends = (np.array([row[n] for row in periods], np.int64) for n in range(3))
    begins[begins == 0], ends[ends == 12] = FIRST_OF_ALL, NEVER
    held = Stretches.of(keys, [begins, ends])
    places = Periods.of(held.keys, [held.begins, held.ends]).places(
        *(np.array([row[n] for row in asked], np.int64) for n in range(2))
    )
    for (key, time), place in zip(asked, places.to_pylist(), strict=True):
        expected = [n for n in range(len(periods)) if keys[n] == key and begins[n] <= time < ends[n]]
        rows = [] if place is None else held.rows[held.bounds[place] : held.bounds[place + 1]].tolist()
        assert sorted(rows) == expected
