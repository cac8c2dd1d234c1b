"""Mutated requests over HTTP: whatever is sent, the answer is a refusal with a reason or finite scores."""

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.load_driver import Client, Target
from clickscale.serving.sample_requests import sample_requests
from tests.serving.live import Live, live
from tests.trained import tiny_artifact, tiny_prepared

STRANGE: list[Any] = [
    None, True, -1, 0, 1, 1 << 31, (1 << 63) - 1, 1 << 63, -(1 << 63), 1 << 70, 0.5, 1e308, -1e308, 1e-308,
    "", " 1", "1", "\u0000", "\ud83d\ude00", "a" * 300, "1|2", "\\", "../x",
    [], [[]], [None], [1, 2], {}, {"item": 1},
]  # fmt: skip
ALLOWED = {200, 400, 413, 415, 422}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("fuzz")
    artifact = tiny_artifact(folder, tiny_prepared(folder), "lightsuan")
    with live(artifact, cache=StateCache(CacheConfig(admit_after=1))) as here:
        yield here


def mutated(request: Any, chooser: random.Random) -> Any:
    """Replace, remove, double or misname something somewhere in a request."""
    tree = json.loads(json.dumps(request))
    for _ in range(chooser.randint(1, 3)):
        node = tree
        while isinstance(node, dict | list) and node:
            key = chooser.choice(list(node)) if isinstance(node, dict) else chooser.randrange(len(node))
            if chooser.random() < 0.5 or not isinstance(node[key], dict | list):
                _change(node, key, chooser)
                break
            node = node[key]
    return tree


def _change(node: Any, key: Any, chooser: random.Random) -> None:
    kind = chooser.randrange(4)
    if kind == 0:
        node[key] = chooser.choice(STRANGE)
    elif kind == 1:
        del node[key]
    elif kind == 2 and isinstance(node, dict):
        node[chooser.choice(["x", "key", "salt", "", "item", "time"])] = node.pop(key)
    else:
        node[key] = [node[key]]


def body_of(tree: Any, chooser: random.Random) -> tuple[bytes, str]:
    """The bytes of a request, sometimes damaged, in one of the two forms."""
    packed = chooser.random() < 0.3
    try:
        body = msgspec.msgpack.encode(tree) if packed else json.dumps(tree).encode()
    except (OverflowError, UnicodeEncodeError):  # no integers of more than 64 bits, no halves of a pair
        body, packed = json.dumps(tree).encode(), False
    if chooser.random() < 0.2:
        damaged = bytearray(body)
        damaged[chooser.randrange(len(damaged))] = chooser.randrange(256)
        body = bytes(damaged[: chooser.randint(1, len(damaged))])
    return body, "application/msgpack" if packed else "application/json"


async def send(server: Live, count: int, seed: int) -> Counter[int]:
    assert server.service is not None
    current = server.service.versions.current
    assert current is not None
    requests = sample_requests(current.artifact.encoder, 8, 3, 4)
    chooser, found = random.Random(seed), Counter[int]()
    clients = {
        kind: Client(Target(server.target.host, server.target.port, headers={"Content-Type": kind}))
        for kind in ("application/json", "application/msgpack")
    }
    try:
        for _ in range(count):
            body, kind = body_of(mutated(chooser.choice(requests), chooser), chooser)
            status, answer = await clients[kind].post(body)
            found[status] += 1
            assert status in ALLOWED, (status, body, answer)
            if status != 200:
                assert json.loads(answer)["error"]["message"]
            elif kind == "application/json":
                scores = json.loads(answer)["scores"]["click"]
                assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores)
    finally:
        for client in clients.values():
            client.close()
    return found


def test_mutated_requests_are_answered_or_refused(server: Live) -> None:
    found = asyncio.run(send(server, 300, 0))
    assert found[200] >= 30
    assert found[422] >= 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_mutated_requests(server: Live) -> None:
    found = asyncio.run(send(server, 20_000, 1))
    print(dict(found))
    assert found[200] + found[422] >= 10_000
