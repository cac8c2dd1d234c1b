"""Delimited text (CSV, TSV and the like) in chunks, with every line accounted for.

Columns stay text, since only the schema knows their types; `clickscale.data.tables.casts` converts them.
Arrow parses whole blocks, in which `clickscale.data.tables.quotes` has settled what is a quoted value. A
block that Arrow cannot read, or whose broken rows span lines, is parsed again row by row.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv

from clickscale.config import Config
from clickscale.data.tables.chunks import (
    Chunk,
    at_paths,
    bases_of,
    check_objects,
    checked,
    checked_length,
    empty_problems,
    pieces,
)
from clickscale.data.tables.quotes import Grammar
from clickscale.errors import InputError

# Western text, then that of Central Europe, of Cyrillic letters and of Turkey, and of Japan, China and Korea.
Encoding = Literal[
    "utf-8", "latin-1", "cp1250", "cp1251", "cp1254", "cp932", "euc-jp", "gb18030", "big5", "cp949"
]

_ONE_BYTE = b"\x1f"  # replaces a separator of several bytes, which Arrow cannot split by
# Control characters of Latin-1 that Windows-1252 has as letters; five of them it does not define.
_WINDOWS = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


class TextFormat(Config, frozen=True):
    """Layout of a delimited text file.

    Attributes:
        separator: one character or several, such as ``::``; empty: comma, or tab for the format ``tsv``.
        names: the columns of a file without a header line; empty: the first line names them.
        quote: character around values that hold separators or line ends; empty: quotes are plain text.
        skip: lines before the header, or before the first row, that belong to no table.
        nulls: texts that mean a missing value. ``NA`` is none of them, since it is a region, too; where a
            number or a time is expected, it is missing all the same.
    """

    separator: str = ""
    names: tuple[str, ...] = ()
    quote: str = '"'
    encoding: Encoding = "utf-8"
    skip: int = 0
    nulls: tuple[str, ...] = (
        *("", "NULL", "null", r"\N", "None", "NaN", "nan", "N/A", "n/a", "<NA>", "#N/A"),
        *("-", "–", "—"),
    )


def read_delimited(path: Path, columns: Sequence[str] | None, text: TextFormat) -> Iterator[Chunk]:
    """Stream a delimited file; ``text.separator`` must be given. See `raw_tables.read`."""
    head, data = _opened(path, text)
    names = list(text.names) or _names(path, head, text)
    wanted = names if columns is None else list(columns)
    bases = bases_of(path, wanted, names)
    grammar = _grammar(text, len(names))
    raw, seen = list(dict.fromkeys(bases.values())), 0
    for block in _rows(path, grammar, data):
        rows, bad = _parse_block(block, names, raw, text, grammar)
        if seen == 0 and len(bad) == rows.num_rows > 0:
            raise InputError(
                f"{path}: no row has the {len(names)} columns {', '.join(names)}; "
                f"is {text.separator!r} the separator, and is the first line as described? If the table "
                "begins further below, skip = 3 leaves out three lines."
            )
        chunk = _text_chunk(rows, bad)
        if seen == 0:
            check_objects(path, bases, chunk)
        seen += rows.num_rows
        if rows.num_rows:
            yield chunk if raw == wanted else at_paths(chunk, bases)


def read_block(block: bytes, names: Sequence[str], text: TextFormat) -> Chunk:
    """Read rows that were cut out of the middle of a file; ``text.separator`` must be given."""
    grammar = _grammar(text, len(names))
    settled, _ = grammar.settle(_to_utf8(text)(block, True), True)
    return _text_chunk(*_parse_block(settled, list(names), list(names), text, grammar))


def first_width(path: Path, text: TextFormat) -> int:
    """Count the fields in the first line; ``text.separator`` must be given."""
    return len(split_line(_opened(path, msgspec.structs.replace(text, names=()))[0], text))


def _opened(path: Path, text: TextFormat) -> tuple[str, Iterator[tuple[bytes, bool]]]:
    """Return the header of a file, empty if ``text`` has the names, and an iterator over what follows."""
    stream = _decoded(path, text)
    head, is_last = b"", False
    for skipped in range(text.skip + 1):
        head = head.partition(b"\n")[2] if skipped else head
        while b"\n" not in head and not is_last:
            piece, is_last = next(stream, (b"", True))
            head = checked_length(path, head + piece)
        head = head if skipped else head.removeprefix(b"\xef\xbb\xbf")
    line, _, rest = (b"", b"", head) if text.names else head.partition(b"\n")
    return line.decode("utf-8", "replace").rstrip("\r"), _then((rest, is_last), stream)


def _then(first: tuple[bytes, bool], rest: Iterator[tuple[bytes, bool]]) -> Iterator[tuple[bytes, bool]]:
    yield first
    yield from rest


def _decoded(path: Path, text: TextFormat) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a file in UTF-8, with lines that end in ``\\n`` and separators of one byte."""
    separator, held = text.separator.encode(), b""
    old_style: bool | None = None
    in_utf8 = _to_utf8(text)
    for piece, is_last in pieces(path):
        piece = in_utf8(piece, is_last)
        if old_style is None:  # files of old Macs end their lines with a carriage return alone
            old_style = b"\r" in piece and b"\n" not in piece
        piece = piece.replace(b"\r", b"\n") if old_style else piece
        if len(separator) > 1:
            piece = held + piece
            cut = len(piece) if is_last else piece.rfind(b"\n") + 1  # never inside of a separator
            held, piece = checked_length(path, piece[cut:]), piece[:cut].replace(separator, _ONE_BYTE)
        yield piece, is_last


def _to_utf8(text: TextFormat) -> Callable[[bytes, bool], bytes]:
    """Return a function that writes the next piece of a file in UTF-8; its last argument: is it the last.

    Latin-1 is read as Windows writes it, with letters such as the euro sign where Latin-1 has none. Bytes
    that are no letters stay, so that their rows are found later.
    """
    if text.encoding == "utf-8":
        return lambda piece, is_last: piece
    if text.encoding == "latin-1":
        return lambda piece, is_last: piece.decode("latin-1").translate(_WINDOWS).encode()
    decoder = codecs.getincrementaldecoder(text.encoding)("surrogateescape")  # a letter may end in the next
    return lambda piece, is_last: decoder.decode(piece, is_last).encode("utf-8", "surrogateescape")


def _rows(path: Path, grammar: Grammar, data: Iterator[tuple[bytes, bool]]) -> Iterator[bytes]:
    """Yield whole rows, settled, about a block at a time."""
    waiting = b""
    for piece, is_last in data:
        waiting += piece
        block, used = grammar.settle(waiting, is_last)
        if used:
            yield block
        waiting = checked_length(path, waiting[used:])


def _names(path: Path, line: str, text: TextFormat) -> list[str]:
    """Return the names in the first line; columns without a name get one."""
    if not line.strip():
        raise InputError(f"{path} is empty; its first line should name the columns.")
    names = [field.strip() for field in split_line(line, text)]
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    if doubled:
        raise InputError(
            f"{path} names the column {doubled[0]!r} twice; rename one of them in its first line."
        )
    return [name or _unnamed(index, names) for index, name in enumerate(names)]


def _unnamed(index: int, names: Sequence[str]) -> str:
    """Make the name of a column that the header leaves unnamed."""
    name = f"column_{index}"
    return name if name not in names else f"unnamed_{index}"


def split_line(line: str, text: TextFormat) -> list[str]:
    """Split one line into its fields."""
    separator = text.separator
    special = ("\n", "\r", _ONE_BYTE.decode(), text.quote or "\n")
    if not any(mark in line for mark in special):
        return line.split(separator)
    if len(separator.encode()) > 1:
        line, separator = line.replace(separator, _ONE_BYTE.decode()), _ONE_BYTE.decode()
    fields = Grammar(separator.encode(), text.quote.encode(), 0).line(line.encode("utf-8", "surrogateescape"))
    return [field.decode("utf-8", "surrogateescape") for field in fields]


def _parse_block(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat, grammar: Grammar
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Parse settled rows into binary columns; return them with the rows that are malformed and hold nulls."""
    parsed = _parse_fast(block, names, wanted, text, grammar)
    return _parse_rows(block, names, wanted, text, grammar) if parsed is None else parsed


def _parse_fast(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat, grammar: Grammar
) -> tuple[pa.RecordBatch, dict[int, str]] | None:
    """Parse a block by Arrow; None if Arrow may have missed a row."""
    if not _is_utf8(block) or (not text.quote and b"\r" in block.replace(b"\r\n", b"")):
        return None  # Arrow cannot report broken text, and ends a row at each carriage return
    bad: dict[int, str] = {}

    def keep_count(row: Any) -> str:
        bad[row.number - 1] = row.text
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            read_options=pa.csv.ReadOptions(
                column_names=names, use_threads=False, block_size=max(len(block) + 1, 64)
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=grammar.separator.decode(),
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
    if any("\n" in line for line in bad.values()):
        return None  # a quote that has no right to hold these lines together
    return _with_gaps(table.combine_chunks(), list(bad)), bad


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


def _parse_rows(
    block: bytes, names: list[str], wanted: list[str], text: TextFormat, grammar: Grammar
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Parse a block row by row: slow, but a broken row loses only itself."""
    nulls = {value.encode() for value in text.nulls}
    indices = [names.index(name) for name in wanted]
    columns: list[list[bytes | None]] = [[] for _ in wanted]
    bad: dict[int, str] = {}
    for number, (line, fields) in enumerate(_split_rows(block, grammar)):
        fits = len(fields) == len(names)
        if not fits:
            bad[number] = line.decode("utf-8", "backslashreplace")
        for column, index in zip(columns, indices, strict=True):
            column.append(fields[index] if fits and fields[index] not in nulls else None)
    arrays = [pa.array(column, pa.binary()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=wanted), bad


def _split_rows(block: bytes, grammar: Grammar) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield each row and its fields; a row of several lines that has not the right number is taken apart."""
    start = 0
    while start < len(block):
        fields, end = grammar.row(block, start)
        row = block[start:end].rstrip(b"\r\n")
        lines = row.split(b"\n") if len(fields) != grammar.fields else [row]
        for line in lines:
            if line.rstrip(b"\r"):
                yield line, grammar.line(line) if len(lines) > 1 else fields
        start = end


def _grammar(text: TextFormat, fields: int) -> Grammar:
    one_byte = len(text.separator.encode()) == 1
    return Grammar(text.separator.encode() if one_byte else _ONE_BYTE, text.quote.encode(), fields)


def _text_chunk(rows: pa.RecordBatch, bad: dict[int, str]) -> Chunk:
    chunk = checked(rows, empty_problems(rows.num_rows))
    if not bad:
        return chunk
    where = np.zeros(rows.num_rows, bool)
    where[list(bad)] = True
    lines = pa.array([bad.get(row) for row in range(rows.num_rows)], pa.string())
    return chunk.marked(where, "bad_row", "line", lines)
