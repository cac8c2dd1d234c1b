"""Published versions of a model: folders that appear whole, and a pointer to the one that is served.

::

    models/
      current.json       which version a server begins with, and follows if it is told to
      v1/                an artifact, with ``serving.json`` beside its other files
      v2/

``serving.json`` holds requests with the logits that they must get (`Canary`) and the correction of scores.
A server that loads a version scores these requests first; a machine that computes something else, a wrong
encoder or a damaged weight is found before the first client sees it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from clickscale.artifact import SERVING, Artifact, load_artifact, publish_artifact
from clickscale.config import Config
from clickscale.config_text import build
from clickscale.errors import ArtifactError, DamagedError
from clickscale.inference.scorer import Scorer
from clickscale.sealed import read_document, sealed, write_document
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.versions.score_correction import Correction

POINTER = "current.json"
CANARY_BOUND = 1e-5  # largest difference of a probability that a canary may show
_ADVICE = "publish the version again"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_MADE_UP, _CANDIDATES = 8, 20  # canaries where nobody gives any


class Canary(Config, frozen=True):
    """A request and the logits (C, T) that it gets."""

    request: dict[str, Any]
    logits: list[list[float]]


class _ServingNotes(Config, frozen=True):
    """Content of ``serving.json``."""

    correction: Correction = Correction()
    canaries: tuple[Canary, ...] = ()


def publish(
    artifact: Path,
    root: Path,
    version: str = "",
    *,
    requests: Sequence[Mapping[str, Any]] = (),
    correction: Correction | None = None,
    promote: bool = True,
) -> Path:
    """Copy an artifact below ``root`` as a version, with canaries; the folder of the version.

    Args:
        version: its name; empty for the next of v1, v2, ...
        requests: become canaries; made up from the vocabularies if there are none.
        promote: let `POINTER` name it, so that servers which start or follow take it.

    Raises:
        ArtifactError: the artifact is not whole, a canary has no finite score, or the version exists.
        InputError: a request does not fit the artifact.
    """
    if version:
        check_version(version)  # before the work
    loaded = load_artifact(artifact)
    behaviors = min(loaded.config.length, _CANDIDATES)
    given = list(requests) or sample_requests(loaded.encoder, _MADE_UP, _CANDIDATES, behaviors)
    responses = Scorer(loaded).score_many(given)
    if not all(np.isfinite(one.logits).all() for one in responses):
        raise ArtifactError(f"{artifact} gives a score that is not finite, so it is not published.")
    canaries = tuple(
        Canary(request=dict(request), logits=one.logits.tolist())
        for request, one in zip(given, responses, strict=True)
    )
    notes = _ServingNotes(correction=correction or Correction(), canaries=canaries)
    folder = root / (version or _next_version(root))
    publish_artifact(artifact, folder, sealed(msgspec.to_builtins(notes)))
    if promote:
        _point_to(root, folder.name)
    return folder


def _point_to(root: Path, version: str) -> None:
    """Let the pointer name a version, in one move."""
    write_document(root / POINTER, {"version": check_version(version)})


def pointed_version(root: Path) -> str:
    """The version that the pointer names.

    Raises:
        ArtifactError: there is no pointer, or it is damaged.
    """
    try:
        return check_version(str(read_document(root / POINTER, _ADVICE).get("version")))
    except DamagedError as error:
        raise ArtifactError(str(error)) from error


def check_version(version: str) -> str:
    """Return a name of a version that is safe as the name of a folder.

    Raises:
        ArtifactError: it is anything else, such as a path.
    """
    if not _VERSION.match(version) or ".." in version:
        raise ArtifactError(
            f"{version[:64]!r} is no name of a version; use up to 64 letters, digits, '.', '_' and '-'."
        )
    return version


def folder_of(root: Path, version: str) -> Path:
    """The folder of a version, which must be a real folder directly below the root.

    Raises:
        ArtifactError: there is none.
    """
    folder = root / check_version(version)
    if folder.is_symlink() or not folder.is_dir():
        folders = [path.parent for path in root.glob(f"*/{SERVING}")]
        known = ", ".join(sorted(path.name for path in folders if not path.is_symlink())) or "none"
        raise ArtifactError(f"There is no version {version!r}; published are: {known}.")
    return folder


def read_notes(artifact: Artifact) -> _ServingNotes:
    """What a published artifact says about serving; nothing for one that was not published.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = artifact.path / SERVING
    if not path.is_file():
        return _ServingNotes()
    try:
        return build(_ServingNotes, read_document(path, _ADVICE), str(path))
    except DamagedError as error:
        raise ArtifactError(str(error)) from error


def check_canaries(scorer: Scorer, canaries: Sequence[Canary]) -> float:
    """Score the canaries; the largest difference of a probability.

    Raises:
        ArtifactError: a score is not finite or not the stored one.
    """
    worst = 0.0
    for position, canary in enumerate(canaries):
        response = scorer.score(canary.request)
        stored = np.array(canary.logits, np.float64).reshape(response.logits.shape)
        if not np.isfinite(response.logits).all():
            raise ArtifactError(f"Canary {position} gets a score that is not finite.")
        apart = float(np.abs(response.probabilities - 1 / (1 + np.exp(-stored))).max(initial=0.0))
        worst = max(worst, apart)
        if not apart <= CANARY_BOUND:
            raise ArtifactError(
                f"Canary {position} gets another score than when the version was published: probabilities"
                f" differ by {apart:.2g}, more than {CANARY_BOUND:g}."
            )
    return worst


def _next_version(root: Path) -> str:
    numbers = [int(path.name[1:]) for path in root.glob("v*") if path.name[1:].isdecimal()]
    return f"v{max(numbers, default=0) + 1}"
