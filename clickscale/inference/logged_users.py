"""Profiles and last behaviors of users, looked up in a prepared data set as a request would send them."""

import bisect
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clickscale.data.dataset import Dataset
from clickscale.inference.replay import Replay
from clickscale.inference.shown_candidates import plain_ids


@dataclass(frozen=True)
class _LoggedUser:
    """What a data set knows of a user at a moment."""

    profile: dict[str, Any] = field(default_factory=dict)
    behaviors: list[dict[str, Any]] = field(default_factory=list)


class LoggedUsers:
    """Users of a data set by their raw ids.

    Args:
        length: behaviors that are looked up at most, the last ones known before the moment.
    """

    def __init__(self, dataset: Dataset, length: int) -> None:
        self._dataset, self._length = dataset, length
        self._replay = Replay(dataset)
        self._dtype = dataset.schema.user.dtype

    def at(self, user: Any, time: Any) -> _LoggedUser:
        """A user just before a moment; nothing for a user that the data set does not have."""
        row = self._row(user)
        if row < 0 or time is None:
            return _LoggedUser()
        offsets = self._dataset.users["offsets"]
        first, end = int(offsets[row]), int(offsets[row + 1])
        last = first + int(np.searchsorted(self._dataset.known_at[first:end], time, side="left"))
        behaviors = range(max(first, last - self._length), last)
        return _LoggedUser(self._replay.profile(row), [self._replay.behavior(at) for at in behaviors])

    def _row(self, user: Any) -> int:
        """Row of a raw id in the table of users, -1 if it is not there."""
        if not isinstance(user, str | int | float):
            return -1  # no id; the request that holds it is refused with its path
        try:
            (plain,) = plain_ids([user], self._dtype)
        except (ValueError, OverflowError):
            return -1
        ids = self._replay.users
        # Texts stand in the order of their bytes, so a look-up costs few steps and no memory.
        row = bisect.bisect_left(range(len(ids)), _sortable(plain), key=lambda at: _sortable(ids[at].as_py()))
        return row if row < len(ids) and ids[row].as_py() == plain else -1


def _sortable(plain: int | str) -> Any:
    return plain.encode() if isinstance(plain, str) else plain
