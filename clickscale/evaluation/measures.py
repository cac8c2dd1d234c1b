"""The metrics that reports show, each declared once: its value, its direction, how it resamples over users.

Intervals, comparisons, slices, tables and JSON follow from `METRICS`. The functions behind the metrics are in
`clickscale.evaluation.metrics` and `clickscale.evaluation.calibration`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from clickscale.arrays import Floats
from clickscale.evaluation.calibration import ECE_BINS, equal_mass_bins
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

UserWeights = Floats
"""(U,) how often each user counts; a resample draws some users several times and others never."""


class UserRows:
    """One model's rows of one label; what several metrics need of them is computed once.

    A resample never splits the rows of a user. So a user's own AUC, summed loss, summed probability and
    clicks stay the same, and a replicate costs O(N) without another sort.

    Attributes:
        positive, logit: (N,) labels and logits.
        codes: (N,) the user of each row, as a number below ``users``.
    """

    def __init__(self, labels: npt.ArrayLike, logits: npt.ArrayLike, groups: npt.ArrayLike) -> None:
        self.positive = binary_labels(labels)
        self.logit = finite_numbers("logits", logits).astype(np.float64)
        distinct, self.codes = group_codes(groups)
        self.users = len(distinct)
        same_length({"labels": self.positive, "logits": self.logit, "groups": self.codes})

    @cached_property
    def ranked(self) -> RankedPairs:
        """All (positive, negative) pairs."""
        return rank_pairs(self.positive, self.logit)

    @cached_property
    def pairs(self) -> GroupPairs:
        """The pairs within each user, with impressions and clicks."""
        return group_pairs(self.positive, self.logit, self.codes)

    @cached_property
    def probability(self) -> Floats:
        """(N,) predicted probabilities."""
        probability: Floats = expit(self.logit)
        return probability

    def per_user(self, values: Floats) -> Floats:
        """(U,) sums of the values (N,) of each user's rows."""
        return np.bincount(self.codes, weights=values, minlength=self.users).astype(np.float64)


@dataclass(frozen=True)
class Metric:
    """A number of which every report shows the value and the interval over users.

    Attributes:
        name: key in JSON.
        title: head of a column.
        better: whether a higher or a lower value is better, or the value nearest to one.
        prepare: from rows to a function from the users' weights to the value; all weights 1 give the value
            itself. What costs a sort is done in ``prepare``, since the function runs once per replicate.
        biased: noise moves the value in one direction (ECE: up). Its interval is stretched to hold the
            value, and slices, which are small, leave it out.
    """

    name: str
    title: str
    better: Literal["higher", "lower", "one"]
    prepare: Callable[[UserRows], Callable[[UserWeights], float]]
    biased: bool = False

    def value(self, rows: UserRows) -> float:
        """Value on the rows as they are."""
        return self.prepare(rows)(np.ones(rows.users))


def _auc(rows: UserRows) -> Callable[[UserWeights], float]:
    ranked = rows.ranked
    # Rows stay sorted by score in every resample; only their weights change.
    positives, negatives = rows.codes[ranked.positives], rows.codes[ranked.negatives]
    return lambda weights: ranked.auc(weights[positives], weights[negatives])


def _gauc(rows: UserRows) -> Callable[[UserWeights], float]:
    impressions = rows.pairs.weights("impressions")
    # Users without both classes have weight 0, so the zero in place of their nan never counts.
    parts = impressions * np.nan_to_num(rows.pairs.auc)
    return lambda weights: ratio(weights, parts, impressions)


def _log_loss(rows: UserRows) -> Callable[[UserWeights], float]:
    losses = rows.per_user(log_losses(rows.positive, rows.logit))
    return lambda weights: ratio(weights, losses, rows.pairs.impressions)


def _pcoc(rows: UserRows) -> Callable[[UserWeights], float]:
    predicted = rows.per_user(rows.probability)
    return lambda weights: ratio(weights, predicted, rows.pairs.positives)


def _ece(rows: UserRows) -> Callable[[UserWeights], float]:
    # Every resample keeps the bins of the full sample: cutting bins costs a sort.
    bins, gaps = equal_mass_bins(rows.probability, ECE_BINS), rows.probability - rows.positive

    def measure(weights: UserWeights) -> float:
        count = float(np.dot(weights, rows.pairs.impressions))
        binned = np.bincount(bins, weights=weights[rows.codes] * gaps)
        return float(np.abs(binned).sum()) / count if count > 0 else math.nan

    return measure


METRICS = (
    Metric("auc", "AUC", "higher", _auc),
    Metric("gauc", "GAUC", "higher", _gauc),
    Metric("log_loss", "log-loss", "lower", _log_loss),
    Metric("pcoc", "PCOC", "one", _pcoc),
    Metric("ece", "ECE", "lower", _ece, biased=True),
)
"""The metrics of every report, in this order."""


def ratio(weights: UserWeights, parts: npt.NDArray[np.generic], wholes: npt.NDArray[np.generic]) -> float:
    """Weighted sum of the users' ``parts`` (U,) over that of their ``wholes`` (U,); nan over nothing."""
    whole = float(np.dot(weights, wholes))
    return float(np.dot(weights, parts)) / whole if whole > 0 else math.nan
