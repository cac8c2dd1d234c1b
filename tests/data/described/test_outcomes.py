"""Outcomes in tables of their own: clicks by the id of an impression, or by user, item and time."""

import re
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError, SchemaError
from tests.data.described.logs import START, clicks, csv_text, save

LOG = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[[outcomes]]
name = "clicked"
files = "clicks.csv"
OUTCOME
[impressions]
files = "impressions.csv"
time = "time"
[behaviors]
where = "clicked == 1"
"""
BY_ID = 'key = ["shown"]'
BY_TIME = 'key = ["user_id", "item_id"]\ntime = "at"\nwithin = 60'


def impressions() -> list[dict[str, Any]]:
    """Impressions with their outcome under ``clicked``, which is not written into their table."""
    return [{"shown": f"s{n}"} | row for n, row in enumerate(clicks())]


def without(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def split_up(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write impressions without outcomes, and a table with those that were clicked, some of them twice."""
    save(folder, without(rows, "clicked"), "impressions.csv")
    done = [row | {"at": row["time"] + 5} for row in rows if row["clicked"]]
    save(
        folder,
        without([*done[::-1], *done[:7]], "time"),
        "clicks.csv",
    )


def prepared(folder: Path, outcome: str, **options: Any) -> Dataset:
    (folder / "log.toml").write_text(LOG.replace("OUTCOME", outcome))
    prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True, **options)
    return open_dataset(folder / "out")


def labels(dataset: Dataset) -> list[int]:
    """Labels in the order of time, in which no two impressions share a moment."""
    return np.asarray(dataset.impressions["label.click"])[np.argsort(dataset.impressions["time"])].tolist()


@pytest.mark.parametrize(
    "outcome", [BY_ID, BY_TIME, BY_ID.replace("shown", "click_of") + '\nshown_key = ["shown"]']
)
def test_an_impression_has_the_outcome_that_another_table_names(tmp_path: Path, outcome: str) -> None:
    rows = impressions()
    split_up(tmp_path, rows)
    text = (tmp_path / "clicks.csv").read_text()
    (tmp_path / "clicks.csv").write_text(
        text.replace("shown,", "click_of,") if "click_of" in outcome else text
    )
    dataset = prepared(tmp_path, outcome)
    assert labels(dataset) == [row["clicked"] for row in rows]
    assert len(dataset.behaviors["item"]) == sum(row["clicked"] for row in rows)
    small = prepared(tmp_path, outcome, chunk_rows=7)
    assert labels(small) == labels(dataset)


def test_an_outcome_counts_within_its_time_only(tmp_path: Path) -> None:
    at = {"before": -1, "at once": 0, "late": 60, "too late": 61}
    save(
        tmp_path,
        [{"user_id": f"u{n}", "item_id": "i", "time": START + 100 * n} for n in range(len(at))],
        "impressions.csv",
    )
    save(
        tmp_path,
        [
            {"user_id": f"u{n}", "item_id": "i", "at": START + 100 * n + seconds}
            for n, seconds in enumerate(at.values())
        ],
        "clicks.csv",
    )
    dataset = prepared(tmp_path, BY_TIME, max_quarantined=1.0)
    assert dict(zip(at, labels(dataset), strict=True)) == {
        "before": 0,
        "at once": 1,
        "late": 1,
        "too late": 0,
    }


def test_an_impression_without_a_key_has_no_known_outcome_and_lost_outcomes_are_told(tmp_path: Path) -> None:
    rows = impressions()
    split_up(tmp_path, rows)
    rows[3]["shown"] = ""
    save(tmp_path, without(rows, "clicked"), "impressions.csv")
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("gone,u1,i1,1,1704067200\n,u1,i1,1,1704067200\n")
    dataset = prepared(tmp_path, BY_ID)
    expected = [-1 if n == 3 else row["clicked"] for n, row in enumerate(rows)]
    assert labels(dataset) == expected
    lost = 1 + rows[3]["clicked"]
    notes = "\n".join(dataset.manifest.notes)
    assert (
        f"{lost} of {sum(row['clicked'] for row in rows) + 1} keys of the outcome 'clicked' belong to no"
        in notes
    )


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ("", "outcome 'clicked' needs key"),
        ('key = ["shown"]\nwithin = 60', "outcome 'clicked' needs time"),
        ('key = ["shown"]\nwithin = -1\ntime = "at"', "counts within -1 s"),
        ('key = ["shown"]\nshown_key = ["user_id", "item_id"]', "1 columns as its key and 2"),
        ('key = ["gone"]', "column 'gone'"),
        ('key = ["shown"]\nshown_key = ["gone"]', "column 'gone'"),
    ],
)
def test_outcomes_that_cannot_be_are_refused(tmp_path: Path, outcome: str, message: str) -> None:
    split_up(tmp_path, impressions())
    with pytest.raises((SchemaError, InputError), match=message):
        prepared(tmp_path, outcome)


def drafted(folder: Path, *names: str) -> dict[str, Any]:
    text = guess([folder / name for name in names], folder)
    (folder / "draft.toml").write_text(text)
    return tomllib.loads(text)


def test_a_draft_joins_clicks_by_the_id_of_an_impression(tmp_path: Path) -> None:
    rows = impressions()
    split_up(tmp_path, rows)
    done = [f"{row['shown']},{row['time'] + 5}\n" for row in rows if row["clicked"]]
    (tmp_path / "clicks.csv").write_text("shown,at\n" + "".join(done))
    tree = drafted(tmp_path, "clicks.csv", "impressions.csv")
    assert tree["outcomes"] == [{"name": "click", "files": "clicks.csv", "key": ["shown"]}]
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 5}]  # as long as clicks took
    assert tree["behaviors"]["fields"] == [{"name": "past_click", "column": "click"}]
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "drafted")
    assert labels(open_dataset(tmp_path / "drafted")) == [row["clicked"] for row in rows]


def test_a_draft_joins_clicks_of_a_user_and_an_item_by_their_time(tmp_path: Path) -> None:
    rows = [{"user_id": r["user_id"], "item_id": r["item_id"], "time": r["time"]} for r in clicks()]
    save(tmp_path, rows, "impressions.csv")
    save(tmp_path, rows[::3], "clicks.csv")
    tree = drafted(tmp_path, "impressions.csv", "clicks.csv")
    (outcome,) = tree["outcomes"]
    assert (outcome["key"], outcome["time"], outcome["within"]) == (["user_id", "item_id"], "time", 3600)
    save(tmp_path, rows, "purchased_before.csv")  # under other names they are what they were: behaviors
    (tmp_path / "impressions.csv").rename(tmp_path / "log.csv")
    tree = drafted(tmp_path, "log.csv", "purchased_before.csv")
    assert ("outcomes" in tree, tree["behaviors"]["files"]) == (False, "purchased_before.csv")


def test_no_table_of_outcomes_is_taken_where_there_are_outcomes_or_any_ids(tmp_path: Path) -> None:
    rows = impressions()
    save(tmp_path, rows, "impressions.csv")
    (tmp_path / "clicks.csv").write_text("shown,at\ns1,1704067200\n")
    assert "outcomes" not in drafted(tmp_path, "impressions.csv", "clicks.csv")
    plain = [{"id": n} | row for n, row in enumerate(without(without(rows, "shown"), "clicked"))]
    (tmp_path / "impressions.csv").write_text(csv_text(plain))
    (tmp_path / "products.csv").write_text("id,price\n" + "".join(f"{n},{n}.5\n" for n in range(25)))
    assert "outcomes" not in drafted(tmp_path, "impressions.csv", "products.csv")


def test_keys_compare_as_ids_do_and_nothing_is_no_key(tmp_path: Path) -> None:
    shown = [{"user_id": "u1", "item_id": n, "place": n % 2, "time": START + 100 * n} for n in range(6)]
    clicked = [
        {"item_id": 2.0, "place": 0.0},
        {"item_id": 3.0, "place": 1.0},
        {"item_id": None, "place": None},
    ]
    save(tmp_path, shown, "impressions.csv")
    save(tmp_path, clicked, "clicks.parquet")
    (tmp_path / "log.toml").write_text(
        LOG.replace("OUTCOME", 'key = ["item_id", "place"]').replace("clicks.csv", "clicks.parquet")
    )
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out", max_quarantined=1.0)
    assert labels(open_dataset(tmp_path / "out")) == [0, 0, 1, 1, 0, 0]


def test_a_key_of_lists_is_refused(tmp_path: Path) -> None:
    save(tmp_path, [row | {"shown": ["a"]} for row in impressions()], "impressions.parquet")
    save(tmp_path, [{"shown": ["a"]}], "clicks.parquet")
    text = LOG.replace("OUTCOME", BY_ID).replace(".csv", ".parquet")
    (tmp_path / "log.toml").write_text(text)
    with pytest.raises(InputError, match="the key 'shown' holds lists"):
        prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")


def test_a_draft_delays_a_label_as_long_as_its_outcomes_may_take(tmp_path: Path) -> None:
    rows = [
        {"user_id": r["user_id"], "item_id": r["item_id"], "date": f"2024-01-{5 + n // 300:02}"}
        | {"clock": f"{n // 60:02}:{n % 60:02}"}
        for n, r in enumerate(clicks())
    ]
    save(tmp_path, rows, "impressions.csv")
    save(tmp_path, rows[::3], "clicks.csv")
    tree = drafted(tmp_path, "impressions.csv", "clicks.csv")
    assert tree["outcomes"][0]["time"] == ["date", "clock"]
    assert tree["labels"] == [{"name": "click", "column": "click", "delay": 3600}]
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "drafted")
    assert sum(labels(open_dataset(tmp_path / "drafted"))) >= len(rows[::3])


@pytest.mark.parametrize(("name", "key"), [("shipments.csv", "order_id"), ("orders.csv", "amount")])
def test_a_table_of_something_else_or_with_a_common_number_is_none_of_outcomes(
    tmp_path: Path, name: str, key: str
) -> None:
    rows = [{key: 7 * n} | row for n, row in enumerate(without(clicks(), "clicked"))]
    save(tmp_path, rows, "sales.csv")
    save(tmp_path, [{key: 7 * n, "by": f"c{n % 3}"} for n in range(500)], name)
    assert "outcomes" not in drafted(tmp_path, "sales.csv", name)


@pytest.mark.parametrize("days", [False, True])
def test_a_clock_that_is_a_little_off_takes_no_delay_away(tmp_path: Path, days: bool) -> None:
    rows = impressions()
    split_up(tmp_path, rows)
    lines = []
    for n, row in enumerate(rows):
        at = row["time"] + (40 if n else -2) + 86_400 * (days and n == 7)
        text = time.strftime("%Y-%m-%d", time.gmtime(at)) if days else str(at)
        lines += [f"{row['shown']},{text}\n"] if row["clicked"] or n == 7 else []
    (tmp_path / "clicks.csv").write_text("shown,at\n" + "".join(lines))
    (label,) = drafted(tmp_path, "clicks.csv", "impressions.csv")["labels"]
    assert label["delay"] == (86_400 if days else 40)


def test_outcomes_without_a_readable_time_are_told(tmp_path: Path) -> None:
    rows = impressions()
    split_up(tmp_path, rows)
    text = (tmp_path / "clicks.csv").read_text()
    (tmp_path / "clicks.csv").write_text(re.sub(r",\d{10}\n", ",soon\n", text, count=3))
    dataset = prepared(tmp_path, BY_TIME)
    assert "3 outcomes 'clicked' have no readable time" in "\n".join(dataset.manifest.notes)


def test_payments_of_orders_are_no_outcomes(tmp_path: Path) -> None:
    rows = [{"order_id": f"o{n}"} | row for n, row in enumerate(without(clicks(), "clicked"))]
    save(tmp_path, rows, "orders.csv")
    save(tmp_path, [{"order_id": f"o{n}", "by": f"c{n % 3}"} for n in range(500)], "order_payments.csv")
    assert "outcomes" not in drafted(tmp_path, "orders.csv", "order_payments.csv")


def test_an_order_of_several_items_is_an_outcome_of_each(tmp_path: Path) -> None:
    rows = [{"user_id": f"u{n % 30}", "item_id": f"i{n % 20}", "time": START + 60 * n} for n in range(300)]
    save(tmp_path, rows, "impressions.csv")
    orders = [
        {"user_id": f"u{n}", "at": START + 60 * n + 30, "lines": [{"item": f"i{n % 20}"}, {"item": "i99"}]}
        for n in range(10)
    ]
    save(tmp_path, orders, "orders.jsonl")
    outcome = (
        'files = "orders.jsonl"\nkey = ["user_id", "lines.item"]\nshown_key = ["user_id", "item_id"]\n'
        'time = "at"\nwithin = 60'
    )
    (tmp_path / "log.toml").write_text(LOG.replace('files = "clicks.csv"\nOUTCOME', outcome))
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    label = open_dataset(tmp_path / "out").impressions["label.click"]
    assert int((label == 1).sum()) == 10
