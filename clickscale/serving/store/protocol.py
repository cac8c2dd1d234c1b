"""The protocol of the online feature store: what a server reads from it and writes to it.

A store is opened for the artifact whose ids and statistics it reads (`clickscale.serving.store.opening`)::

    store = open_store("lmdb:///var/lib/clickscale/store", Reading.of(artifact))
    completed = store.complete({"user": "u7", "time": 1705000000, "candidates": [{"item": "i3"}]}, most=200)
    store.append([Event(id="e1", user="u7", item="i3", time=1705000060, labels={"clicked": 1})])

Ids are raw, as in a request, and are read as the encoder of the artifact reads them: ``12`` and ``"12"`` are
one user where ids are integers, and ids of several columns are lists of their parts. A read at a moment gives
what was known strictly before it, whatever was appended meanwhile. Every method may be called from any number
of threads. Each raises `StoreError` if the store cannot be reached, has no room left, or is damaged; then
nothing of the call was done, or for a lost connection perhaps all of it. Repeating it is safe.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from clickscale.errors import StoreError


class StoreFullError(StoreError):
    """The store has no room left; what it holds can be read."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that a user did or was shown.

    Attributes:
        id: chosen by the sender; an event whose id the store has of this user is not appended again.
        user, item: raw ids; None for a role that the log of the model does not have.
        time: seconds since 1970.
        known_at: moment from which a history may show it; if None, as long after its time as in the log.
        behavior: fields of the behavior; None for an event that histories never show, such as an impression
            without a click. Left out, it is ``{}``, and None for an impression that the histories of the log
            do not have, as far as its labels tell (``behavior_label`` of the schema).
        context: context fields of the impression, by which statistics may be counted.
        labels: outcomes that are known, 0 or 1; an empty mapping if none is known yet; None for an event that
            is no impression and is not counted.
    """

    id: str
    user: Any = None
    item: Any = None
    time: int
    known_at: int | None = None
    behavior: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    context: dict[str, Any] = {}
    labels: dict[str, int | None] | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels of an earlier impression that became known.

    Attributes:
        impression: id of the event.
    """

    impression: str
    user: Any = None
    labels: dict[str, int]


class StoredUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user just before a moment.

    Attributes:
        profile: raw values, as a request sends them.
        behaviors: as a request sends them, in the order in which they became known.
        truncated: True if older behaviors were known, which the read or the bound of the store left out.
        last_time: latest ``known_at`` of these behaviors; None without any.
    """

    profile: dict[str, Any]
    behaviors: list[dict[str, Any]]
    truncated: bool
    last_time: int | None


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a store for its operator; nothing in it tells of a user.

    Attributes:
        kind: ``memory``, ``lmdb`` or ``redis``.
        records: number of records of all kinds; one user takes several.
        bytes: that it takes on the disk or in memory, as far as it knows.
        bound: behaviors of a user that are kept.
        loaded: moment up to which a data set was loaded; None without a finished load.
        warnings: sentences, such as that an acknowledged event may be lost in a crash.
    """

    kind: str
    records: int
    bytes: int
    bound: int
    loaded: int | None
    warnings: tuple[str, ...] = ()


class OnlineStore(Protocol):
    """One store, read and written as one artifact reads ids and counts statistics."""

    def for_model(self, reading: Any) -> "OnlineStore":
        """The same store for another artifact, such as a newer version of the model.

        Args:
            reading: `clickscale.serving.store.reading.Reading` of the artifact.

        Raises:
            DataError: the artifact declares other statistics than the store counts.
        """
        ...

    def user(self, user: Any, *, before: int, most: int) -> StoredUser | None:
        """A user just before a moment, with the ``most`` newest behaviors; None if nothing is known."""
        ...

    def items(self, items: Sequence[Any]) -> list[dict[str, Any] | None]:
        """Attributes of items, content vectors as lists of floats; None for items that are not there."""
        ...

    def statistics(self, requests: Sequence[Mapping[str, Any]]) -> list[list[dict[str, float]]]:
        """Declared statistics of each candidate of each request, just before the request's time.

        A value is left out if the store cannot know it: the time is too far back.
        """
        ...

    def complete(self, request: Mapping[str, Any], *, most: int) -> dict[str, Any]:
        """A copy of a request with profile, behaviors and statistics, as far as it lacks them.

        What the request brings stays: a profile or a list of behaviors is not merged with the stored one.
        """
        ...

    def append(self, events: Sequence[Event]) -> list[bool]:
        """Append events, each wholly or not at all; False for one that was there already.

        What is acknowledged survives the end of the process at any moment.

        Raises:
            InputError: names the first wrong value by its path, such as ``events[2].time``; nothing of the
                call was appended.
        """
        ...

    def settle(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """Tell what became known of earlier impressions; False for one told before or too late."""
        ...

    def put_users(self, profiles: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Replace the profiles of users, given by their raw ids."""
        ...

    def put_items(self, attributes: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
        """Replace the attributes of items, given by their raw ids."""
        ...

    def delete_user(self, user: Any) -> bool:
        """Delete everything that is kept of a user; False if there was nothing."""
        ...

    def facts(self) -> StoreFacts:
        """Size and settings."""
        ...

    def check(self) -> None:
        """Read and write a record; raises `StoreError` if the store does not work."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
