"""Drafts of logs whose times are written in unusual ways."""

import datetime as dt
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, draft, shop, write_csv
from tests.data.sources import drained


@pytest.mark.parametrize(
    ("clock", "values", "second"),
    [
        ("time", [f"{n % 24:02}:{n % 60:02}:07" for n in range(600)], 3600 + 60 + 7),
        ("hour", [n % 24 for n in range(600)], 3600),
    ],
)
def test_a_date_and_the_time_of_day_in_two_columns_are_the_time(tmp_path, clock, values, second):
    rows = [
        {"user_id": f"u{n % 40}", "item_id": n % 30, "date": f"2024-01-{1 + n // 24:02}", clock: values[n]}
        | {"clicked": int(n % 7 < 3)}
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["impressions"]["time"] == ["date", clock]
    assert "fields" not in tree["impressions"]
    tables = drained(load_log(tmp_path / "log.toml"))
    assert [row["time"] - 1_704_067_200 for row in tables["impressions"][:2]] == [second % 60, second]
    assert tables["behaviors"][1]["time"] == tables["impressions"][1]["time"]


@pytest.mark.parametrize(
    ("date", "clock", "form", "of_day"),
    [
        ("Datum", "Uhrzeit", "{day:02}.05.2024", "{hour:02}:{minute:02}"),
        ("date", "heure", "{day:02}/05/2024", "{hour:02}:{minute:02}:00"),
        ("Fecha", "Hora", "{day:02}/05/2024", "{hour}:{minute:02}:07"),
        ("data", "horário", "2024-05-{day:02}", "{hour}"),
        ("data", "ora", "2024-05-{day:02}", "{hour:02}:{minute:02}"),
        ("datum", "tijd", "{day:02}-05-2024", "{hour:02}:{minute:02}"),
        ("ERDAT", "ERZET", "202405{day:02}", "{hour:02}{minute:02}{minute:02}"),
        ("segments.date", "segments.hour", "2024-05-{day:02}", "{hour}"),
        ("when", "w2", "2024-05-{day:02}", "{hour:02}:{minute:02}:{minute:02}"),  # by its values
    ],
)
def test_dates_and_times_of_day_in_other_languages_are_the_time(tmp_path, date, clock, form, of_day):
    moments = [dt.datetime(2024, 5, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=61 * n) for n in range(700)]
    rows = [
        {"user_id": f"u{n % 40}", "item_id": n % 30, date: form.format(day=when.day)}
        | {clock: of_day.format(hour=when.hour, minute=when.minute), "clicked": int(n % 7 < 3)}
        for n, when in enumerate(moments)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["impressions"]["time"] == [date, clock]
    read = drained(load_log(tmp_path / "log.toml"))["impressions"]
    assert [row["time"] // 3600 for row in read] == [int(when.timestamp()) // 3600 for when in moments]


@pytest.mark.parametrize(("name", "form"), [("stay", "00:0{0}:{1:02}"), ("opening", "{2:02}:30:00")])
def test_durations_and_opening_hours_are_no_times_of_day(tmp_path, name, form):
    rows = [row | {"day": f"2024-01-{1 + n // 24:02}"} for n, row in enumerate(shop())]
    for n, row in enumerate(rows):
        row[name] = form.format(n % 10, n % 60, n % 12)
        del row["timestamp"]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["impressions"]["time"] == "day"


def test_a_date_with_a_time_of_day_needs_no_second_column(tmp_path):
    rows = [row | {"day": f"2024-01-05 {n % 24:02}:00:01", "hour": n % 24} for n, row in enumerate(shop())]
    for row in rows:
        del row["timestamp"]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["impressions"]["time"] == "day"
    assert {"name": "hour"} in tree["impressions"]["fields"]


@pytest.mark.parametrize(("rows_a_day", "hinted"), [(6, True), (1, False)])
def test_a_clock_that_is_coarser_than_the_rows_is_pointed_out(tmp_path, rows_a_day, hinted):
    rows = [
        {
            "user_id": f"u{n // 30}",
            "item_id": n % 25,
            "date": f"2024-01-{1 + n % 30 // rows_a_day:02}",
            "clicked": n % 2,
        }
        for n in range(900)
    ]
    text, _ = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert ("# ordered = true" in text) == hinted


@pytest.mark.parametrize(
    ("form", "unit"), [("{day}/{month}/2024", "DMY"), ("{month}/{day}/2024 10:30", "MDY")]
)
def test_dates_with_the_day_or_the_month_in_front_are_times(tmp_path, form, unit):
    rows = [
        {
            "user_id": f"u{n % 40}",
            "item_id": n % 30,
            "when": form.format(day=1 + n % 28, month=1 + n // 28 % 12),
        }
        | {"clicked": int(n % 7 < 3)}
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert (tree["impressions"]["time"], tree["impressions"]["time_unit"]) == ("when", unit)
    tables = drained(load_log(tmp_path / "log.toml"))
    assert {row["time"] // 86_400 for row in tables["impressions"][:28]} == set(range(19_723, 19_751))


@pytest.mark.parametrize("date", ["timestamp", "2024-01-{day:02} 00:00:00", "2024-01-{day:02}"])
@pytest.mark.parametrize("hour", [7, 7.0, "07:30"])
def test_dates_of_any_type_go_with_hours_of_any_type(tmp_path, date, hour):
    days = [1 + n % 28 for n in range(600)]
    dates = [dt.datetime(2024, 1, day) if date == "timestamp" else date.format(day=day) for day in days]
    hours = [hour if n % 3 else (type(hour)(8) if hour != "07:30" else "08:00") for n in range(600)]
    hours[0] = type(hour)(9) if hour != "07:30" else "9:00"
    columns = {"user_id": [f"u{n % 40}" for n in range(600)], "item_id": [n % 30 for n in range(600)]}
    columns |= {"date": dates, "hour": hours, "clicked": [int(n % 7 < 3) for n in range(600)]}
    pq.write_table(pa.table(columns), tmp_path / "clicks.parquet")
    _, tree = draft(tmp_path, tmp_path / "clicks.parquet")
    assert tree["impressions"]["time"] == ["date", "hour"]
    first, second = drained(load_log(tmp_path / "log.toml"))["impressions"][:2]
    assert (first["time"] - 1_704_067_200, second["time"] // 3600 % 24) == (9 * 3600, 7)


@pytest.mark.parametrize("name", ["length", "store_opens"])
def test_minutes_and_seconds_are_no_time_of_day(tmp_path, name):
    rows = [
        {"user_id": f"u{n % 40}", "song_id": n % 30, "date": f"2024-01-{1 + n // 24:02}"}
        | {name: f"0{n % 5}:{n % 60:02}", "liked": int(n % 7 < 3)}
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "plays.csv", rows))
    assert tree["impressions"]["time"] == "date"


def test_dates_of_attributes_are_moments_and_no_lists(tmp_path):
    items = [{"item_id": n, "released": f"{('January', 'May')[n % 2]} {1 + n % 28}, 2010"} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "items.parquet")
    _, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", shop()), tmp_path / "items.parquet")
    assert tree["items"]["fields"] == [{"name": "released", "kind": "timestamp"}]


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        ("%m/%d/%y %H:%M", "MDY"),
        ("%d/%m/%y %H:%M", "DMY"),
        ("%m/%d/%y %I:%M %p", "iso"),
        ("%m/%d/%y %I:%M:%S %p", "iso"),
        ("%d-%b-%y %I.%M.%S %p", "iso"),
        ("%d-%b-%Y %H.%M.%S", "iso"),
        ("%d.%m.%y %H:%M", "iso"),
        ("%Y%m%d.0", "iso"),
    ],
)
def test_years_of_two_figures_and_dates_that_became_floats_are_times(tmp_path, form, unit):
    moments = [dt.datetime(2023, 11, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=117 * n) for n in range(300)]
    rows = [row | {"timestamp": moments[n].strftime(form)} for n, row in enumerate(shop())]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert (tree["impressions"]["time"], tree["impressions"]["time_unit"]) == ("timestamp", unit)
    seconds = [row["time"] for row in drained(load_log(tmp_path / "log.toml"))["impressions"]]
    cut = [moment.replace(second=0) if "%H" in form or "%I" in form else moment for moment in moments]
    cut = [moment if "%H" in form or "%I" in form else moment.replace(hour=0, minute=0) for moment in cut]
    assert seconds == [int(moment.timestamp()) for moment in cut]


@pytest.mark.parametrize(
    ("form", "is_number"), [("/Date({}000)/", False), ("{}", True), ("7/{}", False), ("v1.{}.23", False)]
)
def test_a_column_with_the_name_of_a_time_that_is_not_read_is_pointed_out(tmp_path, form, is_number):
    rows = [row | {"timestamp": form.format(1600 + 7 * n)} for n, row in enumerate(shop())]
    text, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["impressions"]["order"] == "rows"
    assert f'# WARNING: "timestamp" ({form.format(1600)}) is not read as a time,' in text
    assert ("time_bounds = [0" in text) == is_number


def test_seconds_since_another_moment_are_read_as_the_warning_says(tmp_path):
    rows = [row | {"timestamp": 1600 + 7 * n} for n, row in enumerate(shop())]
    text, _ = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    text = text.replace("\n[impressions]", "\ntime_bounds = [0, 4102444800]\n[impressions]")
    text = re.sub("\norder = .*", '\ntime = "timestamp"\ntime_unit = "s"', text)
    (tmp_path / "log.toml").write_text(text)
    assert prepare(load_log(tmp_path / "log.toml"), tmp_path / "out").report["impressions"].kept == 300


@pytest.mark.parametrize("name", ["hour", "day", "season"])
def test_hours_of_the_day_are_not_taken_for_an_unread_time(tmp_path, name):
    rows = [row | {name: n % 24} for n, row in enumerate(shop())]
    for row in rows:
        del row["timestamp"]
    text, _ = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert "is not read as a time" not in text


@pytest.mark.parametrize(("name", "is_time"), [("Contact Date", True), ("salary", False)])
def test_days_of_a_spreadsheet_are_the_time_under_the_name_of_one(tmp_path, name, is_time):
    rows = [
        {
            "user_id": f"u{n % 40}",
            "item_id": n % 30,
            name: f"{45_413 + n / 97:.6f}",
            "clicked": int(n % 7 < 3),
        }
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert (tree["impressions"].get("time_unit") == "excel") == is_time
    assert ("order" in tree["impressions"]) != is_time


def test_an_id_of_as_many_figures_as_a_time_is_none(tmp_path):
    rows = [
        {"customer_id": START + 7 * (n % 40), "vid": 880_000_000_000_000_000 + 7_919 * (n % 30)}
        | {"offer_dt": f"{1 + n // 30:02}/05/2024 {n % 24:02}:07", "clicked": int(n % 7 < 3)}
        for n in range(600)
    ]
    videos = [{"vid": 880_000_000_000_000_000 + 7_919 * n, "topic": f"t{n % 5}"} for n in range(30)]
    paths = [write_csv(tmp_path / "offers.csv", rows), write_csv(tmp_path / "videos.csv", videos)]
    _, tree = draft(tmp_path, *paths)
    assert tree["impressions"]["time"] == "offer_dt"
    assert (tree["user"]["column"], tree["item"]["column"]) == ("customer_id", "vid")
    assert tree["items"]["files"] == "videos.csv"


def test_the_number_of_a_user_is_no_time(tmp_path):
    rows = [
        {
            "account": 1_000_000_000_000 + n % 40,
            "template": f"t{n % 31}",
            "sent": f"2024-05-01T{n % 24:02}:07:00",
        }
        | {"opened": f"2024-05-01T{n % 24:02}:09:00" if n % 7 < 3 else ""}
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "push.csv", rows))
    assert (tree["impressions"]["time"], tree["labels"][0]["delay"]) == ("sent", 120)


def test_a_moment_with_a_time_of_day_goes_before_its_date(tmp_path):
    rows = [
        {
            "user_id": f"u{n % 40}",
            "item_id": n % 30,
            "dt": f"202401{1 + n // 60:02}",
            "hour": n % 60 * 24 // 60,
        }
        | {"exposure_ts": 1000 * (1_704_067_200 + n * 1440), "clicked": int(n % 7 < 3)}
        for n in range(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert (tree["impressions"]["time"], tree["impressions"]["time_unit"]) == ("exposure_ts", "ms")
    yesterday = [
        row | {"exposure_ts": row["exposure_ts"] - 3 * 86_400_000} for row in rows
    ]  # of another event
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", yesterday))
    assert tree["impressions"]["time"] == ["dt", "hour"]


@pytest.mark.parametrize("name", ["clique_le", "consulte_le"])
def test_a_moment_that_most_rows_lack_is_no_time_of_theirs(tmp_path, name):
    searches = [
        {
            "id": 900 + n,
            "acheteur_id": n % 30,
            "cree_le": f"2024-01-{1 + n // 20:02} 10:{n % 20:02}:07.{n:06}+00",
        }
        for n in range(200)
    ]
    shown = [
        {"recherche_id": 900 + n // 4, "produit_id": n * 7 % 25, "rang": n % 4}
        | {name: f"2024-01-{1 + n // 80:02} 10:{n // 4 % 20:02}:19+00" if n % 5 == 1 else ""}
        for n in range(800)
    ]
    paths = [write_csv(tmp_path / "recherches.csv", searches), write_csv(tmp_path / "resultats.csv", shown)]
    _, tree = draft(tmp_path, *paths)
    assert tree["impressions"]["time"] == "cree_le"
    assert tree["user"]["column"] == "acheteur_id"
    assert [label["condition"] for label in tree["labels"]] == [f"{name} != ''"]
