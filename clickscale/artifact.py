"""The folder that is served: everything needed to score a raw request, and nothing that can run code.

::

    manifest.json          version of this layout; size and sha256 of every other file
    config.json            `_ArtifactConfig`: which model with which options, features, labels
    encoder.json           schema, vocabularies and scales (see `clickscale.data.features.encoder`)
    encoder.safetensors
    items.safetensors      the columns of the item table
    weights.safetensors    parameters and buffers of the model
    metrics.json           metrics of the model when it was saved
    serving.json           of a published artifact only: what `clickscale.serving.publishing` adds

A folder that exists is whole (`clickscale.files`). On loading every hash is compared, and no other file of
the folder is opened.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from clickscale.config import Config
from clickscale.config_text import load_json, to_json
from clickscale.data.features.encoder import Encoder
from clickscale.errors import ArtifactError, ClickscaleError, ConfigError, DamagedError
from clickscale.features import Features
from clickscale.files import (
    FileEntry,
    FolderKind,
    building,
    file_entry,
    heal,
    sha256_text,
    system_error,
    verify,
)
from clickscale.layers.kernels.frozen import freeze
from clickscale.models import build_model
from clickscale.models._base import CTRModel
from clickscale.runtime import survive_forks
from clickscale.sealed import indented

VERSION = 3
MANIFEST = "manifest.json"
FILES = (
    "config.json",
    "encoder.json",
    "encoder.safetensors",
    "items.safetensors",
    "weights.safetensors",
    "metrics.json",
)
SERVING = "serving.json"
ARTIFACT = FolderKind("an artifact", ArtifactError, "weights.safetensors")


class _ArtifactConfig(Config, frozen=True):
    """Everything that is needed to build the model of an artifact again.

    Attributes:
        model: name of a file in `clickscale.models`.
        options: every option of the model, presets and overrides resolved.
        length: behaviors that a candidate sees at most (L).
        labels: names of the trained labels, in the order of the logits.
        notes: sentences that every report of results repeats.
    """

    model: str
    options: dict[str, Any]
    grade: str
    length: int
    labels: tuple[str, ...]
    features: Features
    notes: tuple[str, ...] = ()


class _ArtifactManifest(Config, frozen=True):
    """Version of the layout and the size and hash of every file."""

    files: dict[str, FileEntry]
    version: int = VERSION


@dataclass(frozen=True)
class Artifact:
    """A loaded artifact; the model is in evaluation mode.

    Attributes:
        digest: sha256 over the hashes of all its files; another encoder or another weight gives another one.
    """

    path: Path
    model: CTRModel[Any]
    encoder: Encoder
    config: _ArtifactConfig
    metrics: dict[str, Any]
    digest: str

    def item_columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """Columns of the item table, as `Dataset.item_columns` gives them."""
        return safetensors.numpy.load_file(self.path / "items.safetensors")


def save_artifact(
    folder: Path,
    model: CTRModel[Any],
    encoder: Encoder,
    item_columns: Mapping[str, npt.NDArray[np.generic]],
    *,
    model_name: str,
    grade: str,
    length: int,
    labels: tuple[str, ...],
    metrics: Mapping[str, Any],
    notes: tuple[str, ...] = (),
    overwrite: bool = False,
) -> Path:
    """Write an artifact atomically; an older one is replaced only by a complete new one.

    Args:
        item_columns: ``field.NAME`` columns of the item table, as `Dataset.item_columns` gives them.
        metrics: JSON-ready numbers to keep beside the weights.

    Raises:
        ArtifactError: the folder exists and ``overwrite`` is off, a weight is not a number, the disk is full.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if name := _not_finite(weights):
        raise ArtifactError(f"Weight {name} holds NaN or infinity; the model is not saved.")
    config = _ArtifactConfig(
        model=model_name,
        options=msgspec.to_builtins(model.config),
        grade=grade,
        length=length,
        labels=labels,
        features=encoder.features(),
        notes=notes,
    )
    texts = {
        "config.json": to_json(config),
        "metrics.json": indented(dict(metrics)),
    }
    try:
        with building(folder, ARTIFACT, overwrite=overwrite) as partial:
            encoder.save(partial)
            columns = {name: np.ascontiguousarray(column) for name, column in item_columns.items()}
            safetensors.numpy.save_file(columns, partial / "items.safetensors")
            safetensors.torch.save_file(weights, partial / "weights.safetensors")
            for name, text in texts.items():
                (partial / name).write_text(text, encoding="utf-8")
            manifest = _ArtifactManifest(files={name: file_entry(partial / name) for name in FILES})
            (partial / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtifactError(
            f"Cannot write {folder}: {system_error(error)}. Nothing there was changed."
        ) from error
    return folder


def publish_artifact(source: Path, folder: Path, serving: str) -> None:
    """Copy an artifact, with the text of one more file that a server reads, whole or not at all.

    Raises:
        ArtifactError: the source is not a whole artifact, the folder exists, or the disk is full.
    """
    heal(source)
    _verified(source)
    try:
        with building(folder, ARTIFACT) as partial:
            for name in FILES:
                shutil.copyfile(source / name, partial / name)
            (partial / SERVING).write_text(serving, encoding="utf-8")
            files = {name: file_entry(partial / name) for name in (*FILES, SERVING)}
            (partial / MANIFEST).write_text(to_json(_ArtifactManifest(files=files)), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(
            f"Cannot write {folder}: {system_error(error)}. Nothing there was changed."
        ) from error


def _not_finite(weights: Mapping[str, torch.Tensor]) -> str:
    """Name of the first parameter or buffer that holds NaN or infinity; empty if all are finite."""
    return next((name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())), "")


def load_artifact(folder: Path, device: str = "cpu") -> Artifact:
    """Verify and load an artifact.

    Raises:
        ArtifactError: not an artifact, made by a newer release, incomplete, or damaged; a weight that is not
            finite.
    """
    survive_forks()  # copying a large table starts the threads of operations
    heal(folder)
    manifest = _verified(folder)
    config = load_json((folder / "config.json").read_bytes(), _ArtifactConfig, str(folder / "config.json"))
    try:
        encoder = Encoder.load(folder)
        model = build_model(
            config.model,
            config.features,
            safetensors.numpy.load_file(folder / "items.safetensors"),
            grade=config.grade,
            length=config.length,
            labels=config.labels,
            overrides=_assignments(config.options),
        )
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
        model.load_state_dict(weights)
    except (RuntimeError, safetensors.SafetensorError, ClickscaleError) as error:
        raise ArtifactError(f"{folder} does not fit this release: {error}") from error
    if name := _not_finite(weights):  # another program may have written it, with hashes that fit
        raise ArtifactError(
            f"{folder / 'weights.safetensors'} cannot be served: its weight {name} holds NaN or infinity;"
            " train the model again."
        )
    freeze(model.to(device).eval())
    return Artifact(
        path=folder,
        model=model,
        encoder=encoder,
        config=config,
        metrics=json.loads((folder / "metrics.json").read_bytes()),
        digest=sha256_text(to_json(manifest)),
    )


def _verified(folder: Path) -> _ArtifactManifest:
    """Manifest of an artifact whose files are all there and unchanged."""
    path = folder / MANIFEST
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        if (folder / "trees.json").is_file():
            raise ArtifactError(
                f"{folder} holds boosted trees. Their features are counted over the whole log up to the "
                "moment of a request, which does not carry the log. Score the rows of a data set with them: "
                f"clickscale predict {folder}"
            ) from error
        inner = [folder / "artifact", folder / "student" / "artifact"]
        hint = next((f" Did you mean {path}?" for path in inner if (path / MANIFEST).is_file()), "")
        raise ArtifactError(f"{folder} is not an artifact (no readable {MANIFEST}).{hint}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}.") from error
    if isinstance(tree, dict) and "schema" in tree:
        raise ArtifactError(f"{folder} is not an artifact but a prepared data set.")
    version = tree.get("version") if isinstance(tree, dict) else None
    if version != VERSION:
        older = isinstance(version, int) and version < VERSION
        advice = "train the model again" if older else "update clickscale"
        raise ArtifactError(f"{folder} has version {version!r}, this release reads {VERSION}; {advice}.")
    try:
        manifest = load_json(path.read_bytes(), _ArtifactManifest, str(path))
    except ConfigError as error:
        raise ArtifactError(f"{folder} is not an artifact ({error})") from error
    if set(manifest.files) - {SERVING} != set(FILES):
        raise ArtifactError(f"{path} lists {sorted(manifest.files)} instead of {sorted(FILES)}.")
    try:
        verify(folder, manifest.files, "copy the artifact again")
    except DamagedError as error:
        raise ArtifactError(str(error)) from error
    return manifest


def _assignments(options: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Options as ``a.b=c`` overrides; options without a value keep the default of the model."""
    pairs: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            pairs += _assignments(value, f"{prefix}{name}.")
        elif value is not None:
            pairs.append(f"{prefix}{name}={json.dumps(value)}")
    return tuple(pairs)
