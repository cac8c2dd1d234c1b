"""The folder of a run: made when the run starts, checked when it continues, read when it is used.

::

    config.json         the options, resolved
    recipe.json         those that were left to the recipe and what it decided
    dataset.json        path and hash of the manifest of the prepared data, its schema and notes
    environment.json    versions, machine, threads, source revision
    metrics.jsonl       one line per log interval (see `clickscale.training.run.logs`)
    events...           the same for TensorBoard, if it is installed
    checkpoints/        see `clickscale.training.run.checkpoint`
    starting-point/     tables that epochs begin with (see `clickscale.training.passes.table_resets`)
    done.json           what the finished run cost; only a finished run has it
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from clickscale.config_text import assign, build
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.layout import MANIFEST
from clickscale.errors import RunError
from clickscale.files import file_entry
from clickscale.locks import WRITER
from clickscale.models import CTRModel
from clickscale.schema import Schema
from clickscale.sealed import maybe_document, read_document, write_document
from clickscale.training.run.checkpoint import CheckpointStore, without_prefix
from clickscale.training.run.model import make_model, trained_labels
from clickscale.training.run.run_config import FREE, LEFT_OPEN, RunConfig, TrainConfig

CONFIG, DATASET, DONE = "config.json", "dataset.json", "done.json"
STUDENT, TEACHER = "student", "teacher"  # folders of the models of a distillation, inside its own
RECIPE = "recipe.json"
CHECKPOINTS = "checkpoints"
ADVICE = "restore the file from a copy, or train again"  # where a document of a run is damaged
_MAX_NAMED = 10  # features that a message lists
C = TypeVar("C", bound=RunConfig)


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
    dataset = open_dataset(data or config.data, portion=config.portion)
    _check_encoder(folder, dataset)
    checkpoint, _ = CheckpointStore(folder / CHECKPOINTS).load()
    if checkpoint is None:
        raise RunError(f"{folder} has no checkpoint yet; finish it with: clickscale train --resume")
    model = make_model(config, dataset)
    model.load_state_dict(without_prefix("model", checkpoint.tensors))
    return TrainedRun(config, dataset, trained_labels(dataset, config), model.eval(), checkpoint.step)


def read_config(folder: Path) -> TrainConfig:
    """Options of the run in ``folder``.

    Raises:
        RunError: the folder is not a run of one model.
    """
    return _read_options(folder, TrainConfig)


def _read_options(folder: Path, kind: type[C]) -> C:
    """Options of the run in ``folder``, which must be of this kind.

    Raises:
        RunError: the folder is not a run, or one of another kind.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise RunError(f"{folder} is not a run (no {CONFIG}); make one with: clickscale train")
    if (folder / MANIFEST).is_file():
        raise RunError(f"{folder} is an artifact, not a run; its run may be {folder.parent}.")
    tree = read_document(path, ADVICE)
    if "model" in tree and not issubclass(kind, TrainConfig):
        raise RunError(f"{folder} holds the run of one model, made by clickscale train, not a distillation.")
    if "student" in tree and issubclass(kind, TrainConfig):
        models = " and ".join(str(path) for path in (folder / STUDENT, folder / TEACHER))
        raise RunError(f"{folder} holds a distillation; when it is finished, its models are {models}.")
    return build(kind, tree, str(path))


def open_folder(folder: Path, config: RunConfig, dataset: Dataset, resume: bool) -> None:
    """Make the folder of a new run, or check that the run in it is this one.

    Raises:
        RunError: the folder holds something else, another run, or this run while ``resume`` is false.
    """
    stored = stored_options(folder, type(config), resume)
    if stored is None:
        write_options(folder, config, dataset)
        return
    if changes := differences(stored, config):
        raise RunError(
            f"{folder} holds another run: {'; '.join(changes)}. Choose another folder or the same options."
        )
    if read_document(folder / DATASET, ADVICE)["manifest_sha256"] != _fingerprint(dataset):
        raise RunError(f"{folder} was started on other data than {dataset.path}; choose another folder.")


def stored_options(folder: Path, kind: type[C], resume: bool) -> C | None:
    """Options of the run in a folder; None if it is free, or a run was killed there before it had options.

    Raises:
        RunError: the folder holds something else, or a run while ``resume`` is false.
    """
    if (folder / CONFIG).is_file():
        stored = _read_options(folder, kind)
        if resume:
            return stored
        raise RunError(f"{folder} already holds a run; continue it with --resume or choose another folder.")
    own = {f"{name}.partial" for name in (CONFIG, DATASET)} | {DATASET, WRITER, TEACHER}
    if folder.is_dir() and not set(os.listdir(folder)) <= own:
        raise RunError(f"{folder} is not empty and not a run; choose another folder.")
    return None


def write_options(folder: Path, config: RunConfig, dataset: Dataset) -> None:
    """Make a folder a run: what it was trained on and, last, its options."""
    folder.mkdir(parents=True, exist_ok=True)
    write_document(folder / DATASET, _dataset_facts(dataset))
    write_document(folder / CONFIG, msgspec.to_builtins(config))


def write_decided(folder: Path, given: RunConfig, config: RunConfig) -> None:
    """Keep what became of the options that were left to the recipe in the options ``given``."""
    after = _flat(msgspec.to_builtins(config))
    write_document(folder / RECIPE, {key: after[key] for key in _left_open(given)})


def as_begun(config: C, folder: Path) -> C:
    """Decide what ``config`` leaves to the recipe as it was decided when the run in ``folder`` began.

    A run goes on as it was begun, also where the recipe of a later version decides otherwise.
    """
    decided, left = maybe_document(folder / RECIPE, ADVICE) or {}, _left_open(config)
    return assign(config, [(RECIPE, [(key, decided[key]) for key in left if key in decided])])


def _left_open(config: RunConfig) -> list[str]:
    """Options that are left to the recipe, by dotted key."""
    values = _flat(msgspec.to_builtins(config))
    names = {key: key.removeprefix("student.").removeprefix("teacher.") for key in values}
    return [key for key, name in names.items() if name in LEFT_OPEN and values[key] == LEFT_OPEN[name]]


def differences(stored: RunConfig, wanted: RunConfig) -> list[str]:
    """Options in which two runs differ and that change what is learned, one sentence each."""
    old, new = _flat(msgspec.to_builtins(stored)), _flat(msgspec.to_builtins(wanted))
    return [
        f"{key} is {_told(old[key])}, not {_told(new[key])}"
        for key in old
        if key not in FREE and old[key] != new[key]
    ]


def _told(value: Any) -> str:
    """Write the value of an option for a message."""
    if value is None or value in ((), []):
        return "unset"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else repr(value)


def _dataset_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "path": str(dataset.path),
        "manifest_sha256": _fingerprint(dataset),
        "encoder_sha256": encoder_hashes(dataset),
        "schema": msgspec.to_builtins(dataset.schema),
        "counts": dataset.manifest.counts,
        "notes": list(dataset.manifest.notes),
    }


def _fingerprint(dataset: Dataset) -> str:
    """Hash of the manifest, which holds the hash of every file of the data set."""
    return file_entry(dataset.path / MANIFEST).sha256


def encoder_hashes(dataset: Dataset) -> dict[str, str]:
    """Hashes of the files that turn raw values into indices."""
    return {n: entry.sha256 for n, entry in dataset.manifest.files.items() if n.startswith("encoder.")}


def _check_encoder(folder: Path, dataset: Dataset) -> None:
    """Refuse data whose indices mean something else than those that the run was trained on."""
    facts = read_document(folder / DATASET, ADVICE)
    if facts["encoder_sha256"] == encoder_hashes(dataset):
        return
    then = msgspec.convert(facts["schema"], Schema).fields()
    if changed := sorted(then.keys() ^ dataset.schema.fields().keys()):
        more = f" and {len(changed) - _MAX_NAMED} more" if len(changed) > _MAX_NAMED else ""
        raise RunError(
            f"{folder} was trained on {facts['path']} as it was then; {dataset.path} differs from it in the"
            f" features {', '.join(changed[:_MAX_NAMED])}{more}, and a model is built from features. Give the"
            " data set of the run, or train on this one."
        )
    raise RunError(
        f"{folder} was trained on {facts['path']}, whose encoder differs from that of {dataset.path}: the"
        " same index means another value there. Give the data set of the run, or train on this one."
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
