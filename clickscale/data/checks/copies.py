"""Copies: context of a positive that its sampled negatives have, too, though it fits only its own item.

A sampled negative is another item in the situation of a positive. A price that was paid, or the length of the
film that was seen, is not a situation: it goes with the item, so whoever compares the two knows which one was
true. Half of the positives tell what values each item has. On other rows, a number is then judged by
its distance from the mean of its item, by ranks, and another value by how much more often its item has it
than all items do. If that ranks positives far above their negatives, the field was copied. An honest
situation, such as a device or an hour, goes with every item now and then.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickscale.data.dataset import Dataset
from clickscale.data.features.evidence import FEWEST, Flags, Integers, Suspicion, auc
from clickscale.features import Feature, column_of, label_of

_TELLING = 0.9  # AUC of how well values go with items
_SEEN = 2  # positives of an item from which its values are known
_PRIOR = 1.0

Floats = NDArray[np.float64]


def suspicious_copies(data: Dataset, rows: Integers) -> Iterator[Suspicion]:
    """Yield the context fields whose values go with the item in positives only; ``rows`` are looked at."""
    if not data.schema.sampled_negatives:
        return
    declared = {number.name for number in data.schema.computed()}
    fields = [feature for feature in data.features.context if feature.name not in declared]
    item = data.impressions["item"][rows].astype(np.int64)
    for label in data.labels:
        positive = data.impressions[label_of(label)][rows] == 1
        learned = positive & (np.cumsum(positive) % 2 == 0)
        seen = np.bincount(item[learned], minlength=int(item.max(initial=0)) + 1)
        judged = ~learned & (seen[item] >= _SEEN)
        if min((judged & positive).sum(), (judged & ~positive).sum()) < FEWEST:
            continue
        for feature in fields:
            values = data.impressions[column_of(feature.name)][rows]
            area = auc(_fit(feature, values, item, learned)[judged], positive[judged])
            if area > _TELLING:
                message = (
                    f"context field {feature.name!r} goes with the item of a positive, and its sampled "
                    f"negatives copy it, so it tells label {label!r} with AUC {area:.3f}; make it a field of "
                    "items, or leave it out"
                )
                yield Suspicion(feature.name, message, int(judged.sum()))


def _fit(feature: Feature, values: NDArray[Any], item: Integers, learned: Flags) -> Floats:
    """Compute (rows,) how well each value goes with its item, by the learned rows."""
    if feature.kind == "content":
        return np.zeros(len(values))
    first = values.reshape(len(values), -1)[:, 0]
    return _nearness(first, item, learned) if feature.kind == "numeric" else _lift(first, item, learned)


def _nearness(values: NDArray[Any], item: Integers, learned: Flags) -> Floats:
    """Negative distances of the ranks of numbers from the mean rank of their item."""
    ranks = np.searchsorted(np.sort(values), values).astype(np.float64)  # missing ones are last, and alike
    rows = np.bincount(item[learned], minlength=int(item.max()) + 1)
    total = np.bincount(item[learned], ranks[learned], len(rows))
    return -np.abs(ranks - (total / np.maximum(rows, 1))[item])


def _lift(values: NDArray[Any], item: Integers, learned: Flags) -> Floats:
    """Smoothed share of a value among the rows of its item, by its share among all."""
    _, value = np.unique(values, return_inverse=True)
    size = int(value.max()) + 1
    cells, cell = np.unique(item * size + value, return_inverse=True)
    both = np.bincount(cell[learned], minlength=len(cells))[cell]
    rows = np.bincount(item[learned], minlength=int(item.max()) + 1)[item]
    share = (np.bincount(value[learned], minlength=size)[value] + _PRIOR) / (learned.sum() + size)
    return np.asarray((both + _PRIOR * share) / (rows + _PRIOR) / share, np.float64)
