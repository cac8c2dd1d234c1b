"""The end of a server: what was sent before it is answered."""

import asyncio
import http.client
import socket
import threading
import time
from pathlib import Path

import msgspec
import pytest

from clickscale.serving.run_server import _DrainingServer
from tests.serving.live import JSON_HEADERS, live
from tests.trained import tiny_artifact, tiny_prepared

BODY = msgspec.json.encode({"user": 101, "time": 1_700_000_000, "candidates": [10]})


def test_a_request_that_arrives_while_the_loop_stands_still_at_the_end_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than the time that a connection has for a last request."""
    artifact = tiny_artifact(tmp_path, tiny_prepared(tmp_path), "mlp")
    stands, sent = threading.Event(), threading.Event()
    take = _DrainingServer._take_connected

    reading, writing = socket.socketpair()

    def stand() -> None:  # while it reads, so that it looks at its timers before it reads again
        asyncio.get_running_loop().remove_reader(reading.fileno())
        stands.set()
        assert sent.wait(10)
        time.sleep(0.6)

    async def take_and_stand(server: _DrainingServer, listening: socket.socket) -> None:
        await take(server, listening)
        asyncio.get_running_loop().add_reader(reading.fileno(), stand)
        writing.send(b"x")

    monkeypatch.setattr(_DrainingServer, "_take_connected", take_and_stand)

    def send_late() -> None:
        assert stands.wait(10)
        connection.request("POST", "/v1/rank", BODY, JSON_HEADERS)
        sent.set()

    sending = threading.Thread(target=send_late)
    with reading, writing, live(artifact) as here:
        connection = http.client.HTTPConnection(here.target.host, here.target.port, timeout=10)
        connection.request("POST", "/v1/rank", BODY, JSON_HEADERS)
        with connection.getresponse() as answer:  # from now on the connection is idle
            assert answer.status == 200
            answer.read()
        sending.start()
    sending.join(10)
    with connection.getresponse() as answer:
        assert answer.status == 200
    connection.close()
