"""Where train ends and where test begins, found without holding the times of the log in memory."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.columns import BLOCK, blocks
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError

_DAY = 86_400
_CELLS = 1 << 16
NEVER = np.iinfo(np.int64).max


def boundaries(time: Ints, split: Split) -> tuple[int, ...]:
    """First second of valid and of test, for ``time`` (N,) in any order; empty for ``user_time``.

    ``time``: the moments at places floor((1 - valid - test) N) and floor((1 - test) N) in time order, so
    equal times are never divided. ``day``: midnight (UTC) before the last days.

    Raises:
        ConfigError: the shares make no sense.
        DataError: nothing would be left for training.
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
        places = (int(len(time) * (1 - split.valid - split.test)), int(len(time) * (1 - split.test)))
        found = [NEVER if place >= len(time) else _at_place(time, place, low, high) for place in places]
        bounds = (found[0], found[1])
    if low >= bounds[0]:
        raise DataError(f"{split} leaves no impression for training; choose smaller valid and test parts.")
    return bounds


def check_split(split: Split) -> None:
    """Refuse shares that are no shares.

    Raises:
        ConfigError: names what is wrong.
    """
    if split.valid < 0 or split.test < 0:
        raise ConfigError(f"{split}: valid and test must be >= 0.")
    if split.kind == "day" and (split.valid % 1 or split.test % 1):
        raise ConfigError(f"{split}: a split by day counts whole days, such as valid = 1 and test = 1.")
    if split.kind != "day" and split.valid + split.test >= 1:
        raise ConfigError(f"{split}: valid and test must leave a share for training.")


def _range(time: Ints) -> tuple[int, int]:
    """Smallest and largest."""
    pieces = [(int(time[rows].min()), int(time[rows].max())) for rows in blocks(len(time))]
    return min(low for low, _ in pieces), max(high for _, high in pieces)


def _at_place(time: Ints, place: int, low: int, high: int) -> int:
    """The value at ``place`` in ascending order: count in cells, then look into the right cell."""
    while low < high:
        cell = (high - low) // _CELLS + 1
        counts = np.zeros(_CELLS, np.int64)
        for rows in blocks(len(time)):
            block = time[rows]
            inside = block[(block >= low) & (block <= high)]
            counts += np.bincount((inside - low) // cell, minlength=_CELLS)
        total = np.cumsum(counts)
        chosen = int(np.searchsorted(total, place, side="right"))
        place -= int(total[chosen] - counts[chosen])
        low, high = low + chosen * cell, min(low + (chosen + 1) * cell - 1, high)
    return low


def user_boundaries(offsets: Ints, time: Ints, split: Split) -> Ints:
    """(2, users) first second of valid and of test for each user; `NEVER` where the user has none.

    Impression k of a user's n stands at (k + 1/2) / n of the user's own time. Equal times are never divided.
    """
    count = np.diff(offsets)
    bounds = np.full((2, len(count)), NEVER, np.int64)
    for row, share in enumerate((1 - split.valid - split.test, 1 - split.test)):
        place = (
            np.floor(np.maximum(share * count - 0.5, -1.0)).astype(np.int64) + 1
        )  # first with (k + .5)/n > share
        has = np.flatnonzero(place < count)
        for at in blocks(len(has), BLOCK):
            bounds[row, has[at]] = time[offsets[has[at]] + place[has[at]]]
    return bounds


def part_of(user: npt.NDArray[np.integer], time: Ints, bounds: Ints) -> npt.NDArray[np.uint8]:
    """(n,) 0 train, 1 valid, 2 test for rows of ``user`` at ``time``; ``bounds`` (2, users) or (2, 1)."""
    valid, test = bounds[:, 0] if bounds.shape[1] == 1 else bounds[:, user]
    return np.add(time >= valid, time >= test, dtype=np.uint8)


def bounds_of(split: Split, fixed: tuple[int, ...], offsets: Ints, time: Ints) -> Ints:
    """First seconds of valid and of test as `part_of` takes them."""
    if split.kind == "user_time":
        return user_boundaries(offsets, time, split)
    return np.array(fixed, np.int64)[:, None]
