"""Layout of a delimited file: encoding, separator, where it begins, and whether a line names the columns."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from clickscale.data.described.drafts.files.text_encoding import detect_encoding
from clickscale.data.features.texts import is_placeholder
from clickscale.data.tables.chunks import line_blocks
from clickscale.data.tables.delimited import TextFormat, split_line
from clickscale.errors import InputError

_SEPARATORS = (",", "\t", ";", "|", "::")
_LINES, _FEWEST_LINES = 50, 4  # that are looked at, and that tell what a table's lines look like
_OTHERS = 30  # files of a table whose encoding is looked at
_MOST_SKIPPED = 30  # lines before a table
_MARKS = ("#", "//", "--", "%")  # of comments
_WORDS = 2  # in each line that are no columns yet
_DUMP = re.compile(
    r"(-- (PostgreSQL|MySQL|MariaDB|SQLite)?.*dump|SET \w+ = |PRAGMA |BEGIN TRANSACTION|(CREATE|DROP) TABLE |"
    r"INSERT INTO |COPY \S+ \(.*\) FROM stdin)",
    re.IGNORECASE,
)
_SPARSE = re.compile(r"[-+]?[01](\.0*)?(\s+(qid|\d+):(\d+:)?[^\s:]+)+\s*\Z")  # 0 1:241 2:32, or 0 0:241:1


def sniff(path: Path, kind: str, others: Sequence[Path] = ()) -> tuple[TextFormat, bool]:
    """Detect the layout of a delimited file; return it, and true if the first line names the columns.

    Args:
        others: further files of the table, some of which may show its encoding.
    """
    block = next(line_blocks(path), b"").removeprefix(b"\xef\xbb\xbf")
    encoding = detect_encoding(block)
    for other in others[:_OTHERS] if encoding == "utf-8" else ():
        encoding = detect_encoding(next(line_blocks(other), b""))
        if encoding != "utf-8":
            break
    every = re.split(r"\r*\n|\r", block.decode(encoding, "replace"))[: _LINES + _MOST_SKIPPED]
    skip = _skipped(every)
    lines = [line for line in every[skip:] if line.strip()][:_LINES]
    if not lines:
        raise InputError(f"{path} is empty; a guess needs some rows.")
    _check_dense(path, lines)
    _check_no_dump(path, every)
    usual = "\t" if kind == "tsv" else ","
    separator = max(_SEPARATORS, key=lambda candidate: (*_fit(lines, candidate), candidate == usual))
    if not _fit(lines, separator)[0]:
        separator = next((spaces for spaces in ("  ", " ") if _divides_table(lines, spaces)), separator)
    text = TextFormat(separator=separator, encoding=encoding, skip=skip)
    names = split_line(lines[0], text)
    if _is_header(names, [split_line(line, text) for line in lines[1:]]):
        return text, True
    numbered = tuple(f"column_{index}" for index in range(1, len(names) + 1))
    return msgspec.structs.replace(text, names=numbered), False


def _skipped(lines: list[str]) -> int:
    """Count the lines before a table that are none of it: comments, empty ones, and the name of a report.

    Such lines are marked, or hold few fields and stand above a header.
    """
    filled = [line for line in lines if line.strip()][:_LINES]
    later = filled[len(filled) // 2 :]
    separator = max(_SEPARATORS, key=lambda candidate: _fit(later, candidate)) if later else ""
    if len(filled) < _FEWEST_LINES or not _fit(later, separator)[0]:
        return 0
    text = TextFormat(separator=separator)
    width, is_marked = len(split_line(later[0], text)), True
    for number, line in enumerate(lines[:_MOST_SKIPPED]):
        fields = split_line(line, text)
        held = sum(bool(field.strip()) for field in fields)
        if len(fields) == width and 2 * held > width:
            rows = [split_line(row, text) for row in lines[number + 1 :] if row.strip()]
            return number if is_marked or _is_header(fields, rows) else 0
        is_marked = is_marked and (not held or line.lstrip().startswith(_MARKS))
        if not is_marked and 2 * held > width:
            return 0
    return 0


def _check_dense(path: Path, lines: list[str]) -> None:
    """Refuse lines such as ``0 1:241 2:32``, which name no column."""
    if sum(_SPARSE.match(line) is not None for line in lines) > 0.9 * len(lines):
        raise InputError(
            f"{path} has lines of libsvm or libffm, such as {lines[0][:40]!r}: a label, and features without "
            "names. Write it as a table, such as CSV, with a column for each field of the log."
        )


def _check_no_dump(path: Path, lines: list[str]) -> None:
    """Refuse the commands that a database writes to make its tables again."""
    if any(_DUMP.match(line) for line in lines):
        raise InputError(
            f"{path} holds commands of SQL, not a table. Write each table of it as CSV: with PostgreSQL by "
            "\\copy NAME to 'NAME.csv' csv header, with MySQL by SELECT ... INTO OUTFILE."
        )


def _fit(lines: list[str], separator: str) -> tuple[bool, int]:
    """Return true if a separator splits nearly all lines and the first alike, and the number of fields."""
    widths = [len(split_line(line, TextFormat(separator=separator))) for line in lines]
    fields, often = Counter(widths).most_common(1)[0]
    return fields > 1 and often >= 0.9 * len(lines) and widths[0] == fields, fields


def _divides_table(lines: list[str], spaces: str) -> bool:
    """True if spaces divide lines into columns under a header, as they do not in sentences and lists."""
    names, *rows = [split_line(line, TextFormat(separator=spaces)) for line in lines]
    fits, fields = _fit(lines, spaces)
    if not fits or fields <= _WORDS or not all(names) or len(set(names)) < fields:
        return False
    return _stands_above(names, [row for row in rows if len(row) == fields])


def _is_header(names: list[str], rows: list[list[str]]) -> bool:
    """True for a first line of names: different texts, above numbers or above lines without these names.

    Some columns may have no name, such as the index of a data frame; then numbers must stand below. Some
    names may be numbers, such as those of fields or years; then other names must stand above other kinds.
    """
    given = [name for name in names if name.strip()]
    fits = [row for row in rows if len(row) == len(names)]
    if not given or any(is_number(name) for name in given):
        return len(set(given)) == len(given) and _stands_above(names, fits)
    below = any(is_number(row[index]) for row in fits for index in range(len(names)))
    if len(given) < len(names) or len(set(given)) < len(given):  # a doubled name is an error when read
        return below
    return below or all(name not in row for row in fits for name in names)


def _stands_above(names: list[str], rows: list[list[str]]) -> bool:
    """True if at least half of the names that are texts stand above values of another kind than texts.

    In a table without a header, the first line is of the kind of those below.
    """
    texts = [index for index, name in enumerate(names) if name.strip() and not is_number(name)]
    texts = [index for index in texts if not is_placeholder(pa.array([names[index].strip()])).any()]
    above = sum(_differs(names[index], [row[index] for row in rows if row[index].strip()]) for index in texts)
    return len(texts) > 0 and 2 * above >= len(texts)


def _differs(name: str, values: list[str]) -> bool:
    """True for a name above numbers only, or a name without digits above values that nearly all have some."""
    if not values or name in values:
        return False
    digits_below = _with_digits(Counter(values)) > 0.9 * len(values)
    return all(map(is_number, values)) or (digits_below and not _with_digits(Counter([name])))


def _with_digits(tokens: Counter[str]) -> int:
    """Count the tokens with a digit."""
    return sum(often for token, often in tokens.items() if any(letter.isdigit() for letter in token))


def is_number(text: str) -> bool:
    """True for a text that Python reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
