"""Intake: the chunks of a source become checked records; a row that cannot be used goes to quarantine."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
from clickscale.data.preparation.quarantine import Quarantine, RowProblems
from clickscale.data.preparation.records import (
    KNOWN_AT,
    TABLES,
    Distinct,
    RecordFile,
    Records,
    id_columns,
    ids_of,
    record_type,
    table_fields,
)
from clickscale.data.source import PART, PART_NAMES, PARTS, PROBLEM, Source
from clickscale.errors import DataError, InputError, SchemaError, unknown
from clickscale.features import column_of, label_of
from clickscale.schema import Field, Schema

_FEW = 20  # known outcomes; so few may all be negative by chance


@dataclass
class Intake:
    """Result of one pass over the log, on disk and in memory.

    Attributes:
        has_labels: whether the log holds labels; without them every impression is a positive.
        files: records of each table, in the order of the log.
        distinct: `ids_of` users and items, and by field name the texts that an exact vocabulary may need.
        known_at: whether the log has the moments at which behaviors became known.
        has_parts: whether the log says to which part an impression belongs.
        known, positive: rows of each label whose outcome is known, and is positive.
    """

    schema: Schema
    time_bounds: tuple[int, int]
    has_labels: bool
    quarantine: Quarantine
    files: dict[str, RecordFile]
    distinct: dict[str, Distinct] = dataclasses.field(default_factory=dict)
    known_at: bool = False
    has_parts: bool = False
    known: Counter[str] = dataclasses.field(default_factory=Counter)
    positive: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, table: str, chunk: pa.RecordBatch) -> None:
        """Check the rows of a chunk and write the usable ones."""
        reader = _ChunkReader(self, table, chunk)
        records = reader.read()
        self.quarantine.add_chunk(table, chunk, reader.problems)
        usable = reader.problems.usable
        records = records if usable.all() else records[usable]
        self.files[table].append(records)
        if table == "impressions":
            self._count_labels(records)
        for name, raw in reader.keys:
            self._add_distinct(name, raw, usable)

    def _count_labels(self, records: Records) -> None:
        for label in self.schema.labels:
            values = records[label_of(label.name)]
            self.known[label.name] += int(np.count_nonzero(values >= 0))
            self.positive[label.name] += int(np.count_nonzero(values == 1))

    def notes_on_labels(self) -> tuple[str, ...]:
        """Name the labels that hardly ever are positive.

        Raises:
            DataError: no impression has a positive label.
        """
        if not any(self.positive.values()) and sum(self.known.values()) >= _FEW:
            read = ", ".join(f"{name}: {count:,} known" for name, count in self.known.items())
            raise DataError(
                f"No impression is positive ({read}); choose a column that has positives, or a condition "
                "such as 'rating >= 4'."
            )
        return tuple(
            f"WARNING: the label {name!r} is positive in {self.positive[name]:,} of {known:,} impressions."
            for name, known in self.known.items()
            if 100 * self.positive[name] < known
        )

    def _add_distinct(self, name: str, raw: Raw, usable: npt.NDArray[np.bool_]) -> None:
        """Gather the distinct values of the usable rows."""
        distinct = self.distinct.get(name)
        if distinct is None:
            return
        keys = raw.data[usable].astype(np.int64, copy=False).ravel()
        if not distinct.textual:
            distinct.add(keys[keys != MISSING])
            return
        assert raw.texts is not None, "texts come with their keys"
        text_keys = np.asarray(raw.text_keys)
        kept = np.ones(len(text_keys), bool) if usable.all() else np.isin(text_keys, keys)
        distinct.add(text_keys[kept], raw.texts.filter(pa.array(kept)))


class _ChunkReader:
    """Reads the columns of one chunk into records and marks the rows that cannot be used.

    Attributes:
        problems: the first problem of each row.
        keys: name in `Intake.distinct` and raw values of every column of keys.
    """

    def __init__(self, intake: Intake, table: str, chunk: pa.RecordBatch) -> None:
        self.intake, self.table, self.chunk = intake, table, chunk
        self.problems = RowProblems(chunk.num_rows)
        self.keys: list[tuple[str, Raw]] = []

    def read(self) -> Records:
        """Read every column of the table; rows with a problem hold arbitrary values."""
        schema = self.intake.schema
        records = np.zeros(self.chunk.num_rows, self.intake.files[self.table].dtype)
        first = self.intake.quarantine.rows[self.table]
        records["row"] = np.arange(first, first + len(records))
        self._mark_problems_of_the_adapter()
        for name in id_columns(self.table):
            records[name] = self._id(name, schema.user if name == "user" else schema.item)
        if "time" in records.dtype.names:
            records["time"] = self._times("time")
        if self.table == "behaviors":
            records[KNOWN_AT] = self._known_at(records["time"])
        if self.table == "impressions":
            for label in schema.labels:
                records[label_of(label.name)] = self._label(label_of(label.name))
            if self.intake.has_parts:
                records[PART] = self._part()
        for field in table_fields(schema, self.table):
            records[column_of(field.name)] = self._field(field)
        return records

    def _column(self, name: str) -> pa.Array:
        """Return a required column."""
        if name not in self.chunk.schema.names:
            message = unknown("column", name, self.chunk.schema.names)
            raise InputError(f"Table {self.table!r} lacks a column that its schema needs. {message}")
        return plain(self.chunk.column(name))

    def _mark_problems_of_the_adapter(self) -> None:
        """Mark the rows that the adapter could not use, with its reasons."""
        if PROBLEM not in self.chunk.schema.names:
            return
        coded = plain(self.chunk.column(PROBLEM)).cast(pa.string()).dictionary_encode()
        code = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for index, reason in enumerate(coded.dictionary.to_pylist()):
            self.problems.mark(code == index, reason, PROBLEM)

    def _mark_codes(self, codes: npt.NDArray[np.uint8], column: str) -> None:
        """Mark rows by the problem codes of a converted column."""
        for code in np.unique(codes[codes != FINE]):
            self.problems.mark(codes == code, PROBLEMS[code], column)

    def _id(self, name: str, field: Field) -> Ints:
        raw = read_keys(self._column(name), field.dtype)
        for code in np.unique(raw.problems[raw.problems != FINE]):
            reason = f"bad_{name}" if PROBLEMS[code] in ("bad_value", "non_finite") else PROBLEMS[code]
            self.problems.mark(raw.problems == code, reason, name)
        self.problems.mark((raw.data == MISSING) & (raw.problems == FINE), f"null_{name}", name)
        self.keys += [(ids_of(name), raw), (field.name, raw)]
        return raw.data.astype(np.int64, copy=False)

    def _times(self, name: str) -> Ints:
        """Read a column of seconds that must not be null."""
        seconds, problems = read_times(self._column(name))
        self._mark_codes(problems, name)
        self.problems.mark((seconds == NO_TIME) & (problems == FINE), f"null_{name}", name)
        self._mark_out_of_bounds(seconds, name)
        return seconds

    def _mark_out_of_bounds(self, seconds: Ints, name: str) -> None:
        """Mark times outside of the bounds; those that fit in milliseconds have a reason of their own."""
        low, high = self.intake.time_bounds
        late = seconds > high
        thousandth = seconds // 1000
        self.problems.mark(late & (thousandth >= low) & (thousandth <= high), f"{name}_in_milliseconds", name)
        self.problems.mark(late | ((seconds < low) & (seconds != NO_TIME)), f"{name}_out_of_bounds", name)

    def _known_at(self, time: Ints) -> Ints:
        """Read when behaviors became known; null means at their own time."""
        if KNOWN_AT not in self.chunk.schema.names:
            return time
        self.intake.known_at = True
        seconds, problems = read_times(self._column(KNOWN_AT))
        self._mark_codes(problems, KNOWN_AT)
        is_set = seconds != NO_TIME
        self._mark_out_of_bounds(seconds, KNOWN_AT)
        self.problems.mark(is_set & (seconds < time), "known_before_time", KNOWN_AT)
        return np.where(is_set, seconds, time)

    def _label(self, name: str) -> npt.NDArray[np.int8]:
        """Read a label; every row is a positive in a log without labels."""
        if not self.intake.has_labels and name not in self.chunk.schema.names:
            return np.ones(self.chunk.num_rows, np.int8)
        labels, problems = read_labels(self._column(name))
        self._mark_codes(problems, name)
        return labels

    def _part(self) -> npt.NDArray[np.uint8]:
        """Read to which part each impression belongs."""
        names = pc.utf8_lower(pc.utf8_trim_whitespace(self._column(PART).cast(pa.string())))
        part = pc.index_in(names, pa.array(list(PART_NAMES)))
        self.problems.mark(part.is_null().to_numpy(zero_copy_only=False), "bad_part", PART)
        index = part.fill_null(0).to_numpy(zero_copy_only=False)
        return np.array([PARTS.index(name) for name in PART_NAMES.values()], np.uint8)[index]

    def _field(self, field: Field) -> npt.NDArray[Any]:
        raw = read_field(field, self._column(field.name))
        self._mark_codes(raw.problems, field.name)
        if field.kind == "categorical":
            self.keys.append((owner(self.intake.schema, field.name), raw))
        return raw.data


def read_log(source: Source, folder: Path, chunk_rows: int, done: Callable[[int], None]) -> Intake:
    """Read the whole log into ``folder``; ``done`` gets the number of rows read after every chunk.

    Raises:
        InputError: a table or column that the schema needs is missing, or a table is unknown.
    """
    schema = source.schema
    _check_sharing(schema)
    folder.mkdir(parents=True)
    files: dict[str, RecordFile] = {
        table: RecordFile(folder / f"{table}.rows", record_type(schema, table, source.split.is_given))
        for table in TABLES
    }
    intake = Intake(
        schema,
        source.time_bounds,
        source.negatives == 0,
        Quarantine(),
        files,
        _distinct_columns(schema),
        has_parts=source.split.is_given,
    )
    for table, batch in source.chunks():
        if table not in TABLES:
            raise InputError(unknown("table", table, TABLES))
        for start in range(0, batch.num_rows, chunk_rows):
            intake.add(table, batch.slice(start, chunk_rows))
            done(sum(intake.quarantine.rows.values()))
    return intake


def _distinct_columns(schema: Schema) -> dict[str, Distinct]:
    """Choose the columns whose distinct values are gathered.

    Texts of ids are gathered a second time, under their field's name, only if other fields share them.
    """
    columns = {
        ids_of("user"): Distinct(schema.user.name, schema.user.dtype == "string"),
        ids_of("item"): Distinct(schema.item.name, schema.item.dtype == "string"),
    }
    fields = schema.fields()
    categorical = [name for name, field in fields.items() if field.kind == "categorical"]
    shared = {owner(schema, name) for name in categorical if fields[name].shares}
    for name in sorted({owner(schema, name) for name in categorical}):
        has_texts = fields[name].dtype == "string" and fields[name].vocabulary == "exact"
        if has_texts and (name in shared or name not in (schema.user.name, schema.item.name)):
            columns[name] = Distinct(name, True)
    return columns


def _check_sharing(schema: Schema) -> None:
    """Refuse fields that share a vocabulary but not the type of their values.

    Raises:
        SchemaError: names the two fields.
    """
    fields = schema.fields()
    for name, field in fields.items():
        other = fields[owner(schema, name)]
        if field.kind == "categorical" and field.dtype != other.dtype:
            raise SchemaError(
                f"Field {name!r} has dtype {field.dtype} and shares the vocabulary of {other.name!r}, "
                f"whose dtype is {other.dtype}; give both the same dtype."
            )
