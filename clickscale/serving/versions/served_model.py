"""One version of a model, loaded, checked and ready to score what clients send."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from clickscale.artifact import Artifact, load_artifact
from clickscale.config import Config, check_least
from clickscale.errors import ArtifactError, InputError, StoreError
from clickscale.inference.request_lines import RequestLimits
from clickscale.inference.requests import user_identity
from clickscale.inference.scorer import Response, Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.serving.request_cost import CostModel, Shape
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.store.protocol import OnlineStore
from clickscale.serving.versions.publishing import check_canaries, read_notes
from clickscale.serving.versions.score_correction import Correction

_LOG = logging.getLogger("clickscale.serving")
StoreOf = Callable[[Artifact], OnlineStore]
_PROBE, _REPEATS = 200, 5  # candidates of the probe of costs, and how often each probe runs


class ScoringConfig(Config, frozen=True):
    """How versions score.

    Attributes:
        slack: behaviors beyond the length of the model by which kept states may grow.
        budget_ms: a version is refused if its probe request takes longer; 0 for no such limit.
        limits: of one request.
    """

    slack: int = 0
    budget_ms: float = 0.0
    limits: RequestLimits = RequestLimits(candidates=5_000, behaviors=10_000, line_bytes=4 << 20, depth=8)

    def __post_init__(self) -> None:
        check_least(self, 0, "slack", "budget_ms")


@dataclass(frozen=True)
class RankWork:
    """One request to score, and on whose behalf."""

    request: dict[str, Any]
    tenant: str = ""


@dataclass(frozen=True)
class Ranked:
    """Scores of one request.

    Attributes:
        probabilities: (C, T) after the correction.
        missing_profile: profile fields that neither the request nor the store had.
        missing_context: context fields that no candidate has.
        degraded: True if the store failed, so that only what the request brought was used.
    """

    response: Response
    probabilities: npt.NDArray[np.float64]
    missing_profile: tuple[str, ...]
    missing_context: tuple[str, ...]
    degraded: bool

    @property
    def is_finite(self) -> bool:
        """False if the model gave a candidate no number."""
        return bool(np.isfinite(self.probabilities).all())


@dataclass
class _ModelFacts:
    """Counters of one version, written on the event loop."""

    requests: int = 0
    candidates: int = 0
    not_finite: int = 0
    failed: int = 0
    in_flight: int = 0
    served_since: float = 0.0


class ServedModel:
    """A version that can score; safe to use from many threads.

    Args:
        store: fills in what requests leave out; None scores them as they are.
        costs: seconds of requests, measured by `load_model`.
    """

    def __init__(
        self,
        version: str,
        scorer: Scorer,
        correction: Correction,
        store: OnlineStore | None,
        costs: CostModel,
        slack: int = 0,
    ) -> None:
        self.version, self.scorer, self.correction = version, scorer, correction
        self.costs, self.facts = costs, _ModelFacts()
        self.store = store
        self._store_works = True
        self.longest = scorer.artifact.config.length + slack
        schema = self.artifact.encoder.schema
        self._profile = tuple(field.name for field in schema.profile)
        self._context = tuple(field.name for field in schema.context)

    @property
    def artifact(self) -> Artifact:
        """The artifact that is served."""
        return self.scorer.artifact

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""
        return self.artifact.config.labels

    def shape(self, work: RankWork) -> Shape:
        """What the cost of a request depends on, as far as it is known before scoring."""
        candidates, sent = len(work.request["candidates"]), work.request.get("behaviors")
        behaviors = min(len(sent), self.longest) if sent is not None else self.longest
        cache = self.scorer.cache
        if cache is not None and cache.enabled and "user" in work.request:
            try:
                identity = user_identity(work.request["user"], self.artifact.encoder)
            except InputError:
                return Shape(candidates, 0)  # will be refused
            if cache.holds((work.tenant, identity)):
                behaviors = 0
        elif sent is None and self.store is None:
            behaviors = 0
        return Shape(candidates, behaviors)

    def score(self, works: Sequence[RankWork]) -> list[Ranked | Exception]:
        """Scores or an exception for each request; a wrong request costs no other its answer."""
        answers: list[Ranked | Exception | None] = [None] * len(works)
        ready: dict[str, list[tuple[int, _Completed]]] = {}
        for index, work in enumerate(works):
            try:
                ready.setdefault(work.tenant, []).append((index, self._complete(work.request)))
            except Exception as error:
                answers[index] = error
        for tenant, group in ready.items():
            for (index, completed), response in zip(group, self._responses(tenant, group), strict=True):
                answers[index] = self._ranked(completed, response)
        return [one for one in answers if one is not None]

    def _responses(
        self, tenant: str, group: Sequence[tuple[int, "_Completed"]]
    ) -> Sequence[Response | Exception]:
        requests = [completed.request for _, completed in group]
        try:
            return self.scorer.score_many(requests, batch=len(requests), tenant=tenant)
        except Exception as error:
            if len(requests) == 1:
                return [error]
        # One of them is wrong; alone, each gets its own answer or its own error.
        return [self._responses(tenant, [one])[0] for one in group]

    def _complete(self, request: Mapping[str, Any]) -> "_Completed":
        """Fill in what the store knows; if the store fails, score what the request brings."""
        if self.store is None:
            return _Completed(request)
        try:
            completed = self.store.complete(request, most=self.longest)
        except StoreError as error:
            if self._store_works:  # said once, not for each request
                _LOG.error("The store failed; answers lack what it knows: %s", error)
            self._store_works = False
            return _Completed(request, degraded=True)
        if not self._store_works:
            self._store_works = True
            _LOG.info("The store answers again.")
        return _Completed(completed)

    def _ranked(self, completed: "_Completed", response: Response | Exception) -> Ranked | Exception:
        if isinstance(response, Exception):
            return response
        profile = completed.request.get("profile") or {}
        told = set[str]().union(*completed.request["candidates"])  # a null says that it is missing
        return Ranked(
            response,
            self.correction.probabilities(self.labels, response.logits),
            tuple(name for name in self._profile if profile.get(name) is None),
            tuple(name for name in self._context if name not in told),
            completed.degraded,
        )


@dataclass(frozen=True)
class _Completed:
    """A request with what the store knows of its user."""

    request: Mapping[str, Any]
    degraded: bool = False


def load_model(
    folder: Path,
    version: str,
    config: ScoringConfig,
    cache: StateCache | None = None,
    store_of: StoreOf | None = None,
    replaces: ServedModel | None = None,
) -> ServedModel:
    """Verify, check, warm up and probe a version; nothing of it is served before all of that succeeded.

    Args:
        version: its name; empty for the beginning of its hash.
        store_of: the online store as an artifact reads it.
        replaces: the version whose requests it must accept and whose labels it must have.

    Raises:
        ArtifactError: a hash, the schema, a canary or the time of the probe is wrong; says which.
        ConfigError: the model cannot be served with this slack.
    """
    artifact = load_artifact(folder)
    notes = read_notes(artifact)
    if replaces is not None:
        _check_schema(artifact, replaces.artifact)
    plain = Scorer(artifact)
    check_canaries(plain, notes.canaries)
    costs = _measure(plain)
    if (
        config.budget_ms
        and (took := costs.seconds(Shape(_PROBE, artifact.config.length)) * 1e3) > config.budget_ms
    ):
        raise ArtifactError(
            f"Version {version} takes {took:.1f} ms for {_PROBE} candidates, more than its budget of"
            f" {config.budget_ms:g} ms."
        )
    store = None if store_of is None else store_of(artifact)
    slack = config.slack if cache is not None else 0
    scorer = Scorer(artifact, cache=cache, slack=slack, limits=config.limits)
    return ServedModel(version or artifact.digest[:12], scorer, notes.correction, store, costs, slack)


def _check_schema(new: Artifact, old: Artifact) -> None:
    """Refuse a version that would refuse what clients of the older one send, or answer other labels."""
    if not set(old.config.labels) <= set(new.config.labels):
        lost = sorted(set(old.config.labels) - set(new.config.labels))
        raise ArtifactError(f"It does not score {', '.join(lost)}, which the version that is served does.")
    for kind in ("user", "item"):
        before, after = getattr(old.encoder.schema, kind), getattr(new.encoder.schema, kind)
        if (before.dtype, before.parts) != (after.dtype, after.parts):
            raise ArtifactError(f"It reads ids of a {kind} in another way than the version that is served.")
    if old.encoder.schema.absent != new.encoder.schema.absent:
        raise ArtifactError("It is of a log with other roles (users, items) than the version that is served.")
    for side, names in _accepted(old).items():
        if lost := sorted(names - _accepted(new)[side]):
            raise ArtifactError(f"It does not take the {side} fields {', '.join(lost)}, which clients send.")


def _accepted(artifact: Artifact) -> dict[str, set[str]]:
    schema = artifact.encoder.schema
    context = schema.sent_fields()
    sides = {"profile": schema.profile, "behavior": schema.behavior, "candidate": context}
    return {side: {one.name for one in fields} for side, fields in sides.items()}


def _measure(scorer: Scorer) -> CostModel:
    """Seconds of requests by their shape; this also warms the model up."""
    encoder, length = scorer.artifact.encoder, scorer.artifact.config.length

    def seconds(candidates: int, behaviors: int) -> float:
        [request] = sample_requests(encoder, 1, candidates, behaviors)
        return median(_timed(scorer, request) for _ in range(_REPEATS))

    seconds(_PROBE, length)  # the first calls pay for memory and plans
    return CostModel.fit(seconds(1, 0), (_PROBE, seconds(_PROBE, 0)), (length, seconds(1, length)))


def _timed(scorer: Scorer, request: Mapping[str, Any]) -> float:
    begin = time.perf_counter()
    scorer.score(request)
    return time.perf_counter() - begin
