"""Records of a store: their keys, and what a backend must be able to do with them.

A record is a few bytes under a key of two parts. The owner is a user, whose records can be deleted together;
records that belong to nobody have an empty owner. Backends know nothing of what records hold.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from clickscale.errors import StoreError
from clickscale.files import sha256_of

T = TypeVar("T")
Key = tuple[bytes, bytes]  # owner and name
Fetch = Callable[[Sequence[Key]], list[bytes | None]]

NOBODY = b""
_LONGEST = 160  # bytes of one part of a key; LMDB takes keys of 511 bytes
_encode = msgspec.msgpack.Encoder().encode


def decoded(record: bytes, decoder: "msgspec.msgpack.Decoder[T]", noun: str) -> T:
    """Read a record; ``noun`` says in an error what it is about.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StoreError(f"The record of {noun} is damaged ({error}); restore the store.") from error


def typed(value: Any) -> bytes:
    """Write ids and lists of them so that different ones differ: 1 and "1", and "a", "b" and "ab".

    No result is the beginning of another one, since the format tells its length first.
    """
    try:
        text = _encode(value)
    except UnicodeEncodeError:
        text = _encode(_plain(value))
    if len(text) <= _LONGEST:
        return text
    return b"\xc1" + bytes.fromhex(sha256_of([text]))  # no value of msgpack begins with c1


def _plain(value: Any) -> Any:
    """Texts as bytes, which may hold half a surrogate pair, as a text of JSON may."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


class Reader:
    """Records as they are at one moment, each fetched once."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._held: dict[Key, bytes | None] = {}

    def many(self, keys: Iterable[Key]) -> list[bytes | None]:
        """Records in the order of the keys, fetched together; None for those that are not there."""
        wanted = list(keys)
        if absent := [key for key in dict.fromkeys(wanted) if key not in self._held]:
            self._held.update(zip(absent, self._fetch(absent), strict=True))
        return [self._held[key] for key in wanted]

    def get(self, key: Key) -> bytes | None:
        """Return one record."""
        return self.many((key,))[0]


class Changes:
    """What a transaction writes.

    Attributes:
        records: bytes by key; None deletes.
        owners: those whose records are all deleted, before anything is written.
    """

    def __init__(self) -> None:
        self.records: dict[Key, bytes | None] = {}
        self.owners: set[bytes] = set()


class Writer:
    """Records as they are in a transaction, its own changes included.

    Args:
        parent: a transaction of which this one is a part, whose changes it sees and joins by `keep`.
    """

    def __init__(self, parent: "Writer | Reader") -> None:
        self._parent = parent
        self.changes = Changes()

    def many(self, keys: Iterable[Key]) -> list[bytes | None]:
        """Records in the order of the keys."""
        wanted = list(keys)
        records, owners = self.changes.records, self.changes.owners
        outside = [key for key in wanted if key not in records and key[0] not in owners]
        found = dict(zip(outside, self._parent.many(outside), strict=True)) if outside else {}
        return [records[key] if key in records else found.get(key) for key in wanted]

    def get(self, key: Key) -> bytes | None:
        """Return one record."""
        return self.many((key,))[0]

    def put(self, key: Key, record: bytes | None) -> None:
        """Write a record; None deletes it."""
        self.changes.records[key] = record

    def drop(self, owner: bytes) -> None:
        """Delete every record of an owner."""
        records = self.changes.records
        for key in [key for key in records if key[0] == owner]:
            del records[key]
        self.changes.owners.add(owner)

    def keep(self) -> None:
        """Hand the changes to the parent."""
        assert isinstance(self._parent, Writer), "only a part of a transaction has a writer as its parent"
        for owner in self.changes.owners:
            self._parent.drop(owner)
        self._parent.changes.records.update(self.changes.records)


class Backend(Protocol):
    """A place where records lie. Every method may be called from any number of threads.

    Attributes:
        kind: name for the operator.
    """

    kind: str

    def view(self, work: Callable[[Reader], T]) -> T:
        """Read at one moment; the work may run several times.

        Raises:
            StoreError: the place cannot be read.
        """
        ...

    def change(self, work: Callable[[Writer], T]) -> T:
        """Read and write at one moment, wholly or not at all, and durably; the work may run several times.

        Raises:
            StoreError: the place cannot be written, or has no room left.
        """
        ...

    def size(self) -> tuple[int, int]:
        """Number of records and of bytes."""
        ...

    def warnings(self) -> tuple[str, ...]:
        """Settings under which an acknowledged change may be lost."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
