"""Raw tables as a stream of chunks: delimited text, JSON lines (both plain or compressed) and Parquet.

Nothing here depends on the meaning of a column. Memory is bounded by a block of the file (about 4 MB of text,
65,536 rows of Parquet) and its columns.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet

from clickscale.data.tables.chunks import (
    COMPRESSED,
    Chunk,
    at_paths,
    bases_of,
    check_objects,
    checked,
    empty_problems,
    missing_column,
    pieces,
)
from clickscale.data.tables.delimited import TextFormat, first_width, read_delimited
from clickscale.data.tables.folders import columns_of_path, with_columns
from clickscale.data.tables.json_lines import json_line, read_lines
from clickscale.data.tables.paths import is_list, leads_into, steps_below
from clickscale.errors import InputError, unknown

_ROWS = 1 << 16  # rows of Parquet read at once
_SHOWN = 40  # letters of a value in a message

PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError)  # damaged metadata raise ValueErrors of any kind
Format = Literal["auto", "csv", "tsv", "parquet", "jsonl"]
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_PLAIN = TextFormat()
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def read(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    format: Format = "auto",
    text: TextFormat = _PLAIN,
    unnest: str = "",
) -> Iterator[Chunk]:
    """Stream a file of a table; ``columns`` chooses and orders its columns (all of them if None).

    Folders such as ``dt=2024-01-31`` on the way to the file are columns, too. A value inside of objects is
    named by its path, such as ``context.device``.

    Args:
        unnest: a column of lists of objects, each of which becomes a row.

    Rows with another number of fields than the table, or that are not JSON, get the problem ``bad_row``; rows
    with bytes that are not UTF-8 get ``invalid_utf8``.

    Raises:
        InputError: the file is missing or damaged, or lacks a column; the message names it.
    """
    needed = columns if columns is None or not unnest else list(dict.fromkeys([*columns, unnest]))
    kind = detect_format(path) if format == "auto" else format
    given = columns_of_path(path)
    own = needed if needed is None else [name for name in needed if name not in given] or None
    chunks = _read_file(path, own, kind, text, unnest)
    if given:
        chunks = (with_columns(chunk, given, needed) for chunk in chunks)
    if not unnest:
        return chunks
    rows = (_unnested(path, chunk, unnest) for chunk in chunks)
    return rows if columns is None else (chunk.select(columns) for chunk in rows)


def _unnested(path: Path, chunk: Chunk, column: str) -> Chunk:
    """Make rows of the objects in the lists of a column.

    Raises:
        InputError: it has no lists.
    """
    inner = [name for name in chunk.rows.schema.names if name == column or name.startswith(f"{column}.")]
    known = chunk[column].drop_null()
    if len(known) and not any(is_list(chunk[name].type) for name in inner):
        raise InputError(
            f"{path}: unnest takes the lists in column {column!r} apart, which has no lists, but values "
            f"such as {str(known[0])[:_SHOWN]!r}; name a column of lists, or leave unnest out."
        )
    return chunk.unnested(column)


def _read_file(
    path: Path, columns: Sequence[str] | None, kind: Format, text: TextFormat, unnest: str
) -> Iterator[Chunk]:
    if kind == "parquet":
        return _read_parquet(path, columns)
    if kind == "jsonl":
        return read_lines(path, columns, json_line, lists=unnest)
    return read_delimited(path, columns, _separated(text, kind))


def _separated(text: TextFormat, kind: Format) -> TextFormat:
    """Set the separator that the format implies, unless ``text`` names one."""
    separator = text.separator or ("\t" if kind == "tsv" else ",")
    return msgspec.structs.replace(text, separator=separator)


def column_names(path: Path, *, format: Format = "auto", text: TextFormat = _PLAIN) -> list[str]:
    """List a table's columns from its first rows; an empty list if it has no rows."""
    for chunk in read(path, None, format=format, text=text):
        return list(chunk.rows.schema.names)
    return []


def name_the_rest(path: Path, format: Format, text: TextFormat) -> TextFormat:
    """Add generated names for the columns after those that ``text`` names, in a file without a header."""
    kind = detect_format(path) if format == "auto" else format
    known = _separated(text, kind)
    indices = range(len(text.names), first_width(path, known))
    return msgspec.structs.replace(known, names=(*text.names, *(f"column_{index}" for index in indices)))


def detect_format(path: Path) -> Format:
    """Detect the format by the ending of the file's name, apart from that of its compression.

    Where the ending is unknown, as in ``u.item``, the first bytes tell the format; text is ``csv``.

    Raises:
        InputError: neither the ending nor the bytes tell the format, or there is no such file.
    """
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    kind = _SUFFIXES.get(name.suffix.lower()) or (_format_of_bytes(path) if path.is_file() else None)
    if kind is None:
        raise InputError(
            f"Cannot tell the format of {path}: {unknown('ending', name.suffix, _SUFFIXES)} "
            "Rename the file, or set its format in the description of the log."
        )
    return kind


def _format_of_bytes(path: Path) -> Format | None:
    """Tell the format by the first bytes of a file; None if they are neither Parquet nor text."""
    first = next(pieces(path), (b"", True))[0]
    if first.startswith(b"PAR1"):
        return "parquet"
    # Text has no control characters but tabs, line ends and the like.
    if not first or _CONTROL.search(first):
        return None
    return "jsonl" if re.match(rb"\s*(\[\s*)?\{", first) else "csv"


def find_file(folder: Path, *names: str) -> Path:
    """Find the first of ``names`` (plain or with ``.gz``) in the folder, or in one directly below.

    Raises:
        InputError: none exists; the message lists the files of the folder.
    """
    for name in names:
        for pattern in (name, f"{name}.gz", f"*/{name}", f"*/{name}.gz"):
            paths = sorted(path for path in folder.glob(pattern) if path.is_file())
            if paths:
                return paths[0]
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the one that holds {' or '.join(names)}.")
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    raise InputError(f"{folder} does not hold {' or '.join(names)}; it holds {there}.")


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Chunk]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = names if columns is None else list(columns)
            bases = bases_of(path, wanted, names)
            for name, base in bases.items():
                if not leads_into(steps_below(name, base), file.schema_arrow.field(base).type):
                    raise missing_column(path, name, names)
            read_first = [_column_to_read(*pair, file.schema_arrow) for pair in bases.items()]
            for rows in file.iter_batches(_ROWS, columns=read_first, use_threads=False):
                yield _parquet_chunk(path, rows, bases)
    except PARQUET_ERRORS as error:
        raise InputError(
            f"Cannot read {path}: {error}; the file is missing, cut short or damaged."
        ) from error


def _parquet_chunk(path: Path, rows: pa.RecordBatch, bases: Mapping[str, str]) -> Chunk:
    """Take values out of objects, and check them as those of any table; ``bases`` as in `check_objects`."""
    chunk = Chunk(rows, empty_problems(rows.num_rows))
    check_objects(path, bases, chunk)
    found = at_paths(chunk, bases)
    whole = checked(found.rows, found.problem)
    return Chunk(whole.rows, whole.problem, whole.evidence or found.evidence)


def _column_to_read(name: str, base: str, schema: pa.Schema) -> str:
    """Return the path of a value inside of objects, or the column if these are no plain ones."""
    kind, reached = schema.field(base).type, base
    for step in steps_below(name, base):
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return reached
        kind, reached = kind.field(step).type, f"{reached}.{step}"
    return reached
