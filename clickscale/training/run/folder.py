"""A run: its options, and the folder that holds everything about it.

::

    config.json         the options, resolved
    dataset.json        path and hash of the manifest of the prepared data, its schema and notes
    environment.json    versions, machine, threads, source revision
    metrics.jsonl       one line per log interval (see `clickscale.training.run.logs`)
    events...           the same for TensorBoard, if it is installed
    checkpoints/        see `clickscale.training.run.checkpoint`
    starting-point/     tables that epochs begin with, if they do (see `clickscale.training.table_resets`)
    done.json           what the finished run cost; only a finished run has it
"""

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import torch

from clickscale.config import Config, check_least, load_json, to_json
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.layout import MANIFEST
from clickscale.data.loader import Grouping, LoaderConfig
from clickscale.errors import ConfigError, RunError
from clickscale.files import file_entry, replace_text, sweep
from clickscale.layers.embedding import FusedEmbedding
from clickscale.layers.head import Head
from clickscale.models import CTRModel, build_model
from clickscale.models._suan.causal import recompute_blocks
from clickscale.schema import Schema, select_labels
from clickscale.training.epochs import Epochs
from clickscale.training.optim import OptimizerConfig
from clickscale.training.run.checkpoint import CheckpointStore
from clickscale.version import __version__

CONFIG, DATASET, ENVIRONMENT, DONE = "config.json", "dataset.json", "environment.json", "done.json"
_NAMED = 10  # features that a message lists
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


class RunConfig(Config, frozen=True, kw_only=True):
    """Options of every run, whatever it trains.

    Attributes:
        data: folder of a prepared data set.
        recipe: decides what is left open (`clickscale.training.recipe`): ``accurate``, or ``fast``, which
            takes long windows and one epoch at a price in accuracy. A run keeps the options as decided.
        grouping, window, slack, batch_size, pairs, placeholders, prefetch: see
            `clickscale.data.loader.LoaderConfig`; ``auto`` and 0 leave grouping, window and batch size to the
            recipe. A finished run measures its validation part with its slack.
        labels: labels to train; the first one of the data set if empty.
        seed: of the initial weights, of dropout and of the order of the data.
        precision: ``bf16`` computes the forward pass in bfloat16 where that is safe; weights stay float32.
        device: ``auto`` takes a GPU if there is one.
        threads: per operation; 0 lets clickscale choose.
        recompute: compute blocks of a causal stack again in the backward pass: less memory, the same numbers.
        log_every, checkpoint_every: in steps; 0 saves only at the end.
        keep: checkpoints that stay.
        early_stopping: stop when the validation loss has not fallen for ``patience`` validations, and end
            with the weights of the lowest one; needs a validation part.
        validate_every, patience: steps between validations, and how many without a gain end training; 0
            leaves them to the recipe, or never validates where nothing is to be stopped.
    """

    data: str
    recipe: Literal["accurate", "fast"] = "accurate"
    grouping: Grouping | Literal["auto"] = "auto"
    window: int = 0
    slack: int = 0
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
    validate_every: int = 0
    patience: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "log_every", "keep")
        check_least(self, 0, "checkpoint_every", "validate_every", "patience", "batch_size", "window")

    def loader(self) -> LoaderConfig:
        """Options of the training loader."""
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
        warm_start: folder of a run whose weights are the start (`clickscale.training.warm_start`).
    """

    model: str
    grade: str = "size-2"
    model_options: tuple[str, ...] = ()
    length: int = 100
    optimizer: OptimizerConfig = OptimizerConfig()
    embedding_dropout: float = 0.0
    warm_start: str = ""

    def loader(self) -> LoaderConfig:
        """Options of the training loader."""
        return self.loader_of(self.length)


C = TypeVar("C", bound=RunConfig)


def trained_labels(dataset: Dataset, config: RunConfig) -> tuple[str, ...]:
    """Names of the labels that a run trains, in order."""
    return tuple(dataset.labels[place] for place in select_labels(dataset.labels, config.labels))


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
    columns = [np.asarray(dataset.impressions[f"label.{name}"])[rows] for name in labels]
    return [float(((column == 1).sum() + 0.5) / ((column >= 0).sum() + 1)) for column in columns]


@dataclass(frozen=True)
class TrainedRun:
    """A run read back from its folder: ``model`` has the weights of ``step`` and is in evaluation mode."""

    config: TrainConfig
    dataset: Dataset
    labels: tuple[str, ...]
    model: CTRModel[Any]
    step: int


def load_run(folder: Path, data: Path | None = None) -> TrainedRun:
    """Read the model of a run from its newest sound checkpoint.

    Args:
        folder: the run.
        data: prepared data set with the same encoder, if not the one that the run was trained on.

    Raises:
        RunError: the folder is not a run, has no checkpoint yet, or was trained on data with other indices.
        DamagedError: no checkpoint is sound.
    """
    config = read_config(folder)
    dataset = open_dataset(data or config.data)
    _check_encoder(folder, dataset)
    checkpoint, _ = CheckpointStore(folder / "checkpoints").load()
    if checkpoint is None:
        raise RunError(f"{folder} has no checkpoint yet; finish it with: clickscale train --resume")
    model = make_model(config, dataset)
    model.load_state_dict(
        {
            name.removeprefix("model."): t
            for name, t in checkpoint.tensors.items()
            if name.startswith("model.")
        }
    )
    return TrainedRun(config, dataset, trained_labels(dataset, config), model.eval(), checkpoint.step)


def read_config(folder: Path) -> TrainConfig:
    """Options of the run in ``folder``.

    Raises:
        RunError: the folder is not a run of one model.
    """
    return read_options(folder, TrainConfig)


def read_options(folder: Path, kind: type[C]) -> C:
    """Options of the run in ``folder``, which must be of this kind.

    Raises:
        RunError: the folder is not a run, or one of another kind.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise RunError(f"{folder} is not a run (no {CONFIG}); make one with: clickscale train")
    text = path.read_bytes()
    tree = json.loads(text)
    if "features" in tree:
        raise RunError(f"{folder} is an artifact, not a run; its run may be {folder.parent}.")
    if "model" in tree and not issubclass(kind, TrainConfig):
        raise RunError(f"{folder} holds the run of one model, made by clickscale train, not a distillation.")
    if "student" in tree and issubclass(kind, TrainConfig):
        models = " and ".join(str(path) for path in (folder / "student", folder / "teacher"))
        raise RunError(f"{folder} holds a distillation; when it is finished, its models are {models}.")
    return load_json(text, kind, str(path))


def open_folder(folder: Path, config: RunConfig, dataset: Dataset, resume: bool) -> None:
    """Make the folder of a new run, or check that the run in it is this one.

    Raises:
        RunError: the folder holds something else, another run, or this run while ``resume`` is false.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        write_options(folder, config, dataset)
        return
    stored = read_options(folder, type(config)) if (folder / CONFIG).is_file() else None
    litter = {f"{name}.partial" for name in (CONFIG, DATASET)}
    if stored is None and not set(os.listdir(folder)) <= litter | {DATASET}:
        raise RunError(f"{folder} is not empty and not a run; choose another folder.")
    if stored is None:  # killed before its options were written
        write_options(folder, config, dataset)
        return
    if not resume:
        raise RunError(f"{folder} already holds a run; continue it with --resume or choose another folder.")
    if found := differences(stored, config):
        raise RunError(
            f"{folder} holds another run: {'; '.join(found)}. Choose another folder or the same options."
        )
    if json.loads((folder / DATASET).read_text("utf-8"))["manifest_sha256"] != _fingerprint(dataset):
        raise RunError(f"{folder} was started on other data than {dataset.path}; choose another folder.")
    sweep(folder)


def write_options(folder: Path, config: RunConfig, dataset: Dataset) -> None:
    """Make a folder a run: what it was trained on and, last, its options."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / DATASET, _dataset_text(dataset))
    replace_text(folder / CONFIG, to_json(config))


def differences(stored: RunConfig, wanted: RunConfig) -> list[str]:
    """Options in which two runs differ and that change what is learned, one sentence each."""
    old, new = _flat(msgspec.to_builtins(stored)), _flat(msgspec.to_builtins(wanted))
    return [
        f"{key} is {old[key]!r}, not {new[key]!r}" for key in old if key not in FREE and old[key] != new[key]
    ]


def write_environment(folder: Path, threads: str, device: torch.device) -> None:
    """Record where a run happened."""
    facts = {
        "clickscale": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": str(device),
        "threads": threads,
        "revision": _revision(),
    }
    replace_text(folder / ENVIRONMENT, json.dumps(facts, indent=2, sort_keys=True))


def _dataset_text(dataset: Dataset) -> str:
    facts = {
        "path": str(dataset.path),
        "manifest_sha256": _fingerprint(dataset),
        "encoder_sha256": _encoder_fingerprint(dataset),
        "schema": msgspec.to_builtins(dataset.schema),
        "counts": dataset.manifest.counts,
        "notes": list(dataset.manifest.notes),
    }
    return json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)


def _fingerprint(dataset: Dataset) -> str:
    """Hash of the manifest, which holds the hash of every file of the data set."""
    return file_entry(dataset.path / MANIFEST).sha256


def _encoder_fingerprint(dataset: Dataset) -> dict[str, str]:
    """Hashes of the files that turn raw values into indices."""
    return {n: entry.sha256 for n, entry in dataset.manifest.files.items() if n.startswith("encoder.")}


def _check_encoder(folder: Path, dataset: Dataset) -> None:
    """Refuse data whose indices mean something else than those that the run was trained on."""
    facts = json.loads((folder / DATASET).read_text("utf-8"))
    if facts["encoder_sha256"] == _encoder_fingerprint(dataset):
        return
    then = msgspec.convert(facts["schema"], Schema).fields()
    if changed := sorted(then.keys() ^ dataset.schema.fields().keys()):
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        raise RunError(
            f"{folder} was trained on {facts['path']} as it was then; {dataset.path} differs from it in the"
            f" features {', '.join(changed[:_NAMED])}{more}, and a model is built from features. Give the"
            " data set of the run, or train on this one."
        )
    raise RunError(
        f"{folder} was trained on {facts['path']}, whose encoder differs from that of {dataset.path}: the"
        " same index means another value there. Give the data set of the run, or train on this one."
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _revision() -> str | None:
    """Commit of the source tree that clickscale runs from, if it runs from one."""
    place = Path(__file__).parents[3]
    if not (place / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(place), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
