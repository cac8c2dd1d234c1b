"""From the chunks of a source to checked records: every row is kept or goes to quarantine with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.features.encoder import owner
from clickscale.data.features.texts import FINE, PROBLEMS, plain
from clickscale.data.features.values import (
    MISSING,
    NO_TIME,
    Raw,
    read_field,
    read_keys,
    read_labels,
    read_times,
)
from clickscale.data.preparation.quarantine import Quarantine, Verdict
from clickscale.data.preparation.records import Distinct, RecordFile, Records
from clickscale.data.source import LABEL, PROBLEM, Source, TableName
from clickscale.errors import InputError, SchemaError, unknown
from clickscale.schema import Field, Schema

TABLES: tuple[TableName, ...] = ("users", "items", "behaviors", "impressions")
KNOWN_AT = "known_at"


def table_fields(schema: Schema, table: str) -> tuple[Field, ...]:
    """The fields that a table carries, ids left out."""
    sides = {"users": schema.profile, "items": schema.items, "behaviors": schema.behavior}
    return sides.get(table, schema.context)


def record_type(schema: Schema, table: str) -> np.dtype[Any]:
    """The record of one row: its number in the table, keys of ids, seconds, labels, raw values of fields."""
    columns: list[tuple[Any, ...]] = [("row", "<i8")]
    columns += [(name, "<i8") for name in _ids(table)]
    if table in ("behaviors", "impressions"):
        columns.append(("time", "<i8"))
    if table == "behaviors":
        columns.append((KNOWN_AT, "<i8"))
    if table == "impressions":
        columns += [(LABEL + label.name, "i1") for label in schema.labels]
    for each in table_fields(schema, table):
        kind, width = raw_type(each)
        columns.append((column_of(each), kind, width) if width else (column_of(each), kind))
    return np.dtype(columns)


def raw_type(each: Field) -> tuple[str, tuple[int, ...]]:
    """Type and width of a field's raw values (see `clickscale.data.features.values.Raw`)."""
    if each.kind == "categorical":
        return "<i8", (each.values,) if each.values > 1 else ()
    return ("<f2", (each.width,)) if each.kind == "content" else ("<f8", ())


def column_of(each: Field) -> str:
    """Name of a field's column in records and files."""
    return f"field.{each.name}"


def ids_of(role: str) -> str:
    """Where `Intake.distinct` keeps all ids of users or items; the point keeps it apart from field names."""
    return f"ids.{role}"


def _ids(table: str) -> tuple[str, ...]:
    return {"users": ("user",), "items": ("item",)}.get(table, ("user", "item"))


@dataclass
class Intake:
    """What one reading of the log left on disk and in memory.

    Attributes:
        files: records of each table, in the order of the log.
        distinct: `ids_of` users and items, and by field name the texts that an exact vocabulary may need.
        known_at: whether the log says when behaviors became known.
    """

    schema: Schema
    time_bounds: tuple[int, int]
    labels_given: bool
    quarantine: Quarantine
    files: dict[str, RecordFile]
    distinct: dict[str, Distinct] = field(default_factory=dict)
    known_at: bool = False

    def take(self, table: str, chunk: pa.RecordBatch) -> None:
        """Check the rows of a chunk and write the good ones."""
        reader = _Rows(self, table, chunk)
        records = reader.read()
        self.quarantine.judge(table, chunk, reader.verdict)
        fine = reader.verdict.fine
        self.files[table].append(records if fine.all() else records[fine])
        for name, raw in reader.keyed:
            self._gather(name, raw, fine)

    def _gather(self, name: str, raw: Raw, fine: npt.NDArray[np.bool_]) -> None:
        """Remember the distinct values of the rows that are kept."""
        distinct = self.distinct.get(name)
        if distinct is None:
            return
        keys = raw.data[fine].astype(np.int64, copy=False).ravel()
        if not distinct.textual:
            distinct.add(keys[keys != MISSING])
            return
        assert raw.texts is not None, "texts come with their keys"
        text_keys = np.asarray(raw.text_keys)
        kept = np.ones(len(text_keys), bool) if fine.all() else np.isin(text_keys, keys)
        distinct.add(text_keys[kept], raw.texts.filter(pa.array(kept)))


class _Rows:
    """Reads the columns of one chunk into records and judges each row."""

    def __init__(self, intake: Intake, table: str, chunk: pa.RecordBatch) -> None:
        self.intake, self.table, self.chunk = intake, table, chunk
        self.verdict = Verdict(chunk.num_rows)
        self.keyed: list[tuple[str, Raw]] = []

    def read(self) -> Records:
        schema = self.intake.schema
        records = np.zeros(self.chunk.num_rows, record_type(schema, self.table))
        first = self.intake.quarantine.rows[self.table]
        records["row"] = np.arange(first, first + len(records))
        self._take_problems()
        for name in _ids(self.table):
            records[name] = self._id(name, schema.user if name == "user" else schema.item)
        if "time" in records.dtype.names:
            records["time"] = self._times("time")
        if self.table == "behaviors":
            records[KNOWN_AT] = self._known_at(records["time"])
        if self.table == "impressions":
            for label in schema.labels:
                records[LABEL + label.name] = self._label(LABEL + label.name)
        for each in table_fields(schema, self.table):
            records[column_of(each)] = self._field(each)
        return records

    def _column(self, name: str) -> pa.Array:
        """A column that must be there."""
        if name not in self.chunk.schema.names:
            message = unknown("column", name, self.chunk.schema.names)
            raise InputError(f"Table {self.table!r} lacks a column that its schema needs. {message}")
        return plain(self.chunk.column(name))

    def _take_problems(self) -> None:
        """Rows that the adapter itself could not use."""
        if PROBLEM not in self.chunk.schema.names:
            return
        coded = plain(self.chunk.column(PROBLEM)).cast(pa.string()).dictionary_encode()
        at = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for number, reason in enumerate(coded.dictionary.to_pylist()):
            self.verdict.blame(at == number, reason, PROBLEM)

    def _blame_codes(self, codes: npt.NDArray[np.uint8], column: str) -> None:
        for code in np.unique(codes[codes != FINE]):
            self.verdict.blame(codes == code, PROBLEMS[code], column)

    def _id(self, name: str, each: Field) -> Ints:
        raw = read_keys(self._column(name), each.dtype)
        for code in np.unique(raw.problems[raw.problems != FINE]):
            reason = f"bad_{name}" if PROBLEMS[code] in ("bad_value", "non_finite") else PROBLEMS[code]
            self.verdict.blame(raw.problems == code, reason, name)
        self.verdict.blame((raw.data == MISSING) & (raw.problems == FINE), f"null_{name}", name)
        self.keyed += [(ids_of(name), raw), (each.name, raw)]
        return raw.data.astype(np.int64, copy=False)

    def _times(self, name: str) -> Ints:
        seconds, problems = read_times(self._column(name))
        self._blame_codes(problems, name)
        self.verdict.blame((seconds == NO_TIME) & (problems == FINE), f"null_{name}", name)
        self._blame_bounds(seconds, name)
        return seconds

    def _blame_bounds(self, seconds: Ints, name: str) -> None:
        low, high = self.intake.time_bounds
        late = seconds > high
        thousandth = seconds // 1000
        self.verdict.blame(late & (thousandth >= low) & (thousandth <= high), f"{name}_in_milliseconds", name)
        self.verdict.blame(late | ((seconds < low) & (seconds != NO_TIME)), f"{name}_out_of_bounds", name)

    def _known_at(self, time: Ints) -> Ints:
        """When behaviors became known; their own time where nothing is said."""
        if KNOWN_AT not in self.chunk.schema.names:
            return time
        self.intake.known_at = True
        seconds, problems = read_times(self._column(KNOWN_AT))
        self._blame_codes(problems, KNOWN_AT)
        said = seconds != NO_TIME
        self._blame_bounds(seconds, KNOWN_AT)
        self.verdict.blame(said & (seconds < time), "known_before_time", KNOWN_AT)
        return np.where(said, seconds, time)

    def _label(self, name: str) -> npt.NDArray[np.int8]:
        if not self.intake.labels_given and name not in self.chunk.schema.names:
            return np.ones(self.chunk.num_rows, np.int8)
        labels, problems = read_labels(self._column(name))
        self._blame_codes(problems, name)
        return labels

    def _field(self, each: Field) -> npt.NDArray[Any]:
        raw = read_field(each, self._column(each.name))
        self._blame_codes(raw.problems, each.name)
        if each.kind == "categorical":
            self.keyed.append((owner(self.intake.schema, each.name), raw))
        return raw.data


def read_log(source: Source, folder: Path, chunk_rows: int, done: Callable[[int], None]) -> Intake:
    """Read the whole log into ``folder``; ``done`` is told the number of rows read after every chunk.

    Raises:
        InputError: a table or column that the schema needs is missing, or a table is not known.
    """
    schema = source.schema
    check_sharing(schema)
    folder.mkdir(parents=True)
    files: dict[str, RecordFile] = {
        table: RecordFile(folder / f"{table}.rows", record_type(schema, table)) for table in TABLES
    }
    intake = Intake(schema, source.time_bounds, source.negatives == 0, Quarantine(), files, _wanted(schema))
    for table, batch in source.chunks():
        if table not in TABLES:
            raise InputError(unknown("table", table, TABLES))
        for start in range(0, batch.num_rows, chunk_rows):
            intake.take(table, batch.slice(start, chunk_rows))
            done(sum(intake.quarantine.rows.values()))
    return intake


def _wanted(schema: Schema) -> dict[str, Distinct]:
    """Which columns' distinct values to gather; the texts of ids twice only if other fields share them."""
    wanted = {
        ids_of("user"): Distinct(schema.user.name, schema.user.dtype == "string"),
        ids_of("item"): Distinct(schema.item.name, schema.item.dtype == "string"),
    }
    fields = schema.fields()
    categorical = [name for name, each in fields.items() if each.kind == "categorical"]
    shared = {owner(schema, name) for name in categorical if fields[name].shares}
    for name in sorted({owner(schema, name) for name in categorical}):
        has_texts = fields[name].dtype == "string" and fields[name].vocabulary == "exact"
        if has_texts and (name in shared or name not in (schema.user.name, schema.item.name)):
            wanted[name] = Distinct(name, True)
    return wanted


def check_sharing(schema: Schema) -> None:
    """Refuse fields that share a vocabulary but read their values differently.

    Raises:
        SchemaError: names the two fields.
    """
    fields = schema.fields()
    for name, each in fields.items():
        other = fields[owner(schema, name)]
        if each.kind == "categorical" and each.dtype != other.dtype:
            raise SchemaError(
                f"Field {name!r} reads {each.dtype} and shares the vocabulary of {other.name!r}, which reads "
                f"{other.dtype}; give both the same dtype."
            )
