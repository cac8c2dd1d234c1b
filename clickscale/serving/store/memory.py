"""Records in the memory of this process, for tests and trials; they end with it."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from clickscale.serving.store.store_records import Key, Reader, Writer

T = TypeVar("T")


class MemoryBackend:
    """Records by owner and name."""

    kind = "memory"

    def __init__(self) -> None:
        self._owners: dict[bytes, dict[bytes, bytes]] = {}
        self._lock = threading.RLock()

    def view(self, work: Callable[[Reader], T]) -> T:
        """Read at one moment."""
        with self._lock:
            return work(Reader(self._fetch))

    def change(self, work: Callable[[Writer], T]) -> T:
        """Read and write at one moment."""
        with self._lock:
            writer = Writer(Reader(self._fetch))
            result = work(writer)
            for owner in writer.changes.owners:
                self._owners.pop(owner, None)
            for (owner, name), record in writer.changes.records.items():
                if record is None:
                    self._owners.get(owner, {}).pop(name, None)
                else:
                    self._owners.setdefault(owner, {})[name] = record
            return result

    def _fetch(self, keys: Sequence[Key]) -> list[bytes | None]:
        return [self._owners.get(owner, {}).get(name) for owner, name in keys]

    def size(self) -> tuple[int, int]:
        """Number of records and of bytes."""
        with self._lock:
            kept = [record for records in self._owners.values() for record in records.values()]
            return len(kept), sum(map(len, kept))

    def warnings(self) -> tuple[str, ...]:
        """Everything is lost with the process."""
        return ("memory:// keeps nothing beyond the end of the process; use lmdb:///PATH to keep it.",)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._owners.clear()
