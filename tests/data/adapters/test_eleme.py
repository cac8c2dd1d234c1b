"""Eleme in its published layout of 39 columns."""

import pytest

from clickscale.data.adapters import eleme
from clickscale.data.preparation.prepare import prepare
from tests.data.sources import check_columns, drained

NOW = 1_600_000_000
LISTS = {
    "shop_id_list": "s1;s2",
    "item_id_list": "11;12",
    "category_1_id_list": "c1;c2",
    "merge_standard_food_id_list": "f1;f2",
    "brand_id_list": "b1;",
    "price_list": "9.5;20",
    "shop_aoi_id_list": "a1;a2",
    "shop_geohash_6_list": "g1;g2",
    "timediff_list": "3600;60",
    "hours_list": "11;12",
    "time_type_list": "lunch;lunch",
    "weekdays_list": "1;1",
}


def line(**changes):
    row = dict.fromkeys(eleme._ROWS.names, "")
    row |= {
        "label": "1",
        "user_id": "7",
        "gender": "-99",
        "visit_city": "3",
        "is_super_vip": "0",
        "avg_price": "31.5",
    }
    row |= {"shop_id": "s9", "item_id": "11.0", "city_id": "-1", "rank_7": "4", "category_1_id": "c1"}
    row |= {
        "times": str(NOW),
        "hours": "13",
        "time_type": "lunch",
        "weekdays": "1",
        "geohash12": "wx4g",
        **LISTS,
    }
    return ",".join((row | changes)[name] for name in eleme._ROWS.names) + "\n"


@pytest.fixture
def folder(tmp_path):
    later = line(times=str(NOW + 60), timediff_list="3660;120", label="0")
    empty = line(user_id="8", **dict.fromkeys(LISTS, ""))
    uneven = line(user_id="9", price_list="1;2;3")
    (tmp_path / "D1_0.csv").write_text(line() + later + empty + uneven)
    (tmp_path / "D1_1.csv").write_text(line(user_id="10", item_id="99", timediff_list="5;x"))
    return tmp_path


def test_the_lists_of_a_row_are_behaviors_before_it_and_repetitions_stand_once(folder):
    source = eleme.source(folder)
    check_columns(source)
    behaviors = drained(source)["behaviors"]
    found = [
        (b["user"], b["item"], b["time"], b["past_hours"], b["past_price"], b["problem"]) for b in behaviors
    ]
    assert found == [
        ("9", None, None, None, None, "uneven_lists"),
        ("7", "11", NOW - 3600, "11", 9.5, None),
        ("7", "12", NOW - 60, "12", 20.0, None),
        ("10", "11", NOW - 5, "11", 9.5, None),
        ("10", "12", None, "12", 20.0, "bad_time"),
    ]


def test_items_come_from_the_rows_first_and_from_the_lists_where_only_they_name_them(folder):
    items = [
        (i["item"], i["shop_id"], i["brand_id"], i["city_id"]) for i in drained(eleme.source(folder))["items"]
    ]
    assert items == [("11", "s9", None, None), ("99", "s9", None, None), ("12", "s2", None, None)]


def test_rows_are_impressions_with_their_context(folder):
    impressions = drained(eleme.source(folder))["impressions"]
    assert [(r["user"], r["item"], r["label.click"], r["problem"]) for r in impressions] == [
        ("7", "11", 1, None),
        ("7", "11", 0, None),
        ("8", "11", 1, None),
        ("9", "11", 1, None),
        ("10", "99", 1, None),
    ]
    assert (impressions[0]["rank_7"], impressions[0]["avg_price"], impressions[0]["ctr_30"]) == (
        4.0,
        31.5,
        None,
    )


def test_unknown_genders_are_missing_and_users_stand_once(folder):
    users = drained(eleme.source(folder))["users"]
    assert [(u["user"], u["gender"], u["visit_city"]) for u in users] == [
        (n, None, "3") for n in ("7", "8", "9", "10")
    ]


def test_the_unit_of_differences_is_an_option(folder):
    behaviors = drained(eleme.source(folder, timediff_seconds=60))["behaviors"]
    assert behaviors[1]["time"] == NOW - 3600 * 60


def test_the_log_prepares(folder, tmp_path):
    manifest = prepare(eleme.source(folder), tmp_path / "out")
    assert manifest.report["behaviors"].quarantined == {"uneven_lists": 1, "bad_time": 1}
    assert manifest.counts["behaviors"] == 3
