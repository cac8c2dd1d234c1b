"""Numbers as people write them: which notation texts are in, and what they are worth."""

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.features.notations import COMMA, POINT, detect_notation, in_notation
from clickscale.data.features.texts import PROBLEMS
from clickscale.data.features.values import read_field, read_numbers
from clickscale.schema import Field

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1,234.5", 1234.5, None),
        ("1.234,5", None, 1234.5),
        ("1,299", 1299.0, 1.299),
        ("1.299", 1.299, 1299.0),
        ("12,99", None, 12.99),
        ("12.99", 12.99, None),
        ("$1,234.50", 1234.5, None),
        ("-$3.20", -3.2, None),
        ("US$ -3.20", -3.2, None),
        ("4,512.30 USD", 4512.3, None),
        ("1 234,50\N{NO-BREAK SPACE}€", None, 1234.5),
        ("1'234.50", 1234.5, None),
        ("\N{MINUS SIGN}5,25", None, -5.25),
        ("12.3%", 12.3, None),
        ("12,3 %", None, 12.3),
        ("3.5k", 3500.0, None),
        ("1,2 Mio. €", None, 1.2e6),
        ("2bn", 2e9, 2e9),
        ("7", 7.0, 7.0),
        ("1e-05", 1e-5, 1e-5),
        ("", NAN, NAN),
        ("-", NAN, NAN),
        ("N/A", NAN, NAN),
        ("free", NAN, NAN),
        ("$", NAN, NAN),
        ("1e5k", None, None),
        ("1,23,4", None, None),
        ("5 kg", None, None),
    ],
)
def test_a_text_is_worth_what_its_notation_says(text: str, point: float | None, comma: float | None) -> None:
    for notation, number in ((POINT, point), (COMMA, comma)):
        numbers, codes = read_numbers(pa.array([text, "1"]), notation)
        np.testing.assert_equal(numbers.tolist(), [NAN if number is None else number, 1.0])
        assert [PROBLEMS[code] for code in codes] == ["bad_number" if number is None else "", ""]


def test_numbers_that_are_no_texts_need_no_notation() -> None:
    field = Field(name="x", kind="numeric", notation=COMMA)
    assert read_field(field, pa.array([1.299, 2.0])).data.tolist() == [1.299, 2.0]
    assert in_notation(["12,99", 1.299, 5, None, 1e-7], COMMA) == ["12,99", "1,299", "5", None, "1e-07"]
    assert in_notation(["$3", 1.299], POINT) == ["$3", "1.299"]


@pytest.mark.parametrize(
    ("texts", "notation"),
    [
        (["1,234円", "980円", "12,800円"], POINT),
        (["899元", "1,299元"], POINT),
        (["1.234,50 TL", "89,90 TL"], COMMA),
        (["12,99", "9,50", "100,00"], COMMA),
        (["2,3174", "0,6205", "1,0629"], COMMA),
        (["29,3", "11,2", "7,5"], COMMA),
        (["4,5", "3,0", "2,5", "1,0"], COMMA),
        (["-5,25", "3,1"], COMMA),
        (["1.234,50 €", "2,00 €", None], COMMA),
        (["1.299 €", "899 €"], COMMA),
        (["1.234.567", "2.345.678"], COMMA),
        (["$1.299", "$2.159"], POINT),
        (["$1,234.50", "$3.20", "N/A", ""], POINT),
        (["12.3%", "3%"], POINT),
        (["3.5k", "1.2M", "12"], POINT),
        (["1,299", "899", "12,500"], POINT),
        (["1'234.50", "2"], POINT),
        (["0%", "0", "5%"], POINT),
        (["0,7", "0,3", "0,9"], COMMA),
        (["12,5", "12,05", "9", "13,25"], COMMA),
        (["12,7", "9,9", "7,12", "7,7"], None),
        (["007,012", "012,001"], None),
        (["1,299", "9,500"], POINT),
        (["1,234,567", "999"], POINT),
        (["123,456.5", "$99.0"], POINT),
        (["123,456,789", "123,456", "789"], None),
        (["123,456,789", "123,456,123"], None),
        (["123,456", "789"], None),
        (["3,17", "5", "3,17,22"], None),
        (["3,17", "5,22", "8,13"], None),
        (["1,2", "2,1", "3,4"], None),
        (["123 456", "123 457"], None),
        (["1,299", "1500"], None),
        (["12%", "0.3"], None),
        (["5 EUR", "6 USD"], None),
        (["ADX123", "ADX124"], None),
        (["300x250"], None),
        (["12.05.2024", "13.05.2024"], None),
        (["1.2.3", "1.2.4"], None),
        (["free", "$5"], None),
        ([None, "-"], None),
    ],
)
def test_a_notation_is_told_by_all_values_together(texts: list[str | None], notation: str | None) -> None:
    assert detect_notation(pa.array(texts)) == notation
