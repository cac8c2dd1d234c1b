"""Boundaries of train, valid and test, computed without holding the times of the log in memory."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Ints
from clickscale.data.columns import BLOCK, blocks
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError

_DAY = 86_400
_CELLS = 1 << 16
_NEVER = np.iinfo(np.int64).max


def boundaries(time: Ints, split: Split, given: Array | None = None) -> tuple[int, ...]:
    """Compute the first second of valid and of test for ``time`` (N,) in any order.

    The split ``time`` takes the moments of rank floor((1 - valid - test) N) and floor((1 - test) N) in time
    order, so equal times are never divided. ``day`` takes midnight (UTC) before the last days. The splits by
    user have no common moment and give an empty tuple. Parts that are given have one moment, the first of
    valid among the rows of train, if they have no valid part of their own, else none.

    Args:
        given: (N,) part of each row, if the log names it.

    Raises:
        ConfigError: the shares are out of range.
        DataError: no impression is left for training, or the parts of the log are not known.
    """
    check_split(split)
    if split.is_by_user:
        return ()
    if split.is_given:
        return _first_of_valid(time, split, given)
    low, high = _range(time)
    if split.kind == "day":
        after = high // _DAY + 1
        last, tested = int(split.valid + split.test), int(split.test)
        bounds = ((after - last) * _DAY, (after - tested) * _DAY)
    else:
        ranks = (int(len(time) * (1 - split.valid - split.test)), int(len(time) * (1 - split.test)))
        seconds = [_NEVER if rank >= len(time) else _at_rank(time, rank, low, high) for rank in ranks]
        bounds = (seconds[0], seconds[1])
    if low >= bounds[0]:
        raise DataError(f"{split} leaves no impression for training; choose smaller valid and test shares.")
    return bounds


def check_split(split: Split) -> None:
    """Refuse a split whose shares are out of range.

    Raises:
        ConfigError: names the share and the rule.
    """
    if split.valid < 0 or split.test < 0:
        raise ConfigError(f"{split}: valid and test must be >= 0.")
    counted = {"day": "days", "user_last": "moments"}.get(split.kind)
    if counted and (split.valid % 1 or split.test % 1):
        name = "by day" if split.kind == "day" else "of each user's last moments"
        raise ConfigError(f"{split}: a split {name} counts whole {counted}, such as valid = 1 and test = 1.")
    if not counted and split.valid + split.test * (not split.is_given) >= 1:
        raise ConfigError(f"{split}: valid and test must leave a share for training.")
    if (split.kind == "column") != bool(split.column):
        raise ConfigError(f"{split}: name the column with the parts for kind = 'column', and only for it.")


class _Train:
    """Times of the rows whose part is train, block by block."""

    def __init__(self, time: Ints, part: Array) -> None:
        self._time, self._part = time, part

    def __len__(self) -> int:
        return len(self._time)

    def __getitem__(self, rows: slice) -> Ints:
        return np.asarray(self._time[rows][self._part[rows] == 0], np.int64)


def _first_of_valid(time: Ints, split: Split, given: Array | None) -> tuple[int, ...]:
    """Find the moment from which rows of a given train part are valid; nothing if valid is given too."""
    if given is None:
        raise DataError(f"{split} needs the parts that a log names; prepare the log again with this split.")
    counts = sum(
        (np.bincount(given[rows], minlength=3) for rows in blocks(len(given))), np.zeros(3, np.int64)
    )
    if not counts[0]:
        raise DataError(f"{split} leaves no impression for training; no row belongs to the part train.")
    if counts[1] or not split.valid:
        return ()
    train = _Train(time, given)
    low, high = _range(train)
    first = _at_rank(train, int(counts[0] * (1 - split.valid)), low, high)
    if first <= low:
        raise DataError(f"{split} leaves no impression for training; choose a smaller valid share.")
    return (first,)


def _range(time: Ints | _Train) -> tuple[int, int]:
    """Return the smallest and the largest time."""
    pieces = [(int(piece.min()), int(piece.max())) for rows in blocks(len(time)) if len(piece := time[rows])]
    return min(low for low, _ in pieces), max(high for _, high in pieces)


def _at_rank(time: Ints | _Train, rank: int, low: int, high: int) -> int:
    """Return the value of ``rank`` in ascending order: count in cells, then search the right cell."""
    while low < high:
        cell = (high - low) // _CELLS + 1
        counts = np.zeros(_CELLS, np.int64)
        for rows in blocks(len(time)):
            block = time[rows]
            inside = block[(block >= low) & (block <= high)]
            counts += np.bincount((inside - low) // cell, minlength=_CELLS)
        total = np.cumsum(counts)
        chosen = int(np.searchsorted(total, rank, side="right"))
        rank -= int(total[chosen] - counts[chosen])
        low, high = low + chosen * cell, min(low + (chosen + 1) * cell - 1, high)
    return low


def _user_boundaries(offsets: Ints, time: Ints, split: Split) -> Ints:
    """Compute (2, users) first seconds of valid and of test; `_NEVER` where the user has no such part.

    Impression k of a user's n stands at (k + 1/2) / n of that user's time. Equal times are never divided.
    """
    count = np.diff(offsets)
    bounds = np.full((2, len(count)), _NEVER, np.int64)
    for row, share in enumerate((1 - split.valid - split.test, 1 - split.test)):
        # the first k with (k + 1/2) / n > share
        index = np.floor(np.maximum(share * count - 0.5, -1.0)).astype(np.int64) + 1
        users = np.flatnonzero(index < count)
        for block in blocks(len(users), BLOCK):
            bounds[row, users[block]] = time[offsets[users[block]] + index[users[block]]]
    return bounds


def _last_boundaries(offsets: Ints, time: Ints, split: Split) -> Ints:
    """Compute (2, users) first seconds of valid and of test, counted in moments from each user's last one.

    A user with no moment left for training has no valid and no test part: `_NEVER`.
    """
    bounds = np.full((2, len(offsets) - 1), _NEVER, np.int64)
    valid, test = int(split.valid), int(split.test)
    for block in blocks(len(offsets) - 1, BLOCK):
        first, last = offsets[:-1][block], offsets[1:][block]  # (n,) the rows of each user
        start = np.array(last)  # (n,) first row of the moments taken so far
        test_from = np.full(len(start), _NEVER, np.int64)
        for moment in range(valid + test):
            inside = start > first
            start[inside] = _first_at(time, first[inside], start[inside] - 1)
            if moment + 1 == test:
                test_from[inside] = time[start[inside]]
        enough = (start > first) & (last > first) & (valid + test > 0)
        bounds[0, block][enough] = time[start[enough]]
        bounds[1, block][enough] = test_from[enough]
    return bounds


def _first_at(time: Ints, low: Ints, row: Ints) -> Ints:
    """Find (n,) the first row at or after ``low`` with the time of ``row``; times ascend from low to row."""
    wanted, high = time[row], np.array(row)
    low = np.array(low)
    while (low < high).any():
        middle = (low + high) // 2
        earlier = time[middle] < wanted
        low, high = np.where(earlier, middle + 1, low), np.where(earlier, high, middle)
    return low


def part_of(user: npt.NDArray[np.integer], time: Ints, bounds: Ints) -> npt.NDArray[np.uint8]:
    """Return the part, (n,) 0 train, 1 valid or 2 test, of rows of ``user`` at ``time``.

    Args:
        bounds: (2, users) or (2, 1), see `bounds_of`.
    """
    valid, test = bounds[:, 0] if bounds.shape[1] == 1 else bounds[:, user]
    return np.add(time >= valid, time >= test, dtype=np.uint8)


def bounds_of(split: Split, fixed: tuple[int, ...], offsets: Ints, time: Ints) -> Ints:
    """First seconds of valid and of test in the form that `part_of` takes."""
    if split.kind == "user_last":
        return _last_boundaries(offsets, time, split)
    if split.kind == "user_time":
        return _user_boundaries(offsets, time, split)
    return np.array(fixed, np.int64)[:, None]


class Division:
    """Parts of the impressions of one data set.

    Args:
        fixed: what `boundaries` gives.
        offsets: (users + 1,) first impression of each user.
        user, time: (N,) of the impressions.
        given: (N,) part of each impression, if the log names it.

    Attributes:
        bounds: first seconds outside of train and of test, in the form that `part_of` takes. Where parts are
            given, everything of a user from the first impression outside of train is outside of train.
    """

    def __init__(
        self,
        split: Split,
        fixed: tuple[int, ...],
        offsets: Ints,
        user: Array,
        time: Ints,
        given: Array | None,
    ) -> None:
        self._user, self._time, self._fixed = user, time, fixed
        self._given = given if split.is_given else None
        if self._given is None:
            self.bounds = bounds_of(split, fixed, offsets, time)
            return
        self.bounds = np.full((2, len(offsets) - 1), _NEVER, np.int64)
        for rows in blocks(len(time)):
            outside = self.part(rows) > 0
            np.minimum.at(self.bounds[0], user[rows][outside], time[rows][outside])

    def part(self, rows: slice) -> npt.NDArray[np.uint8]:
        """Return the part of some impressions: 0 train, 1 valid or 2 test."""
        if self._given is None:
            return part_of(self._user[rows], self._time[rows], self.bounds)
        part = np.array(self._given[rows], np.uint8)
        if self._fixed:
            part[(part == 0) & (self._time[rows] >= self._fixed[0])] = 1
        return part


def division_warnings(split: Split, parts: Division, offsets: Ints, time: Ints) -> tuple[str, ...]:
    """Warn of users that a split by user leaves out of a part, and of given parts that are mixed in time."""
    if split.is_by_user:
        return _short_users(split, offsets, parts.bounds)
    return _mixed_parts(parts, time) if split.is_given else ()


def _mixed_parts(parts: Division, time: Ints) -> tuple[str, ...]:
    """Describe in a sentence how far given parts overlap in time; nothing if test is after train."""
    first, last, early = _NEVER, -_NEVER, 0
    for rows in blocks(len(time)):
        part = parts.part(rows)
        first = min(first, int(time[rows][part == 2].min(initial=_NEVER)))
        last = max(last, int(time[rows][part < 2].max(initial=-_NEVER)))
    if first > last:
        return ()
    for rows in blocks(len(time)):
        early += int(((parts.part(rows) == 2) & (time[rows] <= last)).sum())
    return (
        f"Warning: {early} impressions of the part test, as the log names it, are not later than all others, "
        "so a model may learn from what happened after them.",
    )


def _short_users(split: Split, offsets: Ints, bounds: Ints) -> tuple[str, ...]:
    """Describe in a sentence the users that a split by user leaves out of valid or test; nothing if none."""
    impressions = np.diff(offsets)
    seen = impressions > 0
    missing = {
        "valid": seen & (bounds[0] >= bounds[1]) & (split.valid > 0),
        "test": seen & (bounds[1] == _NEVER) & (split.test > 0),
    }
    pieces = [
        f"{int(users.sum())} of {int(seen.sum())} users have no impression in {part} "
        f"({int(impressions[users].min())} to {int(impressions[users].max())} impressions each)"
        + (", so that part is empty" if users.sum() == seen.sum() else "")
        for part, users in missing.items()
        if users.any()
    ]
    if not pieces:
        return ()
    advice = {
        "user_time": "the split user_last takes the last moments of each user instead",
        "user_last": "users with too few moments stay in train whole",
    }[split.kind]
    return (f"Warning: in the split {split.kind}, {' and '.join(pieces)}; {advice}.",)
