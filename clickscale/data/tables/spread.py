"""Rows from the head, the middle and the end of a file, since logs are sorted."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet

from clickscale.data.tables.chunks import COMPRESSED, Chunk, checked, empty_problems, line_blocks
from clickscale.data.tables.delimited import TextFormat, read_block
from clickscale.data.tables.json_lines import holds_array, json_line, read_objects
from clickscale.data.tables.raw_tables import PARQUET_ERRORS, Format, read
from clickscale.errors import InputError

_PIECE = 1 << 20  # bytes of text read in the middle and at the end
_MOST_BLOCKS = 64  # of a compressed file, which cannot be entered in the middle; 256 MB of text
_T = TypeVar("_T")


def spread(path: Path, format: Format, text: TextFormat, rows: int) -> list[Chunk]:
    """Read up to ``rows`` readable rows each from the head, the middle and the end of a file.

    Raises:
        InputError: the file is missing or damaged.
    """
    chunks = read(path, None, format=format, text=text)
    if format == "jsonl" and holds_array(path):
        found = _first_middle_last(chunks)
    elif format == "parquet":
        found = _first_middle_last(chunks if _has_few_groups(path) else _of_groups(path, rows))
    else:
        found = list(islice(chunks, 1))
        names = found[0].rows.schema.names if found else []
        for block in _later_blocks(path):
            if format == "jsonl":
                found.append(read_objects(block, names, json_line))
            else:
                found.append(read_block(block, names, text))
    parts = [chunk.kept(chunk.problem.is_null()) for chunk in found]
    return _cut(parts[0], rows) if len(parts) == 1 else [*_ends(parts, rows)]


def _has_few_groups(path: Path) -> bool:
    """True for a Parquet file whose row groups are read one after another."""
    try:
        return pa.parquet.ParquetFile(path).metadata.num_row_groups < 3
    except PARQUET_ERRORS:
        return True  # reading it names the damage


def _of_groups(path: Path, rows: int) -> Iterator[Chunk]:
    """Read the first rows of the first, the middle and the last row group."""
    try:
        with pa.parquet.ParquetFile(path) as file:
            groups = file.metadata.num_row_groups
            for group in (0, groups // 2, groups - 1):
                for batch in islice(file.iter_batches(rows, row_groups=[group], use_threads=False), 1):
                    yield checked(batch, empty_problems(batch.num_rows))
    except PARQUET_ERRORS as error:
        raise InputError(f"Cannot read {path}: {error}; the file is damaged.") from error


def _first_middle_last(stream: Iterable[_T]) -> list[_T]:
    """Choose three of a stream of unknown length; the memory is bounded by five."""
    kept: list[_T] = []
    last: list[_T] = []
    stride = 1
    for number, each in enumerate(stream):
        last = [each]
        if number % stride == 0:
            kept.append(each)
        if len(kept) > 4:
            kept, stride = kept[::2], 2 * stride
    middle = kept[len(kept) // 2 : len(kept) // 2 + 1] if len(kept) > 1 else []
    chosen = [*kept[:1], *middle, *last]
    return [each for place, each in enumerate(chosen) if not any(each is other for other in chosen[:place])]


def _later_blocks(path: Path) -> list[bytes]:
    """Read whole lines from the middle and the end of a text file, if it is longer than a block."""
    if path.suffix in COMPRESSED:
        return _first_middle_last(islice(line_blocks(path), _MOST_BLOCKS))[1:]
    size, head = path.stat().st_size, len(next(line_blocks(path), b""))
    piece = min(_PIECE, (size - head) // 2)
    blocks = []
    with path.open("rb") as stream:
        for start in (min((head + size - piece) // 2, size - 2 * piece), size - piece) if piece else ():
            stream.seek(start)
            block = stream.read(piece)
            begin = block.find(b"\n") + 1 if start > head else 0
            blocks.append(block[begin : block.rfind(b"\n") + 1 if start + piece < size else piece])
    return [block for block in blocks if block]


def _ends(parts: list[Chunk], rows: int) -> Iterator[Chunk]:
    """Cut the first rows of the head, the last ones of the end, and some of what is between."""
    if len(parts) == 2 and len(parts[0]) >= 2 * rows:
        parts = [parts[0], parts[0].kept(pa.array(range(len(parts[0]) - rows, len(parts[0])))), parts[1]]
    for place, part in enumerate(parts):
        first = max(0, len(part) - rows) if place and place == len(parts) - 1 else 0
        yield part.kept(pa.array(range(first, min(len(part), first + rows)), pa.int64()))


def _cut(part: Chunk, rows: int) -> list[Chunk]:
    """Cut head, middle and end out of one part, or keep it whole if it is short."""
    if len(part) <= 3 * rows:
        return [part]
    starts = (0, (len(part) - rows) // 2, len(part) - rows)
    return [part.kept(pa.array(range(start, start + rows))) for start in starts]
