"""Checkpoints: folders that are whole or absent, checked by hash, never unpickled.

::

    checkpoints/
        latest                    name of the newest checkpoint, replaced in one move
        step-00000120/
            state.safetensors     every tensor
            state.json            everything that is not a tensor
            manifest.json         size and sha256 of the two, and of the list itself; written last

A checkpoint is built like every folder (`clickscale.files`), so a process that is killed at any moment leaves
the older checkpoints untouched and at most litter, which the next `CheckpointStore` sweeps.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clickscale.errors import DamagedError, DivergedError, RunError
from clickscale.files import (
    FileEntry,
    FolderKind,
    building,
    file_entry,
    free_space,
    remove_folder,
    replace_text,
    sha256_text,
    sweep,
    system_error,
    verify,
)
from clickscale.sealed import indented

VERSION = 1
CHECKPOINT = FolderKind("a checkpoint", RunError)
_TENSORS, _FACTS, _MANIFEST, _LATEST = "state.safetensors", "state.json", "manifest.json", "latest"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        step: steps done.
        tensors: by flat name.
        facts: what is not a tensor, JSON-ready.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: made if absent; litter of interrupted saves is removed from it.
        keep: how many checkpoints stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, max(keep, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, oldest first."""
        matches = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, make it the latest and remove those beyond ``keep``.

        Raises:
            DivergedError: a tensor holds a number that is not finite; nothing is written.
            RunError: the disk is full or cannot be written; the older checkpoints are untouched.
        """
        if name := _not_finite(checkpoint.tensors):
            raise DivergedError(
                f"Tensor {name!r} holds NaN or infinity, so no checkpoint is written; the older ones are"
                " sound."
            )
        final = self.folder / _name(checkpoint.step)
        try:
            # The same step is there after a fall back to an older checkpoint.
            with building(final, CHECKPOINT, overwrite=True) as partial:
                _write(partial, checkpoint)
            replace_text(self.folder / _LATEST, final.name)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"Checkpoint {final} cannot be written ({system_error(error)}; {free_space(self.folder)}"
                " free). The older ones are untouched; make room and start the same command again."
            ) from error
        for step in self.steps()[: -self.keep]:
            remove_folder(self.folder / _name(step))
        return final

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """Newest sound checkpoint (None if there is none at all) and a sentence for each damaged one.

        Raises:
            DamagedError: there are checkpoints, and every one is damaged.
        """
        problems: list[str] = []
        for name in self._newest_first():
            try:
                return read_checkpoint(self.folder / name), problems
            except DamagedError as error:
                problems.append(f"{error} Falling back to the checkpoint before it.")
        if problems:
            raise DamagedError(f"No sound checkpoint is left in {self.folder}. " + " ".join(problems))
        return None, problems

    def _newest_first(self) -> Iterator[str]:
        """Names of checkpoints: the one that ``latest`` names, then all others from the newest on."""
        names = [_name(step) for step in reversed(self.steps())]
        pointer = self.folder / _LATEST
        latest = pointer.read_text("utf-8", errors="replace").strip() if pointer.is_file() else ""
        if latest in names:  # a later folder was renamed but the process died before it became the latest
            yield latest
        yield from (name for name in names if name != latest)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint after comparing every file with its hash.

    Raises:
        RunError: another version of clickscale wrote it in another form.
        DamagedError: a file is missing or is not what was written; it names the file and both hashes.
    """
    # Before the hashes: another version may hash other files, and then "damaged" would be the wrong word.
    version = _version(folder)
    if version not in (None, VERSION):
        raise RunError(
            f"{folder} has version {version}, this release reads {VERSION}; use the release that wrote it, or"
            " train again."
        )
    _verify(folder)
    facts = json.loads((folder / _FACTS).read_bytes())
    with safe_open(folder / _TENSORS, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    if name := _not_finite(tensors):  # another program may have written it, with hashes that fit
        raise DamagedError(f"{folder / _TENSORS} is damaged: its tensor {name!r} holds NaN or infinity.")
    return Checkpoint(facts["step"], tensors, facts["facts"])


def _version(folder: Path) -> int | None:
    """Version that a checkpoint claims to have; None if it cannot be read."""
    try:
        version = json.loads((folder / _FACTS).read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, int) else None


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name of the first tensor that holds NaN or infinity; empty if all are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            # The extremes are NaN if any element is, and take no memory, unlike isfinite() of a large table.
            low, high = torch.aminmax(tensor)
            if not bool(low.isfinite() & high.isfinite()):
                return name
    return ""


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under ``PREFIX.NAME``, as one part of a checkpoint."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a checkpoint that `with_prefix` put there, by its own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write all files of a checkpoint into ``folder``."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(tensors, folder / _TENSORS)
    facts = {"version": VERSION, "step": checkpoint.step, "facts": checkpoint.facts}
    (folder / _FACTS).write_text(indented(facts), "utf-8")
    files = {name: file_entry(folder / name) for name in (_FACTS, _TENSORS)}
    (folder / _MANIFEST).write_bytes(_manifest(files))


def _manifest(files: dict[str, FileEntry]) -> bytes:
    """The one form of a manifest; it holds its own hash, so that a changed byte of it is seen too."""
    plain = msgspec.to_builtins(files)
    own = sha256_text(indented(plain))
    return indented({"files": plain, "sha256": own}).encode()


def _verify(folder: Path) -> None:
    """Compare a checkpoint's files with its manifest, and the manifest with itself."""
    try:
        written = (folder / _MANIFEST).read_bytes()
        files = msgspec.convert(json.loads(written)["files"], dict[str, FileEntry])
        sound = _manifest(files) == written and set(files) == {_FACTS, _TENSORS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder / _MANIFEST} cannot be read ({error}).") from error
    if not sound:
        raise DamagedError(f"{folder / _MANIFEST} is not what was written.")
    verify(folder, files, "remove this checkpoint")
