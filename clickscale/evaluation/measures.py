"""The metrics that reports show, each declared once: its value, its direction, its value without each user.

Intervals, comparisons, slices, tables and JSON follow from `METRICS`. The functions behind the metrics are in
`clickscale.evaluation.metrics` and `clickscale.evaluation.calibration`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from clickscale.arrays import Floats
from clickscale.evaluation.calibration import debiased_ece
from clickscale.evaluation.metrics import (
    GroupPairs,
    RankedPairs,
    binary_labels,
    finite_numbers,
    group_codes,
    group_pairs,
    log_losses,
    rank_pairs,
    same_length,
)


class UserRows:
    """One model's rows of one label; what several metrics need of them is computed once.

    Args:
        moments: (N,) times of the rows; the rows of a user that share one are a request. Without them no
            requests are known.

    Attributes:
        positive, logit: (N,) labels and logits.
        codes, moments: (N,) the user and the time of each row, as numbers from 0 on.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        logits: npt.ArrayLike,
        groups: npt.ArrayLike,
        moments: npt.ArrayLike | None = None,
    ) -> None:
        self.positive = binary_labels(labels)
        self.logit = finite_numbers("logits", logits).astype(np.float64)
        distinct, self.codes = group_codes(groups)
        self.users = len(distinct)
        times = np.arange(len(self.codes)) if moments is None else moments
        distinct, self.moments = group_codes(times)
        self._times = len(distinct)
        same_length(
            {"labels": self.positive, "logits": self.logit, "groups": self.codes, "moments": self.moments}
        )

    @cached_property
    def ranked(self) -> RankedPairs:
        """All (positive, negative) pairs."""
        return rank_pairs(self.positive, self.logit)

    @cached_property
    def pairs(self) -> GroupPairs:
        """The pairs within each user, with impressions and clicks."""
        return group_pairs(self.positive, self.logit, self.codes)

    @cached_property
    def requests(self) -> GroupPairs:
        """The pairs within each request, with impressions and clicks."""
        return group_pairs(self.positive, self.logit, self.codes * self._times + self.moments)

    def of_users(self, values: Floats) -> Floats:
        """(U,) sums over each user of the values (R,) of its requests."""
        users = self.requests.groups // max(self._times, 1)
        return np.bincount(users, weights=values, minlength=self.users).astype(np.float64)

    @cached_property
    def probability(self) -> Floats:
        """(N,) predicted probabilities."""
        probability: Floats = expit(self.logit)
        return probability

    @property
    def lack(self) -> str:
        """Why a metric may be undefined on these rows; empty if they lack nothing."""
        if not len(self.positive):
            return "no impression has a known label"
        if not self.positive.any():
            return "there are no positives"
        if self.positive.all():
            return "there are no negatives"
        return "" if self.pairs.pairs.any() else "no user has both a positive and a negative"

    def per_user(self, values: Floats) -> Floats:
        """(U,) sums of the values (N,) of each user's rows."""
        return np.bincount(self.codes, weights=values, minlength=self.users).astype(np.float64)


def _undefined() -> Floats:
    """Values without users of a metric that has no interval."""
    return np.zeros(0)


@dataclass(frozen=True)
class Measured:
    """A metric on some rows.

    Attributes:
        value: nan where it is not defined.
        without: computes the (U,) values that the rows of all other users give; nan where those are not
            enough to define it. A function, because slices need the value only.
        sizes: (U,) how much of the value rests on each user, such as the number of impressions.
    """

    value: float
    without: Callable[[], Floats]
    sizes: npt.NDArray[Any]

    def minus(self, other: "Measured") -> "Measured":
        """Difference from another model's value on the same impressions."""
        return Measured(self.value - other.value, lambda: self.without() - other.without(), self.sizes)

    def over(self, other: "Measured") -> "Measured":
        """Ratio to another value on the same impressions; nan over 0."""

        def without() -> Floats:
            parts, wholes = self.without(), other.without()
            return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes != 0)

        return Measured(self.value / other.value if other.value else math.nan, without, self.sizes)


def mean_of(measured: Sequence[Measured]) -> Measured:
    """Mean of a metric over models on the same impressions, such as the seeds of one model."""

    def without() -> Floats:
        means: Floats = np.mean([one.without() for one in measured], axis=0)
        return means

    return Measured(math.fsum(one.value for one in measured) / len(measured), without, measured[0].sizes)


@dataclass(frozen=True)
class Metric:
    """A number of which every report shows the value and the interval over users.

    Attributes:
        name: key in JSON.
        title: head of a column.
        better: whether a higher or a lower value is better, or the value nearest to one.
        measure: from rows to the value and its jackknife over users.
        least, most: the range of possible values, at which intervals end.
        lack: why the metric may be undefined on rows that lack nothing else.
        biased: noise moves the value in one direction (ECE: up). It has no interval and no test, and slices,
            which are small, leave it out.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "one"]
    measure: Callable[[UserRows], Measured]
    least: float = 0.0
    most: float = math.inf
    lack: str = ""
    biased: bool = False

    def value(self, rows: UserRows) -> float:
        """Value on the rows."""
        return self.measure(rows).value


def _auc(rows: UserRows) -> Measured:
    ranked = rows.ranked
    positives, negatives = rows.pairs.positives, rows.pairs.impressions - rows.pairs.positives
    all_pairs = float(len(ranked.positives)) * len(ranked.negatives)
    won = float((ranked.below + ranked.not_above).sum()) / 2.0

    def without() -> Floats:
        # A user takes along the pairs of its positives and those of its negatives; pairs of both kinds
        # would be taken twice.
        taken = rows.per_user(_pairs_won(rows)) - rows.pairs.won
        left = (len(ranked.positives) - positives) * (len(ranked.negatives) - negatives)
        return _share(won - taken, left.astype(np.float64))

    fewer = min(positives, negatives, key=effective_number)
    return Measured(won / all_pairs if all_pairs else math.nan, without, fewer)


def _pairs_won(rows: UserRows) -> Floats:
    """(N,) pairs that are ranked rightly of each row with the rows of the other class, a tie counting 1/2."""
    ranked = rows.ranked
    scores = rows.logit[ranked.positives]
    # A negative wins with the positives above it, which are all but those below or level with it.
    below = np.searchsorted(scores, rows.logit[ranked.negatives], side="left")
    not_above = np.searchsorted(scores, rows.logit[ranked.negatives], side="right")
    won = np.empty(len(rows.logit))
    won[ranked.positives] = (ranked.below + ranked.not_above) / 2.0
    won[ranked.negatives] = len(scores) - (below + not_above) / 2.0
    return won


def _gauc(rows: UserRows) -> Measured:
    impressions = rows.pairs.weights("impressions")
    # Users without both classes have weight 0, so the zero in place of their nan never counts.
    return ratio(impressions * np.nan_to_num(rows.pairs.auc), impressions)


def _request_auc(rows: UserRows) -> Measured:
    weights = rows.requests.weights("impressions")
    # Requests without both classes have weight 0, as the users of `_gauc`.
    return ratio(rows.of_users(weights * np.nan_to_num(rows.requests.auc)), rows.of_users(weights))


def _log_loss(rows: UserRows) -> Measured:
    return ratio(rows.per_user(log_losses(rows.positive, rows.logit)), rows.pairs.impressions)


def _pcoc(rows: UserRows) -> Measured:
    return ratio(rows.per_user(rows.probability), rows.pairs.positives)


def _ece(rows: UserRows) -> Measured:
    value = debiased_ece(rows.positive, rows.probability, rows.codes)
    return Measured(value, _undefined, np.zeros(0))


METRICS = (
    Metric("auc", "AUC", "higher", _auc, most=1.0),
    Metric("gauc", "GAUC", "higher", _gauc, most=1.0),
    Metric(
        "request_auc",
        "request AUC",
        "higher",
        _request_auc,
        most=1.0,
        lack="no request has both a positive and a negative",
    ),
    Metric("log_loss", "log-loss", "lower", _log_loss),
    Metric("pcoc", "PCOC", "one", _pcoc),
    Metric("ece", "ECE", "lower", _ece, most=1.0, biased=True),
)
"""The metrics of every report, in this order."""


def ratio(parts: npt.NDArray[Any], wholes: npt.NDArray[Any]) -> Measured:
    """Sum of the users' ``parts`` (U,) over that of their ``wholes`` (U,); nan over nothing."""
    part, whole = float(parts.sum()), float(wholes.sum())
    value = part / whole if whole > 0 else math.nan
    return Measured(value, lambda: _share(part - parts, whole - wholes), wholes)


def effective_number(sizes: npt.NDArray[Any]) -> float:
    """Number of users of equal size that would weigh as these sizes (U,) do (Kish): (sum s)^2 / sum s^2."""
    squares = float(np.dot(sizes, sizes))
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def _share(parts: Any, wholes: Any) -> Floats:
    """(U,) parts over wholes; nan over nothing."""
    shares: Floats = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return shares
