"""Quotes of delimited text: which of them hold a value together, and which are plain characters.

A quoted value begins with a quote right after a separator or a line end, and ends with one right before a
separator or a line end; inside, a doubled quote stands for one (RFC 4180). Any other quote is a plain
character. A value that spans lines is no quoted value if its lines look like rows; nor is one that is longer
than `_LONGEST_VALUE`.

Arrow has another grammar: a quote that nothing closes swallows the rows after it. So `settle` writes such
text the way in which Arrow reads what this grammar means, and cuts it only between rows.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

_LONGEST_VALUE = 1 << 20  # bytes; a quote that nothing closes must not gather the whole file in memory
_NEWLINE, _RETURN = 0x0A, 0x0D
_LONE_RETURN = re.compile(rb"\r(?!\r*\n|\r*\Z)")
# Ids, numbers and times, by which a line is known as a row: digits and no words.
_CODE = re.compile(rb"\s*(?:\S*\d\S*|\d[\d:./+ -]*(?:[TZ]|UTC)?)\s*\Z")
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grammar:
    """Splits text into rows of ``fields`` values.

    Attributes:
        separator: one byte.
        quote: one byte, or none if quotes are plain text.
    """

    separator: bytes
    quote: bytes
    fields: int

    @cached_property
    def _value(self) -> re.Pattern[bytes]:
        """Pattern of one value and what ends it."""
        separator, quote = re.escape(self.separator), re.escape(self.quote)
        plain = rb"([^%b\n]*+)" % separator
        if not quote:
            return re.compile(rb"()%b(%b|\n|\Z)" % (plain, separator))
        quoted = rb"%b((?:[^%b]++|%b%b)*+)%b(?=%b|\r*\n|\r*\Z)\r*" % (*[quote] * 5, separator)
        return re.compile(rb"(?:%b|%b)(%b|\n|\Z)" % (quoted, plain, separator))

    @cached_property
    def _body(self) -> re.Pattern[bytes]:
        """Pattern of a quoted value up to the quote that may close it."""
        quote = re.escape(self.quote)
        return re.compile(rb"%b(?:[^%b]++|%b%b)*+" % (quote, quote, quote, quote))

    @cached_property
    def _closed(self) -> re.Pattern[bytes]:
        """Pattern of what follows a closing quote."""
        return re.compile(rb"%b|\r*\n|\r*\Z" % re.escape(self.separator))

    def row(self, text: bytes, start: int = 0) -> tuple[list[bytes], int]:
        """Split the row that begins at ``start``; return its values and where the next row begins."""
        values, end = [], b""
        while True:
            match = self._value.match(text, start)
            assert match is not None, "a plain value may be empty, so every text matches"
            quoted, plain, end = match.groups()
            if plain is not None:
                values.append(plain if end == self.separator else plain.rstrip(b"\r"))
            else:
                values.append(quoted.replace(self.quote * 2, self.quote))
            start = match.end()
            if end != self.separator:
                return values, start

    def line(self, text: bytes) -> list[bytes]:
        """Split a line by itself: a value that no quote of the line closes is plain text."""
        return self.row(text)[0]

    def settle(self, data: bytes, at_end: bool) -> tuple[bytes, int]:
        """Return the whole rows of ``data`` as Arrow reads them, and the number of bytes they stood in.

        Args:
            data: begins with a row; ``at_end`` if the file ends with it.
        """
        end = len(data) if at_end else data.rfind(b"\n") + 1
        lone = b"\r" in data and _LONE_RETURN.search(data, 0, end) is not None
        if not self.quote or (self.quote not in data and not lone):
            return data[:end], end
        marks = _Marks.of(data[:end], self)
        if not marks.begins.any() and not lone:
            return data[:end], end  # Arrow, too, takes a quote inside a value as plain
        if len(marks.at) % 2 and marks.begins[-1] and not at_end:
            cut = data.rfind(b"\n", 0, int(marks.at[-1])) + 1  # its value may end in the next block
            end, marks = (cut, marks.before(cut)) if cut else (end, marks)
        if not lone and marks.are_paired() and not self._swallows(data, marks):
            return data[:end], end
        return self._rewritten(data, end, at_end, marks)

    def _swallows(self, data: bytes, marks: "_Marks") -> bool:
        """True if a well-formed value holds lines that look like rows, or is too long for a value."""
        opened, closed = marks.values()
        if not len(opened):
            return False
        if int(np.max(closed - opened)) >= _LONGEST_VALUE:
            return True
        lines = np.flatnonzero(np.frombuffer(data, np.uint8, int(closed[-1])) == _NEWLINE)
        value = np.searchsorted(opened, lines) - 1  # the last value that begins before each line end
        inside = (value >= 0) & (lines < closed[value])
        spans = np.unique(value[inside])
        pairs = zip(opened[spans].tolist(), closed[spans].tolist(), strict=True)
        return any(self._are_rows(data, start, stop) for start, stop in pairs)

    def _are_rows(self, data: bytes, start: int, stop: int) -> bool:
        """True if most lines of a value look like its first row: as wide, and codes where it has codes."""
        begin, end = data.rfind(b"\n", 0, start) + 1, data.find(b"\n", stop)
        lines = data[begin : end if end >= 0 else len(data)].split(b"\n")
        first = self.line(lines[0])
        codes = [
            i for i, value in enumerate(first) if _CODE.match(value) and not value.startswith(self.quote)
        ]
        if len(first) != self.fields or self.fields < 2 or not codes:
            return False
        alike = 1
        for line in lines[1:]:
            values = self.line(line)
            alike += len(values) == self.fields and all(_CODE.match(values[index]) for index in codes)
        return 2 * alike > len(lines)

    def _rewritten(self, data: bytes, end: int, at_end: bool, marks: "_Marks") -> tuple[bytes, int]:
        """Write plain values with quotes or lone carriage returns as quoted ones, from left to right."""
        returns = [match.start() for match in _LONE_RETURN.finditer(data, 0, end)]
        starts = {int(at) for at in marks.at[marks.begins]}
        edits: list[tuple[int, int]] = []
        free = 0
        for at in sorted({*returns, *starts}):
            if at < free:
                continue  # inside of a value that was dealt with
            if at in starts:
                stop = self._close(data, at, at_end)
                if stop is None or stop > end:  # the end of its row is not in sight
                    end = data.rfind(b"\n", 0, at) + 1
                    break
                if stop and not (b"\n" in data[at:stop] and self._are_rows(data, at, stop)):
                    free = stop
                    continue
            begin = at if at in starts else self._begin(data, at)
            free = self._plain_end(data, begin)
            edits.append((begin, free))
        return self._quoted(data, end, edits), end

    def _quoted(self, data: bytes, end: int, edits: list[tuple[int, int]]) -> bytes:
        """Quote the values at these places, up to ``end``."""
        pieces, done = [], 0
        for begin, stop in edits:
            if begin < end:
                value = data[begin:stop].replace(self.quote, self.quote * 2)
                pieces += [data[done:begin], self.quote, value, self.quote]
                done = stop
        return b"".join([*pieces, data[done:end]])

    def _close(self, data: bytes, at: int, at_end: bool) -> int | None:
        """Find the end of the quoted value at a position: 0 if it is plain, None if not in sight."""
        match = self._body.match(data, at, at + _LONGEST_VALUE)
        assert match is not None, "a quote stands there"
        stop = match.end()
        if stop >= at + _LONGEST_VALUE:
            return 0
        if not at_end and stop + 2 >= len(data):
            return None
        closes = data[stop : stop + 1] == self.quote and self._closed.match(data, stop + 1) is not None
        return stop + 1 if closes else 0

    def _begin(self, data: bytes, at: int) -> int:
        """Find the beginning of the plain value around a position."""
        return max(data.rfind(self.separator, 0, at), data.rfind(b"\n", 0, at)) + 1

    def _plain_end(self, data: bytes, at: int) -> int:
        """Find the end of the plain value at a position, the line end left out."""
        line = data.find(b"\n", at)
        line = len(data) if line < 0 else line
        stop = data.find(self.separator, at, line)
        return stop if stop >= 0 else at + len(data[at:line].rstrip(b"\r"))


@dataclass(frozen=True)
class _Marks:
    """Every quote of a text.

    Attributes:
        at: (N,) positions.
        begins: (N,) True right after a separator, a line end, or the start of the text.
        ends: (N,) True right before a separator or a line end, or at the end of the text.
        doubled: (N,) True right before another quote.
    """

    at: npt.NDArray[np.int64]
    begins: _Mask
    ends: _Mask
    doubled: _Mask

    @classmethod
    def of(cls, text: bytes, grammar: Grammar) -> "_Marks":
        """Find the quotes of a text of whole rows."""
        letters = np.frombuffer(text, np.uint8)
        quote, separator = grammar.quote[0], grammar.separator[0]
        at = np.flatnonzero(letters == quote)
        before = np.where(at > 0, letters[at - 1], _NEWLINE)
        after = np.where(at + 1 < len(letters), letters[np.minimum(at + 1, len(letters) - 1)], _NEWLINE)
        begins = (before == separator) | (before == _NEWLINE)
        ends = (after == separator) | (after == _NEWLINE) | (after == _RETURN)
        return cls(at, begins, ends, after == quote)

    def before(self, cut: int) -> "_Marks":
        """Keep the quotes before a position."""
        kept: Any = slice(0, int(np.searchsorted(self.at, cut)))
        return _Marks(self.at[kept], self.begins[kept], self.ends[kept], self.doubled[kept])

    def are_paired(self) -> bool:
        """True if they open and close values in turn, doubled ones inside of values left out."""
        if len(self.at) % 2:
            return False
        opening = self.begins[0::2].copy()
        opening[1:] |= self.doubled[1:-1:2]  # the second one of a doubled quote
        return bool(opening.all() and (self.ends | self.doubled)[1::2].all())

    def values(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Positions of the first and the last quote of each value; the quotes must be paired."""
        first = np.flatnonzero(self.begins[0::2])
        last = np.append(first[1:], len(self.at) // 2) - 1
        return self.at[0::2][first], self.at[1::2][last[: len(first)]]
