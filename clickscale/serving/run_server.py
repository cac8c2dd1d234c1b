"""Process of a server: sockets, signals, and an end that loses no request.

On SIGTERM or SIGINT ``/readyz`` says 503 at once, so that a load balancer sends nothing more, while requests
are still answered, each with ``Connection: close``. After ``drain_seconds`` the connections that the system
has made already are taken, and no others. What they ask is answered, and the process ends with 0. A second
signal ends it without waiting.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from clickscale.errors import ConfigError
from clickscale.serving.routes.http_app import create_app, refuse_early
from clickscale.serving.service import Service

_CONNECTIONS = 2_000  # at once; more are answered with 503
_HEAD = 512 << 10  # bytes of the headers of a request
_LAST_WORDS = 10, 0.03  # looks, and seconds between them, for connections taken last to send their requests
_KEEP_ALIVE = 75  # seconds that an idle connection stays open, longer than most load balancers keep theirs


class _BoundedProtocol(HttpToolsProtocol):
    """A connection that costs little for what is not answered with scores.

    A request that does not come to the end of its headers holds little memory. A request to score that comes
    while too many wait is refused as soon as its headers are there: a task, an application and a response
    for it would take the time that scoring needs.
    """

    _in_head, _held, _refused = True, 0, False

    def __init__(
        self,
        service: Service,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._service = service

    def data_received(self, data: bytes) -> None:
        """Parse; refuse what is still no whole head after too many bytes."""
        super().data_received(data)
        self._held = self._held + len(data) if self._in_head else 0
        if self._held > _HEAD and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_headers_complete(self) -> None:
        """Note that a body follows, and refuse or begin to answer."""
        self._in_head = False
        head = self._early_refusal()
        self._refused = bool(head)
        if head:
            self.transport.write(head)
            self.on_response_complete()
        else:
            super().on_headers_complete()

    def _early_refusal(self) -> bytes:
        """The answer to a request that can be refused at once; empty for any other, and for unusual ones."""
        is_waiting = bool(self.cycle) and not self.cycle.response_complete  # for the answer to an earlier one
        if (
            self.url != b"/v1/rank"
            or self.parser.get_method() != b"POST"
            or is_waiting
            or not self.parser.should_keep_alive()
            or self.expect_100_continue
            or self.flow.write_paused
        ):
            return b""
        return refuse_early(self._service, self.headers, self.server_state.default_headers)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; that of a refused request is thrown away."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that another head follows."""
        self._in_head, self._held = True, 0
        if self._refused:
            self.on_response_complete()  # the connection is idle from now on
        else:
            super().on_message_complete()


class _DrainingServer(uvicorn.Server):
    """Uvicorn, with time between the signal and the end in which requests are still answered."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second signal ends the process at once."""
        if self._service.state == "draining":
            self.should_exit = self.force_exit = True
            return
        self._service.drain()
        seconds = self._service.config.drain_seconds
        asyncio.get_running_loop().call_soon_threadsafe(self._end_later, seconds)

    async def on_tick(self, counter: int) -> bool:
        """End a server whose first version cannot be served."""
        return self._service.state == "failed" or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what is connected, listen no more, and give those connections time to ask."""
        for listening in sockets or []:
            await self._take_connected(listening)
        looks, seconds = _LAST_WORDS
        for _ in range(
            looks
        ):  # one sleep would end before the rest is read if the loop stood still meanwhile
            await asyncio.sleep(seconds)
        await super().shutdown(sockets)

    async def _take_connected(self, listening: socket.socket) -> None:
        """Stop listening without a reset of the connections that wait to be accepted."""
        # The event loop closes its descriptor; with another one the system keeps the connections.
        kept = listening.dup()
        for server in self.servers:
            server.close()
        listening.close()
        accepted = []
        with kept:
            kept.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(kept.accept()[0])
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _end_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self.should_exit = True


def listen_on(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}; choose another port."
        ) from error
    listening.listen(1024)
    return listening


def serve(service: Service, listening: socket.socket) -> None:
    """Answer requests until a signal ends the process.

    Raises:
        ClickscaleError: the first version cannot be served.
    """
    _server(service).run(sockets=[listening])
    if service.failure is not None:
        raise service.failure


@contextmanager
def serving_here(service: Service) -> Iterator[int]:
    """Answer requests in a thread of this process while the block runs; the port on 127.0.0.1.

    Raises:
        ClickscaleError: the first version cannot be served.
    """
    listening = listen_on("127.0.0.1", 0)
    port = listening.getsockname()[1]
    server = _server(service)
    thread = threading.Thread(target=server.run, args=([listening],), name="server")
    thread.start()
    try:
        while service.state == "starting" and thread.is_alive():
            time.sleep(0.01)
        if service.failure is not None:
            raise service.failure
        yield port
    finally:
        server.should_exit = True
        thread.join()


def _server(service: Service) -> _DrainingServer:
    config = uvicorn.Config(
        create_app(service),
        http=partial(_BoundedProtocol, service),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(service.config.stop_seconds),
        limit_concurrency=_CONNECTIONS,
    )
    return _DrainingServer(config, service)
