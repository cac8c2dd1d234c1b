"""Counters of a prepared data set at one moment, from which its statistics can be continued exactly.

The file and its meaning are described in `clickscale.inference.counter_files`. Memory is bounded by a
piece of the log and by the distinct keys of one statistic; surprises of lifts are kept on disk.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.dataset import Dataset
from clickscale.data.features.statistics import ImpressionLog, LogCounter
from clickscale.data.source import PARTS
from clickscale.errors import DataError
from clickscale.features import FIRST
from clickscale.inference.counter_files import (
    CountersHead,
    Tally,
    contribution_rows,
    raw_of_index,
    tallies_of,
    write_counters,
)
from clickscale.inference.replay import raw_ids
from clickscale.schema import newest_of

_PIECE = 1 << 20  # keys of impressions that are summed at a time
_LATEST = 10**11  # seconds since 1970, in the year 5138; milliseconds are more
_SETTLED = np.iinfo(np.int64).min  # time and due of what no longer depends on them


def _moment_of(dataset: Dataset, before: str = "") -> int:
    """The first second that is not counted.

    Args:
        before: ``valid`` or ``test`` for the start of that part, seconds since 1970, or empty: after the log.

    Raises:
        DataError: the split has no common start of its parts, or the text is no moment.
    """
    time = dataset.impressions["time"]
    after = int(time.max(initial=-1)) + 1
    if not before:
        return after
    if before.isdecimal() and int(before) < _LATEST:
        return int(before)
    if before not in PARTS[1:]:
        raise DataError(
            f"{before!r} is no moment; give seconds (not milliseconds) since 1970, valid or test."
        )
    if dataset.split.is_by_user or dataset.split.is_given:
        raise DataError(
            f"The split {dataset.split.kind!r} of {dataset.path} has no moment at which {before} begins "
            "for all; give seconds since 1970, or leave --before out to count the whole log."
        )
    return min(int(dataset.boundaries[PARTS[1:].index(before)]), after)  # an empty part begins after the log


def export_counters(dataset: Dataset, out: Path, before: str = "") -> CountersHead:
    """Write the counters of a data set at a moment (see `_moment_of`), whole or not at all.

    Raises:
        DataError: the data set declares no statistics, or there is no such moment.
    """
    if not dataset.schema.statistics:
        raise DataError(f"{dataset.path} declares no statistics, so there is nothing to continue.")
    moment = _moment_of(dataset, before)
    head = CountersHead(moment=moment, statistics=dataset.schema.statistics, labels=dataset.schema.labels)
    scratch = out.with_name(f"{out.name}.scratch")
    try:
        write_counters(out, head, _pieces(dataset, moment, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return head


def _pieces(dataset: Dataset, moment: int, scratch: Path) -> Iterator[Any]:
    """Rows of the file, tally after tally."""
    log = ImpressionLog(dataset.path, dataset.schema)
    counter = LogCounter(log, _PIECE, scratch)
    labels = {label.name: label for label in dataset.schema.labels}
    names = _RawKeys(dataset, log)
    for tally in tallies_of(dataset.schema).values():
        if tally.of == "newest":
            yield from _newest_positives(log.counted, tally, moment, names)
            continue
        worth = counter.surprises(labels[tally.label], tally.prior) if tally.of == "lift" else None
        sums = _Sums()
        for part in _contributions(log.counted, tally, worth, moment):
            sums.add(part)
        key, time, due, count, total = sums.merged()
        for start in range(0, len(key), _PIECE):
            rows = slice(start, start + _PIECE)
            moments = (
                [None if t == _SETTLED else t for t in column[rows].tolist()] for column in (time, due)
            )
            counted = (count[rows].tolist(), total[rows].tolist())
            columns = (names.keys(tally.by, key[rows]), *moments, *counted)
            yield contribution_rows(tally.name, list(zip(*columns, strict=True)))


def _newest_positives(
    log: ImpressionLog, tally: Tally, moment: int, names: "_RawKeys"
) -> Iterator[pa.RecordBatch]:
    """Yield the newest positive of each user, and those that are not due.

    Where a piece ends within the rows of a user, an older one may be there as well.
    """
    outcome = log.label(tally.label)
    for start in range(0, len(log), _PIECE):
        piece = slice(start, start + _PIECE)
        rows = start + np.flatnonzero((outcome[piece] == 1) & (log.time[piece] < moment))
        keys = log.keys(tally.by, rows)[:, 0]
        user, item = log.parts_of(tally.by, keys)
        order = np.lexsort((item, log.time[rows], user))
        rows, keys, user = rows[order], keys[order], user[order]
        due = log.time[rows] + tally.delay
        is_newest = np.ones(len(rows), bool)
        is_newest[:-1] = (user[1:] != user[:-1]) | (due[1:] >= moment)
        time, due = log.time[rows[is_newest]].tolist(), due[is_newest].tolist()
        counted = [1] * len(time)
        columns = (names.keys(tally.by, keys[is_newest]), time, due, counted, counted)
        yield contribution_rows(tally.name, list(zip(*columns, strict=True)))


def _contributions(log: ImpressionLog, tally: Tally, worth: Any, moment: int) -> Iterator[Ints]:
    """Yield (5, n) key, time, due, count and sum of the events before the moment."""
    outcome = log.label(tally.label) if tally.label else None
    step = max(1, _PIECE // log.slots(tally.by))
    for start in range(0, len(log), step):
        time = log.time[start : start + step]
        counted = time < moment
        if tally.window:
            counted &= time >= moment - tally.window
        if outcome is not None:
            counted &= outcome[start : start + step] >= (1 if tally.positives else 0)
        rows = start + np.flatnonzero(counted)
        keys = log.keys(tally.by, rows)
        there = keys >= 0
        row = rows[np.nonzero(there)[0]]
        time = log.time[row]
        due = time + tally.delay
        if not tally.window:
            settled = due < moment
            time, due = np.where(settled, _SETTLED, time), np.where(settled, _SETTLED, due)
        total = np.zeros(len(row), np.int64)
        if outcome is not None:
            total = (outcome[row] if worth is None else worth[row]).astype(np.int64)
        yield np.stack([keys[there], time, due, np.ones(len(row), np.int64), total])


class _Sums:
    """Contributions by key and moment, summed piece by piece."""

    def __init__(self) -> None:
        self._merged = np.zeros((5, 0), np.int64)
        self._waiting: list[Ints] = []

    def add(self, part: Ints) -> None:
        """Add (5, n) contributions."""
        self._waiting.append(_summed(part))
        if sum(piece.shape[1] for piece in self._waiting) > max(_PIECE, self._merged.shape[1]):
            self.merged()

    def merged(self) -> Ints:
        """(5, n) one contribution for each key and moment, in order."""
        self._merged = _summed(np.concatenate([self._merged, *self._waiting], axis=1))
        self._waiting = []
        return self._merged


def _summed(part: Ints) -> Ints:
    """Sum the contributions (5, n) of equal key, time and due."""
    order = np.lexsort(part[2::-1])
    part = part[:, order]
    first = np.ones(part.shape[1], bool)
    first[1:] = (part[:3, 1:] != part[:3, :-1]).any(axis=0)
    starts = np.flatnonzero(first)
    if not len(starts):
        return part
    return np.concatenate([part[:3, starts], np.add.reduceat(part[3:], starts, axis=1)])


class _RawKeys:
    """Keys of a log as lists of raw values."""

    def __init__(self, dataset: Dataset, log: ImpressionLog) -> None:
        self._dataset, self._log = dataset, log
        self._users = raw_ids(dataset.users)
        self._items: pa.Array = dataset.encoder.item_rows.values

    def keys(self, by: tuple[str, ...], keys: Ints) -> list[tuple[Any, ...]]:
        """Raw values of each key, in the order of ``by``."""
        columns = [
            self._values(name, part) for name, part in zip(by, self._log.parts_of(by, keys), strict=True)
        ]
        return list(zip(*columns, strict=True)) if columns else [()] * len(keys)

    def _values(self, name: str, indices: Ints) -> list[Any]:
        schema = self._dataset.schema
        name = newest_of(name) or name
        if name in ("user", schema.user.name):
            return list(self._users.take(indices).to_pylist())
        if name in ("item", schema.item.name):
            return list(self._items.take(indices - FIRST).to_pylist())
        if schema.keys_hour(name):
            return list(indices.tolist())
        raw = raw_of_index(self._dataset.encoder, name)
        return [raw(index) for index in indices.tolist()]
