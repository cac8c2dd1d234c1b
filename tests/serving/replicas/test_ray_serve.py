"""Two replicas on a Ray cluster here; without Ray, how its absence is told and what is deployed."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from clickscale.artifact import load_artifact
from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving import load_driver
from clickscale.serving.access import load_access
from clickscale.serving.load_driver import Client, LoadReport, Target, constant_rate, until_ready
from clickscale.serving.replicas.ray_serve import application
from clickscale.serving.replicas.user_routing import _owners_of
from clickscale.serving.run_server import listen_on
from clickscale.serving.service import ServiceConfig
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.publishing import publish
from tests.serving.live import JSON_HEADERS, Live, live
from tests.serving.routes.test_open_inference import MODEL, plain
from tests.trained import tiny_artifact, tiny_prepared

TOKEN = "ray-0123456789abcdef"
CALLER = JSON_HEADERS | {"Authorization": f"Bearer {TOKEN}"}
LATER = 1_900_000_000
RATE = float(os.environ.get("CLICKSCALE_TEST_RATE", "20"))  # requests a second; fewer for a busy machine
AHEAD = "ahead=1000000000"


def test_missing_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'clickscale\[serve,cluster\]'"):
        application({"models": "models"})


@dataclass
class Deployed:
    """A deployment as a stand-in for Ray Serve notes it."""

    kind: type
    options: dict[str, Any]
    bound: tuple[Any, ...] = ()

    def bind(self, *arguments: Any) -> "Deployed":
        return Deployed(self.kind, self.options, arguments)


def test_each_replica_is_a_deployment_and_the_ingress_knows_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def deployment(kind: type) -> Any:
        return SimpleNamespace(options=lambda **options: Deployed(kind, options))

    ray = ModuleType("ray")
    ray.serve = SimpleNamespace(deployment=deployment)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    options = {"models": "models", "replicas": "3", "service.engine.workers": "2", "tokens": "tokens.txt"}
    ingress = application(options)
    plain_options, *replicas = ingress.bound
    assert [one.options["name"] for one in replicas] == ["replica-0", "replica-1", "replica-2"]
    assert {one.options["num_replicas"] for one in replicas} == {1}
    assert {one.options["ray_actor_options"]["num_cpus"] for one in replicas} == {2}
    assert all(one.bound == (plain_options,) for one in replicas)
    assert json.loads(json.dumps(plain_options)) == plain_options  # nothing that would have to be unpickled
    with pytest.raises(ConfigError, match="replicas"):
        application({"models": "models", "replica": "3"})


# --- on a cluster

HAS_RAY = importlib.util.find_spec("ray") is not None
on_a_cluster = [
    pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'clickscale[cluster]'"),
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@dataclass
class Cluster:
    """Two replicas on Ray, and one server over the same data."""

    live: Live
    one: Live
    dataset: Dataset
    requests: list[dict[str, Any]]

    def both(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[Any, Any]:
        """Statuses and bytes that the cluster and the one server answer."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)

        async def ask(target: Target) -> tuple[int, bytes]:
            client = Client(Target(target.host, target.port, path, CALLER | (headers or {})))
            try:
                return await client.post(raw)
            finally:
                client.close()

        return asyncio.run(ask(self.live.target)), asyncio.run(ask(self.one.target))

    def ranked(self) -> list[int]:
        """Requests to rank that each replica has answered so far."""
        return [self._ranked(place) for place in range(2)]

    def _ranked(self, place: int) -> int:
        _, text = self.live.get(f"/replicas/{place}/metrics", CALLER)
        found = re.search(rb'clickscale_answers_total\{code="ok",route="rank"\} (\d+)', text)
        return 0 if found is None else int(found[1])

    def until_back(self, place: int) -> float:
        """Seconds until a replica answers by its number."""
        begin = time.monotonic()
        while self.live.get(f"/replicas/{place}/readyz", CALLER)[0] != 200:
            assert time.monotonic() - begin < 600
            time.sleep(0.2)
        return time.monotonic() - begin


# Ray gives processes of its own 5 and 10 seconds to begin, which a busy machine may not keep.
SLOW_MACHINE = {f"RAY_SERVE_PROXY_{name}_TIMEOUT_S": "300" for name in ("READY_CHECK", "HEALTH_CHECK")} | {
    "RAY_USAGE_STATS_ENABLED": "0"
}


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    os.environ.update(SLOW_MACHINE)
    monkeypatch_module.setattr(load_driver, "_WAIT", 300.0)
    import ray
    from ray import serve

    folder = tmp_path_factory.mktemp("ray")
    dataset = tiny_prepared(folder)
    publish(tiny_artifact(folder, dataset, "lightsuan"), folder / "models")
    artifact = load_artifact(folder / "models/v1")
    (folder / "tokens").write_text(f"all rank,events,admin {TOKEN}\n", "utf-8")
    stores = [f"lmdb://{folder}/{name}?{AHEAD}" for name in ("many", "single")]
    for url in stores:
        store = open_store(url, Reading.of(artifact))
        load_dataset(store, dataset, moment_of(dataset, ""))
        store.close()
    requests = [
        {name: value for name, value in request.items() if name not in ("profile", "behaviors")}
        for request in requests_from_dataset(dataset, list(range(len(dataset.impressions["time"]))))
    ]
    listening = listen_on("127.0.0.1", 0)
    port = listening.getsockname()[1]
    listening.close()
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        patiently(lambda: serve.start(http_options={"host": "127.0.0.1", "port": port}))
        options = {"models": str(folder / "models"), "store": stores[0], "tokens": str(folder / "tokens")}
        # A busy machine may make requests wait, but none may be refused or taken for lost because of that.
        patient = {"service.deadline_ms": "300000", "service.engine.queue_ms": "300000", "patience": "200"}
        built = application({**options, **patient, "cache.admit_after": "1", "replicas": "2"})
        patiently(lambda: serve.run(built))
        asyncio.run(until_ready(Target("127.0.0.1", port), 120))
        access = load_access(folder / "tokens")
        single = open_store(stores[1], Reading.of(artifact))
        patience = ServiceConfig(deadline_ms=300_000, drain_seconds=0)
        cache = StateCache(CacheConfig(admit_after=1))
        with live(folder / "models", patience, access=access, cache=cache, store_of=lambda _: single) as one:
            yield Cluster(Live(Target("127.0.0.1", port, headers=CALLER)), one, dataset, requests)
    finally:
        serve.shutdown()
        ray.shutdown()


def patiently(work: Callable[[], Any]) -> None:
    """Do again what Ray gives up after a minute, though its processes are still on their way."""
    for _ in range(4):
        with contextlib.suppress(TimeoutError):
            work()
            return
    work()


def event(number: int, user: Any) -> dict[str, Any]:
    behavior = {"action": "view", "dwell": 2.0}
    return {"id": f"e{number}", "user": user, "item": 20, "time": LATER + number, "behavior": behavior}


class TestOnACluster:
    pytestmark = on_a_cluster

    def test_answers_are_those_of_one_server_to_the_byte(self, cluster: Cluster) -> None:
        for request in cluster.requests[::8]:
            many, one = cluster.both("/v1/rank", request)
            assert many == one
            assert many[0] == 200
        many, one = cluster.both(f"{MODEL}/infer", plain())
        assert many == one
        users = sorted({request["user"] for request in cluster.requests})
        events = {"events": [event(number, user) for number, user in enumerate(users)]}
        for _ in range(2):  # the second time nothing is new
            many, one = cluster.both("/v1/events", events)
            assert many == one
        wrong = {"events": [*events["events"], event(99, users[0]) | {"time": -5}]}
        many, one = cluster.both("/v1/events", wrong)
        assert many == one
        assert many[0] == 422
        for user in users:
            later = {"user": user, "time": LATER + 1_000, "candidates": cluster.requests[0]["candidates"]}
            many, one = cluster.both("/v1/rank", later)
            assert many == one

    def test_a_user_has_one_replica_where_the_state_is_found(self, cluster: Cluster) -> None:
        users = sorted({request["user"] for request in cluster.requests})
        owners = Counter(_owners_of(user, 2)[0] for user in users)
        assert set(owners) == {0, 1}
        before = cluster.ranked()
        for user in users:
            asked = {"user": user, "time": LATER + 2_000, "candidates": cluster.requests[0]["candidates"]}
            found = [cluster.live.call("/v1/rank", asked, headers=CALLER)[1]["cache"] for _ in range(3)]
            assert found[1:] == ["hit"] * 2
        after = cluster.ranked()
        assert [after[place] - before[place] for place in range(2)] == [
            3 * owners[place] for place in range(2)
        ]

    def test_a_killed_replica_costs_no_request_and_no_event(self, cluster: Cluster) -> None:
        users = sorted({request["user"] for request in cluster.requests})
        asked = [
            {"user": user, "time": LATER - 1, "candidates": cluster.requests[0]["candidates"]}
            for user in users
        ]
        bodies = [msgspec.json.encode(one) for one in asked]
        expected = [cluster.one.call("/v1/rank", one, headers=CALLER)[1]["scores"]["click"] for one in asked]
        events = [event(1_000 + number, users[number % len(users)]) for number in range(5_000)]
        messages = [msgspec.json.encode({"events": [one]}) for one in events]
        killed = _owners_of(users[0], 2)[0]
        back: list[float] = []

        async def act() -> tuple[LoadReport, LoadReport]:
            done = False
            target = cluster.live.target
            ranking = asyncio.create_task(
                constant_rate(target, bodies, RATE, 900, keep_bodies=True, go_on=lambda: not done)
            )
            there = Target(target.host, target.port, "/v1/events", CALLER)
            appending = asyncio.create_task(
                constant_rate(there, messages, RATE / 4, 900, keep_bodies=True, go_on=lambda: not done)
            )
            await asyncio.sleep(3)
            kill(f"replica-{killed}")
            await asyncio.sleep(1)
            back.append(1 + await asyncio.to_thread(cluster.until_back, killed))
            await asyncio.sleep(3)
            done = True
            return await ranking, await appending

        ranking, appending = asyncio.run(act())
        print(f"back after {back[0]:.1f} s", ranking.to_dict(), appending.to_dict())
        assert set(ranking.counts) == set(appending.counts) == {"200"}
        for one in ranking.sent:
            scores = json.loads(one.body)["scores"]["click"]
            assert np.abs(np.array(scores) - expected[one.number % len(users)]).max() <= 1e-5
        kept = [json.loads(one.body)["appended"] for one in appending.sent]
        assert all(len(one) == 1 for one in kept)
        for number in range(len(appending.sent)):
            status, answer = cluster.live.call("/v1/events", messages[number], headers=CALLER)
            assert (status, answer["appended"]) == (200, [False])  # what was acknowledged is known
        before = cluster.ranked()[killed]
        assert cluster.live.call("/v1/rank", asked[0], headers=CALLER)[0] == 200
        assert cluster.ranked()[killed] == before + 1  # its users are back


def kill(deployment: str) -> None:
    """End the process of a replica at once."""
    import ray

    [found] = [
        one for one in ray.util.list_named_actors(all_namespaces=True) if f"#{deployment}#" in one["name"]
    ]
    with contextlib.suppress(ray.exceptions.RayError):
        ray.kill(ray.get_actor(found["name"], namespace=found["namespace"]))
