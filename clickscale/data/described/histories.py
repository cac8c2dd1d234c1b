"""Histories that a log keeps as lists, of a user or of each row, turned into events of a timeline.

The same past stands in many rows of such a log. Each event counts once; its repetitions are given the problem
``repeated``, so that they are counted. With times beside the items, an event is its user, item and time.
Without times, a list tells an order only. Then each list of a user is compared with what is known of the user
by its moment: the earlier lists, and the user's events in the log. The items that are new in a list became
known between the row before and this row. They are placed one second apart just before this row, and never
before the row that did not list them yet.

Everything is sorted user by user, in temporary files of some 1/64 of the events each.
"""

import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.rows import as_text, flat
from clickscale.data.features.texts import hash_texts
from clickscale.data.source import PROBLEM
from clickscale.data.tables.chunks import Chunk, mark

_BUCKETS = 64
_EVENT, _ENTRY, _MOMENT = 0, 1, 2  # kinds of stored rows: of the log, of a list, and only a moment of a row
_NO_ROW = 1_000_000_000  # the moment before which lists of a user without any row are placed
_UNKNOWN = np.iinfo(np.int64).min
_REPEATED = "repeated"


@dataclass(frozen=True)
class _ListEntries:
    """Entries of the lists of a chunk, each a row of its own.

    Attributes:
        chunk: the columns of lists.
        row: (N,) row of each entry in the chunk that was read.
        empty: (rows,) True for rows whose list is empty.
    """

    chunk: Chunk
    row: Ints
    empty: npt.NDArray[np.bool_]


def list_entries(
    chunk: Chunk,
    items: str,
    parallel: Sequence[str],
    separator: str,
    *,
    padding: str = "",
    newest_first: bool = False,
) -> _ListEntries:
    """Make a row of each entry of the lists ``items``; uneven lists give one row, with that problem.

    Args:
        parallel: columns of lists with one value for each item.
        padding: an item that fills lists up; its entries are left out.
        newest_first: the lists are turned around, so that the oldest entry comes first.
    """
    whole = flat(chunk[items], separator)
    others = {name: flat(chunk[name], separator) for name in parallel}
    problem = chunk.problem
    for other in others.values():
        problem = mark(problem, other.count != whole.count, "uneven_lists")
    fit = problem.is_null().to_numpy(zero_copy_only=False)
    count = np.where(fit, whole.count, whole.count > 0)
    row = np.repeat(np.arange(len(chunk)), count)
    place = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    if newest_first:
        place = count[row] - 1 - place
    empty = whole.count == 0
    if padding:
        entries = as_text(whole.values.take(pa.array(whole.start[row] + place)))
        real = np.asarray(pc.not_equal(entries, padding).fill_null(True).to_numpy(zero_copy_only=False), bool)
        empty |= fit & (np.bincount(row[real], minlength=len(chunk)) == 0)
        row, place = row[real], place[real]
    columns = {items: whole.values.take(pa.array(whole.start[row] + place))}
    for name, other in others.items():
        columns[name] = other.values.take(pa.array(other.start[row] + place, mask=~fit[row]))
    rows = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return _ListEntries(Chunk(rows, problem.take(pa.array(row))), row, empty)


@dataclass
class Histories:
    """Gathers lists and events of all users, and gives the timelines back.

    Attributes:
        fields: names of the behavior fields.
        timed: true if the entries of lists have times of their own.
        has_known_at: true if events have a moment from which they are known.
    """

    fields: Sequence[str]
    timed: bool
    has_known_at: bool
    _folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="clickscale-")
    )
    _lists: int = 0

    def add_events(self, events: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Keep canonical behaviors of the log; yield those that cannot be used."""
        usable = _usable(events)
        if not all(usable):
            yield events.filter(pa.array(~usable))
        self._keep(events.filter(pa.array(usable)), _EVENT, np.zeros(int(usable.sum()), np.int64))

    def add_entries(self, entries: pa.RecordBatch, row: Ints) -> Iterator[pa.RecordBatch]:
        """Keep entries of lists, canonical but for ``time``; yield those that cannot be used.

        Args:
            entries: with the entry's own time, or else the moment before which the whole list was known; it
                may be null if that is the first moment of the user.
            row: (N,) list of each entry, ascending.
        """
        usable = _usable(entries, may_lack_time=not self.timed)
        if not all(usable):
            yield entries.filter(pa.array(~usable))
        self._keep(entries.filter(pa.array(usable)), _ENTRY, row[usable] + self._lists)
        self._lists += int(row.max(initial=-1)) + 1

    def add_moments(self, user: pa.Array, time: pa.Array) -> None:
        """Keep moments of users, at which a list was empty or of which the first is needed."""
        moments = pa.RecordBatch.from_arrays([user, time], names=["user", "time"])
        known = pc.and_(pc.is_valid(user), pc.is_valid(time))
        moments = moments.filter(known)
        self._keep(moments, _MOMENT, np.zeros(len(moments), np.int64))

    def timelines(self) -> Iterator[pa.RecordBatch]:
        """Yield the events of all users, each once, and its repetitions with a problem."""
        with self._folder:
            for path in sorted(Path(self._folder.name).iterdir()):
                table = _read(path)
                if table.num_rows:
                    yield from self._timeline(table).to_batches()

    def _keep(self, rows: pa.RecordBatch, kind: int, row: Ints) -> None:
        """Store rows in the bucket of their user."""
        if not len(row):
            return
        columns = {"user": as_text(rows["user"]), "time": rows["time"].cast(pa.int64())}
        columns["list"] = pa.array(row)
        columns["kind"] = pa.array(np.full(len(row), kind, np.int8))
        for name in ("item", "known_at", *self.fields):
            if name in rows.schema.names:
                values = rows[name]
                columns[name] = values if pa.types.is_nested(values.type) else values.cast(pa.string())
        bucket = hash_texts(columns["user"]) % _BUCKETS
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        for number in np.unique(bucket).tolist():
            part = batch.filter(pa.array(bucket == number))
            with (
                (Path(self._folder.name) / f"{number:02}").open("ab") as stream,
                pa.ipc.new_stream(stream, part.schema) as writer,
            ):
                writer.write_batch(part)

    def _timeline(self, table: pa.Table) -> pa.Table:
        """Place the entries of one bucket in time, and mark the repeated ones."""
        kind, user, item, time = (_numbers(table, name) for name in ("kind", "user", "item", "time"))
        if self.timed:
            repeated = _repeated(kind, user, item, time)
        else:
            time, repeated = _placed(kind, user, item, time, _numbers(table, "list"))
        columns = {"user": _column(table, "user"), "item": _column(table, "item"), "time": pa.array(time)}
        if self.has_known_at:
            columns["known_at"] = _column(table, "known_at").cast(pa.int64())
        columns |= {name: _column(table, name) for name in self.fields}
        columns[PROBLEM] = pc.if_else(pa.array(repeated), _REPEATED, pa.scalar(None, pa.string()))
        # Rows were stored chunk by chunk, and where a reader cuts chunks must not show in equal times.
        texts = columns["user"].dictionary_encode()
        rank = np.argsort(pc.sort_indices(texts.dictionary).to_numpy())[texts.indices.to_numpy()]
        order = np.lexsort((_numbers(table, "list"), kind, time, rank))
        return pa.table(columns).take(pa.array(order[kind[order] != _MOMENT]))


def _usable(rows: pa.RecordBatch, may_lack_time: bool = False) -> npt.NDArray[np.bool_]:
    """(N,) True for rows with user, item and time and without a problem."""
    usable = pc.is_null(rows[PROBLEM])
    for name in ("user", "item") if may_lack_time else ("user", "item", "time"):
        usable = pc.and_(usable, pc.is_valid(rows[name]))
    return np.asarray(usable.to_numpy(zero_copy_only=False), bool)


def _read(path: Path) -> pa.Table:
    """Read all streams of a file; a column that a stream lacks is null there."""
    parts = []
    with path.open("rb") as stream:
        size = path.stat().st_size
        while stream.tell() < size:
            parts.append(pa.ipc.open_stream(stream).read_all())
    return pa.concat_tables(parts, promote_options="permissive").combine_chunks()


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column, all null if no stored row had it."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    return table[name].combine_chunks()


def _numbers(table: pa.Table, name: str) -> Ints:
    """(N,) integers of a column; texts are numbered, and a missing value is `_UNKNOWN`."""
    values = _column(table, name)
    if pa.types.is_string(values.type):
        values = values.dictionary_encode().indices
    return np.asarray(values.cast(pa.int64()).fill_null(_UNKNOWN).to_numpy(zero_copy_only=False), np.int64)


def _repeated(kind: Ints, user: Ints, item: Ints, time: Ints) -> npt.NDArray[np.bool_]:
    """(N,) True for entries whose user, item and time are those of an event or of an earlier entry."""
    order = np.lexsort((kind, time, item, user))  # stable: the first of equal entries stays in front
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in (user, item, time):
        same &= column[order][1:] == column[order][:-1]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:]] = same
    return repeated & (kind == _ENTRY)


def _placed(kind: Ints, user: Ints, item: Ints, time: Ints, row: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Place entries that have an order only: (N,) times of all rows, and True for repeated entries."""
    placed, repeated = np.array(time), np.zeros(len(kind), bool)
    order = np.lexsort((np.arange(len(user)), (row + 1) * (kind == _ENTRY), time, user))
    cuts = np.flatnonzero(np.diff(user[order], prepend=-1))
    for start, end in zip(cuts, np.append(cuts[1:], len(order)), strict=True):
        rows = order[start:end]
        _place_user(rows, kind, item, time, row, placed, repeated)
    return placed, repeated


def _place_user(
    rows: Ints,
    kind: Ints,
    item: Ints,
    time: Ints,
    row: Ints,
    placed: Ints,
    repeated: npt.NDArray[np.bool_],
) -> None:
    """Place the entries among ``rows``, those of one user in order of time; see the module docstring."""
    past = _Past()
    known = time[rows][time[rows] != _UNKNOWN]
    first = int(known[0]) if len(known) else _NO_ROW
    steps = np.flatnonzero(
        (np.diff(row[rows], prepend=-1) != 0)
        | (kind[rows] != _ENTRY)
        | (np.diff(kind[rows], prepend=-1) != 0)
    )
    before = np.zeros(0, np.int64)  # the list before this one
    earliest = _UNKNOWN  # the moment of the row before
    waiting: list[tuple[int, int]] = []  # events since then, which a list of the same moment cannot hold
    for start, end in zip(steps, np.append(steps[1:], len(rows)), strict=True):
        entries = rows[start:end]
        moment = int(time[entries[0]])
        if kind[entries[0]] == _ENTRY:
            due = [event for event in waiting if event[0] < moment]
            past.extend(number for _, number in due)
            waiting = waiting[len(due) :]
            listed = item[entries]
            if np.array_equal(listed, before):
                repeated[entries] = True
            else:
                is_new = past.add(listed.tolist())
                repeated[entries] = ~is_new
                new, limit = entries[is_new], first if moment == _UNKNOWN else moment
                placed[new] = np.maximum(limit - np.arange(len(new), 0, -1), earliest)
                before = listed
        elif kind[entries[0]] == _EVENT:
            waiting.append((moment, int(item[entries[0]])))
        if kind[entries[0]] != _EVENT and moment != _UNKNOWN:
            earliest = moment


class _Past:
    """Items that a user is known to have met, in order."""

    def __init__(self) -> None:
        self._places: dict[int, list[int]] = {}
        self._length = 0

    def extend(self, items: Iterable[int]) -> None:
        """Append items."""
        for item in items:
            self._places.setdefault(item, []).append(self._length)
            self._length += 1

    def add(self, items: list[int]) -> npt.NDArray[np.bool_]:
        """Append what is new in a list; return (N,) True for it.

        The list and the past are both in order. So an item is known if it stands in the past after the
        known item before it in the list.
        """
        is_new = np.zeros(len(items), bool)
        place = -1
        for index, item in enumerate(items):
            places = self._places.get(item, [])
            following = bisect_right(places, place)
            if following == len(places):
                is_new[index] = True
            else:
                place = places[following]
        self.extend(item for item, new in zip(items, is_new.tolist(), strict=True) if new)
        return is_new
