"""One replica: the service and the routes of ``clickscale serve``, called without a socket."""

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs
from starlette.types import ASGIApp

from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.access import VARIABLE, Access, load_access
from clickscale.serving.routes.http_app import create_app
from clickscale.serving.service import Service, ServiceConfig
from clickscale.serving.store.opening import StoreAt
from clickscale.serving.versions.model_versions import Source


class ReplicasConfig(Config, frozen=True):
    """Options of all replicas and of what stands before them.

    Attributes:
        models: folder of published versions, which replicas follow, or one artifact; on all machines.
        store: URL of the store that all replicas share; empty for none.
        tokens: file of tokens, on all machines; empty takes those of the environment of each machine.
        anyone: let everybody who reaches the cluster rank and send events, if there are no tokens.
        replicas: that own the users between them.
        ingresses: that hand requests to replicas.
        patience: seconds after which a replica that does not answer counts as lost.
        cache: of each replica; a ``budget`` of 0 keeps no states.
        service: of each replica, as ``clickscale serve --config`` reads it.
    """

    models: str = ""
    store: str = ""
    tokens: str = ""
    anyone: bool = False
    replicas: int = 2
    ingresses: int = 1
    patience: float = 5.0
    cache: CacheConfig = CacheConfig()
    service: ServiceConfig = ServiceConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "replicas", "ingresses")
        check_least(self, 0, "patience")
        if not self.models:
            raise ConfigError("Name the folder of the published versions, for instance models=/srv/models.")
        if self.store.startswith("memory:"):
            raise ConfigError(
                "A store in memory belongs to one process, and replicas share theirs; name redis://... or,"
                " on one machine, lmdb://..."
            )

    def access(self) -> Access:
        """Tokens of this machine.

        Raises:
            ConfigError: they cannot be read, or there are none and nobody said that this is meant.
        """
        access = load_access(Path(self.tokens) if self.tokens else None)
        if access.is_open and not self.anyone:
            raise ConfigError(
                f"There are no tokens on this machine; give tokens=FILE or the variable {VARIABLE}, or"
                " anyone=true to let everybody rank and send events."
            )
        return access


class Call(NamedTuple):
    """An HTTP request whose body was read."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class Reply(NamedTuple):
    """The answer to a `Call`."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class ReplicaServer:
    """A server without a socket of its own.

    Args:
        freeze: leave what the process holds after loading out of garbage collection; for a process that does
            nothing but serve.

    Raises:
        ClickscaleError: an option is wrong, or there are no published versions.
    """

    def __init__(self, config: ReplicasConfig, freeze: bool = False) -> None:
        source = Source.of(Path(config.models))
        options = structs.replace(config.service, follow=source.root is not None)
        cache = StateCache(config.cache) if config.cache.budget else None
        store_of = StoreAt(config.store) if config.store else None
        self._service = Service(source, options, config.access(), cache, store_of, freeze)
        self._app = create_app(self._service)

    async def start(self) -> None:
        """Load the model.

        Raises:
            ClickscaleError: it cannot be served.
        """
        await self._service.start()

    async def stop(self) -> None:
        """End after the last answer."""
        await self._service.stop()

    @property
    def is_alive(self) -> bool:
        """False if this process should be started again."""
        return self._service.is_alive

    async def answer(self, call: Call) -> Reply:
        """Answer a request as ``clickscale serve`` does, through the same routes."""
        return await _through(self._app, call)


async def _through(app: ASGIApp, call: Call) -> Reply:
    """Hand a request to an application, and collect its answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": call.method,
        "path": call.path,
        "raw_path": call.path.encode(),
        "root_path": "",
        "query_string": call.query,
        "headers": list(call.headers),
        "client": None,
        "server": None,
    }
    bodies = [call.body]
    begun: MutableMapping[str, Any] = {}
    pieces: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        # A caller who gives up cancels this whole call, so no message ever says that the client is gone.
        return await asyncio.get_running_loop().create_future()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            begun.update(message)
        else:
            pieces.append(message.get("body", b""))

    await app(scope, receive, send)
    return Reply(begun["status"], tuple(begun["headers"]), b"".join(pieces))
