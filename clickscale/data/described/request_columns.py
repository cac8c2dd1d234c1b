"""Tables of requests: columns that impressions lack, such as their user and time, found by a key of both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.described.keys import KeyedRows, row_keys, together
from clickscale.data.described.log_config import LogConfig
from clickscale.data.described.rows import RowShape
from clickscale.data.described.table_files import TableFiles
from clickscale.data.described.table_options import Request
from clickscale.data.features.values import MISSING
from clickscale.data.tables.chunks import Chunk
from clickscale.errors import InputError, unknown


class Requests:
    """Adds columns of the tables of requests to rows of the impressions, before anything else is read.

    A table gives those columns that the description reads and that neither the impressions nor a table
    before it have. These columns are kept in memory, and 8 bytes for each key.

    Args:
        columns: those that the description reads from the impressions.

    Raises:
        InputError: a table is missing, or no table has one of the columns.
    """

    def __init__(self, config: LogConfig, base: Path, columns: Sequence[str]) -> None:
        self._config = config.requests
        self._added: list[list[str]] = []
        self._tables: list[TableFiles] = []
        self._known: list[_Known] = []
        if not config.requests:
            return
        zone = config.time_zone
        known = [TableFiles("impressions", config.impressions, base, [], zone, RowShape())]
        wanted = [*columns, *(name for request in config.requests for name in _shown_key(request))]
        available: list[str] = []  # columns that the tables so far add
        for request in config.requests:
            alone = TableFiles("requests", request, base, [*request.key], zone, RowShape())
            lacking = [name for name in wanted if name not in available and not known[0].has(name)]
            if missing := [name for name in _shown_key(request) if name in lacking]:
                there = [*known[0].known, *available]
                raise InputError("impressions: " + unknown("column", missing[0], there))
            added = [name for name in dict.fromkeys(lacking) if alone.has(name)]
            available += added
            known.append(alone)
            self._added.append(added)
            columns_read = [*request.key, *added]
            self._tables.append(TableFiles("requests", request, base, columns_read, zone, RowShape()))
        for name in wanted:
            if name not in available and not known[0].has(name):
                everywhere = dict.fromkeys(name for table in known for name in table.known)
                raise InputError("impressions and requests: " + unknown("column", name, list(everywhere)))

    @property
    def made(self) -> set[str]:
        """Names of the columns that are added."""
        return {name for names in self._added for name in names}

    @property
    def keys(self) -> list[str]:
        """Columns of the impressions by which requests are found."""
        return [name for request in self._config for name in _shown_key(request) if name not in self.made]

    def read(self) -> None:
        """Read the tables from the start."""
        self._known = [_Known(*each) for each in zip(self._config, self._tables, self._added, strict=True)]

    def add(self, chunk: Chunk) -> Chunk:
        """Add the columns to a chunk of the impressions; null where no request has the key."""
        for known in self._known:
            chunk = known.add(chunk)
        return chunk

    def findings(self) -> list[str]:
        """Say how many impressions belong to no request, and how many requests could not be read.

        Raises:
            InputError: no impression belongs to a request.
        """
        return [finding for known in self._known for finding in known.findings()]


class _Known:
    """The columns of one table by its key, and counts of the impressions that asked for them."""

    def __init__(self, request: Request, table: TableFiles, added: list[str]) -> None:
        self._request = request
        self._unreadable = self._asked = self._found = 0
        keys, parts = [np.zeros(0, np.int64)], dict[str, list[pa.Array]]({name: [] for name in added})
        for path, chunk in table.chunks():
            rows = table.events(path, chunk)
            found = row_keys("Requests", rows, request.key)
            readable = rows.problem.is_null().to_numpy(zero_copy_only=False)
            self._unreadable += int((~readable).sum())
            first = _first_rows(found, readable & (found != MISSING))
            keys.append(found[first])
            for name, column in parts.items():
                column.append(_wide(rows[name].take(pa.array(first))))
        every = np.concatenate(keys)
        first = _first_rows(every, np.ones(len(every), bool))
        columns = {name: together(column).take(pa.array(first)) for name, column in parts.items()}
        self._rows = KeyedRows(every[first], columns)

    def add(self, chunk: Chunk) -> Chunk:
        """Add the columns to a chunk of the impressions."""
        places = self._rows.places(row_keys("Impressions", chunk, _shown_key(self._request)))
        self._asked += len(places)
        self._found += len(places) - places.null_count
        rows = chunk.rows
        for name, column in self._rows.columns.items():
            values = column.take(places)
            is_text = pa.types.is_large_string(values.type)
            rows = rows.append_column(name, values.cast(pa.string()) if is_text else values)
        return Chunk(rows, chunk.problem, chunk.evidence)

    def findings(self) -> list[str]:
        """Say what was not found; see `Requests.findings`."""
        files = _files(self._request)
        shown, key = (" and ".join(names) for names in (_shown_key(self._request), self._request.key))
        if self._asked and not self._found:
            raise InputError(
                f"No impression belongs to a request: none of {self._asked:,} rows has in {shown} what "
                f"{files} has in {key}. Name the columns that hold the same ids as key and shown_key."
            )
        found = []
        if self._found < self._asked:
            lost = self._asked - self._found
            found.append(f"{lost:,} of {self._asked:,} rows of impressions belong to no request of {files}.")
        if self._unreadable:
            found.append(f"{self._unreadable:,} rows of {files} cannot be read and do not count.")
        return found


def _wide(values: pa.Array) -> pa.Array:
    """Return texts with offsets of 64 bits, since those of all requests may exceed 2 GB."""
    return values.cast(pa.large_string()) if pa.types.is_string(values.type) else values


def _files(request: Request) -> str:
    return ", ".join(name for _, name in request.patterns())


def _shown_key(request: Request) -> tuple[str, ...]:
    return request.shown_key or request.key


def _first_rows(keys: Ints, usable: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """Return the first usable row of each key, in the order of the keys."""
    rows = np.flatnonzero(usable)
    _, first = np.unique(keys[rows], return_index=True)
    return rows[first]
