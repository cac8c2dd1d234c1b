"""Hands each request to the replica that owns its user, and to the next one while that replica is lost.

The owner of a user is found by rendezvous hashing: each replica gets a hash of its number and the user, and
the largest one wins. All ingresses agree without talking to each other. If the number of replicas changes,
only the users of the replicas that come or go move.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from clickscale.files import sha256_of
from clickscale.serving.access import Scope
from clickscale.serving.messages import JSON, EventsAnswer, EventsRequest, Refusal, Value, decode, encode
from clickscale.serving.replicas.replica_server import Call, ReplicasConfig, Reply
from clickscale.serving.routes.bodies import Bodies, TimeLimit, deadline_of, form_of
from clickscale.serving.routes.http_app import refused
from clickscale.serving.routes.open_inference import asked_user

_AGAIN = 0.5  # seconds between two looks at a replica that was lost
_HOP = (b"connection", b"transfer-encoding", b"content-length")  # of one connection; the body is whole by now
# What callers need before their bodies are read; replicas ask again.
_SCOPES: tuple[tuple[str, Scope], ...] = (
    ("/v1/rank", "rank"),
    ("/v1/events", "events"),
    ("/v1/admin/", "admin"),
    ("/v2/models/", "rank"),
)
_LOG = logging.getLogger("clickscale.serving")
_Rows = tuple[list[int], list[int], list[int]]  # positions of events, outcomes and profiles


class _AskedFor(msgspec.Struct):
    """What of a request to rank decides where it goes; everything else is for the replica."""

    user: Value = None
    deadline_ms: float | None = None


class UserRouting:
    """An ingress.

    Args:
        replicas: handles whose ``answer.remote(call)`` can be awaited.
        lost: exceptions by which a handle says that its replica is gone.
    """

    def __init__(
        self, config: ReplicasConfig, replicas: Sequence[Any], lost: tuple[type[Exception], ...]
    ) -> None:
        self._replicas = tuple(replicas)
        self._failures: tuple[type[Exception], ...] = (TimeoutError, *lost)
        self._config, self._access = config, config.access()
        service = config.service
        self._bodies = Bodies(service.body_bytes, service.bodies_bytes, service.body_seconds)
        self._lost: dict[int, asyncio.Task[None]] = {}
        self._turn = itertools.count()

    async def answer(self, request: Request) -> Response:
        """Answer a request of a client."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        try:
            reply = await self._reply(request, path)
        except Exception as error:
            response, _ = refused(error, "open_inference" if path.startswith("/v2") else "ingress")
            return response
        response = Response(reply.body, reply.status)
        response.raw_headers.extend(one for one in reply.headers if one[0] not in _HOP)
        return response

    async def _reply(self, request: Request, path: str) -> Reply:
        for begin, scope in _SCOPES:
            if path.startswith(begin):
                self._access.admit(request.headers.get("authorization"), scope)
        body = b""
        if request.method == "POST":
            body = await self._bodies.read(request)
        headers = tuple(one for one in request.headers.raw if one[0] not in _HOP)
        call = Call(request.method, path, request.url.query.encode(), headers, body)
        if path == "/v1/rank":
            asked = _asked_for(request, body)
            return await self._send(self._order(asked.user), call, self._patience(request, asked))
        if path == "/v1/events":
            return await self._events(call, form_of(request))
        if path.startswith("/v2/") and path.endswith("/infer"):
            return await self._send(self._order(_asked_user(request, body)), call, self._patience(request))
        if path == "/v1/models" or path.startswith("/v1/admin/"):
            return await self._ask_all(call)
        if path.startswith("/replicas/"):
            place, _, rest = path.removeprefix("/replicas/").partition("/")
            there = call._replace(path=f"/{rest}")
            return await self._send([self._named(place)], there, self._time_for(there))
        return await self._send(self._order(None), call, self._config.patience)

    # --- replicas

    def _order(self, user: Value) -> Sequence[int]:
        """Replicas in the order in which they are asked; without a user each comes first in turn."""
        count = len(self._replicas)
        if user is None:
            first = next(self._turn)
            return [(first + place) % count for place in range(count)]
        return _owners_of(user, count)

    def _named(self, text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or int(text) >= len(self._replicas):
            raise Refusal(404, "no_route", f"There is no replica {text[:16]!r} of {len(self._replicas)}.")
        return int(text)

    def _patience(self, request: Request, asked: _AskedFor | None = None) -> float:
        """Seconds within which a replica answers a request to score, or refuses it by its deadline."""
        header = deadline_of(request) or 0.0
        deadline = header if asked is None or asked.deadline_ms is None else asked.deadline_ms
        return max(self._config.patience, 1.5 * deadline / 1e3)

    def _time_for(self, call: Call) -> float | None:
        """Seconds for what is about no user; loading a version takes as long as it takes."""
        return None if call.path.startswith("/v1/admin/") else self._config.patience

    async def _send(self, order: Sequence[int], call: Call, patience: float | None) -> Reply:
        """The answer of the first replica in the order that is not lost.

        A replica that is lost while it works on a request may have done it: scoring changes nothing, and
        events have ids, so asking another one is safe.
        """
        for place in order:
            if place in self._lost:
                continue
            try:
                async with TimeLimit(patience):
                    return await self._replicas[place].answer.remote(call)
            except self._failures as error:
                self._lose(place, error)
        raise Refusal(503, "not_ready", "No replica answers now.", 1.0)

    def _lose(self, place: int, error: Exception) -> None:
        if place not in self._lost:
            fields = {"replica": place, "error": type(error).__name__}
            _LOG.warning("replica lost", extra={"fields": fields})
            self._lost[place] = asyncio.get_running_loop().create_task(self._until_back(place))

    async def _until_back(self, place: int) -> None:
        """Wait until a replica answers again; the cluster starts it."""
        status = 0
        while status != 200:
            await asyncio.sleep(_AGAIN)
            with contextlib.suppress(Exception):  # whatever it is, looking again is all that can be done
                async with TimeLimit(self._config.patience):
                    status = (await self._replicas[place].answer.remote(Call("GET", "/readyz"))).status
        del self._lost[place]
        _LOG.warning("replica back", extra={"fields": {"replica": place}})

    async def _ask_all(self, call: Call) -> Reply:
        """The answers of all replicas, and the worst status among them."""
        patience = self._time_for(call)
        asked = (self._send([place], call, patience) for place in range(len(self._replicas)))
        replies = await asyncio.gather(*asked, return_exceptions=True)
        bodies, worst = [], 200
        for reply in replies:
            if isinstance(reply, Refusal):
                worst = max(worst, reply.status)
                bodies.append(msgspec.Raw(reply.body()))
            elif isinstance(reply, BaseException):
                raise reply
            else:
                worst = max(worst, reply.status)
                bodies.append(msgspec.Raw(reply.body))
        return _json({"replicas": bodies}, worst)

    # --- events

    async def _events(self, call: Call, form: str) -> Reply:
        """Send each event to the owner of its user, and put the answers together."""
        try:
            asked = decode(call.body, form, EventsRequest)
        except Refusal:
            return await self._send(self._order(None), call, self._config.patience)  # which says the same
        parts = self._parts(asked)
        if len(parts) < 2:
            order = next(iter(parts), self._order(None))
            return await self._send(order, call, self._config.patience)
        sent = (self._part(order, asked, rows, call, form) for order, rows in parts.items())
        replies = await asyncio.gather(*sent)
        merged = EventsAnswer(appended=[False] * len(asked.events), settled=[False] * len(asked.outcomes))
        for reply, (events, outcomes, _) in zip(replies, parts.values(), strict=True):
            if reply.status != 200:
                return reply
            answer = decode(reply.body, form, EventsAnswer)
            _scatter(merged.appended, events, answer.appended)
            _scatter(merged.settled, outcomes, answer.settled)
        return replies[0]._replace(body=encode(merged, form))

    def _parts(self, asked: EventsRequest) -> Mapping[tuple[int, ...], _Rows]:
        """Positions of events, outcomes and profiles for each owner, by the order to ask in."""
        parts: dict[int, tuple[tuple[int, ...], _Rows]] = {}
        events, outcomes = [one.user for one in asked.events], [one.user for one in asked.outcomes]
        for kind, users in enumerate((events, outcomes, [one.user for one in asked.profiles])):
            for position, user in enumerate(users):
                order = tuple(self._order(user))
                parts.setdefault(order[0], (order, ([], [], [])))[1][kind].append(position)
        return dict(parts.values())

    async def _part(
        self,
        order: Sequence[int],
        asked: EventsRequest,
        rows: _Rows,
        call: Call,
        form: str,
    ) -> Reply:
        events, outcomes, profiles = rows
        part = EventsRequest(
            events=[asked.events[row] for row in events],
            outcomes=[asked.outcomes[row] for row in outcomes],
            profiles=[asked.profiles[row] for row in profiles],
        )
        reply = await self._send(order, call._replace(body=encode(part, form)), self._config.patience)
        if reply.status == 422:
            # A path such as events[1].time means the place in the part. The whole request is refused for the
            # same value, by the path that the client knows.
            return await self._send(order, call, self._config.patience)
        return reply


def _owners_of(user: Value, count: int) -> list[int]:
    """Numbers of the replicas in the order of their claim to a user, the owner first."""
    # As the store reads ids: 12 and "12" are one user where ids are integers.
    text = "\x1f".join(map(str, user)) if isinstance(user, list) else str(user)
    claims = [sha256_of([f"{place}:{text}".encode("utf-8", "surrogatepass")]) for place in range(count)]
    return sorted(range(count), key=claims.__getitem__, reverse=True)


def _scatter(into: list[bool], places: Sequence[int], values: Sequence[bool]) -> None:
    for place, value in zip(places, values, strict=True):
        into[place] = value


def _asked_for(request: Request, body: bytes) -> _AskedFor:
    """User and deadline of a request to rank; nothing of one that the replica will refuse."""
    try:
        return decode(body, form_of(request), _AskedFor)
    except Refusal:
        return _AskedFor()


def _asked_user(request: Request, body: bytes) -> Value:
    """User of a request of the Open Inference Protocol; None for one that the replica will refuse."""
    try:
        return asked_user(request, body)
    except Refusal:
        return None


def _json(tree: Any, status: int) -> Reply:
    return Reply(status, ((b"content-type", JSON.encode()),), encode(tree, JSON))
