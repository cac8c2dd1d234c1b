"""HTTP routes of the server.

======================== ======== =====================================================
``POST /v1/rank``        rank     scores of candidates, in their order
``POST /v1/events``      events   what users did
``GET /v1/models``       rank     versions, what they do, why one was refused
``POST /v1/admin/...``   admin    load, unload, promote, forget
``GET /livez``           anybody  503 if the process should be started again
``GET /readyz``          anybody  503 while no requests should be sent
``GET /metrics``         anybody  Prometheus
``GET /openapi.json``    anybody  all routes; with the scope rank also examples; ``/docs`` shows them
``/v2/...``              rank     Open Inference Protocol (`open_inference`)
======================== ======== =====================================================

Bodies are read by hand and decoded by `messages`, since building models of them twice would cost more than
everything else here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.types import Receive, Send
from starlette.types import Scope as ConnectionScope

from clickscale.errors import ClickscaleError, DataError, StoreError
from clickscale.serving.access import Scope
from clickscale.serving.messages import (
    JSON,
    EventsRequest,
    ForgetRequest,
    RankRequest,
    Refusal,
    VersionRequest,
    decode,
    encode,
)
from clickscale.serving.routes import api_document, open_inference
from clickscale.serving.routes.bodies import Bodies, ClientGone, deadline_of, form_of, watching
from clickscale.serving.service import Service
from clickscale.serving.store.protocol import StoreFullError
from clickscale.version import __version__

_LOG = logging.getLogger("clickscale.serving")
_GONE = 499  # as nginx counts clients that did not wait
Handler = Callable[[Request], Awaitable[Response]]


class _App(FastAPI):
    """The application, with handlers by method and path that are called without looking through the routes.

    Middleware, routes and dependencies cost a quarter of a millisecond, and these handlers need none of them.
    """

    shortcuts: dict[tuple[str, str], Handler] = {}

    async def __call__(self, scope: ConnectionScope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        handler = self.shortcuts.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            await super().__call__(scope, receive, send)
        else:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)


def create_app(service: Service) -> FastAPI:
    """The application over a service, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Loading takes seconds: the probes are answered meanwhile.
        loading = asyncio.create_task(_start(service))
        yield
        loading.cancel()
        await service.stop()

    # A redirect of "/v1/rank/" would name host and scheme of the request, which a proxy may have changed.
    app = _App(
        title="clickscale",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _no_route)
    config = service.config
    bodies = Bodies(config.body_bytes, config.bodies_bytes, config.body_seconds)
    routes = _Routes(service, bodies)
    app.add_api_route("/v1/rank", routes.rank, methods=["POST"], **api_document.RANK)
    app.add_api_route("/v1/events", routes.events, methods=["POST"], **api_document.EVENTS)
    app.add_api_route("/v1/models", routes.models, methods=["GET"], **api_document.MODELS)
    app.add_api_route("/v1/admin/load", routes.load, methods=["POST"], **api_document.LOAD)
    app.add_api_route("/v1/admin/promote", routes.promote, methods=["POST"], **api_document.PROMOTE)
    app.add_api_route("/v1/admin/unload", routes.unload, methods=["POST"], **api_document.UNLOAD)
    app.add_api_route("/v1/admin/forget", routes.forget, methods=["POST"], **api_document.FORGET)
    app.add_api_route("/livez", routes.alive, methods=["GET"], **api_document.LIVE)
    app.add_api_route("/readyz", routes.ready, methods=["GET"], **api_document.READY)
    app.add_api_route("/metrics", routes.metrics, methods=["GET"], **api_document.METRICS)
    for path, method, handler, text in open_inference.routes(service, bodies):
        wrapped = _answered(service, "open_inference", handler)
        app.add_api_route(path, wrapped, methods=[method], **api_document.protocol_operation(path, text))
    app.shortcuts = {("POST", "/v1/rank"): routes.rank, ("POST", "/v1/events"): routes.events}
    app.add_route("/openapi.json", routes.document)
    app.add_route("/docs", _page)
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    """Refuse a path or a method that does not exist, in the form of every other refusal."""
    assert isinstance(error, HTTPException), "it is registered for these only"
    code = "method" if error.status_code == 405 else "no_route"
    text = f"{error.detail}: {request.method} {request.url.path[:64]}; see /docs."
    body = Refusal(error.status_code, code, text).body(flat=request.url.path.startswith("/v2"))
    return Response(body, error.status_code, error.headers, JSON)


async def _page(request: Request) -> Response:
    return get_swagger_ui_html(openapi_url="openapi.json", title="clickscale")


async def _start(service: Service) -> None:
    try:
        await service.start()
    except ClickscaleError as error:
        _LOG.error("The model cannot be served: %s", error)
    except Exception:
        _LOG.error("The model cannot be served.", exc_info=True)


def _answered(service: Service, route: str, handler: Handler) -> Handler:
    """Wrap a handler: every exception becomes an answer, and every answer is counted."""

    async def handle(request: Request) -> Response:
        begin = time.monotonic()
        try:
            response, code = await handler(request), "ok"
        except Exception as error:
            response, code = refused(error, route)
        if service.state == "draining":
            response.headers["Connection"] = "close"
        service.telemetry.answers.labels(route, code).inc()
        service.telemetry.seconds.labels(route).observe(time.monotonic() - begin)
        return response

    return handle


def refused(error: Exception, route: str) -> tuple[Response, str]:
    """The answer to a request that failed, and its code."""
    if isinstance(error, ClientGone):
        return Response(status_code=_GONE), "client_gone"
    if not isinstance(error, Refusal):
        error = _as_refusal(error, route)
    headers = {"Retry-After": str(max(1, round(error.retry_after)))} if error.retry_after else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.close:
        headers["Connection"] = "close"
    body = error.body(flat=route == "open_inference")
    return Response(body, error.status, headers, JSON), error.code


def refuse_early(
    service: Service, headers: Sequence[tuple[bytes, bytes]], more: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The whole answer to a request to score that comes while too many wait; empty for one to be handled.

    Args:
        headers: of the request, their names in lower case.
        more: headers that every answer has.
    """
    if service.state != "ready":
        return b""
    token = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), None)
    try:
        service.access.admit(token, "rank")
    except Refusal:
        return b""
    try:
        service.engine.check_room()
    except Refusal as error:
        response, code = refused(error, "rank")
    else:
        return b""
    service.telemetry.answers.labels("rank", code).inc()
    service.telemetry.seconds.labels("rank").observe(0.0)
    lines = [b"%b: %b\r\n" % pair for pair in (*more, *response.raw_headers)]
    return b"".join((b"HTTP/1.1 429 Too Many Requests\r\n", *lines, b"\r\n", response.body))


def _as_refusal(error: Exception, route: str) -> Refusal:
    # The error itself may name hosts and folders of the server: the log has it, clients need the way out.
    if isinstance(error, StoreFullError):
        text = (
            "The store has no room left; nothing was kept. Send the same again once its operator made room."
        )
        return Refusal(507, "store_full", text, 10.0)
    if isinstance(error, StoreError):
        return Refusal(
            503, "store_unavailable", "The store does not work. Sending the same again is safe.", 1.0
        )
    if isinstance(error, DataError):
        return Refusal(422, "invalid_request", str(error))
    _LOG.error("a defect", exc_info=error, extra={"fields": {"route": route}})
    return Refusal(500, "defect", "A defect of the server; its log says where.")


class _Routes:
    """Handlers over one service."""

    def __init__(self, service: Service, bodies: Bodies) -> None:
        self._service, self._bodies = service, bodies
        self._document = b""
        for name in ("rank", "events", "models", "load", "promote", "unload", "forget"):
            setattr(self, name, _answered(service, name, getattr(self, f"_{name}")))

    rank: Handler
    events: Handler
    models: Handler
    load: Handler
    promote: Handler
    unload: Handler
    forget: Handler

    async def _rank(self, request: Request) -> Response:
        service, arrived = self._service, time.monotonic()
        caller = service.access.admit(request.headers.get("authorization"), "rank")
        service.engine.check_room()
        form = form_of(request)
        body = await self._bodies.read(request)
        message = decode(body, form, RankRequest)
        deadline = deadline_of(request)
        async with watching(request):
            answer = await service.rank(message, caller, form, arrived, deadline)
        return Response(encode(answer, form), media_type=form)

    async def _events(self, request: Request) -> Response:
        self._service.access.admit(request.headers.get("authorization"), "events")
        form = form_of(request)
        body = await self._bodies.read(request)
        answer = await self._service.take_events(decode(body, form, EventsRequest))
        return Response(encode(answer, form), media_type=form)

    async def _models(self, request: Request) -> Response:
        self._service.access.admit(request.headers.get("authorization"), "rank")
        return self._facts()

    async def _load(self, request: Request) -> Response:
        message = await self._admin(request, VersionRequest)
        if not 0 <= message.share <= 1:
            raise Refusal(422, "invalid_request", f"share is {message.share}; it is a part of 1.")
        if message.as_ == "loaded":
            await self._service.versions.load(message.version)
        else:
            await self._service.versions.try_out(message.version, message.as_, message.share)
        return self._facts()

    async def _promote(self, request: Request) -> Response:
        await self._service.versions.promote((await self._admin(request, VersionRequest)).version)
        return self._facts()

    async def _unload(self, request: Request) -> Response:
        await self._service.versions.unload((await self._admin(request, VersionRequest)).version)
        return self._facts()

    async def _forget(self, request: Request) -> Response:
        message = await self._admin(request, ForgetRequest)
        answer = await self._service.forget(message.user, self._service.access.tenants)
        return Response(encode(answer, JSON), media_type=JSON)

    async def _admin(self, request: Request, kind: type[Any], scope: Scope = "admin") -> Any:
        self._service.access.admit(request.headers.get("authorization"), scope)
        if not self._service.is_ready:
            raise Refusal(503, "not_ready", f"This server is {self._service.state}.", 1.0)
        body = await self._bodies.read(request)
        return decode(body, JSON, kind)

    def _facts(self) -> Response:
        service = self._service
        facts = {"state": service.state, **service.versions.facts()}
        return Response(encode(facts, JSON), media_type=JSON)

    async def alive(self, request: Request) -> Response:
        """Tell whether the process works."""
        return _probe(self._service.is_alive, self._service.state)

    async def ready(self, request: Request) -> Response:
        """Tell whether requests should be sent here."""
        return _probe(self._service.is_ready, self._service.state)

    async def document(self, request: Request) -> Response:
        """Describe all routes; examples hold ids of the training data, so they need the scope ``rank``."""
        try:
            self._service.access.admit(request.headers.get("authorization"), "rank")
        except Refusal:
            # Anybody may ask for this one, so it is made once.
            self._document = self._document or encode(api_document.document(request.app, None), JSON)
            return Response(self._document, media_type=JSON)
        tree = api_document.document(request.app, self._service)
        return Response(encode(tree, JSON), media_type=JSON)

    async def metrics(self, request: Request) -> Response:
        """Give all metrics."""
        return Response(self._service.telemetry.exposition(), media_type="text/plain; version=0.0.4")


def _probe(good: bool, state: str) -> Response:
    return Response(encode({"state": state}, JSON), 200 if good else 503, media_type=JSON)
