"""Admission to a cache: a small sketch of how often each key was asked for recently."""

import numpy as np

_ROWS = 4


class RecentCounts:
    """Approximate counts of recent keys, as in TinyLFU (Einziger et al., ACM Transactions on Storage 2017).

    Four rows of byte counters; a key's count is the smallest of its four, so between halvings it is never too
    low. After every ``recent`` additions all counts are halved, so a key that came once is forgotten. Memory
    is fixed: 8 to 16 bytes for each of the ``recent`` requests, whatever the number of users.
    """

    def __init__(self, recent: int) -> None:
        self._recent, self._added = recent, 0
        # Two to four counters per row and request, so that few keys share all four; a byte is enough for
        # counts that are compared with small thresholds only.
        self._width = 1 << (2 * recent - 1).bit_length()
        self._rows = [bytearray(self._width) for _ in range(_ROWS)]

    def add(self, key: bytes) -> None:
        """Count one request for a key, which must be a hash of 32 bytes."""
        for row, counter in zip(self._rows, self._counters(key), strict=True):
            row[counter] = min(row[counter] + 1, 255)
        self._added += 1
        if self._added >= self._recent:
            self._halve()

    def count(self, key: bytes) -> int:
        """Recent requests of the key; rarely too high."""
        return min(row[counter] for row, counter in zip(self._rows, self._counters(key), strict=True))

    def _counters(self, key: bytes) -> list[int]:
        """One counter in every row; the key is a hash, so its own bytes are as good as another hash."""
        return [int.from_bytes(key[i * 8 : i * 8 + 8], "little") % self._width for i in range(_ROWS)]

    def _halve(self) -> None:
        self._added = 0
        # In place and without a loop over counters: a hundred thousand of them are halved in microseconds.
        for row in self._rows:
            np.frombuffer(row, np.uint8)[:] >>= 1
