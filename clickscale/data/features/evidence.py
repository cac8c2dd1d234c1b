"""Evidence that a value tells a label: how well it ranks, and whether one of its values is all positive.

Values come as groups, and label rates by group are learned on one half of the rows and judged on the other,
so a large vocabulary gains nothing by memory.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LIMIT = 0.95  # AUC of one value above which it was hardly known before the outcome
ROWS = 200_000  # impressions of the training part that are looked at
QUANTILES = 256
FEWEST = 20  # positives and negatives needed for an AUC worth a finding
_PURE = 0.98  # share of positives in a group that tells the label, where fewer than half are positive
_COVERED = 0.05  # share of all positives that such a group must hold
_PRIOR = 1.0
_PIECES = 8  # of the rows in order, every other one judged

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Suspicion(NamedTuple):
    """A value that tells a label.

    Attributes:
        name: short name of the value, by which a person accepts it.
        message: one sentence.
        rows: number of rows on which it was measured.
    """

    name: str
    message: str
    rows: int


def evidence(groups: Integers, positive: Flags, *, pure: bool = True) -> str:
    """Describe how groups tell an outcome, in words that follow "tells"; empty if they do not.

    The AUC is of rows apart from those that taught the rates.

    Args:
        groups: (N, values) small integers, -1 for a missing one; a row's rate is the mean over its groups.
        positive: (N,) outcomes.
        pure: also look for one group whose rows are nearly all positive.
    """
    area = _own_auc(groups, positive)
    if area > LIMIT:
        return f"with AUC {area:.3f}"
    covered = _pure_share(groups, positive) if pure else 0.0
    return f"by a value that {covered:.0%} of the positives have, and hardly a negative" if covered else ""


def _own_auc(groups: Integers, positive: Flags) -> float:
    """Compute the AUC on one half of the rows of label rates by group on the other; NaN if a class is rare.

    Alternate rows are the halves. What they show must also hold between alternate long pieces of the log:
    copies of a row, or rows of one session, stand together, and a group would tell a copy by its twin.
    """
    rows = np.arange(len(positive))
    area = _auc_of_half(groups, positive, rows % 2 == 1)
    if not area > LIMIT:
        return area
    apart = _auc_of_half(groups, positive, rows * _PIECES // max(len(rows), 1) % 2 == 1)
    return area if np.isnan(apart) else min(area, apart)


def _auc_of_half(groups: Integers, positive: Flags, judged: Flags) -> float:
    """Compute the AUC on the judged rows of label rates by group on the others."""
    size = int(groups.max(initial=-1)) + 1
    learn, outcome = positive[~judged], positive[judged]
    if min(outcome.sum(), (~outcome).sum()) < FEWEST:
        return float("nan")
    seen, clicked = _counts(groups[~judged], learn, size)
    rates = (clicked + _PRIOR * learn.mean()) / (seen + _PRIOR)
    groups = groups[judged]
    held = groups >= 0
    score = np.where(held, rates[groups], 0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    return auc(score, outcome)


def auc(score: NDArray[Any], positive: Flags) -> float:
    """Compute the share of pairs in which the positive has the higher score; ties count half."""
    ordered = np.sort(score)
    ranks = (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right") + 1) / 2
    positives = int(positive.sum())
    pairs = positives * (len(positive) - positives)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / pairs) if pairs else 0.5


def _counts(groups: Integers, positive: Flags, size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Count rows and positives of each group."""
    held = groups >= 0
    seen = np.bincount(groups[held], minlength=size)
    weights = np.repeat(positive.astype(np.float64), held.sum(axis=1))
    return seen, np.bincount(groups[held], weights=weights, minlength=size)


def _pure_share(groups: Integers, positive: Flags) -> float:
    """Return the share of positives in the largest group that is pure in both halves; 0 without one."""
    size = int(groups.max(initial=-1)) + 1
    if positive.mean() > 0.5 or not size:
        return 0.0
    covers = np.ones(size, bool)
    share = np.ones(size)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        seen, clicked = _counts(groups[half], positive[half], size)
        share = np.minimum(share, clicked / max(int(positive[half].sum()), 1))
        covers &= (clicked >= FEWEST) & (clicked >= _PURE * seen) & (share >= _COVERED)
    return float(share[covers].max(initial=0.0))


def number_groups(values: NDArray[Any]) -> Iterator[Integers]:
    """Yield (rows, 1) groups of numbers: their quantiles, and missing, usual or any other value.

    What few rows have, such as the value of a booking where the others have 0, is spread over quantiles too
    small to tell anything.
    """
    yield quantile_groups(values)
    distinct, count = np.unique(values[~np.isnan(values)], return_counts=True)
    usual = distinct[count.argmax()] if len(distinct) else np.nan
    yield np.where(np.isnan(values), 0, np.where(values == usual, 1, 2))[:, None]


def quantile_groups(values: NDArray[Any]) -> Integers:
    """(rows, 1) quantiles of numbers; 0 where one is missing."""
    missing = np.isnan(values)
    if missing.all():
        return np.zeros((len(values), 1), np.int64)
    edges = np.unique(np.quantile(values[~missing], np.linspace(0, 1, QUANTILES)))
    groups = np.searchsorted(edges, values) + 1
    return np.where(missing, 0, groups).astype(np.int64)[:, None]
