"""The online store over any backend: everything that does not depend on where the records lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from clickscale.errors import InputError, StoreError, unknown
from clickscale.inference.counter_files import Key as RawKey
from clickscale.inference.counter_files import overall_of
from clickscale.inference.shown_candidates import ShownCandidates, read_shown
from clickscale.inference.statistic_counters import read_outcome, statistic_values
from clickscale.serving.store.commits import Commits
from clickscale.serving.store.count_records import (
    CountRecord,
    Group,
    counts_page,
    page_keys,
    read_counts,
)
from clickscale.serving.store.impressions import Counting, open_key
from clickscale.serving.store.paged_rows import Load, Row
from clickscale.serving.store.protocol import Event, Outcome, StoredUser, StoreFacts
from clickscale.serving.store.reading import ReadEvent, Reading
from clickscale.serving.store.records import NOBODY, Backend, Key, Reader, Writer, typed
from clickscale.serving.store.store_meta import BOUND, META, StoreMeta, read_meta
from clickscale.serving.store.user_records import (
    UserRecord,
    digests_in,
    head_key,
    id_keys,
    is_new,
    pages_of,
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
        owner = self.reading.owner(user)
        return self.backend.view(lambda reader: user_before(reader, owner, before, most))

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
        if lacks and "user" not in self.reading.schema.absent:
            time = completed.get("time")
            if isinstance(time, bool) or not isinstance(time, int | float) or time != time:
                raise InputError("time is missing or no number; send seconds since 1970 (UTC).")
            # A behavior in the second of the request is not known strictly before it.
            known = self.user(completed.get("user"), before=_whole(time), most=most)
            if known is not None:
                completed |= {key: getattr(known, key) for key in lacks}
        if self.reading.groups:
            (values,) = self.statistics([completed])
            completed["candidates"] = [
                {**candidate, **{n: v for n, v in found.items() if candidate.get(n) is None}}
                for candidate, found in zip(completed["candidates"], values, strict=True)
            ]
        return completed

    def _statistics(self, reader: Reader, shown: ShownCandidates) -> list[dict[str, float]]:
        """Statistics of the candidates of one request."""
        found: list[dict[str, float]] = [{} for _ in shown.items]
        self._check_whole(reader)
        if self.meta.loaded is not None and shown.time < self.meta.loaded:
            return found
        slots = self.reading.slots(shown)
        sums = _Sums(reader, self.reading, shown.time, slots)
        for statistic in self.reading.schema.statistics:
            group, keys = self.reading.group_of[statistic.name], slots[statistic.by]
            tally = self.reading.tallies[statistic.name]
            overall = sums.overall(tally.label) if statistic.of == "rate" else (0, 0)
            if overall is None:
                continue
            counted = sums.of(group, statistic.name)
            values = statistic_values(statistic, keys, counted, overall).tolist()
            for row, value in enumerate(values):
                if not sums.untold or not any((group.by, key) in sums.untold for key in keys[row]):
                    found[row][statistic.name] = value
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
        return self.commits.run(lambda writer: self._append(writer, read)) if read else []

    def _profiles(self, events: Sequence[Event]) -> dict[bytes, dict[str, Any]]:
        """Profiles of the users of events, where statistics are counted by them."""
        if not self.reading.reads_profile:
            return {}
        owners = list({self.reading.owner(event.user) for event in events})
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
        self.meta = meta

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
                read_outcome(value, label)
            keys.append(open_key(self.reading.owner(outcome.user), self.reading.digest(outcome.impression)))

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
        owners = [self.reading.owner(user) for user, _ in profiles]
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
        self.commits.run(lambda writer: writer.put(_PROBE, b"1"))
        self.backend.view(self._check_whole)

    def close(self) -> None:
        """Let go of files and connections."""
        self.backend.close()


class _Sums:
    """Sums of the keys of one request at its time.

    Attributes:
        untold: ``by`` and key of the records whose sums cannot be told at that time.
    """

    def __init__(
        self,
        reader: Reader,
        reading: Reading,
        time: int,
        slots: Mapping[tuple[str, ...], Sequence[Sequence[RawKey | None]]],
    ) -> None:
        self._reading = reading
        self.untold: set[tuple[tuple[str, ...], RawKey]] = set()
        self._sums: dict[tuple[str, ...], dict[RawKey, list[int]]] = {}
        places = [
            (group, values, group.key(values))
            for group in reading.groups
            for values in {key for row in slots[group.by] for key in row if key is not None}
        ]
        records = [read_counts(record) for record in reader.many(key for _, _, key in places)]
        held = [
            (group, values, key, record)
            for (group, values, key), record in zip(places, records, strict=True)
            if record is not None
        ]
        reader.many(
            page
            for group, _, key, record in held
            if record.rows.pages
            for page in page_keys(key, record.needed_pages(group.tallies, time))
        )
        for group, values, key, record in held:
            self._add(group, values, record, time, _loader(reader, key))

    def _add(self, group: Group, values: RawKey, record: CountRecord, time: int, load: Load) -> None:
        sums = record.at(group.tallies, time, load)
        if sums is None:
            self.untold.add((group.by, values))
        else:
            self._sums.setdefault(group.by, {})[values] = sums

    def of(self, group: Group, name: str) -> dict[RawKey, tuple[int, int]]:
        """Count and sum of a tally by key."""
        place = 2 * group.place[name]
        return {key: (sums[place], sums[place + 1]) for key, sums in self._sums.get(group.by, {}).items()}

    def overall(self, label: str) -> tuple[int, int] | None:
        """Known labels and positives of all impressions; None if they cannot be told."""
        name = overall_of(label)
        group = self._reading.group_of[name]
        return None if (group.by, ()) in self.untold else self.of(group, name).get((), (0, 0))


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
