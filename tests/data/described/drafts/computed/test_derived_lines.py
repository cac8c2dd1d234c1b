"""Derived numbers of drafts, where a sample calls for them."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.drafts.toml_lines import identifier
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.features import column_of
from tests.data.described.drafts.computed.test_statistic_lines import (
    ROWS,
    START,
    Columns,
    log,
    names,
    with_outcome,
    write,
)

KINDS, DAY = 12, 86_400
Random = np.random.Generator


def drafted(folder: Path, tables: dict[str, Columns]) -> dict[str, Any]:
    paths = [folder / name for name in tables]
    for path, columns in zip(paths, tables.values(), strict=True):
        write(path, columns)
    text = guess(paths, folder)
    (folder / "draft.toml").write_text(text, encoding="utf-8")
    return tomllib.loads(text)


def derived(draft: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    return [(each["name"], each["of"], each["by"]) for each in draft.get("derived", ())]


def fields(draft: dict[str, Any], table: str) -> dict[str, dict[str, Any]]:
    return {field["name"]: field for field in draft[table]["fields"]}


def interests(random: Random, lift: float) -> dict[str, Columns]:
    """Users with lists of topics, items with one; the outcome may depend on whether the lists have it."""
    rows, topic = log(random), random.integers(KINDS, size=50)
    lists = [random.choice(KINDS, random.integers(1, 5), replace=False) for _ in range(300)]
    has = np.array(
        [topic[item] in lists[user] for user, item in zip(rows["user_id"], rows["item_id"], strict=True)]
    )
    written = np.array(["|".join(f"topic{kind}" for kind in kinds) for kinds in lists])
    users = {"user_id": names("u", np.arange(300)), "interests": written}
    items = {"item_id": names("i", np.arange(50)), "topic": names("topic", topic)}
    return {"log.csv": with_outcome(random, rows, -1 + lift * has), "items.csv": items, "users.csv": users}


def test_lists_that_hold_the_kind_of_an_item_are_matched(tmp_path: Path) -> None:
    draft = drafted(tmp_path, interests(np.random.default_rng(0), 1.5))
    assert derived(draft) == [("topic_interests_matches", "matches", ["topic", "interests"])]
    assert fields(draft, "users")["interests"]["shares"] == "topic"
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    scale = data.encoder.scales["topic_interests_matches"]
    values = np.asarray(data.impressions[column_of("topic_interests_matches")]) * scale.std + scale.mean
    clicked = np.asarray(data.impressions["label.clicked"])
    assert set(values.round(3)) == {0.0, 1.0}
    rates = clicked[values > 0.5].mean(), clicked[values < 0.5].mean()
    assert rates == pytest.approx((0.62, 0.27), abs=0.04)  # logits 0.5 and -1


def test_lists_that_tell_nothing_are_left_alone(tmp_path: Path) -> None:
    draft = drafted(tmp_path, interests(np.random.default_rng(0), 0.0))
    assert derived(draft) == []
    assert "shares" not in fields(draft, "users")["interests"]


@pytest.mark.parametrize(("theirs", "found"), [("l", True), ("m", False)])
def test_attributes_are_matched_if_they_have_values_in_common(
    theirs: str, found: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    rows, spoken, written = log(random), random.integers(8, size=300), random.integers(8, size=50)
    logit = -1 + 2.0 * (spoken[rows["user_id"]] == written[rows["item_id"]])
    users = {"user_id": names("u", np.arange(300)), "speaks": names("l", spoken)}
    items = {"item_id": names("i", np.arange(50)), "language": names(theirs, written)}
    draft = drafted(
        tmp_path, {"log.csv": with_outcome(random, rows, logit), "items.csv": items, "users.csv": users}
    )
    assert derived(draft) == [("language_speaks_matches", "matches", ["language", "speaks"])] * found


def test_a_situation_is_matched_with_an_attribute(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    rows, region, place = log(random), random.integers(6, size=50), random.integers(6, size=ROWS)
    rows |= {"city": names("city", place)}
    items = {"item_id": names("i", np.arange(50)), "shop_city": names("city", region)}
    logit = -1 + 2.0 * (place == region[rows["item_id"]])
    draft = drafted(tmp_path, {"log.csv": with_outcome(random, rows, logit), "items.csv": items})
    assert derived(draft) == [("city_shop_city_matches", "matches", ["city", "shop_city"])]
    assert fields(draft, "items")["shop_city"]["shares"] == "city"


def signed_up(random: Random, told: bool) -> dict[str, Columns]:
    """Users and items with moments; the age of the user decides, or nothing does."""
    rows, joined = log(random), START - random.integers(-20 * DAY, 60 * DAY, 300)
    age = (rows["time"] - joined[rows["user_id"]]) / DAY
    days = np.datetime64("2013-01-01") + random.integers(0, 3_000, 50)
    return {
        "log.csv": with_outcome(random, rows, 2.0 * np.cos(age / 8) * told),
        "items.csv": {"item_id": names("i", np.arange(50)), "published": days.astype(str)},
        "users.csv": {"user_id": names("u", np.arange(300)), "signup_ts": joined},
    }


def test_a_moment_that_tells_by_its_age_has_one(tmp_path: Path) -> None:
    tables = signed_up(np.random.default_rng(3), told=True)
    draft = drafted(tmp_path, tables)
    assert derived(draft) == [("signup_ts_age", "age", ["signup_ts"])]
    assert fields(draft, "items")["published"]["kind"] == "timestamp"
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    scale = data.encoder.scales["signup_ts_age"]
    stored = np.asarray(data.impressions[column_of("signup_ts_age")], np.float64) * scale.std + scale.mean
    log_rows, joined = tables["log.csv"], tables["users.csv"]["signup_ts"]
    user = np.char.lstrip(log_rows["user_id"], "u").astype(int)
    ages = ((log_rows["time"] - joined[user]) / DAY)[np.asarray(data.impressions["row"])]
    np.testing.assert_allclose(np.sign(stored) * np.expm1(np.abs(stored)), ages, rtol=1e-3, atol=0.01)


def test_a_moment_that_tells_nothing_by_its_age_has_none(tmp_path: Path) -> None:
    draft = drafted(tmp_path, signed_up(np.random.default_rng(3), told=False))
    assert derived(draft) == []
    assert fields(draft, "users")["signup_ts"]["kind"] == "timestamp"


@pytest.mark.parametrize(("spread", "found"), [(20, True), (20_000, False)])
def test_without_outcomes_moments_of_the_time_of_the_log_have_ages(
    spread: int, found: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(4)
    rows = log(random)
    bought = {
        "user_id": names("u", rows["user_id"]),
        "item_id": names("i", rows["item_id"]),
        "time": rows["time"],
    }
    days = np.datetime64("2023-11-20") - random.integers(0, spread, 50)
    items = {"item_id": names("i", np.arange(50)), "published": days.astype(str)}
    draft = drafted(tmp_path, {"orders.csv": bought, "items.csv": items})
    assert draft["negatives"] > 0
    assert derived(draft) == [("published_age", "age", ["published"])] * found


@pytest.mark.parametrize("after", [False, True])
def test_a_moment_of_users_in_the_impressions_is_kept_if_it_lies_before(after: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    rows = log(random)
    joined = START + (40 if after else -40) * DAY + random.integers(0, 30 * DAY, 300)
    rows |= {"joined": joined[rows["user_id"]]}
    logit = 2.0 * np.cos((rows["time"] - rows["joined"]) / (8 * DAY))
    draft = drafted(tmp_path, {"log.csv": with_outcome(random, rows, logit)})
    assert derived(draft) == [("joined_age", "age", ["joined"])] * (not after)
    assert ("users" in draft) != after


@pytest.mark.parametrize(
    ("name", "days", "kept"),
    [("last_login", 40, False), ("lastSeen", 40, False), ("last_login", -40, True), ("expires", 40, True)],
)
def test_a_moment_that_an_export_overwrites_is_left_out(
    name: str, days: int, kept: bool, tmp_path: Path
) -> None:
    random = np.random.default_rng(8)
    moments = START + days * DAY + random.integers(0, 30 * DAY, 300)
    users = {
        "user_id": names("u", np.arange(300)),
        name: moments,
        "city": names("c", random.integers(5, size=300)),
    }
    tables = {"log.csv": with_outcome(random, log(random), np.full(ROWS, -1.0)), "users.csv": users}
    draft = drafted(tmp_path, tables)
    assert (name in fields(draft, "users")) == kept
    assert ("it moves on" in (tmp_path / "draft.toml").read_text()) != kept


@pytest.mark.parametrize(
    "written", [("lat", "lon"), ("userLatitude", "userLongitude"), ("pos_lat", "pos_lng")]
)
def test_two_places_have_a_distance(written: tuple[str, str], tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    rows = log(random) | {name: random.uniform(5, 15, ROWS).round(4) for name in written}
    places = {"shop_lat": random.uniform(5, 15, 50).round(4), "shop_lon": random.uniform(5, 15, 50).round(4)}
    items = {"item_id": names("i", np.arange(50))} | places
    draft = drafted(
        tmp_path, {"log.csv": with_outcome(random, rows, np.full(ROWS, -1.0)), "items.csv": items}
    )
    assert [each[1:] for each in derived(draft)] == [("distance", [*written, "shop_lat", "shop_lon"])]


def compared(random: Random, how: str) -> dict[str, Columns]:
    """Items with a usual price, impressions with another one; how they compare decides, or nothing does."""
    rows, usual = log(random), random.lognormal(3, 1, 50).round(2)
    factor = random.lognormal(0, 0.3, ROWS)
    price = (usual[rows["item_id"]] * factor).round(2)
    noise = random.normal(0, 3, ROWS)
    logit = {"ratio": -3 * np.log(factor), "difference": noise, "nothing": np.full(ROWS, -1.0)}[how]
    if how == "difference":
        price = (usual[rows["item_id"]] + noise).round(2)
    items = {"item_id": names("i", np.arange(50)), "usual_price": usual}
    return {"log.csv": with_outcome(random, rows | {"price": price}, logit), "items.csv": items}


@pytest.mark.parametrize("how", ["ratio", "difference"])
def test_numbers_are_compared_if_that_tells_more(how: str, tmp_path: Path) -> None:
    draft = drafted(tmp_path, compared(np.random.default_rng(9), how))
    assert derived(draft) == [(f"price_usual_price_{how}", how, ["price", "usual_price"])]
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")


def test_numbers_that_tell_no_more_together_are_left_alone(tmp_path: Path) -> None:
    assert derived(drafted(tmp_path, compared(np.random.default_rng(9), "nothing"))) == []


@pytest.mark.parametrize("with_year", [True, False])
def test_years_are_compared_with_years_alone(with_year: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    rows = log(random)
    years, others = random.integers(1950, 2010, (2, ROWS))
    lasts = others if with_year else others - 1930
    logit = -2 + 0.3 * np.abs(years - others).clip(0, 15)
    made = rows | {"release_year": years, ("birth_year" if with_year else "length"): lasts}
    found = derived(drafted(tmp_path, {"log.csv": with_outcome(random, made, logit)}))
    assert len(found) == with_year


def test_effects_that_add_up_are_no_comparison(tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    rows = log(random) | {name: random.normal(0, 1, ROWS).round(4) for name in ("score", "weight")}
    tables = {"log.csv": with_outcome(random, rows, 2.0 * rows["score"] - 2.0 * rows["weight"])}
    assert derived(drafted(tmp_path, tables)) == []


def test_one_place_has_none(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    rows = log(random) | {name: random.uniform(5, 15, ROWS).round(4) for name in ("lat", "lon", "long_tail")}
    draft = drafted(tmp_path, {"log.csv": with_outcome(random, rows, np.full(ROWS, -1.0))})
    assert derived(draft) == []


def test_a_log_without_times_has_no_ages(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = {name: column for name, column in log(random).items() if name != "time"}
    items = {
        "item_id": names("i", np.arange(50)),
        "published": (np.datetime64("2023-01-01") + np.arange(50)).astype(str),
    }
    draft = drafted(
        tmp_path, {"log.csv": with_outcome(random, rows, np.full(ROWS, -1.0)), "items.csv": items}
    )
    assert "published" in fields(draft, "items")
    assert derived(draft) == []


def journeys(random: Random, names_: tuple[str, str], how: str) -> dict[str, Columns]:
    """Offers of journeys: the days until their begin decide, or their length, or nothing does."""
    rows, lead, stay = log(random), random.integers(1, 60, ROWS), random.integers(1, 15, ROWS)
    day = rows["time"] // DAY + lead
    begin, end = ((days * DAY).astype("datetime64[s]").astype("datetime64[D]") for days in (day, day + stay))
    rows |= dict(zip(names_, (begin.astype(str), end.astype(str)), strict=True))
    logit = {"begin": 2.0 * np.cos(lead / 8), "stay": 2.0 * np.cos(stay / 2), "nothing": np.full(ROWS, -1.0)}
    return {"offers.csv": with_outcome(random, rows, logit[how])}


@pytest.mark.parametrize(
    "called", [("checkin", "checkout"), ("Anreise", "Abreise"), ("departure_date", "return_date")]
)
@pytest.mark.parametrize("how", ["begin", "stay", "nothing"])
def test_moments_ahead_give_the_days_until_then_and_the_length_of_a_stay(
    called: tuple[str, str], how: str, tmp_path: Path
) -> None:
    draft = drafted(tmp_path, journeys(np.random.default_rng(11), called, how))
    begin, end = called
    found = derived(draft)
    shown = fields(draft, "impressions") if "fields" in draft["impressions"] else {}
    if how == "begin":
        assert (f"{begin}_age", "age", [begin]) in found
        assert shown[begin]["kind"] == "timestamp"
    elif how == "stay":
        assert (f"{begin}_{end}_days", "difference", [end, begin]) in found
        assert {shown[name]["kind"] for name in called} == {"timestamp"}
    else:
        assert (found, shown) == ([], {})
        assert "it lies ahead, and the time until then tells nothing" in (tmp_path / "draft.toml").read_text()


def test_the_length_of_a_stay_is_prepared_in_days(tmp_path: Path) -> None:
    tables = journeys(np.random.default_rng(11), ("checkin", "checkout"), "stay")
    drafted(tmp_path, tables)
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    scale = data.encoder.scales["checkin_checkout_days"]
    stored = np.asarray(data.impressions[column_of("checkin_checkout_days")], np.float64)
    begin, end = (tables["offers.csv"][name].astype("datetime64[D]") for name in ("checkin", "checkout"))
    days = (end - begin).astype(int)[np.asarray(data.impressions["row"])]
    np.testing.assert_allclose(stored * scale.std + scale.mean, days, atol=0.01)


@pytest.mark.parametrize(
    ("name", "ahead"),
    [
        ("Abflugdatum", True),
        ("date_depart", True),
        ("Départ", True),
        ("fecha_salida", True),
        ("flight_departure", True),
        ("expires_at", True),
        ("actual_departure", False),
        ("booked_at", False),
        ("next_visit", False),
        ("delivered_at", False),
        ("delivery_date", False),
        ("return_date", False),
    ],
)
def test_only_names_of_what_is_asked_for_lie_ahead(name: str, ahead: bool, tmp_path: Path) -> None:
    draft = drafted(tmp_path, journeys(np.random.default_rng(11), (name, "unknown"), "begin"))
    assert (f"{identifier(name)}_age" in [each[0] for each in derived(draft)]) == ahead
    assert ("fields" in draft["impressions"]) == ahead


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_moment_ahead_that_only_positives_have_came_of_the_outcome(share: float, tmp_path: Path) -> None:
    random = np.random.default_rng(12)
    rows = journeys(random, ("departure", "later"), "begin")["offers.csv"]
    missing = (rows["clicked"] == 0) & (random.random(ROWS) >= share)
    rows["departure"] = np.where(missing, "", rows["departure"])
    draft = drafted(tmp_path, {"offers.csv": rows})
    assert ("fields" in draft["impressions"]) == (share == 1.0)


def test_what_follows_within_hours_is_no_moment_ahead(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    rows = log(random)
    later = random.integers(60, 3600, ROWS)
    rows |= {"dropoff_time": rows["time"] + later}
    draft = drafted(tmp_path, {"rides.csv": with_outcome(random, rows, 2.0 * np.cos(later / 300))})
    assert "fields" not in draft["impressions"]


def test_the_time_of_a_log_is_not_the_moment_ahead_in_front_of_it(tmp_path: Path) -> None:
    rows = journeys(np.random.default_rng(11), ("Abflug", "Ankunft"), "begin")["offers.csv"]
    rows = {name: rows[name] for name in ("Abflug", "user_id", "item_id", "clicked")} | {"wann": rows["time"]}
    draft = drafted(tmp_path, {"offers.csv": rows})
    assert draft["impressions"]["time"] == "wann"
    assert ("Abflug_age", "age", ["Abflug"]) in derived(draft)


ZONES = {"Europe/Berlin": 1, "America/New_York": -5, "Asia/Tokyo": 9, "Asia/Kolkata": 5.5}  # in winter


def zoned(random: Random, column: str, written: list[str], told: str) -> dict[str, Columns]:
    """Users of four zones; the hour or the weekday on their clocks decides, or nothing does."""
    rows, zone = log(random), random.integers(4, size=300)
    clock = rows["time"] / 3600 + np.array(list(ZONES.values()))[zone][rows["user_id"]]
    hour, weekday = np.floor(clock % 24), np.floor(clock / 24 + 3) % 7
    logit = {
        "hour": 2.0 * np.cos(hour / 24 * 2 * np.pi),
        "weekday": 4.0 * (weekday > 4) - 2,
        "zone": 1.0 * zone[rows["user_id"]] - 2,
        "nothing": np.full(ROWS, -1.0),
    }
    users = {"user_id": names("u", np.arange(300)), column: np.array(written)[zone]}
    return {"log.csv": with_outcome(random, rows, logit[told]), "users.csv": users}


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("home", list(ZONES)),
        ("home", ["+01:00", "-05:00", "+09:00", "+05:30"]),
        ("utcOffset", ["1", "-5", "9", "5.5"]),
        ("tz_offset", ["60", "-300", "540", "330"]),
    ],
)
def test_a_zone_gives_the_local_hour_if_that_tells_more(
    column: str, written: list[str], tmp_path: Path
) -> None:
    draft = drafted(tmp_path, zoned(np.random.default_rng(14), column, written, "hour"))
    assert derived(draft) == [("local_hour", "local_hour", [column])]
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    scale = data.encoder.scales["local_hour"]
    hours = np.asarray(data.impressions[column_of("local_hour")], np.float64) * scale.std + scale.mean
    clicked = np.asarray(data.impressions["label.clicked"])
    rates = clicked[(hours < 1) | (hours >= 23)].mean(), clicked[(hours >= 11) & (hours < 13)].mean()
    assert rates == pytest.approx((0.88, 0.12), abs=0.03)  # logits of about 2 and -2


@pytest.mark.parametrize(("told", "found"), [("weekday", ["local_weekday"]), ("zone", []), ("nothing", [])])
def test_a_zone_gives_what_tells_more_than_utc_and_the_zone(
    told: str, found: list[str], tmp_path: Path
) -> None:
    draft = drafted(tmp_path, zoned(np.random.default_rng(15), "timezone", list(ZONES), told))
    assert [each[0] for each in derived(draft)] == found
    assert "timezone" in fields(draft, "users")


@pytest.mark.parametrize("written", [["Japan", "Cuba", "Egypt", "Iran"], ["1", "-5", "9", "5.5"]])
def test_countries_and_numbers_are_no_zones(written: list[str], tmp_path: Path) -> None:
    draft = drafted(tmp_path, zoned(np.random.default_rng(14), "home", written, "hour"))
    assert derived(draft) == []


def test_a_zone_and_its_offset_are_one_clock(tmp_path: Path) -> None:
    tables = zoned(np.random.default_rng(14), "timezone", list(ZONES), "hour")
    offset = dict(zip(ZONES, ("1", "-5", "9", "5.5"), strict=True))
    tables["users.csv"]["utc_offset"] = np.array([offset[zone] for zone in tables["users.csv"]["timezone"]])
    assert derived(drafted(tmp_path, tables)) == [("local_hour", "local_hour", ["timezone"])]


def test_what_few_users_have_in_common_with_a_place_is_no_match(tmp_path: Path) -> None:
    """Each user likes places of their own, which agree with one of their attributes by chance."""
    random = np.random.default_rng(7)
    rows = log(random)
    user, place = rows["user_id"] % 12, random.integers(4, size=ROWS)
    rows |= {"user_id": user, "spot": names("v", place)}
    logit = random.normal(0, 1.5, (12, 4))[user, place]
    users = {"user_id": names("u", np.arange(12)), "group": names("v", random.integers(3, size=12))}
    draft = drafted(tmp_path, {"log.csv": with_outcome(random, rows, logit), "users.csv": users})
    assert derived(draft) == []
