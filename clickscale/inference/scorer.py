"""Scores raw requests with an artifact, through the encoder that made its training data."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clickscale.artifact import Artifact, load_artifact
from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError
from clickscale.inference.requests import Encoded, Request, encode_requests, known_items, user_identity
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.claims import Claim
from clickscale.inference.states.user_states import UserStates
from clickscale.models import CTRModel, State, score_in_chunks, stack


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
        cached: behaviors that a state cache saved computing. Not in `to_dict`: whether somebody was here
            before is not every client's business.
    """

    labels: tuple[str, ...]
    items: tuple[Any, ...]
    logits: npt.NDArray[np.float32]
    known: tuple[bool, ...]
    used: int
    ignored: int
    cached: int = 0

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
        artifact: an artifact's folder, or a loaded one, which must not change afterwards.
        cache: where states of users are kept between requests; nothing is kept without one. Several scorers
            may share one.
        chunk: candidates of a request that are scored at once (the paper's m2); 0 for all.
        slack: behaviors beyond the length of the artifact by which a kept state may grow before it is
            computed again (see `user_states`); requests should then bring that many more.

    Raises:
        ArtifactError: the folder is not a whole artifact of this release.
        ConfigError: a chunk or slack that cannot be.
    """

    def __init__(
        self,
        artifact: str | Path | Artifact,
        device: str = "cpu",
        *,
        cache: StateCache | None = None,
        chunk: int = 0,
        slack: int = 0,
    ) -> None:
        if chunk < 0 or slack < 0:
            raise ConfigError(f"chunk={chunk} and slack={slack} must be >= 0.")
        if slack and cache is None:
            raise ConfigError(f"slack={slack} lets kept states grow, and none are kept; give a cache too.")
        self.artifact = artifact if isinstance(artifact, Artifact) else load_artifact(Path(artifact), device)
        self.cache = cache
        self._device, self._chunk = device, chunk
        self._length = self.artifact.config.length
        if slack:
            self.model.require_causal(f"its states cannot grow; leave out slack={slack}")
        self._states: UserStates | None = None
        if cache is not None:
            self._states = UserStates(self.model, cache, self.artifact.digest, self._length, slack)
        self._longest = self._length + slack

    @property
    def model(self) -> CTRModel[Any]:
        """The model, in evaluation mode."""
        return self.artifact.model

    def score(self, request: Request, tenant: str = "") -> Response:
        """Score the candidates of one request.

        Args:
            tenant: on whose behalf; comes from the server, never from the request. Tenants share no state.

        Raises:
            InputError: names what cannot be right by its path, such as ``candidates[3].item``.
        """
        return self.score_many([request], tenant=tenant)[0]

    def score_many(self, requests: Sequence[Request], batch: int = 64, tenant: str = "") -> list[Response]:
        """Score several requests, ``batch`` at a time; each gets the scores it would get alone."""
        responses: list[Response] = []
        for start in range(0, len(requests), batch):
            some = requests[start : start + batch]
            if self._states is not None and self._states.cache.enabled:
                responses += self._with_states(some, tenant, self._states)
            else:
                responses += self._plain(some)
        return responses

    def forget(self, user: Any, tenant: str = "") -> int:
        """Delete every kept state of a user, given by the raw id; how many there were.

        Raises:
            InputError: no id.
        """
        who = user_identity(user, self.artifact.encoder)
        return 0 if self.cache is None else self.cache.forget((tenant, who))

    def _plain(self, requests: Sequence[Request]) -> list[Response]:
        """Score without a cache."""
        encoded = encode_requests(requests, self.artifact.encoder, self._length)
        with torch.inference_mode():
            batch = encoded.batch.to(self._device)
            state = self.model.encode_user(batch.user)
            logits = self._logits(state, batch.candidates)
        return self._responses(encoded, logits, encoded.used, [0] * len(requests))

    def _logits(self, state: State, candidates: CandidateSide) -> Tensor:
        """(B, C, T) on the CPU."""
        size = self._chunk or max(candidates.items.shape[1], 1)
        return score_in_chunks(self.model, state, candidates, size).float().cpu()

    # --- with kept states

    def _with_states(self, requests: Sequence[Request], tenant: str, states: UserStates) -> list[Response]:
        """Score with kept states; if anything but the requests is wrong with that, without them."""
        encoded = encode_requests(requests, self.artifact.encoder, self._longest)
        owners = [(tenant, user_identity(request["user"], self.artifact.encoder)) for request in requests]
        claims: list[Claim] = []
        try:
            with torch.inference_mode():
                claims = states.claims(encoded.batch.user, encoded.used, owners, self._device)
                logits = self._over(claims, encoded)
                if self._audit(claims, encoded, logits, states):
                    used, cached = [claim.size for claim in claims], [claim.reused for claim in claims]
                    return self._responses(encoded, logits, used, cached)
        except Exception:
            states.cache.failed("scoring with kept states")
            for claim in claims:
                states.cache.discard(claim.ask)
        return self._plain(requests)

    def _over(self, claims: Sequence[Claim], encoded: Encoded) -> Tensor:
        """Logits of all candidates over the states of their rows."""
        state = stack([claim.state for claim in claims if claim.state is not None])
        longest = max(claim.size for claim in claims)
        return self._logits(state, seeing_all(encoded.batch.to(self._device).candidates, longest))

    def _audit(self, claims: Sequence[Claim], encoded: Encoded, logits: Tensor, states: UserStates) -> bool:
        """Compare some rows with what a state computed anew gives; False if one is off by too much."""
        for row, claim in enumerate(claims):
            if claim.audited:
                anew = states.fresh(encoded.batch.user, [row], claim.size, self._device)
                side = seeing_all(encoded.batch.to(self._device).candidates, claim.size, row)
                difference = (self._logits(anew, side)[0] - logits[row]).abs().max()
                if not states.cache.audit(float(difference)):
                    return False
        return True

    def _responses(
        self, encoded: Encoded, logits: Tensor, used: Sequence[int], cached: Sequence[int]
    ) -> list[Response]:
        known = known_items(encoded.batch)
        return [
            Response(
                labels=self.artifact.config.labels,
                items=tuple(items),
                logits=logits[row, : len(items)].numpy().copy(),
                known=tuple(known[row][: len(items)]),
                used=used[row],
                ignored=encoded.ignored[row],
                cached=cached[row],
            )
            for row, items in enumerate(encoded.items)
        ]


def seeing_all(candidates: CandidateSide, behaviors: int, row: int | None = None) -> CandidateSide:
    """The candidates, of one row if given, over states of so many behaviors."""
    chosen = slice(None) if row is None else slice(row, row + 1)
    some = CandidateSide(**{part.name: getattr(candidates, part.name)[chosen] for part in fields(candidates)})
    return replace(some, visible=torch.full_like(some.visible, behaviors))
