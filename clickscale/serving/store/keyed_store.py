"""The online store over any backend: everything that does not depend on where the records lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from clickscale.arrays import Ints
from clickscale.errors import InputError, StoreError, unknown
from clickscale.inference.counter_files import tallies_read
from clickscale.inference.shown_candidates import ShownCandidates, read_shown
from clickscale.inference.statistic_counters import read_outcome, statistic_values
from clickscale.schema import newest_of
from clickscale.serving.store.commits import Commits
from clickscale.serving.store.count_records import (
    Group,
    counts_page,
    page_keys,
    read_counts,
)
from clickscale.serving.store.impressions import Counting, open_key
from clickscale.serving.store.paged_rows import Load, Row
from clickscale.serving.store.protocol import Event, Outcome, StoredUser, StoreFacts
from clickscale.serving.store.reading import ReadEvent, Reading
from clickscale.serving.store.store_meta import BOUND, META, StoreMeta, read_meta
from clickscale.serving.store.store_records import NOBODY, Backend, Key, Reader, Writer, typed
from clickscale.serving.store.user_records import (
    UserRecord,
    digests_in,
    head_key,
    id_keys,
    is_new,
    pages_of,
    pages_of_user,
    put_head,
    read_head,
    read_rows,
    user_before,
)

AHEAD = 3600  # seconds by which events may be ahead of this machine's clock
_encode = msgspec.msgpack.Encoder().encode
_PROBE: Key = (NOBODY, b"t")


class KeyedStore:
    """An online store; `clickscale.serving.store.protocol` says what each method does.

    Attributes:
        reading: how its model reads ids and counts.
        commits: writes changes, those of several threads together.
        meta: the record of the store about itself.

    Args:
        bound: behaviors of a user that are kept; None takes that of the store, or the usual one for a new
            store.
        ahead: seconds by which events may be ahead of this machine's clock.

    Raises:
        DataError: the store was made for other ids, labels or statistics.
        StoreError: the backend does not work.
    """

    def __init__(
        self,
        backend: Backend,
        reading: Reading,
        *,
        bound: int | None = None,
        ahead: int = AHEAD,
        commits: Commits | None = None,
    ) -> None:
        self.backend, self.reading, self._ahead = backend, reading, ahead
        self.commits = commits or Commits(backend)
        self.meta = self._opened(bound)

    def _opened(self, bound: int | None) -> StoreMeta:
        """Read the record of the store about itself; write that of a new one."""
        wanted = StoreMeta.of(self.reading.schema, BOUND if bound is None else bound)

        def work(writer: Writer) -> StoreMeta:
            held = read_meta(writer.get(META))
            if held is None:
                held = wanted
                writer.put(META, held.record())
            return held

        held = self.backend.view(lambda reader: read_meta(reader.get(META))) or self.commits.run(work)
        held.check(self.reading.schema)
        if bound is not None and bound != held.bound:
            raise StoreError(
                f"The store keeps {held.bound:,} behaviors of a user and was asked for {bound:,}; leave "
                "behaviors= out of its URL, or load a new store."
            )
        return held

    def for_model(self, reading: Reading) -> "KeyedStore":
        """The same store for another artifact."""
        return KeyedStore(self.backend, reading, ahead=self._ahead, commits=self.commits)

    # --- reading

    def user(self, user: Any, *, before: int, most: int) -> StoredUser | None:
        """A user just before a moment."""
        return self.backend.view(self._wanted(user, before, most).read)

    def _wanted(self, user: Any, before: int, most: int) -> "_WantedUser":
        return _WantedUser(self.reading.owner(user), before, most, self.reading.schema.known_after)

    def items(self, items: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Attributes of items."""
        keys = [self._item_key(item) for item in items]
        records = self.backend.view(lambda reader: reader.many(keys))
        return [None if record is None else msgspec.msgpack.decode(record) for record in records]

    def statistics(self, requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, float]]]:
        """Declared statistics of each candidate."""
        shown = [read_shown(request, self.reading.encoder) for request in requests]
        if not self.reading.groups:
            return [[{} for _ in one.items] for one in shown]
        return self.backend.view(lambda reader: [self._statistics(reader, one) for one in shown])

    def complete(self, request: Mapping[str, Any], *, most: int) -> dict[str, Any]:
        """A request with what it lacks."""
        completed = dict(request)
        lacks = [key for key in ("profile", "behaviors") if completed.get(key) is None]
        wanted = None
        if lacks and "user" not in self.reading.schema.absent:
            time = completed.get("time")
            if isinstance(time, bool) or not isinstance(time, int | float) or time != time:
                raise InputError("time is missing or no number; send seconds since 1970 (UTC).")
            # A behavior in the second of the request is not known strictly before it.
            wanted = self._wanted(completed.get("user"), _whole(time), most)
        # Keys by fields of the profile are known only after the user was read.
        shown = None if self.reading.reads_profile else self._shown(completed)

        def work(reader: Reader) -> tuple[dict[str, Any], list[dict[str, float]]]:
            found: dict[str, Any] = {}
            values = [] if shown is None else self._statistics(reader, shown, wanted)
            if wanted is not None and (known := wanted.read(reader)) is not None:
                found = {key: getattr(known, key) for key in lacks}
            if self.reading.reads_profile and (late := self._shown(completed | found)) is not None:
                values = self._statistics(reader, late)
            return found, values

        found, values = self.backend.view(work)
        completed |= found
        if self.reading.groups:
            completed["candidates"] = [
                {**candidate, **{n: v for n, v in given.items() if candidate.get(n) is None}}
                for candidate, given in zip(completed["candidates"], values, strict=True)
            ]
        return completed

    def _shown(self, request: Mapping[str, Any]) -> ShownCandidates | None:
        """What counting needs of a request; None where nothing is counted."""
        return read_shown(request, self.reading.encoder) if self.reading.groups else None

    def _statistics(
        self, reader: Reader, shown: ShownCandidates, beside: "_WantedUser | None" = None
    ) -> list[dict[str, float]]:
        """Statistics of the candidates of one request.

        Args:
            beside: a user whose records are fetched together with those of the statistics.
        """
        found: list[dict[str, float]] = [{} for _ in shown.items]
        self._check_whole(reader)
        if self.meta.loaded is not None and shown.time < self.meta.loaded:
            return found
        sums = _Sums(reader, self.reading, shown, beside)
        columns: dict[str, list[float]] = {}
        for statistic in self.reading.schema.statistics:
            tally = self.reading.tallies[statistic.name]
            columns[statistic.name] = statistic_values(statistic, tally, sums.of, shown.time).tolist()
        if not columns:
            return found
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        sums.leave_out_untold(found)
        return found

    def _check_whole(self, reader: Reader | Writer) -> None:
        """Refuse a store whose load was not finished."""
        if not self.meta.is_whole:  # it may have been finished since
            self.meta = read_meta(reader.get(META)) or self.meta
        if not self.meta.is_whole:
            raise StoreError(
                "The load of a data set into this store was not finished; run it again: clickscale store load"
            )

    def _item_key(self, item: Any) -> Key:
        return NOBODY, b"i" + typed(self.reading.item(item))

    # --- writing

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Append events."""
        read = self.reading.events(events, self._profiles(events), self._ahead)
        if not read:
            return []
        added = self.commits.run(lambda writer: self._append(writer, read))
        if not self.meta.used:
            self.meta = structs.replace(self.meta, used=True)
        return added

    def _profiles(self, events: Sequence[Event]) -> dict[bytes, dict[str, Any]]:
        """Profiles of the users of events, where statistics are counted by them."""
        if not self.reading.reads_profile:
            return {}
        owners = list({self.reading.owner(one.user, f"events[{n}].user") for n, one in enumerate(events)})
        records = self.backend.view(lambda reader: reader.many([head_key(owner) for owner in owners]))
        heads = [read_head(record) for record in records]
        return {owner: head.profile for owner, head in zip(owners, heads, strict=True) if head is not None}

    def _append(self, writer: Writer, events: Sequence[ReadEvent]) -> list[bool]:
        """Append checked events in one transaction."""
        self._fetch(writer, events)
        self._check_whole(writer)
        if not self.meta.used:
            self._note_use(writer)
        counting = Counting(writer, self.reading)
        heads: dict[bytes, UserRecord] = {}
        added = []
        for event in events:
            fresh, forgotten = is_new(writer, event.owner, event.digest)
            added.append(fresh)
            if not fresh:
                continue
            for digest in digests_in(forgotten):
                if writer.get(key := open_key(event.owner, digest)) is not None:
                    writer.put(key, None)
            if event.row is not None:
                head = heads.get(event.owner) or read_head(writer.get(head_key(event.owner))) or UserRecord()
                heads[event.owner] = head
                head.add(event.row, self.meta.bound, *pages_of(writer, event.owner))
            if event.keys is not None:
                counting.show(event)
        for owner, head in heads.items():
            put_head(writer, owner, head)
        counting.finish()
        return added

    def _note_use(self, writer: Writer) -> None:
        """Note that there are events, into which no data set can be loaded."""
        meta = structs.replace(read_meta(writer.get(META)) or self.meta, used=True)
        writer.put(META, meta.record())

    def _fetch(self, writer: Writer, events: Sequence[ReadEvent]) -> None:
        """Fetch what appending reads in one go."""
        wanted: dict[Key, None] = {META: None} if not self.meta.is_whole else {}
        for event in events:
            wanted.update(dict.fromkeys((*id_keys(event.owner), head_key(event.owner))))
            for name, keys in (event.keys or {}).items():
                group = self.reading.group_of[name]
                wanted.update((group.key(values), None) for values in keys)
        writer.many(wanted)

    def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Tell what became known."""
        known = {label.name for label in self.reading.schema.labels}
        keys = []
        for number, outcome in enumerate(outcomes):
            for label, value in outcome.labels.items():
                if label not in known:
                    raise InputError(f"outcomes[{number}].labels: " + unknown("label", label, known))
                try:
                    read_outcome(value, label)
                except InputError as error:
                    raise InputError(f"outcomes[{number}].{error}") from None
            owner = self.reading.owner(outcome.user, f"outcomes[{number}].user")
            keys.append(open_key(owner, self.reading.digest(outcome.impression)))

        def work(writer: Writer) -> list[bool]:
            self._check_whole(writer)
            writer.many(keys)
            counting = Counting(writer, self.reading)
            told = [counting.settle(k, one.labels) for k, one in zip(keys, outcomes, strict=True)]
            counting.finish()
            return told

        return self.commits.run(work) if outcomes else []

    def put_users(self, profiles: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Replace profiles."""
        owners = [self.reading.owner(user, f"profiles[{n}].user") for n, (user, _) in enumerate(profiles)]
        for number, (user, profile) in enumerate(profiles):
            self.reading.check_profile(user, profile, f"profiles[{number}]")

        def work(writer: Writer) -> None:
            heads = writer.many(head_key(owner) for owner in owners)
            for owner, record, (_, profile) in zip(owners, heads, profiles, strict=True):
                head = read_head(record) or UserRecord()
                head.profile = {name: value for name, value in profile.items() if value is not None}
                put_head(writer, owner, head)

        self.commits.run(work)

    def put_items(self, attributes: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Replace attributes of items."""
        fields = {field.name for field in self.reading.schema.items}
        records = []
        for number, (item, values) in enumerate(attributes):
            for name in values:
                if name not in fields:
                    raise InputError(f"attributes[{number}]: " + unknown("field", name, fields))
            records.append((self._item_key(item), item_record(values)))

        def work(writer: Writer) -> None:
            for key, record in records:
                writer.put(key, record)

        self.commits.run(work)

    def delete_user(self, user: Any) -> bool:
        """Delete everything of a user."""
        owner = self.reading.owner(user)

        def work(writer: Writer) -> bool:
            held = writer.many((head_key(owner), *id_keys(owner)))
            writer.drop(owner)
            return any(record is not None for record in held)

        return self.commits.run(work)

    # --- the store itself

    def facts(self) -> StoreFacts:
        """Size and settings."""
        meta = self.backend.view(lambda reader: read_meta(reader.get(META))) or self.meta
        records, size = self.backend.size()
        return StoreFacts(
            kind=self.backend.kind,
            records=records,
            bytes=size,
            bound=meta.bound,
            loaded=meta.loaded,
            warnings=self.backend.warnings(),
        )

    def check(self) -> None:
        """Read and write a record."""
        self.backend.view(self._check_whole)
        self.commits.run(lambda writer: writer.put(_PROBE, b"1"))

    def close(self) -> None:
        """Let go of files and connections."""
        self.backend.close()


@dataclass(frozen=True)
class _WantedUser:
    """A user just before a moment, to be read."""

    owner: bytes
    before: int
    most: int
    known_after: int

    def pages(self, reader: Reader) -> list[Key]:
        """Keys of the records that `read` reads after the first one."""
        return pages_of_user(reader, self.owner, self.before, self.most)

    def read(self, reader: Reader) -> StoredUser | None:
        """Read it; None if nothing is known."""
        return user_before(reader, self.owner, self.before, self.most, self.known_after)


class _Sums:
    """Sums of the keys of one request at its time.

    Attributes:
        tables: keys of the candidates for each ``by``.

    Args:
        beside: a user whose records are fetched together with those of the keys.
    """

    def __init__(
        self, reader: Reader, reading: Reading, shown: ShownCandidates, beside: "_WantedUser | None" = None
    ) -> None:
        self._reading = reading
        self._lacks_newest = False
        if reading.newest is not None:
            shown = self._with_newest(reader, reading.newest, shown)
        self.tables = reading.tables(shown)
        keys = {g.by: [g.key(values) for values in self.tables[g.by].keys] for g in reading.groups}
        every = [*chain(*keys.values())]
        heads = [] if beside is None else [head_key(beside.owner)]
        read = reader.many([*every, *heads])
        records = {key: read_counts(record) for key, record in zip(every, read[: len(every)], strict=True)}
        pages = [
            page
            for group in reading.groups
            for key in keys[group.by]
            if (record := records[key]) is not None and record.rows.pages
            for page in page_keys(key, record.needed_pages(group.tallies, shown.time))
        ]
        reader.many(pages if beside is None else [*pages, *beside.pages(reader)])
        self._sums: dict[tuple[str, ...], Ints] = {}
        self._untold: dict[tuple[str, ...], list[int]] = {}
        for group in reading.groups:
            nothing = [0] * (2 * len(group.tallies))
            rows: list[list[int]] = []
            for place, key in enumerate(keys[group.by]):
                record, sums = records[key], None
                if record is not None:
                    sums = record.at(group.tallies, shown.time, _loader(reader, key))
                    if sums is None:
                        self._untold.setdefault(group.by, []).append(place)
                rows.append(sums or nothing)
            self._sums[group.by] = np.array(rows, np.int64).reshape(len(rows), len(group.tallies), 2)

    def _with_newest(self, reader: Reader, group: Group, shown: ShownCandidates) -> ShownCandidates:
        """Candidates beside the newest positive of their user, as far as it can be told."""
        key = group.key((shown.user,))
        record = read_counts(reader.get(key))
        if record is None:
            return shown
        sums = record.at(group.tallies, shown.time, _loader(reader, key))
        self._lacks_newest = sums is None
        return shown if sums is None else replace(shown, newest=sums[1])

    def of(self, name: str) -> tuple[Ints, Ints]:
        """(C, slots) places of the keys of a tally, and (K, 2) count and sum by key."""
        group = self._reading.group_of[name]
        return self.tables[group.by].index, self._sums[group.by][:, group.place[name]]

    def leave_out_untold(self, found: list[dict[str, float]]) -> None:
        """Take out the values of candidates with a key whose sums cannot be told."""
        for statistic in self._reading.schema.statistics if self._untold or self._lacks_newest else ():
            label = self._reading.tallies[statistic.name].label
            for name in tallies_read(statistic, label):
                by = self._reading.group_of[name].by
                untold = np.isin(self.tables[by].index, self._untold.get(by, []))
                untold |= self._lacks_newest and any(newest_of(key) for key in by)
                for values, row in zip(found, untold.tolist(), strict=True):
                    if any(row):
                        values.pop(statistic.name, None)


def _loader(reader: Reader, key: Key) -> Load:
    def load(number: int) -> list[Row]:
        return read_rows(reader.get(counts_page(key, number)))

    return load


def item_record(values: Mapping[str, Any]) -> bytes:
    """Attributes of an item as they are stored; vectors as lists of floats."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
        if value is not None
    }
    try:
        return _encode(plain)
    except (OverflowError, UnicodeEncodeError, TypeError) as error:
        raise InputError(f"attributes: a value cannot be stored ({error}).") from error


def _whole(time: float) -> int:
    return int(max(min(time, 1 << 62), -1))
