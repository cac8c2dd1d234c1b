"""Counting of impressions, also of those whose outcome becomes known later."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import structs

from clickscale.inference.counter_files import OpenImpression, items_of, overall_of
from clickscale.inference.statistic_counters import surprise
from clickscale.serving.store.count_records import (
    CountRecord,
    Group,
    count_pages,
    fresh,
    read_counts,
)
from clickscale.serving.store.reading import ReadEvent, Reading
from clickscale.serving.store.store_records import Key, Writer, decoded

_OPEN = b"w"
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(OpenImpression)


def open_key(owner: bytes, digest: bytes) -> Key:
    """Key of an impression that waits for an outcome."""
    return owner, _OPEN + digest


class Counting:
    """Counts impressions in one transaction; `finish` writes what it counted."""

    def __init__(self, writer: Writer, reading: Reading) -> None:
        self._writer, self._reading = writer, reading
        self._records: dict[Key, tuple[Group, CountRecord]] = {}

    def show(self, event: ReadEvent) -> None:
        """Count an impression, and keep it until all its outcomes are known."""
        event = self._with_newest(event)
        assert event.keys is not None, "only impressions are counted"
        added: dict[str, tuple[int, Any]] = {
            name: (1, 0) for name, tally in self._reading.tallies.items() if not tally.label
        }
        labels = self._reading.counted
        impression = OpenImpression(
            number=0,
            time=event.time,
            keys={n: keys for n, keys in event.keys.items() if self._reading.tallies[n].label},
            item={n: self._sum(items_of(n), event) for n in labels if items_of(n) in self._reading.tallies},
            overall={n: self._sum(overall_of(n), event) for n in labels},
            labels=labels,
        )
        for label in labels:
            if label in event.outcomes:
                added |= self._of_outcome(impression, label, event.outcomes[label])
        self._add(event.time, event.keys, added)
        rest = tuple(label for label in labels if label not in event.outcomes)
        if rest:
            waiting = structs.replace(impression, labels=rest)
            self._writer.put(open_key(event.owner, event.digest), _encode(waiting))

    def settle(self, key: Key, outcomes: Mapping[str, int]) -> bool:
        """Count outcomes of an earlier impression; False if none of them was open."""
        record = self._writer.get(key)
        if record is None:
            return False
        impression = decoded(record, _decoder, "an impression")
        told = {label: value for label, value in outcomes.items() if label in impression.labels}
        added: dict[str, tuple[int, Any]] = {}
        for label, value in told.items():
            added |= self._of_outcome(impression, label, value)
        self._add(impression.time, impression.keys, added)
        rest = tuple(label for label in impression.labels if label not in told)
        waiting = _encode(structs.replace(impression, labels=rest)) if rest else None
        if told:
            self._writer.put(key, waiting)
        return bool(told)

    def finish(self) -> None:
        """Write the records."""
        for key, (_, record) in self._records.items():
            self._writer.put(key, _encode(record))

    def _with_newest(self, event: ReadEvent) -> ReadEvent:
        """Event with the keys that the newest positive of its user gives, if any read it."""
        group = self._reading.newest
        if group is None or event.keys is None:
            return event
        key = group.key(event.keys[group.tallies[0].name][0])
        _, item = self._sums(key, group, event.time)
        keys = self._reading.keys(dataclasses.replace(event.shown, newest=item))[0]
        return dataclasses.replace(event, keys=keys)

    def _of_outcome(self, impression: OpenImpression, label: str, outcome: int) -> dict[str, tuple[int, Any]]:
        """Contribution of an outcome to each tally that counts it."""
        added: dict[str, tuple[int, Any]] = {}
        for name, tally in self._reading.tallies.items():
            if tally.label != label or (not outcome and tally.positives):
                continue
            added[name] = 1, outcome
            if tally.of == "lift":
                added[name] = 1, surprise(impression, tally, outcome)
            if tally.of == "newest":
                ((_, item),) = impression.keys[name]
                added[name] = 1, item
        return added

    def _sum(self, name: str, event: ReadEvent) -> tuple[int, int]:
        """Count and sum of a tally just before an impression, or as far back as they can be told."""
        assert event.keys is not None, "only impressions are counted"
        group = self._reading.group_of[name]
        sums = self._sums(group.key(event.keys[name][0]), group, event.time)
        place = 2 * group.place[name]
        return sums[place], sums[place + 1]

    def _sums(self, key: Key, group: Group, moment: int) -> list[Any]:
        """Sums of a record just before a moment, or as far back as they can be told."""
        record = self._record(key, group, moment)
        load, _ = count_pages(self._writer, key)
        sums = record.at(group.tallies, max(moment, record.since), load)
        assert sums is not None, "a moment from which sums can be told"
        return sums

    def _add(
        self, time: int, keys: Mapping[str, tuple[tuple[object, ...], ...]], added: dict[str, tuple[int, Any]]
    ) -> None:
        """Add contributions to every key, those of one record together."""
        by_record: dict[Key, tuple[Group, dict[int, tuple[int, Any]]]] = {}
        for name, contribution in added.items():
            group = self._reading.group_of[name]
            for values in keys[name]:
                _, changes = by_record.setdefault(group.key(values), (group, {}))
                changes[group.place[name]] = contribution
        for key, (group, changes) in by_record.items():
            record = self._record(key, group, time)
            load, save = count_pages(self._writer, key)
            record.advance(group.tallies, time, load, save)
            record.count(group.tallies, time, changes, load, save)

    def _record(self, key: Key, group: Group, time: int) -> CountRecord:
        if key not in self._records:
            record = read_counts(self._writer.get(key))
            self._records[key] = group, record or fresh(group.tallies, time)
        return self._records[key][1]
