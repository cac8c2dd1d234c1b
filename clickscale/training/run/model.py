"""The model of a run: built from the options of the run and the features of its data set."""

from typing import Any

import numpy as np

from clickscale.data.dataset import Dataset
from clickscale.data.loader import Grouping
from clickscale.errors import ConfigError
from clickscale.features import label_of
from clickscale.layers.embedding import FusedEmbedding
from clickscale.layers.head import Head
from clickscale.layers.recompute import recompute_blocks
from clickscale.models import CTRModel, build_model
from clickscale.schema import select_labels
from clickscale.training.run.run_config import RunConfig, TrainConfig


def make_model(config: TrainConfig, dataset: Dataset) -> CTRModel[Any]:
    """Model of a run with fresh weights.

    Raises:
        ConfigError: unknown model, grade, option or label, or a grouping that the model cannot train in.
    """
    model = build_model(
        config.model,
        dataset.features,
        dataset.item_columns(),
        grade=config.grade,
        length=config.length,
        labels=config.labels,
        overrides=config.model_options,
    )
    for part in model.modules():
        if isinstance(part, FusedEmbedding):
            part.dropout = config.embedding_dropout
    if config.grouping != "auto":
        check_grouping(model, config.grouping)
    if config.slack:
        model.require_causal(f"nothing can be appended to its states; leave out slack={config.slack}")
    if config.recompute and not recompute_blocks(model):
        raise ConfigError(f"Model {config.model!r} has no blocks to recompute; leave out recompute=true.")
    return model


def trained_labels(dataset: Dataset, config: RunConfig) -> tuple[str, ...]:
    """Names of the labels that a run trains, in order."""
    return tuple(dataset.labels[index] for index in select_labels(dataset.labels, config.labels))


def check_grouping(model: CTRModel[Any], grouping: Grouping) -> None:
    """Refuse a grouping that the model cannot be used in."""
    if grouping == "timeline":
        model.require_causal(
            "candidates cannot share a timeline; train it with --grouping request or --grouping impression"
        )


def start_at_rates(model: CTRModel[Any], dataset: Dataset, labels: tuple[str, ...]) -> None:
    """Start every head of a new model at the rates of its labels in the training part."""
    rates = label_rates(dataset, labels)
    for part in model.modules():
        if isinstance(part, Head):
            part.start_at(rates)


def label_rates(dataset: Dataset, labels: tuple[str, ...]) -> list[float]:
    """Share of positives of each label among the training impressions where it is known.

    Half a positive and half a negative are added, so that no rate is 0 or 1.
    """
    rows = dataset.part("train")
    columns = [np.asarray(dataset.impressions[label_of(name)])[rows] for name in labels]
    return [float(((column == 1).sum() + 0.5) / ((column >= 0).sum() + 1)) for column in columns]
