"""Start a model from a trained one: every weight that has a meaning there is taken over.

Any model can start from one with the same features and sizes. A model whose weights are divided among its
features (`CTRModel.feature_axes`) can also start from one that had fewer features: parts are matched by the
names of their features, and a part of a new feature keeps its fresh values or begins with zeros, as the model
says. Embedding rows are matched by raw value, however the two data sets number them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.models import CTRModel, FeatureAxis
from clickscale.training.run.folder import TrainedRun
from clickscale.training.table_rows import carried_over, tables_of


@dataclass(frozen=True)
class _WarmStart:
    """Names of the weights that were taken over whole, in part, and not at all; tables are left out."""

    whole: tuple[str, ...]
    partly: tuple[str, ...]
    fresh: tuple[str, ...]


def start_from(model: CTRModel[Any], dataset: Dataset, labels: tuple[str, ...], run: TrainedRun) -> str:
    """Take over the weights of a run.

    Args:
        model, dataset, labels: the new model, its data set and the labels to train.

    Returns:
        A sentence on what was taken over.

    Raises:
        ConfigError: the model of the run is another one, predicts other labels, or differs in more than its
            features.
    """
    if type(model) is not type(run.model) or labels != run.labels:
        raise ConfigError(
            f"A warm start of {type(model).__name__} for {', '.join(labels)} needs a run of the same; the one"
            f" given holds {type(run.model).__name__} for {', '.join(run.labels)}."
        )
    before, tables = tables_of(run.model), tables_of(model)
    rows: dict[str, Tensor] = {}
    carried: dict[str, int] = {}
    for name, table in tables.items():
        _check(f"{name}.weight", name in before and before[name].size[1] == table.size[1])
        rows[name], carried[name] = carried_over(table, dataset.encoder, before[name], run.dataset.encoder)
    report = _copy_weights(model, dataset.features, run.model, run.dataset.features)
    with torch.no_grad():
        for name, table in tables.items():
            table.weight.copy_(rows[name])
    values = " and ".join(f"{carried[name]:,} of {len(rows[name]):,} embedding rows" for name in rows)
    return (
        f"warm start: {len(report.whole)} weights whole, {len(report.partly)} in part,"
        f" {len(report.fresh)} new; {values}"
    )


def _copy_weights(
    model: CTRModel[Any], features: Features, trained: CTRModel[Any], earlier: Features
) -> _WarmStart:
    """Take over all weights of a trained model but the rows of its tables, which only an encoder can match.

    Args:
        model, features: the new model, and the features that it was built from.
        trained, earlier: the trained model, and its features.

    Raises:
        ConfigError: the two differ in more than their features, such as in width or blocks.
    """
    tables = {f"{name}.weight" for name in tables_of(model)}
    new, old = ({k: v for k, v in m.state_dict().items() if k not in tables} for m in (model, trained))
    axes, earlier_axes = model.feature_axes(features), trained.feature_axes(earlier)
    fresh = tuple(sorted(new.keys() - old.keys()))
    if fresh and not axes:  # nothing of such a model belongs to a feature, so nothing may be new
        _check(fresh[0], False)
    whole: list[str] = []
    partly: list[str] = []
    with torch.no_grad():
        for name in sorted(new.keys() & old.keys()):
            if name in axes:
                _copy_parts(name, new[name], old[name], axes[name], earlier_axes[name])
            else:
                _check(name, new[name].shape == old[name].shape)
                new[name].copy_(old[name])
            same = new[name].shape == old[name].shape and torch.equal(new[name], old[name])
            (whole if same else partly).append(name)
    return _WarmStart(tuple(whole), tuple(partly), fresh)


def _copy_parts(name: str, new: Tensor, old: Tensor, axis: FeatureAxis, earlier: FeatureAxis) -> None:
    """Overwrite the parts of ``new`` whose features ``old`` has too."""
    index, part = axis.axis, new.shape[axis.axis] // max(len(axis.names), 1)
    unlike = {i for i in range(new.dim()) if new.shape[i] != old.shape[i]}
    _check(name, unlike <= {index} and part * len(earlier.names) == old.shape[index])
    for position, feature in enumerate(axis.names):
        own = new.narrow(index, position * part, part)
        if feature in earlier.names:
            own.copy_(old.narrow(index, earlier.names.index(feature) * part, part))
        elif axis.fill is not None:
            own.fill_(axis.fill)


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise ConfigError(
            f"The trained model has another shape of {name}; a warm start needs the same d, width, blocks,"
            " heads, tiers, length, labels and tower. It may differ in features only for a model that divides"
            " its weights among them, such as EST."
        )
