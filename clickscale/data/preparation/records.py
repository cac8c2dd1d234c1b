"""The record format of preparation: checked rows of fixed size, in files outside of memory.

Every table of a log has one type of record (`record_type`): the number of the row in its table, keys of ids,
seconds, labels, and raw values of fields. Records stand one after another in one file per table.
`part_records` deals them out to bucket files, each small enough to be sorted in memory; inside a bucket they
keep the order of the log. `Distinct` gathers the values from which vocabularies are made.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.source import PART, TableName
from clickscale.errors import DataError
from clickscale.features import column_of, label_of
from clickscale.schema import Field, Schema

Records = npt.NDArray[np.void]
TABLES: tuple[TableName, ...] = ("users", "items", "behaviors", "impressions")
KNOWN_AT = "known_at"
_FEW = 1 << 18  # distinct values that wait before they are merged


def record_type(schema: Schema, table: str, has_parts: bool = False) -> np.dtype[Any]:
    """Type of the records of a table, of impressions with their part if ``has_parts``."""
    columns: list[tuple[Any, ...]] = [("row", "<i8")]
    columns += [(name, "<i8") for name in id_columns(table)]
    if table in ("behaviors", "impressions"):
        columns.append(("time", "<i8"))
    if table == "behaviors":
        columns.append((KNOWN_AT, "<i8"))
    if table == "impressions":
        columns += [(label_of(label.name), "i1") for label in schema.labels]
        columns += [(PART, "u1")] if has_parts else []
    for field in table_fields(schema, table):
        kind, width = raw_type(field)
        columns.append((column_of(field.name), kind, width) if width else (column_of(field.name), kind))
    return np.dtype(columns)


def table_fields(schema: Schema, table: str) -> tuple[Field, ...]:
    """Fields that a table carries, ids left out."""
    sides = {"users": schema.profile, "items": schema.items, "behaviors": schema.behavior}
    return sides.get(table, schema.context)


def raw_type(field: Field) -> tuple[str, tuple[int, ...]]:
    """Type and width of a field's raw values (see `clickscale.data.features.values.Raw`)."""
    if field.kind == "categorical":
        return "<i8", (field.values,) if field.values > 1 else ()
    return ("<f2", (field.width,)) if field.kind == "content" else ("<f8", ())


def id_columns(table: str) -> tuple[str, ...]:
    """Columns of ids that a table has."""
    return {"users": ("user",), "items": ("item",)}.get(table, ("user", "item"))


def ids_of(role: str) -> str:
    """Key of all ids of users or items among the distinct values; its point keeps it from names of fields."""
    return f"ids.{role}"


class RecordFile:
    """Records of one type, appended and read in order."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype

    def append(self, records: Records) -> None:
        """Write records at the end."""
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(records).data)

    @property
    def rows(self) -> int:
        """Number of records in the file."""
        return self.path.stat().st_size // self.dtype.itemsize if self.path.exists() else 0

    def read(self) -> Records:
        """Read all records."""
        return np.fromfile(self.path, self.dtype) if self.rows else np.zeros(0, self.dtype)

    def chunks(self, rows: int) -> Iterator[Records]:
        """Read all records, ``rows`` at a time."""
        for start in range(0, self.rows, rows):
            yield np.fromfile(self.path, self.dtype, rows, offset=start * self.dtype.itemsize)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def part_records(
    source: RecordFile, buckets: int, bucket_of: Callable[[Records], Ints], chunk_rows: int
) -> list[RecordFile]:
    """Deal the records out to ``buckets`` files by ``bucket_of``, and remove the source file."""
    if buckets == 1:
        return [source]
    parts = [RecordFile(source.path.with_suffix(f".{bucket}"), source.dtype) for bucket in range(buckets)]
    for records in source.chunks(chunk_rows):
        bucket = bucket_of(records)
        order = np.argsort(bucket, kind="stable")
        cuts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
        for start, end in zip(cuts, np.append(cuts[1:], len(order)), strict=True):
            parts[int(bucket[order[start]])].append(records[order[start:end]])
    source.remove()
    return parts


@dataclass
class Distinct:
    """The distinct values of a column, gathered chunk by chunk.

    New chunks wait until they are as many as the merged values, so that the number of sorts stays small.

    Attributes:
        name: name of the values, for messages.
        textual: true if keys are hashes of texts, which are then kept too.
    """

    name: str
    textual: bool
    _keys: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    _texts: pa.Array = dataclasses.field(default_factory=lambda: pa.array([], pa.large_string()))
    _waiting: list[tuple[Ints, pa.Array]] = dataclasses.field(default_factory=list)

    def add(self, keys: Ints, texts: pa.Array | None = None) -> None:
        """Add non-negative keys, and the text of each if they are hashes."""
        if not self.textual:
            keys = np.unique(keys)
        self._waiting.append((keys, texts))
        if sum(len(waiting) for waiting, _ in self._waiting) > max(_FEW, len(self._keys)):
            self._merge()

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        if not self.textual:
            self._keys = np.unique(keys)
        else:
            parts = [self._texts, *(texts.cast(pa.large_string()) for _, texts in self._waiting)]
            self._merge_texts(keys, pa.concat_arrays(parts))
        self._waiting = []

    def _merge_texts(self, keys: Ints, texts: pa.Array) -> None:
        self._keys, first, back = np.unique(keys, return_index=True, return_inverse=True)
        same = pc.equal(texts, texts.take(pa.array(first[back])))
        row = pc.index(same, False).as_py()
        if row >= 0:
            pair = f"{texts[row].as_py()!r} and {texts[int(first[back[row]])].as_py()!r}"
            raise DataError(
                f"Two values of {self.name}, {pair}, have the same 63-bit hash; change one in the log."
            )
        self._texts = texts.take(pa.array(first))

    def sorted(self) -> pa.Array:
        """Return the values in order: int64, or texts by their bytes."""
        self._merge()
        if not self.textual:
            return pa.array(self._keys)
        return self._texts.take(pc.sort_indices(self._texts))

    def texts_of(self, keys: Ints) -> pa.Array:
        """Return the texts of keys that were added."""
        self._merge()
        return self._texts.take(pa.array(np.searchsorted(self._keys, keys)))
