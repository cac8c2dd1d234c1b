"""Reader of a described log (`LogConfig`): one pass over each table, chunk by chunk."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import load_toml
from clickscale.data.described.histories import Histories, list_entries
from clickscale.data.described.log_config import Files, History, LogConfig, log_schema
from clickscale.data.described.rows import ORDER, PART_OF_FILE, ROW, Columns, Lists, Order, RowShape
from clickscale.data.source import PART, PROBLEM, Source, TableName
from clickscale.data.tables.casts import Unit, detect_unit, integers, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.conditions import Condition, parse_condition
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.matrices import ContentVectors, load_content
from clickscale.data.tables.raw_tables import column_names, read
from clickscale.errors import InputError, unknown
from clickscale.features import label_of
from clickscale.schema import Field, joined_name

__all__ = ["LogConfig", "load_log", "log_source"]

_ROWS_WITH_LISTS = 4096


def load_log(path: Path) -> Source:
    """Open the log that a TOML file describes.

    Raises:
        ConfigError: the file has a fault; an unknown key is named with the nearest known one.
        InputError: a table or a column is missing.
    """
    return log_source(load_toml(path, LogConfig), path.parent)


def log_source(config: LogConfig, base: Path) -> Source:
    """Make the source of a described log; relative paths begin at ``base``."""
    content = config.content
    vectors = load_content(base / content.vectors, base / content.ids) if content else None
    source = Source(
        schema=log_schema(config, vectors.width if vectors else 0),
        chunks=_Log(config, base, vectors).chunks,
        split=config.parts(),
        negatives=config.negatives,
        sampling=config.sampling(),
        notes=tuple(_notes(config)),
    )
    bounds = config.time_bounds
    return source if bounds is None else dataclasses.replace(source, time_bounds=bounds)


def _notes(config: LogConfig) -> Iterator[str]:
    """Say what a reader of results must know of the shape of the log."""
    absent = log_schema(config, 1).absent
    if "user" in absent:
        yield (
            "The log names no user: each of its rows counts as a user of its own. So histories are empty, "
            "GAUC is not defined, and no split goes by user."
        )
    elif not config.behaviors.files:
        yield "Behaviors are the impressions of the log itself."
    if "item" in absent:
        yield "The log names no item: its impressions differ by their context only."
    if config.history and not config.history.times:
        yield "Histories in lists have an order but no times; they stand one second apart."
    if config.impressions.order:
        yield "The log has no times: moments are places in its order, one second apart."


class _Table:
    """Files of one table, the columns to read, and the units of their times.

    Args:
        columns: columns of rows of one event each, as ``shape`` makes them.
        shape: how rows of the files become such rows.
        lists: columns of the files that hold histories.
    """

    def __init__(
        self,
        what: str,
        files: Files,
        base: Path,
        columns: list[str],
        shape: RowShape,
        lists: Sequence[str] = (),
    ) -> None:
        found: dict[str, list[Path]] = {part: [] for part, _ in files.patterns()}
        for part, pattern in files.patterns():
            found[part] += _matches(what, base, pattern)
        self._paths = [path for paths in found.values() for path in paths]
        self._shape = shape.with_parts(
            {path: part for part, paths in found.items() for path in paths if part}
        )
        self._whole, self._has_lists = shape.without_lists(), shape.has_lists or bool(lists)
        self._files = files
        self._wanted = list(dict.fromkeys(columns))
        self._columns = list(dict.fromkeys([*shape.raw_columns(self._wanted), *lists]))
        self._units: dict[str, Unit] = {}
        self._first_rows: dict[str, FirstRows] = {}
        self._check(what)

    def _check(self, what: str) -> None:
        """Refuse missing columns before any work is done."""
        for path in self._paths:
            known = column_names(path, format=self._files.format, text=self._files.text())
            if known:
                break
        else:
            raise InputError(f"{what} {path}: the table has no rows.")
        for name in self._columns:
            if name not in known:
                raise InputError(f"{what} {path}: " + unknown("column", name, known))

    def chunks(self) -> Iterator[tuple[Path, Chunk]]:
        """Read all files, one after the other."""
        for path in self._paths:
            for chunk in read(path, self._columns, format=self._files.format, text=self._files.text()):
                # A row with lists becomes many, so few rows are taken apart at a time.
                rows = _ROWS_WITH_LISTS if self._has_lists else max(len(chunk), 1)
                for start in range(0, len(chunk), rows):
                    yield path, Chunk(chunk.rows.slice(start, rows), chunk.problem.slice(start, rows))

    def rows(self, path: Path, chunk: Chunk, columns: Sequence[str]) -> Chunk:
        """Return columns of the rows as they stand, lists not taken apart."""
        return self._whole.apply(chunk, path, columns)

    def events(self, path: Path, chunk: Chunk) -> Chunk:
        """Make rows of one event each."""
        return self._shape.apply(chunk, path, self._wanted)

    def first_rows(self, column: str) -> FirstRows:
        """Return the memory of the ids of a column that this pass over the table has met."""
        return self._first_rows.setdefault(column, FirstRows())

    def time(self, chunk: Chunk, column: str, unit: Unit, problem: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Convert a column to seconds; unreadable ones are added to the problems as ``bad_time``."""
        unit = "s" if column == ORDER else unit
        if unit == "auto":
            unit = self._units.get(column, "auto")
        if unit == "auto" and chunk[column].null_count < len(chunk):
            unit = self._units[column] = detect_unit(chunk[column])
        times, bad = seconds(chunk[column], unit)
        return times, mark(problem, bad, "bad_time")

    def fields(
        self, chunk: Chunk, fields: tuple[Field, ...], problem: pa.Array
    ) -> tuple[dict[str, pa.Array], pa.Array]:
        """Convert columns of fields; unreadable timestamps are added to the problems."""
        columns = {}
        for field in fields:
            if field.kind == "timestamp":
                columns[field.name], problem = self.time(chunk, field.source, "auto", problem)
            else:
                columns[field.name] = _cast(chunk[field.source], field)
        return columns, problem


def _cast(values: pa.Array, field: Field) -> pa.Array:
    if field.kind == "numeric":
        return numbers(values)
    return integers(values) if field.dtype == "int" and field.values == 1 else values


def _matches(what: str, base: Path, pattern: str) -> list[Path]:
    path = Path(pattern)
    root = Path(path.anchor) if path.is_absolute() else base
    inner = str(path.relative_to(path.anchor)) if path.is_absolute() else pattern
    paths = sorted(entry for entry in root.glob(inner) if entry.is_file())
    if not paths:
        raise InputError(f"{what}: no file matches {pattern!r} in {base}.")
    return paths


class _Log:
    """Reads the tables of a log in one pass over each."""

    def __init__(self, config: LogConfig, base: Path, vectors: ContentVectors | None) -> None:
        self._config, self._base, self._vectors = config, base, vectors
        self._schema, self._split = log_schema(config, vectors.width if vectors else 0), config.parts()
        self._where = parse_condition(config.behaviors.where) if config.behaviors.where else None
        conditions = {label.name: label.condition for label in config.labels if label.condition}
        self._conditions = {name: parse_condition(text) for name, text in conditions.items()}
        for _ in self._tables():
            pass  # opening a table refuses missing files and columns before anything is written

    def _tables(self) -> Iterator[tuple[TableName | Literal["history"], _Table]]:
        """Yield the tables that have files of their own; impressions last."""
        config, base, history = self._config, self._base, self._config.history
        if config.users.files:
            columns = [self._user_name(), *_sources(config.users.fields)]
            yield "users", _Table("users", config.users, base, columns, self._shape(config.users.user))
        if config.items.files:
            columns = [self._item_name(), *_sources(config.items.fields)]
            yield "items", _Table("items", config.items, base, columns, self._shape("", config.items.item))
        if config.behaviors.files:
            columns = [*self._behavior_names(), *self._behavior_extras()]
            shape = self._shape(config.behaviors.user, config.behaviors.item)
            yield "behaviors", _Table("behaviors", config.behaviors, base, columns, shape)
        if history and history.files:
            columns = [self._history_user(), *([history.time] if history.time else [])]
            shape, lists = self._shape(history.user), _list_columns(history)
            yield "history", _Table("history", history, base, columns, shape, lists)
        table, columns = config.impressions, self._impression_columns()
        user, item, _ = self._names()
        shape = self._shape(table.user, table.item, item, table.lists, table.order, user)
        lists = _list_columns(history) if history and not history.files else []
        yield "impressions", _Table("impressions", table, base, columns, shape, lists)

    def _shape(
        self,
        user: Columns,
        item: Columns = "",
        listed: str = "",
        lists: Lists | None = None,
        order: Order = "",
        owner: str = "",
    ) -> RowShape:
        """Make the shape of a table whose ids may be composed of the columns ``user`` and ``item``."""
        ids = self._schema
        several = [
            names
            for names in (user or ids.user.column, item or ids.item.column)
            if not isinstance(names, str)
        ]
        return RowShape(listed, lists, {joined_name(names): names for names in several}, order, owner)

    def _names(self) -> tuple[str, str, str]:
        """User, item and time column of the impressions."""
        table, absent = self._config.impressions, self._schema.absent
        user = ROW if "user" in absent else joined_name(table.user) or self._schema.user.source
        item = "" if "item" in absent else joined_name(table.item) or self._schema.item.source
        return user, item, ORDER if table.order else table.time

    def _behavior_names(self) -> tuple[str, str, str]:
        """User, item and time column of the behaviors."""
        config, table = self._config, self._config.behaviors
        if not table.files:
            return self._names()
        user = joined_name(table.user) or self._schema.user.source
        item = joined_name(table.item) or self._schema.item.source
        return user, item, table.time or config.impressions.time

    def _user_name(self) -> str:
        return joined_name(self._config.users.user) or self._schema.user.source

    def _item_name(self) -> str:
        return joined_name(self._config.items.item) or self._schema.item.source

    def _history_user(self) -> str:
        own = self._config.history.user if self._config.history else ""
        return joined_name(own) or self._schema.user.source

    def _impression_columns(self) -> list[str]:
        config = self._config
        columns = [*filter(None, self._names()), *_sources(config.impressions.fields)]
        columns += [self._split.column] if self._split.column else []
        columns += [label.column for label in config.labels if label.column and not label.condition]
        columns += [condition.column for condition in self._conditions.values()]
        columns += [] if config.users.files else _sources(config.users.fields)
        columns += [] if config.items.files else _sources(config.items.fields)
        return columns if config.behaviors.files else [*columns, *self._behavior_extras()]

    def _behavior_extras(self) -> list[str]:
        """Columns of behaviors beside user, item and time."""
        table = self._config.behaviors
        extras = [*_sources(table.fields), table.known_at, self._where.column if self._where else ""]
        return [name for name in extras if name]

    def chunks(self) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield the canonical tables, read from the start."""
        config = self._config
        names = [field.name for field in config.behavior_fields()]
        timed = bool(config.history and config.history.times)
        histories = Histories(names, timed, self._has_known_at()) if config.history else None
        for name, table in self._tables():
            for path, chunk in table.chunks():
                events = table.events(path, chunk)
                if name == "users":
                    yield name, self._users(table, events, self._user_name())
                elif name == "items":
                    yield name, self._items(table, events, self._item_name())
                elif name == "behaviors":
                    yield from self._told(self._behaviors(table, events, self._behavior_names()), histories)
                elif name == "impressions":
                    yield from self._from_impressions(table, events, histories)
                history = config.history
                if histories and history and name == ("history" if history.files else "impressions"):
                    yield from self._entries(table, path, chunk, history, histories)
        for batch in histories.timelines() if histories else ():
            yield "behaviors", self._as_read(batch)

    def _told(
        self, events: pa.RecordBatch, histories: Histories | None
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield behaviors of the log, or keep them until the lists are read."""
        for batch in (events,) if histories is None else histories.add_events(events):
            yield "behaviors", batch

    def _from_impressions(
        self, table: _Table, chunk: Chunk, histories: Histories | None
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield impressions, and the tables that have no files of their own."""
        user, item, _ = names = self._names()
        if self._config.users.fields and not self._config.users.files:
            yield "users", self._users(table, table.first_rows(user).rows(chunk, user), user)
        if (self._config.items.fields or self._vectors is not None) and not self._config.items.files:
            yield "items", self._items(table, table.first_rows(item).rows(chunk, item), item)
        if not self._config.behaviors.files and "user" not in self._schema.absent:
            yield from self._told(self._behaviors(table, chunk, names), histories)
        impressions = self._impressions(table, chunk, names)
        if histories and self._config.history and self._config.history.files:
            histories.add_moments(*_first_moments(impressions))
        yield "impressions", impressions

    def _entries(
        self, table: _Table, path: Path, chunk: Chunk, history: History, histories: Histories
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Keep the lists of a chunk; yield the entries that cannot be used."""
        if history.files:
            user, time, unit = self._history_user(), history.time, history.time_unit
        else:
            user, _, time = self._names()
            unit = self._config.impressions.time_unit
        rows = table.rows(path, chunk, [user, *([time] if time else [])])
        owner = _cast(rows[user], self._schema.user)
        listed = [name for name in _list_columns(history) if name != history.items]
        entries = list_entries(chunk, history.items, listed, history.entry_separator)
        columns = {
            "user": owner.take(pa.array(entries.row)),
            "item": _cast(entries.chunk[history.items], self._schema.item),
        }
        problem = entries.chunk.problem
        if history.times:
            columns["time"], problem = table.time(entries.chunk, history.times, history.time_unit, problem)
            if self._has_known_at():
                columns["known_at"] = _later(columns["time"], history.known_after)
        else:
            moments = pa.nulls(len(chunk), pa.int64())
            if time:
                moments, bad = table.time(rows, time, unit, rows.problem)
                problem = pc.coalesce(problem, bad.take(pa.array(entries.row)))
            # A row of a user's impressions knew its list before; that of a table ends at its time.
            known_before = _later(moments, 1) if history.files else moments
            columns["time"] = known_before.take(pa.array(entries.row))
            if not history.files:
                empty = pa.array(entries.empty)
                histories.add_moments(owner.filter(empty), moments.filter(empty))
        fields, problem = table.fields(entries.chunk, history.fields, problem)
        for batch in histories.add_entries(
            canonical(self._completed(columns | fields), problem), entries.row
        ):
            yield "behaviors", batch

    def _has_known_at(self) -> bool:
        history = self._config.history
        later = self._config.behaviors.known_at or self._known_after()
        return bool(later or (history and history.known_after))

    def _completed(self, columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Add the behavior fields that a source of behaviors does not have."""
        rows = len(columns["time"])
        missing = [f.name for f in self._config.behavior_fields() if f.name not in columns]
        return columns | {name: pa.nulls(rows, pa.string()) for name in missing}

    def _as_read(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give columns that were kept as texts the types that they were read with."""
        fields = {field.name: field for field in self._config.behavior_fields()}
        fields |= {"user": self._schema.user, "item": self._schema.item}
        columns = {name: batch[name] for name in batch.schema.names if name != PROBLEM}
        for name, field in fields.items():
            is_time = field.kind == "timestamp"
            columns[name] = integers(batch[name]) if is_time else _cast(batch[name], field)
        return canonical(columns, batch[PROBLEM])

    def _users(self, table: _Table, chunk: Chunk, user: str) -> pa.RecordBatch:
        ids = {"user": _cast(chunk[user], self._schema.user)}
        columns, problem = table.fields(chunk, self._config.users.fields, chunk.problem)
        return canonical(ids | columns, problem)

    def _items(self, table: _Table, chunk: Chunk, item: str) -> pa.RecordBatch:
        ids = {"item": _cast(chunk[item], self._schema.item)}
        columns, problem = table.fields(chunk, self._config.items.fields, chunk.problem)
        if self._vectors is not None and self._config.content is not None:
            columns[self._config.content.name] = self._vectors.column(ids["item"])
        return canonical(ids | columns, problem)

    def _events(
        self, table: _Table, chunk: Chunk, names: tuple[str, str, str], unit: Unit
    ) -> tuple[dict[str, pa.Array], pa.Array]:
        """Convert the columns ``user``, ``item`` and ``time``; return them with the problems."""
        user, item, time = names
        columns = {
            "user": _cast(chunk[user], self._schema.user),
            "item": _cast(chunk[item], self._schema.item)
            if item
            else pa.array(np.zeros(len(chunk), np.int64)),
        }
        columns["time"], problem = table.time(chunk, time, unit, chunk.problem)
        return columns, problem

    def _behaviors(self, table: _Table, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        options = self._config.behaviors
        unit = options.time_unit if options.files else self._config.impressions.time_unit
        chunk = _chosen(chunk, self._where)
        columns, problem = self._events(table, chunk, names, unit)
        if options.known_at:
            known, problem = table.time(chunk, options.known_at, unit, problem)
            columns["known_at"] = pc.coalesce(known, columns["time"])
        elif self._known_after():
            columns["known_at"] = _later(columns["time"], self._known_after())
        fields, problem = table.fields(chunk, options.fields, problem)
        return canonical(self._completed(columns | fields), problem)

    def _known_after(self) -> int:
        options = self._config.behaviors
        delays = [] if options.files else [label.delay for label in self._config.labels]
        return max([options.known_after, *delays])

    def _impressions(self, table: _Table, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        config = self._config
        for condition in self._conditions.values() if config.negatives else ():
            chunk = _chosen(chunk, condition)
        columns, problem = self._events(table, chunk, names, config.impressions.time_unit)
        fields, problem = table.fields(chunk, config.impressions.fields, problem)
        if self._split.is_given:
            fields[PART] = chunk[self._split.column or PART_OF_FILE]
        for label in () if config.negatives else config.labels:
            if label.name not in self._conditions:
                fields[label_of(label.name)] = chunk[label.column]
                continue
            comparison = self._conditions[label.name]
            fields[label_of(label.name)], bad = comparison.evaluate(chunk[comparison.column])
            problem = mark(problem, bad, "bad_label")
        return canonical(columns | fields, problem)


def _list_columns(history: History) -> list[str]:
    """List the columns of lists of a history."""
    return [history.items, *([history.times] if history.times else []), *_sources(history.fields)]


def _first_moments(impressions: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Find the first moment of each user of a chunk."""
    table = pa.table({"user": impressions["user"], "time": impressions["time"]})
    least = table.group_by("user", use_threads=False).aggregate([("time", "min")]).combine_chunks()
    return least["user"].combine_chunks(), least["time_min"].combine_chunks()


def _sources(fields: tuple[Field, ...]) -> list[str]:
    return [field.source for field in fields]


def _later(times: pa.Array, delay: int) -> pa.Array:
    missing = times.is_null().to_numpy(zero_copy_only=False)
    return pa.array(times.fill_null(0).to_numpy(zero_copy_only=False) + delay, mask=missing)


def _chosen(chunk: Chunk, condition: Condition | None) -> Chunk:
    """Keep the rows that fulfill the condition, and rows with a problem, so that they are counted."""
    if condition is None:
        return chunk
    outcome, bad = condition.evaluate(chunk[condition.column])
    problem = mark(chunk.problem, bad, "bad_condition")
    broken = problem.is_valid().to_numpy(zero_copy_only=False)
    keep = pa.array((outcome.fill_null(0).to_numpy(zero_copy_only=False) == 1) | broken)
    return Chunk(chunk.rows.filter(keep), problem.filter(keep))
