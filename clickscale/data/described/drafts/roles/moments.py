"""Moments among the columns of a table: the time of its rows, and what lies before it."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import mentions, named, plain_name, steps_before
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.role_words import words
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column
from clickscale.data.tables.casts import detect_unit, seconds

_TIMES = words(
    "timestamp time ts eventtime timems timestampms datetime unixtime unixreviewtime impressiontime "
    "clicktime createdat eventtimestamp occurredat servertime requesttime starttime date day reviewtime "
    "hour datehour"
)
_DAY, _DAYS = 86_400, 366  # seconds, and days: no time is below, but hours of a day and days of a year are
_MOSTLY_NONE = 0.5  # share of the rows without a moment beyond which it came of few of them
_BEFORE = 0.99  # share of the rows in which a moment that is known lies before the impression


def find_time(columns: Iterable[Column]) -> Column | None:
    """Find the time of an event: a column of moments, chosen by name among several.

    What most rows lack is no time of theirs, whatever it is called. The moment of a click is missing where
    none happened, so any other one goes before it; and so does one
    with more values before a moment that is called after what lies ahead, such as a departure. Numbers of
    users and of items may be as large as times.
    """
    known = list(columns)
    ids = (find_id(known, "user"), find_id(known, "item"))
    found = [column for column in known if column.unit and column not in ids]
    found = [column for column in found if column.values.null_count <= _MOSTLY_NONE * len(column.values)]
    every = [c for c in found if not (c.values.null_count and OutcomeName(c.name).is_moment)]
    # What stands inside of a user or an item is when it was made.
    moments = [c for c in every if not _stands_in_either(c)] or every or found
    chosen = _with_time_of_day(named(moments, _TIMES) or (moments[0] if moments else None), moments)
    if chosen is None or plain_name(chosen.name) in _TIMES or not OutcomeName(chosen.name).is_ahead:
        return chosen
    finer = [c for c in moments if c.distinct > chosen.distinct and lies_before(c, chosen)]
    return next((c for c in finer if not OutcomeName(c.name).is_ahead), chosen)


def _with_time_of_day(day: Column | None, moments: Sequence[Column]) -> Column | None:
    """Return the moment that says when within its day each row was, if a column has days only."""
    others = [
        c for c in moments if c is not day and not (c.values.null_count or OutcomeName(c.name).is_ahead)
    ]
    if day is None or not others or ((begin := moments_beside(day, day, None)[0]) % _DAY > 0).any():
        return day
    for other in others:
        at = moments_beside(other, other, None)[0]
        if (at % _DAY > 0).any() and np.mean(np.abs(at - begin - _DAY / 2) <= _DAY) >= _BEFORE:
            return other
    return day


def _stands_in_either(column: Column) -> bool:
    """True for a value inside of a user or an item."""
    return any(mentions(step, "user") or mentions(step, "item") for step in steps_before(column))


def unread_time(columns: Iterable[Column]) -> Column | None:
    """Find a column with the name of a time and values that are none, hours of the day and the like apart."""
    flat = [column for column in columns if not pa.types.is_nested(column.values.type)]
    found = named([column for column in flat if not column.unit and column.distinct > 1], _TIMES)
    small = found is not None and found.floats is not None and pc.max(found.floats).as_py() <= _DAYS
    return None if small else found


def is_moment_of(column: Column, user: Column | None, item: Column | None, time: Column | None) -> bool:
    """True for moments of users or of items, such as sign-ups, that lie before the impressions."""
    return time is not None and side_of(column, user, item)[0] != "context" and lies_before(column, time)


def lies_before(column: Column, time: Column, rows: npt.NDArray[np.int64] | None = None) -> bool:
    """True if moments lie before the impressions that they belong to.

    Args:
        rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
    """
    moments, shown = moments_beside(column, time, rows)
    known = np.isfinite(moments) & np.isfinite(shown)
    return bool(known.any() and (moments <= shown)[known].mean() > _BEFORE)


def moments_beside(
    column: Column, time: Column, rows: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return moments and the times of the impressions that they belong to, (N,) seconds, NaN for none.

    Args:
        rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
    """
    moments, shown = (
        np.asarray(seconds(each.values, detect_unit(each.known))[0].cast(pa.float64()).fill_null(np.nan))
        for each in (column, time)
    )
    if rows is not None:
        moments = np.where(rows >= 0, moments[np.maximum(rows, 0)], np.nan)
    return moments, shown[: len(moments)]
