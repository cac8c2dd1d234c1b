"""Intervals of a metric, and tests of whether one model is better than another.

Impressions of one user are alike, so rows are not independent and intervals that resample rows are too
narrow. The bootstrap here resamples users. DeLong's test is exact about the ranking but treats rows as
independent: read it beside the bootstrap, not instead of it. A t-test over seeds answers a third question:
does the difference survive another initialization and another order of the data?
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from clickscale.arrays import Flags, Floats, Ints
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.measures import METRICS, UserRows, UserWeights
from clickscale.evaluation.metrics import (
    binary_labels,
    finite_numbers,
    same_length,
)


@dataclass(frozen=True)
class Interval:
    """A value with the confidence interval [low, high]; the ends are nan when it is not defined."""

    low: float
    high: float
    value: float


@dataclass(frozen=True)
class PairedTest:
    """Difference a - b of two models on the same rows (or seeds), its interval and two-sided p-value.

    For log-loss and ECE a negative `delta` favors a. Values that are not defined are nan.
    """

    delta: float
    low: float
    high: float
    p_value: float


def user_bootstrap(
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    groups: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile intervals of every metric in `METRICS`, over shared resamples of the users.

    `labels` (N,), `logits` (N,), `groups` (N,) user ids. Each replicate draws as many users as there are,
    with replacement, and weighs rows by how often their user was drawn: sorted once, O(N) per replicate.
    Replicates in which a metric is not defined are left out for that metric. The ends are nan with fewer than
    two users or `replicates` = 0. The same seed and users give the same resamples for every model.

    The interval of a metric that noise pushes up, such as ECE, is stretched to hold the value.
    """
    quantiles = _tail_quantiles(replicates, level)
    rows = UserRows(labels, logits, groups)
    measures = [metric.prepare(rows) for metric in METRICS]
    resamples = _resamples(rows.users, replicates, seed)
    samples = np.array([[measure(weights) for measure in measures] for weights in resamples])  # (R, M)
    intervals = {}
    for metric, measure, column in zip(METRICS, measures, _columns(samples), strict=True):
        low, high = _percentiles(column, quantiles)
        value = measure(np.ones(rows.users))
        intervals[metric.name] = Interval(min(low, value) if metric.biased else low, high, value)
    return intervals


def paired_user_bootstrap(
    labels: npt.ArrayLike,
    logits_a: npt.ArrayLike,
    logits_b: npt.ArrayLike,
    groups: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, PairedTest]:
    """Difference a - b of every metric in `METRICS`, both models measured on the same resamples of the users.

    The p-value is twice the smaller share of replicates on one side of zero, (count + 1) / (replicates + 1):
    it agrees with the percentile interval and is never below 2 / (replicates + 1), so 200 replicates can
    reach 0.01.
    """
    quantiles = _tail_quantiles(replicates, level)
    rows_a, rows_b = UserRows(labels, logits_a, groups), UserRows(labels, logits_b, groups)
    pairs = [(metric.prepare(rows_a), metric.prepare(rows_b)) for metric in METRICS]
    resamples = _resamples(rows_a.users, replicates, seed)
    samples = np.array([[a(weights) - b(weights) for a, b in pairs] for weights in resamples])  # (R, M)
    everybody = np.ones(rows_a.users)
    tests = {}
    for metric, (a, b), column in zip(METRICS, pairs, _columns(samples), strict=True):
        low, high = _percentiles(column, quantiles)
        delta = a(everybody) - b(everybody)
        tests[metric.name] = PairedTest(delta, low, high, _share_across_zero(column))
    return tests


def delong(
    labels: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, level: float = 0.95
) -> PairedTest:
    """Test of AUC(a) - AUC(b) on the same rows (DeLong et al. 1988), exact on ties, O(N log N).

    The placements come from sorting, as in the midrank form of Sun and Xu 2014. Rows count as independent.
    Interval and p-value are nan with fewer than two rows of a class; the p-value also when the placements of
    a and b differ by a constant that is not zero, where the normal approximation has nothing to say.
    """
    critical = _normal_quantile(level)
    positive = binary_labels(labels)
    # Placements of both models on the same rows, so that their difference keeps the pairing.
    won_a, lost_a = _placements(positive, scores_a)
    won_b, lost_b = _placements(positive, scores_b)
    positives, negatives = len(won_a), len(lost_a)
    if min(positives, negatives) == 0:
        return PairedTest(math.nan, math.nan, math.nan, math.nan)
    wins, losses = (won_a - won_b) / (2.0 * negatives), (lost_a - lost_b) / (2.0 * positives)
    delta = float(wins.mean())
    if min(positives, negatives) < 2:
        # One row of a class has no variance.
        return PairedTest(delta, math.nan, math.nan, math.nan)
    error = math.sqrt(wins.var(ddof=1) / positives + losses.var(ddof=1) / negatives)
    p_value = 2.0 * float(ndtr(-abs(delta) / error)) if error > 0 else _without_spread(delta)
    return PairedTest(delta, delta - critical * error, delta + critical * error, p_value)


def seeds_t_test(values_a: npt.ArrayLike, values_b: npt.ArrayLike, level: float = 0.95) -> PairedTest:
    """Paired t-test of a metric over seeds: `values_a[i]` and `values_b[i]` share seed i, (S,) with S >= 2.

    The test behind the significance marks of Lai et al. 2025. The p-value is nan when all differences are the
    same number other than zero. Raises `DataError` with fewer than two seeds.
    """
    _tail_quantiles(1, level)
    a = finite_numbers("values_a", values_a).astype(np.float64)
    b = finite_numbers("values_b", values_b).astype(np.float64)
    same_length({"values_a": a, "values_b": b})
    seeds = len(a)
    if seeds < 2:
        raise DataError(
            f"A t-test over {seeds} seed(s) has no spread to compare with; run 2 seeds or more of each model."
        )
    differences = a - b
    delta = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(seeds)
    if error <= 4.0 * np.finfo(np.float64).eps * float(max(np.abs(a).max(), np.abs(b).max())):
        error = 0.0  # 0.8 - 0.7 and 0.7 - 0.6 differ by rounding only, which is not a spread
    margin = float(stdtrit(seeds - 1, (1.0 + level) / 2.0)) * error
    p_value = 2.0 * float(stdtr(seeds - 1, -abs(delta) / error)) if error > 0 else _without_spread(delta)
    return PairedTest(delta, delta - margin, delta + margin, p_value)


def _resamples(users: int, replicates: int, seed: int) -> Iterator[UserWeights]:
    """Yield how often each user (U,) is drawn, per replicate; nothing with fewer than two users.

    The same seed draws the same users for every metric and every model, so that differences are paired.
    """
    random = np.random.default_rng(seed)
    for _ in range(replicates if users > 1 else 0):
        draws = random.integers(0, users, users)
        yield np.bincount(draws, minlength=users).astype(np.float64)


def _placements(positive: Flags, scores: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Twice the negatives below each positive (P,) and twice the positives above each negative (M,).

    In row order, a tie counting 1: integers, so that models that differ by a constant differ by exactly it.
    """
    score = finite_numbers("scores", scores)
    same_length({"labels": positive, "scores": score})
    positives, negatives = score[positive], score[~positive]
    return _twice_below(positives, negatives), _twice_below(-negatives, -positives)


def _twice_below(points: Floats, others: Floats) -> Ints:
    """Twice the number of `others` (M,) lower than each of `points` (P,), equal ones counting 1."""
    ordered = np.sort(others)
    lower: Ints = np.searchsorted(ordered, points, side="left")
    return lower + np.searchsorted(ordered, points, side="right")


def _tail_quantiles(replicates: int, level: float) -> tuple[float, float]:
    if replicates < 0:
        raise ConfigError(f"replicates is {replicates}; give 0 (no intervals) or more.")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level is {level}; a confidence level lies in (0, 1), such as 0.95.")
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _normal_quantile(level: float) -> float:
    return float(ndtri(_tail_quantiles(1, level)[1]))


def _columns(samples: Floats) -> list[Floats]:
    """The replicates (R,) of each metric, without those in which it is not defined."""
    columns = samples.reshape(-1, len(METRICS)).T  # (M, R)
    return [column[~np.isnan(column)] for column in columns]


def _percentiles(samples: Floats, quantiles: tuple[float, float]) -> tuple[float, float]:
    """Both ends of a metric's interval over its replicates (R,); nan without any."""
    if not samples.size:
        return math.nan, math.nan
    low, high = np.quantile(samples, quantiles)
    return float(low), float(high)


def _share_across_zero(samples: Floats) -> float:
    """Two-sided p-value of the replicates (R,) of a difference; nan without any."""
    if not samples.size:
        return math.nan
    # Zeros count on both sides: models without a difference get p = 1.
    smaller = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    return min(1.0, 2.0 * (smaller + 1) / (len(samples) + 1))


def _without_spread(delta: float) -> float:
    """p-value where the standard error is 0: 1 for equal models, nan for others."""
    return 1.0 if delta == 0.0 else math.nan
