"""Two predictions that cost nothing: the click rate of the training part, and each item's own rate.

A model that is not better than both has learned nothing that a table could not hold.
"""

import numpy as np
from scipy.special import logit

from clickscale.arrays import Floats32, Ints
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
    labels, rows = (dataset.labels[index],), dataset.part(part)
    return {
        name: with_facts(dataset, rows, logits, labels, part, "impression")
        for name, logits in simple_logits(dataset, rows, labels).items()
    }


def simple_logits(dataset: Dataset, rows: Ints, labels: tuple[str, ...]) -> dict[str, Floats32]:
    """Logits (N, T) of the predictions of `simple_predictions`, by name.

    A log without items has no popularity.

    Args:
        rows: (N,) impressions to predict.
        labels: the T labels to predict.
    """
    train, items = dataset.part("train"), np.asarray(dataset.impressions["item"])
    shown, asked = items[train], items[rows]
    columns = [_logits(dataset, train, shown, asked, label) for label in labels]
    constant, popularity = zip(*columns, strict=True)
    found = {"constant": np.stack(constant, axis=1)}  # (N, T)
    if "item" not in dataset.schema.absent:
        found["popularity"] = np.stack(popularity, axis=1)  # (N, T)
    return found


def _logits(dataset: Dataset, train: Ints, shown: Ints, asked: Ints, label: str) -> tuple[Floats32, Floats32]:
    """Constant and popularity (N,) for one label, from the items shown in training, for the items asked."""
    outcome = np.asarray(dataset.impressions[label_of(label)])[train]
    known = outcome >= 0
    # Half a positive and half a negative keep the rate away from 0 and 1, where its logit is infinite.
    rate = float(((outcome == 1).sum() + 0.5) / (known.sum() + 1))
    size = dataset.manifest.counts["items"]
    counts = np.bincount(shown[known], minlength=size)
    clicked = np.bincount(shown[outcome == 1], minlength=size)
    by_item = logit((clicked + PRIOR * rate) / (counts + PRIOR)).astype(np.float32)
    return np.full(len(asked), logit(rate), np.float32), by_item[asked]
