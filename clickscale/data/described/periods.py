"""Rows of a table that hold for a time, such as the prices of an item, found by a key and a moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.tables.casts import Unit, detect_unit, seconds

# Beyond all moments, and still far from the ends of 64 bits.
FIRST_OF_ALL, NEVER = -(1 << 38), 1 << 38


class Clock:
    """Reads the moments of a column, chunk after chunk."""

    def __init__(self, unit: Unit, time_zone: str) -> None:
        self._unit, self._zone = unit, time_zone or "UTC"

    def __call__(self, values: pa.Array, missing: int) -> Ints:
        """Return seconds (N,), ``missing`` where there are none."""
        if self._unit in ("auto", "iso") and values.null_count < len(values):
            # Days above 12, which tell days from months, may come late.
            found = detect_unit(values)
            self._unit = found if self._unit == "auto" or found in ("DMY", "MDY") else self._unit
        times, _ = seconds(values, self._unit, self._zone)
        return np.asarray(times.fill_null(missing).to_numpy(zero_copy_only=False), np.int64)


@dataclass(frozen=True)
class Stretches:
    """Stretches of time, each with all rows of a key that hold in it; none of them begins or ends within.

    Attributes:
        keys: (S,) ascending, one for each stretch.
        begins, ends: (S,) seconds.
        rows: (E,) rows, those of the first stretch first.
        bounds: (S + 1,) place of the first row of each stretch, and E.
    """

    keys: Ints
    begins: Ints
    ends: Ints
    rows: Ints
    bounds: Ints

    @classmethod
    def of(cls, keys: Ints, bounds: Sequence[Ints]) -> "Stretches":
        """Cut the time of each key where a row (R,) begins or ends.

        Args:
            bounds: seconds of begins, and those of ends; without these, rows last until others begin.
        """
        begins = bounds[0]
        moments = np.concatenate(bounds)
        rows_of = np.tile(keys, len(bounds))
        order = np.lexsort((moments, rows_of))
        new = np.r_[True, (np.diff(rows_of[order]) != 0) | (np.diff(moments[order]) != 0)][: len(order)]
        cut = np.empty(len(order), np.int64)
        cut[order] = np.cumsum(new) - 1
        own, starts = rows_of[order][new], moments[order][new]
        follows = np.r_[own[1:] == own[:-1], False][: len(own)]
        stops = np.where(follows, np.r_[starts[1:], NEVER][: len(own)], NEVER)
        first = cut[: len(begins)]
        last = cut[len(begins) :] if len(bounds) > 1 else first + 1
        count = np.maximum(last - first, 0)
        row = np.repeat(np.arange(len(begins)), count)
        place = np.repeat(first, count) + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        by_place = np.argsort(place, kind="stable")
        return cls(
            own, starts, stops, row[by_place], np.searchsorted(place[by_place], np.arange(len(own) + 1))
        )


@dataclass(frozen=True)
class Periods:
    """Periods of rows, each from its begin up to its end, at which it does not hold any more.

    Attributes:
        keys: (K,) distinct ones, ascending.
        row: (R,) rows in the order of their keys and begins.
        place: (R,) of their keys.
        begins, ends: (R,) seconds.
    """

    keys: Ints
    row: Ints
    place: Ints
    begins: Ints
    ends: Ints

    @classmethod
    def of(cls, keys: Ints, bounds: Sequence[Ints]) -> "Periods":
        """Put rows (R,) in order; of those of a key that begin together the first one counts.

        Args:
            bounds: seconds of begins, and those of ends if there are any.
        """
        begins = bounds[0] if bounds else np.full(len(keys), FIRST_OF_ALL)
        ends = bounds[1] if len(bounds) > 1 else np.full(len(keys), NEVER)
        distinct, place = np.unique(keys, return_inverse=True)
        order = np.lexsort((np.arange(len(keys)), begins, place))
        place, begins = place[order].astype(np.int64), begins[order]
        again = (place[1:] == place[:-1]) & (begins[1:] == begins[:-1])
        kept = np.flatnonzero(np.r_[np.ones(min(len(order), 1), bool), ~again])
        return cls(distinct, order[kept], place[kept], begins[kept], ends[order][kept])

    def places(self, keys: Ints, times: Ints) -> pa.Array:
        """Return the place among ``row`` (N,) of what holds for each key at a moment, null if nothing does.

        Of periods that overlap the one that began last counts.
        """
        if not len(self.keys):
            return pa.nulls(len(keys), pa.int64())
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        # Both kinds of moments in one order, begins first where they are equal.
        asked = np.lexsort(
            (
                np.r_[np.zeros(len(self.row)), np.ones(len(keys))],
                np.r_[self.begins, times],
                np.r_[self.place, place],
            )
        )
        begun = np.cumsum(asked < len(self.row)) - 1
        index = np.zeros(len(keys), np.int64)
        index[asked[asked >= len(self.row)] - len(self.row)] = begun[asked >= len(self.row)]
        last = np.maximum(index, 0)
        holds = (self.keys[place] == keys) & (index >= 0) & (self.place[last] == place)
        return pa.array(last, mask=~(holds & (times < self.ends[last])))
