"""Neighboring columns of 0 and 1 as one list: a table often has a column for each genre, tag or interest."""

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

import pyarrow.compute as pc

from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.toml_lines import MOST_VALUES
from clickscale.data.features.values import names_of_flags

_FEWEST = 5  # neighboring columns of 0 and 1 that are taken for a list
_SHORTEST = 3  # letters that names begin with alike, for the list to be called so


def with_flag_groups(columns: Sequence[tuple[Column, str]]) -> Iterator[tuple[Column, str]]:
    """Yield columns with their reasons, and one column of lists for each run of columns of 0 and 1.

    A model then has one feature where it would have twenty of two values each, and statistics can count by
    it. Columns of which many are 1 at once stay as they are: a list keeps its first values only.
    """
    for is_flag, run in groupby(columns, key=lambda entry: entry[0].is_flag):
        members = list(run)
        group = _group([column for column, _ in members]) if is_flag else None
        yield from members if group is None else [(group, members[0][1])]


def _group(flags: Sequence[Column]) -> Column | None:
    """Return the columns as one of lists of their names, or None if they are too few or too often 1."""
    if len(flags) < _FEWEST:
        return None
    lists, wrong = names_of_flags({column.name: column.values for column in flags})
    most = pc.max(pc.list_value_length(lists)).as_py()
    if most > MOST_VALUES or any(rows.any() for rows in wrong.values()):
        return None
    names = tuple(column.name for column in flags)
    return Column(_name(names), lists, names)


def _name(flags: Sequence[str]) -> str:
    """Name a list by what the names of its flags begin with, up to a mark between words, or ``flags``.

    The names ``column_7`` and so on are not the table's own.
    """
    # What the first and the last name in order share, all share.
    alike = takewhile(lambda letters: letters[0] == letters[1], zip(min(flags), max(flags), strict=False))
    words = "".join(letter for letter, _ in alike).rpartition("_")[0]
    return words if len(words) >= _SHORTEST and words != "column" else "flags"
