"""Times of rows whose clock is coarser than their order."""

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints


class RowOrder:
    """Gives the rows of a user times that grow by a second or more, in the order of the file.

    Some logs have a clock that is coarser than their events, but rows in their true order: an earlier row was
    known earlier. A row whose clock goes back keeps its time. Called chunk after chunk.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}  # by user, the time of the last row and its new time

    def __call__(self, user: pa.Array, time: pa.Array) -> pa.Array:
        """Refined times of the next rows; where the time is null it stays null."""
        usable = np.flatnonzero((user.is_valid().to_numpy(False)) & (time.is_valid().to_numpy(False)))
        coded = user.take(pa.array(usable)).cast(pa.string()).dictionary_encode()
        names = coded.dictionary.to_pylist()
        codes = coded.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        codes, clock = codes[order], time.take(pa.array(usable[order])).cast(pa.int64()).to_numpy(False)
        refined = self._refined(names, codes, clock)
        result = time.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).copy()
        result[usable[order]] = refined
        return pa.array(result, mask=time.is_null().to_numpy(False))

    def _refined(self, names: list[str], codes: Ints, clock: Ints) -> Ints:
        """Refine times (N,) of rows by user, each user's in order."""
        if not len(codes):
            return clock
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        wanted = clock.copy()
        for start in starts.tolist():  # a user's rows go on from the last one, unless the clock went back
            seen, new = self._last.get(names[codes[start]], (None, 0))
            if seen is not None and seen <= clock[start]:
                wanted[start] = max(clock[start], new + 1)
        begins = np.r_[False, clock[1:] < clock[:-1]]
        begins[starts] = True
        run = np.cumsum(begins) - 1
        row = np.arange(len(clock)) - np.flatnonzero(begins)[run]
        # Within a run, the largest time less its row so far, plus the row. Ranks keep the runs apart.
        values, rank = np.unique(wanted - row, return_inverse=True)
        ahead = np.maximum.accumulate(rank + run * len(values)) - run * len(values)
        refined: Ints = values[ahead] + row
        for last in [*(starts[1:] - 1).tolist(), len(clock) - 1]:
            self._last[names[codes[last]]] = (int(clock[last]), int(refined[last]))
        return refined
