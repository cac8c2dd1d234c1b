"""Bodies that arrive in time are read, whatever the event loop did meanwhile; slow ones are refused."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import uvloop

from clickscale.serving.access import Scope
from clickscale.serving.routes.bodies import TimeLimit
from clickscale.serving.service import ServiceConfig
from tests.serving.live import Live, live
from tests.trained import tiny_artifact, tiny_prepared

LIMIT = 0.1
GOOD = {"user": 101, "time": 1_700_000_000, "candidates": [10]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("bodies")
    artifact = tiny_artifact(folder, tiny_prepared(folder), "mlp")
    config = ServiceConfig(body_seconds=LIMIT, deadline_ms=60_000, drain_seconds=0, stop_seconds=5)
    with live(artifact, config) as here:
        yield here


class HeldUp:
    """Holds up the loop of a server from the moment when it waits for a body until that body was sent."""

    def __init__(self, server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stands, self.sent = threading.Event(), threading.Event()
        service = server.service
        assert service is not None
        admit, asked = service.access.admit, itertools.count(1)

        def admit_and_stand(header: str | None, scope: Scope) -> Any:
            if next(asked) == 2:  # the first time is before the request has a task
                asyncio.get_running_loop().call_soon(self._stand)
            return admit(header, scope)

        monkeypatch.setattr(service.access, "admit", admit_and_stand)

    def _stand(self) -> None:
        self.stands.set()
        assert self.sent.wait(10)
        time.sleep(2 * LIMIT)


def head(size: int) -> bytes:
    lines = ("POST /v1/rank HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {size}")
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_body_that_arrived_while_the_loop_stood_still_is_read(
    server: Live, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    body = msgspec.json.encode(GOOD).rjust(size)
    held = HeldUp(server, monkeypatch)
    with socket.create_connection((server.target.host, server.target.port), timeout=10) as connection:
        connection.sendall(head(size))
        assert held.stands.wait(10)
        sending = threading.Thread(target=connection.sendall, args=(body,))  # no buffer may hold all of it
        sending.start()
        time.sleep(0.02)
        held.sent.set()
        answer = connection.recv(10_000)
        sending.join(10)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def test_a_client_that_stops_in_the_middle_of_a_body_is_refused(server: Live) -> None:
    with socket.create_connection((server.target.host, server.target.port), timeout=10) as connection:
        connection.sendall(head(1_000) + b'{"user": ')
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))  # to the end of the connection
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert b"slow_body" in answer


# --- the limit itself, on both kinds of event loop

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


async def until_readable(reading: socket.socket, act: Callable[[], None]) -> None:
    """Wait for bytes; ``act`` runs in the first round of the loop after that."""
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(reading.fileno(), there.set)
    loop.call_soon(act)
    try:
        await there.wait()
    finally:
        loop.remove_reader(reading.fileno())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_arrives_while_the_loop_stands_still_is_in_time(new_loop: Any) -> None:
    reading, writing = socket.socketpair()

    def stand() -> None:
        time.sleep(0.15)
        writing.send(b"x")
        time.sleep(0.15)

    async def main() -> None:
        async with TimeLimit(0.05):
            await until_readable(reading, stand)

    with reading, writing, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_does_not_arrive_ends_in_time_even_where_the_loop_stands_still_again_and_again(
    new_loop: Any,
) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def stand() -> None:
            time.sleep(0.003)
            loop.call_later(0.001, stand)

        stand()
        begin = loop.time()
        with pytest.raises(TimeoutError):
            async with TimeLimit(0.1):
                await asyncio.sleep(30)
        return loop.time() - begin

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert 0.1 <= runner.run(main()) < 5


def test_no_limit_and_a_block_that_ends_in_time_raise_nothing() -> None:
    async def main() -> None:
        async with TimeLimit(0.05):
            await asyncio.sleep(0)
        async with TimeLimit(None):
            await asyncio.sleep(0.1)  # also after the end of the first limit

    asyncio.run(main())
