"""Eviction: the entry that a full cache deletes next."""

from dataclasses import dataclass
from typing import Optional


@dataclass(eq=False)
class _Node:
    """One key in the queue, between a newer and an older one."""

    key: bytes
    visited: bool
    newer: Optional["_Node"] = None
    older: Optional["_Node"] = None


class Sieve:
    """Keys by arrival, and a hand that looks for one without a recent request (Zhang et al., NSDI 2024).

    The hand moves from old to new. A key that was asked for since the hand last passed is spared once; the
    first other key is the victim. Unlike in a queue by last use, a scan of keys that come once evicts itself:
    the hand meets them unvisited, while keys in use stay.
    """

    def __init__(self) -> None:
        self._nodes: dict[bytes, _Node] = {}
        self._newest: _Node | None = None
        self._oldest: _Node | None = None
        self._hand: _Node | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def insert(self, key: bytes, *, visited: bool = False) -> None:
        """Add a key that is not in the queue."""
        node = _Node(key, visited, older=self._newest)
        if self._newest is not None:
            self._newest.newer = node
        self._newest = node
        self._oldest = self._oldest or node
        self._nodes[key] = node

    def touch(self, key: bytes) -> None:
        """Note that a key was asked for."""
        self._nodes[key].visited = True

    def remove(self, key: bytes) -> None:
        """Take a key out."""
        node = self._nodes.pop(key)
        # The hand must not point at a key that is gone.
        if self._hand is node:
            self._hand = node.newer  # goes on where it would have gone next
        if node.newer is None:
            self._newest = node.older
        else:
            node.newer.older = node.older
        if node.older is None:
            self._oldest = node.newer
        else:
            node.older.newer = node.newer

    def victim(self) -> bytes:
        """The key to evict next; it stays in the queue until it is removed."""
        node = self._hand or self._oldest
        assert node is not None, "an empty queue has no victim"
        while node.visited:
            node.visited = False
            node = node.newer or self._oldest
            assert node is not None, "the queue lost its oldest key"
        self._hand = node
        return node.key
