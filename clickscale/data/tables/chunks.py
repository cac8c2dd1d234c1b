"""Chunks of a raw table, and blocks of lines of a file: the base of every reader of tables.

A chunk holds every row of its piece of the file, in order. An unreadable row keeps its position, with nulls
and a reason (`Chunk.problem`), so that preparation can count it.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.source import PROBLEM, PROBLEM_VALUE
from clickscale.data.tables.arrow_types import plain_type
from clickscale.data.tables.object_texts import array_of, object_of
from clickscale.data.tables.paths import base_of, holds_pairs, is_list, object_at, steps_below, value_at
from clickscale.errors import InputError, unknown

_BLOCK = 1 << 22  # bytes of text parsed at once
_BEGINNING = 200  # bytes that show whether each letter has two
_LONGEST = 1 << 26  # bytes without a line end after which a file is refused
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")  # endings after that of the format
_EVIDENCE = pa.struct([("column", pa.string()), ("value", pa.string())])
_EXAMPLES = 20  # rows of a chunk whose values are kept as evidence
_SHOWN = 1000  # characters of such a value
_READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one table.

    Attributes:
        rows: the chosen columns, raw.
        problem: text array: null for a readable row, else the reason code.
        evidence: array of `_EVIDENCE`: for the first rows with a problem, the column and the raw value in
            which it lies; None without any.
    """

    rows: pa.RecordBatch
    problem: pa.Array
    evidence: pa.Array | None = None

    def marked(
        self, where: np.ndarray[Any, Any], code: str, column: str, values: pa.Array | None = None
    ) -> "Chunk":
        """Set a problem where the mask is true and there is no earlier one; keep ``values`` as evidence.

        Args:
            column: name of what is shown, and the column to show if ``values`` is None.
        """
        if not where.any():
            return self
        evidence = _shown(self.evidence, where, column, self[column] if values is None else values)
        return Chunk(self.rows, mark(self.problem, where, code), evidence)

    def kept(self, rows: pa.Array) -> "Chunk":
        """Keep the rows of a mask, or those at indices."""
        masked = pa.types.is_boolean(rows.type)
        parts = [self.rows, self.problem, *([] if self.evidence is None else [self.evidence])]
        return Chunk(*(part.filter(rows) if masked else part.take(rows) for part in parts))

    def unnested(self, column: str) -> "Chunk":
        """Make a row of each object in the lists of a column, beside the other values of its row.

        Values inside of these objects, which stand in columns of lists named by their paths, are those of the
        rows. A row with a problem stays one row, and one without objects none.
        """
        inner = [name for name in self.rows.schema.names if name == column or name.startswith(f"{column}.")]
        lists = [self[name] for name in inner if is_list(self[name].type)]
        nothing = np.zeros(len(self), np.int64)
        held = np.asarray(pc.list_value_length(lists[0]).fill_null(0), np.int64) if lists else nothing
        broken = np.asarray(self.problem.is_valid()) & (held == 0)
        count = np.where(broken, 1, held)
        row = np.repeat(np.arange(len(self)), count)
        place = np.arange(count.sum()) + np.repeat(np.cumsum(held) - held - (np.cumsum(count) - count), count)
        objects = pa.array(place, mask=broken[row])
        arrays = [
            self[name].take(pa.array(row))
            if name not in inner
            else self[name].flatten().take(objects)
            if is_list(self[name].type)
            else pa.nulls(len(row))
            for name in self.rows.schema.names
        ]
        rows = pa.RecordBatch.from_arrays(arrays, names=self.rows.schema.names)
        evidence = None if self.evidence is None else self.evidence.take(pa.array(row))
        return Chunk(rows, self.problem.take(pa.array(row)), evidence)

    def select(self, columns: Sequence[str]) -> "Chunk":
        """Keep some of the columns, in their order."""
        return Chunk(self.rows.select(list(columns)), self.problem, self.evidence)

    def slice(self, start: int, rows: int) -> "Chunk":
        """Return ``rows`` rows from ``start`` on."""
        evidence = None if self.evidence is None else self.evidence.slice(start, rows)
        return Chunk(self.rows.slice(start, rows), self.problem.slice(start, rows), evidence)

    def __len__(self) -> int:
        return len(self.problem)

    def __getitem__(self, name: str) -> pa.Array:
        return self.rows.column(name)


def missing_column(path: Path, name: str, known: Sequence[str]) -> InputError:
    """Make the error for a column that the table does not have."""
    return InputError(f"{path}: " + unknown("column", name, known))


def at_paths(chunk: Chunk, bases: Mapping[str, str]) -> Chunk:
    """Return columns of a chunk, and values inside of them, in the order of their names.

    Rows with a text that begins like an object and is none get the problem ``bad_object``.

    Args:
        bases: column inside of which each name leads, or which it is; see `bases_of`.
    """
    rows = chunk.rows
    in_texts = {
        name: base for name, base in bases.items() if name != base and _is_text(rows.column(base).type)
    }
    texts = {base: rows.column(base).to_pylist() for base in in_texts.values()}
    found, broken = objects_at(texts, in_texts)
    for base, is_broken in broken.items():
        chunk = chunk.marked(is_broken, "bad_object", base)
    columns = [
        found[name] if name in found else value_at(rows.column(base), steps_below(name, base))
        for name, base in bases.items()
    ]
    return Chunk(pa.RecordBatch.from_arrays(columns, names=list(bases)), chunk.problem, chunk.evidence)


def bases_of(path: Path, names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return the column inside of which each name leads, or which it is; refuse names that lead nowhere."""
    bases = {}
    for name in names:
        base = base_of(name, known)
        if base is None:
            raise missing_column(path, name, known)
        bases[name] = base
    return bases


def check_objects(path: Path, bases: Mapping[str, str], chunk: Chunk) -> None:
    """Refuse paths into columns of texts of which none is an object.

    Args:
        bases: column inside of which each name leads, or which it is.
        chunk: the first rows of the table.
    """
    for name, base in bases.items():
        known = chunk[base].drop_null() if name != base and _is_text(chunk[base].type) else []
        if len(known) and not holds_objects(known):
            raise InputError(
                f"{path}: {name!r} names a value inside of objects, and the column {base!r} holds texts such "
                f"as {known[0].as_py()[:40]!r}; name the column itself."
            )


def objects_at(
    columns: Mapping[str, Sequence[Any]], bases: Mapping[str, str]
) -> tuple[dict[str, pa.Array], dict[str, np.ndarray[Any, Any]]]:
    """Read what stands inside of JSON values at some paths; texts are parsed once for all paths.

    Args:
        columns: (N,) values by column.
        bases: column inside of which each path leads.

    Returns:
        The values (N,) by path, and by column which rows (N,) have a text that is no object.
    """
    found, parsed, broken = {}, {}, {}
    for name, base in bases.items():
        if base not in parsed:
            parsed[base], broken[base] = _each(columns[base], _parsed)
        values, is_broken = _each(parsed[base], partial(object_at, path=steps_below(name, base)))
        broken[base] |= is_broken
        if any(value is not None and not isinstance(value, list) for value in values):
            values = [None if value == [] else value for value in values]  # of an empty list of named values
        found[name] = array_of(values)
    return found, broken


def _parsed(value: Any) -> Any:
    return object_of(value) if isinstance(value, str) else value


def _each(values: Sequence[Any], read: Callable[[Any], Any]) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Read each value, None where it is no object, and mark these (N,)."""
    found, broken = [], np.zeros(len(values), bool)
    for place, value in enumerate(values):
        try:
            found.append(read(value))
        except ValueError:
            found.append(None)
            broken[place] = True
    return found, broken


def holds_objects(values: pa.Array) -> bool:
    """True for objects and lists of named values, and for texts of which one begins like an object."""
    if not _is_text(values.type):
        return pa.types.is_struct(values.type) or holds_pairs(values.type)
    return bool(pc.any(pc.match_substring_regex(values, r"^\s*[\[{]")).as_py())


def _is_text(kind: pa.DataType) -> bool:
    """True for texts of any length."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def empty_problems(rows: int) -> pa.Array:
    """Make the problem column of rows without problems."""
    return pa.nulls(rows, pa.string())


def canonical(
    columns: dict[str, pa.Array], problem: pa.Array, evidence: pa.Array | None = None
) -> pa.RecordBatch:
    """Make rows of a canonical table (see `clickscale.data.source`), the problem columns last."""
    last = {PROBLEM: problem}
    if evidence is not None:
        last[PROBLEM_VALUE] = evidence
    return pa.RecordBatch.from_arrays([*columns.values(), *last.values()], names=[*columns, *last])


def mark(problem: pa.Array, where: np.ndarray[Any, Any], code: str) -> pa.Array:
    """Set ``code`` where the mask is true and there is no earlier problem."""
    if not where.any():
        return problem
    return pc.if_else(pc.and_(pa.array(where), pc.is_null(problem)), code, problem)


def _shown(
    evidence: pa.Array | None, where: np.ndarray[Any, Any], column: str, values: pa.Array
) -> pa.Array | None:
    """Add the raw values of the first rows of a mask to the evidence."""
    rows = np.flatnonzero(where)[:_EXAMPLES].tolist()
    if not rows:
        return evidence
    entries = [None] * len(where) if evidence is None else evidence.to_pylist()
    for row in rows:
        entries[row] = entries[row] or {"column": column, "value": str(values[row].as_py())[:_SHOWN]}
    return pa.array(entries, _EVIDENCE)


def checked(rows: pa.RecordBatch, problem: pa.Array) -> Chunk:
    """Make a chunk of plain types whose text is UTF-8; rows with other bytes are marked."""
    columns = [_utf8(plain_type(column)) for column in rows.columns]
    names = rows.schema.names
    chunk = Chunk(pa.RecordBatch.from_arrays([array for array, _ in columns], names=names), problem)
    for name, (_, broken) in zip(names, columns, strict=True):
        chunk = chunk.marked(broken, "invalid_utf8", name)
    return chunk


def _utf8(column: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Replace bytes of a text column that are not UTF-8, and mark their rows."""
    intact = np.zeros(len(column), bool)
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _utf8_lists(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
    elif not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return column, intact
    try:
        return column.cast(pa.string()), intact
    except pa.ArrowInvalid:
        raw = column.to_pylist()
    texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
    broken = [t is not None and t.encode() != v for t, v in zip(texts, raw, strict=True)]
    return pa.array(texts, pa.string()), np.array(broken, bool)


def _utf8_lists(column: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Replace and mark likewise in lists of texts; other lists are passed on."""
    broken = np.zeros(len(column), bool)
    values, bad = _utf8(column.flatten())
    if not bad.any():
        return column, broken
    broken[pc.list_parent_indices(column).to_numpy()[bad]] = True
    lengths = pc.list_value_length(column)
    ends = np.cumsum(lengths.fill_null(0).to_numpy(zero_copy_only=False))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, values, mask=lengths.is_null()), broken


def line_blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines of a plain or compressed file, about `_BLOCK` bytes at a time.

    Raises:
        InputError: the file is missing or damaged, or is not text.
    """
    rest = b""
    for piece, is_last in pieces(path):
        rest += piece
        cut = len(rest) if is_last else rest.rfind(b"\n") + 1
        if cut:
            yield rest[:cut]
        rest = checked_length(path, rest[cut:])


def pieces(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield a plain or compressed file, `_BLOCK` bytes at a time, each with True if it is the last.

    Raises:
        InputError: the file is missing, damaged, or UTF-16 text.
    """
    try:
        with _open(path) as stream:
            piece = stream.read(_BLOCK)
            if _is_utf16(piece):
                raise InputError(
                    f"{path} is UTF-16 text; save it as UTF-8, such as by: "
                    f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
                )
            while piece:
                following = stream.read(_BLOCK)
                yield piece, not following
                piece = following
    except _READ_ERRORS as error:
        raise InputError(
            f"Cannot read {path}: {error}; the file is missing, cut short or damaged."
        ) from error


def _is_utf16(piece: bytes) -> bool:
    """True for text with two bytes for each letter, by its mark or by the zeros beside Latin letters."""
    if piece.startswith((b"\xff\xfe", b"\xfe\xff")):
        return b"\0" in piece
    first = piece[:_BEGINNING]
    zeros = [half.count(0) for half in (first[::2], first[1::2])]
    return len(first) == _BEGINNING and min(zeros) == 0 and 4 * max(zeros) > len(first)


def checked_length(path: Path, rest: bytes) -> bytes:
    """Return text that waits for the end of its line; refuse a file without line ends."""
    if len(rest) > _LONGEST:
        raise InputError(
            f"{path} has no line end in {_LONGEST >> 20} MB, so it is not text; check its format."
        )
    return rest


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".zst":
        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    opens: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    stream: IO[bytes] = opens.get(path.suffix, Path.open)(path, "rb")
    return stream
