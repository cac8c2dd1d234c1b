"""Answers over kept states are those of the histories as they are in the store at that moment.

Users act, correct, are deleted and come back between their requests: 10,000 such edits, each followed by a
request, through the store, the engine and one state cache. Each answer is compared with that of a model
without a cache.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.artifact import Artifact
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig, CacheStats
from clickscale.inference.states.fingerprint import Trail
from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, OnlineStore
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.served_model import Ranked, RankWork, ScoringConfig, ServedModel, load_model
from tests.data.tiny import START
from tests.trained import tiny_artifact, tiny_prepared

AT_ONCE = 50  # scripts that run side by side
ITEMS = (10, 20, 30, 40)
MOMENT = START + 10**6


@dataclass
class Script:
    """One user, and what is done to the history of that user between requests."""

    user: int
    store: OnlineStore
    chance: random.Random
    sent: list[Event] = field(default_factory=list)
    profile: dict[str, Any] | None = None
    own: list[dict[str, Any]] | None = None  # a history that the request brings itself
    asked_at: int = MOMENT
    count: int = 0  # events that were made

    def edit(self) -> None:
        """Do something, or nothing, and choose what the next request brings."""
        rare = [self.late, self.twice, self.known_later, self.forget, self.change_profile, self.bring]
        edits: list[Callable[[], None]] = [self.act] * 4 + rare
        self.own, self.asked_at = None, MOMENT
        self.chance.choice(edits)()
        if self.sent and self.chance.random() < 0.2:  # a request of an earlier moment
            self.asked_at = self.chance.choice(self.sent).time + self.chance.randint(0, 2)

    def event(self, when: int, **more: Any) -> Event:
        action = self.chance.choice(["view", "buy"])
        fields = {"behavior": {"action": action, "dwell": float(self.chance.randint(1, 3))}, **more}
        self.count += 1
        number = f"{self.user}-{self.count}"
        return Event(id=number, user=self.user, item=self.chance.choice(ITEMS), time=when, **fields)

    def send(self, events: list[Event]) -> None:
        self.store.append(events)
        self.sent += events

    def act(self) -> None:
        """Some behaviors after all others."""
        first = max((one.time for one in self.sent), default=START)
        for _ in range(self.chance.randint(0, 3)):
            self.send([self.event(first := first + self.chance.randint(0, 2))])

    def late(self) -> None:
        """A behavior between or before others."""
        self.send([self.event(START + self.chance.randint(0, 20))])

    def twice(self) -> None:
        """An event that was sent before."""
        if self.sent:
            assert self.store.append([self.sent[-1]]) == [False]

    def known_later(self) -> None:
        """A behavior that histories show only some time after it."""
        last = max((one.time for one in self.sent), default=START)
        self.send([self.event(last, known_at=last + self.chance.randint(1, 5))])

    def forget(self) -> None:
        """Everything of the user is deleted, and another history begins."""
        self.store.delete_user(self.user)
        self.sent = []
        self.act()

    def change_profile(self) -> None:
        self.profile = {"age": float(self.chance.randint(20, 23)), "gender": "f"}

    def bring(self) -> None:
        """A request with an edited copy of the history."""
        held = self.store.user(self.user, before=MOMENT, most=40)
        rows = [] if held is None else list(held.behaviors)
        if rows:
            at = self.chance.randrange(len(rows))
            kind = self.chance.randrange(3)
            if kind == 0:
                rows[at] = rows[at] | {"item": self.chance.choice(ITEMS)}
            elif kind == 1:
                del rows[at]
            else:
                rows[at] = rows[at] | {"dwell": 9.0}
        self.own = rows

    def request(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"user": self.user, "time": self.asked_at}
        asked["candidates"] = [{"item": item} for item in ITEMS[:2]]
        given = {"profile": self.profile, "behaviors": self.own}
        return asked | {name: value for name, value in given.items() if value is not None}


def furthest(
    folder: Path, scripts: int, requests: int = 4, room: int = 8_000
) -> tuple[float, float, CacheStats]:
    """Run scripts; the largest difference of a probability, the median step between answers, the cache.

    Args:
        room: bytes of the cache for each user; the states of a part of the users find room.
    """
    artifact = tiny_artifact(folder, tiny_prepared(folder), "lightsuan")
    stores: list[OnlineStore] = []

    def store_of(artifact: Artifact) -> OnlineStore:
        stores.append(open_store("memory://", Reading.of(artifact)) if not stores else stores[0])
        return stores[0]

    cache = StateCache(CacheConfig(admit_after=1, budget=AT_ONCE * room, audit_share=0.0))
    kept = load_model(artifact, "", ScoringConfig(), cache, store_of)
    plain = load_model(artifact, "", ScoringConfig(), None, store_of)
    chance, apart, steps = random.Random(0), [0.0], list[float]()

    async def run() -> None:
        engine = Engine(EngineConfig(workers=2, queue_ms=1e9, batch_ms=1e6))
        for begun in range(0, scripts, AT_ONCE):
            running = [Script(1_000 + begun + n, stores[0], chance) for n in range(AT_ONCE)]
            before: list[Any] = [None] * AT_ONCE
            for _ in range(requests):
                for script in running:
                    script.edit()
                works = [RankWork(script.request()) for script in running]
                deadline = time.monotonic() + 600
                jobs = (engine.run(kept, work, kept.shape(work), deadline) for work in works)
                answers = [scored(answer) for answer, _ in await asyncio.gather(*jobs)]
                expected = [scored(one) for one in plain.score(works)]
                apart.extend(float(np.abs(a - b).max()) for a, b in zip(answers, expected, strict=True))
                steps.extend(
                    float(np.abs(a - b).max()) for a, b in zip(expected, before, strict=True) if b is not None
                )
                before = expected
        engine.close()

    asyncio.run(run())
    assert isinstance(kept, ServedModel)
    return max(apart), float(np.median(steps)), cache.stats()


def scored(answer: Any) -> Any:
    assert isinstance(answer, Ranked), answer
    assert not answer.degraded
    return answer.probabilities[:, 0]


def test_no_answer_is_of_another_history(tmp_path: Path) -> None:
    largest, step, stats = furthest(tmp_path, 100)
    assert largest <= 1e-5
    assert step > 1e-3  # so a stale answer would be seen
    assert min(stats.hits, stats.appends, stats.rebuilds, stats.evictions) > 10
    assert stats.errors == 0


@pytest.mark.wide
def test_a_state_that_is_found_by_its_length_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trail, "chain", lambda self, start, stop: (stop - start).to_bytes(32, "little"))
    largest, _, _ = furthest(tmp_path, 50)
    assert largest > 1e-3


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_answer_after_ten_thousand_edits_is_of_another_history(tmp_path: Path) -> None:
    largest, step, stats = furthest(tmp_path, 500, requests=20, room=60_000)
    print({"largest": largest, "step": step, "cache": stats})
    assert largest <= 1e-5
    assert step > 1e-3
    assert min(stats.hits, stats.appends, stats.rebuilds, stats.evictions) > 300
