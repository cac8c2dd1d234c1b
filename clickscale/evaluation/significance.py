"""Intervals of a metric, and tests of whether one model is better than another.

Impressions of one user are alike, so rows are not independent and intervals that resample rows are too
narrow. Everything here counts users as independent: the studentized bootstrap resamples them, and DeLong's
test adds up what each contributes (Obuchowski 1997). A t-test over seeds answers another question: does the
difference survive another initialization and another order of the data?

`benchmarks/coverage.py` measures how often the intervals cover the truth, and how often the tests find a
difference where there is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from clickscale.arrays import Flags, Floats, Ints
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.measures import METRICS, Measured, Metric, UserRows, effective_number, mean_of
from clickscale.evaluation.metrics import (
    binary_labels,
    finite_numbers,
    group_codes,
    same_length,
)


@dataclass(frozen=True)
class Interval:
    """A value with the confidence interval [low, high].

    Where the ends or the value are not defined they are nan, and ``reason`` says why.
    """

    low: float
    high: float
    value: float
    reason: str = ""


@dataclass(frozen=True)
class PairedTest:
    """Difference a - b of two models on the same rows (or seeds), its interval and two-sided p-value.

    For log-loss a negative `delta` favors a. Values that are not defined are nan, and ``reason`` says why.
    `resamples` made the p-value, 0 if it is of a formula.
    """

    delta: float
    low: float
    high: float
    p_value: float
    reason: str = ""
    resamples: int = 0

    @property
    def delta_text(self) -> str:
        """``+0.0123 [+0.0011, +0.0235]``, as far as it is defined."""
        if math.isnan(self.delta):
            return "-"
        ends = "" if math.isnan(self.low) else f" [{self.low:+.4f}, {self.high:+.4f}]"
        return f"{self.delta:+.4f}{ends}"

    @property
    def p_text(self) -> str:
        """The p-value, ``<= 0.005 (200 resamples)`` if no resample went as far, ``-`` if there is none."""
        if math.isnan(self.p_value):
            return "-"
        if self.resamples and self.p_value * (self.resamples + 1) < 1.5:
            return f"<= {self.p_value:.2g} ({self.resamples} resamples)"
        return f"{self.p_value:.3f}" if self.p_value >= 0.001 else f"{self.p_value:.0e}"


@dataclass(frozen=True)
class _Spread:
    """Standard error of a value over users, and how far from it, in standard errors, noise goes.

    `distances` (R,) of the resamples from the value, in order; `freedom` degrees that the t distribution
    has beside. `reason` says why there is no interval, empty if there is one.
    """

    error: float
    distances: Floats
    freedom: float
    reason: str = ""

    def margin(self, level: float) -> float:
        """Half the width of the interval; nan if there is none."""
        if self.reason:
            return math.nan
        resampled = float(self.distances[_place(len(self.distances), level)])
        return self.error * max(resampled, float(stdtrit(self.freedom, (1.0 + level) / 2.0)))

    def p_value(self, delta: float) -> float:
        """Two-sided p-value of a difference from 0; nan if there is none."""
        if self.reason:
            return math.nan
        distance = abs(delta) / self.error
        beyond = len(self.distances) - int(np.searchsorted(self.distances, distance, side="left"))
        return max((beyond + 1) / (len(self.distances) + 1), 2.0 * float(stdtr(self.freedom, -distance)))


def user_bootstrap(
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    groups: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
    moments: npt.ArrayLike | None = None,
) -> dict[str, Interval]:
    """Intervals of every metric in `METRICS` by the studentized bootstrap over users.

    `labels` (N,), `logits` (N,), `groups` (N,) user ids, `moments` (N,) times, without which no requests are
    known. The standard error is that of the jackknife: what
    changes when one user is left out. Each replicate draws as many users as there are, with replacement, and
    tells how many of its own standard errors it lies off; the interval reaches as far as the share `level`
    of them does, and at least as far as the t distribution of as many users of equal size. Few users hence
    have wide intervals.

    Nothing is sorted or scored twice, so a replicate costs O(U). The same seed and users give the same
    resamples for every model. An interval that cannot be told has nan for its ends and a reason.
    """
    _check(replicates, level)
    rows = UserRows(labels, logits, groups, moments)
    return intervals_of(rows, replicates, seed, level)


def intervals_of(rows: UserRows, replicates: int, seed: int, level: float) -> dict[str, Interval]:
    """Intervals as of `user_bootstrap`, from rows that are at hand."""
    measured = [metric.measure(rows) for metric in METRICS]
    spreads = _spreads(measured, rows.users, replicates, seed, level)
    return {
        metric.name: _interval(
            metric, one.value, spread.margin(level), rows.lack or metric.lack, spread.reason
        )
        for metric, one, spread in zip(METRICS, measured, spreads, strict=True)
    }


def _interval(metric: Metric, value: float, margin: float, lack: str, reason: str) -> Interval:
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, lack or reason)
    if reason:
        return Interval(math.nan, math.nan, value, reason)
    return Interval(max(value - margin, metric.least), min(value + margin, metric.most), value)


def paired_user_bootstrap(
    labels: npt.ArrayLike,
    logits_a: npt.ArrayLike,
    logits_b: npt.ArrayLike,
    groups: npt.ArrayLike,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
    moments: npt.ArrayLike | None = None,
) -> dict[str, PairedTest]:
    """Difference a - b of every metric in `METRICS` but biased ones, by the bootstrap of `user_bootstrap`.

    The p-value is (count + 1) / (replicates + 1) with the count of resamples that lie off by as many standard
    errors as 0 does. It agrees with the interval and is never below 1 / (replicates + 1), so 200 replicates
    can reach 0.005.
    """
    _check(replicates, level)
    rows_a, rows_b = (UserRows(labels, logits, groups, moments) for logits in (logits_a, logits_b))
    return paired_tests_of(rows_a, rows_b, replicates, seed, level)


def paired_tests_of(
    a: UserRows, b: UserRows, replicates: int, seed: int, level: float
) -> dict[str, PairedTest]:
    """Tests as of `paired_user_bootstrap`, from rows of the same impressions that are at hand."""
    metrics = [metric for metric in METRICS if not metric.biased]
    of_a, of_b = ([metric.measure(rows) for metric in metrics] for rows in (a, b))
    differences = [one.minus(two) for one, two in zip(of_a, of_b, strict=True)]
    tests = {}
    for metric, difference, spread in zip(
        metrics, differences, _spreads(differences, a.users, replicates, seed, level), strict=True
    ):
        delta = difference.value
        if math.isnan(delta):
            tests[metric.name] = _no_test(a.lack or metric.lack or spread.reason)
        elif delta == 0.0 and not spread.error:
            tests[metric.name] = PairedTest(0.0, 0.0, 0.0, 1.0)  # one model, whatever the users
        elif spread.reason:
            tests[metric.name] = PairedTest(delta, math.nan, math.nan, math.nan, spread.reason)
        else:
            margin, p_value = spread.margin(level), spread.p_value(delta)
            tests[metric.name] = PairedTest(
                delta, delta - margin, delta + margin, p_value, resamples=replicates
            )
    return tests


def gap_closed(
    alone: Sequence[UserRows],
    taught: Sequence[UserRows],
    teacher: Sequence[UserRows],
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Share of the lead of a teacher over a student alone that a taught student has, by metric.

    ``(taught - alone) / (teacher - alone)``, 1 at the level of the teacher, from the means over the models
    given (seeds), all on the same impressions. The interval is that of `user_bootstrap` for this ratio, so
    all three change together with the users. It is left out where the lead itself may be chance.

    Args:
        alone, taught, teacher: rows of each model of a kind.

    Returns:
        For each metric with a better direction. Where the teacher has no lead the share is nan, and
        ``reason`` says so.
    """
    _check(replicates, level)
    shares = {}
    for metric in (m for m in METRICS if not m.biased and m.better != "one"):
        low, middle, high = (mean_of([metric.measure(r) for r in kind]) for kind in (alone, taught, teacher))
        lead, gain = high.minus(low), middle.minus(low)
        ahead = lead.value if metric.better == "higher" else -lead.value
        if not ahead > 0:
            why = alone[0].lack or metric.lack
            lack = why if math.isnan(ahead) else "the teacher is not better than the student alone"
            shares[metric.name] = Interval(math.nan, math.nan, math.nan, lack)
            continue
        share = gain.over(lead)
        of_lead, of_share = _spreads([lead, share], alone[0].users, replicates, seed, level)
        reason = of_lead.reason or of_share.reason
        if not reason and of_lead.margin(level) >= ahead:
            reason = "the lead of the teacher may be chance"
        margin = math.nan if reason else of_share.margin(level)
        shares[metric.name] = Interval(share.value - margin, share.value + margin, share.value, reason)
    return shares


def _no_test(reason: str) -> PairedTest:
    return PairedTest(math.nan, math.nan, math.nan, math.nan, reason)


def delong(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    level: float = 0.95,
    groups: npt.ArrayLike | None = None,
) -> PairedTest:
    """Test of AUC(a) - AUC(b) on the same rows (DeLong et al. 1988), exact on ties, O(N log N).

    The placements come from sorting, as in the midrank form of Sun and Xu 2014. With `groups` (N,) user ids
    the rows of a user may be alike: its placements are added up before they are squared (Obuchowski 1997),
    and the distribution is t with one degree fewer than there are users of equal size. Without, rows count as
    independent, which on a log finds differences that are not there.

    Interval and p-value are nan with fewer than two rows (users) of a class; the p-value also when the
    placements of a and b differ by a constant that is not zero, where the approximation has nothing to say.
    """
    _check(1, level)
    positive = binary_labels(labels)
    # Placements of both models on the same rows, so that their difference keeps the pairing.
    won_a, lost_a = _placements(positive, scores_a)
    won_b, lost_b = _placements(positive, scores_b)
    positives, negatives = len(won_a), len(lost_a)
    if min(positives, negatives) == 0:
        return _no_test("there are no positives" if not positives else "there are no negatives")
    wins, losses = (won_a - won_b) / (2.0 * negatives), (lost_a - lost_b) / (2.0 * positives)
    delta = float(wins.mean())
    codes = np.arange(len(positive)) if groups is None else group_codes(groups)[1]
    same_length({"labels": positive, "groups": codes})
    variance = _clustered_variance(wins, losses, codes[positive], codes[~positive])
    if math.isnan(variance):
        who = "row" if groups is None else "user"
        return PairedTest(delta, math.nan, math.nan, math.nan, f"one {who} holds a whole class")
    error = math.sqrt(variance)
    # With infinite degrees t is the normal distribution.
    freedom = math.inf if groups is None else _users_alike(codes, positive) - 1.0
    critical = float(stdtrit(freedom, (1.0 + level) / 2.0))
    if error == 0:
        reason = "" if delta == 0.0 else "all placements differ by the same"
        return PairedTest(delta, delta, delta, _without_spread(delta), reason)
    p_value = 2.0 * float(stdtr(freedom, -abs(delta) / error))
    return PairedTest(delta, delta - critical * error, delta + critical * error, p_value)


def _users_alike(codes: Ints, positive: Flags) -> float:
    """Number of users of equal size that would hold the rows of either class as these do, the fewer."""
    return min(effective_number(np.bincount(codes[rows]).astype(float)) for rows in (positive, ~positive))


def _clustered_variance(wins: Floats, losses: Floats, winner: Ints, loser: Ints) -> float:
    """Variance of a difference of two AUCs (Obuchowski 1997, eq. 4); nan if one group holds a whole class.

    `wins` (P,) and `losses` (M,) are differences of placements, `winner` and `loser` their groups.
    """
    groups = int(max(winner.max(), loser.max())) + 1
    of_wins = np.bincount(winner, weights=wins - wins.mean(), minlength=groups) / len(wins)
    of_losses = np.bincount(loser, weights=losses - losses.mean(), minlength=groups) / len(losses)
    winners, losers = len(np.unique(winner)), len(np.unique(loser))
    if min(winners, losers) < 2:
        return math.nan
    variance = (
        float(of_wins @ of_wins) * winners / (winners - 1)
        + float(of_losses @ of_losses) * losers / (losers - 1)
        + 2.0 * float(of_wins @ of_losses) * groups / (groups - 1)
    )
    return max(variance, 0.0)


def seeds_t_test(values_a: npt.ArrayLike, values_b: npt.ArrayLike, level: float = 0.95) -> PairedTest:
    """Paired t-test of a metric over seeds: `values_a[i]` and `values_b[i]` share seed i, (S,) with S >= 2.

    The test behind the significance marks of Lai et al. 2025. The p-value is nan when all differences are the
    same number other than zero. Raises `DataError` with fewer than two seeds.
    """
    _check(1, level)
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
    reason = "all seeds differ by the same" if math.isnan(p_value) else ""
    return PairedTest(delta, delta - margin, delta + margin, p_value, reason)


def _spreads(measured: list[Measured], users: int, replicates: int, seed: int, level: float) -> list[_Spread]:
    """Standard errors and resampled distances of several values over the same users."""
    if not replicates:
        return [_Spread(math.nan, np.zeros(0), 0.0, "no resamples were asked for")] * len(measured)
    fitted = [_centered(one.value - one.without(), users) for one in measured]
    reasons = [reason or _too_few(replicates, level) for (_, _, reason) in fitted]
    told = [index for index, reason in enumerate(reasons) if not reason]
    distances = dict(zip(told, _distances([fitted[i][0] for i in told], replicates, seed), strict=True))
    spreads = []
    for index, (centered, error, _) in enumerate(fitted):
        if reasons[index]:
            spreads.append(_Spread(error, np.zeros(0), 0.0, reasons[index]))
            continue
        counting = int(np.count_nonzero(~np.isnan(centered)))
        freedom = min(effective_number(measured[index].sizes), counting) - 1.0
        few = freedom <= 0 or not math.isfinite(distances[index][_place(replicates, level)])
        reason = f"{counting} users that count are too few for an interval" if few else ""
        spreads.append(_Spread(error, distances[index], freedom, reason))
    return spreads


def _place(replicates: int, level: float) -> int:
    """Place of the distance, in order, that the share `level` of resamples does not exceed."""
    return math.ceil((replicates + 1) * level - 1e-9) - 1  # 1e-9: 0.95 * 20 is 19, not 19 and a rounding


def _centered(influences: Floats, users: int) -> tuple[Floats, float, str]:
    """Influences (U,) less their mean, nan for users without any; their standard error; why there is none."""
    nothing = np.zeros(0)
    if not influences.size and users:
        return nothing, math.nan, "noise pushes this metric up, so that no interval would cover"
    if users < 2:
        return nothing, math.nan, f"intervals are over users, and there is {users or 'no'} user"
    if np.isnan(influences).any():
        return nothing, math.nan, "without one of the users the value is not defined"
    largest = float(np.abs(influences).max())
    # Beyond rounding: users that change nothing say nothing about the spread.
    counts = np.abs(influences) > 1e-9 * largest
    if largest < 1e-13:
        return nothing, 0.0, "the value is the same without any user"
    number = int(counts.sum())
    if number < 2:
        return nothing, math.nan, "one user alone makes the value"
    centered = np.where(counts, influences - influences[counts].mean(), np.nan)
    error = math.sqrt(float(np.nansum(centered**2)) * (number - 1) / number)
    return centered, error, ""


def _too_few(replicates: int, level: float) -> str:
    """Why so few replicates tell no interval; empty if they do."""
    few = _place(replicates, level) >= replicates
    return f"{replicates} resamples are too few for an interval of {level:.0%}" if few else ""


def _distances(centered: list[Floats], replicates: int, seed: int) -> list[Floats]:
    """Distance of each resample from the value in its own standard errors, in order (R,), for each value.

    The same seed draws the same users for every metric and every model, so that differences are paired. A
    resample without a spread of its own is infinitely far.
    """
    if not centered:
        return []
    values = np.stack(centered, axis=1)  # (U, M)
    counts = ~np.isnan(values)
    values = np.where(counts, values, 0.0)
    table = np.concatenate((counts, values, values**2), axis=1)  # (U, 3 M)
    random, users = np.random.default_rng(seed), len(values)
    sums = np.empty((replicates, table.shape[1]))
    for replicate in range(replicates):
        draws = random.integers(0, users, users)
        sums[replicate] = np.bincount(draws, minlength=users) @ table
    number, total, squares = np.split(sums, 3, axis=1)  # (R, M) each
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / number
        variance = squares / number - mean**2
        spread = variance > 1e-12 * squares / number
        distance = np.where(spread, np.abs(mean) / np.sqrt(variance / (number - 1)), math.inf)
    return list(np.sort(distance, axis=0).T)


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


def _check(replicates: int, level: float) -> None:
    if replicates < 0:
        raise ConfigError(f"replicates is {replicates}; give 0 (no intervals) or more.")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level is {level}; a confidence level lies in (0, 1), such as 0.95.")


def _without_spread(delta: float) -> float:
    """p-value where the standard error is 0: 1 for equal models, nan for others."""
    return 1.0 if delta == 0.0 else math.nan
