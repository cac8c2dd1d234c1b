"""Reader of a described log (`LogConfig`): one pass over each table, chunk by chunk."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import load_toml
from clickscale.data.described.log_config import Files, LogConfig, log_schema
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import Unit, detect_unit, integers, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.conditions import Condition, parse_condition
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.matrices import ContentVectors, load_content
from clickscale.data.tables.raw_tables import column_names, read
from clickscale.errors import InputError, unknown
from clickscale.features import label_of
from clickscale.schema import Field

__all__ = ["LogConfig", "load_log", "log_source"]


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
        split=config.split,
        negatives=config.negatives,
        sampling=config.sampling(),
        notes=() if config.behaviors.files else ("Behaviors are the impressions of the log itself.",),
    )
    bounds = config.time_bounds
    return source if bounds is None else dataclasses.replace(source, time_bounds=bounds)


class _Table:
    """Files of one table, the columns to read, and the units of their times."""

    def __init__(self, what: str, files: Files, base: Path, columns: list[str]) -> None:
        patterns = (files.files,) if isinstance(files.files, str) else files.files
        self._paths = [path for pattern in patterns for path in _matches(what, base, pattern)]
        self._files = files
        self._columns = list(dict.fromkeys(columns))
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

    def chunks(self) -> Iterator[Chunk]:
        """Read all files, one after the other."""
        for path in self._paths:
            yield from read(path, self._columns, format=self._files.format, text=self._files.text())

    def first_rows(self, column: str) -> FirstRows:
        """Return the memory of the ids of a column that this pass over the table has met."""
        return self._first_rows.setdefault(column, FirstRows())

    def time(self, chunk: Chunk, column: str, unit: Unit, problem: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Convert a column to seconds; unreadable ones are added to the problems as ``bad_time``."""
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
        self._where = parse_condition(config.behaviors.where) if config.behaviors.where else None
        conditions = {label.name: label.condition for label in config.labels if label.condition}
        self._conditions = {name: parse_condition(text) for name, text in conditions.items()}
        for _ in self._tables():
            pass  # opening a table refuses missing files and columns before anything is written

    def _tables(self) -> Iterator[tuple[TableName, _Table]]:
        """Yield the tables that have files of their own; impressions last."""
        config, base = self._config, self._base
        if config.users.files:
            columns = [self._user_name(), *_sources(config.users.fields)]
            yield "users", _Table("users", config.users, base, columns)
        if config.items.files:
            columns = [self._item_name(), *_sources(config.items.fields)]
            yield "items", _Table("items", config.items, base, columns)
        if config.behaviors.files:
            columns = [*self._behavior_names(), *self._behavior_extras()]
            yield "behaviors", _Table("behaviors", config.behaviors, base, columns)
        yield "impressions", _Table("impressions", config.impressions, base, self._impression_columns())

    def _names(self) -> tuple[str, str, str]:
        """User, item and time column of the impressions."""
        table = self._config.impressions
        return table.user or self._config.user.source, table.item or self._config.item.source, table.time

    def _behavior_names(self) -> tuple[str, str, str]:
        """User, item and time column of the behaviors."""
        config, table = self._config, self._config.behaviors
        if not table.files:
            return self._names()
        user, item = table.user or config.user.source, table.item or config.item.source
        return user, item, table.time or config.impressions.time

    def _user_name(self) -> str:
        return self._config.users.user or self._config.user.source

    def _item_name(self) -> str:
        return self._config.items.item or self._config.item.source

    def _impression_columns(self) -> list[str]:
        config = self._config
        columns = [*self._names(), *_sources(config.impressions.fields)]
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
        for name, table in self._tables():
            for chunk in table.chunks():
                if name == "users":
                    yield name, self._users(table, chunk, self._user_name())
                elif name == "items":
                    yield name, self._items(table, chunk, self._item_name())
                elif name == "behaviors":
                    yield name, self._behaviors(table, chunk, self._behavior_names())
                else:
                    yield from self._from_impressions(table, chunk)

    def _from_impressions(self, table: _Table, chunk: Chunk) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield impressions, and the tables that have no files of their own."""
        user, item, _ = names = self._names()
        if self._config.users.fields and not self._config.users.files:
            yield "users", self._users(table, table.first_rows(user).rows(chunk, user), user)
        if (self._config.items.fields or self._vectors is not None) and not self._config.items.files:
            yield "items", self._items(table, table.first_rows(item).rows(chunk, item), item)
        if not self._config.behaviors.files:
            yield "behaviors", self._behaviors(table, chunk, names)
        yield "impressions", self._impressions(table, chunk, names)

    def _users(self, table: _Table, chunk: Chunk, user: str) -> pa.RecordBatch:
        ids = {"user": _cast(chunk[user], self._config.user)}
        columns, problem = table.fields(chunk, self._config.users.fields, chunk.problem)
        return canonical(ids | columns, problem)

    def _items(self, table: _Table, chunk: Chunk, item: str) -> pa.RecordBatch:
        ids = {"item": _cast(chunk[item], self._config.item)}
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
            "user": _cast(chunk[user], self._config.user),
            "item": _cast(chunk[item], self._config.item),
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
        return canonical(columns | fields, problem)

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
        for label in () if config.negatives else config.labels:
            if label.name not in self._conditions:
                fields[label_of(label.name)] = chunk[label.column]
                continue
            comparison = self._conditions[label.name]
            fields[label_of(label.name)], bad = comparison.evaluate(chunk[comparison.column])
            problem = mark(problem, bad, "bad_label")
        return canonical(columns | fields, problem)


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
