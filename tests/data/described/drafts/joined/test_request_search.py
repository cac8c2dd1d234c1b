"""Drafts of impressions whose user, time or context stands in a table of requests."""

import gzip
import random

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts import samples
from clickscale.data.described.drafts.files import table_heads
from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.joined.request_search import with_requests
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.tables import chunks
from tests.data.described.drafts.test_guess import START, draft, write_csv

DRAW = random.Random(5)
REQUESTS = 400


def log(count=REQUESTS):
    """Impressions of requests with four items each, with all that is known of both."""
    for n in range(4 * count):
        number = n // 4
        yield {
            "request_id": 7 * number,
            "user_id": number * 11 % 40,
            "item_id": 8 * (n % 4) + DRAW.randrange(8),
            "time": START + 60 * number,
            "device": "abc"[number % 3],
            "depth": number % 13,
            "age": 20 + number * 11 % 40,
            "place": (n + number) % 4,
            "clicked": int(DRAW.random() < 0.3),
        }


LOG = list(log())
CLICKED = [row["clicked"] for row in LOG]


def requests(*columns, rows=LOG, key="request_id"):
    """One row for each request, the last one first."""
    found = {
        row["request_id"]: {key: row["request_id"]} | {name: row[name] for name in columns} for row in rows
    }
    return list(found.values())[::-1]


def impressions(*columns, rows=LOG, key="request_id"):
    return [{key: row["request_id"]} | {name: row[name] for name in columns} for row in rows]


def prepared(folder):
    prepare(load_log(folder / "log.toml"), folder / "out")
    return open_dataset(folder / "out")


def column(dataset, name):
    """A column of the impressions, as the rows stand in their table."""
    return np.asarray(dataset.impressions[name])[np.argsort(dataset.impressions["row"])].tolist()


def test_impressions_get_user_and_time_of_their_requests(tmp_path):
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "place", "clicked")),
        write_csv(tmp_path / "requests.csv", requests("user_id", "time", "device", "depth", "age")),
    ]
    text, tree = draft(tmp_path, *paths)
    assert tree["joined"] == [{"files": "requests.csv", "key": ["request_id"]}]
    assert tree["user"] == {"name": "user", "column": "user_id", "dtype": "int"}
    assert (tree["impressions"]["files"], tree["impressions"]["time"]) == ("impressions.csv", "time")
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["place", "device", "depth"]
    assert tree["users"]["fields"] == [{"name": "age", "kind": "numeric"}]  # a user has one
    assert "Not used" not in text
    assert "WARNING" not in text
    assert "ordered" not in text  # rows of a request have no true order
    dataset = prepared(tmp_path)
    assert (column(dataset, "label.clicked"), column(dataset, "time")) == (
        CLICKED,
        [row["time"] for row in LOG],
    )
    assert dataset.manifest.counts["users"] == 40
    users = column(dataset, "user")
    assert [users[n] == users[0] for n in range(len(LOG))] == [row["user_id"] == 0 for row in LOG]


@pytest.mark.parametrize(
    ("shown", "key", "file", "make"),
    [
        ("SearchID", "SearchID", "SearchInfo.csv", int),
        ("search_id", "id", "searches.csv", int),
        ("served_for", "token", "served.csv", "t{:09d}".format),
        ("session_id", "session_id", "sessions.csv", int),
        ("display_id", "display_id", "events.csv", int),
    ],
)
def test_ids_of_requests_are_found_by_name_or_by_value(shown, key, file, make, tmp_path):
    rows = [row | {"request_id": make(row["request_id"])} for row in LOG]
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked", rows=rows, key=shown)),
        write_csv(tmp_path / file, requests("user_id", "time", "device", rows=rows, key=key)),
    ]
    _, tree = draft(tmp_path, *paths)
    (table,) = tree["joined"]
    assert (table["key"], table.get("shown_key", table["key"])) == ([key], [shown])
    assert (tree["user"]["column"], tree["impressions"]["time"]) == ("user_id", "time")
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["device"]
    dataset = prepared(tmp_path)
    assert column(dataset, "label.clicked") == CLICKED
    assert dataset.manifest.report["impressions"].quarantined == {}


def test_impressions_that_have_user_and_time_get_the_context_of_requests(tmp_path):
    own = ("user_id", "item_id", "time", "clicked")
    later = requests("device", "depth", "clicked")
    later = [row | {"time_on_site": 5 + row["clicked"], "click_count": n % 3} for n, row in enumerate(later)]
    later = [{name: value for name, value in row.items() if name != "clicked"} for row in later]
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions(*own)),
        write_csv(tmp_path / "requests.csv", later),
    ]
    text, tree = draft(tmp_path, *paths)
    assert [table["files"] for table in tree["joined"]] == ["requests.csv"]
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["device", "depth"]
    assert "# left out: time_on_site (by its name written with the outcome" in text
    assert "# left out: click_count (by its name a total of outcomes" in text
    assert column(prepared(tmp_path), "label.clicked") == CLICKED


def test_columns_that_each_request_has_for_itself_are_left_out(tmp_path):
    noted = [
        row | {"trace": f"{n:08x}", "row_count": n, "at": 9 * n}
        for n, row in enumerate(requests("device", key="basket_id"))
    ]
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked", key="basket_id")),
        write_csv(tmp_path / "requests.csv", noted),
    ]
    text, tree = draft(tmp_path, *paths)
    assert "# left out: trace (it differs in every row of requests.csv)" in text
    assert "# left out: at (it differs in every row of requests.csv)" in text
    assert "# left out: basket_id (it names a row of requests.csv)" in text
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["device", "row_count"]
    assert "user" not in tree
    assert column(prepared(tmp_path), "label.clicked") == CLICKED


def test_clicks_by_request_and_item_join_impressions_that_requests_complete(tmp_path):
    taken = impressions("item_id", rows=[row for row in LOG if row["clicked"]])
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "place")),
        write_csv(tmp_path / "requests.csv", requests("user_id", "time", "device")),
        write_csv(
            tmp_path / "clicks.csv", [row | {"at": START + 60 * row["request_id"] // 7 + 30} for row in taken]
        ),
    ]
    _, tree = draft(tmp_path, *paths)
    assert [table["key"] for table in tree["outcomes"]] == [["request_id", "item_id"]]
    assert [table["files"] for table in tree["joined"]] == ["requests.csv"]
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 30}]
    assert column(prepared(tmp_path), "label.click") == CLICKED


def test_a_stream_of_events_is_completed_by_requests(tmp_path):
    events = []
    for row in LOG:
        seen = {
            "request_id": row["request_id"],
            "item_id": row["item_id"],
            "place": row["place"],
        }
        events.append({"event": "show"} | seen)
        events += [{"event": "click"} | seen] * row["clicked"]
    paths = [
        write_csv(tmp_path / "events.csv", events),
        write_csv(tmp_path / "requests.csv", requests("user_id", "time", "device")),
    ]
    _, tree = draft(tmp_path, *paths)
    assert (tree["impressions"]["where"], tree["joined"][0]["files"]) == ("event == 'show'", "requests.csv")
    assert tree["outcomes"][0]["key"] == ["request_id", "item_id"]
    dataset = prepared(tmp_path)
    assert (column(dataset, "label.click"), column(dataset, "time")) == (
        CLICKED,
        [row["time"] for row in LOG],
    )


def test_requests_of_few_impressions_are_told_or_not_joined(tmp_path):
    shown = write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked"))
    some = requests("user_id", "time")
    text, tree = draft(tmp_path, shown, write_csv(tmp_path / "requests.csv", some[: len(some) * 3 // 4]))
    assert 'key = ["request_id"]  # 25.0% of the sampled impressions have none of its rows' in text
    assert prepared(tmp_path).manifest.report["impressions"].quarantined == {"null_time": 400}
    text, tree = draft(tmp_path, shown, write_csv(tmp_path / "requests.csv", some[: len(some) // 4]))
    assert "joined" not in tree
    assert "# Not used: requests.csv" in text


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("items.csv", [{"item_id": n, "device": f"d{n % 4}"} for n in range(32)]),
        ("users.csv", [{"user_id": n, "device": f"d{n % 4}"} for n in range(40)]),
        ("shops.csv", [{"place": n, "device": f"d{n}", "opened": START + n} for n in range(4)]),
        ("campaign_days.csv", [{"campaign_id": n % 50, "budget": n % 7} for n in range(100)]),
        ("orders.csv", [{"request_id": 7 * n, "device": "a" * (1 + n % 3)} for n in range(0, 400)]),
        ("requests.csv", [{"request_id": 7 * (n // 2), "device": "ab"[n % 2]} for n in range(800)]),
        (
            "ranked.csv",
            [{"request_id": 7 * n, "product_id": n % 9, "device": "ab"[n % 2]} for n in range(400)],
        ),
        (
            "sold.csv",
            [
                {"request_id": 7 * n, "user_id": n % 40, "item_id": n % 31, "time": START + n}
                for n in range(400)
            ],
        ),
    ],
)
def test_tables_of_something_else_are_no_requests(file, rows, tmp_path):
    shown = [
        row | {"campaign_id": n % 50}
        for n, row in enumerate(impressions("user_id", "item_id", "time", "clicked"))
    ]
    paths = [write_csv(tmp_path / "impressions.csv", shown), write_csv(tmp_path / file, rows)]
    _, tree = draft(tmp_path, *paths)
    assert "joined" not in tree
    assert column(prepared(tmp_path), "label.clicked") == CLICKED


def test_who_sells_an_item_and_since_when_is_nothing_of_a_request(tmp_path):
    items = [{"item_id": n, "user_id": n % 5, "time": START + 60 * n, "kind": f"k{n % 4}"} for n in range(32)]
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked")),
        write_csv(tmp_path / "items.csv", items),
    ]
    shown, sold = map(read_head, paths)
    assert with_requests(shown, [sold]) == (shown, [])


def test_clicks_alone_are_not_completed_by_the_impressions_that_they_name(tmp_path):
    shown = [
        {"impression_id": f"s{n}"} | row for n, row in enumerate(impressions("user_id", "item_id", "time"))
    ]
    clicks = [{"impression_id": f"s{n}", "at": START + n} for n, clicked in enumerate(CLICKED) if clicked]
    paths = [write_csv(tmp_path / "impressions.csv", shown), write_csv(tmp_path / "clicks.csv", clicks)]
    _, tree = draft(tmp_path, *paths)
    assert (tree["outcomes"][0]["files"], "joined" in tree) == ("clicks.csv", False)
    assert column(prepared(tmp_path), "label.click") == CLICKED


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_large_tables_are_looked_up_beyond_their_sample(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(table_heads, "_ROWS", 20)
    theirs = requests("user_id", "time", "device")
    random.Random(1).shuffle(theirs)
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked")),
        write_csv(tmp_path / "requests.csv", theirs),
    ]
    if packed:
        (tmp_path / "requests.csv.gz").write_bytes(gzip.compress(paths[1].read_bytes()))
        paths[1] = tmp_path / "requests.csv.gz"
    text, tree = draft(tmp_path, *paths)
    assert tree["joined"][0]["key"] == ["request_id"]
    assert "have none of its rows" not in text
    assert (tree["user"]["column"], tree["impressions"]["time"]) == ("user_id", "time")


def test_of_a_table_too_large_to_be_looked_through_a_part_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(table_heads, "_ROWS", 60)
    monkeypatch.setattr(samples, "_SCANNED", 2_000)
    monkeypatch.setattr(chunks, "_BLOCK", 3_000)
    paths = [
        write_csv(tmp_path / "impressions.csv", impressions("item_id", "clicked")),
        write_csv(tmp_path / "requests.csv", requests("user_id", "time", "device")[::-1]),
    ]
    text, tree = draft(tmp_path, *paths)
    assert (tree["joined"][0]["key"], tree["user"]["column"]) == (["request_id"], "user_id")
    assert "have none of its rows" not in text
