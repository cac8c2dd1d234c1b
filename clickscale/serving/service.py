"""What the server does with a request, whatever protocol it came by: `routes` calls this."""

import asyncio
import gc
import logging
import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from clickscale.config import Config, check_least
from clickscale.errors import InputError, StoreError
from clickscale.inference.states.cache import StateCache
from clickscale.serving.access import Access, Caller
from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.messages import (
    CacheStatus,
    EventsAnswer,
    EventsRequest,
    Missing,
    RankAnswer,
    RankRequest,
    Refusal,
    Unknown,
    score_column,
)
from clickscale.serving.store.protocol import OnlineStore
from clickscale.serving.telemetry import Telemetry
from clickscale.serving.versions.model_versions import ModelVersions, Source
from clickscale.serving.versions.served_model import Ranked, RankWork, ScoringConfig, ServedModel, StoreOf
from clickscale.serving.versions.trial import TrialConfig

_MOST_EVENTS = 1_000  # in one request
_MOST_WRITES = 64  # requests with events that wait for the store at once
_MIRRORED = 0.25  # part of the longest wait that scoring a request again may take
_WATCH = 0.25  # seconds between two looks at the trial
_FOLLOW = 2.0  # seconds between two looks at the pointer
_HUNG = 30.0  # seconds of one batch after which the process is not alive
_LOG = logging.getLogger("clickscale.serving")

State = Literal["starting", "ready", "failed", "draining"]


class ServiceConfig(Config, frozen=True):
    """Options.

    Attributes:
        deadline_ms: of requests that give none.
        body_bytes, body_seconds: a body may have, and may take to arrive.
        bodies_bytes: of all bodies that arrive at a time.
        follow: promote the version that the pointer of the published versions names, whenever it changes.
        drain_seconds: from the signal to stop until no more connections are taken; ``/readyz`` says 503.
        stop_seconds: for requests in flight after that.
    """

    engine: EngineConfig = EngineConfig()
    scoring: ScoringConfig = ScoringConfig()
    trials: TrialConfig = TrialConfig()
    deadline_ms: float = 1_000.0
    body_bytes: int = 4 << 20
    bodies_bytes: int = 256 << 20
    body_seconds: float = 5.0
    follow: bool = False
    drain_seconds: float = 2.0
    stop_seconds: float = 20.0

    def __post_init__(self) -> None:
        check_least(self, 1, "deadline_ms", "body_bytes", "bodies_bytes")
        check_least(self, 0, "body_seconds", "drain_seconds", "stop_seconds")


class Service:
    """Everything between the protocol and the model.

    Args:
        cache: keeps states of users between requests; None keeps none.
        store_of: the online store as an artifact reads it, which fills in requests and takes events.
        freeze: leave what the process holds after loading out of garbage collection; for a process that does
            nothing but serve.
    """

    def __init__(
        self,
        source: Source,
        config: ServiceConfig,
        access: Access,
        cache: StateCache | None = None,
        store_of: StoreOf | None = None,
        freeze: bool = False,
    ) -> None:
        self._freeze = freeze
        self.config, self.access, self.cache = config, access, cache
        self.telemetry = Telemetry()
        self.state: State = "starting"
        self.failure: Exception | None = None  # why it is in the state "failed"
        self.versions = ModelVersions(source, config.scoring, config.trials, cache, store_of, self._changed)
        self._engine: Engine | None = None
        self._writers = ThreadPoolExecutor(4, thread_name_prefix="events")
        self._writing = 0
        self._store_writes = True
        self._watch: asyncio.Task[None] | None = None
        self._mirrors: set[asyncio.Task[None]] = set()
        self._chooser = random.Random(0)

    # --- life

    async def start(self) -> None:
        """Load the model and begin to answer.

        Raises:
            ClickscaleError: the model cannot be served.
        """
        self._engine = Engine(self.config.engine)
        self.telemetry.watch(self._engine, self.versions, self.cache)
        try:
            await self.versions.start()
        except Exception as error:
            self.state, self.failure = "failed", error
            raise
        if self._freeze:
            # A full collection is rare, but visits every object of torch and of the model while all threads
            # wait. Versions are freed by their reference counts, so freezing keeps none of them alive.
            gc.collect()
            gc.freeze()
        self.state = "ready"
        self._watch = asyncio.create_task(self._keep_watch())

    def drain(self) -> None:
        """Say that this server is not ready any more; requests are still answered."""
        if self.state != "draining":
            self.state = "draining"
            _LOG.info("draining")

    async def stop(self) -> None:
        """End after the last answer."""
        self.drain()
        if self._watch is not None:
            self._watch.cancel()
        if self._engine is not None:
            self._engine.close()
            await asyncio.get_running_loop().run_in_executor(
                None, self._engine.join, self.config.stop_seconds
            )
        await self.versions.close()
        self._writers.shutdown(wait=True)
        if self.store is not None:
            self.store.close()
        _LOG.info("stopped")

    @property
    def store(self) -> OnlineStore | None:
        """The online store as the version that answers reads it."""
        return None if self.versions.current is None else self.versions.current.store

    @property
    def engine(self) -> Engine:
        """The engine of a service that was started.

        Raises:
            Refusal: 503 before that.
        """
        if self._engine is None:
            raise Refusal(503, "not_ready", "No version of the model is loaded yet.", 1.0)
        return self._engine

    @property
    def is_ready(self) -> bool:
        """True while requests should be sent here."""
        return self.state == "ready" and self.is_alive

    @property
    def is_alive(self) -> bool:
        """False if this process should be started again."""
        return self.state != "failed" and (self._engine is None or self._engine.is_alive(_HUNG))

    async def _keep_watch(self) -> None:
        """Judge the trial and follow the pointer until the service ends."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_WATCH)
            try:
                await self.versions.judge()
                if self.config.follow and time.monotonic() - looked > _FOLLOW:
                    looked = time.monotonic()
                    await self.versions.follow()
            except Exception:
                _LOG.error("watching the versions failed", exc_info=True)

    def _changed(self, event: str, version: str) -> None:
        self.telemetry.changes.labels(event).inc()
        _LOG.info("model %s", event, extra={"fields": {"version": version}})

    # --- ranking

    async def rank(
        self,
        request: RankRequest,
        caller: Caller,
        form: str,
        arrived: float,
        deadline_ms: float | None = None,
    ) -> RankAnswer:
        """Score a request.

        Args:
            form: of the answer, `JSON` or `MSGPACK`.
            arrived: moment of `time.monotonic`.
            deadline_ms: of the protocol, if the request itself has none.

        Raises:
            Refusal: it is not answered, and why.
            InputError: it does not fit the model.
        """
        ranked, model = await self.score(request, caller, arrived, deadline_ms)
        response = ranked.response
        probabilities = ranked.probabilities
        columns = {
            label: score_column(probabilities[:, place], form) for place, label in enumerate(response.labels)
        }
        return RankAnswer(
            model=model.version,
            scores=columns,
            unknown=Unknown(
                user=not response.user_known,
                candidates=[place for place, known in enumerate(response.known) if not known],
                behaviors=response.strange,
            ),
            missing=Missing(
                profile=list(ranked.missing_profile),
                statistics=list(response.missing),
                context=list(ranked.missing_context),
            ),
            behaviors_used=response.used,
            behaviors_ignored=response.ignored,
            cache=self._cache_status(ranked, caller),
            degraded=["store"] if ranked.degraded else [],
        )

    async def score(
        self,
        request: RankRequest,
        caller: Caller,
        arrived: float,
        deadline_ms: float | None = None,
        only: ServedModel | None = None,
    ) -> tuple[Ranked, ServedModel]:
        """Scores of a request and the version that gave them; arguments and errors as for `rank`.

        Args:
            only: the version that must answer; None lets the trial choose.
        """
        self._check_loaded()
        self._check_size(request)
        model = only or self.versions.choose("" if request.user is None else f"{caller.name}:{request.user}")
        work = RankWork(request.plain(), caller.name)
        limit = request.deadline_ms if request.deadline_ms is not None else deadline_ms
        if limit is not None and math.isnan(limit):
            raise Refusal(422, "invalid_request", "deadline_ms is NaN; send milliseconds.")
        deadline = arrived + (self.config.deadline_ms if limit is None else limit) / 1e3
        model.facts.in_flight += 1
        try:
            ranked, job = await self.engine.run(model, work, model.shape(work), deadline)
        except (Refusal, InputError):
            raise
        except Exception:
            self._failed(model)
            raise
        finally:
            model.facts.in_flight -= 1
        self.telemetry.waited.observe(job.waited)
        self._count(model, ranked)
        self._mirror(model, work, ranked, job.computed)
        return ranked, model

    def _check_loaded(self) -> None:
        if self.state in ("starting", "failed"):
            raise Refusal(503, "not_ready", f"This server is {self.state}.", 1.0)

    def _check_size(self, request: RankRequest) -> None:
        """Refuse long lists before anything is done with them."""
        limits = self.config.scoring.limits
        for name, rows, most in (
            ("candidates", request.candidates, limits.candidates),
            ("behaviors", request.behaviors or (), limits.behaviors),
        ):
            if len(rows) > most:
                raise Refusal(413, "too_large", f"{name} holds {len(rows):,} objects, more than {most:,}.")

    def _failed(self, model: ServedModel) -> None:
        model.facts.requests += 1
        model.facts.failed += 1
        if self.versions.trial is not None:
            self.versions.trial.note(model.version, failed=True)

    def _count(self, model: ServedModel, ranked: Ranked) -> None:
        facts, telemetry = model.facts, self.telemetry
        facts.requests += 1
        telemetry.candidates.inc(len(ranked.probabilities))
        if not ranked.is_finite:
            facts.not_finite += 1
            telemetry.not_finite.inc()
        if ranked.degraded:
            telemetry.degraded.inc()
        if not ranked.response.user_known:
            telemetry.unknown.labels("user").inc()
        if strange := len(ranked.response.known) - sum(ranked.response.known):
            telemetry.unknown.labels("item").inc(strange)
        telemetry.score.observe(float(ranked.probabilities[0, 0]))
        if self.versions.trial is not None:
            self.versions.trial.note(model.version, failed=not ranked.is_finite)

    def _cache_status(self, ranked: Ranked, caller: Caller) -> CacheStatus | None:
        """How the state was found; nobody else needs to know which users were here before."""
        if not self.access.is_open and "admin" not in caller.scopes:
            return None
        if self.cache is None or not self.cache.enabled:
            return "off"
        reused, used = ranked.response.cached, ranked.response.used
        return "miss" if not reused else "hit" if reused == used else "append"

    # --- trials

    def _mirror(self, model: ServedModel, work: RankWork, ranked: Ranked, computed: float | None) -> None:
        """Let the other version of a trial score the request too, if nothing waits for a worker."""
        other = self.versions.other(model)
        if other is None or self.engine.waiting or self._chooser.random() >= self.config.trials.mirror_share:
            return
        # What comes next waits for it, and must not be refused for that.
        if other.costs.seconds(other.shape(work)) * 1e3 > _MIRRORED * self.config.engine.queue_ms:
            return
        task = asyncio.get_running_loop().create_task(self._score_again(other, model, work, ranked, computed))
        self._mirrors.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._mirrors.discard)

    async def _score_again(
        self,
        other: ServedModel,
        model: ServedModel,
        work: RankWork,
        ranked: Ranked,
        computed: float | None,
    ) -> None:
        other.facts.in_flight += 1
        try:
            again, job = await self.engine.run(other, work, other.shape(work), time.monotonic() + 1.0)
        except Refusal:  # there was no room after all
            return
        except Exception:
            self._failed(other)
            return
        finally:
            other.facts.in_flight -= 1
        trial = self.versions.trial
        if trial is None or {trial.newer, trial.older} != {model.version, other.version}:
            return
        trial.note(other.version, failed=not again.is_finite)
        labels = [label for label in model.labels if label in other.labels]
        mine = ranked.probabilities[:, [model.labels.index(label) for label in labels]]
        theirs = again.probabilities[:, [other.labels.index(label) for label in labels]]
        newer_is_mine = trial.newer == model.version
        trial.compare(mine if newer_is_mine else theirs, theirs if newer_is_mine else mine)
        if computed is not None and job.computed is not None:
            trial.time(*((computed, job.computed) if newer_is_mine else (job.computed, computed)))

    # --- events

    async def take_events(self, request: EventsRequest) -> EventsAnswer:
        """Replace profiles, append events and settle outcomes; acknowledged means kept.

        Raises:
            Refusal: there is no store, or too much to write.
            InputError: an event is wrong; nothing of the request was appended.
            StoreError: the store failed; sending the same again is safe.
        """
        self._check_loaded()
        store = self.store
        if store is None:
            raise Refusal(409, "no_store", "This server has no store; start it with --store.")
        if len(request.events) + len(request.outcomes) + len(request.profiles) > _MOST_EVENTS:
            text = f"Send at most {_MOST_EVENTS:,} events, outcomes and profiles at once."
            raise Refusal(413, "too_large", text)
        if self._writing >= _MOST_WRITES:
            raise Refusal(429, "overloaded", "The store is behind with writing.", 0.2)
        self._writing += 1
        try:
            appended, settled = await asyncio.get_running_loop().run_in_executor(
                self._writers, _write, store, request
            )
        except StoreError as error:
            self.telemetry.events.labels("failed").inc(len(request.events))
            if self._store_writes:  # said once, not for each request
                _LOG.error("The store takes no events: %s", error)
            self._store_writes = False
            raise
        finally:
            self._writing -= 1
        if not self._store_writes:
            self._store_writes = True
            _LOG.info("The store takes events again.")
        self.telemetry.events.labels("appended").inc(sum(appended))
        self.telemetry.events.labels("known").inc(len(appended) - sum(appended))
        return EventsAnswer(appended=appended, settled=settled)

    async def forget(self, user: Any, tenants: Sequence[str]) -> dict[str, Any]:
        """Delete what is kept of a user: states, and everything in the store."""
        states = self.versions.forget(user, tuple(tenants))
        stored = False
        if self.store is not None:
            stored = await asyncio.get_running_loop().run_in_executor(
                self._writers, self.store.delete_user, user
            )
            # What is being scored now may have read the store before, and keeps a state after.
            await self.engine.pass_by()
            states += self.versions.forget(user, tuple(tenants))
        return {"states": states, "stored": stored}


def _write(store: OnlineStore, request: EventsRequest) -> tuple[list[bool], list[bool]]:
    if request.profiles:
        store.put_users([(one.user, one.profile) for one in request.profiles])
    appended = store.append(request.events) if request.events else []
    return appended, store.settle(request.outcomes) if request.outcomes else []
