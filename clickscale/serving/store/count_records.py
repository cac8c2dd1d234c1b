"""The record of one key of the statistics: sums at a moment, and the rows from which others follow.

Statistics with the same ``by`` share the records of its keys. A record holds, for each of their tallies,
the count and sum at its ``moment``, and rows of one second each. At a later or earlier moment T, the sum of a
tally with delay d and window w differs by rows alone::

    sum(T) = sum(moment) + rows in [moment - d, T - d) - rows in [moment - w, T - w)

So reads at different moments do not disturb each other, and an event that arrives late is added to what it
belongs to. A recency has the time of its newest positive in place of the sum. It holds what was known before
``since``, and a read looks for newer ones among the rows. The newest positive of a user is held likewise, as
its time and item. Rows are kept as long as a read at ``since`` or
later needs them; ``since`` stays `LAG` seconds behind the latest event of the key.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from clickscale.inference.counter_files import Key as RawKey
from clickscale.inference.counter_files import Tally
from clickscale.serving.store.paged_rows import Load, PagedRows, Row, Save
from clickscale.serving.store.store_records import NOBODY, Key, Writer, decoded, typed
from clickscale.serving.store.user_records import VERSION, check_version, pages_of

_NEWEST = ("recency", "newest")  # tallies that hold what is newest in place of a sum
LAG = 3600  # seconds that a read may be behind the latest event of a key
_NAME, _PAGE = b"c", b"d"


class CountRecord(msgspec.Struct, array_like=True):
    """Sums of the tallies of one key.

    Attributes:
        since: earliest moment at which sums can be told.
        settled: count and sum of each tally at ``moment``, one after the other; of a recency, positives and
            the time of the newest at ``since``; of a newest positive, its time and item then, 0 and None
            before the first.
        rows: a second, a zero, then count and sum of each tally in it; of a newest positive, its item in
            place of the sum.
    """

    version: int
    moment: int
    since: int
    settled: list[Any]
    rows: PagedRows

    def at(self, tallies: Sequence[Tally], moment: int, load: Load) -> list[Any] | None:
        """Count and sum of each tally just before a moment; None if that is too far back."""
        if moment < self.since:
            return None
        sums = list(self.settled)
        for number, tally in enumerate(tallies):
            if tally.of in _NEWEST:
                self._renew(sums, number, tally, moment, load)
            elif moment != self.moment:
                self._move(sums, number, tally, moment, load)
        return sums

    def needed_pages(self, tallies: Sequence[Tally], moment: int) -> set[int]:
        """Numbers of the pages that `at` loads."""
        if not self.rows.pages or moment < self.since:
            return set()
        numbers: set[int] = set()
        for tally in tallies:
            if tally.of in _NEWEST:
                known = self.rows.pages_between(self.since - tally.delay, moment - tally.delay)
                numbers.update(page.number for page in known)
                continue
            for back in (tally.delay, tally.window) if tally.window else (tally.delay,):
                low, high = sorted((self.moment - back, moment - back))
                numbers.update(page.number for page in self.rows.pages_between(low, high))
        return numbers

    def advance(self, tallies: Sequence[Tally], moment: int, load: Load, save: Save) -> None:
        """Move the moment of the record forward."""
        if moment <= self.moment:
            return
        since = max(self.since, moment - LAG)
        for number, tally in enumerate(tallies):
            if tally.of in _NEWEST:
                self._renew(self.settled, number, tally, since, load)
            else:
                self._move(self.settled, number, tally, moment, load)
        self.moment, self.since = moment, since
        self.rows.forget_before(self._keep_from(tallies), save)

    def count(
        self, tallies: Sequence[Tally], time: int, added: dict[int, tuple[int, Any]], load: Load, save: Save
    ) -> None:
        """Add (count, sum) to tallies by their number, of impressions of one second.

        To a newest positive, (1, item).
        """
        for number, (count, total) in added.items():
            tally = tallies[number]
            if tally.of in _NEWEST:
                if time < self.since - tally.delay:
                    self._hold_newest(self.settled, number, tally, time, count, total)
                continue
            inside = not tally.window or (self.moment - tally.window <= time and tally.window > tally.delay)
            if time < self.moment - tally.delay and inside:
                self.settled[2 * number] += count
                self.settled[2 * number + 1] += total
        if time < self._keep_from(tallies):
            return

        def update(row: Row | None) -> Row:
            changed = [time, 0, *[0] * (2 * len(tallies))] if row is None else list(row)
            for number, (count, total) in added.items():
                changed[2 + 2 * number] += count
                if tallies[number].of == "newest":
                    changed[3 + 2 * number] = max(changed[3 + 2 * number] or total, total)
                else:
                    changed[3 + 2 * number] += total
            return changed

        self.rows.change(time, update, load, save)

    def _renew(self, sums: list[Any], number: int, tally: Tally, moment: int, load: Load) -> None:
        """Change the newest positive of a recency from that known at ``since`` to that of a later moment."""
        for row in self.rows.between(self.since - tally.delay, moment - tally.delay, load):
            self._hold_newest(sums, number, tally, row[0], *row[2 + 2 * number : 4 + 2 * number])

    @staticmethod
    def _hold_newest(sums: list[Any], number: int, tally: Tally, time: int, count: int, item: Any) -> None:
        """Take over positives of one second, if there are any."""
        place = 2 * number
        if count and tally.of == "newest":
            if sums[place + 1] is None or (time, item) > tuple(sums[place : place + 2]):
                sums[place : place + 2] = time, item
        elif count:
            newest = max(sums[place + 1], time) if sums[place] else time
            sums[place : place + 2] = sums[place] + count, newest

    def _move(self, sums: list[int], number: int, tally: Tally, moment: int, load: Load) -> None:
        """Change the sums of one tally from those of the record to those of another moment."""
        window, delay = tally.window, tally.delay
        if window and window <= delay:
            return  # whatever becomes known has left the window by then
        rows, here = self.rows, self.moment
        newest = rows.at_hand[-1][0] if rows.at_hand else rows.pages[-1].last[0] if rows.pages else None
        if newest is None:
            return
        for back, sign in ((delay, 1), (window, -1)) if window else ((delay, 1),):
            low, high = here - back, moment - back
            if high < low:
                low, high, sign = high, low, -sign
            if newest < low:
                continue
            for row in rows.between(low, high, load):
                sums[2 * number] += sign * row[2 + 2 * number]
                sums[2 * number + 1] += sign * row[3 + 2 * number]

    def _keep_from(self, tallies: Sequence[Tally]) -> int:
        """Earliest second whose rows a read may need."""
        return self.since - max(
            tally.delay if tally.of in _NEWEST else max(tally.delay, tally.window) for tally in tallies
        )


_decoder = msgspec.msgpack.Decoder(CountRecord)


def fresh(tallies: Sequence[Tally], moment: int, since: int = 0) -> CountRecord:
    """A record of a key that was never counted."""
    settled = [nothing for tally in tallies for nothing in (0, None if tally.of == "newest" else 0)]
    return CountRecord(VERSION, moment, since, settled, PagedRows([], [], 0))


def read_counts(record: bytes | None) -> CountRecord | None:
    """Read the record of a key."""
    if record is None:
        return None
    counts = decoded(record, _decoder, "a count")
    check_version(counts.version)
    return counts


class Group(msgspec.Struct, frozen=True):
    """Tallies of statistics with the same ``by``, or the one of newest positives, with records by user.

    Attributes:
        user_at: place of the user in a key; None if keys do not name a user.
        place: of each tally by its name.
        prefix: beginning of the names of the records.
    """

    by: tuple[str, ...]
    tallies: tuple[Tally, ...]
    user_at: int | None
    place: dict[str, int]
    prefix: bytes

    @property
    def is_newest(self) -> bool:
        """True if it holds the newest positives of users."""
        return self.tallies[0].of == "newest"

    def key(self, values: RawKey) -> Key:
        """Key of the record; a user's counts belong to the user."""
        if self.is_newest:
            values = values[:1]
        owner = NOBODY if self.user_at is None else owner_of(values[self.user_at])
        return owner, self.prefix + typed(values)


def groups_of(tallies: dict[str, Tally], user: str) -> tuple[Group, ...]:
    """Groups of tallies by their keys.

    Args:
        user: name of the field of users.
    """
    by_key: dict[tuple[str, ...], list[Tally]] = {}
    for tally in tallies.values():
        by_key.setdefault((tally.name,) if tally.of == "newest" else tally.by, []).append(tally)
    return tuple(
        Group(
            members[0].by,
            tuple(members),
            next((at for at, name in enumerate(members[0].by) if name in ("user", user)), None),
            {tally.name: at for at, tally in enumerate(members)},
            _NAME + typed(",".join(by)),
        )
        for by, members in by_key.items()
    )


def owner_of(user: int | str) -> bytes:
    """Owner of the records of a user."""
    return b"u" + typed(user)


def counts_page(key: Key, number: int) -> Key:
    """Key of a page of a record."""
    return key[0], _PAGE + key[1][1:] + number.to_bytes(6)


def count_pages(writer: Writer, key: Key) -> tuple[Load, Save]:
    """Functions that read and write pages of a record in a transaction."""
    return pages_of(writer, key[0], _PAGE + key[1][1:])


def page_keys(key: Key, numbers: set[int]) -> Iterator[Key]:
    """Keys of some pages of a record."""
    return (counts_page(key, number) for number in sorted(numbers))
