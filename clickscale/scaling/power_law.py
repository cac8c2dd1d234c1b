"""Power laws through the rungs of a ladder, with intervals that are honest about few points.

Three forms (Lai et al. 2025, section 4.4; Liu et al. 2026, section 6.4)::

    saturating   y = E - A / x^a           accuracy against length or data
    shifted      y = E - A / (x - B)^a     accuracy against operations, of which B are spent in vain
    gain         y = E x^a                 gain over a reference model

An interval holds every value that the points do not contradict: those whose best law has a squared error at
most so much larger than the smallest one. How much larger is asked of a bootstrap over the seeds, since the
distribution is skewed with few rungs, and of the F distribution; the larger counts. Percentiles of refitted
parameters would be simpler and cover less often (`benchmarks/law_coverage.py` compares the two).

Users are another source of luck: all cells are measured on the same ones. Where the predictions are at hand,
the law is refitted to resamples of the users, and the two widths add as those of independent sources do.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, fdtri

from clickscale.arrays import Floats
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.law_profile import (
    EXPONENTS,
    Form,
    Ladder,
    Profile,
    solve,
    variance_of,
    zoomed,
)

LEVEL = 0.9
_FEWEST_RUNGS = 4  # three rungs fit any curve exactly
_REPLICATES = 400
_SIGNIFICANT = 0.05
_EQUAL = 1e-12  # variance of values that are equal but for rounding
_PARAMETERS: dict[Form, int] = {"saturating": 3, "shifted": 4, "gain": 2}
_MOST_NEW = 8  # seeds of a prediction whose noise is drawn; more are as certain as so many


@dataclass(frozen=True)
class Rungs:
    """Values of a measure along one axis.

    Attributes:
        x: (R,) ascending, each once.
        values: for each rung, one value a seed.
        users: (U, R) how much resamples of the evaluation users change the mean of each rung; None if the
            predictions are not at hand.
    """

    x: Floats
    values: tuple[tuple[float, ...], ...]
    users: Floats | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.x) != len(self.values) or any(not rung for rung in self.values):
            raise DataError(f"{len(self.x)} rungs have {len(self.values)} lists of values; give one each.")
        numbers = np.concatenate([self.x, *map(np.asarray, self.values)])
        if not np.isfinite(numbers).all() or (self.x <= 0).any() or (np.diff(self.x) <= 0).any():
            raise DataError(
                f"Rungs at {self.x.tolist()} cannot be fitted; give ascending positive x and finite values."
            )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def seeds(self) -> Floats:
        """Seeds of each rung (R,)."""
        return np.array([len(rung) for rung in self.values], dtype=np.float64)

    @property
    def means(self) -> Floats:
        """Mean of each rung (R,)."""
        return np.array([math.fsum(rung) / len(rung) for rung in self.values])

    @property
    def within(self) -> float:
        """Squares of the seeds around the means of their rungs."""
        return math.fsum(float(np.var(rung)) * len(rung) for rung in self.values)

    def only(self, rungs: slice) -> "Rungs":
        """Some of the rungs."""
        users = None if self.users is None else self.users[:, rungs]
        return Rungs(self.x[rungs], self.values[rungs], users)


def deviations(values: Iterable[npt.ArrayLike]) -> Floats:
    """Distances of seeds from the mean of their rung, as large as those from the true mean are."""
    kept = [seeds for rung in values if (seeds := np.asarray(rung, dtype=np.float64)).size > 1]
    scaled = [(seeds - seeds.mean()) * math.sqrt(seeds.size / (seeds.size - 1)) for seeds in kept]
    return np.concatenate(scaled) if scaled else np.zeros(0)


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law.

    Attributes:
        ceiling: E; of a saturating form the value that is never reached, of a gain its value at x = 1.
        exponent: a.
        scale: A; 0 for a gain. shift: B; 0 where the form has none.
        r2: share of the variance over all cells that the law explains.
        noise: standard deviation of one cell around the law.
        residuals: (R,) mean of a rung less the law.
        misfit: p-value of rungs that lie off the law by no more than their seeds differ; nan if it cannot be
            told.
        flat: the measure does not rise beyond its noise.
        verdict: why the points do not determine the law; empty if they do.
    """

    form: Form
    rungs: Rungs
    level: float
    ceiling: Interval
    exponent: Interval
    scale: float
    shift: float
    r2: float
    noise: float
    residuals: Floats
    misfit: float
    flat: bool
    verdict: tuple[str, ...]
    _fitted: "_Fitted" = field(repr=False)

    def at(self, x: Floats) -> Floats:
        """The law at some x (X,)."""
        if self.form == "gain":
            return np.asarray(self.ceiling.value * x**self.exponent.value)
        return np.asarray(self.ceiling.value - self.scale * (x - self.shift) ** -self.exponent.value)

    def band(self, x: Floats) -> tuple[Floats, Floats]:
        """Ends of the interval of the law at some x (X,), luck of the evaluation users included."""
        found = [self._fitted.interval(float(one)) for one in x]
        return np.array([one.low for one in found]), np.array([one.high for one in found])

    def predict(self, x: float, seeds: int) -> Interval:
        """The mean over some new seeds at x, measured on the same users."""
        return self._fitted.interval(x, new=seeds)

    def worth(self, start: float, end: float) -> Interval:
        """By how much the law at ``end`` lies above that at ``start``."""
        return self._fitted.interval(end, above=start)


def fit_law(
    rungs: Rungs,
    form: Form = "saturating",
    *,
    top: float = 1.0,
    level: float = LEVEL,
    replicates: int = _REPLICATES,
    seed: int = 0,
) -> PowerLaw:
    """Fit a law to the rungs of a ladder.

    Where the rungs lie off the law by more than their seeds differ, the law is an approximation, and the
    distances of the rungs from it are the noise.

    Args:
        top: the measure cannot be larger; 1 for AUC.
        replicates: of the bootstrap over seeds.

    Raises:
        DataError: fewer rungs than parameters, or no cell beyond the parameters to tell the noise from.
    """
    if not 0.0 < level < 1.0 or replicates < 20:
        raise ConfigError(f"level is {level}, replicates is {replicates}; give (0, 1) and at least 20.")
    needed, cells = _PARAMETERS[form], int(rungs.seeds.sum())
    if len(rungs) < needed or cells <= needed:
        raise DataError(
            f"{len(rungs)} rungs with {cells} cells cannot hold a {form} law of {needed} parameters; measure "
            f"{_FEWEST_RUNGS} rungs or more with 2 seeds or more."
        )
    top = math.inf if form == "gain" else top
    fitted = _fit(rungs, form, top, level, replicates, seed)
    misfit = fitted.misfit()
    if misfit < _SIGNIFICANT:
        # Seeds of one rung share its distance from a law that is not exact, so a rung counts once.
        collapsed = Rungs(rungs.x, tuple((mean,) for mean in rungs.means.tolist()), rungs.users)
        fitted = _fit(collapsed, form, top, level, replicates, seed)
    law = _law(rungs, fitted, misfit)
    return replace(law, verdict=_verdict(law))


def _law(rungs: Rungs, fitted: "_Fitted", misfit: float) -> PowerLaw:
    """Numbers of a fit in units of x."""
    form, measured, unit = fitted.form, fitted.measured, fitted.unit
    exponent, base = measured.grid.law(fitted.best)
    scale = float(measured.scale[0, fitted.best])
    line = np.array([measured.values(z)[0, fitted.best] for z in rungs.x / unit])
    values = np.concatenate([np.asarray(rung) for rung in rungs.values])
    around = float(((values - values.mean()) ** 2).sum())
    left = float(rungs.seeds @ (rungs.means - line) ** 2) + rungs.within
    return PowerLaw(
        form=form,
        rungs=rungs,
        level=fitted.level,
        ceiling=fitted.interval(1.0 if form == "gain" else math.inf),
        exponent=fitted.exponent(),
        scale=0.0 if form == "gain" else scale * unit**exponent,
        shift=(1.0 - base) * unit,
        r2=1.0 - left / around if around > _EQUAL * len(values) else math.nan,
        noise=math.sqrt(fitted.variance),
        residuals=rungs.means - line,
        misfit=misfit,
        flat=fitted.flatness() > _SIGNIFICANT,
        verdict=(),
        _fitted=fitted,
    )


def _verdict(law: PowerLaw) -> tuple[str, ...]:
    """Why the points do not determine a law."""
    rungs, found = law.rungs, []
    needed = max(_FEWEST_RUNGS, _PARAMETERS[law.form] + 1)
    if len(rungs) < needed:
        found.append(f"{len(rungs)} rungs fit any {law.form} curve; {needed} are needed")
    if law.flat and rungs.seeds.max() > 1:
        return (*found, "the measure does not rise beyond the noise of its seeds")
    if law.flat:
        return (*found, "one seed on so few rungs does not tell a rise from noise; take two seeds or more")
    least, most = EXPONENTS[law.form]
    low, high = law.exponent.low, law.exponent.high
    if low <= 1.01 * least or high >= 0.99 * most:
        found.append(f"exponents from {low:.2g} to {high:.2g} fit, and the search ends there")
    if law.ceiling.high >= law._fitted.top:
        found.append(f"ceilings from {law.ceiling.low:.4f} up to {law._fitted.top:g} fit")
    climb, width = float(np.ptp(rungs.means)), law.ceiling.high - law.ceiling.low
    if law.form != "gain" and width > climb:
        found.append(f"the ceiling is known to {width:.4f} only, and the ladder climbs {climb:.4f} in all")
    return tuple(found)


# --- the fit and its resamples


@dataclass(frozen=True)
class _Fitted:
    """The profile of the rungs as measured, and those of resamples.

    Attributes:
        unit: the smallest x.
        best: index of the best law of the grid.
        freedom: cells less parameters. variance: of a cell around the law.
        resampled: profile of N resamples of the seeds around the best law.
        luck: (N, `_MOST_NEW`) deviations of new seeds, one row a resample.
        by_users: profile of resamples of the users; None without predictions.
    """

    rungs: Rungs
    form: Form
    level: float
    top: float
    unit: float
    measured: Profile
    best: int
    freedom: float
    variance: float
    resampled: Profile
    luck: Floats
    by_users: Profile | None

    def interval(self, x: float, new: int = 0, above: float | None = None) -> Interval:
        """The law at x, users included.

        Args:
            new: the mean of so many new seeds on the same users instead.
            above: how much the law rises from there to x instead.
        """
        z, measured = x / self.unit, self.measured
        start = None if above is None else above / self.unit
        extra = 1.0 / new if new else 0.0
        leverage = measured.leverage(z, start) + extra  # (G,)
        values = measured.values(z, start)[0]  # (G,)
        value = float(values[self.best])
        luck = self.luck[:, : min(new, _MOST_NEW)].mean(axis=1) if new else np.zeros(len(self.luck))
        missed = (value + luck[:, None] - self.resampled.values(z, start)) ** 2 / leverage  # (N, G)
        room = self._room((self.resampled.squares + missed).min(axis=1)) - measured.squares[0]  # (G,)
        inside = room >= 0
        reach = np.sqrt(leverage[inside] * room[inside])
        low, high = float((values[inside] - reach).min()), float((values[inside] + reach).max())
        if not new and self.by_users is not None:
            low, high = self._widened(low, value, high, self.by_users.best_values(z, start))
        # No law falls.
        return Interval(low if start is None else max(low, 0.0), min(high, self.top), value)

    def exponent(self) -> Interval:
        """The exponent; ends at a bound of the search mean that the points set none."""
        grid = self.measured.grid
        place = self.best % len(grid.exponents)
        value = float(grid.exponents[place])
        highest = self._room(grid.by_exponent(self.resampled.squares)[:, place])
        (inside,) = np.nonzero(grid.by_exponent(self.measured.squares)[0] <= highest)
        low, high = float(grid.exponents[inside[0]]), float(grid.exponents[inside[-1]])
        if self.by_users is not None:
            low, high = self._widened(low, value, high, self.by_users.best_exponents())
        least, most = EXPONENTS[self.form]
        return Interval(max(low, least), min(high, most), value)

    def misfit(self) -> float:
        """p-value of rungs that lie off the law by no more than their seeds differ; nan if unknown."""
        rungs = self.rungs
        lacking, seeds = len(rungs) - _PARAMETERS[self.form], float(rungs.seeds.sum()) - len(rungs)
        if lacking < 1 or seeds < 1:
            return math.nan
        off = float(self.measured.best()[0]) - rungs.within
        pure = float(variance_of(np.array([rungs.within]), seeds)[0])
        return float(fdtrc(lacking, seeds, max(off, 0.0) / lacking / pure))

    def flatness(self) -> float:
        """p-value of no law at all: a constant, or nothing for a gain."""
        means, weights = self.rungs.means, self.rungs.seeds
        center = 0.0 if self.form == "gain" else float(means @ weights / weights.sum())
        gained = float(weights @ (means - center) ** 2) + self.rungs.within - float(self.measured.best()[0])
        more = _PARAMETERS[self.form] - (self.form != "gain")
        return float(fdtrc(more, self.freedom, max(gained, 0.0) / more / self.variance))

    def _room(self, constrained: Floats) -> float:
        """Largest squared error that the points do not contradict.

        Args:
            constrained: (N,) squared errors of the resamples with the truth held fixed.
        """
        best = self.resampled.best()
        statistics = (constrained - best) / variance_of(best, self.freedom)
        critical = max(float(np.quantile(statistics, self.level)), float(fdtri(1, self.freedom, self.level)))
        return float(self.measured.best()[0]) + critical * self.variance

    def _widened(self, low: float, value: float, high: float, by_users: Floats) -> tuple[float, float]:
        """Ends with the spread over users added, as variances add."""
        tail = (1.0 - self.level) / 2.0
        least, most = np.quantile(by_users, (tail, 1.0 - tail)) - value
        return (
            value - math.hypot(value - low, min(float(least), 0.0)),
            value + math.hypot(high - value, max(float(most), 0.0)),
        )


def _fit(rungs: Rungs, form: Form, top: float, level: float, replicates: int, seed: int) -> _Fitted:
    """Fit the rungs as measured, and the resamples."""
    unit, freedom = float(rungs.x[0]), float(rungs.seeds.sum()) - _PARAMETERS[form]
    ladder = Ladder(rungs.x / unit, rungs.seeds, top)
    measured = zoomed(form, ladder, rungs.means, rungs.within, freedom)
    best = int(measured.squares[0].argmin())
    line = np.array([measured.values(z)[0, best] for z in ladder.z])  # (R,)
    noise = deviations(rungs.values)
    if not noise.size:
        noise = (rungs.means - line) * math.sqrt(len(rungs) / freedom)
    random = np.random.default_rng(seed)
    draws = [random.choice(noise, (replicates, len(rung))) for rung in rungs.values]
    means = line + np.stack([draw.mean(axis=1) for draw in draws], axis=1)  # (N, R)
    within = np.sum([draw.var(axis=1) * draw.shape[1] for draw in draws], axis=0)  # (N,)
    users = None
    if rungs.users is not None:
        users = solve(measured.grid, ladder, line + rungs.users, np.zeros(len(rungs.users)))
    return _Fitted(
        rungs=rungs,
        form=form,
        level=level,
        top=top,
        unit=unit,
        measured=measured,
        best=best,
        freedom=freedom,
        variance=float(variance_of(measured.best(), freedom)[0]),
        resampled=solve(measured.grid, ladder, means, within),
        luck=random.choice(noise, (replicates, _MOST_NEW)),
        by_users=users,
    )
