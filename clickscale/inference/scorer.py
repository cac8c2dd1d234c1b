"""Scores raw requests with an artifact, through the encoder that made its training data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clickscale.artifact import Artifact, load_artifact
from clickscale.inference.requests import Encoded, Request, encode_requests, known_items
from clickscale.models import CTRModel


@dataclass(frozen=True)
class Response:
    """Scores of the candidates of one request.

    Attributes:
        labels: names of the T labels.
        items: raw ids of the C candidates, as they were sent.
        logits: (C, T) float32.
        known: (C,) whether the item was in the log that the artifact comes from.
        used: behaviors that the candidates saw.
        ignored: behaviors that were not known before the request's time.
    """

    labels: tuple[str, ...]
    items: tuple[Any, ...]
    logits: npt.NDArray[np.float32]
    known: tuple[bool, ...]
    used: int
    ignored: int

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(C, T) probability of each label."""
        return 1 / (1 + np.exp(-self.logits.astype(np.float64)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; candidates stand in the order of the request."""
        candidates = [
            {"item": item, "known": known, **dict(zip(self.labels, row, strict=True))}
            for item, known, row in zip(self.items, self.known, self.probabilities.tolist(), strict=True)
        ]
        return {"candidates": candidates, "behaviors_used": self.used, "behaviors_ignored": self.ignored}


class Scorer:
    """Scores raw requests; their form is described in `clickscale.inference.requests`.

    Args:
        artifact: an artifact's folder, or a loaded one.

    Raises:
        ArtifactError: the folder is not a whole artifact of this release.
    """

    def __init__(self, artifact: str | Path | Artifact, device: str = "cpu") -> None:
        self.artifact = artifact if isinstance(artifact, Artifact) else load_artifact(Path(artifact), device)
        self._device = device

    @property
    def model(self) -> CTRModel:
        """The model, in evaluation mode."""
        return self.artifact.model

    def score(self, request: Request) -> Response:
        """Score the candidates of one request.

        Raises:
            InputError: names what cannot be right by its path, such as ``candidates[3].item``.
        """
        return self.score_many([request])[0]

    def score_many(self, requests: Sequence[Request], batch: int = 64) -> list[Response]:
        """Score several requests, ``batch`` at a time; each gets the scores it would get alone."""
        responses: list[Response] = []
        for start in range(0, len(requests), batch):
            encoded = encode_requests(
                requests[start : start + batch], self.artifact.encoder, self.artifact.config.length
            )
            responses += self._responses(encoded)
        return responses

    def _responses(self, encoded: Encoded) -> list[Response]:
        with torch.inference_mode():
            logits = self.model(encoded.batch.to(self._device)).float().cpu().numpy()  # (B, C, T)
        known = known_items(encoded.batch)
        return [
            Response(
                labels=self.artifact.config.labels,
                items=tuple(items),
                logits=logits[row, : len(items)].copy(),
                known=tuple(known[row][: len(items)]),
                used=encoded.used[row],
                ignored=encoded.ignored[row],
            )
            for row, items in enumerate(encoded.items)
        ]
