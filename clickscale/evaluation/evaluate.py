"""The loop that runs a model over one part of a data set, as it would be served."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clickscale.data.dataset import Dataset
from clickscale.data.loader import SCORED_PAIRS, Grouping, Loader, LoaderConfig, served_loaders
from clickscale.errors import ConfigError
from clickscale.evaluation.predictions import Predictions
from clickscale.features import UNKNOWN, column_of, label_of
from clickscale.models import CTRModel
from clickscale.runtime import survive_forks
from clickscale.schema import select_labels


def predict(
    model: CTRModel[Any],
    dataset: Dataset,
    part: str,
    *,
    length: int,
    grouping: Grouping = "request",
    slack: int = 0,
    labels: tuple[str, ...] = (),
    batch_size: int = 512,
) -> Predictions:
    """Score every impression of a part; memory holds the scores, the labels and one batch.

    Args:
        model: scored in evaluation mode; its mode is put back afterwards.
        part: ``train``, ``valid`` or ``test``.
        length: a candidate sees the last ``length`` behaviors known before its time.
        grouping: ``request`` is how a server scores. Requests of a user of whose history nothing is cut share
            one encoding if the model can; no logit changes. ``timeline`` lets deep layers of some models see
            further back than ``length`` and is not what a server computes.
        slack: replay the part through the window policy of a server. It appends to the state of a user until
            that would hold more than ``length + slack`` behaviors, and then computes it again from the last
            ``length``; a candidate sees all behaviors of the state. One encoding serves many requests, so
            long histories are evaluated far faster. With 0 every request has a state of its own.
        labels: the labels that the model was built for, in order; the first one of the data set if empty.
        batch_size: impressions in a batch, about.

    Returns:
        Predictions in the order of ``dataset.part(part)``; their grouping names the slack.

    Raises:
        DataError: the part has no impressions.
        SchemaError: unknown label.
        ConfigError: slack for another grouping than ``request``, or for a model whose states cannot grow.
    """
    rows = dataset.part(part)
    names = tuple(dataset.labels[index] for index in select_labels(dataset.labels, labels))
    logits = np.empty((len(rows), len(names)), np.float32)
    scored = score_part(
        model,
        dataset,
        part,
        length=length,
        grouping=grouping,
        slack=slack,
        labels=labels,
        batch_size=batch_size,
    )
    for some, values in scored:
        logits[np.searchsorted(rows, some)] = values
    stated = f"{grouping}, slack {slack}" if slack else grouping
    return with_facts(dataset, rows, logits, names, part, stated)


def score_part(
    model: CTRModel[Any],
    dataset: Dataset,
    part: str,
    *,
    length: int,
    grouping: Grouping = "request",
    slack: int = 0,
    labels: tuple[str, ...] = (),
    batch_size: int = 512,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Score every impression of a part once, batch by batch: rows (n,) and logits (n, T), in no order.

    Arguments and errors are those of `predict`.
    """
    survive_forks()
    _check_slack(model, grouping, slack)
    # Shuffled batches are sorted by length inside, so less padding is computed.
    config = LoaderConfig(
        grouping=grouping,
        length=length,
        slack=slack,
        batch_size=batch_size,
        pairs=SCORED_PAIRS,
        labels=labels,
    )
    if grouping == "request":
        loaders = served_loaders(dataset, part, config, length if model.causal and model.shares else 0)
    else:
        loaders = [Loader(dataset, part, config)]
    count = 0
    # Wherever the model is, logits are collected on the CPU: a part can be larger than a GPU's memory.
    device = next(model.parameters()).device
    mode = model.training
    model.eval()
    try:
        for batch in itertools.chain.from_iterable(loader.batches() for loader in loaders):
            with torch.inference_mode():
                logits = model(batch.to(device)).float().cpu()  # (B, C, T)
            real = batch.rows >= 0  # (B, C)
            rows = batch.rows[real].numpy()
            count += len(rows)
            yield rows, logits[real].numpy()
    finally:
        model.train(mode)
    assert count == len(dataset.part(part)), "the loaders left out impressions of its part"


def _check_slack(model: CTRModel[Any], grouping: Grouping, slack: int) -> None:
    """Refuse a slack that a server could not have."""
    if slack < 0:
        raise ConfigError(f"slack must be >= 0; got {slack}.")
    if slack and grouping != "request":
        raise ConfigError(f"slack={slack} replays requests; evaluate with grouping request, not {grouping}.")
    if slack:
        model.require_causal(f"nothing can be appended to its states; evaluate it with slack 0, not {slack}")


def _users_of_results(dataset: Dataset) -> npt.NDArray[np.int64]:
    """(impressions,) user of each, by whom results are grouped."""
    user = np.asarray(dataset.impressions["user"], np.int64)
    if not dataset.schema.groups:
        return user
    index = np.asarray(dataset.users[column_of(dataset.schema.groups)], np.int64)[user]
    # Of values that the training part does not have, nobody knows which are alike: each row stands alone.
    return np.where(index > UNKNOWN, index, int(index.max(initial=0)) + 1 + np.arange(len(index)))


def with_facts(
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    logits: npt.NDArray[np.float32],
    names: tuple[str, ...],
    part: str,
    grouping: str,
) -> Predictions:
    """Join logits with the labels and with the facts by which reports are sliced."""
    labels = np.stack([np.asarray(dataset.impressions[label_of(name)][rows]) for name in names], axis=1)
    user = _users_of_results(dataset)
    time = np.asarray(dataset.impressions["time"][rows], np.int64)
    # The age of an item is that at the impression, not today's.
    first_seen = np.asarray(dataset.items["first_seen"], np.int64)[dataset.impressions["item"][rows]]
    # Activity is counted in the training part only: a slice must not depend on the part that it slices.
    activity = np.bincount(user[dataset.part("train")], minlength=int(user.max(initial=0)) + 1)
    return Predictions(
        row=rows,
        user=user[rows],
        time=time,
        labels=(labels == 1).astype(np.float32),
        label_mask=labels >= 0,
        logits=logits,
        behaviors=np.asarray(dataset.impressions["visible"][rows], np.int32),
        item_age=np.where(first_seen < 0, -1, np.maximum(time - first_seen, 0)),
        user_activity=activity[user[rows]].astype(np.int32),
        label_names=names,
        part=part,
        grouping=grouping,
    )
