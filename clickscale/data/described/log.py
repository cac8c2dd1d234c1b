"""Reader of a described log (`LogConfig`): one pass over each table, chunk by chunk."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.config_text import load_toml
from clickscale.data.described.attributes import Attributes
from clickscale.data.described.guests import Guests
from clickscale.data.described.histories import Histories, list_entries
from clickscale.data.described.joined_tables import Joins
from clickscale.data.described.log_config import LogConfig
from clickscale.data.described.log_schema import log_schema
from clickscale.data.described.outcomes import Outcomes
from clickscale.data.described.rows import (
    ORDER,
    PART_OF_FILE,
    ROW,
    Columns,
    Joined,
    Lists,
    Order,
    RowShape,
    as_text,
)
from clickscale.data.described.table_files import TableFiles, cast, sources
from clickscale.data.described.table_options import Files, History
from clickscale.data.source import PART, PROBLEM, Source, TableName
from clickscale.data.tables.casts import Unit, integers
from clickscale.data.tables.chunks import Chunk, canonical, empty_problems
from clickscale.data.tables.conditions import Tally, parse_condition
from clickscale.data.tables.matrices import ContentVectors, load_content
from clickscale.data.tables.row_order import RowOrder
from clickscale.features import label_of
from clickscale.schema import Label, joined_name

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
    log = _Log(config, base, vectors)
    source = Source(
        schema=log_schema(config, vectors.width if vectors else 0),
        chunks=log.chunks,
        split=config.parts(),
        negatives=config.negatives,
        sampling=config.sampling(),
        notes=tuple(config.notes()),
        findings=log.findings,
        names=config.names(),
    )
    bounds = config.time_bounds
    return source if bounds is None else dataclasses.replace(source, time_bounds=bounds)


class _Log:
    """Reads the tables of a log in one pass over each."""

    def __init__(self, config: LogConfig, base: Path, vectors: ContentVectors | None) -> None:
        self._config, self._base, self._vectors = config, base, vectors
        self._schema, self._split = log_schema(config, vectors.width if vectors else 0), config.parts()
        self._where = parse_condition(config.behaviors.where) if config.behaviors.where else None
        ids, zone, labels = self._schema, config.time_zone, config.labels
        self._conditions = {each.name: parse_condition(each.condition) for each in labels if each.condition}
        self._known = {each.name: parse_condition(each.known) for each in labels if each.known}
        self._shown_where = parse_condition(config.impressions.where) if config.impressions.where else None
        self._tallies: dict[str, Tally] = {}
        self._guests = Guests((), "")
        self._read = self._kept = 0  # rows of the impressions, before and after their condition
        self._without_zone: dict[str, set[str]] = {}
        joins = self._joins = Joins(config, base)
        self._outcomes = Outcomes(config, base, joins)
        self._of_users = Attributes("users", ids.user, config.users.more, base, zone, joins)
        self._of_items = Attributes("items", ids.item, config.items.more, base, zone, joins)
        # Opening a table refuses missing files and columns before anything is written.
        self._opened = [table for _, table in self._tables()]
        joins.findings()

    def _tables(self) -> Iterator[tuple[TableName | Literal["history"], TableFiles]]:
        """Yield the tables that have files of their own; impressions last."""
        config, history = self._config, self._config.history
        if config.users.files:
            columns = [self._user_name(), *sources(config.users.fields)]
            yield "users", self._open("users", config.users, columns, self._shape(config.users.user))
        if config.items.files:
            columns = [self._item_name(), *sources(config.items.fields)]
            yield "items", self._open("items", config.items, columns, self._shape("", config.items.item))
        if config.behaviors.files:
            columns = [*self._behavior_names(), *self._behavior_extras()]
            shape = self._shape(config.behaviors.user, config.behaviors.item)
            yield "behaviors", self._open("behaviors", config.behaviors, columns, shape)
        if history and history.files:
            columns = [self._history_user(), *([history.time] if history.time else [])]
            shape, lists = self._shape(history.user), _list_columns(history)
            yield "history", self._open("history", history, columns, shape, lists)
        table, (user, item, _) = config.impressions, self._names()
        shape = self._shape(table.user, table.item, item, table.lists, table.order, user)
        lists = _list_columns(history) if history and not history.files else []
        yield "impressions", self._open("impressions", table, self._impression_columns(), shape, lists)

    def _open(
        self, what: str, files: Files, columns: list[str], shape: RowShape, lists: Sequence[str] = ()
    ) -> TableFiles:
        zone = self._config.time_zone
        return TableFiles(what, files, self._base, columns, zone, shape, lists, self._joins)

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
        joined = {joined_name(names): Joined(names, "id") for names in several}
        joined |= {f.source: Joined(f.flags, "flags") for f in ids.fields().values() if f.flags}
        for time in (self._config.impressions.time, self._config.behaviors.time):
            if not isinstance(time, str):
                joined[joined_name(time)] = Joined(time, "moment")
        return RowShape(listed, lists, joined, order, owner)

    def _names(self) -> tuple[str, str, str]:
        """User, item and time column of the impressions."""
        table, absent = self._config.impressions, self._schema.absent
        nobody = "user" in absent or self._config.owns_rows
        user = ROW if nobody else joined_name(table.user) or self._schema.user.source
        item = "" if "item" in absent else joined_name(table.item) or self._schema.item.source
        return user, item, ORDER if table.order or table.ordered else joined_name(table.time)

    def _behavior_names(self) -> tuple[str, str, str]:
        """User, item and time column of the behaviors."""
        config, table = self._config, self._config.behaviors
        if not table.files:
            return self._names()
        user = joined_name(table.user) or self._schema.user.source
        item = joined_name(table.item) or self._schema.item.source
        return user, item, joined_name(table.time or config.impressions.time)

    def _user_name(self) -> str:
        return joined_name(self._config.users.user) or self._schema.user.source

    def _item_name(self) -> str:
        return joined_name(self._config.items.item) or self._schema.item.source

    def _history_user(self) -> str:
        own = self._config.history.user if self._config.history else ""
        return joined_name(own) or self._schema.user.source

    def _impression_columns(self) -> list[str]:
        config = self._config
        columns = [*filter(None, self._names()), *sources(config.impressions.fields)]
        columns += [joined_name(config.impressions.time)] if config.impressions.ordered else []
        columns += [self._split.column] if self._split.column else []
        columns += [label.column for label in config.labels if label.column and not label.condition]
        columns += [each.column for each in (*self._conditions.values(), *self._known.values())]
        columns += [] if config.users.files else sources(config.users.fields)
        columns += [] if config.items.files else sources(config.items.fields)
        columns += self._outcomes.keys
        columns += [self._shown_where.column] if self._shown_where else []
        columns += [] if config.behaviors.files else self._behavior_extras()
        return [name for name in columns if name not in self._outcomes.made]

    def _behavior_extras(self) -> list[str]:
        """Columns of behaviors beside user, item and time."""
        table = self._config.behaviors
        extras = [*sources(table.fields), table.known_at, self._where.column if self._where else ""]
        return [name for name in extras if name]

    def chunks(self) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield the canonical tables, read from the start."""
        config = self._config
        names = [field.name for field in config.behavior_fields()]
        timed = bool(config.history and config.history.times)
        sorts = config.history is not None and not config.owns_rows
        histories = Histories(names, timed, self._has_known_at()) if sorts else None
        self._tallies, self._without_zone, order = {}, {}, RowOrder()
        self._read = self._kept = 0
        for tables in (self._outcomes, self._of_users, self._of_items):
            tables.read()
        opened = list(self._tables())
        self._opened = [table for _, table in opened]
        for name, table in opened:
            self._without_zone[name] = table.without_zone
            for path, chunk in self._shown(table) if name == "impressions" else table.chunks():
                events = table.events(path, chunk)
                if name == "users":
                    yield name, self._users(table, events, self._user_name())
                elif name == "items":
                    yield name, self._items(table, events, self._item_name())
                elif name == "behaviors":
                    yield from self._told(self._behaviors(table, events, self._behavior_names()), histories)
                elif name == "impressions":
                    events = self._in_order(table, self._outcomes.add(table, events, self._guests), order)
                    yield from self._from_impressions(table, events, histories)
                history = config.history
                if history and name == ("history" if history.files else "impressions"):
                    yield from self._entries(table, path, chunk, history, histories)
        for batch in histories.timelines() if histories else ():
            yield "behaviors", self._as_read(batch)
        yield from self._rest()
        self.findings()  # a condition or a join that fits no row, before rows that lack it are counted

    def _shown(self, table: TableFiles) -> Iterator[tuple[Path, Chunk]]:
        """Yield the rows of the table of impressions that are impressions."""
        guests = self._guests = Guests(self._config.impressions.guests, self._names()[0])
        for path, chunk in table.chunks():
            owned, where = guests(chunk), self._shown_where
            tally = None if where is None else Tally("[impressions] where", "the impressions", where)
            kept = owned if tally is None else self._chosen(owned, tally)
            self._read, self._kept = self._read + len(owned), self._kept + len(kept)
            if len(kept) or not len(owned):
                yield path, kept

    def _rest(self) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield users and items that only their further tables have."""
        config = self._config
        for ids, fields, tables in (
            ("user", config.users.fields, self._of_users),
            ("item", config.items.fields, self._of_items),
        ):
            if not len(rest := tables.rest()):
                continue
            columns = {ids: rest} | {field.name: pa.nulls(len(rest), pa.string()) for field in fields}
            columns |= tables.of(rest)
            if ids == "item" and self._vectors is not None and config.content is not None:
                columns[config.content.name] = self._vectors.column(rest)
            yield f"{ids}s", canonical(columns, empty_problems(len(rest)))  # type: ignore[misc]

    def _in_order(self, table: TableFiles, chunk: Chunk, order: RowOrder) -> Chunk:
        """Add times in the order of the rows to a chunk of the impressions, if they are in order."""
        shown = self._config.impressions
        if not shown.ordered:
            return chunk
        times, chunk = table.time(chunk, joined_name(shown.time), shown.time_unit)
        rows = chunk.rows.append_column(ORDER, order(as_text(chunk[self._names()[0]]), times))
        return Chunk(rows, chunk.problem, chunk.evidence)

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
        if self._kept < self._read:
            found.append(
                f"{self._read - self._kept:,} of {self._read:,} rows of the table of impressions do not "
                "fulfill [impressions] where and are left out."
            )
        found += self._guests.findings()
        found += [finding for table in self._opened for finding in table.findings()]
        for told in (self._outcomes, self._of_users, self._of_items, self._joins):
            found += told.findings()
        return tuple(found)

    def _told(
        self, events: pa.RecordBatch, histories: Histories | None
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield behaviors of the log, or keep them until the lists are read."""
        for batch in (events,) if histories is None else histories.add_events(events):
            yield "behaviors", batch

    def _from_impressions(
        self, table: TableFiles, chunk: Chunk, histories: Histories | None
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield impressions, and the tables that have no files of their own."""
        user, item, _ = names = self._names()
        if self._config.users.every() and not self._config.users.files:
            yield "users", self._users(table, table.first_rows(user).rows(chunk, user), user)
        if (self._config.items.every() or self._vectors is not None) and not self._config.items.files:
            yield "items", self._items(table, table.first_rows(item).rows(chunk, item), item)
        if not self._config.behaviors.files and user != ROW:
            yield from self._told(self._behaviors(table, chunk, names), histories)
        impressions = self._impressions(table, chunk, names)
        if histories and self._config.history and self._config.history.files:
            histories.add_moments(*_first_moments(impressions))
        yield "impressions", impressions

    def _entries(
        self, table: TableFiles, path: Path, chunk: Chunk, history: History, histories: Histories | None
    ) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Keep the lists of a chunk and yield the entries that cannot be used; without ``histories``, all."""
        if history.files:
            user, time, unit = self._history_user(), history.time, history.time_unit
        else:
            user, _, time = self._names()
            unit = self._config.impressions.time_unit
        rows = table.rows(path, chunk, [user, *([time] if time else [])])
        owner = cast(rows[user], self._schema.user)
        listed = [name for name in _list_columns(history) if name != history.items]
        entries = list_entries(
            chunk,
            history.items,
            listed,
            history.entry_separator,
            padding=history.padding,
            newest_first=history.newest_first,
        )
        columns = {
            "user": owner.take(pa.array(entries.row)),
            "item": cast(entries.chunk[history.items], self._schema.item),
        }
        told = entries.chunk
        if history.times:
            columns["time"], told = table.time(told, history.times, history.time_unit)
            if self._has_known_at():
                columns["known_at"] = _later(columns["time"], history.known_after)
        else:
            moments = pa.nulls(len(chunk), pa.int64())
            if time:
                moments, rows = table.time(rows, time, unit)
                problem = pc.coalesce(told.problem, rows.problem.take(pa.array(entries.row)))
                told = Chunk(told.rows, problem, told.evidence)
            # A row of a user's impressions knew its list before; that of a table ends at its time.
            known_before = _later(moments, 1) if history.files else moments
            columns["time"] = known_before.take(pa.array(entries.row))
            if histories is None:  # entries of one row stand one second apart, just before it
                columns["time"] = pc.subtract(columns["time"], pa.array(_places_from_end(entries.row)))
            elif not history.files:
                empty = pa.array(entries.empty)
                histories.add_moments(owner.filter(empty), moments.filter(empty))
        fields, told = table.fields(told, history.fields)
        listed_events = canonical(self._completed(columns | fields), told.problem, told.evidence)
        if histories is None:
            yield "behaviors", listed_events
            return
        for batch in histories.add_entries(listed_events, entries.row):
            yield "behaviors", batch

    def _has_known_at(self) -> bool:
        history = self._config.history
        later = self._config.behaviors.known_at or self._config.known_after
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
            columns[name] = integers(batch[name]) if is_time else cast(batch[name], field)
        return canonical(columns, batch[PROBLEM])

    def _users(self, table: TableFiles, chunk: Chunk, user: str) -> pa.RecordBatch:
        ids = {"user": cast(chunk[user], self._schema.user)}
        columns, chunk = table.fields(chunk, self._config.users.fields)
        columns |= self._of_users.of(ids["user"])
        return canonical(ids | columns, chunk.problem, chunk.evidence)

    def _items(self, table: TableFiles, chunk: Chunk, item: str) -> pa.RecordBatch:
        ids = {"item": cast(chunk[item], self._schema.item)}
        columns, chunk = table.fields(chunk, self._config.items.fields)
        columns |= self._of_items.of(ids["item"])
        if self._vectors is not None and self._config.content is not None:
            columns[self._config.content.name] = self._vectors.column(ids["item"])
        return canonical(ids | columns, chunk.problem, chunk.evidence)

    def _events(
        self, table: TableFiles, chunk: Chunk, names: tuple[str, str, str], unit: Unit
    ) -> tuple[dict[str, pa.Array], Chunk]:
        """Convert the columns ``user``, ``item`` and ``time``; return them with the marked chunk."""
        user, item, time = names
        columns = {
            "user": cast(chunk[user], self._schema.user),
            "item": cast(chunk[item], self._schema.item)
            if item
            else pa.array(np.zeros(len(chunk), np.int64)),
        }
        columns["time"], chunk = table.time(chunk, time, unit)
        return columns, chunk

    def _behaviors(self, table: TableFiles, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        options = self._config.behaviors
        unit = options.time_unit if options.files else self._config.impressions.time_unit
        if self._where is not None:
            what = "the behaviors" if options.files else "the impressions"
            chunk = self._chosen(chunk, Tally("[behaviors] where", what, self._where))
        columns, chunk = self._events(table, chunk, names, unit)
        if options.known_at:
            known, chunk = table.time(chunk, options.known_at, unit)
            columns["known_at"] = pc.coalesce(known, columns["time"])
        elif self._config.known_after:
            columns["known_at"] = _later(columns["time"], self._config.known_after)
        fields, chunk = table.fields(chunk, options.fields)
        return canonical(self._completed(columns | fields), chunk.problem, chunk.evidence)

    def _impressions(self, table: TableFiles, chunk: Chunk, names: tuple[str, str, str]) -> pa.RecordBatch:
        config = self._config
        for name in self._conditions if config.negatives else ():
            chunk = self._chosen(chunk, self._label_tally(name))
        columns, chunk = self._events(table, chunk, names, config.impressions.time_unit)
        fields, chunk = table.fields(chunk, config.impressions.fields)
        if self._split.is_given:
            fields[PART] = chunk[self._split.column or PART_OF_FILE]
        for label in () if config.negatives else config.labels:
            fields[label_of(label.name)], chunk = self._outcomes_of(label, chunk)
        return canonical(columns | fields, chunk.problem, chunk.evidence)

    def _outcomes_of(self, label: Label, chunk: Chunk) -> tuple[pa.Array, Chunk]:
        """Read the outcomes (N,) of a label, null where unknown; unreadable ones become problems."""
        condition = self._conditions.get(label.name)
        values = chunk[condition.column if condition else label.column]
        if condition is not None:
            values, bad = self._outcome(values, self._label_tally(label.name))
            chunk = chunk.marked(bad, "bad_label", condition.column)
        if (known := self._known.get(label.name)) is not None:
            is_known, bad = known.evaluate(chunk[known.column])
            chunk = chunk.marked(bad, "bad_condition", known.column)
            values = pc.if_else(pc.equal(is_known, 1), values, None)
        return values, chunk

    def _label_tally(self, name: str) -> Tally:
        return Tally(f"The condition of label {name!r},", "the impressions", self._conditions[name])

    def _outcome(self, values: pa.Array, tally: Tally) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Evaluate a condition, and count how often it holds in this pass over the tables."""
        return self._tallies.setdefault(tally.where, tally).evaluate(values)

    def _chosen(self, chunk: Chunk, tally: Tally) -> Chunk:
        """Keep the rows that fulfill a condition, and rows with a problem, so that they are counted."""
        column = tally.condition.column
        outcome, bad = self._outcome(chunk[column], tally)
        chunk = chunk.marked(bad, "bad_condition", column)
        broken = chunk.problem.is_valid().to_numpy(zero_copy_only=False)
        return chunk.kept(pa.array((outcome.fill_null(0).to_numpy(zero_copy_only=False) == 1) | broken))


def _list_columns(history: History) -> list[str]:
    """List the columns of lists of a history."""
    return [history.items, *([history.times] if history.times else []), *sources(history.fields)]


def _places_from_end(row: Ints) -> Ints:
    """(N,) 1 for the last entry of each list, 2 for the one before, ...; ``row`` ascends list by list."""
    ends = np.searchsorted(row, row, side="right")
    return np.asarray(ends - np.arange(len(row)), np.int64)


def _first_moments(impressions: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Find the first moment of each user of a chunk."""
    table = pa.table({"user": impressions["user"], "time": impressions["time"]})
    least = table.group_by("user", use_threads=False).aggregate([("time", "min")]).combine_chunks()
    return least["user"].combine_chunks(), least["time_min"].combine_chunks()


def _later(times: pa.Array, delay: int) -> pa.Array:
    missing = times.is_null().to_numpy(zero_copy_only=False)
    return pa.array(times.fill_null(0).to_numpy(zero_copy_only=False) + delay, mask=missing)
