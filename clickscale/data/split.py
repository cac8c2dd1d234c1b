"""Boundaries of train, valid and test, computed without holding the times of the log in memory."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.columns import BLOCK, blocks
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError

_DAY = 86_400
_CELLS = 1 << 16
_NEVER = np.iinfo(np.int64).max


def boundaries(time: Ints, split: Split) -> tuple[int, ...]:
    """Compute the first second of valid and of test for ``time`` (N,) in any order.

    The split ``time`` takes the moments of rank floor((1 - valid - test) N) and floor((1 - test) N) in time
    order, so equal times are never divided. ``day`` takes midnight (UTC) before the last days. ``user_time``
    has no common moment and gives an empty tuple.

    Raises:
        ConfigError: the shares are out of range.
        DataError: no impression is left for training.
    """
    check_split(split)
    if split.kind == "user_time":
        return ()
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
    if split.kind == "day" and (split.valid % 1 or split.test % 1):
        raise ConfigError(f"{split}: a split by day counts whole days, such as valid = 1 and test = 1.")
    if split.kind != "day" and split.valid + split.test >= 1:
        raise ConfigError(f"{split}: valid and test must leave a share for training.")


def _range(time: Ints) -> tuple[int, int]:
    """Return the smallest and the largest time."""
    pieces = [(int(time[rows].min()), int(time[rows].max())) for rows in blocks(len(time))]
    return min(low for low, _ in pieces), max(high for _, high in pieces)


def _at_rank(time: Ints, rank: int, low: int, high: int) -> int:
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


def part_of(user: npt.NDArray[np.integer], time: Ints, bounds: Ints) -> npt.NDArray[np.uint8]:
    """Return the part, (n,) 0 train, 1 valid or 2 test, of rows of ``user`` at ``time``.

    Args:
        bounds: (2, users) or (2, 1), see `bounds_of`.
    """
    valid, test = bounds[:, 0] if bounds.shape[1] == 1 else bounds[:, user]
    return np.add(time >= valid, time >= test, dtype=np.uint8)


def bounds_of(split: Split, fixed: tuple[int, ...], offsets: Ints, time: Ints) -> Ints:
    """First seconds of valid and of test in the form that `part_of` takes."""
    if split.kind == "user_time":
        return _user_boundaries(offsets, time, split)
    return np.array(fixed, np.int64)[:, None]
