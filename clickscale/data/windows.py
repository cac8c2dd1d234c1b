"""Cutting the impressions of a part into the rows of batches: which impressions share which behaviors.

A window is one row of a batch to come: neighboring impressions of one user over one stretch of behaviors. It
is made in two steps: where windows begin (a grouping, or the window policy of a server), and how many
behaviors each looks back from its first impression.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.dataset import Dataset

Grouping = Literal["timeline", "request", "impression"]
_MOST = 1024  # impressions of a replayed window in one row of a batch


@dataclass(frozen=True)
class Windows:
    """Rows of batches to come: impressions ``first:first + count`` of a part over behaviors ``start:end``.

    Attributes:
        first, count: (N,) place in the part and number of the impressions.
        start, end: (N,) rows of the behavior table.
        length: (N,) behaviors that a candidate of the window sees at most.
    """

    first: Ints
    count: Ints
    start: Ints
    end: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.first)


def make_windows(dataset: Dataset, rows: Ints, grouping: Grouping, length: int, window: int = 0) -> Windows:
    """Cut the impressions ``rows`` (ascending) into windows of one user each.

    ``impression``: one each. ``request``: equal user and time. ``timeline``: as many neighbors of one user as
    fit in ``window`` (0 takes ``length``), both in impressions and in behaviors that lie between the first
    and the last of them. A candidate sees the last ``length`` behaviors known before it.
    """
    user, visible = _seen(dataset, rows)
    begins = np.ones(len(rows), dtype=bool)
    if grouping == "request":
        time = np.asarray(dataset.impressions["time"][rows])
        begins[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    elif grouping == "timeline":
        begins = _timeline_begins(user, visible, window or length)
    first = np.flatnonzero(begins)
    return _windows(dataset, user, visible, first, np.full(len(first), length))


def look_back(dataset: Dataset, rows: Ints, windows: Windows, length: Ints) -> Windows:
    """The same windows when the candidates of each see its own number of behaviors, ``length`` (N,)."""
    user, visible = _seen(dataset, rows)
    return _windows(dataset, user, visible, windows.first, length)


def replay_windows(dataset: Dataset, rows: Ints, length: int, slack: int) -> Windows:
    """What one state serves under the window policy, when the impressions ``rows`` come in order of time.

    A server makes a state from the last ``length`` behaviors at the first request of a user, appends to it
    what the user does, and makes it anew from the last ``length`` as soon as it would hold more than
    ``length + slack``. A candidate sees all that the state holds.
    """
    user, visible = _seen(dataset, rows)
    first = _rebuilds(user, visible, length, slack)
    made = _windows(dataset, user, visible, first, np.full(len(first), length + slack))
    offset = np.asarray(dataset.users["offsets"], dtype=np.int64)[user[first]]
    start = offset + np.maximum(visible[first] - length, 0)
    return _divide(replace(made, start=start), offset, visible)


def _rebuilds(user: Ints, visible: Ints, length: int, slack: int) -> Ints:
    """Places of the impressions at which a server makes a state anew, ascending."""
    step = int(visible.max(initial=0)) + length + slack + 1
    place = user * step + visible  # ascending, as both are: users one after the other, each in order of time
    current = np.flatnonzero(np.diff(user, prepend=-1))
    found = [current]
    while len(current):  # all users at once: as many rounds as the busiest user has states
        held = np.maximum(visible[current] - length, 0) + length + slack  # the last count that still fits
        after = np.searchsorted(place, user[current] * step + held, side="right")
        inside = after < len(user)
        after, owner = after[inside], user[current][inside]
        current = after[user[after] == owner]
        found.append(current)
    return np.sort(np.concatenate(found))


def _divide(windows: Windows, offset: Ints, visible: Ints) -> Windows:
    """Divide windows of more than ``_MOST`` impressions into rows that start at the same behavior."""
    pieces = -(-windows.count // _MOST)
    of = np.repeat(np.arange(len(windows)), pieces)
    number = np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = windows.first[of] + number * _MOST
    count = np.minimum(windows.count[of] - number * _MOST, _MOST)
    end = offset[of] + visible[first + count - 1]
    return Windows(first, count, windows.start[of], end, windows.length[of])


def _seen(dataset: Dataset, rows: Ints) -> tuple[Ints, Ints]:
    """User and number of visible behaviors of each impression."""
    user = np.asarray(dataset.impressions["user"][rows], dtype=np.int64)
    return user, np.asarray(dataset.impressions["visible"][rows], dtype=np.int64)


def _windows(dataset: Dataset, user: Ints, visible: Ints, first: Ints, length: Ints) -> Windows:
    """Windows that begin at ``first`` and look back ``length`` behaviors from there."""
    count = np.diff(np.append(first, len(user)))
    offset = np.asarray(dataset.users["offsets"], dtype=np.int64)[user[first]]
    start = offset + np.maximum(visible[first] - length, 0)
    return Windows(first, count, start, offset + visible[first + count - 1], length)


def _timeline_begins(user: Ints, visible: Ints, window: int) -> npt.NDArray[np.bool_]:
    """Where a new window begins: at a new user, and at every ``window`` impressions or visible behaviors."""
    fresh = np.ones(len(user), dtype=bool)
    fresh[1:] = user[1:] != user[:-1]
    # Place of the first impression of the same user.
    head = np.maximum.accumulate(np.where(fresh, np.arange(len(user)), 0))
    steps = (np.arange(len(user)) - head) // window
    reach = (visible - visible[head]) // window
    fresh[1:] |= (steps[1:] != steps[:-1]) | (reach[1:] != reach[:-1])
    return fresh
