"""Labels of answers to offers, and of outcomes in further languages."""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from clickscale.data.described.drafts.guess import guess
from tests.data.described.drafts.test_guess import START, write_csv


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (
            {"action": lambda n, c: ("like" if n % 5 else "superlike") if c else "pass"},
            {"name": "action", "condition": "action != 'pass'"},
        ),
        (
            {"offer_outcome": lambda n, c: "ACCEPTED" if c else ("DECLINED" if n % 3 else "TIMEOUT")},
            {"name": "offer_outcome", "condition": "offer_outcome == 'ACCEPTED'"},
        ),
        (  # what is not answered yet is unknown
            {"OFFER_STATUS": lambda n, c: "ACCEPTED" if c else ("DECLINED", "EXPIRED", "PENDING")[n % 3]},
            {
                "name": "ACCEPTED",
                "condition": "OFFER_STATUS == 'ACCEPTED'",
                "known": "OFFER_STATUS != 'PENDING'",
            },
        ),
        (  # what was answered to an earlier offer, or on which side it stood, is context
            {
                "previous_response": lambda n, c: "accepted" if n % 3 else "declined",
                "last_action": lambda n, c: "click" if n % 4 else "ignored",
                "estate_side": lambda n, c: "left" if n % 7 < 3 else "right",
                "response": lambda n, c: "accepted" if c else "declined",
            },
            {"name": "response", "condition": "response == 'accepted'"},
        ),
        (
            {"klikniecie": lambda n, c: "tak" if c else "nie"},
            {"name": "klikniecie", "condition": "klikniecie == 'tak'"},
        ),
        (
            {"tıklandı": lambda n, c: "evet" if c else "hayır"},
            {"name": "tiklandi", "condition": "tıklandı == 'evet'"},
        ),
        (
            {"valittu": lambda n, c: "kyllä" if c else "ei", "maa": lambda n, c: "AB"[n % 2]},
            {"name": "valittu", "condition": "valittu == 'kyllä'"},
        ),
        (  # beside yes, any other word of an outcome means no
            {"klikket": lambda n, c: "ja" if c else "ikke", "odd": lambda n, c: str(n % 2)},
            {"name": "klikket", "condition": "klikket == 'ja'"},
        ),
        (
            {"WARENKORB": lambda n, c: "X" if c else "", "TESTKZ": lambda n, c: "" if n % 50 else "X"},
            {"name": "warenkorb", "condition": "WARENKORB != ''"},
        ),
        (
            {"KLICK_KZ": lambda n, c: "X" if c else ""},
            {"name": "klick_kz", "condition": "KLICK_KZ != ''"},
        ),
    ],
)
def test_the_column_is_the_label(
    tmp_path: Path, columns: dict[str, Callable[[int, bool], str]], label: dict[str, str]
) -> None:
    draw = random.Random(0)
    rows = [
        {"shown_at": START + 60 * n, "user_id": draw.randrange(300), "item_id": draw.randrange(100)}
        | {name: make(n, draw.random() < 0.25) for name, make in columns.items()}
        | {"device": draw.randrange(3)}
        for n in range(2_000)
    ]
    assert tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path))["labels"] == [label]


@pytest.mark.parametrize(("most", "warned"), [(1, False), (9, True)])
def test_a_draft_warns_of_rows_that_count_several_impressions(
    tmp_path: Path, most: int, warned: bool
) -> None:
    draw = random.Random(1)
    rows = [
        {"date": f"2024-05-{1 + n // 100:02d}", "hour": n // 4 % 24, "ad_id": f"a{draw.randrange(30)}"}
        | {"impressions": draw.randrange(1, most + 1), "clicks": draw.choice([0, 0, 0, 1, 2])}
        for n in range(2_000)
    ]
    text = guess([write_csv(tmp_path / "report.csv", rows)], tmp_path)
    assert tomllib.loads(text)["labels"][0]["condition"] == "clicks >= 1"
    assert ("% of the rows count several impressions (impressions)" in text) == warned


def test_a_draft_without_a_label_names_the_columns_that_say_yes_or_no(tmp_path: Path) -> None:
    draw = random.Random(2)
    rows = [
        {"user_id": draw.randrange(50), "item_id": draw.randrange(40), "time": START + 60 * n}
        | {
            "valittu": draw.choice(["kyllä", "ei"]),
            "toinen": draw.choice(["kyllä", "ei"]),
            "merkki": draw.choice(["X", ""]),
            "maa": draw.choice("AB"),
        }
        for n in range(900)
    ]
    text = guess([write_csv(tmp_path / "log.csv", rows)], tmp_path)
    assert '# Columns with two values, such as 0 and 1: "valittu", "toinen", "merkki".' in text
