"""Samples of undescribed tables: the layout of a file, and properties of the columns in its first rows."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.tables.casts import detect_unit, numbers, seconds
from clickscale.data.tables.chunks import line_blocks
from clickscale.data.tables.delimited import TextFormat, split_line
from clickscale.data.tables.raw_tables import detect_format, read
from clickscale.errors import InputError

_ROWS = 5000
_SEPARATORS = (",", "\t", ";", "|", "::")
_LIST_SEPARATORS = ("|", ";", ",", " ")
_TIMES = (631_152_000, 4_102_444_800)  # 1990 to 2100


@dataclass(frozen=True)
class Column:
    """One column of a head, with properties of its values that need no description."""

    name: str
    values: pa.Array

    @cached_property
    def known(self) -> pa.Array:
        """Values without the missing ones."""
        return self.values.drop_null()

    @cached_property
    def floats(self) -> pa.Array | None:
        """Values as numbers, or None if some are not."""
        if pa.types.is_nested(self.values.type) or pa.types.is_timestamp(self.values.type):
            return None
        floats = numbers(self.known)
        return floats if pa.types.is_floating(floats.type) and len(floats) else None

    @cached_property
    def distinct(self) -> int:
        """Number of different values; lists count as one each."""
        return (
            len(self.known)
            if pa.types.is_nested(self.values.type)
            else int(pc.count_distinct(self.known).as_py())
        )

    @property
    def is_whole(self) -> bool:
        """True if every value is an integer."""
        return self.floats is not None and bool(pc.all(pc.equal(self.floats, pc.floor(self.floats))).as_py())

    @property
    def is_id(self) -> bool:
        """True if every value may be an exact integer id: not negative and without leading zeros."""
        if not self.is_whole or pc.min(self.floats).as_py() < 0 or pc.max(self.floats).as_py() >= 2**53:
            return False
        texts = pa.types.is_string(self.values.type)
        return not (texts and bool(pc.any(pc.match_substring_regex(self.known, r"^0\d|\.")).as_py()))

    @property
    def is_flag(self) -> bool:
        """True if every value is 0 or 1, or true or false, and both occur."""
        texts = (
            {str(value).lower() for value in self.known.unique().to_pylist()} if self.distinct == 2 else set()
        )
        return texts in ({"0", "1"}, {"0.0", "1.0"}, {"true", "false"})

    @cached_property
    def unit(self) -> str:
        """Unit of a column of moments from 1990 to 2100, else empty."""
        if self.distinct < 2 or pa.types.is_nested(self.values.type) or pa.types.is_boolean(self.values.type):
            return ""
        unit = detect_unit(self.known)
        times, bad = seconds(self.known, unit)
        within = pc.and_(pc.greater_equal(times, _TIMES[0]), pc.less(times, _TIMES[1])).fill_null(False)
        return unit if np.mean(within.to_numpy(zero_copy_only=False)) > 0.95 and bad.mean() < 0.05 else ""

    @cached_property
    def separator(self) -> str:
        """Character that splits the texts into repeated short tokens, or empty."""
        if self.floats is not None or not pa.types.is_string(self.values.type):
            return ""
        texts = self.known.to_pylist()
        if sum(text[:1] in "[(" for text in texts) > 0.1 * len(texts):
            return ""  # ranges such as [10,100), or lists in brackets that no separator takes apart
        for separator in _LIST_SEPARATORS:
            parts = [text.split(separator) for text in texts]
            several = [tokens for tokens in parts if len(tokens) > 1]
            tokens = Counter(token.strip() for entry in parts for token in entry)
            if separator == " " and _with_digits(tokens) < 0.9 * tokens.total():
                continue  # words of a sentence, not a list of ids
            if len(several) > 0.2 * len(texts) and len(tokens) < 0.5 * sum(tokens.values()):
                return separator
        return ""

    @property
    def most(self) -> int:
        """The largest number of values in one row."""
        if pa.types.is_nested(self.values.type):
            return int(pc.max(pc.list_value_length(self.known)).as_py() or 1)
        return max((text.count(self.separator) + 1 for text in self.known.to_pylist()), default=1)

    @property
    def width(self) -> int:
        """Length of fixed vectors of floats, 0 for anything else."""
        kind = self.values.type
        if not pa.types.is_nested(kind) or not pa.types.is_floating(kind.value_type):
            return 0
        lengths = pc.unique(pc.list_value_length(self.known)).to_pylist()
        return int(lengths[0]) if len(lengths) == 1 else 0


@dataclass(frozen=True)
class Head:
    """The first rows of a table and its layout.

    Attributes:
        format: ``csv``, ``tsv``, ``jsonl`` or ``parquet``.
        text: separator, names and encoding of text tables.
        named: true if the file names its columns.
    """

    path: Path
    format: str
    text: TextFormat
    named: bool
    columns: dict[str, Column]
    rows: int


def read_head(path: Path) -> Head:
    """Read the head of a table in any known format.

    Raises:
        InputError: the file is missing, damaged, empty, or of unknown format.
    """
    kind = detect_format(path)
    text, named = _sniff(path, kind) if kind in ("csv", "tsv") else (TextFormat(), True)
    for chunk in read(path, None, format=kind, text=text):
        rows = chunk.rows.filter(chunk.problem.is_null()).slice(0, _ROWS)
        columns = {name: Column(name, rows.column(name)) for name in rows.schema.names}
        return Head(path, kind, text, named, columns, rows.num_rows)
    raise InputError(f"{path} has no rows; a guess needs some.")


def _sniff(path: Path, kind: str) -> tuple[TextFormat, bool]:
    """Detect the layout of a delimited file; return it, and true if the first line names the columns."""
    block = next(line_blocks(path), b"").removeprefix(b"\xef\xbb\xbf")
    encoding = "utf-8" if _decodes(block) else "latin-1"
    lines = [line.rstrip("\r") for line in block.decode(encoding).split("\n") if line.strip()][:50]
    if not lines:
        raise InputError(f"{path} is empty; a guess needs some rows.")
    usual = "\t" if kind == "tsv" else ","
    separator = max(_SEPARATORS, key=lambda candidate: (*_fit(lines, candidate), candidate == usual))
    text = TextFormat(separator=separator, encoding=encoding)  # type: ignore[arg-type]
    names = split_line(lines[0], text)
    if _is_header(names, [split_line(line, text) for line in lines[1:]]):
        return text, True
    numbered = tuple(f"column_{index}" for index in range(1, len(names) + 1))
    return msgspec.structs.replace(text, names=numbered), False


def _decodes(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fit(lines: list[str], separator: str) -> tuple[bool, int]:
    """Return true if a separator splits nearly all lines and the first alike, and the number of fields."""
    widths = [len(split_line(line, TextFormat(separator=separator))) for line in lines]
    fields, often = Counter(widths).most_common(1)[0]
    return fields > 1 and often >= 0.9 * len(lines) and widths[0] == fields, fields


def _is_header(names: list[str], rows: list[list[str]]) -> bool:
    """True for a first line of names: different texts, above numbers or above lines without these names."""
    if any(_is_number(name) or not name.strip() for name in names[1:]) or _is_number(names[0]):
        return False
    fits = [row for row in rows if len(row) == len(names)]
    below = any(_is_number(row[index]) for row in fits for index in range(len(names)))
    return len(set(names)) == len(names) and (below or all(name not in row for row in fits for name in names))


def _with_digits(tokens: Counter[str]) -> int:
    """Count the tokens with a digit."""
    return sum(often for token, often in tokens.items() if any(letter.isdigit() for letter in token))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
