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
from clickscale.batch import Batch, CandidateSide
from clickscale.data.features.derived import DerivedNumbers
from clickscale.errors import ConfigError
from clickscale.features import UNKNOWN
from clickscale.inference.request_lines import RequestLimits
from clickscale.inference.requests import Encoded, Request, encode_requests, known_items, user_identity
from clickscale.inference.shown_candidates import missing_statistics
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.claims import Claim
from clickscale.inference.states.user_states import UserStates
from clickscale.models import CTRModel, State, score_in_chunks, stack
from clickscale.runtime import survive_forks


@dataclass(frozen=True)
class Response:
    """Scores of the candidates of one request.

    Attributes:
        labels: names of the T labels.
        items: raw ids of the C candidates, as they were sent; those of several columns as one text. None in a
            log without items.
        logits: (C, T) float32.
        known: (C,) whether the item was in the log that the artifact comes from.
        used: behaviors that the candidates saw.
        ignored: behaviors that were not known before the request's time.
        missing: declared statistics that a candidate or more came without; their scores are not those that
            evaluation measured.
        user_known: whether the user was in the training part.
        strange: behaviors among those used whose item was not in the log.
        cached: behaviors that a state cache saved computing. Not in `to_dict`: clients need not know which
            users were here before.
    """

    labels: tuple[str, ...]
    items: tuple[Any, ...]
    logits: npt.NDArray[np.float32]
    known: tuple[bool, ...]
    used: int
    ignored: int
    missing: tuple[str, ...] = ()
    user_known: bool = True
    strange: int = 0
    cached: int = 0

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """(C, T) probability of each label."""
        return 1 / (1 + np.exp(-self.logits.astype(np.float64)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; candidates stand in the order of the request."""
        candidates = [
            ({} if item is None else {"item": item, "known": known})
            | dict(zip(self.labels, row, strict=True))
            for item, known, row in zip(self.items, self.known, self.probabilities.tolist(), strict=True)
        ]
        used = {"behaviors_used": self.used, "behaviors_ignored": self.ignored}
        return {"candidates": candidates, **used, "missing": list(self.missing)}


class Scorer:
    """Scores raw requests; their form is described in `clickscale.inference.requests`.

    Args:
        artifact: an artifact's folder, or a loaded one, which must not change afterwards.
        cache: keeps states of users between requests; nothing is kept without one. Several scorers may share
            one.
        chunk: candidates of a request that are scored at once (the paper's m2); 0 for all.
        slack: behaviors beyond the length of the artifact by which a kept state may grow before it is
            computed again (see `UserStates`); requests should then bring that many more.
        limits: what one request may ask for; None takes the defaults.

    Raises:
        ArtifactError: the folder is not a whole artifact of this release.
        ConfigError: a chunk or slack is out of range.
    """

    def __init__(
        self,
        artifact: str | Path | Artifact,
        device: str = "cpu",
        *,
        cache: StateCache | None = None,
        chunk: int = 0,
        slack: int = 0,
        limits: RequestLimits | None = None,
    ) -> None:
        if chunk < 0 or slack < 0:
            raise ConfigError(f"chunk={chunk} and slack={slack} must be >= 0.")
        if slack and cache is None:
            raise ConfigError(f"slack={slack} lets kept states grow, and none are kept; give a cache too.")
        self.artifact = artifact if isinstance(artifact, Artifact) else load_artifact(Path(artifact), device)
        self.cache = cache
        encoder = self.artifact.encoder
        items = self.artifact.item_columns() if encoder.schema.derived else {}
        self._derived = DerivedNumbers(encoder, items)
        self._chunk = chunk
        self._limits = limits or RequestLimits()
        # A loaded artifact is on a device of its own.
        self._device = str(next(self.model.parameters()).device)
        self._length = self.artifact.config.length
        # A state that cannot be appended to never holds more than the last L behaviors.
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
            InputError: names the first mistake by its path, such as ``candidates[3].item``.
        """
        return self.score_many([request], tenant=tenant)[0]

    def score_many(self, requests: Sequence[Request], batch: int = 64, tenant: str = "") -> list[Response]:
        """Score several requests, ``batch`` at a time; each gets the scores that it would get on its own."""
        survive_forks()
        responses: list[Response] = []
        for start in range(0, len(requests), batch):
            part = requests[start : start + batch]
            if self._states is not None and self._states.cache.enabled:
                responses += self._with_states(part, tenant, self._states)
            else:
                responses += self._plain(part)
        return responses

    def forget(self, user: Any, tenant: str = "") -> int:
        """Delete every kept state of a user, given by the raw id; the number deleted.

        Raises:
            InputError: the value cannot be an id.
        """
        identity = user_identity(user, self.artifact.encoder)
        return 0 if self.cache is None else self.cache.forget((tenant, identity))

    def _encoded(self, requests: Sequence[Request], length: int) -> Encoded:
        """Requests as a batch, derived numbers included."""
        encoded = encode_requests(requests, self.artifact.encoder, length, self._limits)
        return replace(encoded, batch=self._derived.fill(encoded.batch))

    def _plain(self, requests: Sequence[Request]) -> list[Response]:
        """Score without kept states."""
        encoded = self._encoded(requests, self._length)
        with torch.inference_mode():
            batch = encoded.batch.to(self._device)
            logits = self._logits(self.model.encode_user(batch.user), batch.candidates)
        return self._responses(encoded, logits, encoded.used, [0] * len(requests))

    def _with_states(self, requests: Sequence[Request], tenant: str, states: UserStates) -> list[Response]:
        """Score over kept states; if that fails for any reason but the requests themselves, without them."""
        encoded = self._encoded(requests, self._longest)
        owners = [(tenant, user_identity(request.get("user"), self.artifact.encoder)) for request in requests]
        batch = encoded.batch.to(self._device)
        claims: list[Claim] = []
        # Any exception, since a damaged state can fail anywhere in a model and a store can raise anything. If
        # the cause is not the cache, plain scoring below raises it again.
        try:
            with torch.inference_mode():
                claims = states.claims(encoded.batch.user, encoded.used, owners, batch.user)
                state = stack([claim.state for claim in claims if claim.state is not None])
                # Stacking pads shorter states on the left, so the newest behavior is at the longest's end.
                longest = max(claim.size for claim in claims)
                logits = self._logits(state, _seeing_all(batch.candidates, longest))
                sound = self._audit(claims, batch, logits, states)
        except Exception:
            states.cache.failed("scoring with kept states")
            for claim in claims:
                states.cache.discard(claim.ask)
            return self._plain(requests)
        if not sound:
            return self._plain(requests)
        # A state may hold more behaviors than L or fewer than were sent: the response tells the truth.
        sizes, reused = [claim.size for claim in claims], [claim.reused for claim in claims]
        return self._responses(encoded, logits, sizes, reused)

    def _audit(self, claims: Sequence[Claim], batch: Batch, logits: Tensor, states: UserStates) -> bool:
        """Score audited rows over states computed for that purpose; False if one differs by too much."""
        for row, claim in enumerate(claims):
            if claim.audited:
                state = states.fresh(batch.user, [row], claim.size)
                expected = self._logits(state, _seeing_all(batch.candidates, claim.size, row))[0]
                # Relative to logits beyond 1: floats round by their size, and some models have large ones.
                apart = (expected - logits[row]).abs() / expected.abs().clamp(min=1)  # (C, T)
                if not states.cache.audit(float(apart.max())):
                    return False
        return True

    def _logits(self, state: State, candidates: CandidateSide) -> Tensor:
        """(B, C, T) on the CPU."""
        size = self._chunk or max(candidates.items.shape[1], 1)
        return score_in_chunks(self.model, state, candidates, size).float().cpu()

    def _responses(
        self, encoded: Encoded, logits: Tensor, used: Sequence[int], cached: Sequence[int]
    ) -> list[Response]:
        known, user = known_items(encoded.batch), encoded.batch.user
        users = (user.profile[:, 0] > UNKNOWN).tolist()
        strange = (user.items == UNKNOWN).sum(dim=1).tolist()
        return [
            Response(
                labels=self.artifact.config.labels,
                items=tuple(items),
                # A copy: a view would keep the logits of the whole batch alive.
                logits=logits[row, : len(items)].numpy().copy(),
                known=tuple(known[row][: len(items)]),
                used=used[row],
                ignored=encoded.ignored[row],
                missing=missing_statistics(encoded.batch.candidates, row, len(items), self.artifact.encoder),
                user_known=users[row],
                strange=strange[row],
                cached=cached[row],
            )
            for row, items in enumerate(encoded.items)
        ]


def _seeing_all(candidates: CandidateSide, behaviors: int, row: int | None = None) -> CandidateSide:
    """The candidates, of one row if given, over states of so many behaviors."""
    if row is not None:
        only = slice(row, row + 1)
        candidates = CandidateSide(
            **{part.name: getattr(candidates, part.name)[only] for part in fields(candidates)}
        )
    return replace(candidates, visible=torch.full_like(candidates.visible, behaviors))
