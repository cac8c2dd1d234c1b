"""Held-out checks: the largest cells are predicted from the smaller ones, then compared.

A prediction sees the smaller cells only, so it is what would have been said before the largest were trained.
A check of a ladder that holds supports looking as far beyond all rungs as it looked beyond the smaller ones.
That of a joint law supports combinations of what was measured along each axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from clickscale.errors import DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.joint_law import fit_joint, place_of, sizes
from clickscale.scaling.law_profile import Form
from clickscale.scaling.points import Measured
from clickscale.scaling.power_law import LEVEL, Rungs, fit_law

MOST_ERROR = 0.002  # of a prediction that is good enough to plan with
_CHANCE = 0.05  # a check fails if so few intervals hold what was measured less often than this
_LARGEST = 8  # one configuration in so many is held out, the largest


@dataclass(frozen=True)
class HeldOut:
    """A prediction beside what was measured.

    Attributes:
        x: place of the largest rung. factor: how far beyond the smaller rungs it lies.
        seeds: runs behind the measured mean.
        predicted: with the interval of the mean of so many new runs on the same users.
        climb: of the smaller rungs, from the lowest to the highest.
    """

    x: float
    factor: float
    seeds: int
    predicted: Interval
    measured: float
    climb: float

    @property
    def error(self) -> float:
        """Measured less predicted."""
        return self.measured - self.predicted.value

    @property
    def inside(self) -> bool:
        """True if the interval holds what was measured."""
        return self.predicted.low <= self.measured <= self.predicted.high

    @property
    def holds(self) -> bool:
        """True if the prediction was good enough to plan with: inside, close, and not for being vague."""
        vague = self.predicted.high - self.predicted.low > max(self.climb, 2 * MOST_ERROR)
        return self.inside and abs(self.error) <= MOST_ERROR and not vague

    @property
    def told(self) -> str:
        """A sentence about the outcome."""
        if self.holds:
            return f"holds up to {self.factor:.3g} times beyond the points"
        if not self.inside:
            return f"fails: {self.measured:.4f} lies outside of the interval"
        if abs(self.error) > MOST_ERROR:
            return f"fails: off by {abs(self.error):.4f}, more than {MOST_ERROR}"
        return "says nothing: the interval is wider than all that the ladder climbed"


@dataclass(frozen=True)
class JointCheck:
    """Predictions of the configurations with the most training operations.

    Attributes:
        names: of the configurations. predicted, measured: in their order.
        factor: training operations of the largest one over those of the largest that was fitted.
        level: of the intervals.
    """

    names: tuple[str, ...]
    predicted: tuple[Interval, ...]
    measured: tuple[float, ...]
    factor: float
    level: float

    @property
    def error(self) -> float:
        """The largest distance of a prediction from what was measured."""
        return max(abs(value - one.value) for one, value in zip(self.predicted, self.measured, strict=True))

    @property
    def inside(self) -> int:
        """How many intervals hold what was measured."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return sum(one.low <= value <= one.high for one, value in pairs)

    @property
    def holds(self) -> bool:
        """True if the law is good enough to plan with: all are close, and as many inside as chance has it."""
        by_chance = float(bdtr(self.inside, len(self.names), self.level))
        return self.error <= MOST_ERROR and by_chance >= _CHANCE

    @property
    def told(self) -> str:
        """A sentence about the outcome."""
        count = len(self.names)
        found = f"{self.inside} of {count} inside, off by {self.error:.4f} at most"
        return f"holds: {found}" if self.holds else f"fails: {found}"


def hold_out(rungs: Rungs, form: Form = "saturating", *, level: float = LEVEL) -> HeldOut:
    """Predict the largest rung from the others, then look at it.

    Raises:
        DataError: the others are too few.
    """
    smaller = rungs.only(slice(0, -1))
    x, seeds = float(rungs.x[-1]), len(rungs.values[-1])
    predicted = _predict_next(smaller, x, seeds, form, level=level)
    return HeldOut(
        x=x,
        factor=x / float(smaller.x[-1]),
        seeds=seeds,
        predicted=predicted,
        measured=float(rungs.means[-1]),
        climb=float(np.ptp(smaller.means)),
    )


def _predict_next(
    rungs: Rungs, x: float, seeds: int, form: Form = "saturating", *, level: float = LEVEL
) -> Interval:
    """The mean of new runs at an x beyond all rungs.

    Raises:
        DataError: x is not beyond the rungs, or they are too few.
    """
    if not len(rungs) or x <= rungs.x[-1]:
        raise DataError(f"x = {x:g} is not beyond the rungs {rungs.x.tolist()}; a check looks beyond them.")
    return fit_law(rungs, form, level=level).predict(x, seeds)


def hold_out_joint(cells: Sequence[Measured], *, level: float = LEVEL) -> JointCheck:
    """Predict the configurations of one model with the most training operations from the others.

    Raises:
        DataError: the others are too few.
    """
    groups: dict[tuple[str, int, float], list[Measured]] = {}
    for cell in cells:
        groups.setdefault((cell.grade, cell.length, cell.fraction), []).append(cell)
    ordered = sorted(groups.values(), key=lambda group: group[0].training_flops)
    count = max(len(ordered) // _LARGEST, 1)
    smaller, largest = ordered[:-count], ordered[-count:]
    law = fit_joint([cell for group in smaller for cell in group], level=level)
    size = sizes(cells)  # of costs, which are known before anything is trained
    return JointCheck(
        names=tuple(", ".join(_configuration_words(group[0])) for group in largest),
        predicted=tuple(law.predict(place_of(group[0], size), len(group)) for group in largest),
        measured=tuple(math.fsum(cell.auc for cell in group) / len(group) for group in largest),
        factor=largest[-1][0].training_flops / smaller[-1][0].training_flops,
        level=level,
    )


def _configuration_words(cell: Measured) -> list[str]:
    """A cell without its seed, for people."""
    share = [] if cell.fraction == 1 else [f"{cell.fraction:.3g} of the data"]
    return [cell.grade, f"L = {cell.length}", *share]
