"""Replicas without a cluster: handles that call servers, or stand-ins, of this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from clickscale.serving.replicas.replica_server import Call, ReplicasConfig, ReplicaServer, Reply
from clickscale.serving.replicas.user_routing import UserRouting


class Gone(Exception):
    """A replica that died, as a cluster tells it."""


class Handle:
    """Stands for the handle of a replica; ``answer.remote(call)`` is awaited.

    Attributes:
        calls: that reached the replica, in order.
        state: ``alive``, ``dead``, or ``silent``.
    """

    def __init__(self, work: Callable[[Call], Any]) -> None:
        self._work = work
        self.calls: list[Call] = []
        self.state = "alive"

    @property
    def answer(self) -> "Handle":
        return self

    async def remote(self, call: Call) -> Reply:
        if self.state == "dead":
            raise Gone
        if self.state == "silent":
            await asyncio.sleep(3_600)
        self.calls.append(call)
        return await self._work(call)


class Ingress:
    """An ingress over handles, asked as a client asks."""

    def __init__(self, config: ReplicasConfig, handles: list[Handle]) -> None:
        self.handles = handles
        self.routing = UserRouting(config, handles, (Gone,))

    async def ask(self, path: str, body: Any = b"", method: str = "POST", **headers: str) -> Response:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        given = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        return await self.routing.answer(Request(scope, receive))

    async def until_back(self) -> None:
        """Wait until no replica counts as lost."""
        while self.routing._lost:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replicas_of(config: ReplicasConfig) -> AsyncIterator[Ingress]:
    """Real replicas in this process."""
    servers = [ReplicaServer(config) for _ in range(config.replicas)]
    for server in servers:
        await server.start()
    try:
        yield Ingress(config, [Handle(server.answer) for server in servers])
    finally:
        for server in servers:
            await server.stop()
