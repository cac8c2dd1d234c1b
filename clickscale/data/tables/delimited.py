"""Delimited text (CSV, TSV and the like) in chunks, with every line accounted for.

Columns stay text, since only the schema knows their types; `clickscale.data.tables.casts` converts them.
Arrow parses whole blocks. A block in which it may have missed a line is parsed again line by line.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from clickscale.config import Config
from clickscale.data.tables.chunks import Chunk, checked, empty_problems, line_blocks, mark, missing_column
from clickscale.errors import InputError

_ONE_BYTE = b"\x1f"  # replaces a separator of several bytes, which Arrow cannot split by


class TextFormat(Config, frozen=True):
    """Layout of a delimited text file.

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


def read_delimited(path: Path, columns: Sequence[str] | None, text: TextFormat) -> Iterator[Chunk]:
    """Stream a delimited file; ``text.separator`` must be given. See `raw_tables.read`."""
    blocks = _blocks(path, text)
    first = next(blocks, b"").removeprefix(b"\xef\xbb\xbf")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in first:
        raise InputError(f"{path} is UTF-16 text; save it as UTF-8.")
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


def first_width(path: Path, text: TextFormat) -> int:
    """Count the fields in the first line; ``text.separator`` must be given."""
    line = next(_blocks(path, text), b"").partition(b"\n")[0]
    return len(split_line(line.decode("utf-8", "replace").rstrip("\r"), text))


def _then(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _blocks(path: Path, text: TextFormat) -> Iterator[bytes]:
    """Yield whole lines in UTF-8, about `BLOCK` bytes at a time, cut only outside of quotes."""
    for block in line_blocks(path, text.quote.encode()):
        yield block if text.encoding == "utf-8" else block.decode(text.encoding).encode()


def _header(path: Path, block: bytes, text: TextFormat) -> tuple[list[str], bytes]:
    """Return the names in the first line, and the block without that line."""
    line, _, rest = block.partition(b"\n")
    if not line.strip():
        raise InputError(f"{path} is empty; its first line should name the columns.")
    fields = split_line(line.decode("utf-8", "replace").rstrip("\r"), text)
    names = [field.strip() or f"column_{index}" for index, field in enumerate(fields)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{path} names the column {doubled[0]!r} twice; rename one of them in its first line."
        )
    return names, rest


def split_line(line: str, text: TextFormat) -> list[str]:
    """Split one line into its fields; an empty list if its quotes or line ends are malformed."""
    separator = text.separator
    if len(separator) > 1:
        line, separator = line.replace(separator, _ONE_BYTE.decode()), _ONE_BYTE.decode()
    if not text.quote:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, quotechar=text.quote), [])
    except csv.Error:
        return []


def _parse_block(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]]:
    """Parse one block into binary columns; return them with the rows that are malformed and hold nulls."""
    parsed = _parse_fast(block, names, wanted, text)
    return _parse_lines(block, names, wanted, text) if parsed is None else parsed


def _parse_fast(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]] | None:
    """Parse a block by Arrow; None if Arrow may have missed a line."""
    quote = text.quote.encode()
    if (quote and block.count(quote) % 2) or not _is_utf8(block):
        return None  # an unclosed quote would swallow the lines after it; Arrow cannot report broken text
    separator = text.separator
    if len(separator) > 1:
        block, separator = block.replace(separator.encode(), _ONE_BYTE), _ONE_BYTE.decode()
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
    """Insert a row of nulls at each index of ``bad``."""
    rows = table.num_rows + len(bad)
    if bad:
        parsed = np.full(rows, True)
        parsed[bad] = False
        order = np.where(parsed, np.cumsum(parsed) - 1, 0)
        table = table.take(pa.array(order, mask=~parsed))
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _parse_lines(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat
) -> tuple[pa.RecordBatch, list[int]]:
    """Parse a block line by line: slow, but a broken line loses only itself."""
    nulls = set(text.nulls)
    indices = [names.index(name) for name in wanted]
    columns: list[list[bytes | None]] = [[] for _ in wanted]
    bad: list[int] = []
    row = 0
    for line in block.split(b"\n"):
        if not line.rstrip(b"\r"):
            continue
        fields = split_line(line.rstrip(b"\r").decode("utf-8", "surrogateescape"), text)
        fits = len(fields) == len(names)
        if not fits:
            bad.append(row)
        for column, index in zip(columns, indices, strict=True):
            value = fields[index] if fits else ""
            known = fits and value not in nulls
            column.append(value.encode("utf-8", "surrogateescape") if known else None)
        row += 1
    arrays = [pa.array(column, pa.binary()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=wanted), bad


def _text_chunk(rows: pa.RecordBatch, bad: list[int]) -> Chunk:
    where = np.zeros(rows.num_rows, bool)
    where[bad] = True
    return checked(rows, mark(empty_problems(rows.num_rows), where, "bad_row"))
