"""Files that are pieces of one table, such as one for each day, by their names and their columns.

The names of pieces differ only in what counts or tells a moment: ``views_2024-05-01.csv`` and
``views_2024-05-02.csv``, or ``2024-05-01/views.csv`` and ``2024-05-02/views.csv``.
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from clickscale.data.described.drafts.files.text_layout import sniff
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.folders import files_below, matching_files
from clickscale.data.tables.raw_tables import column_names, detect_format
from clickscale.errors import InputError

# What differs between the pieces of a table: dates, numbers, names of months, and ids.
_VARYING = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![A-Za-z0-9])(?=[a-f]*\d)[0-9a-f]{8,}(?![A-Za-z0-9])|\d+|"
    r"(?<![A-Za-z])(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*(?![A-Za-z]))",
    re.IGNORECASE,
)
_MOST_KINDS = 20  # of names in a folder, beyond which its files are pieces with names of their own
_ALIKE = 0.5  # share of the keys that pieces of JSON lines have in common: a key may be missing in some
_Columns = tuple[str, ...]


def tables_of_files(paths: Sequence[Path]) -> list[Path]:
    """List the tables of a log: files, folders, and patterns that match the pieces of a table and no more."""
    whole = [part for path in paths for part in _tables_of_folder(path)]
    files = [path for path in whole if path.is_file()]
    pattern_of = {
        file: pattern
        for group in _by_kind(files)
        for pattern, pieces in _tables_of_kind(group)
        for file in pieces
    }
    return list(dict.fromkeys(pattern_of.get(path, path) for path in whole))


def _tables_of_folder(folder: Path) -> list[Path]:
    """Take a folder apart that holds pieces of several tables; else return it as it is."""
    if not folder.is_dir():
        return [folder]
    files = files_below(folder)
    kinds = _by_kind(files, same_folder=False)
    if not 1 < len(kinds) <= _MOST_KINDS or len(kinds) == len(files):
        return [folder]
    try:
        held = [_columns_of(group[0]) for group in kinds]
    except InputError:
        return [folder]
    return files if any(not _are_alike(held[0], other) for other in held) else [folder]


def _by_kind(files: Sequence[Path], same_folder: bool = True) -> list[list[Path]]:
    """Group files whose names, and those of their folders, differ only in what differs between pieces."""
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(_VARYING.sub("#", str(file if same_folder else file.name)), []).append(file)
    return list(kinds.values())


def _tables_of_kind(files: Sequence[Path]) -> list[tuple[Path, list[Path]]]:
    """Return patterns for the files of a kind that have equal columns, each with these files."""
    groups: list[tuple[_Columns, list[Path]]] = []
    for file in files if len(files) > 1 else []:
        try:
            columns = _columns_of(file)
        except InputError:
            continue  # reading it alone says what is wrong
        group = next((group for held, group in groups if _are_alike(held, columns)), None)
        if group is None:
            groups.append((columns, [file]))
        else:
            group.append(file)
    found = [(_pattern(group), group) for _, group in groups if len(group) > 1]
    return [(pattern, group) for pattern, group in found if pattern is not None]


def _columns_of(file: Path) -> _Columns:
    """List the columns of a file, sorted; those of JSON lines after a mark, since some may lack."""
    kind = detect_format(file)
    if kind not in ("csv", "tsv"):
        names = column_names(file, format=kind, text=TextFormat())
        return ("{}" if kind == "jsonl" else kind, *sorted(names))
    text, named = sniff(file, kind)
    names = column_names(file, format=kind, text=text)
    return (f"{text.separator} {text.encoding} {text.skip}", *(sorted(names) if named else names))


def _are_alike(one: _Columns, other: _Columns) -> bool:
    if one[0] != "{}" or other[0] != "{}":
        return one == other
    return len({*one} & {*other}) > _ALIKE * len({*one} | {*other})


def _pattern(files: Sequence[Path]) -> Path | None:
    """Return a pattern that matches files of a kind and no others; None if there is none."""
    pieces = [_VARYING.split(str(file)) for file in files]
    # Every second piece is one that may vary.
    text = "".join(
        glob.escape(several[0]) if len(set(several)) == 1 else glob.escape(_beginning(several)) + "*"
        for several in zip(*pieces, strict=True)
    )
    pattern = Path(text)
    try:
        found = matching_files("pieces", Path(), str(pattern))
    except InputError:
        return None
    return pattern if {file.resolve() for file in found} == {file.resolve() for file in files} else None


def _beginning(texts: Sequence[str]) -> str:
    """Return the letters with which all texts begin."""
    first, last = min(texts), max(texts)
    same = (place for place, letter in enumerate(first) if letter != last[place])
    return first[: next(same, len(first))]
