"""Assembly of records into the columns of a data set: the item table, then users with their timelines.

Users (or items) are processed in buckets that fit in memory; the bytes written do not depend on the number of
buckets. Fields stay raw here, since vocabularies and scales are fitted on the rows that this step keeps.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.columns import NpyWriter, open_column, write_column
from clickscale.data.features.encoder import Vocabulary
from clickscale.data.features.values import MISSING
from clickscale.data.preparation.intake import Intake
from clickscale.data.preparation.negatives import (
    NEVER,
    NegativeSampler,
    add_negatives,
    comes_again,
)
from clickscale.data.preparation.quarantine import EXAMPLES
from clickscale.data.preparation.records import (
    KNOWN_AT,
    RecordFile,
    Records,
    part_records,
    raw_type,
    table_fields,
)
from clickscale.data.preparation.timelines import in_time, repeats, visible_before
from clickscale.data.source import PART, Sampling, TableName
from clickscale.features import FIRST, POSITIVES, column_of, label_of
from clickscale.schema import Schema

_ROW_BYTES = 128  # bytes that one row of ``memory_rows`` means
_Writers = dict[str, NpyWriter]


@dataclass(frozen=True)
class Match:
    """Numbers of users (or items) in the events of a log, in the table that describes them, and in both."""

    events: int
    described: int
    both: int


@dataclass(frozen=True)
class Assembly:
    """Assembly of one preparation's records.

    Attributes:
        out: folder of the unfinished data set, for every column that needs no encoder.
        raw: folder of the raw values of fields: ``raw/TABLE/field.NAME.npy``.
        users, items: all ids, in the order of the tables.
        negatives: number drawn for each positive impression.
        sampling: how they are drawn.
        matches: by ``users`` and ``items``; filled while the tables are written.
    """

    intake: Intake
    out: Path
    raw: Path
    users: Vocabulary
    items: Vocabulary
    negatives: int
    sampling: Sampling
    chunk_rows: int
    memory_rows: int
    matches: dict[TableName, Match] = dataclasses.field(default_factory=dict)

    @property
    def schema(self) -> Schema:
        """Schema of the log."""
        return self.intake.schema

    def write(self, done: Callable[[int], None]) -> None:
        """Write everything; ``done`` gets the number of behaviors and impressions written so far."""
        owned, first_seen = self._census()
        write_column(self.out / "items" / "first_seen.npy", np.where(first_seen == NEVER, -1, first_seen))
        self._write_items(first_seen != NEVER)
        self._write_users(owned, first_seen, done)

    def _census(self) -> tuple[Ints, Ints]:
        """Count the bytes of each user's records, and find the first time of each item in the log."""
        owned = np.zeros(self.users.size - FIRST, np.int64)
        first_seen = np.full(self.items.size, NEVER)
        for table in ("behaviors", "impressions"):
            file = self.intake.files[table]
            for records in file.chunks(self.chunk_rows):
                np.add.at(owned, self.user_of(records), file.dtype.itemsize)
                np.minimum.at(first_seen, self.items.lookup(records["item"]), records["time"])
        return owned, first_seen

    def user_of(self, records: Records) -> Ints:
        """Look up rows of the user table."""
        return self.users.lookup(records["user"]).astype(np.int64) - FIRST

    def item_of(self, records: Records) -> Ints:
        """Look up rows of the item table."""
        return self.items.lookup(records["item"]).astype(np.int64)

    def _deal(self, table: str, bucket: Ints, owner: Callable[[Records], Ints]) -> list[RecordFile]:
        """Deal the records of a table out to the buckets of their owners."""
        file = self.intake.files[table]
        return part_records(
            file, int(bucket[-1]) + 1, lambda records: bucket[owner(records)], self.chunk_rows
        )

    def _write_items(self, in_events: npt.NDArray[np.bool_]) -> None:
        described = np.zeros(self.items.size, bool)
        size = self.intake.files["items"].dtype.itemsize
        bucket = _buckets(np.full(self.items.size, size, np.int64), self.memory_rows)
        parts = self._deal("items", bucket, self.item_of)
        with ExitStack() as stack:
            writers = self.raw_writers("items", stack)
            for file, (first, end) in zip(parts, _spans(bucket), strict=True):
                records = file.read()
                described[self.item_of(records)] = True
                self._write_attributes("items", records, self.item_of(records) - first, end - first, writers)
                file.remove()
        self._match("items", in_events, described)

    def _match(
        self, table: TableName, in_events: npt.NDArray[np.bool_], described: npt.NDArray[np.bool_]
    ) -> None:
        counts = (int(ids.sum()) for ids in (in_events, described, in_events & described))
        self.matches[table] = Match(*counts)

    def _write_users(self, owned: Ints, first_seen: Ints, done: Callable[[int], None]) -> None:
        sampler = self._sampler(first_seen) if self.negatives else None
        once = sampler is not None and not self._repeats()
        bucket = _buckets(owned + self.intake.files["users"].dtype.itemsize, self.memory_rows)
        tables = ("users", "behaviors", "impressions")
        parts = [self._deal(table, bucket, self.user_of) for table in tables]
        finished = 0
        in_events, described = owned > 0, np.zeros(len(owned), bool)
        with ExitStack() as stack:
            profiles = self.raw_writers("users", stack)
            behaviors = _Events(self, "behaviors", "offsets", stack)
            impressions = _Events(self, "impressions", "impressions", stack)
            positives = _Events(self, POSITIVES, POSITIVES, stack) if sampler else None
            for files, (first, end) in zip(zip(*parts, strict=True), _spans(bucket), strict=True):
                users, past, shown = (file.read() for file in files)
                described[self.user_of(users)] = True
                self._write_attributes("users", users, self.user_of(users) - first, end - first, profiles)
                past = self._in_order("behaviors", past, KNOWN_AT)
                behaviors.append(past, self.item_of(past), first, end)
                shown = self._in_order("impressions", shown, "time")
                if positives is not None:
                    own = shown[shown[label_of(self.schema.labels[0].name)] == 1]
                    positives.append(own, self.item_of(own), first, end)
                shown, items = self._with_negatives(shown, sampler, once)
                visible = visible_before(
                    self.user_of(past), past[KNOWN_AT], self.user_of(shown), shown["time"]
                )
                impressions.append(shown, items, first, end, visible=visible)
                finished += len(past) + len(shown)
                for file in files:
                    file.remove()
                done(finished)
        self._match("users", in_events, described)

    def _repeats(self) -> bool:
        """True if users have items again, judged by as many users as make about a million impressions."""
        file = self.intake.files["impressions"]
        every = max(self.intake.quarantine.kept("impressions") // 1_000_000, 1)
        users, items = [], []
        for records in file.chunks(self.chunk_rows):
            user = self.user_of(records)
            users.append(user[user % every == 0])
            items.append(self.item_of(records)[user % every == 0])
        return comes_again(np.concatenate(users), np.concatenate(items)) if users else False

    def _with_negatives(
        self, records: Records, sampler: NegativeSampler | None, once: bool
    ) -> tuple[Records, Ints]:
        """Add negatives to sorted impressions, and return them with their rows of the item table."""
        if sampler is None:
            return records, self.item_of(records)
        labels = [label_of(label.name) for label in self.schema.labels]
        sampled = add_negatives(records, self.item_of(records), sampler, labels, once)
        for reason, left_out in sampled.left_out.items():
            if len(left_out):
                values = [f"time {time}" for time in left_out["time"][:EXAMPLES].tolist()]
                self.intake.quarantine.add("impressions", reason, left_out["row"], "item", values)
        return sampled.records, sampled.item

    def _sampler(self, first_seen: Ints) -> NegativeSampler:
        """Make the sampler of negatives."""
        group = np.zeros(self.items.size, np.int64)
        if self.sampling.within:
            values = open_column(self.raw / "items" / f"{column_of(self.sampling.within)}.npy")
            group = np.unique(values.reshape(len(values), -1)[:, 0], return_inverse=True)[1]
        if self.sampling.by == "uniform":
            return NegativeSampler.uniform(self.negatives, first_seen, group)
        file, label = self.intake.files["impressions"], label_of(self.schema.labels[0].name)

        def positives() -> Iterator[tuple[Ints, Ints]]:
            for records in file.chunks(self.chunk_rows):
                positive = records[records[label] == 1]
                yield self.item_of(positive), positive["time"]

        rows = (self.chunk_rows, self.memory_rows)
        return NegativeSampler.by_popularity(self.negatives, positives, group, file.path.parent, rows)

    def _in_order(self, table: str, records: Records, clock: str) -> Records:
        """Sort by user and by the column ``clock``; rows equal to an earlier one go to quarantine.

        In a log without items, equal rows are of different items that nobody names, so they stay.
        """
        user = self.user_of(records)
        order = in_time(user, records["time"])
        records, user = records[order], user[order]
        again = repeats(records, user)
        if again.any() and "item" not in self.schema.absent:
            repeated = records[again]
            values = [f"time {time}" for time in repeated["time"][:EXAMPLES].tolist()]
            self.intake.quarantine.add(table, "duplicate", repeated["row"], "time", values)
            records, user = records[~again], user[~again]
        return records if clock == "time" else records[in_time(user, records[clock])]

    def raw_writers(self, table: str, stack: ExitStack) -> _Writers:
        """Open a writer of raw values for each field of a table."""
        writers = {}
        for field in table_fields(self.schema, table):
            kind, width = raw_type(field)
            path = self.raw / table / f"{column_of(field.name)}.npy"
            writers[column_of(field.name)] = stack.enter_context(NpyWriter(path, kind, width))
        return writers

    def _write_attributes(
        self, table: str, records: Records, owner: Ints, count: int, writers: _Writers
    ) -> None:
        """Write raw values of ``count`` owners; all records of an owner but the first go to quarantine."""
        described, first = np.unique(owner, return_index=True)
        self._report_doubles(table, records, first)
        for field in table_fields(self.schema, table):
            kind, width = raw_type(field)
            missing: Any = {"categorical": MISSING, "content": 0}.get(field.kind, np.nan)
            values = np.full((count, *width), missing, np.dtype(kind))
            values[described] = records[column_of(field.name)][first]
            writers[column_of(field.name)].append(values)

    def _report_doubles(self, table: str, records: Records, first: Ints) -> None:
        """Quarantine every record of an owner but the first."""
        again = np.setdiff1d(np.arange(len(records)), first)
        if len(again):
            name = table.removesuffix("s")
            values = ["described by an earlier row"] * EXAMPLES
            self.intake.quarantine.add(table, f"duplicate_{name}", records["row"][again], name, values)


class _Events:
    """Writers of behaviors, impressions or positives: final columns, raw columns, and offsets of users."""

    def __init__(self, assembly: Assembly, table: str, offsets: str, stack: ExitStack) -> None:
        schema, folder = assembly.schema, assembly.out / table
        self._assembly = assembly
        kinds = {"time": "i8", "item": "i4"}
        if table != "behaviors":
            kinds |= {"row": "i8", "user": "i4"}
            kinds |= {label_of(label.name): "i1" for label in schema.labels}
        if table == "impressions":
            kinds |= {"visible": "i4"}
            kinds |= {PART: "u1"} if assembly.intake.has_parts else {}
        if table == "behaviors" and assembly.intake.known_at:
            kinds[KNOWN_AT] = "i8"
        self._final = {
            name: stack.enter_context(NpyWriter(folder / f"{name}.npy", kind)) for name, kind in kinds.items()
        }
        self._raw = assembly.raw_writers(table, stack)
        self._offsets = stack.enter_context(NpyWriter(assembly.out / "users" / f"{offsets}.npy", "i8"))
        self._offsets.append(np.zeros(1, np.int64))
        self._rows = 0

    def append(
        self, records: Records, item: Ints, first: int, end: int, visible: npt.NDArray[np.int32] | None = None
    ) -> None:
        """Write the events of users ``first`` to ``end``."""
        user = self._assembly.user_of(records)
        computed = {"item": item, "user": user, "visible": visible}
        for name, writer in self._final.items():
            values = computed.get(name)
            writer.append(records[name] if values is None else values)
        for name, writer in self._raw.items():
            writer.append(records[name])
        ends = np.cumsum(np.bincount(user - first, minlength=end - first)) + self._rows
        self._offsets.append(ends)
        self._rows += len(records)


def _buckets(size: Ints, memory_rows: int) -> Ints:
    """Choose the bucket of each owner, ascending from 0; a bucket holds about as many bytes as memory."""
    before = np.cumsum(size) - size
    bucket = before // (memory_rows * _ROW_BYTES)
    return np.cumsum(np.diff(bucket, prepend=bucket[:1]) > 0)


def _spans(bucket: Ints) -> Iterator[tuple[int, int]]:
    """Yield (first owner, one past the last owner) of each bucket."""
    cuts = np.flatnonzero(np.diff(bucket, prepend=-1))
    for first, end in zip(cuts, np.append(cuts[1:], len(bucket)), strict=True):
        yield int(first), int(end)
