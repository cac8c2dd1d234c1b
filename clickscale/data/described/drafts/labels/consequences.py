"""Labels that no word tells: columns of two values, or counts, on which others hang that came of an outcome.

A time after the impression, or a duration, that rows have just where a column says so, came of what it says.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import is_afterwards
from clickscale.data.described.drafts.roles.column_values import numbers_or_none
from clickscale.data.described.drafts.roles.moments import moments_beside
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.suspects import written_after, written_with
from clickscale.data.described.rows import as_text

_SAME = 0.999  # share of rows in which something came of an outcome just where a column says so
_MOST = 0.7  # share of rows with an outcome, at most
_FEWEST = 20  # rows with an outcome, at least
_RARELY = 0.5  # share of rows in which a later moment stands, at most; who has an app may have it more often
_ZEROS = 0.3  # share of the rows without an outcome, at least, where the others hold counts
_LATER = 0.99  # share of moments that lie after the impression
_YES = pa.array(["1", "1.0", "true", "t", "yes", "y"])

_Condition = tuple[Column, str, str]  # column, condition, why
_Rows = npt.NDArray[np.bool_]


def with_consequences(columns: Sequence[Column], time: Column | None) -> list[_Condition]:
    """Find the columns that say where something happened which another column measures, most rows first.

    Args:
        columns: those that differ between the impressions of users and of items.
    """
    came = [(column, rows) for column in columns if (rows := _came_of(column, time)) is not None]
    found: list[tuple[int, _Condition]] = []
    for column in columns:
        told = _hanging(column, came) if came else None
        if told is not None:
            often, condition, measured = told
            found.append((often, (column, condition, f"{measured.name} has values just there")))
    return [label for _, label in sorted(found, key=lambda pair: -pair[0])]


def came_later(columns: Sequence[Column], time: Column | None) -> dict[str, str]:
    """Return why columns came after the impression: a later moment stands just where they say so.

    A column that says so in some of these rows only, such as whether a later search had to do with the item,
    tells more of the same.
    """
    later = [(c, rows) for c in columns if c.unit and (rows := _came_of(c, time)) is not None]
    found = {}
    for column in columns if later else ():
        for rows, _ in [] if column.unit else _readings(column):
            within = [moment for moment, happened in later if not (rows & ~happened).any()]
            if within and _FEWEST <= rows.sum() <= _RARELY * len(rows):
                found[column.name] = f"it says something of what happened at {within[0].name}"
    return found


def _hanging(column: Column, came: Sequence[tuple[Column, _Rows]]) -> tuple[int, str, Column] | None:
    """Return the rows with the outcome of a column, its condition and what hangs on it, if anything does."""
    if OutcomeName(column.name).tells_fact or any(column is other for other, _ in came):
        return None
    for rows, condition in _readings(column):
        for other, happened in came:
            if np.mean(rows == happened) >= _SAME and _FEWEST <= rows.sum() <= _MOST * len(rows):
                return int(rows.sum()), condition, other
    return None


def _came_of(column: Column, time: Column | None) -> _Rows | None:
    """Return the rows in which a column has what came of an outcome, by its times or by its name."""
    has = np.asarray(column.values.is_valid())
    if column.unit:
        if time is None or OutcomeName(column.name).is_ahead or has.all():
            return None
        moments, shown = moments_beside(column, time, None)
        later = (moments >= shown)[np.isfinite(moments) & np.isfinite(shown)]
        return has if len(later) and later.mean() >= _LATER else None
    if not (is_afterwards(column) or written_with(column, varies=True) or written_after(column)):
        return None
    numbers = numbers_or_none(column)
    return has if numbers is None else has & (numbers != 0)


def _readings(column: Column) -> Iterator[tuple[_Rows, str]]:
    """Yield the rows in which a column may say that something happened, with the condition of a label."""
    values = as_text(column.values)
    if column.is_flag:
        yield _true(pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(values)), value_set=_YES)), ""
    elif column.distinct == 2 and column.floats is None:
        told = [str(value) for value in column.known.unique().to_pylist()]
        for value in told if all("'" not in value and value.isprintable() for value in told) else ():
            yield _true(pc.equal(values, value)), f"{column.name} == '{value}'"
    elif column.distinct == 1 and column.values.null_count:
        yield np.asarray(column.values.is_valid()), f"{column.name} != ''"
    elif column.is_whole and not column.unit and (numbers := numbers_or_none(column)) is not None:
        zeros = np.mean(numbers == 0) if np.nanmin(numbers) == 0 else 0.0
        if zeros >= _ZEROS:
            yield numbers >= 1, f"{column.name} >= 1"


def _true(flags: pa.Array) -> _Rows:
    return np.asarray(flags.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)
