"""Tables of dates and of times of day that impressions name by a key, as in a warehouse.

Such a log has no time of its own: each impression names a row of a table of dates, and maybe one of a table
of times of day. Then these have the time of the impression.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.computed.made_columns import with_clock
from clickscale.data.described.drafts.event_tables import useless
from clickscale.data.described.drafts.joined.named_tables import NamedTable, looked_up
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_values import numbers_or_none
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import WRITTEN, Column, Head
from clickscale.data.tables.casts import detect_unit, seconds

_OF_TIMES = re.compile(
    r"(^|_)(date|day|calendar|time|clock|hour|minute|datum|kalender|zeit|uhrzeit|stunde|fecha|dia|calendario|hora|"
    r"jour|calendrier|heure|giorno|ora|dag|tijd)(_|$)"
)
_OF_CALENDARS = re.compile(
    r"(^|_)(dates?|days?|calendars?|times?|hours|minutes|datum|kalender|uhrzeit|fechas?|calendario|calendrier|heures)(_|$)"
)
_KEY = re.compile(r"(^|_)(id|key|sk|fk|pk|no|code)$|(id|key)$")
_OWN = 0.99  # share of the rows with a key, or a date, of their own
_ROWS = 20  # from which one of them may repeat another
_FOUND = 0.9  # share of the impressions with a row, at least
_DAY = 86_400
_PARTS = 12  # different names of times of day, and numbers of days, at most


def with_calendars(head: Head, others: Sequence[Head]) -> tuple[Head, list[NamedTable]]:
    """Add to a sample of impressions the date, the time of day, or both, that they name in other tables."""
    tables: list[NamedTable] = []
    if not head.named:
        return head, tables
    timeless = [other for other in others if other.named and _has_no_ids(other)]
    time = find_time(head.columns.values())
    dated = (
        _joined(head, other, date if time is None else time, _left_out(other, date, time))
        for other in timeless
        if (date := _date(other)) is not None
    )
    head = _taken(head, next(filter(None, dated), None), tables)
    time = find_time(head.columns.values())
    if time is not None and with_clock(time, list(head.columns.values())) is time:
        left = [other for other in timeless if other not in [table.head for table in tables]]
        clocks = (_clocked(head, other, time) for other in left)
        head = _taken(head, next(filter(None, clocks), None), tables)
    return head, tables


def _taken(head: Head, found: tuple[Head, NamedTable] | None, tables: list[NamedTable]) -> Head:
    """Return the sample with what was found, which is added to the tables; or as it was."""
    if found is None:
        return head
    tables.append(found[1])
    return found[0]


def _has_no_ids(table: Head) -> bool:
    """True for a table that names neither users nor items."""
    columns = list(table.columns.values())
    return find_id(columns, "user") is None and find_id(columns, "item") is None


def _date(table: Head) -> Column | None:
    """Find the column of dates of which each row has its own, texts rather than numbers such as 20240131."""
    dates = [column for column in table.columns.values() if column.unit in WRITTEN and _is_own(column)]
    return min(dates, key=_is_number, default=None)


def _is_number(column: Column) -> bool:
    return column.floats is not None or pa.types.is_integer(column.values.type)


def _clocked(head: Head, table: Head, time: Column) -> tuple[Head, NamedTable] | None:
    """Join a table of times of day that completes a date."""
    for name, column in table.columns.items():
        left_out = {
            other.name: useless(other) or "the time of day tells it"
            for other in table.columns.values()
            if other is not column and not 1 < other.distinct <= _PARTS
        }
        numbers = [c for c in table.columns.values() if c is not column and c.floats is not None]
        left_out |= {other.name: "the time of day tells it" for other in numbers}
        found = _joined(head, table, column, left_out) if _is_own(column) and not _is_number(column) else None
        if found is not None and with_clock(time, [time, found[0].columns[name]]) is not time:
            return found
    return None


def _joined(
    head: Head, table: Head, moment: Column, left_out: dict[str, str]
) -> tuple[Head, NamedTable] | None:
    """Join a table of moments by a key of times.

    Args:
        moment: what it gives, or the time of the impressions if this is the key, such as 20240131.
    """
    for shown, key in _keys(head, table):
        columns = [c for c in table.columns.values() if c is not key and c.name not in left_out]
        added = {c.name: c for c in columns if c.name not in head.columns}
        if key is moment or not added or (moment.name not in added and shown is not moment):
            continue
        if moment.name in added and not _rise_together(key, moment):
            continue  # such as the days on which campaigns were entered
        joined, found, _ = looked_up(head, shown, table, key, added)
        if found >= _FOUND:
            why = {name: told for name, told in left_out.items() if name != key.name}
            names = tuple(name for name in added if name in joined.columns)
            return joined, NamedTable(table, key.name, shown.name, names, found, left_out=why)
    return None


def _keys(head: Head, table: Head) -> Iterator[tuple[Column, Column]]:
    """Yield columns of impressions with the keys of moments that they may name, equal names first."""
    keys = [column for column in table.columns.values() if _is_own(column)]
    # A promotion that an impression names has a day, too, and that is not when it was shown.
    if not _OF_CALENDARS.search(OutcomeName(table.path.name.split(".")[0]).snake):
        keys = [key for key in keys if _OF_TIMES.search(OutcomeName(key.name).snake)]
    shown = [c for c in head.columns.values() if not pa.types.is_nested(c.values.type)]
    yield from ((head.columns[key.name], key) for key in keys if head.columns.get(key.name) in shown)
    for key in keys:
        for column in shown:
            words = OutcomeName(column.name).snake
            if column.name != key.name and column.is_whole and _OF_TIMES.search(words) and _KEY.search(words):
                yield column, key


def _rise_together(key: Column, moment: Column) -> bool:
    """True unless whole numbers go up and down with the dates beside them; those of a calendar count them."""
    numbers = numbers_or_none(key) if key.is_whole else None
    if numbers is None or not moment.unit:
        return True
    times, _ = seconds(moment.values, detect_unit(moment.known))
    known = np.isfinite(numbers) & np.asarray(times.is_valid())
    steps = np.diff(numbers[known][np.argsort(np.asarray(times.fill_null(0))[known], kind="stable")])
    return bool(np.mean(steps > 0) >= _FOUND) if len(steps) else True


def _is_own(column: Column) -> bool:
    """True if each row has its own value; the row for unknown dates, such as -1, may have none.

    A row may stand there twice, of which the first one counts.
    """
    if pa.types.is_nested(column.values.type) or column.values.null_count > 1:
        return False
    rows = len(column.known)
    again = max((1 - _OWN) * rows, int(rows >= _ROWS))
    return rows > 0 and column.distinct >= rows - again


def _left_out(calendar: Head, date: Column, time: Column | None) -> dict[str, str]:
    """Say which columns of a calendar are no features, since the time of an impression tells them.

    Args:
        time: of the impressions, if they have one themselves.
    """
    days, _ = seconds(date.values, detect_unit(date.known))
    order = pc.sort_indices(days)
    weekday = Column("weekday", pa.array(days.to_numpy(zero_copy_only=False) // _DAY % 7))
    told: dict[str, str] = {}
    for column in calendar.columns.values():
        flat = not pa.types.is_nested(column.values.type)
        if column is date:
            told |= {} if time is None else {date.name: "another time"}
        elif why := useless(column):
            told[column.name] = why
        elif column.unit or column.is_date:
            told[column.name] = "another time"
        elif flat and _moves_on(column, order):
            told[column.name] = "it moves on with the time, and its values never come back"
        elif column.floats is not None and column.distinct > _PARTS:
            told[column.name] = "a number of the day may count what happened on it"
        elif flat and _follows(weekday, column):
            told[column.name] = "the day of the week tells it"
    return told


def _moves_on(column: Column, order: pa.Array) -> bool:
    """True if each value stands in one run of days, as the months of a year do."""
    codes = column.values.take(order).dictionary_encode().indices.fill_null(-1)
    values = np.asarray(codes.to_numpy(zero_copy_only=False))
    return 1 + int(np.count_nonzero(np.diff(values))) == len(np.unique(values))


def _follows(weekday: Column, column: Column) -> bool:
    """True if all days of a name have one value of a column."""
    pairs = pa.table({"weekday": weekday.values, "value": column.values})
    return len(pairs.group_by(["weekday", "value"]).aggregate([])) == weekday.distinct
