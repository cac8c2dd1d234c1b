"""Bulk load of a prepared data set: everything that happened before a moment.

What becomes known of it later, such as the feedback of a behavior or the outcome of an impression, is loaded
as well. Reads show it from then on, as if it had arrived meanwhile.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
from msgspec import structs

from clickscale.arrays import Progress
from clickscale.data.dataset import Dataset
from clickscale.data.layout import MANIFEST
from clickscale.data.source import PARTS
from clickscale.errors import DataError, StoreError
from clickscale.features import FIRST, column_of
from clickscale.files import checksum
from clickscale.inference.counter_export import export_counters
from clickscale.inference.replay import Replay, raw_value
from clickscale.schema import Field
from clickscale.serving.store.count_records import (
    CountRecord,
    Group,
    count_pages,
    fresh,
    owner_of,
    read_counts,
)
from clickscale.serving.store.keyed_store import KeyedStore, item_record
from clickscale.serving.store.paged_rows import Row
from clickscale.serving.store.store_meta import META, Loading, StoreMeta, read_meta
from clickscale.serving.store.store_records import NOBODY, Key, Writer, typed
from clickscale.serving.store.user_records import put_loaded

_ITEMS, _USERS, _COUNTS = 2_000, 200, 5_000  # of one transaction
_STAGES = ("items", "users", "counts", "done")
_encode = msgspec.msgpack.Encoder().encode

_LATEST = 10**11  # seconds since 1970, in the year 5138; milliseconds are more


def moment_of(dataset: Dataset, before: str = "") -> int:
    """Find the moment before which everything is loaded.

    From this moment on statistics can be told, so it lies just behind the log: what happened in it may become
    known days later.

    Args:
        before: ``valid`` or ``test`` for the first impression of that part, seconds since 1970, or empty for
            the end of the log.

    Raises:
        DataError: the text is no moment, or the part is empty.
    """
    time = dataset.impressions["time"]
    if not before:
        return max(int(time.max(initial=-1)), int(dataset.behaviors["time"].max(initial=-1))) + 1
    if before.isdecimal() and int(before) < _LATEST:
        return int(before)
    if before not in PARTS[1:]:
        raise DataError(
            f"{before!r} is no moment; give seconds (not milliseconds) since 1970, valid or test."
        )
    rows = dataset.part(before)
    if not len(rows):
        raise DataError(f"The part {before} of {dataset.path} is empty; give another moment.")
    return int(time[rows].min())


def load_dataset(store: KeyedStore, dataset: Dataset, moment: int, progress: Progress | None = None) -> bool:
    """Write items, profiles, timelines and counters as they were just before a moment.

    A load that was interrupted goes on where it stopped. Until it is finished the store refuses to be used.

    Args:
        progress: called with (stage, done, to do).

    Returns:
        False if the same load was finished before, and nothing was done.

    Raises:
        StoreError: the store holds events or another data set.
        DataError: a field of a profile or behavior is hashed, so that its raw values are not kept.
    """
    wanted = Loading(data=checksum(dataset.path / MANIFEST), moment=moment)
    load = _Load(store, dataset, store.commits.run(lambda writer: _begin(writer, store, wanted)), progress)
    if load.at.stage == "done":
        return False
    load.items()
    load.users()
    load.counts()
    return True


def _begin(writer: Writer, store: KeyedStore, wanted: Loading) -> Loading:
    """Begin a load, or find where it stopped."""
    meta = read_meta(writer.get(META)) or store.meta
    held = meta.loading
    if held is not None and (held.data, held.moment) != (wanted.data, wanted.moment):
        raise StoreError(
            f"The store holds another data set, or the same one before {held.moment} instead of "
            f"{wanted.moment}; load into a new store."
        )
    if held is None and meta.used:
        raise StoreError("The store holds events already; load the data set into a new store.")
    if held is None:
        _note(writer, store, meta, wanted)
    return held or wanted


def _note(writer: Writer, store: KeyedStore, meta: StoreMeta, loading: Loading) -> None:
    store.meta = structs.replace(meta, loading=loading)
    writer.put(META, store.meta.record())


class _Load:
    """The stages of a load.

    Attributes:
        at: how far it is.
    """

    def __init__(self, store: KeyedStore, dataset: Dataset, at: Loading, progress: Progress | None) -> None:
        self._store, self._dataset, self.at = store, dataset, at
        self._replay, self._schema = Replay(dataset), dataset.schema
        self._progress = progress

    def items(self) -> None:
        """Write the attributes of items."""
        if "item" in self._schema.absent:
            self._stage("items", 0, 0, lambda rows: _nothing)
            return
        fields = [field for field in self._schema.items if field.vocabulary != "hash"]
        ids, columns = self._replay.items, self._dataset.items

        def work(rows: range) -> Callable[[Writer], None]:
            records: dict[Key, bytes | None] = {}
            for row in rows:
                raw = {
                    f.name: _attribute(self._replay, f, columns[column_of(f.name)][row + FIRST])
                    for f in fields
                }
                records[NOBODY, b"i" + typed(ids[row].as_py())] = item_record(raw)
            return partial(_put, records=records)

        self._stage("items", len(ids), _ITEMS, work)

    def users(self) -> None:
        """Write profiles and timelines."""
        users = 0 if "user" in self._schema.absent else len(self._replay.users)
        offsets, time = self._dataset.users["offsets"], self._dataset.behaviors["time"]

        def user(row: int) -> tuple[bytes, dict[str, Any], list[Row], int]:
            first, end = int(offsets[row]), int(offsets[row + 1])
            rows = first + np.flatnonzero(time[first:end] < self.at.moment)
            kept = rows[-self._store.meta.bound :]
            owner = owner_of(self._replay.users[row].as_py())
            behaviors = [self._row(at) for at in kept.tolist()]
            return owner, self._replay.profile(row), behaviors, len(rows) - len(kept)

        def work(rows: range) -> Callable[[Writer], None]:
            return partial(_put_users, users=[user(row) for row in rows])

        self._stage("users", users, _USERS, work)

    def _row(self, at: int) -> Row:
        """Return a behavior as a timeline keeps it."""
        behavior = self._replay.behavior(at)
        time, item = behavior.pop("time"), behavior.pop("item", None)
        return [behavior.pop("known_at", time), time, item, behavior]

    def counts(self) -> None:
        """Write the counters of the statistics."""
        if not self._schema.statistics:
            self._stage("counts", 0, 0, lambda rows: _nothing)
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "counters.parquet"
            export_counters(self._dataset, path, str(self.at.moment))
            with pq.ParquetFile(path) as file:
                pieces = self._pieces(file)
                rows = file.metadata.num_rows
                self._stage("counts", rows, _COUNTS, lambda _: partial(self._count, rows=next(pieces, ())))

    def _pieces(self, file: pq.ParquetFile) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Yield the rows that are not written yet, as many as go into one transaction."""
        skip = self.at.position if self.at.stage == "counts" else 0
        rows = (
            row
            for batch in file.iter_batches(batch_size=1 << 14)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        for _ in range(skip):
            next(rows)
        while piece := list(islice(rows, _COUNTS)):
            yield piece

    def _count(self, writer: Writer, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add contributions (`clickscale.inference.counter_files`) to the records of their keys."""
        reading = self._store.reading
        values = [tuple(json.loads(row[1])) for row in rows]
        keys = [reading.group_of[row[0]].key(key) for row, key in zip(rows, values, strict=True)]
        held = dict(zip(keys, map(read_counts, writer.many(keys)), strict=True))
        for key, raw, (name, _, time, _, count, total) in zip(keys, values, rows, strict=True):
            group = reading.group_of[name]
            if group.is_newest:
                _, total = raw
            record = held[key]
            if record is None:
                record = held[key] = fresh(group.tallies, self.at.moment, self.at.moment)
            _contribute(writer, key, record, group, name, time, count, total)
        for key, record in held.items():
            writer.put(key, _encode(record))

    def _stage(
        self, name: str, total: int, together: int, work: Callable[[range], Callable[[Writer], None]]
    ) -> None:
        """Write what a stage lacks, piece by piece, each with a note of how far the load is.

        Args:
            together: rows of one transaction.
            work: reads rows and makes what writes them; a transaction may run it several times.
        """
        if _STAGES.index(self.at.stage) > _STAGES.index(name):
            return
        if self.at.stage != name:
            self.at = structs.replace(self.at, stage=name, position=0)
        while True:
            rows = range(self.at.position, min(self.at.position + together, total))
            done = rows.stop >= total
            following = _STAGES[_STAGES.index(name) + 1]
            after = structs.replace(
                self.at, stage=following if done else name, position=0 if done else rows.stop
            )
            write = work(rows)

            def both(writer: Writer, write: Callable[[Writer], None] = write, after: Loading = after) -> None:
                write(writer)
                _note(writer, self._store, self._store.meta, after)

            self._store.commits.run(both)
            self.at = after
            if self._progress is not None:
                self._progress(name, rows.stop, total)
            if done:
                return


def _nothing(writer: Writer) -> None:
    """Write the records of a log without the stage's rows."""


def _put(writer: Writer, records: dict[Key, bytes | None]) -> None:
    for key, record in records.items():
        writer.put(key, record)


def _put_users(writer: Writer, users: Sequence[tuple[bytes, dict[str, Any], list[Row], int]]) -> None:
    for owner, profile, behaviors, dropped in users:
        put_loaded(writer, owner, profile, behaviors, dropped)


def _contribute(
    writer: Writer, key: Key, record: CountRecord, group: Group, name: str, time: int | None, *counted: Any
) -> None:
    """Add one contribution; one without a time is part of the sums already."""
    place, (count, total) = group.place[name], counted
    if time is None:
        record.settled[2 * place] += count
        record.settled[2 * place + 1] += total
        return

    load, save = count_pages(writer, key)
    record.count(group.tallies, time, {place: (count, total)}, load, save)


def _attribute(replay: Replay, field: Field, value: Any) -> Any:
    """Return the raw value of an attribute; None if it is missing."""
    if field.kind == "content":
        return [float(one) for one in value] if np.any(value) else None
    return raw_value(replay.encoder, field, value)
