"""Requests from a table: each row is a candidate, and neighboring rows of one request share it.

Columns go by the names of the schema or by those of the log's raw columns:

* ``request``, if there is one, tells requests apart; otherwise rows of one user and time are one request, and
  in a log without users, each row is;
* the user, the item and ``time`` (seconds, or moments as in a log: detected as preparation does, and of the
  time zone of the log where they name none; so are fields of moments). An id of several columns is in these
  columns, or in one that holds lists of its parts. A role that the log does not have needs no column; a list
  of flags is in its columns of 0 and 1, or in one that holds lists of names;
* context fields and statistics of the candidate; profile fields of the user, from a request's first row. Raw
  columns inside of objects, such as ``context.device``, stand in a column ``context`` as in the log;
* ``behaviors``: a list of objects as in a request, or the same as JSON text.

What the table lacks may come from a prepared data set: the profile of its users, and the last behaviors that
were known before the time. Other columns are left out; `RequestTable.ignored` names them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.values import names_of_flags
from clickscale.data.tables.casts import seconds
from clickscale.data.tables.chunks import Chunk, holds_objects
from clickscale.data.tables.paths import base_of
from clickscale.data.tables.raw_tables import column_names, read
from clickscale.errors import InputError
from clickscale.inference.logged_users import LoggedUsers
from clickscale.inference.request_ids import one_id
from clickscale.schema import Field

_REQUEST, _TIME, _BEHAVIORS = "request", "time", "behaviors"


@dataclass(frozen=True)
class TableRequest:
    """One request of a table.

    Attributes:
        row: number of its first row, from 1, the header not counted.
        name: its value of the column ``request``, None without the column.
    """

    row: int
    name: Any
    request: dict[str, Any]


@dataclass
class RequestTable:
    """A table of candidates for an artifact.

    Args:
        dataset: where profiles and behaviors are looked up that the table has no columns for.
        length: behaviors of a user that are looked up at most.

    Attributes:
        ignored: columns that mean nothing to the artifact.

    Raises:
        InputError: the file cannot be read, or has no column of users, items or times.
    """

    path: Path
    encoder: Encoder
    dataset: Dataset | None = None
    length: int = 0
    ignored: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        schema = self.encoder.schema
        self._columns = columns = column_names(self.path)
        self._objects = _columns_of_objects(self.path)
        self._nobody = "user" in schema.absent
        self._user = () if self._nobody else self._id_columns("user", schema.user)
        self._item = () if "item" in schema.absent else self._id_columns("item", schema.item)
        self._time = self._found((_TIME,), "time")
        shown = (*schema.sent_fields(), *schema.profile)
        self._flags = {one.source: one.flags for one in shown if one.flags and set(one.flags) <= set(columns)}
        self._context = self._fields(schema.sent_fields())
        self._profile = self._fields(schema.profile)
        columns_of = self._context | self._profile
        moments = [columns_of.get(one.name) for one in shown if one.kind == "timestamp"]
        self._moments = {self._time, *filter(None, moments)}
        used = {*self._user, *self._item, self._time, _REQUEST}
        used |= set() if self._nobody else {_BEHAVIORS}
        used |= set(self._context.values()) | set(self._profile.values())
        used |= {flag for flags in self._flags.values() for flag in flags}
        self._used = sorted(name for name in used if self._has(name))
        bases = {base_of(name, self._columns) for name in self._used}
        self.ignored = [name for name in self._columns if name not in bases]
        self._logged: LoggedUsers | None = None
        if self.dataset is not None and not self._nobody:
            self._logged = LoggedUsers(self.dataset, self.length)

    @property
    def names_requests(self) -> bool:
        """True if a column tells requests apart."""
        return _REQUEST in self._columns

    def _has(self, name: str) -> bool:
        """True for a column of plain values, and for a path into one of objects."""
        base = base_of(name, self._columns)
        return base is not None and (base == name or base in self._objects)

    def _id_columns(self, role: str, field: Field) -> tuple[str, ...]:
        """The column of an id, or the several that it is composed of."""
        parts = field.column if isinstance(field.column, tuple) else ()
        if parts and set(parts) <= set(self._columns):
            return parts
        names = [role, field.name] if parts else [role, field.name, field.source]
        return (self._found(names, role, " + ".join(parts)),)

    def _found(self, names: Sequence[str], role: str, other: str = "") -> str:
        """The column of a role; a message names ``other`` as well."""
        inside = [name for name in names if base_of(name, self._objects) not in (None, name)]
        for name in (*inside, *names):
            if self._has(name):
                return name
        wanted = " or ".join(dict.fromkeys([*names, *filter(None, [other])]))
        raise InputError(f"{self.path} has no {role} column ({wanted}); it has {', '.join(self._columns)}.")

    def _fields(self, fields: Sequence[Field]) -> dict[str, str]:
        """Columns of fields, by the name of the field; fields without one are left out."""
        columns: dict[str, str] = {}
        for one in fields:
            for name in (one.name, one.source):
                if self._has(name) or name in self._flags:
                    columns.setdefault(one.name, name)
        return columns

    def requests(self) -> Iterator[TableRequest]:
        """Yield the requests in the order of the table."""
        rows: list[dict[str, Any]] = []
        first = last = 0
        for last, row in enumerate(self._rows(), 1):
            if rows and not self._same(rows[-1], row):
                yield self._request(first, rows)
                rows = []
            if not rows:
                first = last
            rows.append(row)
        if rows:
            yield self._request(first, rows)

    def _same(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """True if two rows belong to one request."""
        if self._nobody and not self.names_requests:
            return False  # each row of such a log is a user of its own
        names = (_REQUEST,) if self.names_requests else (*self._user, self._time)
        return all(one[name] == other[name] for name in names)

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Rows as objects, times in seconds."""
        done = 0
        for chunk in read(self.path, self._used):
            columns = {name: chunk[name] for name in self._used}
            columns |= {name: self._seconds(name, chunk, done) for name in self._moments}
            columns |= {name: self._names(flags, chunk, done) for name, flags in self._flags.items()}
            if chunk.problem.null_count < len(chunk):
                row = int(np.argmax(chunk.problem.is_valid().to_numpy(zero_copy_only=False)))
                raise InputError(f"{self.path} row {done + row + 1}: {chunk.problem[row].as_py()}.")
            done += len(chunk)
            lists = [column.to_pylist() for column in columns.values()]
            for values in zip(*lists, strict=True):
                yield dict(zip(columns, values, strict=True))

    def _seconds(self, name: str, chunk: Chunk, done: int) -> pa.Array:
        """Moments of a chunk as seconds."""
        read_times, bad = seconds(chunk[name], time_zone=self.encoder.schema.time_zone or "UTC")
        if bad.any():
            row = int(np.argmax(bad))
            value = chunk[name][row].as_py()
            raise InputError(f"{self.path} row {done + row + 1}: {name} is {value!r}, which is no time.")
        return read_times

    def _names(self, flags: Sequence[str], chunk: Chunk, done: int) -> pa.Array:
        """Lists of the names of the flags that are 1."""
        lists, wrong = names_of_flags({name: chunk[name] for name in flags})
        for name, rows in wrong.items():
            if rows.any():
                row = int(np.argmax(rows))
                value = chunk[name][row].as_py()
                raise InputError(f"{self.path} row {done + row + 1}: {name} is {value!r}; send 0 or 1.")
        return lists

    def _request(self, first: int, rows: Sequence[Mapping[str, Any]]) -> TableRequest:
        """One request of some rows."""
        head, shared = rows[0], (*self._user, self._time)
        for offset, row in enumerate(rows):
            if any(row[name] != head[name] for name in shared):
                raise InputError(
                    f"{self.path} row {first + offset}: request {head[_REQUEST]!r} has two users or times."
                )
        request: dict[str, Any] = {
            "time": head[self._time],
            "candidates": [
                {**self._id("item", row, first + offset), **_present(row, self._context)}
                for offset, row in enumerate(rows)
            ],
        }
        if self._nobody:
            return TableRequest(first, head.get(_REQUEST), request)
        request |= self._id("user", head, first)
        profile = _present(head, self._profile)
        logged = self._logged.at(request["user"], head[self._time]) if self._logged else None
        if logged is not None:
            known = {name: value for name, value in logged.profile.items() if name not in self._profile}
            profile = known | profile
        request["profile"] = profile
        if _BEHAVIORS in self._columns:
            request["behaviors"] = self._behaviors(head[_BEHAVIORS], first)
        elif logged is not None:
            request["behaviors"] = logged.behaviors
        return TableRequest(first, head.get(_REQUEST), request)

    def _id(self, role: str, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The id of a row under its role; nothing for a role that the log does not have."""
        schema = self.encoder.schema
        field, columns = (schema.user, self._user) if role == "user" else (schema.item, self._item)
        if not columns:
            return {}
        value = row[columns[0]] if len(columns) == 1 else [row[name] for name in columns]
        return {role: one_id(value, field, f"{self.path} row {number}: {role}")}

    def _behaviors(self, value: Any, row: int) -> Any:
        """Behaviors of a cell."""
        if not isinstance(value, str):
            return [_without_nulls(one) for one in value] if value is not None else []
        try:
            return json.loads(value) if value.strip() else []
        except ValueError as error:
            raise InputError(
                f"{self.path} row {row}: behaviors is {value[:60]!r}, which is not JSON ({error})."
            ) from error


def _columns_of_objects(path: Path) -> set[str]:
    """Names of the columns that hold objects, also as text, in the first rows of a table."""
    for chunk in read(path):
        return {name for name in chunk.rows.schema.names if holds_objects(chunk[name])}
    return set()


def _present(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Values by field that are there."""
    return {name: row[column] for name, column in columns.items() if row[column] is not None}


def _without_nulls(behavior: Any) -> Any:
    """An object without the keys that Arrow filled up with nulls."""
    if not isinstance(behavior, Mapping):
        return behavior
    return {key: value for key, value in behavior.items() if value is not None}
