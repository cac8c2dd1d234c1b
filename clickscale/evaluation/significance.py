"""How sure is a number, and is one model better than another?

Impressions of one user are alike, so rows are not independent and intervals that resample rows are too
narrow. The bootstrap here resamples users. DeLong's test is exact about the ranking but treats rows as
independent: read it beside the bootstrap, not instead of it. A t-test over seeds answers a third question:
does the difference survive another initialization and another order of the data?
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr, ndtri, stdtr, stdtrit

from clickscale.arrays import Flags, Floats, Ints
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.calibration import ECE_BINS, equal_mass_bins
from clickscale.evaluation.metrics import (
    binary_labels,
    finite_numbers,
    group_codes,
    group_pairs,
    log_losses,
    rank_pairs,
    same_length,
)

METRICS = ("auc", "gauc", "log_loss", "pcoc", "ece")
"""What the user bootstrap measures, in this order."""


@dataclass(frozen=True)
class Interval:
    """A value with the confidence interval [low, high]; the ends are nan when none can be told."""

    low: float
    high: float
    value: float


@dataclass(frozen=True)
class PairedTest:
    """Difference a - b of two models on the same rows (or seeds), its interval and two-sided p-value.

    For log-loss and ECE a negative `delta` favors a. What cannot be told is nan.
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
    """Percentile intervals of every metric in `METRICS`, from one pass over shared resamples of the users.

    `labels` (N,), `logits` (N,), `groups` (N,) user ids. Each replicate draws as many users as there are,
    with replacement, and weighs rows by how often their user was drawn: sorted once, O(N) per replicate.
    Replicates in which a metric is not defined are left out for that metric. The ends are nan with fewer than
    two users or `replicates` = 0. The same seed and users give the same resamples for every model.

    ECE is a mean of absolute values, which noise alone pushes up: its interval is stretched to hold the
    value.
    """
    quantiles = _tail_quantiles(replicates, level)
    users = _Users.of(groups)
    run = _UserSums(labels, logits, users)
    values = run.measure(np.ones(users.count))
    samples = np.array([run.measure(weights) for weights in users.resamples(replicates, seed)])
    intervals = {}
    for column, name in enumerate(METRICS):
        low, high = _percentiles(samples, column, quantiles)
        value = float(values[column])
        intervals[name] = Interval(min(low, value) if name == "ece" else low, high, value)
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
    users = _Users.of(groups)
    a, b = _UserSums(labels, logits_a, users), _UserSums(labels, logits_b, users)
    everybody = np.ones(users.count)
    deltas = a.measure(everybody) - b.measure(everybody)
    draws = users.resamples(replicates, seed)
    samples = np.array([a.measure(weights) - b.measure(weights) for weights in draws])
    tests = {}
    for column, name in enumerate(METRICS):
        low, high = _percentiles(samples, column, quantiles)
        tests[name] = PairedTest(float(deltas[column]), low, high, _share_across_zero(samples, column))
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
    won_a, lost_a = _placements(positive, scores_a)
    won_b, lost_b = _placements(positive, scores_b)
    positives, negatives = len(won_a), len(lost_a)
    if min(positives, negatives) == 0:
        return PairedTest(math.nan, math.nan, math.nan, math.nan)
    wins, losses = (won_a - won_b) / (2.0 * negatives), (lost_a - lost_b) / (2.0 * positives)
    delta = float(wins.mean())
    if min(positives, negatives) < 2:
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
        error = 0.0  # 0.8 - 0.7 and 0.7 - 0.6 differ by rounding only: that is no spread
    margin = float(stdtrit(seeds - 1, (1.0 + level) / 2.0)) * error
    p_value = 2.0 * float(stdtr(seeds - 1, -abs(delta) / error)) if error > 0 else _without_spread(delta)
    return PairedTest(delta, delta - margin, delta + margin, p_value)


@dataclass(frozen=True)
class _Users:
    """Each row's user as a number (N,) below `count`."""

    codes: Ints
    count: int

    @classmethod
    def of(cls, groups: npt.ArrayLike) -> "_Users":
        distinct, codes = group_codes(groups)
        return cls(codes, len(distinct))

    def resamples(self, replicates: int, seed: int) -> Iterator[Floats]:
        """How often each user (U,) is drawn, replicate by replicate; nothing with fewer than two users."""
        random = np.random.default_rng(seed)
        for _ in range(replicates if self.count > 1 else 0):
            draws = random.integers(0, self.count, self.count)
            yield np.bincount(draws, minlength=self.count).astype(np.float64)


class _UserSums:
    """One model's rows, sorted and added up per user, so that any weights of the users are measured in O(N).

    A resample never mixes users, so a user's own AUC, summed loss, summed probability and clicks stay what
    they are: only the AUC over all rows and the ECE must look at rows again. ECE keeps the bins of the full
    sample.
    """

    def __init__(self, labels: npt.ArrayLike, logits: npt.ArrayLike, users: _Users) -> None:
        positive = binary_labels(labels)
        logit = finite_numbers("logits", logits).astype(np.float64)
        same_length({"labels": positive, "logits": logit, "groups": users.codes})
        self._codes = users.codes
        self._ranked = rank_pairs(positive, logit)
        self._positive_users = users.codes[self._ranked.positives]
        self._negative_users = users.codes[self._ranked.negatives]
        pairs = group_pairs(positive, logit, users.codes)
        self._rows, self._clicks = pairs.impressions, pairs.positives
        self._gauc_weights = pairs.weights("impressions")
        self._gauc_parts = self._gauc_weights * np.nan_to_num(pairs.auc)
        self._losses = self._per_user(log_losses(positive, logit))
        self._measure_probabilities(positive, expit(logit))

    def _measure_probabilities(self, positive: Flags, probability: Floats) -> None:
        self._bins = equal_mass_bins(probability, ECE_BINS)
        self._gaps = probability - positive
        self._predicted = self._per_user(probability)

    def _per_user(self, values: Floats) -> Floats:
        sums: Floats = np.bincount(self._codes, weights=values, minlength=len(self._rows)).astype(np.float64)
        return sums

    def measure(self, weights: Floats) -> Floats:
        """Values of `METRICS` (M,) when user u counts `weights[u]` times."""
        rows = float(np.dot(weights, self._rows))
        gaps = np.bincount(self._bins, weights=weights[self._codes] * self._gaps)
        return np.array(
            [
                self._ranked.auc(weights[self._positive_users], weights[self._negative_users]),
                _ratio(weights, self._gauc_parts, self._gauc_weights),
                _ratio(weights, self._losses, self._rows),
                _ratio(weights, self._predicted, self._clicks),
                float(np.abs(gaps).sum()) / rows if rows > 0 else math.nan,
            ]
        )


def _ratio(weights: Floats, parts: Floats, wholes: npt.NDArray[Any]) -> float:
    """Weighted sum of the users' `parts` (U,) over that of their `wholes` (U,); nan over nothing."""
    whole = float(np.dot(weights, wholes))
    return float(np.dot(weights, parts)) / whole if whole > 0 else math.nan


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


def _percentiles(samples: Floats, column: int, quantiles: tuple[float, float]) -> tuple[float, float]:
    """Both ends of one metric's interval over its defined replicates; nan without any."""
    defined = _defined(samples, column)
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, quantiles)
    return float(low), float(high)


def _share_across_zero(samples: Floats, column: int) -> float:
    defined = _defined(samples, column)
    if not defined.size:
        return math.nan
    smaller = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2.0 * (smaller + 1) / (len(defined) + 1))


def _defined(samples: Floats, column: int) -> Floats:
    """One metric's replicates (R',) without those in which it is not defined."""
    values = samples.reshape(-1, len(METRICS))[:, column]
    return values[~np.isnan(values)]


def _without_spread(delta: float) -> float:
    """p-value where the standard error is 0: equal models are equal; anything else cannot be judged."""
    return 1.0 if delta == 0.0 else math.nan
