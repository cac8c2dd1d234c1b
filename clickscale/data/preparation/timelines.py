"""The order of a user's events: by time, each event once, and how many behaviors an impression may see."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.preparation.records import Records


def in_time(user: Ints, time: Ints) -> Ints:
    """Order by user, then time, then place in the log."""
    return np.lexsort((time, user))


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
    """(M,) how many behaviors of the same user were known strictly before each impression.

    Args:
        user, known: (N,) of behaviors, sorted by user, then by the moment from which they are known.
        asking, time: (M,) users and times of impressions.
    """
    behaviors = np.zeros(len(user), bool)
    order = np.lexsort(
        (
            np.concatenate([np.ones_like(behaviors), np.zeros(len(asking), bool)]),  # impressions go first
            np.concatenate([known, time]),
            np.concatenate([user, asking]),
        )
    )
    is_behavior = order < len(user)
    before = np.cumsum(is_behavior)[~is_behavior]  # of all users up to here
    impression = order[~is_behavior] - len(user)
    visible = np.empty(len(asking), np.int32)
    visible[impression] = before - np.searchsorted(user, asking[impression])
    return visible
