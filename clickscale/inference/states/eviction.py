"""Which entry a full cache gives up."""

from dataclasses import dataclass
from typing import Optional


@dataclass(eq=False)
class _Place:
    """One key in the queue, between a newer and an older one."""

    key: bytes
    visited: bool
    newer: Optional["_Place"] = None
    older: Optional["_Place"] = None


class Sieve:
    """Keys in the order they came, and a hand that looks for one nobody asked for (Zhang et al., NSDI 2024).

    The hand moves from old to new. A key that was asked for since the hand last passed is spared once, the
    first other one is the victim. Unlike a queue by last use, a scan of keys that come once evicts itself:
    the hand meets them unvisited, while keys in use stay where they are.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, _Place] = {}
        self._newest: _Place | None = None
        self._oldest: _Place | None = None
        self._hand: _Place | None = None

    def __len__(self) -> int:
        return len(self._places)

    def insert(self, key: bytes, *, visited: bool = False) -> None:
        """Add a key that is not in the queue."""
        place = _Place(key, visited, older=self._newest)
        if self._newest is not None:
            self._newest.newer = place
        self._newest = place
        self._oldest = self._oldest or place
        self._places[key] = place

    def touch(self, key: bytes) -> None:
        """Note that a key was asked for."""
        self._places[key].visited = True

    def remove(self, key: bytes) -> None:
        """Take a key out."""
        place = self._places.pop(key)
        if self._hand is place:
            self._hand = place.newer
        if place.newer is None:
            self._newest = place.older
        else:
            place.newer.older = place.older
        if place.older is None:
            self._oldest = place.newer
        else:
            place.older.newer = place.newer

    def victim(self) -> bytes:
        """The key to give up next; it stays in the queue until it is removed."""
        place = self._hand or self._oldest
        assert place is not None, "a victim was asked of an empty queue"
        while place.visited:
            place.visited = False
            place = place.newer or self._oldest
            assert place is not None, "the queue lost its oldest key"
        self._hand = place
        return place.key
