"""Start a model from a trained one: every weight that has a meaning there is taken over.

Any model can start from one that is built alike, EST also from one that had fewer features. Each feature has
weights of its own in EST (an embedding, a tokenizer, queries, outputs, a feed-forward), and tokens never read
each other, so a feature can be added without touching what the others have learned. What reads a new feature
together with others (the tower, the tokenizers of behaviors) begins with zeros for it: the new model scores
as the trained one did, until it learns more.
"""

from dataclasses import dataclass
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor

from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.layers.per_token import copy_named, token_names
from clickscale.models import CTRModel
from clickscale.models.est import EST
from clickscale.models.est_full import ESTFull
from clickscale.schema import Feature, Features, categorical, numeric
from clickscale.training.run.folder import TrainedRun
from clickscale.training.table_resets import carried_over, tables_of

Separable = EST | ESTFull  # models in which every feature has weights of its own
TABLE = "inputs.table.weight"
# Weights of every token, by the end of their name.
_PER_TOKEN = (
    "attention.query.weight",
    "attention.out.weight",
    "token_query.weight",
    "token_out.weight",
    "token_ffn.enter.weight",
    "token_ffn.leave.weight",
)


@dataclass(frozen=True)
class WarmStart:
    """Names of the weights that were taken over whole, in part, and not at all."""

    whole: tuple[str, ...]
    partly: tuple[str, ...]
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class _Axis:
    """The axis of a weight along which features have parts of their own, and what new parts begin with."""

    axis: int
    names: tuple[str, ...]
    fill: float | None = None


def start_from(model: CTRModel[Any], dataset: Dataset, labels: tuple[str, ...], run: TrainedRun) -> str:
    """Take over the weights of a run; embedding rows by raw value, however the data sets number them.

    Args:
        model, dataset, labels: what is to begin, and what it shall learn.

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
    before, rows = tables_of(run.model), {}
    for name, table in tables_of(model).items():
        _check(f"{name}.weight", name in before and before[name].size[1] == table.size[1])
        rows[name] = carried_over(table, dataset.encoder, before[name], run.dataset.encoder)
    tables = {f"{name}.weight" for name in rows}
    if isinstance(model, EST | ESTFull) and isinstance(run.model, EST | ESTFull):
        report = warm_start(model, dataset.features, run.model, run.dataset.features)
    else:
        report = _copy_alike(model, run.model, tables)
    with torch.no_grad():
        for name, table in tables_of(model).items():
            table.weight.copy_(rows[name][0])
    values = " and ".join(f"{carried:,} of {len(table):,} embedding rows" for table, carried in rows.values())
    whole, partly = (sum(name not in tables for name in names) for names in (report.whole, report.partly))
    return f"warm start: {whole} weights whole, {partly} in part, {len(report.fresh)} new; {values}"


def _copy_alike(model: CTRModel[Any], trained: CTRModel[Any], tables: set[str]) -> WarmStart:
    """Take over every weight but the rows of tables, whose number may differ."""
    new, old = model.state_dict(), trained.state_dict()
    shared = tuple(name for name in new if name not in tables)
    with torch.no_grad():
        for name in shared:
            _check(name, name in old and new[name].shape == old[name].shape)
            new[name].copy_(old[name])
    return WarmStart(shared, (), ())


def warm_start(model: Separable, features: Features, trained: Separable, earlier: Features) -> WarmStart:
    """Take over the weights of a trained model.

    Features are matched by name; a categorical feature may have gained values, which then begin fresh.

    Args:
        model, features: what is to begin, and the features it was built from.
        trained, earlier: what was trained, and its features.

    Raises:
        ConfigError: the two differ in more than their features, such as in width or blocks.
    """
    new, old = model.state_dict(), trained.state_dict()
    axes, before = _axes(model, features), _axes(trained, earlier)
    whole: list[str] = []
    partly: list[str] = []
    with torch.no_grad():
        for name in sorted(new.keys() & old.keys()):
            if name == TABLE:
                _copy_rows(model, features, trained, earlier)
            elif name in axes:
                _copy(name, new[name], old[name], axes[name], before[name])
            else:
                _check(name, new[name].shape == old[name].shape)
                new[name].copy_(old[name])
            same = new[name].shape == old[name].shape and torch.equal(new[name], old[name])
            (whole if same else partly).append(name)
    return WarmStart(tuple(whole), tuple(partly), tuple(sorted(new.keys() - old.keys())))


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise ConfigError(
            f"The trained model has another shape of {name}; a warm start needs the same d, width, blocks,"
            " heads, tiers, length, labels and tower, and EST may differ in features only."
        )


def _copy(name: str, new: Tensor, old: Tensor, axis: _Axis, before: _Axis) -> None:
    """Copy the parts that both have, by name."""
    unlike = [place for place in range(new.dim()) if new.shape[place] != old.shape[place]]
    part = new.shape[axis.axis] // max(len(axis.names), 1)
    _check(name, set(unlike) <= {axis.axis} and part * len(before.names) == old.shape[axis.axis])
    copy_named(new, old, axis.axis, axis.names, before.names, axis.fill)


def _copy_rows(model: Separable, features: Features, trained: Separable, earlier: Features) -> None:
    """Copy the embedding rows of every feature that both have."""
    new, old = model.inputs.table, trained.inputs.table
    _check(TABLE, new.weight.shape[1] == old.weight.shape[1])
    sizes = {feature.name: feature.size for feature in _owners(earlier)}
    for feature in _owners(features):
        if feature.name in sizes:
            count = min(feature.size, sizes[feature.name]) - 1  # the padding row is common to all
            source, target = old.offsets[feature.name] + 1, new.offsets[feature.name] + 1
            new.weight[target : target + count] = old.weight[source : source + count]


def _owners(features: Features) -> tuple[Feature, ...]:
    """Categorical features with embedding rows of their own."""
    sides = (*features.profile, *features.item, *features.behavior, *features.context)
    return tuple(feature for feature in categorical(sides) if not feature.shares)


def _axes(model: Separable, features: Features) -> dict[str, _Axis]:
    """The axis of every weight that is divided among features."""
    if model.chosen.content not in ("side", "both"):
        features = replace(features, item=tuple(f for f in features.item if f.kind != "content"))
    tokens = model.inputs.names
    fields = token_names(features.profile, features.context, features.item)
    item, behavior = token_names(features.item), token_names(features.item, features.behavior)
    axes = {
        "inputs.tokens.fields": _Axis(0, fields),
        "inputs.tokens.histograms": _Axis(0, tokens[len(fields) :]),
        "head.tower.0.weight": _Axis(1, (*tokens, "mean of behaviors"), 0.0),
        "inputs.recent_rows.weight": _Axis(1, behavior, 0.0),
        "inputs.kept_rows.weight": _Axis(1, behavior, 0.0),
        "inputs.search.learned": _Axis(1, item, 0.0),
        "inputs.search.hash": _Axis(0, item, 0.0),  # a new feature does not change what hashes alike
    }
    sides = {"profile_side": features.profile, "context_side": features.context}
    sides |= {"behavior_side": features.behavior, "items.side": features.item}
    axes |= {f"inputs.{name}": _Axis(0, token_names(numeric(side))) for name, side in sides.items()}
    weights = list(model.state_dict())
    named = {name: axis for name in weights for prefix, axis in axes.items() if name.startswith(prefix)}
    return named | {name: _Axis(0, tokens) for name in weights if name.endswith(_PER_TOKEN)}
