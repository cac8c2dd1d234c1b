"""Scoring in bounded worker threads: admission, order, batches, deadlines, cancellation.

The event loop submits jobs and waits; workers take them. A job is let in only if the work before it leaves
time to answer it. Workers take the job whose turn is first: its arrival plus its expected cost times
`_PATIENCE`, so cheap jobs pass expensive ones that came shortly before, and nobody waits for ever. Jobs of
one model whose candidates need little padding are scored together; no job waits for company.
"""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clickscale.config import Config, check_least
from clickscale.serving.messages import Refusal
from clickscale.serving.request_cost import CostModel, Shape

_PATIENCE = 4.0  # seconds of seniority per second of expected work
_STEP = 0.005  # seconds between two looks at the workers
_NOTHING = 1e-9  # seconds of work that stand for none
_PADDING = 1.5  # candidates with padding, per candidate that was sent, that a batch may have
_LOG = logging.getLogger("clickscale.serving")


class EngineConfig(Config, frozen=True):
    """Options.

    Attributes:
        workers: threads that score, each with one thread per operation.
        batch: requests that are scored together at most; 1 for none.
        batch_ms: expected milliseconds of a batch beyond which nothing is added.
        queue_ms: expected milliseconds of waiting beyond which requests are refused.
        queue: requests that wait at most.
    """

    workers: int = 1
    batch: int = 16
    batch_ms: float = 20.0
    queue_ms: float = 250.0
    queue: int = 2_000

    def __post_init__(self) -> None:
        check_least(self, 1, "workers", "batch", "queue")
        check_least(self, 0, "batch_ms", "queue_ms")


class _Group(Protocol):
    """Jobs of one group may share a batch: those of one version of a model."""

    costs: CostModel

    def score(self, works: Sequence[Any]) -> Sequence[Any]:
        """An answer or an exception for each work, in order."""


@dataclass(eq=False)
class _Job:
    """One request on its way through the engine.

    Attributes:
        deadline: moment of `time.monotonic` after which nobody waits for the answer.
        waiting: True until a worker takes it or its client goes away.
        waited: seconds between its arrival and the moment when a worker took it.
        computed: CPU seconds of the worker; None if others were scored together with it.
    """

    group: _Group
    work: Any
    shape: Shape
    cost: float
    arrived: float
    deadline: float
    answer: "asyncio.Future[Any]"
    waiting: bool = True
    waited: float = 0.0
    computed: float | None = None


@dataclass
class _EngineStats:
    """Counters since the start."""

    batches: int = 0
    jobs: int = 0
    expired: int = 0
    abandoned: int = 0
    refused: int = 0


@dataclass
class _Load:
    """Expected seconds of work that waits and that is being done."""

    queued: float = 0.0
    running: float = 0.0
    heap: list[tuple[float, int, _Job]] = field(default_factory=list)


class Engine:
    """Worker threads and their queue; create it where the event loop runs.

    Args:
        by_cost: False takes jobs in the order of their arrival.
    """

    def __init__(self, config: EngineConfig, *, by_cost: bool = True) -> None:
        self.config = config
        self.stats = _EngineStats()
        self._patience = _PATIENCE if by_cost else 0.0
        self._loop = asyncio.get_running_loop()
        self._ready = threading.Condition()
        self._load = _Load()
        self._order = itertools.count()
        self._closed = False
        self._since: list[float | None] = [None] * config.workers  # when each began its batch
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"scoring-{n}", daemon=True)
            for n in range(config.workers)
        ]
        for thread in self._threads:
            thread.start()

    # --- on the event loop

    def expected_wait(self) -> float:
        """Seconds that a job which arrives now is expected to wait."""
        return (self._load.queued + self._load.running) / self.config.workers

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._load.heap)

    def check_room(self) -> None:
        """Refuse before a body is read if the queue is full; costs next to nothing.

        Raises:
            Refusal: 429.
        """
        wait = self.expected_wait()
        if wait * 1e3 > self.config.queue_ms or len(self._load.heap) >= self.config.queue:
            self.stats.refused += 1
            raise Refusal(
                429, "overloaded", "More requests wait than can be scored in time.", max(wait, 0.05)
            )

    async def run(self, group: _Group, work: Any, shape: Shape, deadline: float) -> tuple[Any, _Job]:
        """Score one job, and return its answer.

        Raises:
            Refusal: 429 if it could not be answered in time, 504 if its deadline passed.
            Exception: the exception of ``group.score`` for this job.
        """
        job = self._submit(group, work, shape, deadline)
        try:
            async with asyncio.timeout_at(self._loop.time() + max(deadline - job.arrived, 0.0)):
                return await job.answer, job
        except TimeoutError:
            self.stats.expired += 1
            raise Refusal(504, "deadline", "The deadline passed before the answer was there.") from None
        finally:
            if not job.answer.done() or job.answer.cancelled():
                self._abandon(job)

    def _submit(self, group: _Group, work: Any, shape: Shape, deadline: float) -> _Job:
        now = time.monotonic()
        cost = group.costs.seconds(shape)
        if deadline <= now:
            self.stats.expired += 1
            raise Refusal(504, "deadline", "The deadline had passed before scoring began.")
        if len(self._load.heap) >= self.config.queue:  # bodies of many may have been read since `check_room`
            self.stats.refused += 1
            raise Refusal(429, "overloaded", "As many requests wait as may wait.", self.expected_wait())
        if (wait := self.expected_wait()) + cost > deadline - now and wait > 0:
            self.stats.refused += 1
            raise Refusal(429, "overloaded", "The deadline leaves no time to wait for a turn.", wait)
        job = _Job(group, work, shape, cost, now, deadline, self._loop.create_future())
        with self._ready:
            if self._closed:
                raise Refusal(503, "draining", "This server is stopping.", 1.0)
            heapq.heappush(self._load.heap, (now + self._patience * cost, next(self._order), job))
            self._load.queued += cost
            self._ready.notify()
        return job

    def _abandon(self, job: _Job) -> None:
        """Take a job out whose client does not wait any more."""
        with self._ready:
            if job.waiting:
                job.waiting = False
                self._load.queued = _less(self._load.queued, job.cost)
                self.stats.abandoned += 1

    def close(self) -> None:
        """Take no more jobs; those that wait are still scored."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait until the workers ended; False if one is still at work."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    async def pass_by(self) -> None:
        """Wait until everything that is being scored now is scored."""
        with self._ready:
            begun = list(self._since)
        while any(one is not None and one == now for one, now in zip(begun, self._since, strict=True)):
            await asyncio.sleep(_STEP)

    def is_alive(self, seconds: float) -> bool:
        """False if a worker died, or has been at one batch for longer than ``seconds``."""
        now = time.monotonic()
        stuck = any(since is not None and now - since > seconds for since in self._since)
        return not stuck and (self._closed or all(thread.is_alive() for thread in self._threads))

    # --- in the workers

    def _work(self, place: int) -> None:
        while (batch := self._take(place)) is not None:
            if batch:
                self._score(batch)
                self._since[place] = None
            del batch  # `_answer` lets go of it

    def _score(self, batch: list[_Job]) -> None:
        expected = sum(job.cost for job in batch)
        begin, cpu = time.monotonic(), time.thread_time()
        group = batch[0].group
        try:
            answers = group.score([job.work for job in batch])
        except Exception as error:  # one for each job, so that every client gets an answer
            _LOG.error("A batch of %d requests failed: %s", len(batch), type(error).__name__, exc_info=True)
            answers = [error] * len(batch)
        if len(batch) == 1:
            batch[0].computed = time.thread_time() - cpu
        group.costs.learn(expected, time.monotonic() - begin)
        with self._ready:
            self._load.running = _less(self._load.running, expected)
            self.stats.batches += 1
            self.stats.jobs += len(batch)
        self._tell(lambda: self._answer(batch, answers))

    def _answer(self, batch: list[_Job], answers: Sequence[Any]) -> None:
        """Hand answers to the clients that still wait; runs on the event loop."""
        for job, answer in zip(batch, answers, strict=True):
            if job.answer.done():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)
        # Those who waited go on in the next turn of the loop, and write their answers in it. What they sent
        # is freed after that: for a large request it takes a quarter of a millisecond.
        self._loop.call_soon(batch.clear)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed: nobody waits
            _LOG.debug("an answer came after the event loop had ended")

    def _take(self, place: int) -> list[_Job] | None:
        """Wait for the next jobs; an empty list if those that waited had expired, None at the end."""
        with self._ready:
            while not self._load.heap:
                if self._closed:
                    return None
                self._ready.wait()
            now = time.monotonic()
            batch: list[_Job] = []
            passed: list[tuple[float, int, _Job]] = []
            while self._load.heap and len(batch) < self.config.batch:
                entry = heapq.heappop(self._load.heap)
                job = entry[2]
                if not self._is_wanted(job, now):
                    continue
                if batch and not self._fits(batch, job):
                    passed.append(entry)
                    if len(passed) >= self.config.batch:  # looking further would cost more than it brings
                        break
                    continue
                batch.append(job)
            for entry in passed:
                heapq.heappush(self._load.heap, entry)
            for job in batch:
                job.waiting, job.waited = False, now - job.arrived
                self._load.queued = _less(self._load.queued, job.cost)
                self._load.running += job.cost
            self._since[place] = now if batch else None
        return batch

    def _is_wanted(self, job: _Job, now: float) -> bool:
        """False for a job without a client, or too late to begin; a timer answers the latter's client."""
        if not job.waiting:
            return False
        if job.deadline <= now:
            job.waiting = False
            self._load.queued = _less(self._load.queued, job.cost)
            return False
        return True

    def _fits(self, batch: Sequence[_Job], job: _Job) -> bool:
        """True if a job may be scored together with others."""
        if job.group is not batch[0].group:
            return False
        counts = [one.shape.candidates for one in batch] + [job.shape.candidates]
        if max(counts) * len(counts) > _PADDING * sum(counts):
            return False
        return (sum(one.cost for one in batch) + job.cost) * 1e3 <= self.config.batch_ms


def _less(load: float, cost: float) -> float:
    """Take work out of a load; what rounding leaves of all work is nothing, so an idle engine is idle."""
    return rest if (rest := load - cost) > _NOTHING else 0.0
