"""Each user gets the scores of the own history, through batches and kept states: 100,000 answers.

As many go over HTTP, half of them of users whose history is in the store.
"""

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from clickscale.artifact import Artifact
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.engine import Engine, EngineConfig
from clickscale.serving.load_driver import Client
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, OnlineStore
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.served_model import RankWork, ScoringConfig, load_model
from tests.serving.live import served
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
    wrong, hits, different = answers(tmp_path, 60, 640)
    assert wrong == 0
    assert hits > 50
    assert different >= 50


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_no_user_of_a_thousand_gets_the_answer_of_another(tmp_path: Path) -> None:
    wrong, hits, different = answers(tmp_path, 1_000, 100_000)
    print({"wrong": wrong, "hits": hits, "different": different})
    assert wrong == 0
    assert hits > 10_000
    assert different > 800


def by_id(requests: list[dict[str, Any]], store: OnlineStore) -> list[dict[str, Any]]:
    """The same requests, every second one with its history in the store instead."""
    found = []
    for number, request in enumerate(requests):
        if number % 2:
            rows = [dict(row) for row in request["behaviors"]]
            events = [
                Event(id=f"{number}-{at}", user=request["user"], item=row.pop("item"), time=row.pop("time"),
                      behavior=row)
                for at, row in enumerate(rows)
            ]  # fmt: skip
            store.append(events)
            request = {key: value for key, value in request.items() if key != "behaviors"}
        found.append(request)
    return found


def answers_over_http(folder: Path, users: int, count: int) -> tuple[int, dict[str, float], int]:
    """Send requests in random order to a server of its own, many at once; wrong answers, metrics, scores."""
    artifact = tiny_artifact(folder, tiny_prepared(folder), "lightsuan")
    url = f"lmdb://{folder}/store?sync=system&ahead=1000000000"
    stores: list[OnlineStore] = []

    def store_of(artifact: Artifact) -> OnlineStore:
        stores.append(open_store(url, Reading.of(artifact)))
        return stores[0]

    cold = load_model(artifact, "", ScoringConfig(), None, store_of)
    requests = sample_requests(cold.artifact.encoder, users, 2, 12, seed=3)
    for number, request in enumerate(requests):
        request["user"] = 1_000 + number
    requests = by_id(requests, stores[0])
    expected = [one.probabilities[:, 0] for one in cold.score([RankWork(one) for one in requests])]  # type: ignore[union-attr]
    stores[0].close()
    bodies = [msgspec.json.encode(request) for request in requests]
    wrong = 0
    options = ["--store", url, "--workers", "2", "--cache", f"{users * 4_000}"]
    sets = ["engine.queue_ms=1e9", "engine.batch_ms=1e6", "deadline_ms=600000"]
    with served(artifact, *options, *(text for one in sets for text in ("--set", one))) as here:

        async def client(connections: Client, chooser: random.Random, each: int) -> None:
            nonlocal wrong
            for _ in range(each):
                user = chooser.randrange(users)
                status, body = await connections.post(bodies[user])
                assert status == 200, body
                scores = np.array(json.loads(body)["scores"]["click"])
                wrong += bool(np.abs(scores - expected[user]).max() > 1e-5)

        async def all_clients() -> None:
            connections = Client(here.target)
            each = count // AT_ONCE
            await asyncio.gather(*(client(connections, random.Random(n), each) for n in range(AT_ONCE)))
            connections.close()

        asyncio.run(all_clients())
        lines = here.get("/metrics")[1].decode().splitlines()
    metrics = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("clickscale_")}
    return wrong, metrics, len({round(float(one[0]), 6) for one in expected})


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_no_user_of_a_thousand_gets_the_answer_of_another_over_http(tmp_path: Path) -> None:
    wrong, metrics, different = answers_over_http(tmp_path, 1_000, 100_032)
    hits = metrics["clickscale_state_cache_hits_total"]
    batches, jobs = metrics["clickscale_batches_total"], metrics["clickscale_batched_requests_total"]
    print({"wrong": wrong, "hits": hits, "batches": batches, "answers": jobs, "different": different})
    assert wrong == 0
    assert jobs == 100_032
    assert hits > 10_000
    assert jobs > 2 * batches
    assert different > 800
