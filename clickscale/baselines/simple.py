"""Two predictions that cost nothing: the click rate of the training part, and each item's own rate.

A model that is not better than both has learned nothing that a table could not hold.
"""

import numpy as np
from scipy.special import logit

from clickscale.data.dataset import Dataset
from clickscale.evaluation.evaluate import with_facts
from clickscale.evaluation.predictions import Predictions
from clickscale.features import label_of
from clickscale.schema import select_labels

PRIOR = 20.0  # impressions at the overall rate that every item starts with
NAMES = ("constant", "popularity")


def simple_predictions(dataset: Dataset, part: str, label: str = "") -> dict[str, Predictions]:
    """Predictions of a part that use only the training part.

    ``constant`` is the rate of the label among all training impressions. ``popularity`` is the rate among
    the item's own, smoothed by `PRIOR` impressions at the constant rate; an item that training never showed
    has the constant rate.

    Args:
        label: the label to predict; the first one of the data set if empty.
    """
    (index,) = select_labels(dataset.labels, (label,) if label else ())
    name, train, rows = dataset.labels[index], dataset.part("train"), dataset.part(part)
    outcome = np.asarray(dataset.impressions[label_of(name)])[train]
    items = np.asarray(dataset.impressions["item"])
    known = outcome >= 0
    # Half a positive and half a negative keep the rate away from 0 and 1, where its logit is infinite.
    rate = float(((outcome == 1).sum() + 0.5) / (known.sum() + 1))
    size = dataset.manifest.counts["items"]
    shown = np.bincount(items[train][known], minlength=size)
    clicked = np.bincount(items[train][outcome == 1], minlength=size)
    by_item = (clicked + PRIOR * rate) / (shown + PRIOR)
    logits = {"constant": np.full(len(rows), logit(rate)), "popularity": logit(by_item)[items[rows]]}
    return {
        key: with_facts(dataset, rows, values.astype(np.float32)[:, None], (name,), part, "impression")
        for key, values in logits.items()
    }
