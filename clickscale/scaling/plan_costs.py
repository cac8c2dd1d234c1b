"""Costs of a configuration that was not measured, from those that were.

Operations are exact: those of one impression are a polynomial of second degree in the length. Times follow
operations as powers, ``t = c F^b``, one line on logarithmic axes for each kind of time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from clickscale.arrays import Floats
from clickscale.errors import DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.points import CANDIDATES, Measured

_SECONDS = 3600.0
_KNOWN_SPREAD = 0.1  # of the logarithm of a time, where no two measurements tell


@dataclass(frozen=True)
class _TimeLine:
    """Logarithm of a time against that of operations.

    Attributes:
        spread: standard deviation around the line.
        margin: how many of them an interval reaches.
    """

    center: float
    level: float
    slope: float
    squares: float
    count: int
    spread: float
    margin: float

    def at(self, operations: float) -> Interval:
        """A new measurement at so many operations."""
        off = math.log(operations) - self.center
        value = self.level + self.slope * off
        leverage = 1.0 + 1.0 / self.count + (off**2 / self.squares if self.squares else 0.0)
        reach = self.margin * self.spread * math.sqrt(leverage)
        return Interval(math.exp(value - reach), math.exp(value + reach), math.exp(value))


def _time_line(operations: Floats, times: Floats, level: float) -> _TimeLine:
    """Fit a line; its slope is between 0 and 1.5, and 1 where one place says nothing of it."""
    x, y = np.log(operations), np.log(times)
    center, height, squares = float(x.mean()), float(y.mean()), float(((x - x.mean()) ** 2).sum())
    slope = 1.0
    if squares > 1e-12:
        slope = float(np.clip((x - center) @ (y - height) / squares, 0.0, 1.5))
    freedom = len(x) - 2
    if freedom < 1:
        return _TimeLine(center, height, slope, squares, len(x), _KNOWN_SPREAD, 2.0)
    spread = math.sqrt(float(((y - height - slope * (x - center)) ** 2).sum()) / freedom)
    margin = float(stdtrit(freedom, 0.5 + level / 2.0))
    return _TimeLine(center, height, slope, squares, len(x), spread, margin)


class CostModel:
    """Costs of one model at every grade of the sweep and any length.

    Attributes:
        cells: those of the model.
    """

    def __init__(self, cells: Sequence[Measured], level: float) -> None:
        """Fit the lines.

        Raises:
            DataError: no cell has a latency, or none has the time of its training.
        """
        self.cells = list(cells)
        timed = [cell for cell in cells if cell.latency_ms is not None and cell.cached_ms is not None]
        trained = [cell for cell in cells if cell.cpu_seconds]
        if not timed or not trained:
            lacking = "training" if timed else "a request"
            raise DataError(
                f"No cell of {cells[0].model} has the time of {lacking}; run the sweep with its speeds."
            )
        self._encode = _line_of(timed, lambda cell: (cell.latency_ms or 0.0) - (cell.cached_ms or 0.0), level)
        self._score = _line_of(timed, lambda cell: (cell.cached_ms or 0.0) / CANDIDATES, level)
        self._training = _time_line(
            np.array([cell.training_flops for cell in trained]),
            np.array([cell.cpu_seconds or 0.0 for cell in trained]),
            level,
        )
        steps = [cell.training_flops / (cell.flops * cell.impressions) for cell in cells]
        self._passes = float(np.median(steps))  # training operations over those of scoring the data once

    def operations(self, grade: str, length: int) -> float:
        """Operations of one impression.

        Raises:
            DataError: the grade was measured at another length only.
        """
        known = {cell.length: float(cell.flops) for cell in self.cells if cell.grade == grade}
        if length in known:
            return known[length]
        if len(known) < 2:
            raise DataError(f"{grade} was measured at one length, which does not tell its cost at {length}.")
        lengths = np.array(sorted(known), dtype=np.float64)
        counts = np.array([known[int(one)] for one in lengths])
        power = min(len(known) - 1, 2)
        return float(np.polyval(np.polyfit(lengths, counts, power), length))

    def latency(self, operations: float, candidates: int) -> Interval:
        """Milliseconds of a request whose user is encoded."""
        return _sum(self._encode.at(operations), self.cached(operations, candidates))

    def cached(self, operations: float, candidates: int) -> Interval:
        """Milliseconds of a request whose user's state is cached."""
        one = self._score.at(operations)
        return Interval(one.low * candidates, one.high * candidates, one.value * candidates)

    def hours(self, operations: float, impressions: float) -> Interval:
        """Hours of one core to train on so many impressions."""
        seconds = self._training.at(operations * impressions * self._passes)
        return Interval(seconds.low / _SECONDS, seconds.high / _SECONDS, seconds.value / _SECONDS)


def _line_of(cells: Sequence[Measured], time: Callable[[Measured], float], level: float) -> _TimeLine:
    """A line through a time of a request."""
    times = np.array([max(time(cell), 1e-6) for cell in cells])  # encoding can be too fast to be told
    return _time_line(np.array([float(cell.flops) for cell in cells]), times, level)


def _sum(one: Interval, other: Interval) -> Interval:
    """Sum of two times whose errors are independent."""
    value = one.value + other.value
    below = math.hypot(one.value - one.low, other.value - other.low)
    above = math.hypot(one.high - one.value, other.high - other.value)
    return Interval(max(value - below, 0.0), value + above, value)
