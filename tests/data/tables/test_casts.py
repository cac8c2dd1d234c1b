"""Raw columns to integers, numbers and seconds."""

import datetime as dt

import pyarrow as pa
import pytest

from clickscale.data.tables.casts import detect_unit, integers, numbers, seconds


def test_whole_numbers_in_any_writing_become_integers():
    assert integers(pa.array(["1", " 2", None])).to_pylist() == [1, 2, None]
    assert integers(pa.array(["3.0", "4"])).to_pylist() == [3, 4]
    assert integers(pa.array([1.0, None])).to_pylist() == [1, None]


@pytest.mark.parametrize("values", [["1", "x"], [1.5, 2.0], ["99999999999999999999"], [float("nan"), 1.0]])
def test_a_column_with_a_value_that_is_no_integer_stays_as_it_is(values):
    found = integers(pa.array(values))
    assert not pa.types.is_integer(found.type)
    assert str(found.to_pylist()) == str(values)


def test_large_ids_are_never_rounded():
    assert integers(pa.array(["9007199254740993", "3.0"])).to_pylist() == ["9007199254740993", "3.0"]
    assert integers(pa.array(["9007199254740993", "3"])).to_pylist() == [9007199254740993, 3]


def test_numbers_keep_infinity_for_preparation_to_refuse():
    assert numbers(pa.array(["1e3", "inf", None])).to_pylist() == [1000.0, float("inf"), None]
    assert numbers(pa.array(["1", "cheap"])).to_pylist() == ["1", "cheap"]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1_511_848_894, 1_511_848_894, 1_511_848_894_000], "s"),
        ([1_650_812_741_436], "ms"),
        (["1650812741436000", None], "us"),
        ([1_650_812_741_436_000_000], "ns"),
        (["2022-04-10", "2022-04-11"], "iso"),
        (["1511848894", "1511848895", "broken"], "s"),
        ([dt.datetime(2020, 1, 1)], "iso"),
        ([], "s"),
    ],
)
def test_the_unit_follows_from_the_size_of_the_middle_value(values, unit):
    assert detect_unit(pa.array(values)) == unit


def test_seconds_are_cut_towards_the_past_and_unreadable_values_are_named():
    times, bad = seconds(pa.array(["1511848894.9", "x", None, "-1.5"]), "s")
    assert times.to_pylist() == [1_511_848_894, None, None, -2]
    assert bad.tolist() == [False, True, False, False]


def test_milliseconds_become_seconds():
    assert seconds(pa.array([1_650_812_741_999, -1]), "ms")[0].to_pylist() == [1_650_812_741, -1]


def test_iso_times_with_and_without_zones_are_utc():
    values = ["2022-04-10 11:00:00.9", "2022-04-10T11:00:00Z", "2022-04-10T13:00:00+02:00", "no", None]
    times, bad = seconds(pa.array(values))
    assert times.to_pylist() == [1_649_588_400, 1_649_588_400, 1_649_588_400, None, None]
    assert bad.tolist() == [False, False, False, True, False]


def test_arrow_moments_of_any_resolution_become_seconds():
    moment = dt.datetime(2020, 1, 1, 0, 0, 1, 500_000)
    for kind in (pa.timestamp("ms"), pa.timestamp("ns", "UTC")):
        assert seconds(pa.array([moment], kind))[0].to_pylist() == [1_577_836_801]
    assert seconds(pa.array([dt.date(2020, 1, 1)]))[0].to_pylist() == [1_577_836_800]
