"""Offsets of local clocks, against known ones and against the standard library."""

import datetime as dt
import zoneinfo

import numpy as np
import pytest

from clickscale.data.features.zones import utc_offsets

WINTER, SUMMER = 1_704_110_400, 1_719_835_200  # noon of 1 January and of 1 July 2024, UTC


@pytest.mark.parametrize(
    ("zone", "winter", "summer"),
    [
        ("Europe/Berlin", 1, 2),
        ("America/New_York", -5, -4),
        ("Asia/Kolkata", 5.5, 5.5),
        ("Australia/Lord_Howe", 11, 10.5),
        ("UTC", 0, 0),
        ("Z", 0, 0),
        ("UTC+2", 2, 2),
        ("GMT-05:00", -5, -5),
        ("+02:00", 2, 2),
        ("-0330", -3.5, -3.5),
        ("+0530", 5.5, 5.5),
        ("0530", 5.5, 5.5),
        ("-5", -5, -5),
        ("5.5", 5.5, 5.5),
        ("0", 0, 0),
        ("120", 2, 2),
        ("-300", -5, -5),
        ("3600", 1, 1),
    ],
)
def test_a_zone_has_its_offset(zone: str, winter: float, summer: float) -> None:
    offsets = utc_offsets(zone, np.array([WINTER, SUMMER, WINTER]))
    assert (offsets / 3600).tolist() == [winter, summer, winter]


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "America", "../etc/passwd", "Berlin time", "17", "99:00", "nan"]
)
def test_what_is_no_zone_has_none(zone: str) -> None:
    assert np.isnan(utc_offsets(zone, np.array([WINTER, SUMMER]))).all()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Asia/Tehran", "Pacific/Apia"])
def test_every_second_has_the_offset_of_the_standard_library(zone: str) -> None:
    random = np.random.default_rng(0)
    changes = [1_711_846_800, 1_729_990_800, 1_710_052_200]  # around which clocks change in some of the zones
    times = np.concatenate(
        [random.integers(0, 2_000_000_000, 500), *(c + random.integers(-5, 5, 20) for c in changes)]
    )
    known = zoneinfo.ZoneInfo(zone)
    expected = [dt.datetime.fromtimestamp(time, known).utcoffset() for time in times.tolist()]
    assert utc_offsets(zone, times).tolist() == [
        offset.total_seconds() for offset in expected if offset is not None
    ]


def test_moments_beyond_all_calendars_and_none_at_all_raise_nothing() -> None:
    assert len(utc_offsets("Europe/Berlin", np.array([-(2**62), 2**62]))) == 2
    assert len(utc_offsets("Europe/Berlin", np.zeros(0, np.int64))) == 0
