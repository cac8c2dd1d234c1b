"""Group commit: changes that wait at the same time are written together, so that they share one sync."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from clickscale.errors import StoreError
from clickscale.serving.store.store_records import Backend, Writer

T = TypeVar("T")
_TOGETHER = 256  # changes


class _Ticket(Generic[T]):
    """One change that waits, and what came of it."""

    def __init__(self, work: Callable[[Writer], T]) -> None:
        self._work = work
        self.result: list[T] = []
        self.error: Exception | None = None
        self.is_done = False
        self.turn = threading.Event()  # it is done, or the one to write next

    def run(self, writer: Writer) -> None:
        """Do the work as a part of a transaction; if it fails, the other parts are none the worse."""
        self.result, self.error = [], None
        part = Writer(writer)
        try:
            self.result = [self._work(part)]
        except Exception as error:
            self.error = error
            return
        part.keep()


class Commits:
    """Changes of a backend, written in groups: whoever finds nobody writing writes for all who wait.

    Whoever waits is woken once, when its change is written or when it is to write the next group.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[Any]] = []
        self._is_busy = False

    def run(self, work: Callable[[Writer], T]) -> T:
        """Change records; returns when the change is durable.

        Raises:
            StoreError: the change could not be written.
        """
        ticket = _Ticket(work)
        with self._lock:
            self._waiting.append(ticket)
            leads, self._is_busy = not self._is_busy, True
        if not leads:
            ticket.turn.wait()
        if not ticket.is_done:
            self._write()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result[0]

    def _write(self) -> None:
        """Write the changes that wait, or as many as go together, and let the next one write."""
        with self._lock:
            group, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]

        def together(writer: Writer) -> None:
            for ticket in group:
                ticket.run(writer)

        try:
            self._backend.change(together)
        except BaseException as error:
            for ticket in group:
                ticket.error = _told(error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_busy = bool(following)
            for ticket in group:
                ticket.is_done = True
            for ticket in (*group, *following):
                ticket.turn.set()


def _told(error: BaseException) -> Exception:
    """Error for those whose change was in the group."""
    if isinstance(error, Exception):
        return error
    return StoreError("The process was interrupted while it wrote to the store; repeat the call.")
