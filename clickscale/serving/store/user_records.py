"""The record of a user: profile, timeline, and the ids of the latest events.

Records of a user, of a count and of the store itself begin with their version; those of another version are
refused, never guessed at.
"""

from typing import Any

import msgspec

from clickscale.errors import StoreError
from clickscale.serving.store.paged_rows import Load, Page, PagedRows, Row, Save, filled
from clickscale.serving.store.protocol import StoredUser
from clickscale.serving.store.store_records import Key, Reader, Writer, decoded

VERSION = 1
_HEAD, _PAGE, _NEW_IDS, _OLD_IDS = b"h", b"p", b"n", b"o"
_GENERATION = 512  # ids; the store knows the last 512 to 1,024 of a user
_DIGEST = 8  # bytes of an id


class UserRecord(msgspec.Struct, array_like=True):
    """Profile and timeline.

    Attributes:
        behaviors: rows of ``known_at``, time, item and fields.
        dropped: behaviors that the bound pushed out.
    """

    version: int = VERSION
    profile: dict[str, Any] = {}
    behaviors: PagedRows = msgspec.field(default_factory=PagedRows)
    dropped: int = 0

    def add(self, row: Row, bound: int, load: Load, save: Save) -> None:
        """Place a behavior, and drop the oldest beyond the bound.

        One that is older than all that a full timeline keeps is dropped itself: between them may be others
        that are not kept, and a history has no holes.
        """
        oldest = self.behaviors.oldest
        if self.dropped and (oldest is None or row[0] < oldest):
            self.dropped += 1
            return
        self.behaviors.insert(row, load, save)
        self.dropped += self.behaviors.forget_beyond(bound, save)


_decoder = msgspec.msgpack.Decoder(UserRecord)
_rows_decoder = msgspec.msgpack.Decoder(list[Row])
_encode = msgspec.msgpack.Encoder().encode


def head_key(owner: bytes) -> Key:
    """Key of the record of a user."""
    return (owner, _HEAD)


def read_head(record: bytes | None) -> UserRecord | None:
    """Read the record of a user."""
    if record is None:
        return None
    head = decoded(record, _decoder, "a user")
    check_version(head.version)
    return head


def check_version(version: int) -> None:
    """Refuse records of another release."""
    if version != VERSION:
        raise StoreError(
            f"The store holds records of version {version}, this release reads {VERSION}; load a new store."
        )


def read_rows(record: bytes | None) -> list[Row]:
    """Read a page of rows."""
    if record is None:
        raise StoreError("A page of rows is missing in the store; restore it.")
    return decoded(record, _rows_decoder, "a page of rows")


def _page_key(owner: bytes, number: int, name: bytes = _PAGE) -> Key:
    """Key of a page."""
    return (owner, name + number.to_bytes(6))


def pages_of(writer: Writer, owner: bytes, name: bytes = _PAGE) -> tuple[Load, Save]:
    """Functions that read and write pages in a transaction."""

    def load(number: int) -> list[Row]:
        return read_rows(writer.get(_page_key(owner, number, name)))

    def save(number: int, rows: list[Row] | None) -> None:
        writer.put(_page_key(owner, number, name), None if rows is None else _encode(rows))

    return load, save


def put_head(writer: Writer, owner: bytes, head: UserRecord) -> None:
    """Write the record of a user."""
    writer.put(head_key(owner), _encode(head))


def put_loaded(writer: Writer, owner: bytes, profile: dict[str, Any], rows: list[Row], dropped: int) -> None:
    """Write a user of a data set, whose behaviors are in order."""
    _, save = pages_of(writer, owner)
    put_head(writer, owner, UserRecord(VERSION, profile, filled(rows, save), dropped))


def user_before(reader: Reader, owner: bytes, before: int, most: int, known_after: int) -> StoredUser | None:
    """A user with the newest behaviors known before a moment.

    Args:
        known_after: seconds after which a behavior without ``known_at`` is known.
    """
    head = read_head(reader.get(head_key(owner)))
    if head is None:
        return None
    pages, older_pages = _pages_before(head, before, most)
    keys = [_page_key(owner, page.number) for page in pages]
    older = [row for record in reader.many(keys) for row in read_rows(record) if row[0] < before]
    visible = [*older, *(row for row in head.behaviors.at_hand if row[0] < before)]
    shown = visible[-most:] if most else []
    return StoredUser(
        profile=head.profile,
        behaviors=[_behavior(row, known_after) for row in shown],
        truncated=bool(head.dropped or older_pages or len(visible) > len(shown)),
        last_time=shown[-1][0] if shown else None,
    )


def pages_of_user(reader: Reader, owner: bytes, before: int, most: int) -> list[Key]:
    """Keys of the pages that `user_before` reads."""
    head = read_head(reader.get(head_key(owner)))
    return (
        [] if head is None else [_page_key(owner, one.number) for one in _pages_before(head, before, most)[0]]
    )


def _pages_before(head: UserRecord, before: int, most: int) -> tuple[list[Page], int]:
    """Pages with the newest behaviors known before a moment, and the number of pages with older ones."""
    enough = sum(row[0] < before for row in head.behaviors.at_hand)
    pages = [page for page in head.behaviors.pages if page.first[0] < before]
    # Pages are asked for together; of the newest one perhaps not all rows were known before the moment.
    taken = len(pages)
    while taken and enough < most:
        taken -= 1
        enough += pages[taken].count if pages[taken].last[0] < before else 0
    return pages[taken:], taken


def _behavior(row: Row, known_after: int) -> dict[str, Any]:
    """Behavior as a request sends it."""
    known, time, item, fields = row
    behavior = {"item": item, "time": time} if item is not None else {"time": time}
    if known != time or known_after:
        behavior["known_at"] = known
    return behavior | fields if fields else behavior


def id_keys(owner: bytes) -> tuple[Key, Key]:
    """Keys of the records of the ids of a user's latest events, the newer one first."""
    return (owner, _NEW_IDS), (owner, _OLD_IDS)


def is_new(writer: Writer, owner: bytes, digest: bytes) -> tuple[bool, bytes]:
    """Note the id of an event; False if it was noted before. Then the ids that are forgotten from now on."""
    newer, older = id_keys(owner)
    noted = writer.get(newer) or b""
    if _has(noted, digest) or _has(writer.get(older) or b"", digest):
        return False, b""
    forgotten = b""
    if len(noted) >= _GENERATION * _DIGEST:
        forgotten = writer.get(older) or b""
        writer.put(older, noted)
        noted = b""
    writer.put(newer, noted + digest)
    return True, forgotten


def _has(noted: bytes, digest: bytes) -> bool:
    at = noted.find(digest)
    while at >= 0 and at % _DIGEST:  # a match across two ids is none
        at = noted.find(digest, at + 1)
    return at >= 0


def digests_in(noted: bytes) -> list[bytes]:
    """Divide noted ids."""
    return [noted[at : at + _DIGEST] for at in range(0, len(noted), _DIGEST)]
