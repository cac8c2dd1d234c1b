"""Samples of undescribed tables: the layout of a file, and properties of the columns in some of its rows."""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickscale.data.described.drafts.files.text_layout import is_number
from clickscale.data.described.keys import together
from clickscale.data.described.rows import as_text, composed
from clickscale.data.features.notations import detect_notation
from clickscale.data.features.ranges import find_ranges
from clickscale.data.features.texts import (
    BRACKETS,
    entries_of,
    is_text,
    read_texts,
    whole_texts,
)
from clickscale.data.features.units import find_unit
from clickscale.data.features.values import read_numbers
from clickscale.data.tables.casts import Unit, detect_unit, numbers, seconds
from clickscale.data.tables.chunks import COMPRESSED, Chunk, line_blocks
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.folders import matching_files
from clickscale.data.tables.json_lines import holds_array
from clickscale.data.tables.raw_tables import Format, read
from clickscale.schema import Notation, UrlPart

_SCANNED = 1 << 29  # bytes of ids that are looked through for leading zeros
_PROBE = 32  # values that are looked at before all are
_LONG_LIST = 200  # letters of a list in brackets beyond which it is no list of tags
WHOLE = 0.95  # share of its rows from which a sample is the table
_FLAGS = (
    {"0", "1"},
    {"0.0", "1.0"},
    {"true", "false"},
    {"t", "f"},
    {"yes", "no"},
    {"y", "n"},
)
_LIST_SEPARATORS = ("|", ";", ",", " ")
_URL = r"^\s*([a-zA-Z][a-zA-Z0-9+.-]*:)?//[^/\s]+|^\s*(www\.)?[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\.[a-z]{2,}(/|$)"
_MANY_URLS, _MOSTLY = 100, 0.9
_ANYWHERE = 0.1  # share of the tags of lists that stand first in some and later in others, at least
_PAIR = 2  # different values of which none needs to be more than a name
_OF_TIMES = re.compile(r"hour|time|date|day|(^|_)(ts|dt)($|_)")
_OF_IDS = re.compile(r"id$|(^|_)(key|no|nr)$")
_COUNTED = ("s", "ms", "us", "ns", "ticks")  # units of moments that are plain numbers
WRITTEN = ("iso", "DMY", "MDY")  # units of dates that are no numbers
_TIMES = (631_152_000, 4_102_444_800)  # 1990 to 2100
_DATES = (-5_364_662_400, 4_102_444_800)  # 1800 to 2100: of births and of old books as well


@dataclass(frozen=True)
class Column:
    """One column of a sample, with properties of its values that need no description.

    Attributes:
        parts: columns of which it is made: of 0 and 1 for lists (see ``made_columns``), or of date and time.
        made_of: the column of which it holds a part of each value.
        url: the part of a URL that it holds.
        is_label: true if somebody said that it holds outcomes.
        role: whose ids it holds, if another table tells.
        unknown: number in the table that stands for an unknown outcome, and that is missing here.
    """

    name: str
    values: pa.Array
    parts: tuple[str, ...] = ()
    made_of: str = ""
    url: UrlPart = ""
    is_label: bool = False
    role: Literal["", "user", "item"] = ""
    unknown: str = ""

    @property
    def plain(self) -> str:
        """Name without accents."""
        letters = unicodedata.normalize("NFKD", self.name)
        return "".join(letter for letter in letters if not unicodedata.combining(letter))

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
        if is_text(floats.type):  # placeholders and commas between thousands are read, too
            read, problems = read_numbers(floats, *self.written)
            fits = not problems.any() or self.written[1]
            floats = pa.array(read, mask=np.isnan(read)) if fits else floats
        return floats if pa.types.is_floating(floats.type) and floats.null_count < len(floats) else None

    @cached_property
    def written(self) -> tuple[Notation, str]:
        """Notation and unit of numbers that people wrote as texts, such as ``$1,234.50``; else empty."""
        if (
            not pa.types.is_string(self.values.type)
            or self.distinct <= _PAIR
            or not read_numbers(self.known)[1].any()
        ):
            return "", ""
        if notation := detect_notation(self.known):
            return notation, ""
        return find_unit(self.known, self.name) or find_ranges(self.known, self.name) or ("", "")

    @cached_property
    def distinct(self) -> int:
        """Number of different values; lists count as one each."""
        return (
            len(self.known)
            if pa.types.is_nested(self.values.type)
            else int(pc.count_distinct(self.known).as_py())
        )

    @cached_property
    def is_whole(self) -> bool:
        """True if every value is an integer."""
        return self.floats is not None and bool(pc.all(pc.equal(self.floats, pc.floor(self.floats))).as_py())

    @cached_property
    def is_id(self) -> bool:
        """True if every value may be an exact integer id: not negative and without leading zeros."""
        if not self.is_whole or pc.min(self.floats).as_py() < 0 or pc.max(self.floats).as_py() >= 2**53:
            return False
        texts = pa.types.is_string(self.values.type)
        return not (texts and bool(pc.any(pc.match_substring_regex(self.known, r"^\s*0\d|[^\d\s]")).as_py()))

    @cached_property
    def is_padded(self) -> bool:
        """True for whole numbers with zeros in front that have equally many figures, such as 0000104711."""
        if not self.is_whole or not pa.types.is_string(self.values.type):
            return False
        lengths = pc.unique(pc.utf8_length(self.known))
        return len(lengths) == 1 and bool(pc.all(pc.match_substring_regex(self.known, r"^\d{4,}$")).as_py())

    @cached_property
    def holds_urls(self) -> bool:
        """True for texts of which nearly all are URLs, too many to be values of a feature."""
        if not pa.types.is_string(self.values.type) or self.distinct < _MANY_URLS:
            return False
        return _share(pc.match_substring_regex(self.known, _URL)) > _MOSTLY

    @property
    def is_flag(self) -> bool:
        """True if every value is 0 or 1, true or false, yes or no, and both occur."""
        return self._pair in _FLAGS

    @property
    def is_signed_flag(self) -> bool:
        """True if every value is 1 or -1, and both occur."""
        return self._pair in ({"1", "-1"}, {"1.0", "-1.0"})

    @cached_property
    def _pair(self) -> set[str]:
        """Texts of the two values of a column that has two, else an empty set."""
        if pa.types.is_nested(self.values.type) or self.distinct != 2:
            return set()
        return {str(value).strip().lower() for value in self.known.unique().to_pylist()}

    @cached_property
    def unit(self) -> str:
        """Unit of a column of moments from 1990 to 2100, else empty."""
        if self.distinct < 2 or pa.types.is_nested(self.values.type) or pa.types.is_boolean(self.values.type):
            return ""
        unit = self._told_unit
        if unit in ("YYMMDDHH", "excel") and not _OF_TIMES.search(self.name.lower()):
            return ""  # an id of eight digits, or any number
        if unit in _COUNTED and _OF_IDS.search(self.name.lower()):
            return ""  # an id of as many digits as seconds since 1970 have
        return unit if self._lies_within(*_TIMES) else ""

    @cached_property
    def is_date(self) -> bool:
        """True for texts or dates from 1800 to 2100; numbers could be anything."""
        if self.distinct < 2 or pa.types.is_nested(self.values.type):
            return False
        return self._told_unit in WRITTEN and self._lies_within(*_DATES)

    @cached_property
    def _told_unit(self) -> Unit:
        """Unit that the values have if they are moments at all."""
        return detect_unit(self.known)

    @cached_property
    def _probed(self) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Some of the values as seconds, and which of them are none."""
        return seconds(self.known[:: len(self.known) // _PROBE + 1], self._told_unit)

    @cached_property
    def _read(self) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """All values as seconds, and which of them are none."""
        return seconds(self.known, self._told_unit)

    def _lies_within(self, first: int, last: int) -> bool:
        """True if nearly all values are moments between two seconds."""
        # Texts that are no moments are tried in every notation, which is slow: some of them tell.
        return _lie_within(first, last, self._probed, 0.5) and _lie_within(first, last, self._read, 0.95)

    @cached_property
    def separator(self) -> str:
        """Character that splits the texts into repeated short tokens, or empty."""
        if self.floats is not None or not pa.types.is_string(self.values.type):
            return ""
        if _share(pc.match_substring_regex(self.known, r"^[\[(]")) > 0.1:
            return BRACKETS if _are_lists(self.known.to_pylist()) else ""
        for separator in _LIST_SEPARATORS:
            if _share(pc.match_substring(self.known, separator)) <= 0.2:
                continue
            parts = [text.split(separator) for text in self.known.to_pylist()]
            tokens = Counter(token.strip() for entry in parts for token in entry)
            with_digits = sum(often for token, often in tokens.items() if any(map(str.isdigit, token)))
            if separator == " " and with_digits < 0.9 * tokens.total():
                continue  # words of a sentence, not a list of ids
            if len(tokens) < 0.5 * tokens.total() and not _are_phrases(parts):
                return separator
        return ""

    @cached_property
    def ids(self) -> pa.Array:
        """Values as ids are compared: texts, of 12 and 12.0 the same."""
        return whole_texts(as_text(self.values))

    @cached_property
    def plain_ids(self) -> frozenset[str]:
        """Different values as texts, of 12, 12.0 and " 12" the same."""
        return frozenset(str(value).strip().removesuffix(".0") for value in self.known.unique().to_pylist())

    def ids_among(self, other: "Column") -> int:
        """Count the different ids that another column has, too."""
        return int(pc.sum(pc.is_in(self.ids.unique().drop_null(), value_set=other.ids)).as_py() or 0)

    @property
    def most(self) -> int:
        """The largest number of values in one row."""
        if pa.types.is_nested(self.values.type):
            return int(pc.max(pc.list_value_length(self.known)).as_py() or 1)
        return max(map(len, self.entries()), default=1)

    def entries(self) -> list[list[str]]:
        """Return the values of each text that the separator takes apart."""
        return [entries_of(text, self.separator) for text in self.known.to_pylist()]

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
    """Rows from the head, the middle and the end of a table, and its layout.

    Attributes:
        path: its file, the folder of its files, or a pattern that matches them.
        format: ``csv``, ``tsv``, ``jsonl`` or ``parquet``.
        text: separator, names and encoding of text tables.
        named: true if the file, or another one, names its columns.
        left_out: columns that hold nothing a field can be made of, each with what they hold.
        objects: those of them that hold lists of objects.
        sources: other tables that gave some of the columns.
        unnest: column of lists of events, each of which is a row.
        rows_of_line: rows of a line or an object of the file.
    """

    path: Path
    format: str
    text: TextFormat
    named: bool
    columns: dict[str, Column]
    rows: int
    left_out: dict[str, str] = field(default_factory=dict)
    objects: dict[str, pa.Array] = field(default_factory=dict)
    sources: Mapping[str, "Head"] = field(default_factory=dict)
    unnest: str = ""
    rows_of_line: float = 1.0

    def labeled(self, names: Collection[str]) -> "Head":
        """Return the table with some of its columns, if it has them, known as labels."""
        told = {name: replace(self.columns[name], is_label=True) for name in names if name in self.columns}
        return replace(self, columns={**self.columns, **told}) if told else self

    @cached_property
    def files(self) -> list[Path]:
        """Its files, in the order of their names."""
        return matching_files("table", Path(), str(self.path))

    @property
    def size(self) -> int:
        """Number of bytes of its files."""
        return sum(file.stat().st_size for file in self.files)

    @cached_property
    def estimated_rows(self) -> float:
        """Estimate the number of rows; that of texts by the length of the first lines."""
        return self.rows_of_line * self._estimated_lines

    @property
    def _estimated_lines(self) -> float:
        files = self.files
        if self.format == "parquet":
            return float(sum(pq.read_metadata(file).num_rows for file in files))
        if self.format == "jsonl" and holds_array(files[0]):  # of any number of lines
            return float(sum(len(chunk) for file in files for chunk in read(file, format="jsonl")))
        first = next(line_blocks(files[0]), b"")
        packed = len(zlib.compress(first)) if files[0].suffix in COMPRESSED else len(first)
        return self.size * first.count(b"\n") / max(packed, 1)

    def holds_integers(self, name: str) -> bool:
        """True if every value of a column is an exact integer id, wherever in the table it stands.

        Texts are read up to the end, or up to a length that takes seconds: 007 may come late in a sorted log.
        """
        if not self.columns[name].is_id:
            return False
        if name in self.sources:
            return self.sources[name].holds_integers(name)
        texts = pa.types.is_string(self.columns[name].values.type)
        seen = 0
        for file in self.files if texts else []:
            for chunk in self._read(file, [name]):
                if not Column(name, chunk[name]).is_id and chunk[name].null_count < len(chunk):
                    return False
                seen += chunk[name].nbytes
                if seen > _SCANNED:
                    return True
        return True

    def _read(self, file: Path, names: Sequence[str]) -> Iterator[Chunk]:
        kind: Format = self.format  # type: ignore[assignment]
        return read(file, names, format=kind, text=self.text, unnest=self.unnest)

    def texts(self, key: Sequence[str]) -> pa.Array:
        """Write the keys (N,) of the rows as texts, null where a part is missing."""
        parts = [as_text(self.columns[name].values) for name in key]
        return parts[0] if len(parts) == 1 else composed(parts, whole=True)

    def rows_with(self, key: str, ids: pa.Array, names: Sequence[str]) -> tuple[dict[str, pa.Array], bool]:
        """Read the rows that have some ids (texts), each of which has one row.

        Returns:
            Their columns, and true if the table was read up to the last of them or to its end; of a large one
            only a part is read.
        """
        found: dict[str, list[pa.Array]] = {name: [] for name in names}
        seen = rows = 0
        for file in self.files:
            for chunk in self._read(file, names):
                chosen = pc.is_in(whole_texts(read_texts(chunk[key])[0]), value_set=ids)
                for name, parts in found.items():
                    parts.append(chunk[name].filter(chosen))
                seen, rows = seen + chunk.rows.nbytes, rows + (pc.sum(chosen).as_py() or 0)
                if rows >= len(ids) or seen > _SCANNED:
                    return {name: together(parts) for name, parts in found.items()}, rows >= len(ids)
        return {name: together(parts) for name, parts in found.items()}, True


def _lie_within(first: int, last: int, read: tuple[pa.Array, np.ndarray[Any, Any]], least: float) -> bool:
    """True if more than a share of moments lie between two seconds, and as many are moments."""
    times, bad = read
    within = pc.and_(pc.greater_equal(times, first), pc.less(times, last)).fill_null(False)
    return bool(np.mean(within.to_numpy(zero_copy_only=False)) > least and bad.mean() < 1 - least)


def _share(flags: pa.Array) -> float:
    """Return the share of true flags; 0 of none."""
    return float(pc.mean(flags.cast(pa.float64())).as_py() or 0.0)


def _are_phrases(parts: list[list[str]]) -> bool:
    """True for texts such as a title and its city, or sentences, that a mark and a space part.

    All have as many parts, and each place has words of its own, while a tag stands first in one list and
    later in another one.
    """
    if len(set(map(len, parts))) > 1:
        return False  # as of the names of browsers, whose parts come again
    later = [token for entry in parts for token in entry[1:]]
    if sum(token[:1].isspace() for token in later) < _MOSTLY * len(later):
        return False
    texts = {tuple(token.strip() for token in entry) for entry in parts}
    both = {text[0] for text in texts} & {token for text in texts for token in text[1:]}
    tokens = [token for text in texts for token in text]
    return sum(token in both for token in tokens) < _ANYWHERE * len(tokens)


def _are_lists(texts: list[str]) -> bool:
    """True for texts such as ['a', 'b'] whose entries come back; vectors have equally many numbers."""
    if sum(text.strip()[:1] + text.strip()[-1:] == "[]" for text in texts) < 0.95 * len(texts):
        return False
    if sum(map(len, texts)) > _LONG_LIST * len(texts):
        return False  # what a text is about, with all that is known of it
    lists = [entries_of(text, BRACKETS) for text in texts]
    tokens = Counter(token for entry in lists for token in entry)
    alike = len(set(map(len, lists))) == 1 and all(map(is_number, tokens))
    return not alike and len(tokens) < 0.5 * tokens.total()
