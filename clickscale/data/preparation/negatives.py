"""Negatives for logs that hold only positives: items that existed by then, drawn for each positive.

They are drawn uniformly, or by popularity: as often as an item was a positive before that moment. Both may
be kept within one kind of item, such as its category. A draw never gives an item that is in the log at the
same user and moment, and gives no item twice. In a log where hardly anything comes twice to a user, it
gives nothing that the user had before: there, "had before" would mean "negative". It depends on user, item
and time of the positive and on what the log held before, and neither on later rows nor on the cuts of the log
into chunks.

A positive is left out, and counted in quarantine, where its negatives would tell the label:

* ``first_of_item``: its item had no earlier event, and such an item is never drawn;
* ``too_few_items``: fewer other items existed than are wanted, as in the first moments of a log.

Draws by popularity look into all positives in the order of time. They lie on disk, so that memory does not
grow with the log.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Flags, Ints
from clickscale.data.columns import NpyWriter, open_column
from clickscale.data.features.texts import splitmix64
from clickscale.data.preparation.quarantine import LEFT_OUT
from clickscale.data.preparation.records import RecordFile, Records, part_records
from clickscale.data.source import Sampling

_Excluded = Callable[[Ints, Ints], Flags]
NEVER = np.iinfo(np.int64).max  # the moment of an item without events
_ENTRY = np.dtype([("code", "<i8"), ("item", "<i4")])
_CELLS = 1 << 16
_ENTRIES = 8  # entries of an urn in the memory of one row


def note_on_negatives(
    count: int, sampling: Sampling, left_out: Mapping[str, Mapping[str, int]]
) -> tuple[str, ...]:
    """Say how negatives were drawn and what that means for results; ``left_out``: counts of quarantine."""
    if not count:
        return ()
    way = "uniformly" if sampling.by == "uniform" else "by popularity"
    alike = f" with its {sampling.within}" if sampling.within else ""
    measured = (
        "Positives are popular more often than such negatives, so popularity is part of what is measured"
        if sampling.by == "uniform"
        else "Such negatives are as popular as positives, so little of popularity is measured"
    )
    note = (
        f"The log shows only positives; {count} negatives per positive were drawn {way} from the "
        f"items{alike} first seen before that moment. {measured}, and metrics cannot be compared with those "
        "on shown negatives."
    )
    found = left_out.get("impressions", {})
    new, few = (found.get(reason, 0) for reason in LEFT_OUT)
    if not new + few:
        return (note,)
    return (
        note,
        f"Left out, since their negatives would tell the label: {new:,} positives whose item had no earlier "
        f"event, and {few:,} for which too few other items existed.",
    )


@dataclass(frozen=True)
class _Urn:
    """Entries from which negatives are drawn: each item once, or each positive.

    Attributes:
        item: (entries,) item of each entry.
        code: (entries,) group and moment of each entry as one number, ascending.
        group: (items,) group of each item; one is drawn for another of its group only.
        since: (items,) first moment of each item in the urn, `NEVER` for others.
        low, span: the first moment, and the number of moments that a code tells apart.
    """

    item: npt.NDArray[np.integer[Any]]
    code: Ints
    group: Ints
    since: Ints
    low: int
    span: int

    def stretch(self, item: Ints, time: Ints) -> tuple[Ints, Ints]:
        """Find the first entry, and the number of entries, before ``time`` in the group of an item."""
        start = self.group[item] * self.span
        begin = np.searchsorted(self.code, start)
        end = np.searchsorted(self.code, start + np.clip(time - self.low, 0, self.span - 1))
        return begin, end - begin


def _urn_of_items(first_seen: Ints, group: Ints) -> _Urn:
    """Hold each item once, from its first moment in the log (`NEVER`: not in the log)."""
    there = np.flatnonzero(first_seen < NEVER)
    low, span = _range(first_seen[there])
    code = group[there] * span + first_seen[there] - low
    order = np.lexsort((there, code))
    return _Urn(there[order], code[order], group, first_seen, low, span)


class _Positives:
    """Gathers the positives of a log on disk, for draws by popularity.

    Args:
        folder: for files as large as 12 bytes for each positive, read while negatives are drawn.
        first, last: range of the times of the log.
    """

    def __init__(self, folder: Path, group: Ints, first: int, last: int) -> None:
        self._folder, self._group = folder, group
        self._low, self._span = _range(np.array([first, last]))
        self._since = np.full(len(group), NEVER)
        self._entries = RecordFile(folder / "urn.rows", _ENTRY)
        self._cell = (int(group.max(initial=0)) + 1) * self._span // _CELLS + 1
        self._cells = np.zeros(_CELLS, np.int64)

    def add(self, item: Ints, time: Ints) -> None:
        """Add positives, in any order."""
        entries = np.zeros(len(item), _ENTRY)
        entries["item"] = item
        entries["code"] = self._group[item] * self._span + time - self._low
        self._entries.append(entries)
        self._cells += np.bincount(entries["code"] // self._cell, minlength=_CELLS)
        np.minimum.at(self._since, item, time)

    def finish(self, chunk_rows: int, memory_rows: int) -> _Urn:
        """Sort the entries, ``memory_rows`` rows of records at a time."""
        before = np.cumsum(self._cells) - self._cells
        bucket = before // (memory_rows * _ENTRIES)
        bucket = np.cumsum(np.diff(bucket, prepend=bucket[:1]) > 0)  # of each cell, ascending from 0
        parts = part_records(
            self._entries, int(bucket[-1]) + 1, lambda rows: bucket[rows["code"] // self._cell], chunk_rows
        )
        names = {name: self._folder / f"urn.{name}.npy" for name in ("item", "code")}
        with NpyWriter(names["item"], "i4") as items, NpyWriter(names["code"], "i8") as codes:
            for part in parts:
                entries = part.read()
                entries = entries[np.lexsort((entries["item"], entries["code"]))]
                items.append(entries["item"])
                codes.append(entries["code"])
                part.remove()
        item, code = open_column(names["item"]), open_column(names["code"])
        return _Urn(item, code, self._group, self._since, self._low, self._span)


def _range(moments: Ints) -> tuple[int, int]:
    """Return the first moment, and the number of moments up to one after the last."""
    if not len(moments):
        return 0, 1
    return int(moments.min()), int(moments.max() - moments.min()) + 2


class NegativeSampler:
    """Draws ``count`` different items for each positive from what an urn held before its moment.

    Args:
        urn: the items of the log, or its positives; see `uniform` and `by_popularity`.
    """

    def __init__(self, urn: _Urn, count: int) -> None:
        self._urn, self.count = urn, count

    @classmethod
    def uniform(cls, count: int, first_seen: Ints, group: Ints) -> "NegativeSampler":
        """Draw every item alike.

        Args:
            first_seen: (items,) first moment of each item in the log, `NEVER` without one.
            group: (items,) group of each item; one is drawn for another of its group only.
        """
        return cls(_urn_of_items(first_seen, group), count)

    @classmethod
    def by_popularity(
        cls,
        count: int,
        positives: Callable[[], Iterator[tuple[Ints, Ints]]],
        group: Ints,
        folder: Path,
        rows: tuple[int, int],
    ) -> "NegativeSampler":
        """Draw an item as often as it was a positive before.

        Args:
            positives: reads the items and times of all positives, chunk by chunk.
            group: (items,) as for `uniform`.
            folder: for files of 12 bytes for each positive, read while negatives are drawn.
            rows: records dealt out, and records sorted, at a time.
        """
        moments = [(int(time.min()), int(time.max())) for _, time in positives() if len(time)]
        first, last = (
            min((low for low, _ in moments), default=0),
            max((high for _, high in moments), default=0),
        )
        urn = _Positives(folder, group, first, last)
        for item, time in positives():
            urn.add(item, time)
        return cls(urn.finish(*rows), count)

    def is_new(self, item: Ints, time: Ints) -> Flags:
        """(N,) True where the item itself could not have been drawn at ``time``."""
        return np.greater_equal(self._urn.since[item], time)

    def draw(self, item: Ints, time: Ints, seed: npt.NDArray[np.uint64], is_shown: _Excluded) -> Ints:
        """Draw (N, count) items, and -1 in the last places where an urn does not hold that many others.

        Args:
            item, time: (N,) of the positives.
            seed: (N,) random numbers.
            is_shown: tells of some positives and an item for each, True where it must not be drawn.
        """
        begin, size = self._urn.stretch(item, time)
        drawn = np.full((len(item), self.count), -1)
        found = np.zeros(len(item), np.int64)
        waiting = np.flatnonzero(size > 0)
        for turn in range(64 + 16 * self.count):  # far more than are needed unless nearly all are excluded
            if not len(waiting):
                break
            random = splitmix64(seed[waiting] + np.uint64(turn)) % size[waiting].astype(np.uint64)
            chosen = self._urn.item[begin[waiting] + random.astype(np.int64)].astype(np.int64)
            fresh = (drawn[waiting] != chosen[:, None]).all(axis=1) & ~is_shown(waiting, chosen)
            rows = waiting[fresh]
            drawn[rows, found[rows]] = chosen[fresh]
            found[rows] += 1
            waiting = waiting[found[waiting] < self.count]
        return drawn


class _Shown:
    """Items that the log itself has at a user's moment, and those that a user had before.

    Args:
        records: sorted impressions of users.
        item: (N,) their items.
        once: whether what a user had before counts as shown.
    """

    def __init__(self, records: Records, item: Ints, once: bool) -> None:
        begins = np.ones(len(records), bool)
        begins[1:] = records["user"][1:] != records["user"][:-1]
        begins[1:] |= records["time"][1:] != records["time"][:-1]
        self._item, self._items = item, int(item.max(initial=0)) + 1
        self._moment = np.cumsum(begins) - 1
        self._alone = np.bincount(self._moment, minlength=1)[self._moment] == 1
        self._keys = np.sort((self._moment * self._items + item)[~self._alone])
        new_user = np.ones(len(records), bool)
        new_user[1:] = records["user"][1:] != records["user"][:-1]
        self._user = np.cumsum(new_user) - 1
        # Rows are in the order of time, so the first row of a pair is the first time that a user had an item.
        self._pairs, self._first = np.unique(self._user * self._items + item, return_index=True)
        self._once = once

    def holds(self, row: Ints, item: Ints) -> Flags:
        """(n,) True where an item must not be drawn for a row."""
        held = np.asarray(self._item[row] == item)
        several = np.flatnonzero(~self._alone[row] & (item < self._items))
        if len(several):
            wanted = self._moment[row[several]] * self._items + item[several]
            place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            held[several] |= self._keys[place] == wanted
        return held | self._had(row, item) if self._once else held

    def _had(self, row: Ints, item: Ints) -> Flags:
        """(n,) True where the user of a row had an item before the moment of the row."""
        if not len(self._pairs):
            return np.zeros(len(row), bool)
        wanted = self._user[row] * self._items + item
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        known = (self._pairs[place] == wanted) & (item < self._items)
        return np.asarray(known & (self._moment[self._first[place]] < self._moment[row]))


@dataclass(frozen=True)
class _Sampled:
    """Impressions with their negatives.

    Attributes:
        item: (rows,) rows of the item table.
        left_out: by reason the positives that are not among them.
    """

    records: Records
    item: Ints
    left_out: dict[str, Records]


def comes_again(user: Ints, item: Ints) -> bool:
    """True if users have items again: at least one in a hundred of the pairs (N,) of user and item is one."""
    pairs = np.unique(user * (int(item.max(initial=0)) + 1) + item)
    return len(user) - len(pairs) >= len(user) / 100


def add_negatives(
    records: Records, item: Ints, sampler: NegativeSampler, labels: list[str], once: bool = False
) -> _Sampled:
    """Give each positive its negatives, and a random place among them.

    Args:
        records: sorted impressions; those whose first label is 1 get negatives, with the same user, time
            and context and every label 0.
        item: (N,) rows of the item table.
        once: draw nothing that the user had before.
    """
    shown = _Shown(records, item, once)
    seed = np.zeros(len(records), np.uint64)
    for name in ("user", "item", "time"):
        seed = splitmix64(seed ^ records[name].astype(np.uint64))
    positive = records[labels[0]] == 1
    is_new = positive & sampler.is_new(item, records["time"])
    asked = np.flatnonzero(positive & ~is_new)
    drawn = np.full((len(records), sampler.count), -1)
    drawn[asked] = sampler.draw(
        item[asked], records["time"][asked], seed[asked], lambda row, other: shown.holds(asked[row], other)
    )
    too_few = positive & ~is_new & (drawn[:, -1] < 0)
    left_out = dict(zip(LEFT_OUT, (records[is_new], records[too_few]), strict=True))
    kept = ~(is_new | too_few)
    items = np.concatenate([item[:, None], drawn], axis=1)[kept]  # (kept, 1 + count)
    there = items >= 0
    place = (seed[kept] >> np.uint64(32)).astype(np.int64) % (sampler.count + 1) * positive[kept]
    is_drawn = np.ones(items.shape, bool)
    is_drawn[np.arange(len(items)), place] = False
    row = np.arange(len(items))
    items[row, 0], items[row, place] = items[row, place], items[row, 0].copy()
    woven = np.repeat(records[kept], there.sum(axis=1))
    for name in labels:
        woven[name][is_drawn[there]] = 0
    return _Sampled(woven, items[there], left_out)
