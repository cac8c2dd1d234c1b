"""Requests find the replica of their user, or the next while it is lost; answers are those of one server."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clickscale.artifact import load_artifact
from clickscale.errors import ConfigError
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.load_driver import Client, Target
from clickscale.serving.messages import EventsAnswer, EventsRequest
from clickscale.serving.replicas import user_routing
from clickscale.serving.replicas.replica_server import Call, ReplicasConfig, ReplicaServer, Reply
from clickscale.serving.replicas.user_routing import _owners_of
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.service import ServiceConfig
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import StoreAt, open_store
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.publishing import publish
from tests.serving.live import JSON_HEADERS, live
from tests.serving.replicas.cluster import Handle, Ingress, replicas_of
from tests.serving.routes.test_open_inference import MODEL, plain
from tests.serving.store.servers import redis_server
from tests.trained import tiny_artifact, tiny_prepared

TOKEN = "replicas-0123456789abcdef"
CALLER = {"authorization": f"Bearer {TOKEN}"}
QUICK = ServiceConfig(drain_seconds=0, stop_seconds=5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replicas")
    artifact = tiny_artifact(folder, tiny_prepared(folder), "lightsuan", ("click", "like"))
    publish(artifact, folder / "models")
    return folder / "models"


# --- routing, with stand-ins for the replicas


def stand_ins(count: int = 3, patience: float = 5.0) -> Ingress:
    """An ingress before stand-ins, which answer events and say who they are."""

    def made(place: int) -> Callable[[Call], Coroutine[Any, Any, Reply]]:
        async def work(call: Call) -> Reply:
            body = json.dumps({"replica": place}).encode()
            if call.path == "/v1/events":
                asked = msgspec.json.decode(call.body, type=EventsRequest)
                wrong = [number for number, one in enumerate(asked.events) if one.time < 0]
                if wrong:
                    return Reply(422, (), f"events[{wrong[0]}].time is wrong".encode())
                new = [one.id.startswith("new") for one in asked.events]
                body = msgspec.json.encode(EventsAnswer(appended=new, settled=[True] * len(asked.outcomes)))
            return Reply(200, ((b"content-type", b"application/json"),), body)

        return work

    config = ReplicasConfig(models="models", anyone=True, replicas=count, patience=patience)
    return Ingress(config, [Handle(made(place)) for place in range(count)])


def rank(user: Any) -> dict[str, Any]:
    return {"user": user, "time": 1_700_000_000, "candidates": [10]}


def infer(user: Any) -> dict[str, Any]:
    return {"inputs": [one | {"data": [user]} if one["name"] == "user" else one for one in plain()["inputs"]]}


def event(identity: str, user: Any, time: int = 1_700_000_000) -> dict[str, Any]:
    return {"id": identity, "user": user, "item": 10, "time": time}


def test_a_user_has_one_owner_and_owners_share_the_users() -> None:
    counts = Counter(_owners_of(user, 4)[0] for user in range(4_000))
    assert all(900 < counts[place] < 1_100 for place in range(4))
    assert sorted(_owners_of(["a", 7], 4)) == [0, 1, 2, 3]
    assert _owners_of(12, 4) == _owners_of("12", 4)  # one user where ids are integers
    assert {tuple(_owners_of(text, 4)) for text in (["a", "b"], "ab", ["ab"], "\udc80")}


def test_one_replica_more_moves_only_the_users_that_it_gets() -> None:
    moved = [user for user in range(1_000) if _owners_of(user, 4)[0] != _owners_of(user, 5)[0]]
    assert {_owners_of(user, 5)[0] for user in moved} == {4}
    assert 150 < len(moved) < 250


def test_every_kind_of_request_of_a_user_finds_the_owner() -> None:
    async def main() -> None:
        ingress = stand_ins()
        packed = msgspec.msgpack.encode(rank(7))
        for _ in range(3):
            await ingress.ask("/v1/rank", rank(7))
            await ingress.ask("/v1/rank", packed, content_type="application/msgpack")
            await ingress.ask("/v1/events", {"events": [event("new", 7)]})
            await ingress.ask(f"{MODEL}/infer", infer(7))
        counts = [len(one.calls) for one in ingress.handles]
        assert counts[_owners_of(7, 3)[0]] == 12
        assert sum(counts) == 12

    asyncio.run(main())


def test_requests_without_a_user_are_spread() -> None:
    async def main() -> None:
        ingress = stand_ins()
        for _ in range(6):
            await ingress.ask("/v1/rank", {"time": 1, "candidates": [10]})
        assert [len(one.calls) for one in ingress.handles] == [2, 2, 2]

    asyncio.run(main())


def test_events_are_split_by_owner_and_answered_in_order() -> None:
    async def main() -> None:
        ingress = stand_ins()
        rows = [event("new" if user % 2 else "old", user) for user in range(30)]
        outcomes = [{"impression": "x", "user": user, "labels": {"click": 1}} for user in range(4)]
        profiles = [{"user": user, "profile": {"age": user}} for user in range(9)]
        body = {"events": rows, "outcomes": outcomes, "profiles": profiles}
        response = await ingress.ask("/v1/events", body)
        assert json.loads(response.body) == {
            "appended": [user % 2 == 1 for user in range(30)],
            "settled": [True] * 4,
        }
        kept: list[Any] = []
        for place, handle in enumerate(ingress.handles):
            [call] = handle.calls
            part = msgspec.json.decode(call.body, type=EventsRequest)
            everything = (*part.events, *part.outcomes, *part.profiles)
            assert {_owners_of(one.user, 3)[0] for one in everything} == {place}
            kept += [(one.user, one.profile["age"]) for one in part.profiles]
        assert sorted(kept) == [(user, user) for user in range(9)]

    asyncio.run(main())


def test_a_wrong_event_is_named_by_its_place_in_the_request() -> None:
    async def main() -> None:
        ingress = stand_ins()
        rows = [event("new", user) for user in range(8)] + [event("new", 8, time=-1)]
        response = await ingress.ask("/v1/events", {"events": rows})
        assert (response.status_code, response.body) == (422, b"events[8].time is wrong")

    asyncio.run(main())


@pytest.mark.parametrize("state", ["dead", "silent"])
def test_users_of_a_lost_replica_are_answered_by_the_next_until_it_is_back(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_routing, "_AGAIN", 0.01)

    async def main() -> None:
        ingress = stand_ins(patience=0.1)
        first, second, _ = _owners_of(7, 3)
        ingress.handles[first].state = state
        for _ in range(3):
            assert json.loads((await ingress.ask("/v1/rank", rank(7))).body) == {"replica": second}
        response = await ingress.ask("/v1/events", {"events": [event("new", 7)]})
        assert json.loads(response.body)["appended"] == [True]
        assert len(ingress.handles[second].calls) == 4
        ingress.handles[first].state = "alive"
        await ingress.until_back()
        assert json.loads((await ingress.ask("/v1/rank", rank(7))).body) == {"replica": first}

    asyncio.run(main())


def test_an_ingress_that_stood_still_takes_no_replica_for_lost() -> None:
    async def main() -> None:
        ingress = stand_ins(patience=0.1)
        owner = ingress.handles[_owners_of(7, 3)[0]]
        work = owner._work

        async def beside_a_delay(call: Call) -> Reply:
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            await asyncio.sleep(0.01)  # the answer is there while the ingress stands still
            return await work(call)

        owner._work = beside_a_delay
        assert (await ingress.ask("/v1/rank", rank(7))).status_code == 200
        assert len(owner.calls) == 1
        assert not ingress.routing._lost

    asyncio.run(main())


def test_a_request_may_take_as_long_as_its_own_deadline() -> None:
    async def main() -> None:
        ingress = stand_ins(patience=0.1)
        owner = ingress.handles[_owners_of(7, 3)[0]]
        work = owner._work

        async def slow(call: Call) -> Reply:
            await asyncio.sleep(0.3)
            return await work(call)

        owner._work = slow
        for body, headers in ((rank(7) | {"deadline_ms": 1_000}, {}), (rank(7), {"x_deadline_ms": "1000"})):
            assert (await ingress.ask("/v1/rank", body, **headers)).status_code == 200
        assert len(owner.calls) == 2
        assert not ingress.routing._lost

    asyncio.run(main())


def test_without_any_replica_clients_are_told_to_come_back() -> None:
    async def main() -> None:
        ingress = stand_ins()
        for handle in ingress.handles:
            handle.state = "dead"
        response = await ingress.ask("/v1/rank", rank(7))
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert json.loads(response.body)["error"]["code"] == "not_ready"
        for one in ingress.routing._lost.values():
            one.cancel()

    asyncio.run(main())


def test_one_replica_is_asked_by_its_number() -> None:
    async def main() -> None:
        ingress = stand_ins()
        response = await ingress.ask("/replicas/2/metrics", method="GET")
        assert json.loads(response.body) == {"replica": 2}
        assert ingress.handles[2].calls[0].path == "/metrics"
        for wrong in ("/replicas/3/metrics", "/replicas/x/metrics", f"/replicas/{'1' * 5_000}/metrics"):
            assert (await ingress.ask(wrong, method="GET")).status_code == 404

    asyncio.run(main())


# --- the same answers, with real replicas


def test_answers_are_those_of_one_server_to_the_byte(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSCALE_TOKENS", f"all rank,events {TOKEN}")
    requests = sample_requests(load_artifact(models / "v1").encoder, 12, 5, 7)
    packed = [msgspec.msgpack.encode(one) for one in requests[:3]]
    binary = CALLER | {"Content-Type": "application/msgpack"}
    asked: list[tuple[str, str, Any, dict[str, str]]] = [
        *(("POST", "/v1/rank", one, CALLER) for one in requests),
        *(("POST", "/v1/rank", one, binary) for one in packed),
        ("POST", f"{MODEL}/infer", plain(), CALLER),
        ("POST", f"{MODEL}/infer", {"inputs": []}, CALLER),
        ("POST", "/v1/rank", requests[0], {}),
        ("POST", "/v1/rank", b"{", CALLER),
        ("POST", "/v1/rank", requests[0] | {"candidates": [{"item": None}]}, CALLER),
        ("POST", "/v1/rank", requests[0] | {"usr": 1}, CALLER),
        ("POST", "/v1/rank", requests[0], CALLER | {"x-deadline-ms": "soon"}),
        ("POST", "/v1/rank", requests[0], CALLER | {"Content-Type": "text/plain"}),
        ("POST", "/v1/rank", requests[0], CALLER | {"content-encoding": "gzip"}),
        ("POST", "/v1/rank", b" " * 9_000, CALLER),
        ("POST", "/v1/events", {"events": [event("e1", 101)]}, CALLER),
        ("POST", "/v1/events", {"events": [{"id": 3}]}, CALLER),
        ("POST", "/v1/nothing", {}, CALLER),
        ("GET", "/v1/rank", b"", CALLER),
        ("GET", MODEL, b"", CALLER),
        ("GET", "/readyz", b"", {}),
        ("GET", "/openapi.json", b"", CALLER),
    ]
    options = ServiceConfig(drain_seconds=0, stop_seconds=5, body_bytes=8_000)
    config = ReplicasConfig(models=str(models), service=options)

    async def from_replicas() -> list[tuple[int, bytes]]:
        async with replicas_of(config) as ingress:
            found = []
            for method, path, body, headers in asked:
                given = {name.lower().replace("-", "_"): value for name, value in headers.items()}
                response = await ingress.ask(path, body, method, **given)
                found.append((response.status_code, bytes(response.body)))
            assert all(one.calls for one in ingress.handles)
            return found

    async def from_one(target: Target) -> list[tuple[int, bytes]]:
        found = []
        for method, path, body, headers in asked:
            client = Client(Target(target.host, target.port, path, JSON_HEADERS | headers))
            raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
            found.append(await client.post(raw, method=method))
            client.close()
        return found

    with live(models, options, access=config.access()) as here:
        expected = asyncio.run(from_one(here.target))
    for (method, path, *_), answer, one in zip(asked, asyncio.run(from_replicas()), expected, strict=True):
        assert answer == one, (method, path)


@pytest.mark.slow
def test_with_a_shared_store_answers_are_those_of_one_server_to_the_byte(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    artifact = load_artifact(tiny_artifact(tmp_path, dataset, "lightsuan"))
    requests = [
        {name: value for name, value in request.items() if name not in ("profile", "behaviors")}
        for request in requests_from_dataset(dataset, list(range(0, len(dataset.impressions["time"]), 3)))
    ]
    later, behavior = 1_900_000_000, {"action": "view", "dwell": 2.0}
    users = sorted({request["user"] for request in requests})
    events = [
        event(f"e{number}", user, later + number) | {"behavior": behavior}
        for number, user in enumerate(users)
    ]
    asked: list[tuple[str, Any]] = [
        *(("/v1/rank", request) for request in requests),
        ("/v1/events", {"events": events}),
        ("/v1/events", {"events": events}),  # nothing is new
        ("/v1/events", {"events": [*events, event("wrong", users[0], -5)]}),
        *(("/v1/rank", requests[0] | {"user": user, "time": later + 1_000}) for user in users),
    ]
    options = ServiceConfig(deadline_ms=30_000, drain_seconds=0, stop_seconds=5)
    cache = CacheConfig(admit_after=1)
    with redis_server(tmp_path / "redis") as server:
        urls = [f"redis://127.0.0.1:{server.port}/{number}?ahead=1000000000" for number in range(2)]
        for url in urls:
            store = open_store(url, Reading.of(artifact))
            load_dataset(store, dataset, moment_of(dataset, ""))
            store.close()
        config = ReplicasConfig(
            models=str(artifact.path), store=urls[0], anyone=True, cache=cache, service=options, patience=60
        )

        async def from_replicas() -> list[bytes]:
            async with replicas_of(config) as ingress:
                return [bytes((await ingress.ask(path, body)).body) for path, body in asked]

        async def from_one(target: Target) -> list[bytes]:
            client = Client(Target(target.host, target.port, headers=JSON_HEADERS))
            try:
                return [(await client.post(msgspec.json.encode(body), path))[1] for path, body in asked]
            finally:
                client.close()

        found = asyncio.run(from_replicas())
        store_of = StoreAt(urls[1])
        with live(artifact.path, options, cache=StateCache(cache), store_of=store_of) as here:
            assert found == asyncio.run(from_one(here.target))
    assert any(b'"cache":"append"' in body for body in found)


def test_administrators_reach_all_replicas(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSCALE_TOKENS", f"all rank,admin {TOKEN}")
    config = ReplicasConfig(models=str(models), service=QUICK)

    async def main() -> None:
        async with replicas_of(config) as ingress:
            answer = json.loads((await ingress.ask("/v1/models", method="GET", **CALLER)).body)
            assert [one["models"][0]["version"] for one in answer["replicas"]] == ["v1", "v1"]
            response = await ingress.ask("/v1/admin/forget", {"user": 101}, **CALLER)
            assert json.loads(response.body) == {"replicas": [{"states": 0, "stored": False}] * 2}
            response = await ingress.ask("/v1/admin/promote", {"version": "v9"}, **CALLER)
            assert response.status_code == 404
            codes = [one["error"]["code"] for one in json.loads(response.body)["replicas"]]
            assert codes == ["unknown_version"] * 2
            assert (await ingress.ask("/v1/admin/forget", {"user": 101})).status_code == 401

    asyncio.run(main())


def test_replicas_follow_the_published_versions(tmp_path: Path) -> None:
    artifact = tiny_artifact(tmp_path, tiny_prepared(tmp_path))
    publish(artifact, tmp_path / "models")
    config = ReplicasConfig(models=str(tmp_path / "models"), anyone=True, service=QUICK)

    async def main() -> None:
        async with replicas_of(config) as ingress:
            publish(artifact, tmp_path / "models")
            async with asyncio.timeout(60):
                serving: set[str] = set()
                while serving != {"v2"}:
                    await asyncio.sleep(0.05)
                    told = json.loads((await ingress.ask("/v1/models", method="GET")).body)["replicas"]
                    serving = {
                        one["version"] for each in told for one in each["models"] if one["state"] == "serving"
                    }

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "models=/srv/models"),
        ({"models": "m", "store": "memory://"}, "replicas share theirs"),
        ({"models": "m", "replicas": 0}, "replicas is 0"),
        ({"models": "m", "patience": -1.0}, "patience is -1"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ReplicasConfig(**options)


def test_a_cluster_without_tokens_must_be_meant(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLICKSCALE_TOKENS", raising=False)
    with pytest.raises(ConfigError, match="anyone=true"):
        ReplicaServer(ReplicasConfig(models=str(models)))
    with pytest.raises(ConfigError, match="anyone=true"):
        Ingress(ReplicasConfig(models=str(models)), [])
