"""Attributes of users or items in further tables, such as one with a row for each category of an item."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.described.joined_tables import Joins
from clickscale.data.described.keys import KeyedRows, gathered, together
from clickscale.data.described.rows import Joined, RowShape
from clickscale.data.described.table_files import TableFiles, cast, sources
from clickscale.data.described.table_options import More
from clickscale.data.features.values import MISSING, read_keys
from clickscale.schema import Field, joined_name


class Attributes:
    """Finds the attributes of ids; all tables are kept in memory.

    Args:
        what: name of the tables in messages.
        ids: the field of the ids.

    Raises:
        InputError: a table or a column is missing.
    """

    def __init__(
        self, what: str, ids: Field, tables: tuple[More, ...], base: Path, time_zone: str, joins: Joins
    ) -> None:
        self._ids = ids
        self._tables = [(table, _open(what, ids, table, base, time_zone, joins)) for table in tables]
        self._known: list[_Known] = []
        self._seen: list[Ints] = []

    def read(self) -> None:
        """Read the tables from the start."""
        self._known, self._seen = [_read(self._ids, *pair) for pair in self._tables], []

    def of(self, ids: pa.Array) -> dict[str, pa.Array]:
        """Return the columns of attributes of ids (N,), null for those that a table does not have."""
        keys = read_keys(ids, self._ids.dtype).data.astype(np.int64)
        if self._known:
            self._seen.append(np.unique(keys))
        return {name: column for known in self._known for name, column in known.rows.of(keys).items()}

    def rest(self) -> pa.Array:
        """Return the ids that these tables have and of which nobody has asked yet."""
        if not self._known:
            return pa.nulls(0)
        keys = np.concatenate([known.rows.keys for known in self._known])
        ids = together([known.ids for known in self._known])
        _, first = np.unique(keys, return_index=True)
        seen = np.concatenate([np.zeros(0, np.int64), *self._seen])
        return ids.take(pa.array(first[~np.isin(keys[first], seen)]))

    def findings(self) -> list[str]:
        """Say how many rows of the last pass could not be read, and what they name in vain."""
        joined = [finding for _, files in self._tables for finding in files.findings()]
        return joined + [
            f"{known.lost:,} rows of {', '.join(name for _, name in table.patterns())} cannot be read; their "
            "attributes are missing."
            for (table, _), known in zip(self._tables, self._known, strict=True)
            if known.lost
        ]


@dataclass(frozen=True)
class _Known:
    """Attributes of the ids of one table.

    Attributes:
        rows: attributes by the keys of the ids.
        ids: (K,) as they stand in the table.
        lost: rows that could not be read.
    """

    rows: KeyedRows
    ids: pa.Array
    lost: int


def _key(ids: Field, table: More) -> str:
    return joined_name(table.key) or ids.source


def _open(what: str, ids: Field, table: More, base: Path, time_zone: str, joins: Joins) -> TableFiles:
    joined = {field.source: Joined(field.flags, "flags") for field in table.fields if field.flags}
    several = table.key or ids.column
    if not isinstance(several, str):
        joined[joined_name(several)] = Joined(several, "id")
    columns = [_key(ids, table), *sources(table.fields)]
    shape = RowShape(joined=joined)
    return TableFiles(f"{what}.more", table, base, columns, time_zone, shape, joins=joins)


def _read(ids: Field, table: More, files: TableFiles) -> _Known:
    """Read a table; rows that cannot be read, and those without an id, are left out."""
    keys, names, parts = [np.zeros(0, np.int64)], list[pa.Array](), dict[str, list[pa.Array]]()
    lost = 0
    for path, chunk in files.chunks():
        columns, rows = files.fields(files.events(path, chunk), table.fields)
        raw = cast(rows[_key(ids, table)], ids)
        read = read_keys(raw, ids.dtype)
        usable = rows.problem.is_null().to_numpy(zero_copy_only=False) & (read.data != MISSING)
        lost += int((~usable).sum())
        keys.append(read.data[usable].astype(np.int64))
        names.append(raw.filter(pa.array(usable)))
        for name, column in columns.items():
            parts.setdefault(name, []).append(column.filter(pa.array(usable)))
    every = np.concatenate(keys)
    order = np.argsort(every, kind="stable")
    distinct, first = np.unique(every[order], return_index=True)
    ends = np.append(first, len(order))
    found = {}
    for field in table.fields:
        column = together(parts.get(field.name, [])).take(pa.array(order))
        gathers = field.values > 1 and not field.separator
        found[field.name] = gathered(column, ends) if gathers else column.take(pa.array(first))
    owners = together(names).take(pa.array(order)).take(pa.array(first))
    return _Known(KeyedRows(distinct, found), owners, lost)
