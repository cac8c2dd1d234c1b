"""Files of one table: one for each part, whose names say train, valid or test, and pieces, such as one a day.

The names of pieces differ only in what counts or tells a moment: ``views_2024-05-01.csv`` and
``views_2024-05-02.csv``, or ``2024-05-01/views.csv`` and ``2024-05-02/views.csv``.
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.files.text_layout import sniff
from clickscale.data.described.drafts.samples import Head
from clickscale.data.source import PART_NAMES, PARTS
from clickscale.data.tables.chunks import line_blocks
from clickscale.data.tables.delimited import TextFormat, split_line
from clickscale.data.tables.folders import files_below, matching_files
from clickscale.data.tables.raw_tables import column_names, detect_format
from clickscale.errors import InputError

# What differs between the pieces of a table: dates, numbers, names of months, and ids.
_VARYING = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![A-Za-z0-9])(?=[a-f]*\d)[0-9a-f]{8,}(?![A-Za-z0-9])|\d+|"
    r"(?<![A-Za-z])(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![A-Za-z]))",
    re.IGNORECASE,
)
_NO_ROWS = "It has no rows"
_MOST_FILES = 100  # of a kind whose columns are looked at
_SMALL = 1 << 20  # bytes of a file beside tables that is read whole
_MOST_KINDS = 20  # of names in a folder, beyond which its files are pieces with names of their own
_ALIKE = 0.5  # share of all columns that pieces of a table have in common, at least
_NAMELESS = "#"
_ONE_COLUMN = 2  # its layout and its name, see `_columns_of`
_Columns = tuple[str, ...]


class _ReadTables(NamedTuple):
    """Tables of a log.

    Attributes:
        parts: by path of a table, the paths of its parts.
        unread: names of files that are none, each with the reason.
    """

    heads: list[Head]
    parts: dict[Path, dict[str, Path]]
    unread: dict[str, str]


def read_tables(paths: Sequence[Path]) -> _ReadTables:
    """Sample the tables of a log, each of one or many files; a file of nothing but names names others.

    Raises:
        InputError: a table cannot be read, or no file is one.
    """
    tables = _tables_of_files(paths)
    unread = {path: why for path in tables if (why := _why_no_table(path, path in paths))}
    if len(unread) == len(tables):
        unread = {}  # reading them says what is wrong
    headers = [_columns_named_in(path) for path, why in unread.items() if why == _NO_ROWS]
    heads = [read_head(path, headers) for path in tables if path not in unread]
    return _ReadTables(*_part_files(heads), {path.name: why for path, why in unread.items()})


def _why_no_table(path: Path, is_named: bool) -> str:
    """Say why a file beside tables is none, or return an empty text.

    Args:
        is_named: a person named it, so it is meant to be a table, and reading it says what is wrong.
    """
    if not path.is_file() or path.stat().st_size > _SMALL:
        return ""
    if not is_named and _columns_or_none(path) is None:
        return "It is empty, or has no columns"
    kind = detect_format(path)
    if kind == "jsonl":
        try:
            whole = msgspec.json.decode(b"".join(line_blocks(path)))
        except msgspec.DecodeError:
            return ""
        return "It is one object" if isinstance(whole, dict) else ""
    return _NO_ROWS if _has_no_rows(path) else ""


def _has_no_rows(path: Path) -> bool:
    """True for a file of text that holds one line, which names the columns."""
    if not path.is_file() or path.stat().st_size > _SMALL or detect_format(path) not in ("csv", "tsv"):
        return False
    return sum(bool(line.strip()) for block in line_blocks(path) for line in block.split(b"\n")) == 1


def _columns_named_in(path: Path) -> tuple[str, ...]:
    """List the names in the only line of a file."""
    text, _ = sniff(path, detect_format(path))
    line = b"".join(line_blocks(path)).removeprefix(b"\xef\xbb\xbf").decode(text.encoding, "replace")
    return tuple(name.strip() for name in split_line(line.strip("\r\n"), text))


def _part_files(heads: Sequence[Head]) -> tuple[list[Head], dict[Path, dict[str, Path]]]:
    """Join tables with equal columns whose names tell parts; return the rest, and the paths by first path."""
    groups: dict[tuple[str, ...], dict[str, Head]] = {}
    for head in heads:
        part = _part_of(head.path)
        if part and head.named:
            groups.setdefault(tuple(head.columns), {}).setdefault(part, head)
    kept, joined = list(heads), {}
    for parts in groups.values():
        if "train" in parts and len(parts) > 1:
            kept = [head for head in kept if head is parts["train"] or head not in parts.values()]
            joined[parts["train"].path] = {
                part: head.path for part, head in sorted(parts.items(), key=_in_turn)
            }
    return kept, joined


def _tables_of_files(paths: Sequence[Path]) -> list[Path]:
    """List the tables of a log: files, folders, and patterns that match the pieces of a table and no more."""
    parts = [part for path in paths for part in _tables_of_parts(path)]
    whole = [table for path in parts for table in _tables_of_folder(path)]
    files = [path for path in whole if path.is_file()]
    pattern_of = {
        file: pattern
        for group in _by_kind(files)
        for pattern, pieces in _tables_of_kind(group)
        for file in pieces
    }
    return list(dict.fromkeys(pattern_of.get(path, path) for path in whole))


def _tables_of_folder(folder: Path) -> list[Path]:
    """Take a folder apart that holds several tables; else return it as it is."""
    if not folder.is_dir():
        return [folder]
    files = files_below(folder)
    kinds = _by_kind(files, same_folder=False)
    if not 1 < len(kinds) <= _MOST_KINDS:
        return [folder]
    held = [columns for group in kinds if (columns := _columns_or_none(group[0])) is not None]
    if not held:
        return [folder]  # reading it says what is wrong
    others = len(held) < len(kinds) or any(not _are_alike(held[0], columns) for columns in held)
    return files if others else [folder]


def _by_kind(files: Sequence[Path], same_folder: bool = True) -> list[list[Path]]:
    """Group files whose names, and those of their folders, differ only in what differs between pieces."""
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(_VARYING.sub("#", str(file if same_folder else file.name)), []).append(file)
    return list(kinds.values())


def _tables_of_kind(files: Sequence[Path]) -> list[tuple[Path, list[Path]]]:
    """Return patterns for the files of a kind that have equal columns, each with these files."""
    looked_at = files[:: len(files) // _MOST_FILES + 1]
    if len(looked_at) < len(files) and len(_groups_of(looked_at)) == 1:
        groups = [list(files)]  # of thousands of files, some tell of all
    else:
        groups = _groups_of(files) if len(files) > 1 else []
    return [(_pattern(group), group) for group in groups if len(group) > 1]


def _groups_of(files: Sequence[Path]) -> list[list[Path]]:
    """Group files by their columns; a file that cannot be read is in no group."""
    groups: list[tuple[_Columns, list[Path]]] = []
    without_rows = [file for file in files if _has_no_rows(file)]
    for file in files:
        if file in without_rows:
            continue
        try:
            columns = _columns_of(file)
        except InputError:
            continue  # reading it alone says what is wrong
        group = next((group for held, group in groups if _are_alike(held, columns)), None)
        if group is None:
            groups.append((columns, [file]))
        else:
            group.append(file)
    for number, (columns, (file, *_)) in enumerate(groups):
        for held, (first, *_) in groups[:number]:
            _check_layout(first, held, file, columns)
    for file in without_rows:  # such as a day on which nothing happened
        names = _columns_named_in(file)
        group = next((group for held, group in groups if _may_lack_rows(held, names)), None)
        if group is not None:
            group.append(file)
    return [sorted(group) for _, group in groups]


def _may_lack_rows(columns: _Columns, line: Sequence[str]) -> bool:
    """True if the only line of a file has the names of columns, or without names is a row."""
    layout, *names = columns
    return len(line) == len(names) if layout.startswith(_NAMELESS) else {*line} <= {*names}


def _check_layout(one: Path, columns: _Columns, other: Path, others: _Columns) -> None:
    """Refuse a piece of a table that is written in another way, which no description can tell.

    Raises:
        InputError: two files have the same columns in other layouts, or only one of them names its columns.
    """
    (layout, *names), (other_layout, *other_names) = columns, others
    unnamed = [layout.startswith(_NAMELESS), other_layout.startswith(_NAMELESS)]
    way = "Write both alike, or leave one out."
    if not any(unnamed) and {*names} == {*other_names}:
        raise InputError(
            f"{other} has the columns of {one}, but is laid out in another way: {_told(other_layout)}, not "
            f"{_told(layout)}. {way}"
        )
    if sum(unnamed) == 1 and layout.strip(_NAMELESS) == other_layout.strip(_NAMELESS):
        with_names, without = (other, one) if unnamed[0] else (one, other)
        if len(names) == len(other_names):
            raise InputError(
                f"{without} does not begin with the names of its columns, as {with_names} does. {way}"
            )


def _told(layout: str) -> str:
    """Tell a layout of `_columns_of` in words."""
    separator, _, skip = layout.rpartition(" ")
    return f"separator {separator!r} after {skip} lines" if separator else f"format {layout}"


def _columns_or_none(file: Path) -> _Columns | None:
    """List the columns of a file; None for one that cannot be read, or of lines as a README has them."""
    try:
        columns = _columns_of(file)
    except InputError:
        return None
    return columns if len(columns) > _ONE_COLUMN else None


def _columns_of(file: Path) -> _Columns:
    """List the names of the columns of a file after its layout, which begins with a mark without a header."""
    kind = detect_format(file)
    if kind not in ("csv", "tsv"):
        return (kind, *column_names(file, format=kind, text=TextFormat()))
    text, named = sniff(file, kind)
    layout = f"{text.separator} {text.skip}"
    return (layout if named else f"{_NAMELESS}{layout}", *column_names(file, format=kind, text=text))


def _are_alike(one: _Columns, other: _Columns) -> bool:
    """True for the columns of pieces of a table, some of which may lack what was added later."""
    if one[0] != other[0] or one[0].startswith(_NAMELESS):
        return one == other
    names, others = {*one[1:]}, {*other[1:]}
    return len(names & others) > _ALIKE * len(names | others)


def _pattern(files: Sequence[Path]) -> Path:
    """Return a pattern that matches files of a kind and no others.

    Raises:
        InputError: there is none.
    """
    pieces = list(zip(*(_VARYING.split(str(file)) for file in files), strict=True))
    wanted = {file.resolve() for file in files}
    more: set[Path] = set()
    for varying in (_with_star, _with_classes):
        # Every second piece is one that may vary.
        pattern = "".join(
            glob.escape(several[0]) if len(set(several)) == 1 else varying(several) for several in pieces
        )
        more = {file.resolve() for file in matching_files("pieces", Path(), pattern)} - wanted
        if not more:
            return Path(pattern)
    raise InputError(
        f"{files[0]} and {files[-1]} are pieces of one table, but any pattern for them matches "
        f"{min(more).name}, too, which was not given or has other columns. Give all pieces, or move these "
        "into a folder of their own and give that."
    )


def _with_star(texts: Sequence[str]) -> str:
    """Return a pattern of any texts that begin as all of these do."""
    return glob.escape(_beginning(texts)) + "*"


def _with_classes(texts: Sequence[str]) -> str:
    """Return a pattern of the letters that texts of one length have in each place."""
    if len({len(text) for text in texts}) > 1:
        return _with_star(texts)
    places = (sorted(set(letters)) for letters in zip(*texts, strict=True))
    return "".join(letters[0] if len(letters) == 1 else f"[{''.join(letters)}]" for letters in places)


def _beginning(texts: Sequence[str]) -> str:
    """Return the letters with which all texts begin."""
    first, last = min(texts), max(texts)
    same = (place for place, letter in enumerate(first) if letter != last[place])
    return first[: next(same, len(first))]


def _tables_of_parts(path: Path) -> list[Path]:
    """List the tables of a folder that holds one file or folder for each part; else the path itself."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    parts = {inner: _part_of(inner if inner.is_file() else inner / "part") for inner in inside}
    found = [inner for inner, part in parts.items() if part and not inner.name.startswith((".", "_"))]
    told = {parts[inner] for inner in found}
    return found if "train" in told and len(told) > 1 else [path]


def _in_turn(entry: tuple[str, Head]) -> int:
    return PARTS.index(entry[0])


def _part_of(path: Path) -> str:
    """Find the part that the name of a file, or of its folder, tells."""
    for text in (path.name.split(".")[0], path.parent.name):
        words = [PART_NAMES[word] for word in re.split(r"[^a-z]+", text.lower()) if word in PART_NAMES]
        if words:
            return words[-1]
    return ""
