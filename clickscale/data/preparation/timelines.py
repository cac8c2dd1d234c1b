"""Timelines: a user's events by time, each once, and the number of behaviors that an impression sees."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.preparation.records import Records

_LARGEST = 2**62  # a number that stands for a user and a time fits in 64 bits


def in_time(user: Ints, time: Ints) -> Ints:
    """Order rows by user, then time, then position in the log."""
    if not len(user):
        return np.zeros(0, np.int64)
    low, last = int(time.min()), int(time.max())
    span = last - low + 1
    if (int(np.abs(user).max()) + 1) * span > _LARGEST:
        return np.lexsort((time, user))
    # One stable sort of one number takes half as long as a sort by two.
    return np.argsort(user.astype(np.int64) * span + (time - low), kind="stable")


def repeats(records: Records, user: Ints) -> npt.NDArray[np.bool_]:
    """(N,) True where a record equals an earlier one in everything but ``row``.

    Args:
        records: sorted by ``user`` (N,), then ``time``, equal times in the order of the log.
    """
    again = np.zeros(len(records), bool)
    tied = np.flatnonzero(_tied(user, records["time"]))
    order = tied[np.lexsort((records["item"][tied], records["time"][tied], user[tied]))]
    order = order[_tied(user[order], records["time"][order], records["item"][order])]
    if not len(order):
        return again
    order = np.sort(order)  # so that the first of equal records is the first in the log
    names = [name for name in records.dtype.names or () if name != "row"]
    whole = np.zeros(len(order), np.dtype([(name, records.dtype[name]) for name in names]))
    for name in names:
        whole[name] = records[name][order]
    _, first, back = np.unique(whole.view(f"V{whole.dtype.itemsize}"), return_index=True, return_inverse=True)
    again[order[first[back] != np.arange(len(order))]] = True
    return again


def _tied(*columns: Ints) -> npt.NDArray[np.bool_]:
    """(N,) True where a row equals a neighbor in every column."""
    same = np.ones(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        same &= column[1:] == column[:-1]
    tied = np.zeros(len(columns[0]), bool)
    tied[1:] = same
    tied[:-1] |= same
    return tied


def visible_before(user: Ints, known: Ints, asking: Ints, time: Ints) -> npt.NDArray[np.int32]:
    """Count (M,) the behaviors of the same user that were known strictly before each impression.

    Args:
        user, known: (N,) of behaviors, sorted by user, then by the moment from which they are known.
        asking, time: (M,) users and times of impressions.
    """
    # Impressions go first, so that of equal moments theirs is the earlier one.
    order = in_time(np.concatenate([asking, user]), np.concatenate([time, known]))
    is_behavior = order >= len(asking)
    before = np.cumsum(is_behavior)[~is_behavior]  # of all users up to here
    impression = order[~is_behavior]
    visible = np.empty(len(asking), np.int32)
    visible[impression] = before - np.searchsorted(user, asking[impression])
    return visible
