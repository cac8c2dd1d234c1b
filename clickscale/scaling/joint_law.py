"""One law over size, length and data, for cells that differ along several axes at once.

::

    AUC(C, L, D) = E - A1 / C^a - A2 / L^b - A3 / D^g

C is the size of a grade: the operations of one impression at the shortest length that all grades share. It
is free of L, which has a term of its own. The terms add, as those of Hoffmann et al. 2022 do for language
models; if they do not, the misfit says so. An axis with two values has a step instead of a law: its exponent
is 1.

Bounded least squares with analytic derivatives from many starts; the bootstrap over seeds starts at the fit.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import least_squares, nnls
from scipy.special import fdtrc, stdtrit

from clickscale.arrays import Floats
from clickscale.errors import DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.ladders import AXES, Axis
from clickscale.scaling.points import Measured
from clickscale.scaling.power_law import LEVEL, deviations

_EXPONENTS = (0.02, 3.0)
_STARTS = (0.15, 0.5, 1.5)  # of every exponent
_POLISHED = 4  # starts that are followed to the end
_REPLICATES = 100
_FROM_NEARBY = 40  # evaluations of a resample at most; where they do not suffice, the law is not determined
_SIGNIFICANT = 0.05
_LEAST_NOISE = 1e-12


@dataclass(frozen=True)
class JointLaw:
    """A fitted law.

    Attributes:
        axes: those along which the cells differ.
        ceiling: E. exponents, scales: by axis, in units of the axis.
        steps: axes with two values.
        r2, noise, misfit: as of `PowerLaw`.
        cells: how many were fitted. configurations: how many of them differ by more than the seed.
        verdict: why the points do not determine the exponents; empty if they do.
    """

    axes: tuple[Axis, ...]
    level: float
    ceiling: Interval
    exponents: dict[Axis, Interval]
    scales: dict[Axis, float]
    steps: tuple[Axis, ...]
    r2: float
    noise: float
    misfit: float
    cells: int
    configurations: int
    verdict: tuple[str, ...]
    _fitted: "_Fitted" = field(repr=False)

    def predict(self, place: Mapping[Axis, float], seeds: int) -> Interval:
        """The mean of new seeds at a place, measured on the same users; 0 seeds are the law itself."""
        point = np.array([[place[axis] for axis in self.axes]])
        return self._fitted.interval(point, 1.0 / seeds if seeds else 0.0)


def sizes(cells: Sequence[Measured]) -> dict[str, float]:
    """Size of each grade: operations of one impression at the shortest length that all grades share.

    Raises:
        DataError: the grades share no length.
    """
    lengths = [{cell.length for cell in cells if cell.grade == grade} for grade in grades(cells)]
    common = set.intersection(*lengths) if lengths else set()
    if not common:
        raise DataError("The grades of the sweep share no length, so their sizes cannot be compared.")
    return {cell.grade: float(cell.flops) for cell in cells if cell.length == min(common)}


def place_of(cell: Measured, size: Mapping[str, float]) -> dict[Axis, float]:
    """Where a cell stands on all axes."""
    return {"compute": size[cell.grade], "length": float(cell.length), "data": float(cell.impressions)}


def grades(cells: Sequence[Measured]) -> list[str]:
    """Grades, each once."""
    return list(dict.fromkeys(cell.grade for cell in cells))


def fit_joint(
    cells: Sequence[Measured], *, level: float = LEVEL, replicates: int = _REPLICATES, seed: int = 0
) -> JointLaw:
    """Fit the law to the cells of one model.

    Raises:
        DataError: the cells differ along one axis only, or are fewer than the parameters ask for.
    """
    axes, points, values = _configurations(cells)
    free = tuple(len(np.unique(column)) > 2 for column in points.T)
    fitted, misfit = _fit(points, values, free, level, replicates, seed)
    problem, theta = fitted.problem, fitted.theta
    everything, means = np.concatenate(values), np.array([value.mean() for value in values])
    residuals = np.concatenate(
        [value - line for value, line in zip(values, problem.values(theta), strict=True)]
    )
    around = float(((everything - everything.mean()) ** 2).sum())
    law = JointLaw(
        axes=axes,
        level=level,
        ceiling=fitted.interval(np.full((1, len(axes)), math.inf), 0.0),
        exponents={axis: fitted.parameter(problem.exponent(k)) for k, axis in enumerate(axes) if free[k]},
        scales={
            axis: float(theta[1 + k] * points[:, k].min() ** problem.exponents(theta)[k])
            for k, axis in enumerate(axes)
        },
        steps=tuple(axis for axis, is_free in zip(axes, free, strict=True) if not is_free),
        r2=1.0 - float(residuals @ residuals) / around
        if around > _LEAST_NOISE * len(everything)
        else math.nan,
        noise=math.sqrt(fitted.variance),
        misfit=misfit,
        cells=len(everything),
        configurations=len(points),
        verdict=(),
        _fitted=fitted,
    )
    return replace(law, verdict=_verdict(law, float(np.ptp(means))))


def _configurations(cells: Sequence[Measured]) -> tuple[tuple[Axis, ...], Floats, list[Floats]]:
    """Axes along which cells differ, places of the configurations (K, X), and the AUCs at each.

    Raises:
        DataError: there are fewer than two such axes.
    """
    size = sizes(cells)
    groups: dict[tuple[float, ...], list[float]] = {}
    for cell in cells:
        place = place_of(cell, size)
        groups.setdefault(tuple(place[axis] for axis in AXES), []).append(cell.auc)
    places = np.array(list(groups))
    moving = [index for index in range(len(AXES)) if len(np.unique(places[:, index])) > 1]
    if len(moving) < 2:
        raise DataError("The cells differ along fewer than two axes; the law of a ladder says all there is.")
    values = [np.array(group) for group in groups.values()]
    return tuple(AXES[index] for index in moving), places[:, moving], values


def _fit(
    points: Floats, values: list[Floats], free: tuple[bool, ...], level: float, replicates: int, seed: int
) -> tuple["_Fitted", float]:
    """Fit the configurations and their resamples; the second value is the p-value of the misfit."""
    seeds, means = np.array([float(len(value)) for value in values]), np.array([v.mean() for v in values])
    within = float(sum(value.var() * len(value) for value in values))
    problem = _Problem(points / points.min(axis=0), seeds, free)
    needed = 1 + len(free) + sum(free)
    if len(points) <= needed:
        raise DataError(
            f"{len(points)} configurations cannot hold a law of {needed} parameters; measure more of them."
        )
    theta = problem.solve(means)
    misfit = _misfit(problem, theta, means, within)
    noise = deviations(values)
    if misfit < _SIGNIFICANT or not noise.size:
        # Seeds of one configuration share its distance from a law that is not exact.
        problem, within = replace(problem, weights=np.ones(len(points))), 0.0
        theta = problem.solve(means, theta)
        noise = (means - problem.values(theta)) * math.sqrt(len(points) / (len(points) - needed))
    freedom = float(problem.weights.sum()) - needed
    line = problem.values(theta)
    variance = max((float(problem.weights @ (means - line) ** 2) + within) / freedom, _LEAST_NOISE)
    random = np.random.default_rng(seed)
    resampled = []
    for _ in range(replicates):
        drawn = np.array([random.choice(noise, int(weight)).mean() for weight in problem.weights])
        resampled.append(problem.solve(line + drawn, theta))
    luck = random.choice(noise, replicates)
    return _Fitted(problem, points, theta, np.stack(resampled), luck, variance, freedom, level), misfit


def _verdict(law: JointLaw, climb: float) -> tuple[str, ...]:
    """Why the points do not determine the law."""
    found = []
    for axis, exponent in law.exponents.items():
        if exponent.low <= 1.01 * _EXPONENTS[0] or exponent.high >= 0.99 * _EXPONENTS[1]:
            found.append(f"exponents of {axis} from {exponent.low:.2g} to {exponent.high:.2g} fit")
    width = law.ceiling.high - law.ceiling.low
    if width > climb:
        found.append(f"the ceiling is known to {width:.4f} only, and the cells climb {climb:.4f} in all")
    return tuple(found)


def _misfit(problem: "_Problem", theta: Floats, means: Floats, within: float) -> float:
    """p-value of configurations that lie off the law by no more than their seeds differ."""
    lacking = len(means) - len(theta)
    seeds = float(problem.weights.sum()) - len(means)
    if lacking < 1 or seeds < 1:
        return math.nan
    off = float(problem.weights @ (means - problem.values(theta)) ** 2)
    return float(fdtrc(lacking, seeds, off / lacking / max(within / seeds, _LEAST_NOISE)))


@dataclass(frozen=True)
class _Problem:
    """Configurations (K, X) in units of the smallest of each axis, and what is fitted to them.

    Parameters are the ceiling, a scale for each axis, and an exponent for each free axis.
    """

    z: Floats
    weights: Floats
    free: tuple[bool, ...]

    def exponent(self, axis: int) -> int:
        """Index of the exponent of a free axis among the parameters."""
        return 1 + len(self.free) + sum(self.free[:axis])

    def exponents(self, theta: Floats) -> Floats:
        """Exponents of all axes (X,)."""
        own = [theta[self.exponent(k)] if free else 1.0 for k, free in enumerate(self.free)]
        return np.array(own)

    def values(self, theta: Floats, z: Floats | None = None) -> Floats:
        """The law at the configurations, or at other places (M, X): (M,)."""
        z = self.z if z is None else z
        scales = theta[1 : 1 + len(self.free)]
        return np.asarray(theta[0] - z ** -self.exponents(theta) @ scales)

    def slopes(self, theta: Floats, z: Floats | None = None) -> Floats:
        """Derivatives of `values` by the parameters (M, P)."""
        z = self.z if z is None else z
        powers = z ** -self.exponents(theta)  # (M, X)
        scales = theta[1 : 1 + len(self.free)]
        with np.errstate(invalid="ignore"):
            logs = np.where(np.isinf(z), 0.0, powers * np.log(np.where(np.isinf(z), 1.0, z)) * scales)
        return np.concatenate([np.ones((len(z), 1)), -powers, logs[:, list(self.free)]], axis=1)

    def solve(self, means: Floats, start: Floats | None = None) -> Floats:
        """Parameters of the smallest squared error.

        Args:
            start: parameters nearby; many starts without.
        """
        root = np.sqrt(self.weights)

        def off(theta: Floats) -> Floats:
            return np.asarray(root * (self.values(theta) - means))

        def slopes(theta: Floats) -> Floats:
            return np.asarray(root[:, None] * self.slopes(theta))

        free, axes = sum(self.free), len(self.free)
        low = np.array([0.0] * (1 + axes) + [_EXPONENTS[0]] * free)
        high = np.array([1.0] + [np.inf] * axes + [_EXPONENTS[1]] * free)
        starts = [start] if start is not None else self._starts(means, root)
        found = [
            least_squares(
                off,
                np.clip(one, low + 1e-9, high - 1e-9),
                slopes,
                (low, high),
                x_scale="jac",
                max_nfev=_FROM_NEARBY if start is not None else None,
            )
            for one in starts
        ]
        return np.asarray(min(found, key=lambda one: one.cost).x)

    def _starts(self, means: Floats, root: Floats) -> list[Floats]:
        """Exponents of a coarse grid with their best scales, the closest ones."""
        found = []
        for exponents in itertools.product(_STARTS, repeat=sum(self.free)):
            theta = np.array([0.0] * (1 + len(self.free)) + list(exponents))
            powers = self.z ** -self.exponents(theta)
            # With y = 1 - (1 - E) - ..., all unknowns are positive.
            design = root[:, None] * np.concatenate([np.ones((len(means), 1)), powers], axis=1)
            solved, error = nnls(design, root * (1.0 - means))
            theta[0], theta[1 : 1 + len(self.free)] = 1.0 - solved[0], solved[1:]
            found.append((float(error), theta))
        return [theta for _, theta in sorted(found, key=lambda one: one[0])[:_POLISHED]]


@dataclass(frozen=True)
class _Fitted:
    """A fit, and those of resamples of the seeds (N, P).

    Attributes:
        luck: (N,) deviation of a new seed for each resample.
    """

    problem: _Problem
    points: Floats
    theta: Floats
    resampled: Floats
    luck: Floats
    variance: float
    freedom: float
    level: float

    def interval(self, place: Floats, new: float) -> Interval:
        """The law at a place (1, X), or with ``new`` = 1 / seeds the mean of new seeds there.

        The wider one of the bootstrap and of the straight line that touches the law at the fit.
        """
        z = place / self.points.min(axis=0)
        value = float(self.problem.values(self.theta, z)[0])
        others = np.array([self.problem.values(theta, z)[0] for theta in self.resampled])
        others = others + self.luck * math.sqrt(new) - value
        slope = self.problem.slopes(self.theta, z)[0]
        own = self.problem.slopes(self.theta)
        information = own.T @ (self.problem.weights[:, None] * own)
        leverage = float(slope @ np.linalg.pinv(information, hermitian=True) @ slope)
        return self._around(value, others, math.sqrt(self.variance * (max(leverage, 0.0) + new)), top=1.0)

    def parameter(self, index: int) -> Interval:
        """One parameter."""
        value = float(self.theta[index])
        own = self.problem.slopes(self.theta)
        information = own.T @ (self.problem.weights[:, None] * own)
        variance = float(np.linalg.pinv(information, hermitian=True)[index, index])
        error = math.sqrt(max(variance, 0.0) * self.variance)
        found = self._around(value, self.resampled[:, index] - value, error, top=_EXPONENTS[1])
        return Interval(max(found.low, _EXPONENTS[0]), found.high, value)

    def _around(self, value: float, others: Floats, error: float, top: float) -> Interval:
        tail = (1.0 - self.level) / 2.0
        margin = float(stdtrit(self.freedom, 1.0 - tail)) * error
        least, most = np.quantile(others, (tail, 1.0 - tail))
        return Interval(value - max(margin, -float(least)), min(value + max(margin, float(most)), top), value)
