"""How an artifact reads what goes through a store: ids, events, and the keys by which it counts."""

import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from clickscale.arrays import Array
from clickscale.artifact import Artifact
from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.errors import InputError, unknown
from clickscale.files import sha256_of
from clickscale.inference.counter_files import Key, overall_of, tallies_of
from clickscale.inference.request_ids import check_id, one_id, short
from clickscale.inference.requests import encode_requests, user_identity
from clickscale.inference.shown_candidates import (
    KeyTable,
    ShownCandidates,
    StatisticKeys,
    plain_ids,
    read_all_shown,
)
from clickscale.inference.statistic_counters import read_outcome
from clickscale.schema import Field, Label
from clickscale.serving.store.count_records import groups_of, owner_of
from clickscale.serving.store.paged_rows import Row
from clickscale.serving.store.protocol import Event

_LONGEST_ID = 256  # characters of the id of an event
_LARGEST = 16 << 10  # bytes of one behavior
_encode = msgspec.msgpack.Encoder().encode
Keys = dict[str, tuple[Key, ...]]  # of one impression, by tally


@dataclass(frozen=True)
class ReadEvent:
    """A checked event.

    Attributes:
        digest: stands for its id.
        row: its behavior as a timeline keeps it; None without one.
        keys: by which it is counted; None for an event that is not counted.
        shown: the event as a request shows it, from which keys follow that read the newest positive.
        outcomes: known labels.
    """

    owner: bytes
    digest: bytes
    time: int
    row: Row | None
    keys: Keys | None
    shown: ShownCandidates
    outcomes: dict[str, int]


class Reading:
    """Ids, events and requests as one encoder reads them.

    Args:
        encoder, items: of an artifact or data set: its schema, vocabularies and item columns.
    """

    def __init__(self, encoder: Encoder, items: Mapping[str, Array]) -> None:
        self.encoder, self.schema = encoder, encoder.schema
        self.tallies = tallies_of(self.schema)
        self._every_group = groups_of(self.tallies, self.schema.user.name)
        self.group_of = {tally.name: group for group in self._every_group for tally in group.tallies}
        # Those of the statistics, and that of the newest positives which their keys read.
        self.groups = tuple(group for group in self._every_group if not group.is_newest)
        self.newest = next((group for group in self._every_group if group.is_newest), None)
        # Labels whose outcomes are counted by something.
        self.counted = tuple(
            label.name for label in self.schema.labels if overall_of(label.name) in self.tallies
        )
        profile = {field.name for field in self.schema.profile}
        self.reads_profile = any(name in profile for group in self.groups for name in group.by)
        self._keys = StatisticKeys(encoder, items)

    @classmethod
    def of(cls, artifact: Artifact) -> "Reading":
        """Read as an artifact does."""
        return cls(artifact.encoder, artifact.item_columns())

    @classmethod
    def of_data(cls, dataset: Dataset) -> "Reading":
        """Read as the artifacts that are trained on a data set."""
        return cls(dataset.encoder, dataset.item_columns())

    # --- ids

    def user(self, raw: Any, path: str = "user") -> int | str:
        """Return the id of a user as the encoder reads it.

        Args:
            path: of the id, for messages.

        Raises:
            InputError: the value cannot be an id.
        """
        if "user" in self.schema.absent:
            return 0
        user_identity(raw, self.encoder, path)  # refuses what is no id
        return _plain(raw, self.schema.user, path)

    def owner(self, raw: Any, path: str = "user") -> bytes:
        """Owner of the records of a user."""
        return owner_of(self.user(raw, path))

    def item(self, raw: Any) -> int | str:
        """Return the id of an item as the encoder reads it.

        Raises:
            InputError: the value cannot be an id.
        """
        if "item" in self.schema.absent:
            return 0
        return _plain(raw, self.schema.item, "item")

    @staticmethod
    def digest(event: str) -> bytes:
        """Short text that stands for the id of an event of a user."""
        return bytes.fromhex(sha256_of([event.encode("utf-8", "surrogatepass")]))[:8]

    def check_profile(self, user: Any, profile: Mapping[str, Any], path: str) -> None:
        """Refuse a profile that no request could bring.

        Raises:
            InputError: names the first wrong value.
        """
        bare = {field.name for field in self.schema.profile}
        for name in profile:
            if name not in bare:
                raise InputError(f"{path}: " + unknown("field", name, bare))
        candidate = {} if "item" in self.schema.absent else {"item": 0}
        shown = {"time": 0, "user": user, "profile": dict(profile), "candidates": [candidate]}
        try:
            encode_requests([shown], self.encoder, 1)
            _encode(dict(profile))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (OverflowError, UnicodeEncodeError, TypeError) as error:
            raise InputError(f"{path}: a value cannot be stored ({error}).") from error

    # --- events

    def events(
        self, events: Sequence[Event], profiles: Mapping[bytes, Mapping[str, Any]], ahead: int
    ) -> list[ReadEvent]:
        """Check events.

        Args:
            profiles: of their users by owner, where statistics are counted by them.
            ahead: seconds by which events may be ahead of this machine's clock.

        Raises:
            InputError: names the first wrong value.
        """
        if not events:
            return []
        try:
            return self._events(events, profiles, ahead)
        except InputError as error:
            for number, event in enumerate(events):  # walked one by one only to name the mistake
                self._event(event, profiles, ahead, f"events[{number}]")
            raise error  # together they are wrong, and none of them is on its own

    def _event(
        self, event: Event, profiles: Mapping[bytes, Mapping[str, Any]], ahead: int, path: str
    ) -> None:
        """Check one event, to name its mistake."""
        try:
            self._events([event], profiles, ahead)
        except InputError as error:
            text = str(error)
            for sent, there in _PLACES:
                text = text.replace(sent, there)
            raise InputError(f"{path}.{text}") from None

    def _events(
        self, events: Sequence[Event], profiles: Mapping[bytes, Mapping[str, Any]], ahead: int
    ) -> list[ReadEvent]:
        latest = int(clock.time()) + ahead
        for event in events:
            self._check(event, latest)
        requests = [self._request(event, profiles.get(self.owner(event.user), {})) for event in events]
        shown = read_all_shown(requests, self.encoder)
        return [self._read(event, one) for event, one in zip(events, shown, strict=True)]

    def _check(self, event: Event, latest: int) -> None:
        """Refuse what the check of requests does not look at."""
        name: Any = event.id  # nothing checks the fields of an event that a program makes
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID:
            raise InputError(f"id is {short(name)}; send a text of 1 to {_LONGEST_ID} characters.")
        if _is_number(event.time) and event.time > latest:
            raise InputError(f"time is {event.time}, ahead of the clock of this machine.")
        _check_keys(event.labels, "labels", self.schema.labels)
        behavior = self._behavior(event)
        if behavior and "user" in self.schema.absent:
            raise InputError("behavior: the log of this model has no users and no histories; leave it out.")
        _check_keys(behavior, "behavior", self.schema.behavior)
        _check_keys(event.context or {}, "context", self.schema.sent_fields())
        for label, value in (event.labels or {}).items():
            if value is not None:
                read_outcome(value, label)

    def _request(self, event: Event, profile: Mapping[str, Any]) -> dict[str, Any]:
        """Write an event as a request that shows its item, so that one check and one encoder serve both."""
        item = {} if event.item is None and "item" in self.schema.absent else {"item": event.item}
        request: dict[str, Any] = {"time": event.time, "candidates": [{**item, **(event.context or {})}]}
        if "user" in self.schema.absent:
            return request if event.user is None else {**request, "user": event.user}
        request |= {"user": event.user, "profile": dict(profile)}
        if (behavior := self._behavior(event)) is not None:
            row = {**item, "time": event.time, "known_at": event.known_at, **behavior}
            request["behaviors"] = [row]
            if _is_number(known := self._known_at(event)):
                request["time"] = known + 1  # so that the behavior is seen, and its fields are checked
        return request

    def _behavior(self, event: Event) -> dict[str, Any] | None:
        """Find the fields of a behavior; one that is left out is told by the labels, where they tell it."""
        if not isinstance(event.behavior, msgspec.UnsetType):
            return event.behavior
        chosen = self.schema.behavior_label
        left_out = self.schema.has_own_behaviors or (chosen and (event.labels or {}).get(chosen) != 1)
        return None if left_out and event.labels is not None else {}

    def _known_at(self, event: Event) -> Any:
        """Find the moment from which a history shows an event; anything that is no number was sent so."""
        told = event.known_at is not None or not _is_number(event.time)
        return event.known_at if told else event.time + self.schema.known_after

    def _read(self, event: Event, shown: ShownCandidates) -> ReadEvent:
        time = int(event.time)
        row: Row | None = None
        if (behavior := self._behavior(event)) is not None and "user" not in self.schema.absent:
            known = int(self._known_at(event))
            item = None if "item" in self.schema.absent else shown.items[0]
            fields = {name: value for name, value in behavior.items() if value is not None}
            row = [known, time, item, fields]
        counted = event.labels is not None and bool(self.groups)
        outcomes = {name: value for name, value in (event.labels or {}).items() if value is not None}
        read = ReadEvent(
            owner=owner_of(shown.user),
            digest=self.digest(event.id),
            time=time,
            row=row,
            keys=self.keys(shown)[0] if counted else None,
            shown=shown,
            outcomes=outcomes,
        )
        _check_storable(read)
        return read

    def keys(self, shown: ShownCandidates) -> list[Keys]:
        """Keys of each candidate by tally."""
        found: list[Keys] = [{} for _ in shown.items]
        for group in self._every_group:
            table = self._keys.of(group.by, shown)
            for row, keys in enumerate(found):
                there = table.of(row)
                keys.update((tally.name, there) for tally in group.tallies)
        return found

    def tables(self, shown: ShownCandidates) -> dict[tuple[str, ...], KeyTable]:
        """Keys of the candidates, for each ``by`` of the statistics."""
        return {group.by: self._keys.of(group.by, shown) for group in self.groups}


# Where a request holds what an event holds.
_PLACES = (
    ("candidates[0].item", "item"),
    ("candidates[0]", "context"),
    ("behaviors[0].item", "item"),
    ("behaviors[0].time", "time"),
    ("behaviors[0].known_at", "known_at"),
    ("behaviors[0]", "behavior"),
)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(raw: Any, field: Field, path: str) -> int | str:
    """Return a raw id as the encoder reads it."""
    raw = one_id(raw, field, path)
    check_id(raw, path)
    try:
        (plain,) = plain_ids([raw], field.dtype)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is {short(raw)}, which is no {field.dtype}.") from error
    if isinstance(plain, int) and not 0 <= plain < 1 << 63:
        raise InputError(f"{path} is {short(raw)}; ids are integers from 0 on that fit in 63 bits.")
    return plain


def _check_keys(values: Any, path: str, fields: Sequence[Field | Label]) -> None:
    """Refuse what is no object, and keys that mean nothing there."""
    if values is None:
        return
    if not isinstance(values, Mapping):
        raise InputError(f"{path} is {short(values)}; send an object.")
    names = [field.name for field in fields]
    for name in values:
        if name not in names:
            raise InputError(f"{path}: " + unknown("key", str(name)[:60], names))


def _check_storable(event: ReadEvent) -> None:
    """Refuse values that the store could not write, and behaviors that are too large."""
    try:
        size = len(_encode((event.row, event.keys)))
    except (OverflowError, UnicodeEncodeError, TypeError) as error:
        raise InputError(f"behavior: a value cannot be stored ({error}).") from error
    if size > _LARGEST:
        raise InputError(f"behavior: the event takes {size:,} bytes, more than {_LARGEST:,}.")
