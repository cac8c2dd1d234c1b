"""Drafts of tables that have impressions and clicks in rows of their own."""

import datetime as dt
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.files import table_heads
from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.joined.log_tables import find_tables
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, draft, write_csv

DRAW = random.Random(12)
ROWS = 2400


def shown(rows=ROWS):
    """Impressions four to a request, of 60 users, with the kinds of events that follow each."""
    for n in range(rows):
        chosen = DRAW.random() < 0.25
        yield {
            "uuid": f"{DRAW.randrange(16**10):010x}",
            "request_id": f"q{n // 4}",
            "user_id": f"u{(n // 4) * 7 % 60}",
            "ad_id": 4 * DRAW.randrange(25) + n % 4,
            "ts": START + 200 * (n // 4),
            "slot": "abc"[n % 3],
            "acts": ["click", "purchase"][: 1 + (DRAW.random() < 0.3)] if chosen else [],
        }


LOG = list(shown())
CLICKED = [int("click" in row["acts"]) for row in LOG]
BOUGHT = [int("purchase" in row["acts"]) for row in LOG]
NAMES = {"shown": "impression", "click": "click", "purchase": "purchase"}


def stream(columns, names=None, kind="event", log=LOG, later=9):
    """Rows of events in the order of time, some of them of nobody's interest."""
    names, events = NAMES | (names or {}), []
    for n, row in enumerate(log):
        kept = {name: row[name] for name in columns}
        acts = [(names["shown"], 0), *((names[act], later * (1 + m)) for m, act in enumerate(row["acts"]))]
        acts += [("scroll", 3)] if n % 11 == 0 and "scroll" in names else []
        events += [{kind: name, **kept, "ts": row["ts"] + seconds} for name, seconds in acts if name]
    return sorted(events, key=lambda event: event["ts"])


def labels(folder, name="click"):
    """Draft, prepare, and return the labels in the order of time; impressions of a moment as they stand."""
    prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True)
    dataset = open_dataset(folder / "out")
    order = np.argsort(dataset.impressions["row"])
    return np.asarray(dataset.impressions[f"label.{name}"])[order].tolist()


ALL = ("uuid", "request_id", "user_id", "ad_id", "ts", "slot")
BY_ID = {"key": ["uuid"]}
BY_PAIR = {"key": ["request_id", "ad_id"]}
BY_TIME = {"key": ["user_id", "ad_id"], "time": "ts", "time_unit": "s", "within": 60}


@pytest.mark.parametrize(
    ("columns", "names", "kind", "key", "delay"),
    [
        (ALL, {}, "event", BY_ID, 9),
        (ALL[1:], {}, "event_type", BY_PAIR, 9),
        (ALL[2:], {}, "action", BY_TIME, 9),
        (ALL[2:], {"shown": "view", "purchase": ""}, "event", BY_TIME, 9),
        (ALL, {"shown": "ad_impression", "click": "ad_click"}, "eventName", BY_ID, 9),
        (ALL, {"shown": "Exposure", "click": "Clicked", "purchase": "bought"}, "event", BY_ID, 9),
        (ALL, {"scroll": "scroll"}, "event", BY_ID, 9),
    ],
)
def test_clicks_in_rows_of_their_own_become_the_label(columns, names, kind, key, delay, tmp_path):
    path = write_csv(tmp_path / "events.csv", stream(columns, names, kind))
    text, tree = draft(tmp_path, path)
    said = NAMES | names
    assert tree["impressions"]["where"] == f"{kind} == '{said['shown']}'"
    first, *others = tree["outcomes"]
    assert first == {"name": "click" if key != BY_ID else first["name"], "files": "events.csv"} | key | {
        "where": f"{kind} == '{said['click']}'"
    }
    assert [other["where"] for other in others] == [f"{kind} == '{said['purchase']}'"] * bool(
        said["purchase"]
    )
    assert (tree["labels"][0]["column"], tree["labels"][0]["delay"]) == (first["name"], delay)
    assert "WARNING" not in text
    assert ("left out: scroll" in text) == ("scroll" in names)
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["slot"]
    assert labels(tmp_path, tree["labels"][0]["name"]) == CLICKED


def test_what_follows_a_click_is_a_label_of_its_own(tmp_path):
    path = write_csv(tmp_path / "events.csv", stream(ALL))
    _, tree = draft(tmp_path, path)
    assert [label["name"] for label in tree["labels"]] == ["click", "purchase"]
    assert [label["delay"] for label in tree["labels"]] == [9, 18]
    assert labels(tmp_path, "purchase") == BOUGHT


def test_purchases_may_be_the_only_outcome(tmp_path):
    path = write_csv(tmp_path / "events.csv", stream(ALL, {"shown": "view", "click": ""}))
    _, tree = draft(tmp_path, path)
    assert [label["name"] for label in tree["labels"]] == ["purchase"]
    assert labels(tmp_path, "purchase") == BOUGHT


def test_acts_of_no_impression_are_left_out_and_named(tmp_path):
    events = stream(ALL, {"purchase": ""})
    elsewhere = [row | {"event": "add_to_cart", "uuid": f"other{n}"} for n, row in enumerate(events[::7])]
    path = write_csv(tmp_path / "events.csv", sorted(events + elsewhere, key=lambda row: row["ts"]))
    text, tree = draft(tmp_path, path)
    assert [table["name"] for table in tree["outcomes"]] == ["click"]
    assert "# rows of click are outcomes; left out: add_to_cart (of no impression in the sample)" in text
    assert labels(tmp_path) == CLICKED


def test_slow_conversions_hold_back_no_history(tmp_path):
    events = stream(ALL, {"purchase": ""})
    slow = [
        row | {"event": "conversion", "ts": row["ts"] + 90_000} for row in events if row["event"] == "click"
    ]
    path = write_csv(tmp_path / "events.csv", sorted(events + slow, key=lambda row: row["ts"]))
    text, tree = draft(tmp_path, path)
    assert [(label["name"], label["delay"]) for label in tree["labels"]] == [
        ("click", 9),
        ("conversion", 90_009),
    ]
    assert [field["name"] for field in tree["behaviors"]["fields"]] == ["past_click"]
    assert "left out: conversion (it is known only after 90,009 s, and most users come back sooner)" in text
    assert labels(tmp_path) == CLICKED


def test_what_undoes_an_act_is_none(tmp_path):
    events = stream(ALL, {"click": "add_to_cart", "purchase": "remove_from_cart"})
    text, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", events))
    assert [table["where"] for table in tree["outcomes"]] == ["event == 'add_to_cart'"]
    assert "left out: remove_from_cart\n" in text


def test_columns_of_acts_alone_are_no_features(tmp_path):
    events = [{**row, "paid": row["ts"] % 50 if row["event"] == "purchase" else ""} for row in stream(ALL)]
    text, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", events))
    assert "# left out: paid (no value in the rows of impressions)" in text
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["slot"]


@pytest.mark.parametrize("hidden", [["user_id"], ["ad_id"], ["user_id", "ad_id"]])
def test_a_stream_without_a_user_or_an_item_is_joined_by_its_id(hidden, tmp_path):
    names = [name for name in ALL if name not in hidden]
    log = [row | {"ts": START + 60 * n} for n, row in enumerate(LOG)]
    text, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", stream(names, log=log)))
    assert [table["key"] for table in tree["outcomes"]] == [["uuid"], ["uuid"]]
    assert ("user" in tree, "item" in tree) == ("user_id" not in hidden, "ad_id" not in hidden)
    assert "# WARNING" not in text
    assert labels(tmp_path) == CLICKED


@pytest.mark.parametrize("columns", [ALL, ALL[1:], ALL[2:]])
def test_one_row_for_each_impression_stays_what_it_is(columns, tmp_path):
    rows = [
        {"event": "click" if clicked else "impression"} | {name: row[name] for name in columns}
        for row, clicked in zip(LOG, CLICKED, strict=True)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", rows))
    assert tree["labels"] == [{"name": "click", "condition": "event == 'click'"}]
    assert not {"outcomes", "joined"} & set(tree)
    assert "where" not in tree["impressions"]
    assert labels(tmp_path) == CLICKED


def test_one_row_for_each_impression_stays_where_users_see_an_ad_again_and_again(tmp_path):
    rows = [
        {"event": "click" if clicked else "impression", "user_id": f"u{n // 40}", "ad_id": n % 3}
        | {"ts": START + 60 * n, "slot": "ab"[n % 2]}
        for n, clicked in enumerate(CLICKED)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", rows))
    assert tree["labels"] == [{"name": "click", "condition": "event == 'click'"}]
    assert "outcomes" not in tree


def test_what_users_do_in_a_shop_without_views_before_is_no_stream(tmp_path):
    kinds = ["view", "view", "cart", "purchase"]
    rows = [
        {"event": DRAW.choice(kinds), "user_id": DRAW.randrange(300), "item_id": DRAW.randrange(200)}
        | {"ts": START + 60 * n}
        for n in range(3000)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", rows))
    assert (tree["negatives"], "outcomes" in tree) == (4, False)


@pytest.mark.parametrize(("lost", "joined"), [(0.3, True), (0.7, False)])
def test_most_clicks_of_a_sample_are_enough(lost, joined, tmp_path):
    events = stream(("uuid", *ALL[2:]), {"purchase": ""})
    for row in events:
        if row["event"] == "click" and DRAW.random() < lost:
            row |= {"uuid": f"before{DRAW.random()}", "user_id": "somebody"}
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", events))
    assert ("outcomes" in tree, "where" in tree["impressions"]) == (joined, joined)
    assert [table["key"] for table in tree.get("outcomes", [])] == [["uuid"]] * joined


def test_a_long_log_is_judged_by_its_sample(tmp_path):
    log = [row | {"uuid": f"{n:012x}"} for n in range(15) for row in LOG]
    log = [row | {"uuid": f"x{n}", "ts": START + 200 * (n // 4)} for n, row in enumerate(log)]
    path = write_csv(tmp_path / "events.csv", stream(ALL[2:], log=log))
    _, tree = draft(tmp_path, path)
    assert (tree["outcomes"][0]["key"], tree["impressions"]["where"]) == (
        ["user_id", "ad_id"],
        "event == 'impression'",
    )


def test_what_comes_long_after_a_click_may_lie_beyond_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(table_heads, "_ROWS", 300)
    events = stream(ALL, later=600)
    last = [
        row for row in events if row["event"] == "purchase"
    ]  # at the end of the file, one after the other
    events = [row for row in events if row["event"] != "purchase"] + last
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", events))
    assert [table["key"] for table in tree["outcomes"]] == [["uuid"], ["uuid"]]
    assert labels(tmp_path, "purchase") == BOUGHT


def test_a_device_and_an_item_name_no_impression(tmp_path):
    log = [row | {"device": f"d{n % 701}"} for n, row in enumerate(LOG)]
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", stream((*ALL[2:], "device"), log=log)))
    assert tree["outcomes"][0]["key"] == ["user_id", "ad_id"]


def test_the_sample_of_a_stream_knows_which_of_many_impressions_of_an_ad_was_clicked(tmp_path):
    log = [
        row | {"user_id": f"u{n % 5}", "ad_id": n % 4, "ts": START + 5000 * n, "acts": row["acts"][:1]}
        for n, row in enumerate(LOG)
    ]
    tables = find_tables([read_head(write_csv(tmp_path / "events.csv", stream(ALL[2:], log=log)))], {})
    assert tables.events[0].truth.tolist() == CLICKED


def test_times_of_two_columns_and_times_as_texts_join_as_well(tmp_path):
    rows = []
    for row in stream(ALL[2:]):
        moment = dt.datetime.fromtimestamp(row["ts"], dt.UTC)
        rest = {name: value for name, value in row.items() if name != "ts"}
        rows.append(rest | {"date": f"{moment:%Y-%m-%d}", "clock": f"{moment:%H:%M:%S}"})
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", rows))
    assert tree["outcomes"][0]["time"] == ["date", "clock"]
    assert sum(CLICKED) <= sum(labels(tmp_path)) <= 1.1 * sum(CLICKED)


def test_a_stream_in_files_of_parts_has_outcomes_in_each(tmp_path):
    half = len(LOG) // 2
    paths = [
        write_csv(tmp_path / f"{part}.csv", stream(ALL, log=log))
        for part, log in (("train", LOG[:half]), ("test", LOG[half:]))
    ]
    _, tree = draft(tmp_path, *paths)
    files = {"train": "train.csv", "test": "test.csv"}
    assert (tree["impressions"]["files"], tree["outcomes"][0]["files"]) == (files, files)
    assert labels(tmp_path) == CLICKED


def test_a_stream_stands_beside_tables_of_items_and_of_other_outcomes(tmp_path):
    rows = stream(ALL, {"purchase": ""})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    sold = [{"uuid": row["uuid"], "at": row["ts"] + 900} for row, b in zip(LOG, BOUGHT, strict=True) if b]
    paths = [
        tmp_path / "events.parquet",
        write_csv(tmp_path / "ads.csv", [{"ad_id": n, "brand": f"b{n % 5}"} for n in range(100)]),
        write_csv(tmp_path / "orders.csv", sold),
    ]
    _, tree = draft(tmp_path, *paths)
    assert [(table["name"], table["key"]) for table in tree["outcomes"]] == [
        ("click", ["uuid"]),
        ("order", ["uuid"]),
    ]
    assert (tree["items"]["files"], [label["delay"] for label in tree["labels"]]) == ("ads.csv", [9, 900])
    assert labels(tmp_path) == CLICKED


def test_clicks_that_are_logged_twice_are_joined_once(tmp_path):
    paths = [
        write_csv(tmp_path / "events.csv", stream(ALL, {"purchase": ""})),
        write_csv(
            tmp_path / "clicks.csv", [{"uuid": r["uuid"]} for r, c in zip(LOG, CLICKED, strict=True) if c]
        ),
    ]
    text, tree = draft(tmp_path, *paths)
    assert [table["files"] for table in tree["outcomes"]] == ["events.csv"]
    assert "# Not used: clicks.csv" in text
    assert labels(tmp_path) == CLICKED


def test_another_stream_beside_the_impressions_is_read_whole(tmp_path):
    shows = [{name: row[name] for name in ALL} | {"clicked": c} for row, c in zip(LOG, CLICKED, strict=True)]
    paths = [
        write_csv(tmp_path / "impressions.csv", shows),
        write_csv(tmp_path / "events.csv", stream(("user_id", "ad_id"), {"purchase": ""})),
    ]
    _, tree = draft(tmp_path, *paths)
    assert (tree["behaviors"]["files"], "outcomes" in tree) == ("events.csv", False)
    assert {"name": "past_event", "column": "event"} in tree["behaviors"]["fields"]
    assert labels(tmp_path, "clicked") == CLICKED


def shown_lists():
    """Three products a time for 60 users, and which of them were clicked."""
    for n in range(600):
        yield {
            "user_id": f"u{n * 7 % 60}",
            "ts": START + 200 * n,
            "shown": [f"SKU{item}" for item in DRAW.sample(range(25), 3)],
            "acts": [DRAW.random() < 0.3 for _ in range(3)],
        }


LISTS = list(shown_lists())


def events_of_lists(names):
    """Names, times, users and items of the events of a shop."""
    for row in LISTS:
        yield names[0], row["ts"], row["user_id"], row["shown"]
        taken = [item for item, act in zip(row["shown"], row["acts"], strict=True) if act]
        for item in taken:
            yield names[1], row["ts"] + 9, row["user_id"], [item]
        if len(taken) > 1:
            yield names[2], row["ts"] + 60, row["user_id"], taken
        if len(taken) > 2:
            yield "page_view", row["ts"] + 70, row["user_id"], []


def event_of_ga4(name, time, user, items):
    session = {"string_value": None, "int_value": time // 1800}
    return {
        "event_name": name,
        "event_timestamp": 1_000_000 * time,
        "user_pseudo_id": user,
        "event_params": [
            {"key": "page", "value": {"string_value": f"p{time // 200 % 7}", "int_value": None}},
            {"key": "ga_session_id", "value": session},
            {"key": "ga_session_number", "value": {"string_value": None, "int_value": 1 + time // 1400 % 4}},
        ],
        "items": [
            {"item_id": item, "category": f"c{int(item[3:]) % 4}", "item_list_index": 1 + place}
            for place, item in enumerate(items)
        ],
    }


def event_of_segment(name, time, user, items):
    products = [{"product_id": item, "category": f"c{int(item[3:]) % 4}"} for item in items]
    properties = {"page": f"p{time // 200 % 7}"}
    properties |= products[0] if name == "Product Clicked" else {"products": products}
    moment = dt.datetime.fromtimestamp(time, dt.UTC).isoformat()
    return {"event": name, "timestamp": moment, "userId": user, "properties": properties}


def check_lists(folder, names, event_of):
    """Draft and prepare events with lists of items, check the labels, and return the draft and its tree."""
    lines = [json.dumps(event_of(*event)) + "\n" for event in events_of_lists(names)]
    (folder / "log.jsonl").write_text("".join(lines))
    text, tree = draft(folder, folder / "log.jsonl")
    (folder / "log.toml").write_text(text)
    first, second = [outcome["name"] for outcome in tree["outcomes"]]
    assert labels(folder, first) == [int(act) for row in LISTS for act in row["acts"]]
    bought = [int(act and sum(row["acts"]) > 1) for row in LISTS for act in row["acts"]]
    assert labels(folder, second) == bought
    return text, tree


def test_lists_of_items_in_events_of_google_analytics(tmp_path):
    names = ("view_item_list", "select_item", "purchase")
    text, tree = check_lists(tmp_path, names, event_of_ga4)
    assert tree["impressions"]["where"] == "event_name == 'view_item_list'"
    assert tree["item"]["column"] == "items.item_id"
    assert tree["outcomes"][0]["key"] == ["user_pseudo_id", "items.item_id"]
    # What counts the entries of each list holds no ids, so a session's number is none of what was chosen.
    fields = [field["column"] for field in tree["impressions"]["fields"]]
    assert fields == ["event_params.page", "event_params.ga_session_number", "items.item_list_index"]
    assert [field["column"] for field in tree["items"]["fields"]] == ["items.category"]
    assert "# left out: event_params.ga_session_id (an id of one event or session" in text


def test_lists_of_products_in_events_of_segment_where_one_is_clicked(tmp_path):
    names = ("Product List Viewed", "Product Clicked", "Order Completed")
    _, tree = check_lists(tmp_path, names, event_of_segment)
    assert tree["impressions"]["where"] == "event == 'Product List Viewed'"
    assert tree["item"]["column"] == "properties.products.product_id"
    clicked, bought = tree["outcomes"]
    assert clicked["key"] == ["userId", "properties.product_id"]
    assert clicked["shown_key"] == ["userId", "properties.products.product_id"]
    assert bought["key"] == ["userId", "properties.products.product_id"]


def test_clicks_of_people_without_an_account_are_joined_by_their_device(tmp_path):
    events = stream(ALL[2:], {"purchase": ""})
    for event in events:
        event["device_id"] = f"d{event['user_id']}"
        event["user_id"] = event["user_id"] if int(event["user_id"][1:]) % 5 > 1 else None
    path = write_csv(tmp_path / "events.csv", events)
    _, tree = draft(tmp_path, path)
    assert tree["outcomes"][0]["key"] == ["device_id", "ad_id"]
    assert labels(tmp_path) == CLICKED


def test_a_flag_without_a_name_for_an_outcome_gives_way_to_clicks_in_rows_of_their_own(tmp_path):
    events = [event | {"robotic": int(n % 90 == 0)} for n, event in enumerate(stream(ALL))]
    _, tree = draft(tmp_path, write_csv(tmp_path / "events.csv", events))
    assert [label["name"] for label in tree["labels"]] == ["click", "purchase"]
    assert labels(tmp_path) == CLICKED
