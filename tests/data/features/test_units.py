"""Numbers with a unit beside them: which unit texts have, and what they are worth in it."""

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.features.notations import COMMA, POINT
from clickscale.data.features.texts import PROBLEMS
from clickscale.data.features.units import find_unit
from clickscale.data.features.values import read_field, read_numbers
from clickscale.errors import SchemaError
from clickscale.schema import Field, Label, Notation, Schema

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "unit", "notation", "number"),
    [
        ("120 m²", "m²", POINT, 120.0),
        ("1.200,5 m²", "m²", COMMA, 1200.5),
        ("120m²", "m²", POINT, 120.0),
        ("120", "m²", POINT, 120.0),
        ("120 ha", "m²", POINT, None),
        ("900 EUR/month", "EUR/month", POINT, 900.0),
        ("900 eur / month", "EUR/month", POINT, 900.0),
        ("$12.50/hr", "/hr", POINT, 12.5),
        ("4,5 Sterne", "Sterne", COMMA, 4.5),
        ("1 Stern", "Sterne", COMMA, 1.0),
        ("2 Stunden", "Sterne", COMMA, None),
        ("1.2M views", "views", POINT, 1.2e6),
        ("8.7/10", "/10", POINT, 8.7),
        ("8.7 / 10", "/10", POINT, 8.7),
        ("4/5", "/10", POINT, None),
        ("4.5 out of 5 stars", "out of 5 stars", POINT, 4.5),
        ("12.2 MB", "MB", POINT, 12.2),
        ("900 kB", "MB", POINT, 0.9),
        ("1,1 GB", "MB", COMMA, 1100.0),
        ("35 min", "min", POINT, 35.0),
        ("1 h 30 min", "min", POINT, 90.0),
        ("1h30", "min", POINT, 90.0),
        ("1h 30m", "min", POINT, 90.0),
        ("2 Tage und 3 Std.", "h", COMMA, 51.0),
        ("30 min 1 h", "min", POINT, None),
        ("-5 min", "min", POINT, -5.0),
        ("\N{MINUS SIGN}5 min", "min", POINT, -5.0),
        ("-1 h 30 min", "min", POINT, None),
        ("20-35 min", "min", POINT, 27.5),
        ("12,5% Rabatt", "% Rabatt", COMMA, 12.5),
        ("90", "min", POINT, 90.0),
        ("1:02:33", "s", POINT, 3753.0),
        ("03:25", "s", POINT, 205.0),
        ("03:75", "s", POINT, None),
        ("90:00", "min", POINT, 90.0),
        ("PT1H2M3S", "s", POINT, 3723.0),
        ("P1DT12H", "days", POINT, 1.5),
        ("6 months", "years", POINT, 0.5),
        ("500 m", "km", POINT, 0.5),
        ("5 ft 11 in", "in", POINT, 71.0),
        ("1 lb", "kg", POINT, 0.45359237),
        ("-3 °C", "°C", POINT, -3.0),
        ("", "km", POINT, NAN),
        ("N/A", "km", POINT, NAN),
        ("-", "Sterne", POINT, NAN),
        ("far", "km", POINT, NAN),
    ],
)
def test_a_text_is_worth_its_number_in_the_unit(
    text: str, unit: str, notation: Notation, number: float | None
) -> None:
    numbers, codes = read_numbers(pa.array([text, "1"]), notation, unit)
    np.testing.assert_allclose(numbers, [NAN if number is None else number, 1.0], rtol=1e-11)
    assert [PROBLEMS[code] for code in codes] == ["bad_number" if number is None else "", ""]


@pytest.mark.parametrize(
    ("texts", "notation", "unit"),
    [
        (["120 m²", "85 m²", "99 m²"], POINT, "m²"),
        (["1.200 m²", "85 m²", "99 m²"], COMMA, "m²"),
        (["80qm", "95qm", "110qm"], POINT, "qm"),
        (["900 EUR/month", "1250 EUR/month", "80 EUR/month"], POINT, "EUR/month"),
        (["$12.50/hr", "$13.00/hr", "$20.25/hr"], POINT, "/hr"),
        (["4,5 Sterne", "1 Stern", "3,0 Sterne"], COMMA, "Sterne"),
        (["3 rooms", "2 rooms", "1 room", "0"], POINT, "rooms"),
        (["1.2M views", "950 views", "12K views"], POINT, "views"),
        (["8.7/10", "9/10", "6.5/10"], POINT, "/10"),
        (["4/5", "3/5", "5/5"], POINT, "/5"),
        (["4.5 out of 5 stars", "3.0 out of 5 stars", "4.0 out of 5 stars"], POINT, "out of 5 stars"),
        (["35 min", "40 min", "5 min"], POINT, "min"),
        (["3 days", "1 day", "14 days"], POINT, "days"),
        (["5% off", "10% off", "25% off"], POINT, "% off"),
        (["12.2 MB", "15 MB", "900 KB", "1.1 GB"], POINT, "MB"),
        (["90 min", "1 h 30 min", "1h30", "2h"], POINT, "min"),
        (["500 m", "1,2 km", "3 km"], COMMA, "km"),
        (["5 km", "12 km", "N/A", None, "7 km"], POINT, "km"),
        (["PT4M13S", "PT1H", "PT10S"], POINT, "s"),
        (["2 GB"] * 600 + ["4 GB", "8 GB", "call us"], POINT, "GB"),
    ],
)
def test_the_unit_of_a_column_is_found(texts: list[str | None], notation: Notation, unit: str) -> None:
    assert find_unit(pa.array(texts), "x") == (notation, unit)


@pytest.mark.parametrize(
    "texts",
    [
        ["A4", "A5", "A3"],
        ["3XL", "2XL", "4XL"],
        ["3 XL", "2 XL", "4 XL"],
        ["10W-40", "5W-30", "0W-20"],
        ["2nd", "3rd", "4th"],
        ["4th", "5th", "6th"],
        ["195/65R15", "205/65R15", "215/65R15"],
        ["24/7", "26/7", "12/7"],
        ["1/2", "2/3", "3/4"],
        ["3/2024", "4/2024", "5/2024"],
        ["01/12", "02/12", "03/12"],
        ["1.2.3", "1.2.4", "2.0.0"],
        ["2024-01-01", "2024-01-02", "2024-01-03"],
        ["03:25", "12:10", "4:05"],
        ["3G", "4G", "5G"],
        ["2D", "3D", "4D"],
        ["12A", "13A", "14A"],
        ["3 Series", "5 Series", "7 Series"],
        ["5 km", "6 km"],
        ["5 km", "6 km", "near"],
        ["10-20 min", "20-35 min", "35-50 min"],
        ["4.5 (123)", "4.1 (123)", "3.9 (123)"],
        ["1.0 beta", "2.0 beta", "3.0 beta"],
        ["5 km", "6 km", "7 kg"],
        ["5 apples", "6 pears", "7 plums"],
        ["Gate 5 east", "Gate 6 east", "Gate 7 east"],
    ],
)
def test_codes_and_numbers_of_several_units_have_none(texts: list[str]) -> None:
    assert find_unit(pa.array(texts), "x") is None


def test_the_name_tells_durations_from_times_of_day_and_codes_from_numbers() -> None:
    clocks = pa.array(["1:02:33", "03:25", "4:05"])
    assert find_unit(clocks, "runtime") == (POINT, "s")
    assert find_unit(clocks, "starts") is None
    lengths = pa.array(["12 m", "1.2 km", "5 m"])
    assert find_unit(lengths, "height") == (POINT, "m")
    assert find_unit(lengths, "model_code") is None


def test_numbers_that_are_no_texts_are_in_the_unit() -> None:
    field = Field(name="x", kind="numeric", unit="km")
    assert read_field(field, pa.array([1.5, 2.0])).data.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        (Field(name="x", unit="km"), "only numeric fields have a unit"),
        (Field(name="x", kind="numeric", unit="10"), "unit '10' must be what stands behind numbers"),
    ],
)
def test_a_unit_that_no_number_can_have_is_an_error(field: Field, problem: str) -> None:
    schema = Schema(
        name="log",
        user=Field(name="user"),
        item=Field(name="item"),
        labels=(Label(name="click"),),
        context=(field,),
    )
    with pytest.raises(SchemaError, match=problem):
        schema.validate()
