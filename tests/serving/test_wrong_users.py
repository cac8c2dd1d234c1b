"""Each user gets the scores of the own history, through batches and kept states: 100,000 answers."""

import asyncio
import random
import time
from pathlib import Path

import numpy as np
import pytest

from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.versions.served_model import RankWork, ScoringConfig, load_model
from tests.trained import tiny_artifact, tiny_prepared

AT_ONCE = 64


def answers(folder: Path, users: int, count: int) -> tuple[int, int, int]:
    """Send requests of users in random order, many at once; wrong answers, hits, different scores."""
    artifact = tiny_artifact(folder, tiny_prepared(folder), "lightsuan")
    # Room for a part of the users only, so that states come and go.
    cache = StateCache(CacheConfig(admit_after=1, budget=users * 4_000, audit_share=0.001))
    model = load_model(artifact, "", ScoringConfig(), cache)
    requests = sample_requests(model.artifact.encoder, users, 2, 12, seed=3)
    for number, request in enumerate(requests):
        request["user"] = 100 + number % 8 if number < 8 else 1_000 + number
    cold = load_model(artifact, "", ScoringConfig())
    expected = [cold.score([RankWork(request)])[0].probabilities[:, 0] for request in requests]  # type: ignore[union-attr]
    wrong = 0

    async def client(engine: Engine, chooser: random.Random, each: int) -> None:
        nonlocal wrong
        for _ in range(each):
            user = chooser.randrange(users)
            work = RankWork(requests[user])
            ranked, _ = await engine.run(model, work, model.shape(work), time.monotonic() + 600)
            wrong += bool(np.abs(ranked.probabilities[:, 0] - expected[user]).max() > 1e-5)

    async def all_clients() -> None:
        engine = Engine(EngineConfig(workers=2, queue_ms=1e9, batch_ms=1e6))
        each = count // AT_ONCE
        await asyncio.gather(*(client(engine, random.Random(n), each) for n in range(AT_ONCE)))
        engine.close()

    asyncio.run(all_clients())
    stats = cache.stats()
    return wrong, stats.hits, len({round(float(one[0]), 6) for one in expected})


def test_no_user_gets_the_answer_of_another(tmp_path: Path) -> None:
    wrong, hits, different = answers(tmp_path, 60, 1_280)
    assert wrong == 0
    assert hits > 100
    assert different >= 50


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_no_user_of_a_thousand_gets_the_answer_of_another(tmp_path: Path) -> None:
    wrong, hits, different = answers(tmp_path, 1_000, 100_000)
    print({"wrong": wrong, "hits": hits, "different": different})
    assert wrong == 0
    assert hits > 10_000
    assert different > 800
