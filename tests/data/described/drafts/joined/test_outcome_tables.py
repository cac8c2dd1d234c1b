"""Tables of outcomes beside impressions: which they are, and by which columns they name an impression."""

import random

import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, draft, write_csv

DRAW = random.Random(8)


def shown(rows=1200):
    """Requests of four ads each, with a text and a number of their own for every row."""
    for n in range(rows):
        yield {
            "request_id": f"q{n // 4:05}",
            "ad_id": 4 * DRAW.randrange(12) + n % 4,
            "token": f"{DRAW.randrange(16**8):08x}",
            "number": 5000 + n,
            "timestamp": START + 100 * (n // 4),
            "user_id": DRAW.randrange(40),
            "slot": DRAW.choice("ab"),
        }


ROWS = list(shown())
CLICKED = [DRAW.random() < 0.3 for _ in ROWS]


def only(names, rows=ROWS):
    """Take some columns, renamed where a pair of names says so."""
    pairs = [name if isinstance(name, tuple) else (name, name) for name in names]
    return [{new: row[old] for old, new in pairs} for row in rows]


def clicks(*names, later=5):
    """Rows of the clicked impressions with their own time."""
    rows = only(names, [row for row, clicked in zip(ROWS, CLICKED, strict=True) if clicked])
    times = [row["timestamp"] for row, clicked in zip(ROWS, CLICKED, strict=True) if clicked]
    return [row | {"at": time + later} for row, time in zip(rows, times, strict=True)]


REST = ("timestamp", "user_id", "ad_id", "slot")


@pytest.mark.parametrize(
    ("impressions", "outcomes", "key", "shown_key"),
    [
        ([("token", "id"), *REST], [("token", "impression_id")], ["impression_id"], ["id"]),
        ([("token", "id"), *REST], [("token", "id")], ["id"], None),
        ([("token", "shown"), *REST], [("token", "of")], ["of"], ["shown"]),
        ([("number", "id"), *REST], [("number", "impression_id")], ["impression_id"], ["id"]),
        (["request_id", *REST], ["request_id", "ad_id"], ["request_id", "ad_id"], None),
        (["request_id", *REST], ["ad_id", "user_id", "request_id"], ["request_id", "ad_id"], None),
    ],
)
def test_keys_of_outcomes_are_found_by_their_values(impressions, outcomes, key, shown_key, tmp_path):
    write_csv(tmp_path / "impressions.csv", only(impressions))
    write_csv(tmp_path / "clicks.csv", clicks(*outcomes))
    text, tree = draft(tmp_path, tmp_path / "impressions.csv", tmp_path / "clicks.csv")
    (outcome,) = tree["outcomes"]
    assert (outcome["name"], outcome["key"], outcome.get("shown_key")) == ("click", key, shown_key)
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 5}]
    assert "WARNING" not in text


def test_a_draft_with_keys_of_other_names_is_prepared_as_it_is(tmp_path):
    write_csv(tmp_path / "impressions.csv", only([("token", "id"), *REST]))
    write_csv(tmp_path / "clicks.csv", clicks(("token", "impression_id")))
    draft(tmp_path, tmp_path / "impressions.csv", tmp_path / "clicks.csv")
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    clicked = open_dataset(tmp_path / "out").impressions["label.click"]
    assert int(clicked.sum()) == sum(CLICKED)


def test_a_table_of_another_name_has_outcomes_if_its_times_are_later(tmp_path):
    write_csv(tmp_path / "served.csv", only(["token", *REST]))
    write_csv(tmp_path / "touched.csv", clicks("token"))
    _, tree = draft(tmp_path, tmp_path / "served.csv", tmp_path / "touched.csv")
    assert [(each["name"], each["key"]) for each in tree["outcomes"]] == [("touched", ["token"])]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("touched.csv", clicks("token", later=0)),  # what was known at once
        ("touched.csv", [row | {"at": row["timestamp"] + 5} for row in only(["token", "timestamp"])]),  # all
        ("places.csv", [row | {"height": n} for n, row in enumerate(only(["token"]))]),
        ("clicks.csv", [{"place_id": n, "at": START + n} for n in range(0, 1200, 3)]),  # numbers of others
        ("clicks.csv", [{"request_id": f"q{n // 4:05}", "id": n} for n in range(400)]),  # a pair of others
        ("clicks.csv", [{"key": f"k{n}", "at": START + n} for n in range(0, 1200, 3)]),
    ],
)
def test_other_tables_are_none_of_outcomes(name, rows, tmp_path):
    write_csv(tmp_path / "served.csv", only(["request_id", ("number", "id"), "token", *REST]))
    write_csv(tmp_path / name, rows)
    _, tree = draft(tmp_path, tmp_path / "served.csv", tmp_path / name)
    assert "outcomes" not in tree


@pytest.mark.parametrize("flag", ["is_active", "odd"])
def test_a_table_of_clicks_says_more_than_a_flag_of_what_was_shown(flag, tmp_path):
    ads = [
        {
            "id": n,
            "seller_id": n % 25,
            "kind_id": n % 12,
            "made_at": START - 86_400 * n,
            "title": f"Thing {n}",
            flag: n % 2,
        }
        for n in range(48)
    ]
    shown = [row | {"id": n} for n, row in enumerate(only(REST), 1)]
    chosen = [row for row, clicked in zip(shown, CLICKED, strict=True) if clicked]
    named = [
        {"id": n, "impression_id": row["id"], "at": row["timestamp"] + 5} for n, row in enumerate(chosen, 1)
    ]
    tables = {"ads": ads, "impressions": shown, "clicks": named}
    _, tree = draft(tmp_path, *(write_csv(tmp_path / f"{name}.csv", rows) for name, rows in tables.items()))
    assert tree["impressions"]["files"] == "impressions.csv"
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 5}]
    assert (tree["items"]["files"], flag in str(tree["items"]["fields"])) == ("ads.csv", True)


def test_a_flag_beside_impressions_gives_way_to_a_table_of_clicks(tmp_path):
    shown = [row | {"odd": int(DRAW.random() < 0.1)} for row in only(["token", *REST])]
    write_csv(tmp_path / "impressions.csv", shown)
    write_csv(tmp_path / "clicks.csv", clicks("token"))
    _, tree = draft(tmp_path, tmp_path / "impressions.csv", tmp_path / "clicks.csv")
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 5}]


def test_a_click_counts_for_the_last_impression_of_its_user_and_item(tmp_path):
    """Each item is shown to its user again after ten minutes, and clicks come within twenty seconds."""
    shown = [
        {"user_id": n % 30, "ad_id": n % 30 + 7, "timestamp": START + 600 * (n // 30), "slot": "ab"[n % 2]}
        for n in range(1200)
    ]
    chosen = [row for row, clicked in zip(shown, CLICKED, strict=True) if clicked]
    write_csv(tmp_path / "impressions.csv", shown)
    late = [row | {"timestamp": row["timestamp"] + 1 + n % 20} for n, row in enumerate(chosen)]
    write_csv(tmp_path / "clicks.csv", only(["user_id", "ad_id", "timestamp"], late))
    _, tree = draft(tmp_path, tmp_path / "impressions.csv", tmp_path / "clicks.csv")
    assert (tree["outcomes"][0]["within"], tree["labels"][0]["delay"]) == (60, 20)
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    assert int(open_dataset(tmp_path / "out").impressions["label.click"].sum()) == sum(CLICKED)


def test_visits_and_items_join_clicks_where_no_user_is_beside_them(tmp_path):
    shown = [row | {"session_id": f"s{n // 40}"} for n, row in enumerate(only(REST))]
    chosen = [row for row, clicked in zip(shown, CLICKED, strict=True) if clicked]
    late = [row | {"timestamp": row["timestamp"] + 5} for row in chosen]
    write_csv(tmp_path / "impressions.csv", shown)
    write_csv(tmp_path / "adds_to_cart_orders.csv", only(["user_id", "ad_id", "timestamp"], late[::9]))
    write_csv(tmp_path / "clicks.csv", only(["session_id", "ad_id", "timestamp"], late))
    names = ("adds_to_cart_orders", "clicks", "impressions")
    _, tree = draft(tmp_path, *(tmp_path / f"{name}.csv" for name in names))
    assert [(each["name"], each["key"]) for each in tree["outcomes"]] == [
        ("click", ["session_id", "ad_id"]),
        ("adds_to_cart_order", ["user_id", "ad_id"]),
    ]


@pytest.mark.parametrize(("later", "joined"), [(9, True), (7_200, False)])
def test_rows_that_follow_the_impressions_of_their_user_and_item_are_outcomes(tmp_path, later, joined):
    rows = [row | {"timestamp": START + 100 * n} for n, row in enumerate(only(REST))]
    chosen = [row for row, clicked in zip(rows, CLICKED, strict=True) if clicked]
    enrolled = [
        {"enrollment_id": n, "user_id": row["user_id"], "ad_id": row["ad_id"], "at": row["timestamp"] + later}
        for n, row in enumerate(chosen)
    ]
    paths = [write_csv(tmp_path / "impressions.csv", rows), write_csv(tmp_path / "enrollments.csv", enrolled)]
    _, tree = draft(tmp_path, *paths)
    assert [each["key"] for each in tree.get("outcomes", [])] == [["user_id", "ad_id"]] * joined


@pytest.mark.parametrize(("later", "joined"), [(20_000, True), (-20_000, False)])
def test_what_follows_the_only_impression_of_a_user_and_an_item_is_its_outcome(tmp_path, later, joined):
    sent = [
        {
            "SubscriberKey": f"c{n % 60}",
            "JobID": 7000 + n // 60,
            "EventDate": START + 9000 * (n // 60) + n % 60,
        }
        for n in range(600)
    ]
    opened = [row | {"EventDate": row["EventDate"] + later} for row in sent if DRAW.random() < 0.3]
    paths = [write_csv(tmp_path / "Sent.csv", sent), write_csv(tmp_path / "Open.csv", opened)]
    _, tree = draft(tmp_path, *paths)
    key = ["SubscriberKey", "JobID"]
    assert tree.get("outcomes", []) == [{"name": "Open", "files": "Open.csv", "key": key}] * joined
    assert [label["delay"] for label in tree.get("labels", [])] == [later] * joined


@pytest.mark.parametrize(("later", "is_joined"), [(300, True), (-300, False)])
def test_of_clicks_what_was_bought_after_them_is_the_outcome(tmp_path, later, is_joined):
    rows = [
        {
            "session": n // 3,
            "at": START + 40 * n,
            "item": 7 * DRAW.randrange(50) + n % 3,
            "shelf": DRAW.choice("ab"),
        }
        for n in range(900)
    ]
    bought = [row["session"] % 5 == 0 for row in rows]
    buys = [
        {"session": row["session"], "at": row["at"] + later, "item": row["item"], "price": 5 + n % 90}
        for n, row in enumerate(rows)
        if bought[n]
    ]
    write_csv(tmp_path / "shop-clicks.csv", rows)
    write_csv(tmp_path / "shop-buys.csv", buys)
    _, tree = draft(tmp_path, tmp_path / "shop-clicks.csv", tmp_path / "shop-buys.csv")
    assert tree["impressions"]["files"] == "shop-clicks.csv"
    assert [table["key"] for table in tree.get("outcomes", [])] == [["session", "item"]] * is_joined
    if is_joined:
        prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
        assert int(open_dataset(tmp_path / "out").impressions["label.shop_buy"].sum()) == sum(bought)
