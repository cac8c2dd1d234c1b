"""Ranges and bounds as people write them: what they are worth, and which columns hold them."""

import random

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.features.notations import COMMA, POINT
from clickscale.data.features.ranges import ends_of, find_ranges
from clickscale.data.features.texts import PROBLEMS
from clickscale.data.features.values import read_numbers
from clickscale.schema import Notation

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "notation", "unit", "number"),
    [
        ("400-800", POINT, "", 600.0),
        ("400–800", POINT, "", 600.0),
        ("€400 – €800", POINT, "", 600.0),
        ("400 - 800 €", POINT, "", 600.0),
        ("$40-60k", POINT, "", 50_000.0),
        ("1.000 bis 2.000", COMMA, "", 1500.0),
        ("von 1,5 bis 2,5 Mio. €", COMMA, "", 2e6),
        ("between 5 and 10", POINT, "", 7.5),
        ("de 400 à 800 €", COMMA, "", 600.0),
        ("5-10%", POINT, "", 7.5),
        ("65+", POINT, "", 65.0),
        ("<10", POINT, "", 10.0),
        ("under 25", POINT, "", 25.0),
        ("ab 400 €", COMMA, "", 400.0),
        ("5 o más", COMMA, "", 5.0),
        ("~ 400", POINT, "", 400.0),
        ("30–60 min", "", "min", 45.0),
        ("30–60 min", "", "h", 0.75),
        ("400-800 EUR/month", "", "EUR/month", 600.0),
        ("10+ years", "", "years", 10.0),
        ("65 years and over", "", "years", 65.0),
        ("€54k - €75k", POINT, "per year", 64_500.0),
        ("€44,000 - €55,000 per year", POINT, "per year", 49_500.0),
        ("competitive", POINT, "per year", NAN),
        ("negotiable", POINT, "", NAN),
        ("800-400", POINT, "", None),
        ("01-05", POINT, "", None),
        ("2024-01-31", POINT, "", None),
        ("10W-40", POINT, "", None),
        ("A4-A5", POINT, "", None),
        ("09:00-17:00", POINT, "", None),
        ("1e-05", POINT, "", 1e-5),
    ],
)
def test_a_range_is_its_middle_and_a_bound_its_number(
    text: str, notation: Notation, unit: str, number: float | None
) -> None:
    numbers, codes = read_numbers(pa.array([text, "1"]), notation, unit)
    np.testing.assert_allclose(numbers, [NAN if number is None else number, 1.0])
    assert [PROBLEMS[code] for code in codes] == ["bad_number" if number is None else "", ""]


def test_a_unit_behind_the_second_end_is_that_of_both() -> None:
    assert ends_of("400 - 800 EUR/month") == ("400 EUR/month", "800 EUR/month")
    assert ends_of("10+ years") == ("10 years", "10 years")
    assert ends_of("5 km") is None


_DRAWN = [(n, n + random.Random(n).randint(1, 9) * 50) for n in range(600, 4600, 50)]


@pytest.mark.parametrize(
    ("texts", "notation", "unit"),
    [
        ([f"{low}-{high}" for low, high in _DRAWN], POINT, ""),
        ([f"€{low} – €{high}" for low, high in _DRAWN], POINT, ""),
        ([f"{low:,} bis {high:,}".replace(",", ".") for low, high in _DRAWN], COMMA, ""),
        ([f"{low}-{high} EUR/month" for low, high in _DRAWN], POINT, "EUR/month"),
        ([f"{low}-{high} min" for low, high in _DRAWN], POINT, "min"),
        ([f"{low}+" for low, _ in _DRAWN], POINT, ""),
        (
            [f"€{low / 100:.0f}k - €{high / 100:.0f}k" for low, high in _DRAWN]
            + [f"€{low},000 - €{high},000 per year" for low, high in _DRAWN if high < 1000],
            POINT,
            "per year",
        ),
        ([f"{low}-{high}" if low % 200 else "VB" for low, high in _DRAWN], POINT, ""),
        ([f"{low}-{high}" if low % 200 else str(low) for low, high in _DRAWN], POINT, ""),
    ],
)
def test_columns_of_many_ranges_have_a_notation(texts: list[str], notation: Notation, unit: str) -> None:
    assert find_ranges(pa.array(texts), "x") == (notation, unit)


@pytest.mark.parametrize(
    "texts",
    [
        ["18-24", "25-34", "65+"] * 30,  # few values are learned better each for itself
        [f"{n}-{1 + 7919 * n % 9000}" for n in range(1, 99)],
        [f"{1980 + n % 40}-{n % 12 + 1:02d}" for n in range(99)],
        [f"{n % 7}-{n % 11}" for n in range(99)],
        [f"1-{n}" for n in range(2, 99)],  # codes that begin alike
        [f"{low}-{high}" if low % 100 else f"by phone {low}" for low, high in _DRAWN],
        [f"{n}W-{n + 30}" for n in range(99)],
        [f"{low}-{high} per {'year' if low % 100 else 'month'}" for low, high in _DRAWN],
        [str(n) for n in range(99)],
    ],
)
def test_codes_and_a_few_groups_are_no_ranges(texts: list[str]) -> None:
    assert find_ranges(pa.array(texts), "x") is None


def test_the_name_tells_codes_of_two_numbers() -> None:
    texts = pa.array([f"{low}-{high}" for low, high in _DRAWN])
    assert find_ranges(texts, "model_no") is None
    assert find_ranges(texts, "productId") is None
