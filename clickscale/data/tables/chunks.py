"""Chunks of a raw table, and blocks of lines of a file: the base of every reader of tables.

A chunk holds every row of its piece of the file, in order. An unreadable row keeps its position, with nulls
and a reason (`Chunk.problem`), so that preparation can count it.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.source import PROBLEM
from clickscale.errors import InputError, unknown

_BLOCK = 1 << 22  # bytes of text parsed at once
_LONGEST = 1 << 26  # bytes without a line end after which a file is refused
_READ_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one table.

    Attributes:
        rows: the chosen columns, raw.
        problem: text array: null for a readable row, else the reason code.
    """

    rows: pa.RecordBatch
    problem: pa.Array

    def __len__(self) -> int:
        return len(self.problem)

    def __getitem__(self, name: str) -> pa.Array:
        return self.rows.column(name)


def missing_column(path: Path, name: str, known: Sequence[str]) -> InputError:
    """Make the error for a column that the table does not have."""
    return InputError(f"{path}: " + unknown("column", name, known))


def empty_problems(rows: int) -> pa.Array:
    """Make the problem column of rows without problems."""
    return pa.nulls(rows, pa.string())


def canonical(columns: dict[str, pa.Array], problem: pa.Array) -> pa.RecordBatch:
    """Make rows of a canonical table (see `clickscale.data.source`), the problem column last."""
    return pa.RecordBatch.from_arrays([*columns.values(), problem], names=[*columns, PROBLEM])


def mark(problem: pa.Array, where: np.ndarray[Any, Any], code: str) -> pa.Array:
    """Set ``code`` where the mask is true and there is no earlier problem."""
    if not where.any():
        return problem
    return pc.if_else(pc.and_(pa.array(where), pc.is_null(problem)), code, problem)


def checked(rows: pa.RecordBatch, problem: pa.Array) -> Chunk:
    """Make a chunk whose text is UTF-8; rows with other bytes are marked."""
    arrays = []
    for column in rows.columns:
        array, broken = _utf8(column)
        problem = mark(problem, broken, "invalid_utf8")
        arrays.append(array)
    return Chunk(pa.RecordBatch.from_arrays(arrays, names=rows.schema.names), problem)


def _utf8(column: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Replace bytes of a text column that are not UTF-8, and mark their rows."""
    intact = np.zeros(len(column), bool)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
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


def line_blocks(path: Path, quote: bytes = b"") -> Iterator[bytes]:
    """Yield whole lines of a plain or gzipped file, about `_BLOCK` bytes at a time.

    A block never ends inside a pair of ``quote`` characters, unless the pair spans four blocks.

    Raises:
        InputError: the file is missing or damaged, or is not text.
    """
    rest = b""
    try:
        with _open(path) as stream:
            piece = stream.read(_BLOCK)
            while piece:
                rest += piece
                piece = stream.read(
                    _BLOCK
                )  # read one ahead, since the end of the file belongs to its last block
                cut = _cut(rest, quote) if piece else len(rest)
                if cut == 0 and len(rest) > _LONGEST:
                    raise InputError(
                        f"{path} has no line end in {_LONGEST >> 20} MB, so it is not text; check its format."
                    )
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
    except _READ_ERRORS as error:
        raise InputError(
            f"Cannot read {path}: {error}; the file is missing, cut short or damaged."
        ) from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _cut(text: bytes, quote: bytes) -> int:
    """Find the end of the last line that does not end inside quotes; 0 if there is none yet."""
    end = text.rfind(b"\n")
    if not quote or end < 0 or text.count(quote, 0, end) % 2 == 0:
        return end + 1
    before = end
    inside = True
    while inside and before >= 0:
        newline = text.rfind(b"\n", 0, text.rfind(quote, 0, before))
        inside = newline >= 0 and text.count(quote, newline, before) % 2 == 0
        before = newline
    # An unclosed quote must not gather the whole file in memory.
    return before + 1 if before >= 0 else (end + 1 if len(text) > 4 * _BLOCK else 0)
