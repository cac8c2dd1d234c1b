"""The server with a store: histories by id, events, statistics, forgetting, and a store that fails."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.artifact import Artifact
from clickscale.data.dataset import Dataset
from clickscale.errors import StoreError
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.access import Access
from clickscale.serving.messages import EventsRequest, Refusal
from clickscale.serving.service import Service, ServiceConfig
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import OnlineStore
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.model_versions import Source
from tests.serving.live import Live, live
from tests.trained import tiny_artifact, tiny_prepared

LATER = 1_900_000_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("events"))


@pytest.fixture(scope="module")
def artifact(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_artifact(tmp_path_factory.mktemp("events-artifact"), dataset, "lightsuan")


@pytest.fixture
def server(artifact: Path, dataset: Dataset) -> Iterator[Live]:
    def store_of(artifact: Artifact) -> OnlineStore:
        store = open_store("memory://?ahead=1000000000", Reading.of(artifact))
        load_dataset(store, dataset, moment_of(dataset, ""))
        return store

    with live(artifact, store_of=store_of, cache=StateCache(CacheConfig(admit_after=1))) as here:
        yield here


def scores(answer: Any) -> Any:
    return np.array(answer["scores"]["click"])


def test_a_user_by_id_is_scored_as_the_whole_request(server: Live, artifact: Path, dataset: Dataset) -> None:
    scorer = Scorer(artifact)
    rows = range(0, len(dataset.impressions["time"]), 9)
    for request in requests_from_dataset(dataset, list(rows)):
        short = {name: value for name, value in request.items() if name not in ("profile", "behaviors")}
        status, answer = server.call("/v1/rank", short)
        assert status == 200
        expected = scorer.score(request)
        assert answer["behaviors_used"] == expected.used
        assert np.abs(scores(answer) - expected.probabilities[:, 0]).max() <= 1e-6


def completed(server: Live, request: dict[str, Any], most: int) -> dict[str, Any]:
    """What the store makes of a request."""
    assert server.service is not None
    assert server.service.store is not None
    return server.service.store.complete(request, most=most)


def event(number: int, **more: Any) -> dict[str, Any]:
    behavior = {"action": "view", "dwell": 2.0}
    return {"id": f"e{number}", "user": 103, "item": 20, "time": LATER + number, "behavior": behavior} | more


def test_an_event_is_visible_in_the_next_request_and_the_state_is_appended_to(
    server: Live, artifact: Path
) -> None:
    request = {"user": 103, "time": LATER + 100, "candidates": [10, 30]}
    used = []
    for number in range(4):
        answer = server.call("/v1/rank", request)[1]
        used.append(answer["behaviors_used"])
        inline = server.service.store.complete(
            request | {"candidates": [{"item": 10}, {"item": 30}]}, most=40
        )  # type: ignore[union-attr]
        assert np.abs(scores(answer) - Scorer(artifact).score(inline).probabilities[:, 0]).max() <= 1e-5
        assert server.call("/v1/events", {"events": [event(number)]}) == (
            200,
            {"appended": [True], "settled": []},
        )
    assert used == list(range(used[0], used[0] + 4))
    assert answer["cache"] == "append"
    early = server.call("/v1/rank", request | {"time": LATER + 2})[1]
    assert early["behaviors_used"] == used[0] + 2  # those at or after the request's time are not seen


def test_sending_an_event_twice_changes_nothing(server: Live) -> None:
    assert server.call("/v1/events", {"events": [event(1), event(2)]})[1]["appended"] == [True, True]
    assert server.call("/v1/events", {"events": [event(2), event(3)]})[1]["appended"] == [False, True]


def test_outcomes_reach_the_statistics(server: Live) -> None:
    def rate() -> float:
        full = completed(server, {"user": 103, "time": LATER + 10_000_000, "candidates": [{"item": 20}]}, 1)
        return full["candidates"][0]["item_count"]

    before = rate()
    shown = [event(n, behavior=None, labels={"click": n % 2}) for n in range(4)]
    assert server.call("/v1/events", {"events": shown})[0] == 200
    assert rate() == before + 4


def test_profiles_of_new_users_are_kept(server: Live) -> None:
    request = {"user": 777, "time": LATER + 9, "candidates": [10]}
    bare = server.call("/v1/rank", request)[1]
    assert bare["missing"]["profile"] == ["gender", "age"]
    told = {"gender": "f", "age": 31}
    body = {"profiles": [{"user": 777, "profile": told}], "events": [event(1, user=777)]}
    assert server.call("/v1/events", body) == (200, {"appended": [True], "settled": []})
    kept = server.call("/v1/rank", request)[1]
    assert (kept["missing"]["profile"], kept["behaviors_used"]) == ([], 1)
    past = [{"item": 20, "time": LATER + 1, "action": "view", "dwell": 2.0}]
    whole = server.call("/v1/rank", request | {"profile": told, "behaviors": past})[1]
    assert np.abs(scores(kept) - scores(whole)).max() <= 1e-6


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"profiles": [{"user": 1, "profile": {"gendre": "f"}}]}, "profiles[0]: Unknown field 'gendre'"),
        ({"profiles": [{"profile": {"gender": "f"}}]}, "profiles[0].user is null; send an id"),
        ({"outcomes": [{"impression": "e1", "labels": {"click": 1}}]}, "outcomes[0].user is null"),
        ({"events": [event(1, time="soon")]}, "events[0].time is of type str; send int."),
        ({"events": [event(1), event(2, item=None)]}, "events[1].item"),
        ({"events": [{"id": "e", "tme": 1}]}, "events[0]: Unknown key 'tme'; did you mean 'time'? Known: "),
        ({"outcomes": [{"impression": "e1"}]}, "outcomes[0].labels is missing."),
        (
            {"outcomes": [{"impression": "e1", "user": 1, "labels": {"click": 2}}]},
            "outcomes[0].labels['click']",
        ),
        ({"events": [event(1, labels={"click": 2})]}, "events[0].labels['click'] is 2"),
    ],
)
def test_wrong_events_are_refused_by_their_path(server: Live, body: Any, text: str) -> None:
    status, answer = server.call("/v1/events", body)
    assert (status, text in answer["error"]["message"]) == (422, True), answer


def test_nothing_is_kept_of_a_forgotten_user(server: Live) -> None:
    assert server.service is not None
    request = {"user": 104, "time": LATER, "candidates": [10]}
    assert [server.call("/v1/rank", request)[1]["cache"] for _ in range(2)] == ["miss", "hit"]

    async def forget() -> Any:
        return await server.service.forget(104, server.service.access.tenants)  # type: ignore[union-attr]

    found = asyncio.run(forget())
    assert found == {"states": 1, "stored": True}
    answer = server.call("/v1/rank", request)[1]
    assert (answer["behaviors_used"], answer["cache"]) == (0, "miss")


def test_a_request_that_is_being_scored_keeps_nothing_of_a_forgotten_user(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = server.service
    assert service is not None
    assert service.versions.current is not None
    assert service.cache is not None
    model, has_read, goes_on = service.versions.current, threading.Event(), threading.Event()
    responses = model._responses

    def later(*arguments: Any) -> Any:
        has_read.set()  # the history, from the store
        assert goes_on.wait(10)
        return responses(*arguments)

    monkeypatch.setattr(model, "_responses", later)
    request = {"user": 104, "time": LATER, "candidates": [10]}
    asking = threading.Thread(target=server.call, args=("/v1/rank", request))
    asking.start()
    assert has_read.wait(10)
    found: list[Any] = []

    async def forget() -> None:
        found.append(await service.forget(104, service.access.tenants))

    forgetting = threading.Thread(target=asyncio.run, args=(forget(),))
    forgetting.start()
    time.sleep(0.1)
    goes_on.set()
    asking.join()
    forgetting.join()
    assert found == [{"states": 1, "stored": True}]
    assert service.cache.stats().entries == 0


def test_a_store_that_fails_costs_the_history_and_no_answer(
    server: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StoreError("The store cannot be reached.")

    caplog.set_level("INFO", "clickscale.serving")
    store = server.service.store  # type: ignore[union-attr]
    monkeypatch.setattr(store, "complete", fail)
    monkeypatch.setattr(store, "append", fail)
    request = {"user": 103, "time": LATER, "candidates": [10]}
    for _ in range(3):
        status, answer = server.call("/v1/rank", request)
        assert (status, answer["degraded"], answer["behaviors_used"]) == (200, ["store"], 0)
    status, answer = server.call("/v1/events", {"events": [event(9)]})
    assert (status, answer["error"]["code"]) == (503, "store_unavailable")
    assert "reached" not in answer["error"]["message"]  # what failed, and where, is the operator's business
    assert server.call("/v1/events", {"events": [event(9)]})[0] == 503
    monkeypatch.undo()
    assert server.call("/v1/rank", request)[1]["behaviors_used"] > 0
    assert server.call("/v1/events", {"events": [event(9)]})[0] == 200
    said = [record.getMessage() for record in caplog.records if "store" in record.getMessage()]
    assert said == [
        "The store failed; answers lack what it knows: The store cannot be reached.",
        "The store takes no events: The store cannot be reached.",
        "The store answers again.",
        "The store takes events again.",
    ]


def test_events_wait_until_the_model_is_loaded(artifact: Path) -> None:
    service = Service(Source.of(artifact), ServiceConfig(), Access())
    with pytest.raises(Refusal, match="starting") as refused:
        asyncio.run(service.take_events(EventsRequest()))
    assert refused.value.status == 503


def test_the_document_has_an_event_that_is_taken(server: Live) -> None:
    content = server.get("/openapi.json")[1]["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    [example] = content["application/json"]["examples"].values()
    assert server.call("/v1/events", example["value"]) == (200, {"appended": [True], "settled": []})
