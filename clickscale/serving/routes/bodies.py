"""Bodies of requests from anywhere: bounded in bytes and in time, and clients that go away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType

from starlette.requests import ClientDisconnect, Request

from clickscale.serving.messages import JSON, MSGPACK, Refusal

# A client that is answered while it still sends sees a reset of the connection instead of the reason. So the
# rest of a body that is too large is read and thrown away, up to this many times the limit.
_DISCARDED = 8
_PARTS = 10  # of a limit of time, each with a timer of its own
_FORMS = {"": JSON, JSON: JSON, MSGPACK: MSGPACK, "application/x-msgpack": MSGPACK}


class ClientGone(Exception):
    """Ends the handling of a request that nobody waits for any more."""


class TimeLimit:
    """Raises `TimeoutError` in a block that waits for somebody else for longer than so many seconds.

    Time in which the event loop stood still does not count, for instance while the system gave the cores to
    others. `asyncio.timeout` counts it, and looks at its timer before it reads what arrived meanwhile, so it
    takes a delay of its own for one of the other side. Here a limit is spent in parts, and a loop that stands
    still spends one of them at most. One part more follows, in which what has arrived is read.

    Args:
        seconds: None for any time.
    """

    def __init__(self, seconds: float | None) -> None:
        self._part = None if seconds is None else seconds / _PARTS
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._spend(_PARTS + 1)

    def _spend(self, parts: int) -> None:
        if self._part is None:
            return
        if parts:
            self._timer = asyncio.get_running_loop().call_later(self._part, self._spend, parts - 1)
        else:
            self._limit.reschedule(0.0)  # a moment that has passed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)


class Bodies:
    """Bodies that arrive, bounded in bytes one by one and together, and in time.

    Args:
        most: bytes of one body.
        together: bytes of all bodies that arrive at a time.
        seconds: that one may take while the event loop runs; 0 for any time.
    """

    def __init__(self, most: int, together: int, seconds: float) -> None:
        self._most, self._together, self._seconds = most, together, seconds
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The body of a request; no more than ``most`` bytes of it are ever held.

        Raises:
            Refusal: 413, 415, 408 or 429; the connection ends after it.
            ClientGone: the connection ended in the middle of it.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "encoding", "Send the body as it is, without Content-Encoding.", close=True)
        most, discarded = self._most, _DISCARDED * self._most
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > discarded:
            raise Refusal(413, "too_large", f"The body has {length} bytes, more than {most:,}.", close=True)
        pieces, size, held = list[bytes](), 0, 0
        try:
            async with TimeLimit(self._seconds or None):
                async for piece in request.stream():
                    size += len(piece)
                    if size > discarded:
                        raise Refusal(413, "too_large", f"The body has more than {most:,} bytes.", close=True)
                    if size > most:
                        pieces.clear()
                        continue
                    pieces.append(piece)
                    held += len(piece)
                    self._held += len(piece)
                    if self._held > self._together:
                        raise Refusal(429, "overloaded", "Too many bytes arrive at once.", 1.0, close=True)
        except TimeoutError as error:
            text = f"The body took more than {self._seconds:g} s."
            raise Refusal(408, "slow_body", text, close=True) from error
        except ClientDisconnect as error:
            raise ClientGone from error
        finally:
            self._held -= held
        if size > most:
            raise Refusal(413, "too_large", f"The body has {size} bytes, more than {most:,}.")
        return b"".join(pieces)


def form_of(request: Request) -> str:
    """The form of a body, which is also that of its answer.

    Raises:
        Refusal: 415 for any other.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        raise Refusal(415, "content_type", f"Send {JSON} or {MSGPACK}, not {kind[:64]!r}.")
    return _FORMS[kind]


def deadline_of(request: Request) -> float | None:
    """Milliseconds of the header ``X-Deadline-Ms``.

    Raises:
        Refusal: 422 if it is not a number.
    """
    text = request.headers.get("x-deadline-ms")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < 1e9:
        raise Refusal(422, "invalid_request", f"X-Deadline-Ms is {text[:32]!r}; send milliseconds.")
    return value


@asynccontextmanager
async def watching(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client of a request goes away; its body must have been read.

    Raises:
        ClientGone: instead of the cancellation.
    """
    task = asyncio.current_task()
    assert task is not None, "requests are handled in tasks"
    gone = _Flag()
    watch = asyncio.get_running_loop().create_task(_watch(request, gone, task.cancel))
    try:
        yield
    except asyncio.CancelledError:
        if gone.raised and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watch.cancel()


class _Flag:
    raised = False


async def _watch(request: Request, gone: _Flag, cancel: Callable[[], bool]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.raised = True
    cancel()
