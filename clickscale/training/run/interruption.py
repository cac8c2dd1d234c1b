"""Stop a run after the current step when SIGINT or SIGTERM arrives."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While open, SIGINT and SIGTERM are remembered instead of ending the process; a second one ends it.

    Attributes:
        number: the signal that arrived; 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere handlers may not be set
            self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for own, handler in self._before.items():  # so that a second signal ends the process
            signal.signal(own, handler)  # type: ignore[arg-type]
