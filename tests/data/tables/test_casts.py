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
        (["638500000000000000", "638500000010000000"], "ticks"),
        (["45413.348611", "45414.000012"], "excel"),
        (["45413.35", "41000.5"], "s"),
        ([45_413, 45_414], "s"),
        (["2022-04-10", "2022-04-11"], "iso"),
        (["1511848894", "1511848895", "broken"], "s"),
        ([dt.datetime(2020, 1, 1)], "iso"),
        ([], "s"),
        ([20_240_131, 20_240_201], "iso"),
        (["2024013108", "2024013109"], "iso"),
        ([202_401_310_829, 202_401_310_830], "iso"),
        ([20_240_131_082_908, 20_240_131_082_909], "iso"),
        ([20_240_131_082_908, 20_240_131_082_979], "ms"),
        ([1_900_000_000, 2_014_102_100], "s"),
        ([14_102_100, 14_102_101, 14_102_223], "YYMMDDHH"),
        ([14_102_100, 14_102_101], "s"),
        ([14_102_100, 14_102_101, 14_102_224], "s"),
        ([20_120_100, 20_120_101, 20_121_223], "YYMMDDHH"),
        ([20_120_112, 20_120_113, 20_121_223], "iso"),
    ],
)
def test_the_unit_follows_from_the_size_of_the_middle_value(values, unit):
    assert detect_unit(pa.array(values)) == unit


def test_seconds_are_cut_towards_the_past_and_unreadable_values_are_named():
    times, bad = seconds(pa.array(["1511848894.9", "x", None, "-1.5"]), "s")
    assert times.to_pylist() == [1_511_848_894, None, None, -2]
    assert bad.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2014102107", dt.datetime(2014, 10, 21, 7)),
        ("1er mai 2024", dt.datetime(2024, 5, 1)),
        ("1º de maio de 2024", dt.datetime(2024, 5, 1)),
        ("segunda-feira, 6 de maio de 2024", dt.datetime(2024, 5, 6)),
        ("lundi 6 mai 2024 à 10:30", dt.datetime(2024, 5, 6, 10, 30)),
        ("Sunday, May 5th, 2024 3:07 PM", dt.datetime(2024, 5, 5, 15, 7)),
        ("31-Mär-24", dt.datetime(2024, 3, 31)),
        ("201410210730", dt.datetime(2014, 10, 21, 7, 30)),
        ("20141021073009", dt.datetime(2014, 10, 21, 7, 30, 9)),
        ("01-Jan-1995", dt.datetime(1995, 1, 1)),
        ("1 january 1995", dt.datetime(1995, 1, 1)),
        ("September 30, 1922", dt.datetime(1922, 9, 30)),
        ("Sep 30, 1922 10:11:12", dt.datetime(1922, 9, 30, 10, 11, 12)),
        ("31.12.1999 23:59", dt.datetime(1999, 12, 31, 23, 59)),
        ("January 1, 2020 2:28 PM", dt.datetime(2020, 1, 1, 14, 28)),
        ("1-Jan-2010 12:05 am", dt.datetime(2010, 1, 1, 0, 5)),
        ("1-Jan-1995 9:05", dt.datetime(1995, 1, 1, 9, 5)),
        ("1.2.2000 9:05:06", dt.datetime(2000, 2, 1, 9, 5, 6)),
        ("Sept 5, 2010", dt.datetime(2010, 9, 5)),
        ("January 1, 2020 14:28 PM", None),
        ("31.11.1999", None),
        ("31-Foo-1999", None),
        ("12-11-1999", None),
        ("1.2.3", None),
    ],
)
def test_dates_whose_month_is_told_are_read_and_others_are_not(text, moment):
    times, bad = seconds(pa.array([text, "2020-01-01"]), "iso")
    expected = moment and int(moment.replace(tzinfo=dt.UTC).timestamp())
    assert times.to_pylist() == [expected, 1_577_836_800]
    assert bad.tolist() == [moment is None, False]


@pytest.mark.parametrize(
    ("texts", "unit", "moments"),
    [
        (["31/12/2019 8:05", "1/2/2020"], "DMY", [1_577_779_500, 1_580_515_200]),
        (["12/31/2019 08:05:09", "2-1-2020"], "MDY", [1_577_779_509, 1_580_515_200]),
        (["1/2/2020", "2/1/2020"], "iso", [None, None]),  # either may be the day
        (["13/2/2019", "2/13/2019"], "iso", [None, None]),
        (["31/12/2019", "31/2/2019", "soon"], "DMY", [1_577_750_400, None, None]),
        (["31/12/2019", "30/12/2019", "2020-01-02"], "DMY", [1_577_750_400, 1_577_664_000, 1_577_923_200]),
        (["31/12/2019", "30/12/2019", "3-Jan-2020"], "DMY", [1_577_750_400, 1_577_664_000, 1_578_009_600]),
        (["31/12/2023 10:00 PM", "05/04/2024 10:00 PM"], "DMY", [1_704_060_000, 1_712_354_400]),
        (["1/31/2024 8:29:08 AM", "2/1/2024 9:00:00 PM"], "iso", [1_706_689_748, 1_706_821_200]),
    ],
)
def test_a_day_above_twelve_tells_the_order_of_a_column_of_dates(texts, unit, moments):
    assert detect_unit(pa.array(texts)) == unit
    times, bad = seconds(pa.array(texts), unit)
    assert times.to_pylist() == moments
    assert bad.tolist() == [moment is None for moment in moments]


def test_hours_of_two_digit_years_are_read_from_texts_and_numbers():
    hours = [1_413_849_600, 1_262_304_000 - 3600, None]
    for values in (["14102100", " 09123123", None], [14_102_100, 9_123_123, None]):
        times, bad = seconds(pa.array(values), "YYMMDDHH")
        assert (times.to_pylist(), bad.any()) == (hours, False)
    assert seconds(pa.array(["14102124", "0"]), "YYMMDDHH")[1].tolist() == [True, True]


@pytest.mark.parametrize("told", ["1704067200", "2024-01-01", "01.01.2024"])
def test_texts_that_stand_for_nothing_neither_hide_the_unit_nor_are_unreadable(told):
    values = pa.array(["", " ", "-", "N/A", None, told])
    read, bad = seconds(values)
    assert read.to_pylist() == [None] * 5 + [1_704_067_200]
    assert not bad.any()


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


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (["11/14/23 22:41", "11/15/23 00:01"], "MDY"),
        (["14/11/23", "15/11/23"], "DMY"),
        (["23/11/14", "23/11/15"], "iso"),  # two figures at the end that change are no year
        (["23-11-14 22:41", "23-11-15 22:41"], "iso"),
    ],
)
def test_two_figures_at_the_end_of_a_date_are_a_year_if_they_stay(texts, unit):
    assert detect_unit(pa.array(texts)) == unit


@pytest.mark.parametrize("text", ["1.2.34", "10.11.12", "23/11/14"])
def test_versions_and_dates_of_unknown_order_are_no_times(text):
    assert seconds(pa.array([text]), "iso")[1].tolist() == [True]


def test_dates_with_milliseconds_in_one_number_are_times():
    numbers = [20_130_606_000_000_889, 20_130_606_235_959_999]
    for values in (pa.array(numbers), pa.array([str(number) for number in numbers])):
        assert detect_unit(values) == "iso"
        assert seconds(values)[0].to_pylist() == [1_370_476_800, 1_370_563_199]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *((" 12\t", 12), ("-7", -7), ("1_000", 1000), ("+.5e1", 5), ("1E+3", 1000)),
        *(("\u20035.", 5), ("٤٢", 42)),
        *(("inf", None), ("-Infinity", None), ("NaN", None), ("1e400", None), ("_1", None), ("--1", None)),
        *(("2024-01-31", None), ("12:30", None), ("12 30", None), ("e5", None), ("x1", None), ("²", None)),
    ],
)
def test_a_number_among_other_texts_is_what_python_reads(text, number):
    read, bad = seconds(pa.array([*["somewhere"] * 40, text]), "s")
    assert read.to_pylist() == [*[None] * 40, number]
    assert bad[:40].all()


def test_numbers_behind_many_others_and_before_a_text_stay_as_they_are():
    values = [*["7"] * 40, "seven"]
    assert integers(pa.array(values)).to_pylist() == values
    assert numbers(pa.array(values)).to_pylist() == values
    assert integers(pa.array(values[::-1])).to_pylist() == values[::-1]
    assert integers(pa.array([*[None] * 40, "7"])).to_pylist() == [*[None] * 40, 7]
    assert integers(pa.array([*[1.0] * 40, 1.5])).to_pylist() == [*[1.0] * 40, 1.5]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1 Mayıs 2024 10:26:11", "2024-05-01T10:26:11"),
        ("12 Şubat 2024", "2024-02-12"),
        ("3. Mai 2024", "2024-05-03"),
        ("15. März 2024 08:05", "2024-03-15T08:05"),
        ("1 de mayo de 2024", "2024-05-01"),
        ("02 août 2024 à 10:23", "2024-08-02T10:23"),
        ("7 juillet 2024", "2024-07-07"),
        ("7 juin 2024", "2024-06-07"),
        ("4 set. 2024", "2024-09-04"),
        ("9 października 2024 23:59:01", "2024-10-09T23:59:01"),
        ("5 мая 2024 г., 10:00", "2024-05-05T10:00"),
        ("31 mrt 2024", "2024-03-31"),
        ("2024年05月01日 10時26分11秒", "2024-05-01T10:26:11"),
        ("2024年5月1日", "2024-05-01"),
        ("2024年5月1日 下午3:07", "2024-05-01T15:07"),
        ("2024년 5월 1일 오전 12시 3분", "2024-05-01T00:03"),
        ("2024년 5월 1일 10:26:11", "2024-05-01T10:26:11"),
    ],
)
def test_dates_in_words_of_other_languages_are_read(text, moment):
    expected = dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC).timestamp()
    assert seconds(pa.array([text]), "iso")[0].to_pylist() == [expected]


@pytest.mark.parametrize(
    "text",
    ["5 mal 2024", "7 jui 2024", "31 Februar 2024", "1 Zimmer 2024", "2024年13月1日", "2024年5月1日 25時"],
)
def test_words_that_are_no_months_make_no_dates(text):
    assert seconds(pa.array([text]), "iso")[0].to_pylist() == [None]


def test_ticks_of_dot_net_count_from_the_year_1():
    ticks = pa.array(["638496648000000000", "638496648015000000", None, "x"])
    assert seconds(ticks, "ticks")[0].to_pylist() == [1_714_068_000, 1_714_068_001, None, None]


def test_days_of_spreadsheets_are_read_to_the_second():
    days = pa.array(["45413.348611", "45413", None, "x"])
    assert seconds(days, "excel")[0].to_pylist() == [1_714_551_720, 1_714_521_600, None, None]
    berlin, _ = seconds(pa.array([45_413.348611]), "excel", "Europe/Berlin")
    assert berlin.to_pylist() == [1_714_551_720 - 7_200]
