"""Files of one table of a described log, read chunk by chunk and converted to the types of its fields."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.joined_tables import Joins
from clickscale.data.described.raw_files import RawFiles
from clickscale.data.described.rows import ORDER, RowShape
from clickscale.data.described.table_options import Files
from clickscale.data.tables.casts import Unit, detect_unit, integers, lacks_zone, numbers, seconds
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.first_rows import FirstRows
from clickscale.schema import Field

_ROWS_WITH_LISTS = 4096


class TableFiles:
    """Files of one table, the columns to read, and the units of their times.

    Args:
        columns: columns of rows of one event each, as ``shape`` makes them.
        shape: how rows of the files become such rows.
        lists: columns of the files that hold histories.
        joins: tables that give columns which the files lack.

    Attributes:
        without_zone: columns of times of which nothing says in which zone they were read.

    Raises:
        InputError: a file or a column is missing.
    """

    def __init__(
        self,
        what: str,
        files: Files,
        base: Path,
        columns: list[str],
        time_zone: str,
        shape: RowShape,
        lists: Sequence[str] = (),
        joins: Joins | None = None,
    ) -> None:
        self._raw = RawFiles(what, files, base)
        self._shape = shape.with_parts(self._raw.parts)
        self._whole, self._has_lists = shape.without_lists(), shape.has_lists or bool(lists)
        self._time_zone = time_zone or "UTC"
        self.without_zone: set[str] = set()
        self._wanted = list(dict.fromkeys(columns))
        wanted = list(dict.fromkeys([*shape.raw_columns(self._wanted), *lists]))
        self._joined = None if joins is None else joins.to(what, self._raw, wanted)
        self._columns = wanted if self._joined is None else self._joined.own
        self._raw.require(self._columns)
        self._units: dict[str, Unit] = {}
        self._first_rows: dict[str, FirstRows] = {}

    def chunks(self) -> Iterator[tuple[Path, Chunk]]:
        """Read all files, one after the other, with the columns of the tables that their rows name."""
        whole = self._raw.chunks(self._columns)
        for path, chunk in whole if self._joined is None else self._joined.added(whole):
            # A row with lists becomes many, so few rows are taken apart at a time.
            rows = _ROWS_WITH_LISTS if self._has_lists else max(len(chunk), 1)
            for start in range(0, len(chunk), rows):
                yield path, chunk.slice(start, rows)

    def findings(self) -> list[str]:
        """Say which rows of the last pass name no row of a joined table."""
        return [] if self._joined is None else self._joined.findings

    def rows(self, path: Path, chunk: Chunk, columns: Sequence[str]) -> Chunk:
        """Return columns of the rows as they stand, lists not taken apart."""
        return self._whole.apply(chunk, path, columns)

    def events(self, path: Path, chunk: Chunk) -> Chunk:
        """Make rows of one event each."""
        return self._shape.apply(chunk, path, self._wanted)

    def first_rows(self, column: str) -> FirstRows:
        """Return the memory of the ids of a column that this pass over the table has met."""
        return self._first_rows.setdefault(column, FirstRows())

    def time(self, chunk: Chunk, column: str, unit: Unit) -> tuple[pa.Array, Chunk]:
        """Convert a column to seconds; unreadable ones are added to the problems as ``bad_time``."""
        unit = "s" if column == ORDER else unit
        if unit == "auto" and chunk[column].null_count < len(chunk):
            unit = self._units[column] = self._detected(chunk[column], self._units.get(column))
        written = unit in ("iso", "DMY", "MDY", "YYMMDDHH")
        is_local = unit == "excel" or (
            written and column not in self.without_zone and lacks_zone(chunk[column])
        )
        if is_local:
            self.without_zone.add(column)
        times, bad = seconds(chunk[column], unit, self._time_zone)
        return times, chunk.marked(bad, "bad_time", column)

    def _detected(self, values: pa.Array, known: Unit | None) -> Unit:
        """Detect the unit of times by the first values; dates of numbers may show theirs later."""
        if known is not None and known != "iso":
            return known
        found = detect_unit(values)
        return found if known is None or found in ("DMY", "MDY") else known

    def fields(self, chunk: Chunk, fields: tuple[Field, ...]) -> tuple[dict[str, pa.Array], Chunk]:
        """Convert columns of fields; unreadable timestamps are added to the problems."""
        columns = {}
        for field in fields:
            if field.kind == "timestamp":
                columns[field.name], chunk = self.time(chunk, field.source, "auto")
            else:
                columns[field.name] = cast(chunk[field.source], field)
        return columns, chunk


def cast(values: pa.Array, field: Field) -> pa.Array:
    """Convert raw values to the type that a field is read with; what cannot be converted stays as it is."""
    if field.kind == "numeric":
        return values if field.notation or field.unit else numbers(values)  # 1.299 may be 1299
    whole = field.dtype == "int" and field.values == 1 and not _have_leading_zeros(values)
    return integers(values) if whole else values


def _have_leading_zeros(values: pa.Array) -> bool:
    """True if texts such as 007 occur, which as integers would be other ids."""
    if not pa.types.is_string(values.type) or not pc.any(pc.starts_with(values, "0")).as_py():
        return False
    return bool(pc.any(pc.match_substring_regex(values, r"^0[0-9]")).as_py())


def sources(fields: tuple[Field, ...]) -> list[str]:
    """List the raw columns of fields."""
    return [field.source for field in fields]
