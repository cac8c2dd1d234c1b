"""Offsets of local clocks from UTC: of zones such as ``Europe/Berlin``, and as ``+02:00``, ``-5`` or ``120``.

A number up to 14 is one of hours, up to 840 one of minutes, and a larger one of seconds. East of Greenwich it
is positive.
"""

import datetime as dt
import re
import zoneinfo
from functools import lru_cache

import numpy as np

from clickscale.arrays import Floats, Ints

_DAY, _QUARTER, _FARTHEST = 86_400, 900, 14 * 3600  # seconds
_FIRST, _LAST = -62_000_000_000, 253_000_000_000  # moments that a calendar has
_PREFIX = re.compile(r"^(utc|gmt)\s*(?=$|[-+])", re.IGNORECASE)
_CLOCK = re.compile(r"([-+]?)(\d{1,2}):(\d\d)|([-+])(\d\d)(\d\d)|()(0\d)(\d\d)")  # 2:00, +0200, 0200
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")


def utc_offsets(zone: str, times: Ints) -> Floats:
    """(N,) seconds that clocks of a zone are ahead of UTC at moments (N,); NaN for an unknown zone."""
    known = _zone(zone)
    if not isinstance(known, zoneinfo.ZoneInfo):
        return np.full(len(times), np.nan if known is None else known)
    times = np.clip(times, _FIRST, _LAST)
    days, row = np.unique(times // _DAY, return_inverse=True)
    bounds = np.array(
        [[_offset(known, day * _DAY), _offset(known, (day + 1) * _DAY)] for day in days.tolist()]
    )
    offsets = bounds.reshape(-1, 2)[row, 0]
    changing = np.flatnonzero((bounds[:, 0] != bounds[:, 1])[row]) if len(days) else np.zeros(0, np.int64)
    offsets[changing] = [_offset(known, time) for time in times[changing].tolist()]
    return np.asarray(offsets)


@lru_cache(1 << 14)
def _zone(text: str) -> zoneinfo.ZoneInfo | float | None:
    """Return the zone of a name, or a constant offset in seconds; None if the text is neither."""
    plain = _PREFIX.sub("", text.strip().replace("\N{MINUS SIGN}", "-"))
    if not plain or plain == "Z":
        return 0.0 if text.strip() else None
    if _NUMBER.fullmatch(plain) or _CLOCK.fullmatch(plain):
        return _constant(plain)
    try:
        return zoneinfo.ZoneInfo(plain)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None


def _constant(text: str) -> float | None:
    """Read an offset of a clock or a number; None if no place has it."""
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        sign, hours, minutes = (part for part in clock.groups() if part is not None)
        offset = float(int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1)
    elif _NUMBER.fullmatch(text):
        number = abs(float(text))
        size = 3600 if number <= 14 else 60 if number <= 14 * 60 else 1
        offset = float(text) * size
    else:
        return None
    return offset if abs(offset) <= _FARTHEST and offset % _QUARTER == 0 else None


@lru_cache(1 << 16)
def _offset(zone: zoneinfo.ZoneInfo, time: int) -> float:
    """Return the seconds that clocks of a zone are ahead of UTC at a moment."""
    offset = dt.datetime.fromtimestamp(time, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
