"""Tables that rows of others name by a key: they give columns that are lacking, such as users of requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.keys import KeyedRows, gathered, row_keys, together, with_lists
from clickscale.data.described.log_config import LogConfig
from clickscale.data.described.periods import FIRST_OF_ALL, NEVER, Clock, Periods, Stretches
from clickscale.data.described.raw_files import RawFiles
from clickscale.data.described.rows import flat, moment_texts
from clickscale.data.described.table_options import JoinedTable
from clickscale.data.features.values import MISSING
from clickscale.data.tables.casts import Unit
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.paths import base_of
from clickscale.errors import InputError, unknown


class Joins:
    """The tables of a log that others may name.

    Raises:
        InputError: a table or a column of a key is missing.
    """

    def __init__(self, config: LogConfig, base: Path) -> None:
        self._moment = _Moment.of(config)
        self._tables = [_Opened(table, RawFiles("joined", table, base)) for table in config.joined]
        self._used: list[_Opened] = []
        self._asked: list[str] = []  # columns of the tables that were asked
        for opened in self._tables:
            opened.files.require([*opened.table.key, *opened.valid])

    def to(self, what: str, files: RawFiles, columns: Sequence[str]) -> "_JoinedColumns":
        """Choose what the rows of a table get from others.

        Of several tables that have a column the first gives it, and only what the files lack is taken. One
        table may be found by what another one gave.

        Args:
            what: name of the table in messages.
            columns: those that the description reads.

        Raises:
            InputError: neither the files nor the tables that they name have one of the columns. Without
                joined tables nothing is checked here.
        """
        if not self._tables:
            return _JoinedColumns(what, [], list(columns), self._moment)
        self._asked += files.known
        wanted = [*columns, *(name for opened in self._tables for name in self._shown(opened))]
        lacking = [name for name in dict.fromkeys(wanted) if not files.has(name)]
        given: dict[str, _Opened] = {}
        order: list[_Opened] = []
        while reached := next(self._reached(files, given, order), None):
            order.append(reached)
            new = [name for name in lacking if name not in given and reached.source(name) is not None]
            given |= dict.fromkeys(new, reached)
        needed = dict.fromkeys(name for name in columns if not files.has(name))
        for name in needed:
            if name not in given:
                raise InputError(self._complaint(what, files, name, given))
        chosen: list[_Chosen] = []
        for opened in reversed(order):
            taken = {name: opened.source(name) or name for name in needed if given.get(name) is opened}
            if taken:
                chosen.append(_Chosen(opened, taken))
                needed |= dict.fromkeys(name for name in self._shown(opened) if not files.has(name))
        self._used += [each.opened for each in chosen]
        keys = [name for each in chosen for name in self._shown(each.opened)]
        own = [name for name in dict.fromkeys([*columns, *keys]) if files.has(name)]
        return _JoinedColumns(what, chosen[::-1], own, self._moment)

    def _shown(self, opened: "_Opened") -> list[str]:
        """List the columns by which rows name those of a table."""
        return [*opened.shown_key, *(self._moment.columns if opened.valid else ())]

    def _reached(
        self, files: RawFiles, given: Mapping[str, "_Opened"], order: Sequence["_Opened"]
    ) -> Iterator["_Opened"]:
        """Yield the tables, beside those of ``order``, that rows name by columns which they have or get."""
        for opened in self._tables:
            known = all(files.has(name) or name in given for name in self._shown(opened))
            if known and not any(opened is other for other in order):
                yield opened

    def _complaint(self, what: str, files: RawFiles, name: str, given: Mapping[str, "_Opened"]) -> str:
        """Say that nothing has a column, or that a table which has it cannot be found by its key."""
        for opened in self._tables:
            lost = [key for key in self._shown(opened) if not files.has(key) and key not in given]
            if opened.source(name) is not None and lost:
                there = [*files.known, *given]
                return f"{what}: {unknown('column', lost[0], there)} By it {opened.named} gives {name!r}."
        tables = [what, *(opened.named for opened in self._tables)]
        everywhere = [*files.known, *(name for opened in self._tables for name in opened.names)]
        return (
            f"{', '.join(dict.fromkeys(tables))}: {unknown('column', name, list(dict.fromkeys(everywhere)))}"
        )

    def findings(self) -> list[str]:
        """Name the tables of which no table reads a column.

        Raises:
            InputError: no table has a column of the key by which one is joined.
        """
        unused = [opened for opened in self._tables if not any(opened is other for other in self._used)]
        given = [name for opened in self._tables for name in opened.names]
        for opened in unused:
            for key in opened.shown_key:
                if key not in given and base_of(key, self._asked) is None:
                    known = list(dict.fromkeys([*self._asked, *given]))
                    raise InputError(
                        f"[[joined]] {opened.named}: no table has {unknown('column', key, known)}"
                    )
        return [f"Nothing reads a column of {opened.named}, so it is not joined." for opened in unused]


@dataclass(frozen=True)
class _Moment:
    """The time of an impression, as it stands in columns."""

    columns: tuple[str, ...]
    unit: Unit
    zone: str

    @classmethod
    def of(cls, config: LogConfig) -> "_Moment":
        """Return the time of the impressions of a log."""
        time = config.impressions.time
        columns = (time,) if isinstance(time, str) else tuple(time)
        return cls(columns, config.impressions.time_unit, config.time_zone)

    def of_rows(self, chunk: Chunk) -> pa.Array:
        """Return the moments (N,) of rows; a date and a time of day are one."""
        columns = [chunk[name] for name in self.columns]
        return columns[0] if len(columns) == 1 else moment_texts(columns)


@dataclass(frozen=True)
class _Opened:
    """A table that others may name."""

    table: JoinedTable
    files: RawFiles

    @property
    def named(self) -> str:
        """Its files, as the description names them."""
        return ", ".join(name for _, name in self.table.patterns())

    @property
    def shown_key(self) -> tuple[str, ...]:
        """Columns of the tables that name it."""
        return self.table.shown_key or self.table.key

    @property
    def valid(self) -> list[str]:
        """Columns of the moments between which a row holds."""
        return [name for name in (self.table.valid_from, self.table.valid_to) if name]

    @property
    def names(self) -> list[str]:
        """Names that its columns have in other tables."""
        prefix = self.table.prefix
        return [name if name.startswith(prefix) else prefix + name for name in self.files.known]

    def source(self, name: str) -> str | None:
        """Return the column that has a name in other tables, or None."""
        prefix = self.table.prefix
        if not name.startswith(prefix):
            return None
        return next((own for own in (name, name.removeprefix(prefix)) if self.files.has(own)), None)


@dataclass(frozen=True)
class _Chosen:
    """Columns that a table takes of another one, by the names that they have there and here."""

    opened: _Opened
    taken: Mapping[str, str]


class _JoinedColumns:
    """Adds columns to the rows of a table, before anything else looks at them.

    They are kept in memory while the table is read, with 8 bytes for each key.

    Attributes:
        own: columns to read from the table itself.
        findings: what the last pass has met.
    """

    def __init__(self, what: str, chosen: Sequence[_Chosen], own: list[str], moment: "_Moment") -> None:
        self._what, self._chosen, self.own, self._moment = what, chosen, own, moment
        self.findings: list[str] = []

    def added(self, chunks: Iterator[tuple[Path, Chunk]]) -> Iterator[tuple[Path, Chunk]]:
        """Add the columns to the chunks of a table; null where a row names no row of a joined one.

        Raises:
            InputError: no row names a row of one of the joined tables.
        """
        every = [_Known(self._what, chosen, self._moment) for chosen in self._chosen]
        for path, chunk in chunks:
            for known in every:
                chunk = known.add(chunk)
            yield path, chunk
        self.findings = [finding for known in every for finding in known.findings()]


class _Known:
    """The columns of one joined table by its key, and counts of the rows that asked for them."""

    def __init__(self, what: str, chosen: _Chosen, moment: "_Moment") -> None:
        self._what, self._opened = what, chosen.opened
        self._moment, self._clock = moment, Clock(moment.unit, moment.zone)
        self._asked = self._found = self._unusable = 0
        self._asking = "rows"
        key, files, valid = chosen.opened.table.key, chosen.opened.files, chosen.opened.valid
        several = chosen.opened.table.several
        bounds = [(Clock(chosen.opened.table.time_unit, moment.zone), list[Ints]()) for _ in valid]
        keys, parts = [np.zeros(0, np.int64)], dict[str, list[pa.Array]]({name: [] for name in chosen.taken})
        rows = 0
        for _, chunk in files.chunks(list(dict.fromkeys([*key, *valid, *chosen.taken.values()]))):
            found = row_keys("Joined tables", chunk, key)
            usable = chunk.problem.is_null().to_numpy(zero_copy_only=False) & (found != MISSING)
            rows, self._unusable = rows + len(chunk), self._unusable + int((~usable).sum())
            first = np.flatnonzero(usable) if valid or several else _first_rows(found, usable)
            for name, (clock, moments), missing in zip(valid, bounds, (FIRST_OF_ALL, NEVER), strict=False):
                moments.append(clock(chunk[name].take(pa.array(first)), missing))
            keys.append(found[first])
            for name, column in parts.items():
                column.append(_wide(chunk[chosen.taken[name]].take(pa.array(first))))
        every = np.concatenate(keys)
        moments_of = [np.concatenate([every[:0], *moments]) for _, moments in bounds]
        values = {name: together(column) for name, column in parts.items()}
        self._periods, self._again = Periods.of(every[:0], []), 0
        if several:
            self._rows = self._with_all_rows(every, moments_of, values)
            return
        if valid:
            self._periods = Periods.of(every, moments_of)
            first = self._periods.row
        else:
            first = _first_rows(every, np.ones(len(every), bool))
        columns = {name: column.take(pa.array(first)) for name, column in values.items()}
        self._again = rows - self._unusable - len(first)
        self._rows = KeyedRows(every[first], columns)

    def _with_all_rows(
        self, keys: Ints, bounds: Sequence[Ints], columns: Mapping[str, pa.Array]
    ) -> KeyedRows:
        """Gather the values of all rows (N,) of a key, or of those that hold at a time, into lists.

        Args:
            bounds: seconds of the begins of rows, and of their ends; none if rows always hold.
        """
        order = np.argsort(keys, kind="stable")
        distinct, first = np.unique(keys[order], return_index=True)
        ends = np.append(first, len(order)).astype(np.int64)
        if bounds:
            stretches = Stretches.of(keys, bounds)
            distinct, order, ends = stretches.keys, stretches.rows, stretches.bounds
            self._periods = Periods.of(stretches.keys, [stretches.begins, stretches.ends])
        rows = pa.array(order)
        return KeyedRows(distinct, {name: gathered(c.take(rows), ends) for name, c in columns.items()})

    def add(self, chunk: Chunk) -> Chunk:
        """Add the columns to a chunk of the table that names the rows; lists name several and get lists."""
        held = _with_entries(chunk, self._opened.shown_key, self._opened.table.entry_separator)
        lists = [name for name in self._opened.shown_key if pa.types.is_nested(held[name].type)]
        self._asking = "ids" if lists else "rows"
        asking = with_lists(held, lists)
        keys = row_keys(self._what.capitalize(), asking, self._opened.shown_key)
        if self._opened.valid:
            places = self._periods.places(keys, self._clock(self._moment.of_rows(asking), FIRST_OF_ALL))
        else:
            places = self._rows.places(keys)
        self._asked += len(places)
        self._found += len(places) - places.null_count
        rows = chunk.rows
        for name, column in self._rows.columns.items():
            values = column.take(places)
            if lists:
                values = gathered(values, _ends(held, lists))
            is_text = pa.types.is_large_string(values.type)
            rows = rows.append_column(name, values.cast(pa.string()) if is_text else values)
        return Chunk(rows, chunk.problem, chunk.evidence)

    def findings(self) -> list[str]:
        """Say what was not found; see `_JoinedColumns.added`."""
        files = self._opened.named
        shown, key = (" and ".join(names) for names in (self._opened.shown_key, self._opened.table.key))
        if self._asked and not self._found:
            raise InputError(
                f"No row of {self._what} names a row of {files}: none of {self._asked:,} rows has in {shown} "
                f"what {files} has in {key}. Name the columns that hold the same ids as key and shown_key."
            )
        shown += " at their time" if self._opened.valid else ""
        key += f" and {self._opened.valid[0]}" if self._opened.valid else ""
        asked = f"{self._asked:,} {self._asking} of {self._what}"
        counted = {
            f"of {asked} name no row of {files} by {shown}.": self._asked - self._found,
            f"rows of {files} cannot be read or have no {key}, and do not count.": self._unusable,
            f"rows of {files} have the {key} of an earlier row, and do not count.": self._again,
        }
        return [f"{count:,} {told}" for told, count in counted.items() if count]


def _with_entries(chunk: Chunk, columns: Sequence[str], separator: str) -> Chunk:
    """Divide the texts of some columns into lists, if a separator is given."""
    rows = chunk.rows
    for name in columns if separator else ():
        if not pa.types.is_nested(chunk[name].type):
            entries = flat(chunk[name], separator)
            lists = gathered(pc.utf8_trim_whitespace(entries.values), _bounds(entries.count))
            rows = rows.set_column(rows.schema.get_field_index(name), name, lists)
    return Chunk(rows, chunk.problem, chunk.evidence)


def _ends(chunk: Chunk, lists: Sequence[str]) -> Ints:
    """Return (N + 1,) where the entries of the lists of each row begin, and how many there are."""
    return _bounds(np.max([flat(chunk[name]).count for name in lists], axis=0))


def _bounds(count: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(count, dtype=np.int64)])


def _wide(values: pa.Array) -> pa.Array:
    """Return texts with offsets of 64 bits, since those of all rows may exceed 2 GB."""
    return values.cast(pa.large_string()) if pa.types.is_string(values.type) else values


def _first_rows(keys: Ints, usable: npt.NDArray[np.bool_]) -> Ints:
    """Return the first usable row of each key, in the order of the keys."""
    rows = np.flatnonzero(usable)
    _, first = np.unique(keys[rows], return_index=True)
    return rows[first]
