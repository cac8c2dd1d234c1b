"""Telltales: features that predict a label almost perfectly, mostly because a raw column holds the outcome.

A feature is turned into groups: its indices, or up to 256 quantiles of a number, with missing values as a
group of their own. Label rates by group are measured on one half of a sample of the training part. The
feature's AUC is that of these rates on the other half, so a large vocabulary gains nothing by memory. Fields
of candidate, user and item are measured as they are. A behavior field is measured by its value in the newest
visible behavior with the candidate's own item, since behaviors that contain an impression's own feedback
show it there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from clickscale.data.dataset import Dataset
from clickscale.features import Feature, column_of, label_of

_LIMIT = 0.95
_ROWS = 200_000  # impressions of the training part that are looked at
_QUANTILES = 256
_RECENT = 50  # visible behaviors searched for the candidate's own item
_FEWEST = 20  # positives and negatives needed for an AUC worth a warning
_PRIOR = 1.0

Integers = NDArray[np.int64]


def suspicious_features(data: Dataset, seed: int = 0) -> list[tuple[str, int]]:
    """Describe the features whose AUC exceeds `_LIMIT`, each with the number of rows it was measured on."""
    train = data.part("train")
    rows = np.sort(np.random.default_rng(seed).choice(train, min(_ROWS, len(train)), replace=False))
    suspicions = []
    for name, groups in _features(data, rows):
        for label in data.labels:
            outcome = data.impressions[label_of(label)][rows]
            use = (outcome >= 0) & (groups.max(axis=1) >= 0)
            area = _own_auc(groups[use], outcome[use] == 1)
            if area > _LIMIT:
                suspicions.append(
                    (f"{name} predicts label {label!r} with AUC {area:.3f} on train", int(use.sum()))
                )
    return suspicions


def _own_auc(groups: Integers, positive: NDArray[np.bool_]) -> float:
    """Compute the AUC on odd rows of label rates by group on even rows; NaN with too few of a class.

    Args:
        groups: (N, values) small integers, -1 for a missing one; a row's rate is the mean over its groups.
        positive: (N,) outcomes.
    """
    size = int(groups.max(initial=-1)) + 1
    learn, outcome = positive[::2], positive[1::2]
    if min(outcome.sum(), (~outcome).sum()) < _FEWEST:
        return float("nan")
    held = groups[::2] >= 0
    seen = np.bincount(groups[::2][held], minlength=size)
    clicked = np.bincount(groups[::2][held], weights=np.repeat(learn, held.sum(axis=1)), minlength=size)
    rates = (clicked + _PRIOR * learn.mean()) / (seen + _PRIOR)
    held = groups[1::2] >= 0
    score = np.where(held, rates[groups[1::2]], 0).sum(axis=1) / np.maximum(held.sum(axis=1), 1)
    ranks, positives = rankdata(score), int(outcome.sum())
    return float((ranks[outcome].sum() - positives * (positives + 1) / 2) / (positives * (~outcome).sum()))


def _features(data: Dataset, rows: Integers) -> Iterator[tuple[str, Integers]]:
    """Yield (description, (rows, values) groups) of every feature."""
    user, item = data.impressions["user"][rows], data.impressions["item"][rows]
    sides = (
        ("context field", data.features.context, data.impressions, rows),
        ("profile field", data.features.profile, data.users, user),
        ("item field", data.features.item, data.items, item),
    )
    statistics = {statistic.name for statistic in data.schema.statistics}
    for side, features, columns, table_rows in sides:
        for feature in features:
            if feature.kind != "content":
                title = "statistic" if feature.name in statistics else side
                yield (
                    f"{title} {feature.name!r}",
                    _groups(feature, columns[column_of(feature.name)][table_rows]),
                )
    own_row = _own_item(data, rows)
    for feature in data.features.behavior:
        if feature.kind != "content" and (own_row >= 0).any():
            groups = _groups(feature, data.behaviors[column_of(feature.name)][np.maximum(own_row, 0)])
            groups[own_row < 0] = -1
            yield f"behavior field {feature.name!r} of the newest visible behavior with the same item", groups


def _groups(feature: Feature, values: NDArray[Any]) -> Integers:
    """(rows, values) group numbers; -1 where a field of several values has fewer."""
    if feature.kind == "categorical":
        groups = values.reshape(len(values), -1).astype(np.int64)
        return np.where((groups == 0) & (np.arange(groups.shape[1]) > 0), -1, groups)
    missing = np.isnan(values)
    if missing.all():
        return np.zeros((len(values), 1), np.int64)
    edges = np.unique(np.quantile(values[~missing], np.linspace(0, 1, _QUANTILES)))
    groups = np.searchsorted(edges, values) + 1
    return np.where(missing, 0, groups).astype(np.int64)[:, None]


def _own_item(data: Dataset, rows: Integers) -> Integers:
    """(rows,) row of the newest visible behavior with the candidate's item, or -1."""
    user, item = data.impressions["user"][rows], data.impressions["item"][rows]
    visible = data.impressions["visible"][rows]
    end = data.users["offsets"][user] + visible
    newest = np.full(len(rows), -1, np.int64)
    for back in range(1, min(_RECENT, int(visible.max(initial=0))) + 1):
        open_rows = np.flatnonzero((visible >= back) & (newest < 0))
        row = end[open_rows] - back
        same = data.behaviors["item"][row] == item[open_rows]
        newest[open_rows[same]] = row[same]
    return newest
