"""Columns that are made of others: lists of columns of 0 and 1, parts of URLs, and moments.

A table often has a column for each genre, tag or interest. And a URL is a value of its own in nearly every
row, but its host and the section of the site come again. And a date and a time of day are one moment.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, takewhile

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import plain_ends, plain_name
from clickscale.data.described.drafts.samples import WRITTEN, Column
from clickscale.data.described.drafts.toml_lines import MOST_VALUES
from clickscale.data.described.rows import as_text, moment_texts
from clickscale.data.features.urls import url_parts
from clickscale.data.features.values import names_of_flags
from clickscale.data.tables.casts import detect_unit, seconds
from clickscale.schema import UrlPart

_URL_PARTS: tuple[UrlPart, ...] = ("host", "section")
_OWN, _SAME = 0.5, 0.9  # shares of the rows
_FEWEST = 5  # neighboring columns of 0 and 1 that are taken for a list
_HOURS, _SECONDS = 8, 30  # different hours and seconds of the times of events, at least
_TIMES_OF_DAY = (
    r"^\s*(?P<hour>[01]?\d|2[0-3]):[0-5]\d:(?P<second>[0-5]\d)(?:\.\d+)?\s*$",
    r"^\s*(?P<hour>[01]\d|2[0-3])[0-5]\d(?P<second>[0-5]\d)\s*$",
)
_CLOCKS = (
    *("time", "clock", "timeofday", "hms", "hour", "hours", "hourofday", "hr", "hh", "orderhourofday"),
    *("eventtime", "clicktime", "starttime", "requesttime", "servertime", "impressiontime"),
    *("uhrzeit", "zeit", "stunde", "heure", "hora", "horario", "ora", "orario", "tijd", "tijdstip", "uur"),
)
_SHORTEST = 3  # letters that names begin with alike, for the list to be called so


def with_flag_groups(columns: Sequence[tuple[Column, str]]) -> Iterator[tuple[Column, str]]:
    """Yield columns with their reasons, and one column of lists for each run of columns of 0 and 1.

    A model then has one feature where it would have twenty of two values each, and statistics can count by
    it. Columns of which many are 1 at once stay as they are: a list keeps its first values only.
    """
    for is_flag, run in groupby(columns, key=lambda entry: entry[0].is_flag):
        members = list(run)
        group = _group([column for column, _ in members]) if is_flag else None
        yield from members if group is None else [(group, members[0][1])]


def with_url_parts(columns: Iterable[tuple[Column, str]]) -> Iterator[tuple[Column, str]]:
    """Yield columns with their reasons, and parts of URLs instead of columns of these."""
    for column, why in columns:
        yield from ((made, why) for made in (parts_of_urls(column) if column.holds_urls else [column]))


def parts_of_urls(column: Column) -> list[Column]:
    """List the parts of the URLs of a column that tell its rows apart."""
    made = [
        Column(f"{column.name}_{part}", url_parts(as_text(column.values), part), (), column.name, part)
        for part in _URL_PARTS
    ]
    return [part for part in made if _tells_rows_apart(part)]


def _tells_rows_apart(part: Column) -> bool:
    """True unless nearly all rows have one value, or most have one of their own."""
    counts = pc.value_counts(part.known).field("counts")
    return 0 < len(counts) <= _OWN * len(part.values) and pc.max(counts).as_py() < _SAME * len(part.values)


def with_clock(date: Column | None, columns: Sequence[Column]) -> Column | None:
    """Return a column of dates without a time of day together with the one that has it, if there is one."""
    if date is None or date.unit not in WRITTEN:
        return date
    times, _ = seconds(date.known, detect_unit(date.known))
    if (times.drop_null().to_numpy() % 86_400).any():
        return date
    others = [column for column in columns if column is not date]
    clocks = [column for column in others if _is_called_clock(column)]
    clocks = clocks or [column for column in others if _runs_like_clock(column)]
    if len(clocks) != 1:
        return date
    parts = (date, clocks[0])
    names = tuple(column.name for column in parts)
    both = Column("+".join(names), moment_texts([column.values for column in parts]), names)
    return both if both.unit else date


def _is_called_clock(column: Column) -> bool:
    """True for texts such as 10:26 or 7:05:11, and for numbers of hours, under names of times of day."""
    if not {plain_name(column.plain), *plain_ends(column.plain)} & {*_CLOCKS}:
        return False
    if pa.types.is_string(column.values.type) and column.floats is None:
        looks = pc.match_substring_regex(column.known, r"^\s*\d{1,2}:\d\d(:\d\d(\.\d+)?)?\s*$")
        return column.distinct > 1 and bool(pc.mean(looks).as_py() > 0.95)
    if not column.is_whole or column.distinct < 3:
        return False
    return bool(pc.min(column.floats).as_py() >= 0 and pc.max(column.floats).as_py() <= 23)


def _runs_like_clock(column: Column) -> bool:
    """True for times of day such as 14:05:33 or 140533 in every row, at nearly any hour, under any name.

    Durations are mostly shorter than an hour, and opening hours end with a full minute.
    """
    name = OutcomeName(column.plain)
    is_plain = pa.types.is_string(column.values.type) and not column.values.null_count
    if not is_plain or name.is_moment or name.is_ahead:
        return False
    read = [pc.extract_regex(column.known, form) for form in _TIMES_OF_DAY]
    parts = next((each for each in read if not each.null_count), None)
    if parts is None:
        return False
    hours, ends = (pc.value_counts(pc.struct_field(parts, name)) for name in ("hour", "second"))
    often = pc.max(hours.field("counts")).as_py(), pc.max(ends.field("counts")).as_py()
    return len(hours) >= _HOURS and len(ends) >= _SECONDS and max(often) < _OWN * len(column.values)


def _group(flags: Sequence[Column]) -> Column | None:
    """Return the columns as one of lists of their names, or None if they are too few or too often 1."""
    if len(flags) < _FEWEST:
        return None
    lists, wrong = names_of_flags({column.name: column.values for column in flags})
    most = pc.max(pc.list_value_length(lists)).as_py()
    if most > MOST_VALUES or any(rows.any() for rows in wrong.values()):
        return None
    names = tuple(column.name for column in flags)
    return Column(_name(names), lists, names)


def _name(flags: Sequence[str]) -> str:
    """Name a list by what the names of its flags begin with, up to a mark between words, or ``flags``.

    The names ``column_7`` and so on are not the table's own.
    """
    # What the first and the last name in order share, all share.
    alike = takewhile(lambda letters: letters[0] == letters[1], zip(min(flags), max(flags), strict=False))
    words = "".join(letter for letter, _ in alike).rpartition("_")[0]
    return words if len(words) >= _SHORTEST and words != "column" else "flags"
