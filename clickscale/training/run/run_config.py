"""Options of a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clickscale.config import Config, check_least
from clickscale.config_text import assign, parse, read_assignments, split_assignments
from clickscale.data.loader import Grouping, LoaderConfig
from clickscale.data.portion import Portion
from clickscale.errors import ConfigError
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.passes.epochs import Epochs

# May change between the start of a run and its continuation: they do not touch what is learned. (The data may
# move; its hash may not change. Another number of threads may change the last bits of a sum.)
FREE = frozenset(
    {
        "data",
        "threads",
        "recompute",
        "prefetch",
        "log_every",
        "checkpoint_every",
        "keep",
        "teacher_run",  # may move; what it has learned is compared
        "epochs.snapshot",  # may move; the tables taken from it are kept
    }
)

# Options that the recipe decides where they have these values; in a distillation the optimizers are those of
# student and teacher.
LEFT_OPEN: Mapping[str, Any] = {
    "model_options": (),
    "grouping": "auto",
    "window": 0,
    "batch_size": 0,
    "epochs.count": 0,
    "epochs.again": None,
    "validate_every": 0,
    "patience": 0,
    "optimizer.learning_rate": None,
    "optimizer.table_learning_rate": None,
    "optimizer.table_l2": None,
    "optimizer.week_rate": None,
    "temperature": None,
    "weight": None,
    "ramp": None,
    "soft_labels": None,
    "unlabelled": None,
    "teacher_first": None,
}

UNKNOWN_USERS = 0.3  # gains on most logs that were tried and is level on the others; docs/recipes.md


class RunConfig(Config, frozen=True, kw_only=True):
    """Options of every run, whatever it trains.

    Attributes:
        data: folder of a prepared data set.
        portion: share of its training part that the run learns from.
        recipe: how everything that is left open is decided (`clickscale.training.recipe`): ``accurate``, or
            ``fast``, which takes long windows and one epoch at a price in accuracy. A distillation may also
            take that of the ``paper``: ``accurate``, but its student is taught by the letter.
        grouping: rows of a batch: an ``impression``, the impressions of a ``request``, or a window of the
            ``timeline`` of a user; ``auto`` leaves it to the recipe.
        window: impressions of a user in one row of a ``timeline`` batch at most; 0 leaves it to the recipe.
        slack: train as a server scores that appends so many behaviors to a state; the validation part of a
            finished run is measured in the same way.
        unknown_users: share of the rows of training batches whose user is shown as an unknown one. A model
            that always knows the id learns the user's rate by heart, and little of what would tell it of a
            new user or at another time.
        batch_size: impressions in a batch, about; 0 leaves it to the recipe.
        pairs: bound of a batch's pairs of a candidate or behavior and a behavior, as its memory grows; 0 sets
            no bound.
        placeholders: padding candidates that every row has in addition; they change nothing that is learned.
        labels: labels to train; the first one of the data set if empty.
        seed: of the initial weights, of dropout and of the order of the data.
        precision: ``bf16`` computes the forward pass in bfloat16 where that is safe; weights stay float32.
        device: ``auto`` takes a GPU if there is one.
        threads: per operation; 0 lets clickscale choose.
        recompute: compute blocks of a causal stack again in the backward pass: less memory, the same numbers.
        prefetch: batches built ahead by a thread; 0 builds each when asked.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints; 0 saves only at the end.
        keep: checkpoints that stay.
        early_stopping: stop when the validation loss has not fallen for ``patience`` validations, and end
            with the weights of the lowest one; needs a validation part.
        calibrate: let the last bias follow the label rate of the validation part when training with early
            stopping ends (`clickscale.training.rate_shift`).
        validate_every: steps between two measurements of the validation part; 0 leaves it to the recipe, or
            never measures it if nothing is to be stopped.
        patience: validations without a gain that end training; 0 leaves it to the recipe.
    """

    data: str
    portion: Portion = Portion()
    recipe: Literal["accurate", "fast", "paper"] = "accurate"
    grouping: Grouping | Literal["auto"] = "auto"
    window: int = 0
    slack: int = 0
    unknown_users: float = UNKNOWN_USERS
    batch_size: int = 0
    pairs: int = 0
    placeholders: int = 0
    labels: tuple[str, ...] = ()
    seed: int = 0
    epochs: Epochs = Epochs()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    recompute: bool = False
    prefetch: int = 2
    log_every: int = 20
    checkpoint_every: int = 1000
    keep: int = 2
    early_stopping: bool = True
    calibrate: bool = True
    validate_every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "log_every", "keep")
        check_least(self, 0, "checkpoint_every", "validate_every", "patience", "batch_size", "window")
        if self.epochs.again and not self.early_stopping:
            raise ConfigError(
                f"epochs.again={self.epochs.again} needs early stopping and a validation part, which tell"
                " whether the second training is better; leave early_stopping on, or epochs.again out."
            )

    def loader(self) -> LoaderConfig:
        """Options of loaders; that of training also hides users (`unknown_users`)."""
        raise TypeError(f"{type(self).__name__} does not define loader")

    def loader_of(self, length: int) -> LoaderConfig:
        """Options of a loader of ``length`` behaviors; the recipe has decided before."""
        assert self.grouping != "auto", "the recipe decides the grouping before batches are made"
        return LoaderConfig(
            grouping=self.grouping,
            length=length,
            window=self.window,
            slack=self.slack,
            batch_size=self.batch_size,
            pairs=self.pairs,
            placeholders=self.placeholders,
            seed=self.seed,
            labels=self.labels,
            prefetch=self.prefetch,
        )


class TrainConfig(RunConfig, frozen=True, kw_only=True):
    """All options of a run that trains one model.

    Attributes:
        model: name of a model.
        grade: preset of model sizes.
        model_options: ``a.b=c`` changes of that preset.
        length: behaviors that a candidate sees at most (L).
        embedding_dropout: share of the embedded values that training drops.
        warm_start: folder of a run whose weights are the start (`clickscale.training.warm_start`).
    """

    model: str
    grade: str = "size-2"
    model_options: tuple[str, ...] = ()
    length: int = 100
    optimizer: OptimizerConfig = OptimizerConfig()
    embedding_dropout: float = 0.0
    warm_start: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.embedding_dropout < 1:
            raise ConfigError(
                f"embedding_dropout is {self.embedding_dropout}; it must be a share from 0 to below 1."
            )
        if self.recipe == "paper":
            raise ConfigError("recipe is 'paper', which teaches a student; train takes accurate or fast.")

    def loader(self) -> LoaderConfig:
        """Options of the training loader."""
        return self.loader_of(self.length)


def train_config(
    model: str,
    data: Path,
    *,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> TrainConfig:
    """Options of a run, of which later ones win: defaults, ``file``, ``flags``, ``sets``.

    A key ``model.KEY`` changes the model, any other key the training.

    Args:
        file: TOML file.
        flags: values by dotted key.
        sets: texts ``KEY=VALUE``.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    layers = option_layers(file, flags, sets)
    model_options = tuple(taken_out(layers, "model."))
    start = TrainConfig(model=model, data=str(data), model_options=model_options)
    config = assign(start, layers)
    if config.model != model:
        raise ConfigError(f"The model is {model!r}, but the options set model={config.model!r}; name one.")
    return config


Layers = list[tuple[str, list[tuple[str, Any]]]]


def option_layers(file: Path | None, flags: Mapping[str, Any] | None, sets: Sequence[str]) -> Layers:
    """Options by origin, the weakest origin first, as `clickscale.config_text.assign` takes them."""
    layers: Layers = [(str(file), read_assignments(file))] if file else []
    return [*layers, ("the flags", list((flags or {}).items())), ("--set", split_assignments(sets))]


def taken_out(layers: Layers, prefix: str) -> list[str]:
    """Take the options after ``prefix`` out of the layers, and return them as texts ``KEY=VALUE``."""
    texts = []
    for _, pairs in layers:
        texts += [_text(key.removeprefix(prefix), value) for key, value in pairs if key.startswith(prefix)]
        pairs[:] = [(key, value) for key, value in pairs if not key.startswith(prefix)]
    return texts


def _text(key: str, value: Any) -> str:
    """An option as `clickscale.config_text.override` reads it."""
    plain = isinstance(value, str) and parse(value) == value  # unlike the text "3", which would be a number
    return f"{key}={value if plain else json.dumps(value)}"
