"""Counts of earlier rows with the same key, for logs that do not fit in memory.

The same numbers as `clickscale.data.features.counts_in_memory` gives, in three passes over the disk:

1. every row is a record and asks two questions: the running total just before the newest moment that it may
   see, and just before the oldest. Records and questions are spread over pieces, which are ranges of
   (key, time) from a sample, so a frequent key spreads over as many pieces as it needs;
2. the pieces are read in order, each sorted in memory, with the running total carried from piece to piece;
   answers are spread over ranges of positions;
3. the ranges are read in order: the newest answer minus the oldest answer is the count.

The time of the newest positive is carried like a total. It is of the asked key and within the window if the
count of positives is not 0.

All sums are of integers, so the result does not depend on the sample or on the number of pieces.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_RECORD = np.dtype([("key", "<i8"), ("time", "<i8"), ("first", "i1"), ("second", "<i2")])
_QUESTION = np.dtype([("key", "<i8"), ("time", "<i8"), ("position", "<i8")])
_ANSWER = np.dtype([("position", "<i8"), ("first", "<i8"), ("second", "<i8")])
_ENDS = ("newest", "oldest")
_SAMPLES_PER_PIECE = 64

Keys = Callable[[slice | NDArray[np.int64]], NDArray[np.int64]]
Integers = NDArray[np.int64]


def count_on_disk(
    keys: Keys,
    time: Integers,
    labels: NDArray[np.int8] | None,
    worth: NDArray[np.int16] | None = None,
    *,
    slots: int,
    delay: int,
    window: int,
    memory_rows: int,
    folder: Path,
    newest: bool = False,
    asking: tuple[Keys, Integers] | None = None,
) -> tuple[Integers, Integers]:
    """Count, for every slot of every row, the earlier rows that share its key.

    Args:
        keys: maps rows to their (n, slots) keys >= 0, or -1 for an empty slot.
        time: (rows,) seconds.
        labels: (rows,) int8 in {0, 1, -1}; None to count rows instead of labels.
        worth: (rows,) numbers to sum in place of the positive labels, 0 where a label is unknown.
        delay: seconds after which a label is known.
        window: seconds looked back; 0 is all time.
        memory_rows: approximate number of records in memory at once.
        folder: an existing empty folder; pieces are removed from it, the returned columns stay.
        newest: count positives, and find the time of the newest.
        asking: keys and time of the rows for which the others are counted; the same rows if None.

    Returns:
        Two memory maps, (rows * slots,) int64: rows twice without labels, else known labels and positives,
        or the sum of the worth of the known ones; with ``newest`` positives, and the time of the newest where
        there are any.
    """
    spill = _Spill(folder, _pivots(keys, time, slots, memory_rows))
    step = max(1, memory_rows // (4 * slots))
    ask_keys, ask_time = asking or (keys, time)
    first, last = min(time.min(), ask_time.min()), max(time.max(), ask_time.max())
    back = window or int(last - first) + 1
    for start in range(0, len(time), step):
        rows = slice(start, min(start + step, len(time)))
        found = keys(rows)
        label = None if labels is None else np.where(labels[rows] == 1, 1, -1) if newest else labels[rows]
        _spread(spill, found, time[rows], label, None if worth is None else worth[rows])
        if asking is None:
            _ask(spill, found, time[rows], start * slots, delay, back)
    for start in range(0, len(ask_time), step) if asking is not None else ():
        rows = slice(start, min(start + step, len(ask_time)))
        _ask(spill, ask_keys(rows), ask_time[rows], start * slots, delay, back)
    range_size = max(1, memory_rows // 4)
    _answer(spill, range_size, newest)
    return _gather(folder, len(ask_time) * slots, range_size)


@dataclass(frozen=True)
class _Pivots:
    """Boundaries of the pieces: piece p holds (key, time) from pivot p - 1 on, up to pivot p."""

    key: Integers
    time: Integers

    def piece(self, key: Integers, time: Integers) -> Integers:
        """Find (n,) the piece of each (key, time), compared by key first."""
        if not len(self.key):
            return np.zeros(len(key), np.int64)
        distinct, rank = np.unique(self.key, return_inverse=True)
        rank_below = np.searchsorted(distinct, key)
        equal = distinct[np.minimum(rank_below, len(distinct) - 1)] == key
        # Keys of pivots get odd codes; other keys get even codes and fall between pivots at any time.
        low = int(self.time.min()) - 1
        span = int(self.time.max()) - low + 2
        since = np.clip(time - low, 0, span - 1)
        code = (2 * rank_below + equal) * span + np.where(equal, since, 0)
        pivots = (2 * rank + 1) * span + (self.time - low)
        piece: Integers = np.searchsorted(pivots, code, side="right")
        return piece


def _pivots(keys: Keys, time: Integers, slots: int, memory_rows: int) -> _Pivots:
    """Choose pieces of about equal size from a sample of rows; a piece and its questions fit in memory."""
    pieces = -(-4 * len(time) * slots // memory_rows)
    rows = np.arange(0, len(time), max(1, len(time) // (pieces * _SAMPLES_PER_PIECE)))
    sampled = keys(rows)
    key, moment = sampled.ravel(), np.repeat(time[rows], slots)
    key, moment = key[key >= 0], moment[key >= 0]
    order = np.lexsort((moment, key))
    cuts = order[np.arange(1, pieces) * len(order) // pieces] if len(order) else order
    pairs = np.unique(np.stack([key[cuts], moment[cuts]], axis=1), axis=0)
    return _Pivots(pairs[:, 0], pairs[:, 1])


class _Spill:
    """Records, questions and answers on disk, one file per piece or range of positions."""

    def __init__(self, folder: Path, pivots: _Pivots) -> None:
        self.folder, self.pivots = folder, pivots

    def add(self, kind: str, records: NDArray[np.void], parts: Integers) -> None:
        """Append each record to the file of its part."""
        if not len(records):
            return
        order = np.argsort(parts, kind="stable")
        distinct, starts = np.unique(parts[order], return_index=True)
        for part, chosen in zip(distinct, np.split(records[order], starts[1:]), strict=True):
            with open(self._path(kind, int(part)), "ab") as stream:
                stream.write(chosen.tobytes())

    def read(
        self, kind: str, part: int, dtype: np.dtype[np.void], at_once: int = -1
    ) -> Iterator[NDArray[np.void]]:
        """Yield the records of a part, up to ``at_once`` at a time, then remove its file."""
        path = self._path(kind, part)
        if not os.path.exists(path):
            return
        with open(path, "rb") as stream:
            while len(records := np.fromfile(stream, dtype, at_once)):
                yield records
        os.remove(path)

    def _path(self, kind: str, part: int) -> str:
        """Name the file of a part; as text, since pathlib keeps every name in memory."""
        return os.path.join(self.folder, f"{kind}.{part}")

    def read_all(self, kind: str, part: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """Read all records of a part and remove its file."""
        whole = list(self.read(kind, part, dtype))
        return whole[0] if whole else np.zeros(0, dtype)


def _spread(
    spill: _Spill,
    keys: Integers,
    time: Integers,
    labels: NDArray[np.int8] | None,
    worth: NDArray[np.int16] | None,
) -> None:
    """Write the records of some rows."""
    slots = keys.shape[1]
    slot = np.flatnonzero(keys.ravel() >= 0)
    key, moment = keys.ravel()[slot], time[slot // slots]
    records = np.empty(len(slot), _RECORD)
    records["key"], records["time"] = key, moment
    label = np.ones(len(slot), np.int8) if labels is None else labels[slot // slots]
    records["first"] = label >= 0
    records["second"] = label == 1 if worth is None else worth[slot // slots]
    spill.add("record", records, spill.pivots.piece(key, moment))


def _ask(spill: _Spill, keys: Integers, time: Integers, start: int, delay: int, back: int) -> None:
    """Write the questions of some rows; ``start`` is the position of their first slot."""
    slot = np.flatnonzero(keys.ravel() >= 0)
    key, moment = keys.ravel()[slot], time[slot // keys.shape[1]]
    for end, seconds in zip(_ENDS, (min(delay, back), back), strict=True):
        question = np.empty(len(slot), _QUESTION)
        question["key"], question["time"], question["position"] = key, moment - seconds, start + slot
        spill.add(end, question, spill.pivots.piece(key, question["time"]))


def _answer(spill: _Spill, range_size: int, newest: bool) -> None:
    """Answer the questions of each piece; answers are spread over ranges of ``range_size`` positions."""
    carried = np.zeros(2, np.int64)
    for piece in range(len(spill.pivots.key) + 1):
        records = spill.read_all("record", piece, _RECORD)
        order = np.lexsort((records["time"], records["key"]))
        key, moment = records["key"][order], records["time"][order]
        totals = np.zeros((2, len(records) + 1), np.int64)
        totals[0, 1:], totals[1, 1:] = (
            np.cumsum(records[n][order], dtype=np.int64) for n in ("first", "second")
        )
        totals += carried[:, None]
        if newest:
            totals[1] = _newest(moment, records["first"][order], int(carried[1]))
        carried = totals[:, -1].copy()
        for end in _ENDS:
            # All rows of a key may ask for the same moment, so there may be many more questions than records.
            for question in spill.read(end, piece, _QUESTION, at_once=range_size):
                below = _count_below(key, moment, question["key"], question["time"])
                answer = np.empty(len(question), _ANSWER)
                answer["position"] = question["position"]
                answer["first"], answer["second"] = totals[:, below]
                if newest and end == "oldest":
                    answer["second"] = 0  # a time is no difference
                spill.add(f"{end}.answer", answer, question["position"] // range_size)


def _newest(moment: Integers, positive: Integers, carried: int) -> Integers:
    """(n + 1,) time of the newest positive before each of the n sorted records, and before their end."""
    last = np.maximum.accumulate(np.where(positive, np.arange(len(moment)), -1))
    return np.concatenate(([carried], np.where(last >= 0, moment[last], carried)))


def _count_below(key: Integers, moment: Integers, at_key: Integers, at_moment: Integers) -> Integers:
    """Count the sorted (key, moment) pairs strictly below each asked pair."""
    if not len(key):
        return np.zeros(len(at_key), np.int64)
    distinct, rank = np.unique(key, return_inverse=True)
    low = int(moment.min())
    span = int(moment.max()) - low + 2  # one more: beyond the last moment
    rank_below = np.searchsorted(distinct, at_key)
    equal = distinct[np.minimum(rank_below, len(distinct) - 1)] == at_key
    since = np.where(equal, np.clip(at_moment - low, 0, span - 1), 0)
    return np.searchsorted(rank * span + (moment - low), rank_below * span + since).astype(np.int64)


def _gather(folder: Path, positions: int, range_size: int) -> tuple[Integers, Integers]:
    """Subtract oldest answers from newest; write two flat columns and map them."""
    spill = _Spill(folder, _Pivots(np.zeros(0, np.int64), np.zeros(0, np.int64)))
    paths = [folder / "first.i8", folder / "second.i8"]
    with paths[0].open("wb") as first, paths[1].open("wb") as second:
        for part in range(-(-positions // range_size)):
            begin = part * range_size
            counts = np.zeros((2, min(range_size, positions - begin)), np.int64)
            for sign, end in zip((1, -1), _ENDS, strict=True):
                answer = spill.read_all(f"{end}.answer", part, _ANSWER)
                for row, name in enumerate(("first", "second")):  # a position is answered once per end
                    counts[row, answer["position"] - begin] += sign * answer[name]
            first.write(counts[0].tobytes())
            second.write(counts[1].tobytes())
    columns = tuple(np.memmap(path, np.int64, mode="r", shape=(positions,)) for path in paths)
    return columns[0], columns[1]
