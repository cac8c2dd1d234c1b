"""Casts of raw columns to integers, numbers and seconds, a whole column at a time.

A column is converted if every value fits. Otherwise it is passed on unchanged, since preparation names and
quarantines the rows that do not fit. Only times are always converted, since canonical tables hold seconds.

`clickscale.data.features.values` reads the same columns again, value by value and with a problem code for
each row, because requests and Parquet files reach it without a cast. The casts here still pay: reading ids
from text there takes from 5 to 50 times as long as this cast and the reading of its integers.
"""

import datetime as dt
import email.utils
import re
import unicodedata
import zoneinfo
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.features.texts import is_placeholder, whole_texts

Unit = Literal["auto", "s", "ms", "us", "ns", "ticks", "excel", "iso", "YYMMDDHH", "DMY", "MDY"]
_FEW_HOURS = 2  # different numbers of which all may look like hours by chance
_FIRST = 32  # values that are converted before all are
# Whatever Python reads as a number, and much more: texts with no Latin letters but these, at one place. Arrow
# compiles a pattern at each use, and one that knows all letters and figures takes longer than the texts.
_NUMBER_LIKE = r"^[^A-Za-z]*([eE]|[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])?[^A-Za-z]*$"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "ticks": 10_000_000}
# Ticks of .NET count from the year 1. As nanoseconds since 1970, those of 2000 to 2100 would all lie in 1990.
_SINCE_YEAR_1 = 62_135_596_800  # seconds until 1970
_TICKS = (6.30822816e17, 6.6238e17)

# Beside ISO 8601: a time with AM or PM has the month before the day, and web servers write the last form.
_FORMS = (
    *("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d/%b/%Y:%H:%M:%S %z"),
    *("%m/%d/%y %I:%M:%S %p", "%m/%d/%y %I:%M %p"),
)
# Dates of which the month is told: in letters, or between points, where the day is first. Years may have two
# figures; 1.2.34 without a clock behind is a version.
_CLOCK = r"(?:[ ,T]+(?P<clock>\d{1,2}[:.]\d\d(?:[:.]\d\d(?:\.\d+)?)?)(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?\Z"
_WEEKDAY, _ORDINAL = r"(?:[^\W\d_]{3,13}(?:-feira)?\.?,? )?", r"(?:er|[ºª°.]|st|nd|rd|th)?"
_DATES = (
    re.compile(
        r"(?P<day>\d{1,2})(?P<mark>[- ])(?P<month>[^\W\d_]{3,9})(?P=mark)(?P<year>\d{4}|\d\d)" + _CLOCK
    ),
    re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4}|\d\d(?=[ ,T]))" + _CLOCK),
    re.compile(
        rf"{_WEEKDAY}(?P<month>[A-Za-z]{{3,9}})\.? (?P<day>\d{{1,2}}){_ORDINAL},? (?P<year>\d{{4}})" + _CLOCK
    ),
)
# Dates of numbers only: a part above 12 tells which is the day, for a whole column.
_NUMBERED = re.compile(r"(?P<one>\d{1,2})[/-](?P<two>\d{1,2})[/-](?P<year>\d{4}|\d\d)" + _CLOCK)
_HALF = re.compile(r"[AaPp]\.?[Mm]\.?\s*\Z")
# Dates with the month in words of any language, as in 1 de mayo de 2024, lundi 6 mai 2024 or 5 мая 2024 г.
_SPOKEN = re.compile(
    rf"{_WEEKDAY}(?P<day>\d{{1,2}}){_ORDINAL}(?: de)? (?P<month>[^\W\d_]{{3,12}})\.?,?(?: de| del)? "
    r"(?P<year>\d{4})(?: г\.?)?"
    r"(?:,? (?:à|às|um|a las|alle|o|kl\.?|saat|om|в))?" + _CLOCK
)
# Dates of China, Japan and Korea, such as 2024年5月1日 10時26分 and 2024년 5월 1일 오후 3:07.
_ASIAN = re.compile(
    r"(?P<year>\d{4}) ?[年년] ?(?P<month>\d{1,2}) ?[月월] ?(?P<day>\d{1,2}) ?[日일]"
    r"(?: ?(?P<half>上午|下午|午前|午後|오전|오후)? ?(?P<hour>\d{1,2}) ?[:時时点點시]"
    r" ?(?:(?P<minute>\d{1,2}) ?[:分분]? ?)?(?:(?P<second>\d{1,2}(?:\.\d+)?) ?[秒초]?)?)?\Z"
)
_LATE = ("下午", "午後", "오후")
# How the names of months begin in English, German, Dutch, French, Spanish, Portuguese, Italian, Polish,
# Turkish, Swedish, Danish and Russian, without accents.
_MONTHS = (
    ("jan", "ene", "gen", "sty", "oca", "янв"),
    ("feb", "fev", "lut", "sub", "фев"),
    ("mar", "maa", "mrt", "mae", "мар"),
    ("apr", "avr", "abr", "kwi", "nis", "апр"),
    ("may", "mai", "mei", "mag", "maj", "мая", "маи"),
    ("juin", "jun", "giu", "cze", "haz", "июн"),
    ("juil", "jul", "lug", "lip", "tem", "июл"),
    ("aug", "aou", "ago", "sie", "agu", "авг"),
    ("sep", "set", "wrz", "eyl", "сен"),
    ("oct", "okt", "out", "ott", "paz", "eki", "окт"),
    ("nov", "lis", "kas", "ноя"),
    ("dec", "dez", "dic", "des", "gru", "ara", "дек"),
)
# Days since 1900 with the time of day as a fraction, as spreadsheets keep moments: those of 2000 to 2050.
_SERIALS, _DAYS_UNTIL_1970 = (36_526, 54_789), 25_569
# What says in which zone a time was read, and a time with the name of a zone (in brackets after an offset).
_ZONE = re.compile(
    r"(?:(?<![AP])[A-Za-z\]]|[T :]\d\d(?::?\d\d)?(?::?\d\d(?:\.\d+)?)?\s*[+-]\d\d:?(?:\d\d)?)\s*\Z"
)
_NAMED = re.compile(r"(?P<time>.*?\d)\s*\[?(?P<zone>[A-Z][A-Za-z]+(?:[/_+-][A-Za-z0-9_+-]+)*)\]?\s*\Z")


def integers(values: pa.Array) -> pa.Array:
    """Cast to int64 if every value is a whole number; else return the values unchanged."""
    return _converted(values, pa.int64())


def numbers(values: pa.Array) -> pa.Array:
    """Cast to float64 if every value is a number; else return the values unchanged."""
    return _converted(values, pa.float64())


def _converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    # Arrow goes through a whole column of other texts before it says that the first is no number.
    if len(values) > _FIRST and _wholly_converted(values.slice(0, _FIRST), kind).type != kind:
        return values
    return _wholly_converted(values, kind)


def _wholly_converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # texts with spaces, fractions or other texts: see below
    try:
        floats = _trimmed(values).cast(pa.float64())
        rounded = pa.types.is_integer(kind) and pc.any(pc.greater_equal(pc.abs(floats), 2.0**53)).as_py()
        return values if rounded else floats.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return values  # value by value, preparing says which rows cannot be read


def _told(values: pa.Array) -> pa.Array:
    """Return texts with null for those that stand for a missing value, such as an empty one."""
    if not pa.types.is_string(values.type):
        return values
    texts = _trimmed(values)
    missing = pc.or_(pc.equal(texts, ""), pa.array(is_placeholder(texts)))
    return pc.if_else(missing, pa.scalar(None, values.type), values)


def _trimmed(values: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(values) if pa.types.is_string(values.type) else values


def detect_unit(values: pa.Array) -> Unit:
    """Detect the unit of a column of times by the size of its middle value; other text is ``iso``.

    Seconds since 1970 have up to 11 digits until the year 5138, milliseconds up to 14, and so on. Dates such
    as 20240131 or 2024013108 are ``iso``, hours such as 24013108 ``YYMMDDHH``.
    """
    if _is_moment(values):
        return "iso"
    values = _told(values)
    known = numbers(values.drop_null())
    if not pa.types.is_floating(known.type):
        order = _order_of_dates(known) if pa.types.is_string(known.type) else None
        known = _readable_numbers(known).drop_null()
        if order or len(known) < len(values) - values.null_count - len(known):
            return order or "iso"
    finite = known.filter(pc.is_finite(known))
    sizes = np.sort(np.abs(finite.to_numpy(zero_copy_only=False)))
    middle = sizes[(len(sizes) - 1) // 2] if len(sizes) else 0.0
    if len(sizes) and _are_dates(sizes):
        return "iso"
    if len(sizes) and _are_serials(sizes):
        return "excel"
    if len(sizes) and sizes[0] >= 1e6 and _are_hours(20e8 + sizes) and len(np.unique(sizes)) > _FEW_HOURS:
        return "YYMMDDHH"
    for unit, limit in (("s", 1e11), ("ms", 1e14), ("us", 1e17)):
        if middle < limit:
            return unit  # type: ignore[return-value]
    return "ticks" if _TICKS[0] <= middle < _TICKS[1] else "ns"


def _order_of_dates(texts: pa.Array) -> Unit | None:
    """Tell 31/1/2024 (``DMY``) from 1/31/2024 (``MDY``) by the values above 12; None if none or both are.

    Two figures at the end are a year if they have no more values than the day, unlike those of 24/1/31.
    """
    found = [match for text in _trimmed(texts).unique().to_pylist() if (match := _NUMBERED.match(text))]
    matches = pc.match_substring_regex(_trimmed(texts), r"^\d{1,2}[/-]\d{1,2}[/-]\d\d(\d\d)?(\D|$)")
    if not found or 2 * pc.sum(matches).as_py() < len(texts):
        return None
    first, second = (max(int(match[name]) for match in found) for name in ("one", "two"))
    has_half = any(match["half"] for match in found)
    if (first > 12) == (second > 12) or (second > 12 and has_half):
        return None  # a time with AM or PM has the month first anyway
    years = {match["year"] for match in found}
    if min(map(len, years)) == 2 and len(years) > len(
        {match["one" if first > 12 else "two"] for match in found}
    ):
        return None
    return "DMY" if first > 12 else "MDY"


def _are_dates(numbers: np.ndarray[Any, Any]) -> bool:
    """True for numbers such as 20240131, with hours, minutes and seconds or without.

    As seconds, days would all lie in the year 1970, and hours between 2030 and 2036.
    """
    if numbers[-1] < 1e8:
        return _are_hours(numbers * 100)
    if numbers[-1] < 1e10:
        return _are_hours(numbers)
    has_millis = numbers[-1] >= 1e16  # which a float has no digits for: 59.999 may be the next minute
    finest = numbers // 1000 if has_millis else numbers if numbers[-1] >= 1e12 else numbers * 100
    return _are_hours(finest // 10_000) and bool(
        (finest // 100 % 100 < 60).all() and (finest % 100 < 60 + has_millis).all()
    )


def _are_serials(numbers: np.ndarray[Any, Any]) -> bool:
    """True for days such as 45413.348611, most of which have the time of day behind the point."""
    if numbers[0] < _SERIALS[0] or numbers[-1] >= _SERIALS[1]:
        return False
    thousandths = numbers * 1_000  # amounts of money have no more than these
    return bool(np.mean(np.abs(thousandths - np.round(thousandths)) > 1e-3) > 0.5)


def _are_hours(numbers: np.ndarray[Any, Any]) -> bool:
    """True for numbers such as 2024013108, each of the hour 8 of a day from 1900 to 2100."""
    month, day, hour = numbers // 10_000 % 100, numbers // 100 % 100, numbers % 100
    sound = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & (hour < 24)
    sound &= (numbers == np.trunc(numbers)) & (numbers >= 19e8) & (numbers < 21.01e8)
    return bool(sound.all())


def _is_moment(values: pa.Array) -> bool:
    return bool(pa.types.is_timestamp(values.type) or pa.types.is_date(values.type))


def _readable_numbers(values: pa.Array) -> pa.Array:
    """Convert to float64 value by value, null where a value is not a number."""
    if pa.types.is_string(values.type):  # most texts are told from numbers at once, without an exception each
        values = pc.if_else(pc.match_substring_regex(values, _NUMBER_LIKE), values, None)
    return pa.array([_number(value) for value in values.to_pylist()], pa.float64())


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def seconds(
    values: pa.Array, unit: Unit = "auto", time_zone: str = "UTC"
) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Convert to int64 seconds since 1970 UTC, fractions cut towards the past; mark unreadable values.

    Dates and times without a zone are those of ``time_zone``. A missing value stays null and is not marked.
    """
    if _is_moment(values):
        return _from_timestamps(values, time_zone), np.zeros(len(values), bool)
    values = _told(values)
    kind = detect_unit(values) if unit == "auto" else unit
    if kind == "YYMMDDHH":
        digits = pc.utf8_lpad(_texts(values), 8, padding="0")  # as a number, 2009 has no zero in front
        read = _from_iso(pc.binary_join_element_wise("20", digits, ""), time_zone)
    elif kind == "excel":
        read = _from_serials(values, time_zone)
    elif kind in ("DMY", "MDY"):
        read = _each(_texts(values), lambda text: _numbered_moment(text, kind, time_zone))
    else:
        read = _from_iso(values, time_zone) if kind == "iso" else _from_numbers(values, _PER_SECOND[kind])
        read = pc.subtract(read, _SINCE_YEAR_1) if kind == "ticks" else read
    return read, pc.and_(pc.is_null(read), pc.is_valid(values)).to_numpy(zero_copy_only=False)


def lacks_zone(values: pa.Array) -> bool:
    """True if the first known value is a date, or a time of which nothing says in which zone it was read."""
    if _is_moment(values):
        return getattr(values.type, "tz", None) is None
    known = _trimmed(values.drop_null().slice(0, 1)).to_pylist()
    return bool(known) and isinstance(known[0], str) and _ZONE.search(known[0]) is None


def _from_timestamps(values: pa.Array, time_zone: str) -> pa.Array:
    zone = getattr(values.type, "tz", None)
    micros = values.cast(pa.timestamp("us", zone), safe=False)
    if zone is None and time_zone != "UTC":
        # In the hour that a clock shows twice or never, the earlier reading: any is a guess.
        micros = pc.assume_timezone(micros, time_zone, ambiguous="earliest", nonexistent="earliest")
    return _floor_divided(micros.cast(pa.int64()), 1_000_000)


def _from_numbers(values: pa.Array, per_second: int) -> pa.Array:
    whole = integers(values)
    if pa.types.is_integer(whole.type):
        return _floor_divided(whole, per_second)
    known = numbers(values)
    if not pa.types.is_floating(known.type):
        known = _readable_numbers(values)
    floats = known.to_numpy(zero_copy_only=False) / per_second
    fits = np.isfinite(floats) & (np.abs(floats) < 2.0**62)
    return pa.array(np.floor(np.where(fits, floats, 0)).astype(np.int64), mask=~fits)


def _from_serials(values: pa.Array, time_zone: str) -> pa.Array:
    """Convert days since 1900; six digits behind the point leave an error of a twentieth of a second."""
    days = numbers(values)
    if not pa.types.is_floating(days.type):
        days = _readable_numbers(values)
    rounded = pc.round(pc.multiply(pc.subtract(days, _DAYS_UNTIL_1970), 86_400.0), 1)
    micros = pc.multiply(_from_numbers(rounded, 1), 1_000_000)
    return _from_timestamps(micros.cast(pa.timestamp("us")), time_zone)


def _floor_divided(values: pa.Array, divisor: int) -> pa.Array:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    filled = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return pa.array(filled // divisor, mask=missing)


def _from_iso(values: pa.Array, time_zone: str) -> pa.Array:
    text = _texts(values)
    if pc.all(pc.ends_with(text, "UTC")).as_py():
        text, time_zone = pc.replace_substring_regex(text, r"\s*UTC$", ""), "UTC"
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return _from_timestamps(text.cast(kind), time_zone)
        except pa.ArrowInvalid:
            pass
    # AM or PM goes with the month before the day; without it, nothing tells which of the two is first.
    is_short = pc.any(pc.match_substring_regex(text, r"^\d{1,2}/\d{1,2}/\d\d\D")).as_py()
    form = "%m/%d/%y %I:%M:%S %p" if is_short else "%m/%d/%Y %I:%M:%S %p"
    american = pc.strptime(text, format=form, unit="us", error_is_null=True)
    if american.null_count == text.null_count:
        return _from_timestamps(american, time_zone)
    return _each(text, lambda entry: _moment(entry, time_zone))  # a column that mixes notations


def _each(texts: pa.Array, read: Callable[[str], int | None]) -> pa.Array:
    """Read each distinct text once."""
    coded = texts.dictionary_encode()
    moments = pa.array([read(entry) for entry in coded.dictionary.to_pylist()], pa.int64())
    return moments.take(coded.indices)


def _numbered_moment(text: str, kind: Unit, time_zone: str) -> int | None:
    """Read a date of numbers, the day or the month first."""
    found = _NUMBERED.match(text)
    if found is None:
        return None if re.match(r"\d{1,2}[/-]\d", text) else _moment(text, time_zone)
    day, month = ("one", "two") if kind == "DMY" else ("two", "one")
    moment = _date(found[day], found[month], found["year"], found["clock"], found["half"])
    return _in_zone(moment, time_zone) if moment else None


def _texts(values: pa.Array) -> pa.Array:
    """Write values as texts without spaces around them; 20240131.0 is "20240131", as a text as well."""
    if pa.types.is_floating(values.type):
        values = values.cast(pa.int64(), safe=False)
    return whole_texts(_trimmed(values.cast(pa.string())))


def _moment(text: str, time_zone: str) -> int | None:
    """Read ISO 8601, with slashes or the name of a zone as well, or another usual notation."""
    named = _NAMED.match(text)
    plain, zone = (named["time"], named["zone"]) if named else (text, time_zone)
    if plain.isdecimal() and len(plain) > 8:  # 2024013108 and finer, down to milliseconds
        fraction = f".{plain[14:]}" if len(plain) > 14 else ""
        plain = f"{plain[:8]}T{plain[8:14]}{fraction}"
    try:
        moment: dt.datetime | None = dt.datetime.fromisoformat(plain.replace("/", "-"))
    except ValueError:
        moment, zone = _other_form(text), time_zone
    return _in_zone(moment, zone) if moment else None


def _in_zone(moment: dt.datetime, zone: str) -> int | None:
    """Return the seconds since 1970 of a moment; one without a zone is of the given one."""
    try:
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(seconds=1)
    except (ValueError, OSError, OverflowError, zoneinfo.ZoneInfoNotFoundError):
        return None


def _other_form(text: str) -> dt.datetime | None:
    """Read a time in one of `_FORMS` or `_DATES`, or as mail has it."""
    for pattern in (*_DATES, _SPOKEN):
        if found := pattern.match(text):
            return _date(**found.groupdict())
    if found := _ASIAN.match(text):
        return _asian_moment(found)
    for form in _FORMS:
        try:
            return dt.datetime.strptime(text, form)
        except ValueError:
            pass
    if _HALF.search(text):
        return None  # mail has no AM and PM, and its reader passes over them
    try:
        return email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None


def _date(
    day: str, month: str, year: str, clock: str | None, half: str | None, mark: str = ""
) -> dt.datetime | None:
    """Make a moment of the parts of a date; None if there is no such date."""
    number = int(month) if month.isdecimal() else _number_of_month(month)
    hour, *rest = re.split("[:.]", clock or "00:00", maxsplit=2)
    shift = 0
    if half:
        shift = 12 * (half in "Pp") - 12 * (hour == "12")
        if not 1 <= int(hour) <= 12:
            return None
    try:
        time = dt.time.fromisoformat(":".join([f"{int(hour) + shift:02}", *rest]))
        full = int(year) if len(year) == 4 else dt.datetime.strptime(year, "%y").year
        return dt.datetime.combine(dt.date(full, number, int(day)), time)
    except ValueError:
        return None


def _number_of_month(name: str) -> int:
    """Return 1 to 12 for the name of a month, or the letters that it begins with; 0 for any other word."""
    letters = unicodedata.normalize("NFKD", name.lower().replace("ı", "i"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    found = [n for n, words in enumerate(_MONTHS, 1) if plain.startswith(words)]
    return found[0] if len(found) == 1 else 0


def _asian_moment(found: re.Match[str]) -> dt.datetime | None:
    """Make a moment of the parts of a date of China, Japan or Korea."""
    hour = int(found["hour"] or 0)
    if found["half"]:
        hour = hour % 12 + 12 * (found["half"] in _LATE)
    try:
        day = dt.datetime(int(found["year"]), int(found["month"]), int(found["day"]), hour)
        later = dt.timedelta(minutes=int(found["minute"] or 0), seconds=float(found["second"] or 0))
    except ValueError:
        return None
    return day + later if later < dt.timedelta(hours=1) else None
