"""The item of each user's newest positive just before an impression, a key of statistics.

What a user clicked last tells what comes next: the next episode, what goes with a purchase. For an impression
at time T, the newest positive is the user's latest impression whose first label is 1 and was known before T
(``time + label.delay < T``). Of several in one second it is that with the largest id, whose row in the item
table is the largest: a store, which is told of them in any order, finds the same one.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickscale.data.features.counts_in_memory import Integers
from clickscale.files import array_on_disk

NONE = 0  # in place of a row of the item table


class Positives(NamedTuple):
    """The rows among which newest positives are found, (M,) each, in the order of user and time.

    Attributes:
        item: rows of the item table.
        label: 1 for a positive.
        delay: seconds after which a label is known.
    """

    user: NDArray[np.integer]
    time: NDArray[np.integer]
    item: NDArray[np.integer]
    label: NDArray[np.integer]
    delay: int


def write_newest_positives(
    path: Path,
    user: NDArray[np.integer],
    time: NDArray[np.integer],
    among: Positives,
    memory_rows: int,
) -> None:
    """Write (N,) int32 rows of the item table, `NONE` before the first positive of a user.

    Args:
        user, time: (N,) of the impressions, in the order of user and time.
        memory_rows: impressions in memory at once, with what their users have meanwhile.
    """
    newest = array_on_disk(path, np.int32, (len(user),))
    held = np.zeros((3, 0), np.int64)  # user, time and item of positives that later rows may see
    done = 0  # rows of ``among``
    for start in range(0, len(user), memory_rows):
        rows = slice(start, start + memory_rows)
        who, when = user[rows].astype(np.int64), time[rows].astype(np.int64)
        done = max(done, int(np.searchsorted(among.user, who[0])))
        part = slice(done, max(done, _place(among, int(who[-1]), int(when[-1]))))
        done, positive = part.stop, among.label[part] == 1
        found = np.stack([each[part][positive] for each in (among.user, among.time, among.item)])
        known = np.concatenate([held[:, held[0] == who[0]], found], axis=1)
        known = known[:, np.lexsort(known[::-1])]
        place = places_before(known[0], known[1], who, when - among.delay)
        newest[rows] = np.where(place >= 0, known[2][place], NONE) if known.shape[1] else NONE
        last = known[:, known[0] == who[-1]]
        seen = int(np.searchsorted(last[1], when[-1] - among.delay))
        held = last[:, max(seen - 1, 0) :]
    newest.flush()


def _place(among: Positives, user: int, time: int) -> int:
    """Find the first row that is not before a moment of a user."""
    first, end = (int(np.searchsorted(among.user, user, side)) for side in ("left", "right"))
    return first + int(np.searchsorted(among.time[first:end], time))


def places_before(
    users: Integers, times: Integers, user: NDArray[np.int64], limit: NDArray[np.int64]
) -> Integers:
    """Find the last of some moments of the same user before a limit; -1 for none.

    Args:
        users, times: (M,) the moments, in the order of user and time.
        user, limit: (N,) whose, and before what.
    """
    if not len(users):
        return np.full(len(user), -1)
    earliest, latest = min(times.min(), limit.min()), max(times.max(), limit.max())
    span = int(latest - earliest) + 1
    base = min(users.min(), user.min())
    pairs = (users - base) * span + (times - earliest)
    place = np.searchsorted(pairs, (user - base) * span + (limit - earliest)) - 1
    return np.where((place >= 0) & (users[place] == user), place, -1)
