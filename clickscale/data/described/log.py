"""Reader of a described log (`LogConfig`): one pass over each table, chunk by chunk."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import load_toml
from clickscale.data.described.log_config import Files, LogConfig, log_schema
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import Unit, detect_unit, integers, lacks_zone, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical
from clickscale.data.tables.conditions import Condition, Tally, parse_condition
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.folders import matching_files
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
    schema = log_schema(config, vectors.width if vectors else 0)
    log = _Log(config, base, vectors)
    source = Source(
        schema=schema,
        chunks=log.chunks,
        split=config.split,
        negatives=config.negatives,
        notes=() if config.behaviors.files else ("Behaviors are the impressions of the log itself.",),
        findings=log.findings,
        names=_names_of_tables(config),
    )
    bounds = config.time_bounds
    return source if bounds is None else dataclasses.replace(source, time_bounds=bounds)


def _names_of_tables(config: LogConfig) -> dict[TableName, str]:
    """Name each table by its files, or by those of the impressions if it has none of its own."""
    tables: dict[TableName, Files] = {
        "users": config.users,
        "items": config.items,
        "behaviors": config.behaviors,
        "impressions": config.impressions,
    }
    files = {name: table.files or config.impressions.files for name, table in tables.items()}
    return {name: each if isinstance(each, str) else ", ".join(each) for name, each in files.items()}


class _Table:
    """Files of one table, the columns to read, and the units of their times.

    Attributes:
        without_zone: columns of times of which nothing says in which zone they were read.
    """

    def __init__(self, what: str, files: Files, base: Path, columns: list[str], time_zone: str) -> None:
        patterns = (files.files,) if isinstance(files.files, str) else files.files
        self._paths = [path for pattern in patterns for path in matching_files(what, base, pattern)]
        self._time_zone = time_zone or "UTC"
        self.without_zone: set[str] = set()
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
            if name not in known and name.partition(".")[0] not in known:
                raise InputError(f"{what} {path}: " + unknown("column", name, known))

    def chunks(self) -> Iterator[Chunk]:
        """Read all files, one after the other."""
        for path in self._paths:
            yield from read(path, self._columns, format=self._files.format, text=self._files.text())

    def first_rows(self, column: str) -> FirstRows:
        """Return the memory of the ids of a column that this pass over the table has met."""
        return self._first_rows.setdefault(column, FirstRows())

    def time(self, chunk: Chunk, column: str, unit: Unit) -> tuple[pa.Array, Chunk]:
        """Convert a column to seconds; unreadable ones are added to the problems as ``bad_time``."""
        if unit == "auto":
            unit = self._units.get(column, "auto")
        if unit == "auto" and chunk[column].null_count < len(chunk):
            unit = self._units[column] = detect_unit(chunk[column])
        if unit == "iso" and column not in self.without_zone and lacks_zone(chunk[column]):
            self.without_zone.add(column)
        times, bad = seconds(chunk[column], unit, self._time_zone)
        return times, chunk.marked(bad, "bad_time", column)

    def fields(self, chunk: Chunk, fields: tuple[Field, ...]) -> tuple[dict[str, pa.Array], Chunk]:
        """Convert columns of fields; unreadable timestamps are added to the problems."""
        columns = {}
        for field in fields:
            if field.kind == "timestamp":
                columns[field.name], chunk = self.time(chunk, field.source, "auto")
            else:
                columns[field.name] = _cast(chunk[field.source], field)
        return columns, chunk


def _cast(values: pa.Array, field: Field) -> pa.Array:
    if field.kind == "numeric":
        return numbers(values)
    whole = field.dtype == "int" and field.values == 1 and not _have_leading_zeros(values)
    return integers(values) if whole else values


def _have_leading_zeros(values: pa.Array) -> bool:
    """True if texts such as 007 occur, which as integers would be other ids."""
    if not pa.types.is_string(values.type) or not pc.any(pc.starts_with(values, "0")).as_py():
        return False
    return bool(pc.any(pc.match_substring_regex(values, r"^0[0-9]")).as_py())


class _Log:
    """Reads the tables of a log in one pass over each."""

    def __init__(self, config: LogConfig, base: Path, vectors: ContentVectors | None) -> None:
        self._config, self._base, self._vectors = config, base, vectors
        self._where = parse_condition(config.behaviors.where) if config.behaviors.where else None
        conditions = {label.name: label.condition for label in config.labels if label.condition}
        self._conditions = {name: parse_condition(text) for name, text in conditions.items()}
        self._tallies: dict[str, Tally] = {}
        self._without_zone: dict[str, set[str]] = {}
        for _ in self._tables():
            pass  # opening a table refuses missing files and columns before anything is written

    def _tables(self) -> Iterator[tuple[TableName, _Table]]:
        """Yield the tables that have files of their own; impressions last."""
        config, base = self._config, self._base
        if config.users.files:
            columns = [self._user_name(), *_sources(config.users.fields)]
            yield "users", _Table("users", config.users, base, columns, config.time_zone)
        if config.items.files:
            columns = [self._item_name(), *_sources(config.items.fields)]
            yield "items", _Table("items", config.items, base, columns, config.time_zone)
        if config.behaviors.files:
            columns = [*self._behavior_names(), *self._behavior_extras()]
            yield "behaviors", _Table("behaviors", config.behaviors, base, columns, config.time_zone)
        columns = self._impression_columns()
        yield "impressions", _Table("impressions", config.impressions, base, columns, config.time_zone)

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
        self._tallies, self._without_zone = {}, {}
        for name, table in self._tables():
            self._without_zone[name] = table.without_zone
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

    def findings(self) -> tuple[str, ...]:
        """Say what the last pass over the tables has met; see `Source.findings`."""
        found = [finding for tally in self._tallies.values() for finding in tally.findings()]
        columns = sorted(
            f"{table}.{column}" for table, names in self._without_zone.items() for column in names
        )
        if columns and not self._config.time_zone:
            found.append(
                f"Times without a zone are taken as UTC ({', '.join(columns)}); if they are local, name "
                "their zone: time_zone = 'Europe/Berlin'."
            )
        return tuple(found)

    def _users(self, table: _Table, chunk: Chunk, user: str) -> pa.RecordBatch:
        ids = {"user": _cast(chunk[user], self._config.user)}
        columns, chunk = table.fields(chunk, self._config.users.fields)
        return canonical(ids | columns, chunk.problem, chunk.evidence)

    def _items(self, table: _Table, chunk: Chunk, item: str) -> pa.RecordBatch:
        ids = {"item": _cast(chunk[item], self._config.item)}
        columns, chunk = table.fields(chunk, self._config.items.fields)
        if self._vectors is not None and self._config.content is not None:
            columns[self._config.content.name] = self._vectors.column(ids["item"])
        return canonical(ids | columns, chunk.problem, chunk.evidence)

    def _events(
        self, table: _Table, chunk: Chunk, names: tuple[str, str, str], unit: Unit
    ) -> tuple[dict[str, pa.Array], Chunk]:
        """Convert the columns ``user``, ``item`` and ``time``; return them with the marked chunk."""
        user, item, time = names
        columns = {
            "user": _cast(chunk[user], self._config.user),
            "item": _cast(chunk[item], self._config.item),
        }
        columns["time"], chunk = table.time(chunk, time, unit)
        return columns, chunk

    def _behaviors(self, table: _Table, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        options = self._config.behaviors
        unit = options.time_unit if options.files else self._config.impressions.time_unit
        if self._where is not None:
            what = "the behaviors" if options.files else "the impressions"
            chunk = self._chosen(chunk, self._where, Tally("[behaviors] where", what, self._where))
        columns, chunk = self._events(table, chunk, names, unit)
        if options.known_at:
            known, chunk = table.time(chunk, options.known_at, unit)
            columns["known_at"] = pc.coalesce(known, columns["time"])
        elif self._known_after():
            columns["known_at"] = _later(columns["time"], self._known_after())
        fields, chunk = table.fields(chunk, options.fields)
        return canonical(columns | fields, chunk.problem, chunk.evidence)

    def _known_after(self) -> int:
        options = self._config.behaviors
        delays = [] if options.files else [label.delay for label in self._config.labels]
        return max([options.known_after, *delays])

    def _impressions(self, table: _Table, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        config = self._config
        for name, condition in self._conditions.items() if config.negatives else ():
            chunk = self._chosen(chunk, condition, self._label_tally(name))
        columns, chunk = self._events(table, chunk, names, config.impressions.time_unit)
        fields, chunk = table.fields(chunk, config.impressions.fields)
        for label in () if config.negatives else config.labels:
            if label.name not in self._conditions:
                fields[label_of(label.name)] = chunk[label.column]
                continue
            values = chunk[self._conditions[label.name].column]
            fields[label_of(label.name)], bad = self._outcome(values, self._label_tally(label.name))
            chunk = chunk.marked(bad, "bad_label", self._conditions[label.name].column)
        return canonical(columns | fields, chunk.problem, chunk.evidence)

    def _label_tally(self, name: str) -> Tally:
        return Tally(f"The condition of label {name!r},", "the impressions", self._conditions[name])

    def _outcome(self, values: pa.Array, tally: Tally) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Evaluate a condition, and count how often it holds in this pass over the tables."""
        tally = self._tallies.setdefault(tally.where, tally)
        outcome, bad = tally.condition.evaluate(values)
        tally.add(outcome, values)
        return outcome, bad

    def _chosen(self, chunk: Chunk, condition: Condition, tally: Tally) -> Chunk:
        """Keep the rows that fulfill the condition, and rows with a problem, so that they are counted."""
        outcome, bad = self._outcome(chunk[condition.column], tally)
        chunk = chunk.marked(bad, "bad_condition", condition.column)
        broken = chunk.problem.is_valid().to_numpy(zero_copy_only=False)
        return chunk.kept(pa.array((outcome.fill_null(0).to_numpy(zero_copy_only=False) == 1) | broken))


def _sources(fields: tuple[Field, ...]) -> list[str]:
    return [field.source for field in fields]


def _later(times: pa.Array, delay: int) -> pa.Array:
    missing = times.is_null().to_numpy(zero_copy_only=False)
    return pa.array(times.fill_null(0).to_numpy(zero_copy_only=False) + delay, mask=missing)
