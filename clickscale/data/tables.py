"""Raw tables as a stream of chunks: delimited text, JSON lines (both plain or gzipped) and Parquet.

Nothing here knows what a column means. A chunk holds every row of its piece of the file, in order: a row that
cannot be read stays in its place with nulls and a reason (`Chunk.problem`), so that preparation can count it.
Text columns stay text, since only the schema says what an id is; `clickscale.data.casts` converts them.

Memory is bounded by a block of the file (about 4 MB of text, 65,536 rows of Parquet) and its columns.
"""

import ast
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from clickscale.config import Config
from clickscale.data.source import PROBLEM
from clickscale.errors import InputError, unknown

BLOCK = 1 << 22  # bytes of text parsed at once
LONGEST = 1 << 26  # bytes without a line end before a file is no text table
ROWS = 1 << 16  # rows of Parquet read at once
ONE_BYTE = b"\x1f"  # stands in for a separator of several bytes, which Arrow cannot split by

Format = Literal["auto", "csv", "tsv", "parquet", "jsonl"]
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_READ_ERRORS = (OSError, EOFError, zlib.error)


class TextFormat(Config, frozen=True):
    """How a delimited text file is written.

    Attributes:
        separator: one character or several, such as ``::``; empty: comma, or tab for the format ``tsv``.
        names: the columns of a file without a header line; empty: the first line names them.
        quote: character around values that hold separators or line ends; empty: quotes are plain text.
        nulls: texts that mean a missing value.
    """

    separator: str = ""
    names: tuple[str, ...] = ()
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    nulls: tuple[str, ...] = ("", "NULL", "null", r"\N")


PLAIN = TextFormat()


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one table.

    Attributes:
        rows: the wanted columns, raw.
        problem: text array, null where the row could be read, else the reason code.
    """

    rows: pa.RecordBatch
    problem: pa.Array

    def __len__(self) -> int:
        return len(self.problem)

    def __getitem__(self, name: str) -> pa.Array:
        return self.rows.column(name)


def read(
    path: Path,
    columns: Sequence[str] | None = None,
    *,
    format: Format = "auto",
    text: TextFormat = PLAIN,
) -> Iterator[Chunk]:
    """Stream a table; ``columns`` chooses and orders its columns (all of them if None).

    Rows with another number of fields than the table, or that are not JSON, get the problem ``bad_row``; rows
    with bytes that are not UTF-8 get ``invalid_utf8``.

    Raises:
        InputError: the file is missing, damaged or lacks a wanted column; the message names it.
    """
    kind = detect_format(path) if format == "auto" else format
    if kind == "parquet":
        return _read_parquet(path, columns)
    if kind == "jsonl":
        return read_lines(path, columns, _json_line)
    return _read_text(path, columns, _with_separator(text, kind))


def column_names(path: Path, *, format: Format = "auto", text: TextFormat = PLAIN) -> list[str]:
    """Names of a table's columns, from its head."""
    for chunk in read(path, None, format=format, text=text):
        return list(chunk.rows.schema.names)
    return []


def detect_format(path: Path) -> Format:
    """Format by the end of the file's name, ``.gz`` set aside.

    Raises:
        InputError: no known ending.
    """
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if name.suffix.lower() not in _SUFFIXES:
        raise InputError(f"Cannot tell the format of {path}: " + unknown("ending", name.suffix, _SUFFIXES))
    return _SUFFIXES[name.suffix.lower()]


def find_file(folder: Path, *names: str) -> Path:
    """First of ``names`` (plain or with ``.gz``) in the folder, or in a folder one level below.

    Raises:
        InputError: none is there; the message lists what is.
    """
    for name in names:
        for pattern in (name, f"{name}.gz", f"*/{name}", f"*/{name}.gz"):
            found = sorted(path for path in folder.glob(pattern) if path.is_file())
            if found:
                return found[0]
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; it should hold {' or '.join(names)}.")
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    raise InputError(f"{folder} holds no {' or '.join(names)}; it holds {there}.")


def missing_column(path: Path, name: str, known: Sequence[str]) -> InputError:
    """The error for a wanted column that the table does not have."""
    return InputError(f"{path}: " + unknown("column", name, known))


def empty_problems(rows: int) -> pa.Array:
    """Problem column of rows without problems."""
    return pa.nulls(rows, pa.string())


def canonical(columns: dict[str, pa.Array], problem: pa.Array) -> pa.RecordBatch:
    """Rows of a canonical table (see `clickscale.data.source`), the problem column last."""
    return pa.RecordBatch.from_arrays([*columns.values(), problem], names=[*columns, PROBLEM])


def mark(problem: pa.Array, where: np.ndarray[Any, Any], code: str) -> pa.Array:
    """Set ``code`` where the mask is true and no earlier problem stands."""
    if not where.any():
        return problem
    return pc.if_else(pc.and_(pa.array(where), pc.is_null(problem)), code, problem)


# --- delimited text


def _with_separator(text: TextFormat, kind: Format) -> TextFormat:
    default = "\t" if kind == "tsv" else ","
    return text if text.separator else msgspec.structs.replace(text, separator=default)


def _read_text(path: Path, columns: Sequence[str] | None, text: TextFormat) -> Iterator[Chunk]:
    blocks = _blocks(path, text)
    first = next(blocks, b"").removeprefix(b"\xef\xbb\xbf")
    names, first = (list(text.names), first) if text.names else _header(path, first, text)
    wanted = names if columns is None else list(columns)
    for name in wanted:
        if name not in names:
            raise missing_column(path, name, names)
    seen = 0
    for block in _then(first, blocks):
        rows, bad = _parse_block(block, names, wanted, text)
        if seen == 0 and len(bad) == rows.num_rows > 0:
            raise InputError(
                f"{path}: no row has the {len(names)} columns {', '.join(names)}; "
                f"is {text.separator!r} the separator, and is the first line as described?"
            )
        seen += rows.num_rows
        if rows.num_rows:
            yield _text_chunk(rows, bad)


def _then(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _blocks(path: Path, text: TextFormat) -> Iterator[bytes]:
    """Whole lines in UTF-8, about `BLOCK` bytes at a time, cut only outside of quotes."""
    for block in line_blocks(path, text.quote.encode()):
        yield block if text.encoding == "utf-8" else block.decode(text.encoding).encode()


def line_blocks(path: Path, quote: bytes = b"") -> Iterator[bytes]:
    """Whole lines of a plain or gzipped file, about `BLOCK` bytes at a time.

    A block never ends inside a pair of ``quote`` characters, unless none closes for four blocks.

    Raises:
        InputError: the file is missing or damaged, or is no text.
    """
    rest = b""
    try:
        with _open(path) as stream:
            while piece := stream.read(BLOCK):
                rest += piece
                cut = _cut(rest, quote)
                if cut == 0 and len(rest) > LONGEST:
                    raise InputError(
                        f"{path} has no line end within {LONGEST >> 20} MB; it is no text table."
                    )
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
    except _READ_ERRORS as error:
        raise InputError(
            f"Cannot read {path}: {error}; the file is missing, cut short or damaged."
        ) from error
    if rest:
        yield rest


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _cut(text: bytes, quote: bytes) -> int:
    """End of the last line that does not end inside quotes; 0 if there is none yet."""
    end = text.rfind(b"\n")
    if not quote or end < 0 or text.count(quote, 0, end) % 2 == 0:
        return end + 1
    before = end
    inside = True
    while inside and before >= 0:
        newline = text.rfind(b"\n", 0, text.rfind(quote, 0, before))
        inside = newline >= 0 and text.count(quote, newline, before) % 2 == 0
        before = newline
    # A quote that nothing closes must not gather the whole file in memory.
    return before + 1 if before >= 0 else (end + 1 if len(text) > 4 * BLOCK else 0)


def _header(path: Path, block: bytes, text: TextFormat) -> tuple[list[str], bytes]:
    """Names in the first line, and the block without that line."""
    line, _, rest = block.partition(b"\n")
    if not line.strip():
        raise InputError(f"{path} is empty; its first line should name the columns.")
    fields = _split_line(line.decode("utf-8", "replace").rstrip("\r"), text)
    names = [field.strip() or f"column_{place}" for place, field in enumerate(fields)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{path} names the column {doubled[0]!r} twice; rename one of them in its first line."
        )
    return names, rest


def _split_line(line: str, text: TextFormat) -> list[str]:
    separator = text.separator
    if len(separator) > 1:
        line, separator = line.replace(separator, ONE_BYTE.decode()), ONE_BYTE.decode()
    if not text.quote:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator, quotechar=text.quote), [])


def _parse_block(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]]:
    """Binary columns of one block and the places of its bad rows, which hold nulls."""
    parsed = _parse_fast(block, names, wanted, text)
    return _parse_lines(block, names, wanted, text) if parsed is None else parsed


def _parse_fast(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]] | None:
    """The block by Arrow's parser; None where it cannot be trusted to have seen every line."""
    quote = text.quote.encode()
    if (quote and block.count(quote) % 2) or not _is_utf8(block):
        return None  # an unclosed quote would swallow the lines after it; Arrow cannot report broken text
    separator = text.separator
    if len(separator) > 1:
        block, separator = block.replace(separator.encode(), ONE_BYTE), ONE_BYTE.decode()
    bad: list[int] = []
    many_lines: list[bool] = []

    def keep_count(row: Any) -> str:
        bad.append(row.number - 1)
        many_lines.append("\n" in row.text)
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            read_options=pa.csv.ReadOptions(
                column_names=names, use_threads=False, block_size=max(len(block) + 1, 64)
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator,
                quote_char=text.quote or False,
                newlines_in_values=True,
                invalid_row_handler=keep_count,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.binary() for name in names},
                null_values=list(text.nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                include_columns=wanted,
            ),
        )
    except pa.ArrowInvalid:
        return None
    return None if any(many_lines) else (_with_gaps(table.combine_chunks(), bad), bad)


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_gaps(table: pa.Table, bad: list[int]) -> pa.RecordBatch:
    """The table with a row of nulls at each place of ``bad``."""
    rows = table.num_rows + len(bad)
    if bad:
        places = np.full(rows, True)
        places[bad] = False
        order = np.where(places, np.cumsum(places) - 1, 0)
        table = table.take(pa.array(order, mask=~places))
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _parse_lines(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]]:
    """The block line by line: slow, but one broken line costs only itself."""
    nulls = set(text.nulls)
    places = [names.index(name) for name in wanted]
    columns: list[list[bytes | None]] = [[] for _ in wanted]
    bad: list[int] = []
    row = 0
    for line in block.split(b"\n"):
        if not line.rstrip(b"\r"):
            continue
        fields = _split_line(line.rstrip(b"\r").decode("utf-8", "surrogateescape"), text)
        fits = len(fields) == len(names)
        if not fits:
            bad.append(row)
        for column, place in zip(columns, places, strict=True):
            value = fields[place] if fits else ""
            known = fits and value not in nulls
            column.append(value.encode("utf-8", "surrogateescape") if known else None)
        row += 1
    arrays = [pa.array(column, pa.binary()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=wanted), bad


def _text_chunk(rows: pa.RecordBatch, bad: list[int]) -> Chunk:
    where = np.zeros(rows.num_rows, bool)
    where[bad] = True
    return _checked(rows, mark(empty_problems(rows.num_rows), where, "bad_row"))


def _checked(rows: pa.RecordBatch, problem: pa.Array) -> Chunk:
    """Chunk whose text is known to be UTF-8; rows with other bytes are marked."""
    arrays = []
    for column in rows.columns:
        array, broken = _utf8(column)
        problem = mark(problem, broken, "invalid_utf8")
        arrays.append(array)
    return Chunk(pa.RecordBatch.from_arrays(arrays, names=rows.schema.names), problem)


def _utf8(column: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Text column, bytes that are not UTF-8 replaced, and where that happened."""
    fine = np.zeros(len(column), bool)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
    elif not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        return column, fine
    try:
        return column.cast(pa.string()), fine
    except pa.ArrowInvalid:
        raw = column.to_pylist()
    texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
    broken = [t is not None and t.encode() != v for t, v in zip(texts, raw, strict=True)]
    return pa.array(texts, pa.string()), np.array(broken, bool)


# --- Parquet


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Chunk]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = names if columns is None else list(columns)
            for name in wanted:
                if name not in names:
                    raise missing_column(path, name, names)
            for rows in file.iter_batches(ROWS, columns=wanted, use_threads=False):
                yield _checked(rows.select(wanted), empty_problems(rows.num_rows))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"Cannot read {path}: {error}; the file is missing, cut short or damaged."
        ) from error


# --- JSON lines


def read_lines(
    path: Path, columns: Sequence[str] | None, parse: Callable[[bytes], dict[str, Any]]
) -> Iterator[Chunk]:
    """Stream a file with one object per line; ``parse`` makes a dict of a line or raises ValueError.

    Values of one column that have no Arrow type in common become text.
    """
    names = None if columns is None else list(columns)
    checked = False
    for block in line_blocks(path):
        lines = [line for line in block.split(b"\n") if line.strip()]
        objects, problem = _parse_objects(lines, parse)
        known = list(dict.fromkeys(name for entry in objects for name in entry))
        names = names or known
        for name in names if not checked and known else ():
            if name not in known:
                raise missing_column(path, name, known)
        checked = checked or bool(known)
        arrays = [_array([entry.get(name) for entry in objects]) for name in names]
        if lines:
            yield _checked(pa.RecordBatch.from_arrays(arrays, names=names), problem)


def literal_line(line: bytes) -> dict[str, Any]:
    """A line that is a Python dict literal (older Amazon files); nothing in it is run."""
    try:
        return _object(ast.literal_eval(line.decode("utf-8")))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("no literal") from error


def _json_line(line: bytes) -> dict[str, Any]:
    try:
        return _object(msgspec.json.decode(line))
    except msgspec.DecodeError:
        return _object(json.loads(line))  # also takes NaN, which many writers emit


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _parse_objects(
    lines: list[bytes], parse: Callable[[bytes], dict[str, Any]]
) -> tuple[list[dict[str, Any]], pa.Array]:
    objects: list[dict[str, Any]] = []
    problems: list[str | None] = []
    for line in lines:
        try:
            objects.append(parse(line))
            problems.append(None)
        except UnicodeDecodeError:
            objects.append({})
            problems.append("invalid_utf8")
        except (ValueError, RecursionError):
            objects.append({})
            problems.append("bad_row")
    return objects, pa.array(problems, pa.string())


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
