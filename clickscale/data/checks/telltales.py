"""Telltales: features that tell a label almost perfectly, mostly because a raw column holds the outcome.

A feature is turned into groups: its indices, or up to 256 quantiles of a number, with missing values as a
group of their own. A number is also told apart into missing, most frequent and other, and a large vocabulary
into 256 stretches of its order, since ids often grow with what they stand for. Fields of candidate, user and
item are measured as they are. A behavior field is measured by its value in the newest visible behavior with
the candidate's own item, since behaviors that contain an impression's own feedback show it there.

Where negatives were sampled, item fields and declared statistics are left out: an item that is in every
second positive and in hardly a negative is popular, and no leak.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickscale.data.dataset import Dataset
from clickscale.data.features.evidence import (
    QUANTILES,
    ROWS,
    Integers,
    Suspicion,
    evidence,
    number_groups,
    quantile_groups,
)
from clickscale.features import UNKNOWN, Feature, column_of, label_of

_RECENT = 50  # visible behaviors searched for the candidate's own item


def sample_of_train(data: Dataset, seed: int) -> Integers:
    """Draw up to `ROWS` impressions of the training part, ascending."""
    train = data.part("train")
    return np.sort(np.random.default_rng(seed).choice(train, min(ROWS, len(train)), replace=False))


def suspicious_features(data: Dataset, rows: Integers) -> Iterator[Suspicion]:
    """Yield the features that tell a label on some impressions, each at most once per label."""
    told: set[tuple[str, str]] = set()
    for name, side, groups in _features(data, rows):
        for label in data.labels:
            outcome = data.impressions[label_of(label)][rows]
            use = (outcome >= 0) & (groups.max(axis=1) >= 0)
            how = evidence(groups[use], outcome[use] == 1)
            if how and (name, label) not in told:
                told.add((name, label))
                yield Suspicion(name, f"{side} {name!r} tells label {label!r} {how}", int(use.sum()))


def _features(data: Dataset, rows: Integers) -> Iterator[tuple[str, str, Integers]]:
    """Yield (name, side, (rows, values) groups) of every feature, in several forms."""
    user, item = data.impressions["user"][rows], data.impressions["item"][rows]
    sides = (
        ("context field", data.features.context, data.impressions, rows),
        ("profile field", data.features.profile, data.users, user),
        ("item field", data.features.item, data.items, item),
    )
    statistics = {statistic.name for statistic in data.schema.statistics}
    for side, features, columns, table_rows in sides:
        for feature in features:
            title = "statistic" if feature.name in statistics else side
            popular = data.schema.sampled_negatives and title in ("statistic", "item field")
            if feature.kind != "content" and not popular:
                for groups in _groups(feature, columns[column_of(feature.name)][table_rows]):
                    yield feature.name, title, groups
    own_row = newest_own(data, rows)
    side = "in the newest visible behavior with the same item, behavior field"
    for feature in data.features.behavior:
        if feature.kind != "content" and (own_row >= 0).any():
            values = data.behaviors[column_of(feature.name)][np.maximum(own_row, 0)]
            for groups in _groups(feature, values):
                groups[own_row < 0] = -1
                yield feature.name, side, groups


def _groups(feature: Feature, values: NDArray[Any]) -> Iterator[Integers]:
    """Yield (rows, values) group numbers; -1 where a field of several values has fewer."""
    if feature.kind == "numeric":
        yield from number_groups(values)
        return
    groups = values.reshape(len(values), -1).astype(np.int64)
    yield np.where((groups == 0) & (np.arange(groups.shape[1]) > 0), -1, groups)
    yield (groups[:, :1] == UNKNOWN).astype(np.int64)
    if groups.shape[1] == 1 and feature.size > QUANTILES:
        yield quantile_groups(groups[:, 0].astype(np.float64))


def newest_own(data: Dataset, rows: Integers) -> Integers:
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
