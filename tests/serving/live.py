"""Servers for tests: in this process on an event loop, or as a process of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvicorn.server

from clickscale.serving.access import Access
from clickscale.serving.load_driver import Client, Target, until_ready
from clickscale.serving.run_server import serving_here
from clickscale.serving.service import Service, ServiceConfig
from clickscale.serving.versions.model_versions import Source

JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass
class Live:
    """A server that answers, and how to speak to it."""

    target: Target
    service: Service | None = None
    loop: asyncio.AbstractEventLoop | None = None

    def call(
        self, path: str, body: Any = None, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and parsed JSON of one request; bytes are sent as they are."""
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)

        async def ask() -> tuple[int, bytes]:
            given = JSON_HEADERS | (headers or {})
            client = Client(Target(self.target.host, self.target.port, path, given))
            try:
                return await client.post(raw, method=method)
            finally:
                client.close()

        status, answer = asyncio.run(ask())
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, answer

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        return self.call(path, method="GET", headers=headers)


class _Hasty:
    """Asyncio as uvicorn sees it, which looks ten times a second whether to end; the tests end a hundred."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


uvicorn.server.asyncio = _Hasty()  # type: ignore[attr-defined]


@contextmanager
def live(folder: Path, config: ServiceConfig | None = None, **parts: Any) -> Iterator[Live]:
    """A server over an artifact or published versions, in a thread of this process."""
    access = parts.pop("access", Access())
    service = Service(
        Source.of(folder), config or ServiceConfig(drain_seconds=0.0, stop_seconds=5), access, **parts
    )
    with serving_here(service) as port:
        yield Live(Target("127.0.0.1", port, headers=JSON_HEADERS), service)


@dataclass
class Served(Live):
    """A server in a process of its own."""

    process: "subprocess.Popen[bytes] | None" = None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(40)


@contextmanager
def served(folder: Path, *options: str, log: Path | None = None) -> Iterator[Served]:
    """A server as `clickscale serve` starts it."""
    with TemporaryDirectory() as place:
        address = Path(place) / "address"
        command = [sys.executable, "-m", "clickscale", "serve", str(folder), "--port", "0"]
        command += ["--address-file", str(address), *options]
        stream = subprocess.DEVNULL if log is None else log.open("ab")
        process = subprocess.Popen(command, stderr=stream, stdout=subprocess.DEVNULL, env=dict(os.environ))
        if not isinstance(stream, int):
            stream.close()
        try:
            while not address.is_file():
                assert process.poll() is None, "the server did not start"
                time.sleep(0.02)
            port = int(address.read_text("utf-8").rpartition(":")[2])
            here = Served(Target("127.0.0.1", port, headers=JSON_HEADERS), process=process)
            asyncio.run(until_ready(here.target, 60))
            yield here
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
