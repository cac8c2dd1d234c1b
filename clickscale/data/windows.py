"""Windows: the impressions of a part, cut into rows of batches that share behaviors.

A window becomes one row of a batch: neighboring impressions of one user over one stretch of behaviors. Two
decisions make it: where windows begin (a grouping, or the window policy of a server), and how many behaviors
each looks back from its first impression.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.dataset import Dataset

Grouping = Literal["timeline", "request", "impression"]
_MOST = 1024  # impressions of a replayed or shared window in one row of a batch


@dataclass(frozen=True)
class Windows:
    """Future rows of batches: impressions ``first:first + count`` of a part over behaviors ``start:end``.

    Attributes:
        first, count: (N,) index of the first impression in the part, and number of impressions.
        start, end: (N,) rows of the behavior table.
        length: (N,) largest number of behaviors that a candidate of the window sees.
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
        begins = _request_begins(dataset, rows, user)
    elif grouping == "timeline":
        begins = _timeline_begins(user, visible, window or length)
    first = np.flatnonzero(begins)
    return _windows(dataset, user, visible, first, np.full(len(first), length))


def served_windows(dataset: Dataset, rows: Ints, length: int, shared: int) -> tuple[Windows, Windows]:
    """Cut the impressions ``rows`` (ascending) into windows in which a causal model scores as a server does.

    Requests that see at most ``shared`` behaviors see the first ones of their user, of which nothing is cut:
    one causal encoding holds the states of all of them.

    Args:
        length: a candidate sees the last ``length`` behaviors known before it.
        shared: at most ``length``; less if a model reads fewer behaviors than it is given.

    Returns:
        Windows of several requests of one user, and those of a single request. Apart, because candidates
        that all see the same are scored faster.
    """
    user, visible = _seen(dataset, rows)
    begins = _request_begins(dataset, rows, user)
    request = np.cumsum(begins)
    # Behaviors only accumulate, so the requests that may share are the first ones of their user.
    begins[1:] &= (user[1:] != user[:-1]) | (visible[1:] > shared)
    first = np.flatnonzero(begins)
    windows = _windows(dataset, user, visible, first, np.full(len(first), length))
    several = request[windows.first + windows.count - 1] > request[windows.first]
    offset = np.asarray(dataset.users["offsets"], dtype=np.int64)[user[first]]
    return _divide(_only(windows, several), offset[several], visible), _only(windows, ~several)


def _only(windows: Windows, chosen: npt.NDArray[np.bool_]) -> Windows:
    """Some of the windows."""
    return Windows(*(getattr(windows, field.name)[chosen] for field in fields(windows)))


def look_back(dataset: Dataset, rows: Ints, windows: Windows, length: Ints) -> Windows:
    """Return the same windows with another number of visible behaviors for each, ``length`` (N,)."""
    user, visible = _seen(dataset, rows)
    return _windows(dataset, user, visible, windows.first, length)


def replay_windows(dataset: Dataset, rows: Ints, length: int, slack: int) -> Windows:
    """Cut the impressions ``rows``, in order of time, into those that one cached state serves.

    A server builds a state from the last ``length`` behaviors at the first request of a user and appends new
    behaviors to it. As soon as the state would hold more than ``length + slack`` behaviors, it is rebuilt
    from the last ``length``. A candidate sees all behaviors that the state holds.
    """
    user, visible = _seen(dataset, rows)
    first = _rebuilds(user, visible, length, slack)
    windows = _windows(dataset, user, visible, first, np.full(len(first), length + slack))
    offset = np.asarray(dataset.users["offsets"], dtype=np.int64)[user[first]]
    start = offset + np.maximum(visible[first] - length, 0)
    return _divide(replace(windows, start=start), offset, visible)


def _rebuilds(user: Ints, visible: Ints, length: int, slack: int) -> Ints:
    """Indices of the impressions at which a server builds or rebuilds a state, ascending."""
    step = int(visible.max(initial=0)) + length + slack + 1
    code = user * step + visible  # ascending: rows stand by user, then by time
    current = np.flatnonzero(np.diff(user, prepend=-1))
    begins = [current]
    while len(current):  # all users at once; the busiest user sets the number of rounds
        held = np.maximum(visible[current] - length, 0) + length + slack  # the largest count that fits
        after = np.searchsorted(code, user[current] * step + held, side="right")
        inside = after < len(user)
        after, owner = after[inside], user[current][inside]
        current = after[user[after] == owner]
        begins.append(current)
    return np.sort(np.concatenate(begins))


def _divide(windows: Windows, offset: Ints, visible: Ints) -> Windows:
    """Divide windows of more than ``_MOST`` impressions into rows that start at the same behavior."""
    pieces = -(-windows.count // _MOST)
    source = np.repeat(np.arange(len(windows)), pieces)
    piece = np.arange(len(source)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = windows.first[source] + piece * _MOST
    count = np.minimum(windows.count[source] - piece * _MOST, _MOST)
    end = offset[source] + visible[first + count - 1]
    return Windows(first, count, windows.start[source], end, windows.length[source])


def _seen(dataset: Dataset, rows: Ints) -> tuple[Ints, Ints]:
    """Return the user and the number of visible behaviors of each impression."""
    user = np.asarray(dataset.impressions["user"][rows], dtype=np.int64)
    return user, np.asarray(dataset.impressions["visible"][rows], dtype=np.int64)


def _windows(dataset: Dataset, user: Ints, visible: Ints, first: Ints, length: Ints) -> Windows:
    """Windows that begin at ``first`` and look back ``length`` behaviors from there."""
    count = np.diff(np.append(first, len(user)))
    offset = np.asarray(dataset.users["offsets"], dtype=np.int64)[user[first]]
    start = offset + np.maximum(visible[first] - length, 0)
    return Windows(first, count, start, offset + visible[first + count - 1], length)


def _request_begins(dataset: Dataset, rows: Ints, user: Ints) -> npt.NDArray[np.bool_]:
    """Mark the first impression of each request: a new user, or another time."""
    time = np.asarray(dataset.impressions["time"][rows])
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    return begins


def _timeline_begins(user: Ints, visible: Ints, window: int) -> npt.NDArray[np.bool_]:
    """Mark the first impression of each window: a new user, or ``window`` more impressions or behaviors."""
    fresh = np.ones(len(user), dtype=bool)
    fresh[1:] = user[1:] != user[:-1]
    # Index of the first impression of the same user.
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(user)), 0))
    steps = (np.arange(len(user)) - first) // window
    reach = (visible - visible[first]) // window
    fresh[1:] |= (steps[1:] != steps[:-1]) | (reach[1:] != reach[:-1])
    return fresh
