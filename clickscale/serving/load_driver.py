"""Load for a server: requests at a constant rate whatever the answers, each of them counted.

A client that waits for an answer before it sends the next request hides how long requests would have waited
(coordinated omission). Here each request has a moment at which it is due, and its latency begins then.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clickscale.errors import InputError

_WAIT = 30.0  # seconds for one answer


@dataclass(frozen=True)
class Target:
    """Where requests go.

    Attributes:
        headers: sent with each request.
    """

    host: str
    port: int
    path: str = "/v1/rank"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Sent:
    """One request and what became of it.

    Attributes:
        due: seconds from the begin of the load until it was to be sent.
        seconds: from then until its answer was there.
        status: of the answer; 0 if there was none.
        failure: ``refused`` if no connection could be made, so the server never had the request; ``lost`` if
            the server took it and did not answer; empty otherwise.
    """

    number: int
    due: float
    seconds: float = 0.0
    status: int = 0
    failure: str = ""
    body: bytes = b""


@dataclass
class LoadReport:
    """All requests of a load."""

    sent: list[_Sent]
    wall: float

    @property
    def counts(self) -> dict[str, int]:
        """Requests by status or failure."""
        return dict(sorted(Counter(one.failure or str(one.status) for one in self.sent).items()))

    def percentile(self, share: float, status: int = 200) -> float:
        """Seconds that a share of the answers with a status took at most; NaN without any."""
        seconds = [one.seconds for one in self.sent if one.status == status and not one.failure]
        return float(np.percentile(seconds, share * 100)) if seconds else float("nan")

    @property
    def goodput(self) -> float:
        """Answers with scores per second."""
        return sum(one.status == 200 for one in self.sent) / self.wall

    def to_dict(self) -> dict[str, object]:
        """JSON-ready summary."""
        return {
            "requests": len(self.sent),
            "seconds": round(self.wall, 3),
            "counts": self.counts,
            "goodput_per_second": round(self.goodput, 2),
            "p50_ms": round(self.percentile(0.5) * 1e3, 3),
            "p99_ms": round(self.percentile(0.99) * 1e3, 3),
            "p99_ms_of_429": round(self.percentile(0.99, 429) * 1e3, 3),
        }


class Client:
    """Connections to one server, kept and used again; for one event loop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._idle: list[_Connection] = []

    async def post(self, body: bytes, path: str = "", method: str = "POST") -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionRefusedError: no connection could be made.
            ConnectionError: the server took the request and did not answer it.
        """
        connection = self._take() or await _Connection.open(self.target)
        keeps = False
        try:
            async with asyncio.timeout(_WAIT):
                status, answer, keeps = await connection.ask(
                    method, path or self.target.path, self.target.headers, body
                )
        finally:
            if keeps:
                self._idle.append(connection)
            else:
                connection.close()
        return status, answer

    def _take(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Close all connections that are idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class _Connection:
    """One connection that speaks enough of HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, target: Target) -> "_Connection":
        try:
            return cls(*await asyncio.open_connection(target.host, target.port))
        except OSError as error:
            raise ConnectionRefusedError(str(error)) from error

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, bool]:
        """Status, body, and whether the connection can be used again."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
            answer = await self._reader.readexactly(int(found.get("content-length", "0")))
        except (OSError, EOFError) as error:
            raise ConnectionResetError(f"no answer: {error}") from error
        return int(first.split()[1]), answer, found.get("connection", "").lower() != "close"

    def close(self) -> None:
        self._writer.transport.abort()


async def constant_rate(
    target: Target,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    *,
    keep_bodies: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> LoadReport:
    """Send requests at a rate, one of ``bodies`` after the other, and wait for every answer.

    Args:
        keep_bodies: keep the bodies of the answers.
        go_on: asked before each request; the load ends early when it says no.

    Raises:
        InputError: there is nothing to send.
    """
    if not bodies or rate <= 0:
        raise InputError(f"A load of {len(bodies)} different requests at {rate} a second sends nothing.")
    client, sent = Client(target), list[_Sent]()
    tasks: list[asyncio.Task[None]] = []
    begin = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = number / rate
        if (early := due - (time.perf_counter() - begin)) > 0:
            await asyncio.sleep(early)
        if not go_on():
            break
        one = _Sent(number, due)
        sent.append(one)
        body = bodies[number % len(bodies)]
        tasks.append(asyncio.create_task(_send(client, one, body, begin, keep_bodies)))
    await asyncio.gather(*tasks)
    wall = time.perf_counter() - begin
    client.close()
    return LoadReport(sent, wall)


async def _send(client: Client, one: _Sent, body: bytes, begin: float, keep_bodies: bool) -> None:
    try:
        one.status, answer = await client.post(body)
        if keep_bodies:
            one.body = answer
    except ConnectionRefusedError:
        one.failure = "refused"
    except (ConnectionError, TimeoutError):
        one.failure = "lost"
    one.seconds = time.perf_counter() - begin - one.due


async def one_by_one(
    target: Target, bodies: Sequence[bytes], between: Callable[[bytes], None] | None = None
) -> LoadReport:
    """Send each request when the one before was answered.

    Args:
        between: called with each request before it is sent, for instance to do the same work here.
    """
    client, sent = Client(target), list[_Sent]()
    begin = time.perf_counter()
    for number, body in enumerate(bodies):
        if between is not None:
            between(body)
        one = _Sent(number, time.perf_counter() - begin)
        await _send(client, one, body, begin, keep_bodies=False)
        sent.append(one)
    wall = time.perf_counter() - begin
    client.close()
    return LoadReport(sent, wall)


async def until_ready(target: Target, seconds: float) -> float:
    """Wait until a server is ready; the seconds that took.

    Raises:
        InputError: it is not ready in time.
    """
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        client = Client(target)
        with contextlib.suppress(ConnectionError, TimeoutError):
            status, _ = await client.post(b"", "/readyz", "GET")
            client.close()
            if status == 200:
                return time.perf_counter() - begin
        await asyncio.sleep(0.02)
    raise InputError(f"The server at {target.host}:{target.port} is not ready after {seconds:g} s.")
