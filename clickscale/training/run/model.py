"""The model of a run: built from the options of the run and the features of its data set."""

from clickscale.data.dataset import Dataset
from clickscale.data.loader import Grouping
from clickscale.errors import ConfigError
from clickscale.layers.recompute import recompute_blocks
from clickscale.models import CTRModel, build_model
from clickscale.schema import select_labels
from clickscale.training.run.config import RunConfig, TrainConfig


def make_model(config: TrainConfig, dataset: Dataset) -> CTRModel:
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
    check_grouping(model, config.model, config.grouping)
    if config.slack and not model.causal:
        raise ConfigError(
            f"Model {config.model!r} with these options is not causal, so nothing can be appended to its"
            f" states; leave out slack={config.slack}."
        )
    if config.recompute and not recompute_blocks(model):
        raise ConfigError(f"Model {config.model!r} has no blocks to recompute; leave out recompute=true.")
    return model


def trained_labels(dataset: Dataset, config: RunConfig) -> tuple[str, ...]:
    """Names of the labels that a run trains, in order."""
    return tuple(dataset.labels[index] for index in select_labels(dataset.labels, config.labels))


def check_grouping(model: CTRModel, name: str, grouping: Grouping) -> None:
    """Refuse a grouping that the model cannot be used in."""
    if grouping == "timeline" and not model.causal:
        raise ConfigError(
            f"Model {name!r} with these options is not causal, so candidates cannot share a timeline;"
            " train it with --grouping request or --grouping impression."
        )
