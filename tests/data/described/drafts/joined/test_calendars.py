"""Drafts of impressions whose time stands in a table of dates, and maybe in one of times of day."""

import datetime as dt
import random
import tomllib

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import write_csv

START = dt.date(2024, 1, 29)
DAYS = [START + dt.timedelta(n) for n in range(60)]
DATES = [
    {
        "full_date": day.isoformat(),
        "weekday": day.strftime("%a"),
        "month": day.month,
        "is_holiday": int(n % 17 == 3),
        "visits": 400 + 7 * n % 20,
    }
    for n, day in enumerate(DAYS)
]


def keys(kind):
    return [int(day.strftime("%Y%m%d")) if kind == "smart" else 7 + n for n, day in enumerate(DAYS)]


def facts(kind, clock):
    """Impressions that name their date, and their minute if there is a clock."""
    draw = random.Random(4)
    for n in range(2400):
        row = {"date_key": keys(kind)[n // 40]}
        if clock:
            row["time_key"] = n % 40 * 36
        user, item = draw.randrange(90), draw.randrange(40)
        yield row | {"customer_key": user, "product_key": item, "clicked": int(draw.random() < 0.3)}


def tables(folder, kind, clock, unknown=False):
    dates = [{"date_key": key, **date} for key, date in zip(keys(kind), DATES, strict=True)]
    if unknown:
        dates.append(
            {"date_key": -1, "full_date": "", "weekday": "", "month": "", "is_holiday": 0, "visits": 0}
        )
    paths = [
        write_csv(folder / "fact_impressions.csv", facts(kind, clock)),
        write_csv(folder / "dim_date.csv", dates),
    ]
    if clock:
        minutes = [
            {
                "time_key": n,
                "time_of_day": f"{n // 60:02}:{n % 60:02}",
                "hour": n // 60,
                "day_part": "ab"[n > 720],
            }
            for n in range(1440)
        ]
        paths.append(write_csv(folder / "dim_time.csv", minutes))
    return paths


def drafted(folder, paths):
    text = guess(paths, folder)
    (folder / "log.toml").write_text(text)
    return text, tomllib.loads(text)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("kind", ["counted", "smart"])
@pytest.mark.parametrize("clock", [False, True])
def test_the_time_of_impressions_is_that_of_the_rows_that_they_name(tmp_path, kind, clock, unknown):
    text, tree = drafted(tmp_path, tables(tmp_path, kind, clock, unknown))
    date = "date_key" if kind == "smart" else "full_date"
    assert tree["impressions"]["time"] == ([date, "time_of_day"] if clock else date)
    joined = [table["files"] for table in tree["joined"]]
    assert joined == ["dim_date.csv", "dim_time.csv"][: 1 + clock]
    fields = [field["name"] for field in tree["impressions"]["fields"]]
    assert fields == ["is_holiday", *["day_part"] * clock]
    assert "left out: weekday (the day of the week tells it)" in text
    assert "left out: month (it moves on with the time" in text
    assert "left out: visits (a number of the day may count what happened on it)" in text
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    midnight = int(dt.datetime(START.year, START.month, START.day, tzinfo=dt.UTC).timestamp())
    expected = [midnight + n // 40 * 86_400 + (n % 40 * 36 * 60 if clock else 0) for n in range(2400)]
    # Of rows that are alike in everything one is kept.
    assert set(np.asarray(data.impressions["time"]).tolist()) == set(expected)


def test_the_day_that_impressions_name_is_theirs_and_no_other(tmp_path):
    paths = tables(tmp_path, "counted", False)
    rows = [{"signup_date_key": 7 + n % 50, **row} for n, row in enumerate(facts("counted", False))]
    write_csv(paths[0], rows)
    _, tree = drafted(tmp_path, paths)
    (joined,) = tree["joined"]
    assert joined["key"] == ["date_key"]
    assert "shown_key" not in joined


def test_other_numbers_of_dates_are_no_time(tmp_path):
    paths = tables(tmp_path, "counted", False)
    rows = [{"shown_at": 1_700_000_000 + 60 * n, **row} for n, row in enumerate(facts("counted", False))]
    write_csv(paths[0], rows)
    _, tree = drafted(tmp_path, paths)
    assert tree["impressions"]["time"] == "shown_at"


def test_the_day_of_something_that_impressions_name_is_not_theirs(tmp_path):
    paths = tables(tmp_path, "counted", False)
    rows = [{"promotion_id": row.pop("date_key"), **row} for row in facts("counted", False)]
    write_csv(paths[0], rows)
    promotions = [
        {"promotion_id": key, "full_date": date["full_date"], "theme": "abc"[key % 3]}
        for key, date in zip(keys("counted"), DATES, strict=True)
    ]
    text, tree = drafted(tmp_path, [paths[0], write_csv(tmp_path / "promotions.csv", promotions)])
    assert tree["impressions"]["order"] == "rows"
    assert "full_date" not in str(tree["impressions"])
    assert "promotion_theme" in text


def test_a_calendar_with_a_key_of_any_name_is_one(tmp_path):
    paths = tables(tmp_path, "counted", False)
    rows = [{"d": row.pop("date_key"), **row} for row in facts("counted", False)]
    write_csv(paths[0], rows)
    days = [{"d": key, **date} for key, date in zip(keys("counted"), DATES, strict=True)]
    _, tree = drafted(tmp_path, [paths[0], write_csv(tmp_path / "calendar.csv", days)])
    assert tree["impressions"]["time"] == "full_date"


@pytest.mark.parametrize("name", ["tag_id", "time_slot_id"])
def test_the_day_on_which_something_was_entered_is_no_time_of_impressions(tmp_path, name):
    rows = [{name: n % 40, **row} for n, row in enumerate(facts("counted", False))]
    path = write_csv(
        tmp_path / "clicks.csv", [{k: v for k, v in row.items() if k != "date_key"} for row in rows]
    )
    things = [
        {name: key, "created_at": (START + dt.timedelta(17 * key % 60)).isoformat(), "theme": "abc"[key % 3]}
        for key in range(40)
    ]
    _, tree = drafted(tmp_path, [path, write_csv(tmp_path / "things.csv", things)])
    assert "time" not in tree["impressions"]
    assert tree["impressions"]["order"] == "rows"


def test_a_row_that_stands_twice_in_a_calendar_is_that_date_still(tmp_path):
    paths = tables(tmp_path, "counted", clock=True)
    for path in paths[1:]:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines, lines[5]]) + "\n")
    tree = tomllib.loads(guess(paths, tmp_path))
    assert tree["impressions"]["time"] == ["full_date", "time_of_day"]
    (tmp_path / "draft.toml").write_text(guess(paths, tmp_path))
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    notes = open_dataset(tmp_path / "data").manifest.notes
    assert "1 rows of dim_date.csv have the date_key of an earlier row, and do not count." in notes
