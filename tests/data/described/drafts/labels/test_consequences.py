"""Labels that no word tells: columns on which others hang that came of an outcome."""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from clickscale.data.described.drafts.guess import guess
from tests.data.described.drafts.test_guess import START, write_csv

Columns = dict[str, Callable[[int, bool], object]]
TIME = 60  # seconds between rows


def coin(n: int, clicked: bool) -> int:
    return n % 2


def drafted(folder: Path, columns: Columns) -> tuple[str, list[dict[str, object]]]:
    """The draft of a log with columns made of the number of the row and of its outcome, and its labels."""
    draw, chance = random.Random(0), random.Random(1)
    rows = [
        {"shown_at": START + TIME * n, "user_id": draw.randrange(60), "item_id": draw.randrange(40)}
        | {name: make(n, clicked) for name, make in columns.items()}
        for n, clicked in enumerate(chance.random() < 0.25 for _ in range(1_000))
    ]
    text = guess([write_csv(folder / "log.csv", rows)], folder)
    return text, tomllib.loads(text).get("labels", [])


def later(n: int, clicked: bool) -> object:
    return START + TIME * n + 9 if clicked else ""


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (
            {"is_call": lambda n, c: int(c), "call_dt": later, "is_odd": coin},
            {"name": "call", "column": "is_call", "delay": 9},
        ),
        (
            {"zu": lambda n, c: "b" if c else "a", "call_dt": later, "is_odd": coin},
            {"name": "zu", "condition": "zu == 'b'", "delay": 9},
        ),
        (
            {"zu": lambda n, c: "q" if c else "", "viewing_minutes": lambda n, c: n % 9 + 1 if c else 0},
            {"name": "zu", "condition": "zu != ''"},
        ),
        (
            {
                "selections": lambda n, c: int(c) * (1 + n % 3),
                "viewing_minutes": lambda n, c: n % 9 + 1 if c else 0,
            },
            {"name": "selections", "condition": "selections >= 1"},
        ),
    ],
)
def test_a_column_on_which_others_hang_is_the_label(
    tmp_path: Path, columns: Columns, label: dict[str, object]
) -> None:
    text, labels = drafted(tmp_path, columns)
    assert labels == [label]
    assert "has values just there" in text


@pytest.mark.parametrize(
    "columns",
    [
        # what was known before: a discount, and a date that lies ahead
        {"promo": lambda n, c: int(c), "discount": lambda n, c: 5 if c else 0, "is_odd": coin},
        {"promo": lambda n, c: int(c), "valid_until": later, "is_odd": coin},
        # an earlier visit
        {"came": lambda n, c: int(c), "visit_dt": lambda n, c: START - 900 if c else "", "is_odd": coin},
    ],
)
def test_what_was_known_before_makes_no_label(tmp_path: Path, columns: Columns) -> None:
    _, labels = drafted(tmp_path, columns)
    assert labels == []


def test_beside_another_outcome_ratings_of_a_few_rows_came_of_it(tmp_path: Path) -> None:
    columns: Columns = {
        "Stars": lambda n, c: n % 5 + 1 if c and n % 3 == 0 else "",
        "Started": lambda n, c: "Yes" if c else "No",
        "odd": coin,
    }
    _, labels = drafted(tmp_path, columns)
    assert labels == [{"name": "Started", "column": "Started"}]


def test_what_says_where_a_later_moment_stands_came_after_the_impression(tmp_path):
    columns = {
        "clicked": lambda n, c: int(c),
        "searched": lambda n, c: int(n % 25 == 0),
        "search_fits": lambda n, c: int(n % 50 == 0),
        "search_ms": lambda n, c: 1000 * (START + TIME * n + 30) if n % 25 == 0 else "",
        "is_odd": coin,
    }
    text, labels = drafted(tmp_path, columns)
    assert [label["name"] for label in labels] == ["clicked"]
    fields = tomllib.loads(text)["impressions"]["fields"]
    assert [field["name"] for field in fields] == ["is_odd"]
    assert "left out: search_fits (it says something of what happened at search_ms" in text
