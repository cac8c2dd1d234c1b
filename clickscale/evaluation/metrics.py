"""Ranking and likelihood metrics of click predictions: exact on ties, vectorized, in float64.

Rows are labelled candidates: `labels` (N,) in {0, 1}, `scores` or `logits` (N,) finite numbers, `groups` (N,)
integer user ids. Probabilities may be given where a ranking is all that counts (`auc`, `gauc`), never to
`log_loss`.

A metric that is not defined on the given rows (no row, or a class is missing) is nan, never 0.5: a made-up
value would be averaged by somebody later. Impossible values (nan scores, a label of 2, arrays of
different lengths) raise `DataError`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Flags, Floats, Ints
from clickscale.errors import ConfigError, DataError, unknown

Weighting = Literal["impressions", "uniform", "clicks", "pairs"]
"""Weights of users in GAUC: impressions (DIN's definition), all equal (avgAUC), clicks, or pairs."""


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs ranked rightly, ties counting 1/2.

    Exact (Mann-Whitney by sorting, O(N log N)). `weights` (N,), finite and not negative, count a row as often
    as its weight says. nan when a class is missing or has no weight. Raises `DataError` on bad values or
    lengths.
    """
    positive, score = binary_labels(labels), finite_numbers("scores", scores)
    same_length({"labels": positive, "scores": score})
    weight = (
        np.ones(len(positive)) if weights is None else finite_numbers("weights", weights).astype(np.float64)
    )
    same_length({"labels": positive, "weights": weight})
    if weight.size and weight.min() < 0:
        row = int(weight.argmin())
        raise DataError(
            f"weights[{row}] is {weight[row]}; a weight says how often a row counts: give 0 or more."
        )
    ranked = rank_pairs(positive, score)
    return ranked.auc(weight[ranked.positives], weight[ranked.negatives])


def gauc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    weighting: Weighting = "impressions",
) -> float:
    """Mean of the users' own AUC over the users that have both classes.

    GAUC = sum_u w_u AUC_u / sum_u w_u, with w_u the user's impressions among the given rows (Zhou et al.
    2018, DIN), or 1 (`uniform`), the clicks (`clicks`) or the (positive, negative) pairs (`pairs`). A user is
    one group however the rows were batched; ties count 1/2. nan when no user has both classes.
    """
    if weighting not in get_args(Weighting):
        raise ConfigError(unknown("GAUC weighting", weighting, get_args(Weighting)))
    return group_pairs(labels, scores, groups).mean_auc(weighting)


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike) -> float:
    """Mean negative log-likelihood in nats, from logits (not probabilities); nan without rows."""
    losses = log_losses(labels, logits)
    return float(losses.mean()) if losses.size else math.nan


def log_losses(labels: npt.ArrayLike, logits: npt.ArrayLike) -> Floats:
    """Negative log-likelihood of each row (N,) in nats: log(1 + exp(-z)) of positives, log(1 + exp(z)) else.

    In float64 and without forming a probability, so a logit of 1000 costs 1000 nats and not infinity.
    """
    positive, logit = binary_labels(labels), finite_numbers("logits", logits).astype(np.float64)
    same_length({"labels": positive, "logits": logit})
    return np.logaddexp(0.0, np.where(positive, -logit, logit))


def rela_impr(auc: float, base_auc: float) -> float:
    """Relative improvement over a base model in percent: ((AUC - 0.5) / (base - 0.5) - 1) * 100.

    0.5 is what a coin achieves (Lai et al. 2025, section 4.1; the base there is DIN). nan if the base is 0.5
    itself.
    """
    return ((auc - 0.5) / (base_auc - 0.5) - 1.0) * 100.0 if base_auc != 0.5 else math.nan


def relative_lift(metric: float, base: float) -> float:
    """Relative change of a metric over a base model in percent: (metric / base - 1) * 100.

    This is what EST's tables print. Nothing is subtracted, so the same two models show a smaller number than
    under `rela_impr`. nan if the base is 0.
    """
    return (metric / base - 1.0) * 100.0 if base != 0.0 else math.nan


@dataclass(frozen=True)
class RankedPairs:
    """All (positive, negative) pairs of N rows, sorted once: an AUC under any weights then costs O(N).

    `positives` (P,) and `negatives` (M,) are row numbers by rising score. `below` and `not_above` (P,) count,
    for each positive in that order, the negatives with a lower score and with a lower or equal one.
    """

    positives: Ints
    negatives: Ints
    below: Ints
    not_above: Ints

    def auc(self, positive_weights: Floats, negative_weights: Floats) -> float:
        """AUC under weights of the `positives` (P,) and `negatives` (M,); nan if either weigh nothing."""
        # Weight of the negatives below a rank, by one running sum: each positive then needs two look-ups.
        cumulated = np.concatenate(([0.0], np.cumsum(negative_weights)))
        pairs = float(positive_weights.sum() * cumulated[-1])
        won_twice = positive_weights @ (cumulated[self.below] + cumulated[self.not_above])
        return float(won_twice) / (2.0 * pairs) if pairs > 0 else math.nan


def rank_pairs(labels: npt.ArrayLike, scores: npt.ArrayLike) -> RankedPairs:
    """Sort the rows by score and find each positive's place among the negatives, O(N log N)."""
    positive, score = binary_labels(labels), finite_numbers("scores", scores)
    same_length({"labels": positive, "scores": score})
    order = np.argsort(score)
    positives, negatives = order[positive[order]], order[~positive[order]]
    # Ties lie between the two sides: half of them count as won.
    below = np.searchsorted(score[negatives], score[positives], side="left")
    not_above = np.searchsorted(score[negatives], score[positives], side="right")
    return RankedPairs(positives, negatives, below, not_above)


@dataclass(frozen=True)
class GroupPairs:
    """Counts of each of U groups, from which every GAUC follows.

    `groups` (U,) ids in rising order, `impressions` and `positives` (U,) counts, `won` (U,) the (positive,
    negative) pairs of the group that the scores rank rightly, a tie counting 1/2.
    """

    groups: Ints
    impressions: Ints
    positives: Ints
    won: Floats

    @property
    def pairs(self) -> Ints:
        """(U,) number of (positive, negative) pairs of each group; 0 where a class is missing."""
        return self.positives * (self.impressions - self.positives)

    @property
    def auc(self) -> Floats:
        """(U,) AUC of each group; nan where a class is missing."""
        # Division only where both classes are present; elsewhere nan says that there is no AUC.
        pairs = self.pairs
        shares: Floats = np.divide(self.won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return shares

    def weights(self, weighting: Weighting) -> Floats:
        """(U,) weight of each group in the mean; 0 where a class is missing."""
        by_name = {
            "impressions": self.impressions,
            "uniform": np.ones(len(self.groups)),
            "clicks": self.positives,
            "pairs": self.pairs,
        }
        weights: Floats = np.where(self.pairs > 0, by_name[weighting], 0.0)
        return weights

    def mean_auc(self, weighting: Weighting = "impressions") -> float:
        """GAUC: weighted mean of the groups' AUC; nan when no group has both classes."""
        weights = self.weights(weighting)
        total = float(weights.sum())
        return float(weights @ np.nan_to_num(self.auc)) / total if total > 0 else math.nan


def group_pairs(labels: npt.ArrayLike, scores: npt.ArrayLike, groups: npt.ArrayLike) -> GroupPairs:
    """Count each group's rightly ranked pairs: one sort by (group, score), no loop over groups."""
    positive, score = binary_labels(labels), finite_numbers("scores", scores)
    ids, codes = group_codes(groups)
    same_length({"labels": positive, "scores": score, "groups": codes})
    if not len(codes):
        nothing = np.zeros(0, np.int64)
        return GroupPairs(ids, nothing, nothing, np.zeros(0))
    order = _order_by_group_and_score(codes, score)
    positive, score, codes = positive[order], score[order], codes[order]
    new_group = np.append(True, codes[1:] != codes[:-1])
    new_score = np.append(True, score[1:] != score[:-1])
    group_starts = np.flatnonzero(new_group)
    # A block is a run of rows with one group and one score: its pairs are ties, worth 1/2 each.
    block_starts = np.flatnonzero(new_group | new_score)
    edges = np.append(block_starts, len(codes))
    # Integers throughout: sums of floats would make the result depend on the order of rows.
    negatives_before = np.concatenate(([0], np.cumsum(~positive)))
    negatives = np.diff(negatives_before[edges])
    positives = np.diff(edges) - negatives
    group_of_block = codes[block_starts]
    beaten = negatives_before[block_starts] - negatives_before[group_starts][group_of_block]
    # Twice the pairs won, in integers: exact up to 4e9 rows.
    won_twice = positives * (2 * beaten + negatives)
    first_block = np.searchsorted(block_starts, group_starts)
    return GroupPairs(
        groups=ids,
        impressions=np.diff(np.append(group_starts, len(codes))),
        positives=np.add.reduceat(positives, first_block),
        won=np.add.reduceat(won_twice, first_block) / 2.0,
    )


def _order_by_group_and_score(codes: Ints, scores: npt.NDArray[Any]) -> Ints:
    """(N,) row numbers by rising (code, score).

    Sorting one packed integer key takes a sixth of the time of numpy's lexsort: numpy sorts single numbers
    with the processor's vector instructions. Fits 64 bits as long as groups x rows < 9.2e18.
    """
    by_score = np.argsort(scores)
    key = codes[by_score] * len(codes) + np.arange(len(codes))
    key.sort()
    order: Ints = by_score[key % len(codes)]
    return order


class HistogramAUC:
    """AUC of a stream too long to keep its scores: two mergeable histograms over a logit range.

    Memory is 16 bytes per bin whatever the number of rows. Pairs within one bin count 1/2, as ties;
    `error_bound` says how far the exact value can be. Logits outside [low, high) fall into the end bins.
    """

    def __init__(self, low: float = -20.0, high: float = 20.0, bins: int = 2**20) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low < high and bins >= 1):
            raise ConfigError(
                f"No histogram of {bins} bins over [{low}, {high}); give finite low < high and 1 bin or more."
            )
        self.low, self.high, self.bins = low, high, bins
        self.positives = np.zeros(bins, np.int64)
        self.negatives = np.zeros(bins, np.int64)

    def update(self, labels: npt.ArrayLike, logits: npt.ArrayLike) -> None:
        """Count more rows: `labels` (N,) in {0, 1}, `logits` (N,) finite."""
        positive, logit = binary_labels(labels), finite_numbers("logits", logits).astype(np.float64)
        same_length({"labels": positive, "logits": logit})
        offsets = np.clip(logit, self.low, self.high) - self.low
        bin_of_row = np.minimum(
            (offsets * (self.bins / (self.high - self.low))).astype(np.int64), self.bins - 1
        )
        # `add.at` and not `+=`, which would count rows of one bin once.
        np.add.at(self.positives, bin_of_row[positive], 1)
        np.add.at(self.negatives, bin_of_row[~positive], 1)

    def merge(self, other: "HistogramAUC") -> None:
        """Add the rows that another histogram of the same bins has counted."""
        mine, theirs = (self.low, self.high, self.bins), (other.low, other.high, other.bins)
        if mine != theirs:
            raise ConfigError(
                f"Histograms of (low, high, bins) {mine} and {theirs} do not add up; give all the same."
            )
        self.positives += other.positives
        self.negatives += other.negatives

    def value(self) -> float:
        """AUC of all rows counted so far; nan when a class is missing."""
        below = np.cumsum(self.negatives) - self.negatives
        return self._share_of_pairs(below + self.negatives / 2.0)

    def error_bound(self) -> float:
        """Greatest possible |value - exact AUC|: half the share of pairs that fall into one bin."""
        return self._share_of_pairs(self.negatives / 2.0)

    def _share_of_pairs(self, negatives: Floats) -> float:
        pairs = float(self.positives.sum()) * float(self.negatives.sum())
        return float(self.positives.astype(np.float64) @ negatives) / pairs if pairs > 0 else math.nan


def binary_labels(labels: npt.ArrayLike) -> Flags:
    """Labels (N,) as booleans; `DataError` unless each is exactly 0 or 1."""
    values = np.asarray(labels)
    _one_dimension("labels", values)
    # Compared with 0 and 1 in the caller's own type: a label of 0.5 or NaN is neither.
    positive: Flags = values == 1
    wrong = ~(positive | (values == 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"labels[{row}] is {values[row]!r}; a label is 0 or 1: leave rows of unknown label out."
        )
    return positive


def finite_numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Numbers (N,), floats as they are, integers as float64; `DataError` on nan, infinity and the rest."""
    numbers = np.asarray(values)
    _one_dimension(name, numbers)
    if numbers.dtype.kind in "biu" or not numbers.size:
        return numbers.astype(np.float64)
    if numbers.dtype.kind != "f":
        raise DataError(f"{name} holds {numbers.dtype} values; give real numbers.")
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(finite.argmin())
        raise DataError(
            f"{name}[{row}] is {numbers[row]}; {int((~finite).sum())} of {len(numbers)} are not finite."
        )
    return numbers


def group_codes(groups: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Distinct group ids (U,) in rising order and each row's place among them (N,)."""
    ids = np.asarray(groups)
    _one_dimension("groups", ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise DataError(
            f"groups holds {ids.dtype} values; give integers: numpy.unique(ids, return_inverse=True)[1]."
        )
    distinct, codes = np.unique(ids, return_inverse=True)
    return distinct.astype(np.int64), codes.astype(np.int64)


def same_length(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise `DataError` unless all the named arrays have as many rows as the first."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"Arrays must have one value per row, but {listed}.")


def _one_dimension(name: str, values: npt.NDArray[Any]) -> None:
    if values.ndim != 1:
        raise DataError(f"{name} has shape {values.shape}; give one dimension (one label at a time).")
