"""One file per model; the name of a model is the name of its file, so adding a file adds a model.

A model file defines ``ModelConfig``, ``PRESETS`` (grade -> ModelConfig) and one subclass of `CTRModel` whose
constructor takes ``(features, items, config, length, labels)``.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from clickscale.config import Config
from clickscale.config_text import override
from clickscale.errors import ConfigError, unknown
from clickscale.features import Features
from clickscale.layers.inputs import ItemColumns
from clickscale.models._base import CTRModel, FeatureAxis, State, stack
from clickscale.models._chunks import score_in_chunks
from clickscale.models._losses import label_losses
from clickscale.schema import select_labels

__all__ = [
    "CTRModel",
    "FeatureAxis",
    "State",
    "build_model",
    "describe",
    "label_losses",
    "model_config",
    "model_names",
    "presets",
    "score_in_chunks",
    "stack",
]


def model_names() -> list[str]:
    """Names of all models."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def _module(name: str) -> ModuleType:
    path = f"{__name__}.{name}"
    if name.startswith("_") or (path not in sys.modules and name not in model_names()):
        raise ConfigError(unknown("model", name, model_names()))
    return importlib.import_module(path)


def describe(name: str) -> str:
    """First line of a model's docstring."""
    return (inspect.getdoc(_module(name)) or "").partition("\n")[0]


def presets(name: str) -> dict[str, Config]:
    """Options of a model by grade."""
    return dict(_module(name).PRESETS)


def model_config(name: str, grade: str = "size-2", overrides: Sequence[str] = ()) -> Config:
    """Options of a model: a grade's preset with ``a.b=c`` overrides applied.

    Raises:
        ConfigError: unknown model, grade or option.
    """
    known = presets(name)
    if grade not in known:
        raise ConfigError(unknown("grade", grade, known))
    return override(known[grade], overrides)


def build_model(
    name: str,
    features: Features,
    items: ItemColumns,
    *,
    grade: str = "size-2",
    length: int = 100,
    labels: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> CTRModel[Any]:
    """Make a model with fresh weights.

    Args:
        name: file stem, such as ``suan``.
        features: what the data set holds (``dataset.features``).
        items: columns of the item table (``dataset.item_columns()``).
        grade: preset of sizes.
        length: behaviors that a candidate sees at most (L).
        labels: labels to predict; the first one of the data set if empty.
        overrides: ``a.b=c`` changes of the preset.

    Raises:
        ConfigError: unknown model, grade, option or label.
    """
    config = model_config(name, grade, overrides)
    module = _module(name)
    (kind,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, CTRModel) and value.__module__ == module.__name__
    )
    model: CTRModel[Any] = kind(
        features, items, config, length, len(select_labels(features.labels, tuple(labels)))
    )
    return model
