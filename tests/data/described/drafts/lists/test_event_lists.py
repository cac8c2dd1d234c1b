"""Lists of events in the lines of a log."""

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, write_csv


def sessions(shown: str, acts: tuple[str, ...], kind: str = "type") -> list[dict[str, Any]]:
    """Lines of sessions with four shown items each, some of which are followed by acts."""
    draw = random.Random(3)
    lines = []
    for number in range(400):
        begin, events = START + 3_600 * number, list[dict[str, Any]]()
        for place, item in enumerate(draw.sample(range(40), 4)):
            seen = {"aid": item, "ts": 1_000 * (begin + place), kind: shown, "slot": place}
            events += [seen] * bool(shown)
            for later, act in enumerate(acts):
                if draw.random() < 0.3:
                    events.append({"aid": item, "ts": 1_000 * (begin + 30 + later), kind: act})
        lines.append({"session": number, "user_id": f"u{number % 50}", "sent": begin + 600, "events": events})
    return lines


def save(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "sessions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_impressions_and_clicks_in_lists_are_joined(tmp_path: Path) -> None:
    log = save(tmp_path, sessions("impression", ("click",)))
    articles = write_csv(tmp_path / "articles.csv", [{"aid": n, "kind": f"k{n % 4}"} for n in range(40)])
    (tmp_path / "draft.toml").write_text(guess([log, articles], tmp_path))
    tree = tomllib.loads((tmp_path / "draft.toml").read_text())
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user_id", "events.aid")
    assert (tree["impressions"]["unnest"], tree["impressions"]["time"]) == ("events", "events.ts")
    assert tree["impressions"]["where"] == "events.type == 'impression'"
    (outcome,) = tree["outcomes"]
    assert (outcome["unnest"], outcome["where"]) == ("events", "events.type == 'click'")
    assert tree["items"]["item"] == "aid"
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    data = open_dataset(tmp_path / "data")
    assert data.manifest.counts["impressions"] == 1_600


def test_a_few_odd_events_change_no_draft(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    lines = sessions("impression", ("click",))
    texts = [guess([save(tmp_path, lines)], tmp_path)]
    lines[7]["events"][0]["slot"] = "first"
    for line in lines[::2]:
        line["events"] += [None] * 2
    texts.append(guess([save(tmp_path / "odd", lines)], tmp_path / "odd"))
    trees = [tomllib.loads(text) for text in texts]
    for table in ("user", "item", "labels", "outcomes"):
        assert trees[0][table] == trees[1][table]
    for option in ("unnest", "where", "time"):
        assert trees[0]["impressions"][option] == trees[1]["impressions"][option]


@pytest.mark.parametrize(
    ("shown", "acts", "unnest"),
    [
        ("show", ("enter",), "events"),
        ("", ("clicks", "carts", "orders"), "events"),
        ("cheap", ("dear",), ""),
        ("impression", (), ""),
    ],
)
def test_lists_are_events_if_they_say_what_happened(
    tmp_path: Path, shown: str, acts: tuple[str, ...], unnest: str
) -> None:
    assert read_head(save(tmp_path, sessions(shown, acts))).unnest == unnest


def test_the_rows_of_lists_are_estimated(tmp_path: Path) -> None:
    lines = sessions("impression", ("click",))
    head = read_head(save(tmp_path, lines))
    rows = sum(len(line["events"]) for line in lines)
    assert head.rows == rows
    assert abs(head.estimated_rows - rows) < 0.05 * rows


def test_sessions_of_clicks_and_orders_are_positives_of_their_articles(tmp_path: Path) -> None:
    lines = sessions("", ("clicks", "carts", "orders"))
    log = save(tmp_path, [{"session": line["session"], "events": line["events"]} for line in lines])
    tree = tomllib.loads(guess([log], tmp_path))
    assert (tree["user"]["column"], tree["item"]["column"]) == ("session", "events.aid")
    assert tree["impressions"]["time"] == "events.ts"
    assert tree["negatives"] == 4
    assert [field["column"] for field in tree["behaviors"]["fields"]] == ["events.type"]


@pytest.mark.parametrize(
    ("beside", "unnest"),
    [
        (("item_id",), ""),
        (("clicked",), ""),
        (("item_id", "clicked"), ""),
        (("campaign_id", "app_id"), "before"),  # of a session
    ],
)
def test_what_happened_before_an_impression_is_no_list_of_impressions(
    tmp_path: Path, beside: tuple[str, ...], unnest: str
) -> None:
    own = {
        "item_id": lambda number: number % 40,
        "clicked": lambda number: number % 4 // 3,
        "campaign_id": lambda number: 9_000 + number % 50,
        "app_id": lambda number: number % 3,
    }
    lines = [
        {"user_id": line["user_id"], "ts": line["sent"], "before": line["events"]}
        | {name: own[name](number) for name in beside}
        for number, line in enumerate(sessions("", ("click", "purchase")))
    ]
    assert read_head(save(tmp_path, lines)).unnest == unnest
