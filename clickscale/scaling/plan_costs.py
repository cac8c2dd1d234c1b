"""Costs of a configuration that was not measured, from those that were.

Operations are exact: those of one impression are a polynomial of second degree in the length. Times follow
operations as powers, ``t = c F^b``: a line on logarithmic axes for each kind of time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from clickscale.arrays import Floats
from clickscale.errors import DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.points import CANDIDATES, SPEEDS, Measured
from clickscale.scaling.power_law import deviations

_HOUR = 3600.0  # seconds
_LEAST_MS = 1e-3
_SHARED = 1e-6  # spread of the logarithm of times that are one
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

    What was timed counts as it was timed. Another length of a grade lies on the line through the times of
    that grade, if it has two lengths, and on that through all cells otherwise.

    Attributes:
        cells: those of the model.
    """

    def __init__(self, cells: Sequence[Measured], level: float) -> None:
        """Look for times.

        Raises:
            DataError: no cell has the time of a request, or none has that of its training.
        """
        self.cells = list(cells)
        self._level = level
        served = [cell for cell in cells if cell.latency_ms is not None and cell.cached_ms is not None]
        trained = [cell for cell in cells if cell.cpu_seconds]
        if not served or not trained:
            lacking = "training" if served else "a request"
            raise DataError(f"no cell of it has the time of {lacking}; the sweep's {SPEEDS} is missing.")
        self._encoding = _Times(served, _operations, _encoding_ms, level)
        self._scoring = _Times(served, _operations, _scoring_ms, level)
        self._training = _Times(trained, _training_operations, _seconds, level)

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
        return float(np.polyval(np.polyfit(lengths, counts, min(len(known) - 1, 2)), length))

    def latency(self, grade: str, length: int, candidates: int, more: float = 1.0) -> Interval:
        """Milliseconds of a request whose user is encoded, with ``more`` times the operations."""
        encoding = self._encoding.at(grade, self.operations(grade, length), more)
        return _sum(encoding, self.cached(grade, length, candidates, more))

    def cached(self, grade: str, length: int, candidates: int, more: float = 1.0) -> Interval:
        """Milliseconds of a request whose user's state is cached."""
        one = self._scoring.at(grade, self.operations(grade, length), more)
        return Interval(one.low * candidates, one.high * candidates, one.value * candidates)

    def hours(self, grade: str, length: int, impressions: float, more: float = 1.0) -> Interval:
        """Hours of one core to train on so many impressions, with ``more`` times the operations."""
        operations = self.operations(grade, length) * impressions * self._passes(grade, length)
        seconds = self._training.at(grade, operations, more)
        return Interval(seconds.low / _HOUR, seconds.high / _HOUR, seconds.value / _HOUR)

    def _passes(self, grade: str, length: int) -> float:
        """Training operations over those of scoring the data once, as on the most data that was measured."""
        own = [cell for cell in self.cells if (cell.grade, cell.length) == (grade, length)]
        most = max(cell.impressions for cell in own or self.cells)
        passes = [
            cell.training_flops / (cell.flops * cell.impressions)
            for cell in own or self.cells
            if cell.impressions == most
        ]
        return float(np.median(passes))


def _operations(cell: Measured) -> float:
    return float(cell.flops)


def _training_operations(cell: Measured) -> float:
    return cell.training_flops


def _encoding_ms(cell: Measured) -> float:
    # Encoding can be too fast to be told from the noise of the two times.
    return max((cell.latency_ms or 0.0) - (cell.cached_ms or 0.0), _LEAST_MS)


def _scoring_ms(cell: Measured) -> float:
    return max(cell.cached_ms or 0.0, _LEAST_MS) / CANDIDATES


def _seconds(cell: Measured) -> float:
    return cell.cpu_seconds or 0.0


class _Times:
    """One kind of time against operations, over the cells of a model."""

    def __init__(
        self,
        cells: Sequence[Measured],
        operations: Callable[[Measured], float],
        time: Callable[[Measured], float],
        level: float,
    ) -> None:
        self._points: dict[str, dict[float, list[float]]] = {}
        for cell in cells:
            self._points.setdefault(cell.grade, {}).setdefault(operations(cell), []).append(time(cell))
        self._level = level
        self._all = self._line(list(self._points.values()))

    def at(self, grade: str, operations: float, more: float) -> Interval:
        """The time of a grade at so many operations, and with ``more`` times as many of them."""
        points = self._points.get(grade, {})
        near = next((x for x in points if math.isclose(x, operations, rel_tol=0.02)), None)
        if near is not None:
            found = self._measured(points[near])
        elif len(points) > 1:
            found = self._line([points]).at(operations)
        else:
            found = self._all.at(operations)
        growth = more**self._all.slope
        return Interval(found.low * growth, found.high * growth, found.value * growth)

    def _measured(self, times: list[float]) -> Interval:
        """The median of what was timed; how times of one cell spread is that of all cells."""
        value = float(np.median(times))
        off = deviations([np.log(group) for rungs in self._points.values() for group in rungs.values()])
        spread = float(np.sqrt(np.mean(off**2))) if off.size else 0.0
        if spread < _SHARED:  # seeds that share one measurement say nothing of how it spreads
            spread = _KNOWN_SPREAD
        reach = math.exp(float(ndtri(0.5 + self._level / 2.0)) * spread * math.sqrt(1.0 + 1.0 / len(times)))
        return Interval(value / reach, value * reach, value)

    def _line(self, grades: Sequence[dict[float, list[float]]]) -> _TimeLine:
        pairs = [(x, time) for rungs in grades for x, times in rungs.items() for time in times]
        operations, times = np.array(pairs).T  # (P, 2) -> (2, P)
        return _time_line(operations, times, self._level)


def _sum(one: Interval, other: Interval) -> Interval:
    """Sum of two times whose errors are independent."""
    value = one.value + other.value
    below = math.hypot(one.value - one.low, other.value - other.low)
    above = math.hypot(one.high - one.value, other.high - other.value)
    return Interval(max(value - below, 0.0), value + above, value)
