"""Portions: a run learns from a share of the training part, without a copy of the data.

The validation and test parts stay whole, and so do histories: an impression of a portion sees all behaviors
that were known before it. Vocabularies and declared statistics are those of the whole training part.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Ints
from clickscale.config import Config
from clickscale.errors import ConfigError


class Portion(Config, frozen=True):
    """Share of the training part that a run learns from; a smaller one lies inside every larger one.

    Attributes:
        fraction: of the training impressions, above 0 and at most 1.
        by: ``time`` takes the newest impressions, so that every portion ends where validation begins and none
            is older than another; ``users`` takes all impressions of users in a fixed random order, until
            they make up the fraction.
    """

    fraction: float = 1.0
    by: Literal["time", "users"] = "time"

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(
                f"portion.fraction is {self.fraction}; it must be above 0 and at most 1, such as 0.25."
            )

    def chosen(self, rows: Ints, user: Array, time: Array) -> Ints:
        """Return those of the training impressions ``rows`` (N,) that belong to the portion, in their order.

        Args:
            user, time: (impressions,) of all impressions.
        """
        if self.fraction == 1 or not len(rows):
            return rows
        wanted = max(round(self.fraction * len(rows)), 1)
        owner = np.asarray(user[rows], np.int64)  # (N,)
        if self.by == "users":
            return rows[_first_users(owner, wanted)]
        return rows[_newest(owner, np.asarray(time[rows], np.int64), wanted)]


WHOLE = Portion()


def _newest(user: Ints, time: Ints, wanted: int) -> npt.NDArray[np.bool_]:
    """Mark the newest impressions; of the oldest moment among them, as many users as are needed.

    A log whose times are days would otherwise give a whole day or nothing of it. The impressions of one user
    at one moment, a request, are never divided.
    """
    edge = np.partition(time, len(time) - wanted)[len(time) - wanted]
    marked: npt.NDArray[np.bool_] = time > edge
    tied = np.flatnonzero(time == edge)
    marked[tied] = _first_users(user[tied], wanted - int(marked.sum()))
    return marked


def _first_users(user: Ints, wanted: int) -> npt.NDArray[np.bool_]:
    """Mark all impressions of the first users in random order, until ``wanted`` impressions are reached."""
    users, place, count = np.unique(user, return_inverse=True, return_counts=True)
    order = np.argsort(_scattered(users))
    before = np.cumsum(count[order]) - count[order]
    taken = np.zeros(len(users), bool)
    taken[order[before < wanted]] = True
    return taken[place]


def _scattered(users: Ints) -> npt.NDArray[np.uint64]:
    """Numbers that look random and differ for different users (the finalizer of SplitMix64)."""
    value = users.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
