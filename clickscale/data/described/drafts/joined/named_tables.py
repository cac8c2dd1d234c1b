"""Tables that rows of others name by an id, such as sellers of items or stores of impressions."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import useless
from clickscale.data.described.drafts.joined.more_tables import (
    attributes_of,
    has_several_rows,
    is_category,
)
from clickscale.data.described.drafts.joined.outcome_tables import is_called_after_outcomes
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import named
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import WHOLE, Column, Head
from clickscale.data.described.drafts.suspects import totals_outcomes
from clickscale.data.described.drafts.toml_lines import file_lines, quoted, remark
from clickscale.data.described.keys import gathered
from clickscale.data.described.rows import as_text
from clickscale.data.features.texts import BRACKETS, entries_of

_PERSONS = ("uuid", "guid")
_OWN = 0.99  # share of the rows with a key of their own
_FOUND = 0.9  # share of the ids that are rows of the other table, where only values tell
_FOUND_NAMED = 0.5  # the same where names agree, too
COMMON = 20  # keys in common, at least, of columns with different names
_NARROW = 4  # columns of a table with several rows for an id, at most
_STEPS = 3  # from ads to campaigns, to advertisers, to their countries
_ID = re.compile(r"(^|_)(id|ids|key|code|no|number|ref|uuid|guid|fk|pk|sk|idx|index|slug|hash)$")
_OF_TABLES = re.compile(
    r"(^|_)(dims?|tbl|tables?|info|infos|data|dataset|master|meta|metadata|details?|list|lookup|profiles?|attributes|"
    r"features|catalog|catalogue|codes|mapping|dictionary|reference|db|export|dump|snapshot|all|full|raw|v\d+|\d+)(?=_|$)"
)
_ANYTHING = frozenset(
    (
        *("id", "key", "code", "no", "number", "name", "title", "label", "description", "type", "status"),
        *(
            "kind",
            "value",
            "index",
            "position",
            "rank",
            "slug",
            "count",
            "level",
            "hour",
            "day",
            "date",
            "time",
        ),
    )
)
_OF_EVENTS = re.compile(
    r"(^|_)(request|search|session|query|impression|imp|event|order|visit|slate|auction|bid|page_?view|display|log|"
    r"message|trace|transaction|basket|cart)(_|$)"
)


@dataclass(frozen=True)
class NamedTable:
    """A table that rows of others name.

    Attributes:
        key: column that names one of its rows.
        shown_key: the same of the tables that name it.
        added: columns that they get, by the names that these have there.
        found: share of the sampled rows with an id that name one of its rows.
        owners: what the rows are that name it.
        prefix: begins the names of its columns in other tables.
        left_out: columns that nobody gets, with the reason.
        parts: paths by part, if its files are parts.
        valid: columns with the moments from and up to which a row holds.
        several: true if an id has several rows, whose values are lists.
        separator: divides the ids of a text that names several rows.
    """

    head: Head
    key: str
    shown_key: str
    added: tuple[str, ...]
    found: float
    owners: tuple[str, ...] = ("impressions",)
    prefix: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Path] = field(default_factory=dict)
    valid: tuple[str, ...] = ()
    several: bool = False
    separator: str = ""

    @property
    def person(self) -> Column | None:
        """Column that stands for the user where none is called so."""
        return named([self.head.columns[name] for name in self.added], _PERSONS)

    @property
    def sources(self) -> dict[str, str]:
        """Name the columns of the table from which those that others get are taken."""
        begin = len(self.prefix)
        return {name: name if name in self.head.columns else name[begin:] for name in self.added}

    def lines(self, base: Path) -> Iterator[str]:
        """Yield the table ``[[joined]]``."""
        owners, shown = " and ".join(self.owners), remark(self.shown_key)
        when = ", as they were at their time" if self.valid else ""
        yield f"\n[[joined]]  # {owners} with the same {shown} have its columns{when}"
        yield from file_lines(self.head, base, self.parts)
        lost = 1 - self.found
        why = f"  # {lost:.1%} of the sampled {owners} have none of its rows" if lost else ""
        yield f"key = [{quoted(self.key)}]{why}"
        if self.key != self.shown_key:
            yield f"shown_key = [{quoted(self.shown_key)}]  # of the {owners}"
        if self.separator:
            yield f"entry_separator = {quoted(self.separator)}  # between the ids of a row"
        if self.several:
            yield "several = true  # lists of what its rows have"
        for option, name in zip(("valid_from", "valid_to"), self.valid, strict=False):
            yield f"{option} = {quoted(name)}"
        if self.prefix:
            yield f"prefix = {quoted(self.prefix)}  # of its columns there"
        for name, why in self.left_out.items():
            yield f"# left out: {remark(name)} ({remark(why)})"


def with_named_tables(
    head: Head, owner: str, others: Sequence[Head], spent: Collection[str], keep: Collection[str] = ()
) -> tuple[Head, list[NamedTable]]:
    """Add to a sample the columns of the tables among the others that its rows name, in several steps.

    Args:
        owner: what its rows are.
        spent: columns that name something else, such as the user, or that are no features.
        keep: columns of the others that are features whatever speaks against them.
    """
    tables: list[NamedTable] = []
    if not head.named:
        return head, tables
    # Each column with the name that it has in its own table, and the tables that led to it.
    left = [(name, name, tuple[Path, ...]((head.path,))) for name in head.columns if name not in spent]
    while left:
        shown, name, path = left.pop(0)
        for other in others:
            if other.path in path or len(path) > _STEPS:
                continue
            joined = _joins(head, owner, head.columns[shown], name, other, keep) or (
                _joins_lists(head, owner, head.columns[shown], name, other, keep)
            )
            if joined is None:
                continue
            head, table = joined
            tables.append(table)
            left += [(added, source, (*path, other.path)) for added, source in table.sources.items()]
            break
        for other in others:
            if other.path in path or len(path) > _STEPS:
                continue
            if (joined := _joins_several(head, owner, head.columns[shown], name, other)) is not None:
                head, table = joined
                tables.append(table)
                left += [(added, source, (*path, other.path)) for added, source in table.sources.items()]
    return head, tables


def _joins(
    head: Head, owner: str, shown: Column, name: str, other: Head, keep: Collection[str]
) -> tuple[Head, NamedTable] | None:
    """Join a table by a column of a sample, if its values name rows of it."""
    if not _may_name(shown) or _OF_EVENTS.search(OutcomeName(name).snake) or not _describes(other):
        return None
    key, agree = _key(shown, name, other)
    if key is None:
        return None
    prefix = _stem(shown.name) + "_"
    rest = [column for column in other.columns.values() if column is not key]
    judged = [column for column in rest if column.name not in keep]
    left_out = {column.name: why for column in judged if (why := _unfit(column, owner, key))}
    called = {c.name if c.name.startswith(prefix) else prefix + c.name: c for c in rest}
    added = {
        name: column
        for name, column in called.items()
        if column.name not in left_out and name not in head.columns
    }
    if not added:
        return None
    joined, found, different = looked_up(head, shown, other, key, added)
    with_id = len(shown.known) / max(len(shown.values), 1)
    if found < with_id * (_FOUND_NAMED if agree else _FOUND) or different < (2 if agree else COMMON):
        return None
    names = tuple(name for name in added if name in joined.columns)
    table = NamedTable(other, key.name, shown.name, names, found, (owner,), prefix, left_out)
    return (joined, table) if names else None


def _joins_lists(
    head: Head, owner: str, shown: Column, name: str, other: Head, keep: Collection[str]
) -> tuple[Head, NamedTable] | None:
    """Join a table by a column of lists of its ids, such as the tags of an item; categories become lists.

    Lists of impressions are candidates or what was clicked before.
    """
    lists = _entries(shown)
    if owner == "impressions" or lists is None:
        return None
    entries = Column(shown.name, lists.flatten())
    found = _joins(replace(head, columns={shown.name: entries}), owner, entries, name, other, keep)
    if found is None or find_id([other.columns[found[1].key]], "item") is not None:
        return None
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(pc.list_value_length(lists).fill_null(0))])
    named_so = {name: found[0].columns[name] for name in found[1].added if name not in head.columns}
    added = {
        name: Column(name, gathered(as_text(column.values), ends))
        for name, column in named_so.items()
        if is_category(column)
    }
    if not added:
        return None
    joined = replace(
        head, columns={**head.columns, **added}, sources={**head.sources, **dict.fromkeys(added, other)}
    )
    return joined, replace(found[1], added=tuple(added), separator=shown.separator)


def _entries(column: Column) -> pa.Array | None:
    """Return the lists of a column, or of texts that a mark divides; None for any other."""
    kind = column.values.type
    if pa.types.is_nested(kind):
        return None if column.width or pa.types.is_nested(kind.value_type) else column.values
    if column.separator in ("", BRACKETS):
        return None
    texts = column.values.to_pylist()
    return pa.array([None if text is None else entries_of(text, column.separator) for text in texts])


def _joins_several(
    head: Head, owner: str, shown: Column, name: str, other: Head
) -> tuple[Head, NamedTable] | None:
    """Join a table with several rows for an id, such as the badges of sellers, as lists.

    It has no moments and no rows with an id of their own, so it holds neither events nor other things.
    """
    columns = list(other.columns.values())
    if not _may_name(shown) or _OF_EVENTS.search(OutcomeName(name).snake) or not _describes(other):
        return None
    if len(columns) > _NARROW or any(c.unit or c.is_date or _is_key(c) for c in columns):
        return None
    key = _same(name, [column for column in columns if _may_name(column) and has_several_rows(column)], other)
    if key is None:
        return None
    prefix = _stem(shown.name) + "_"
    told = [column for column in attributes_of(other, key) if _differ(column)]
    called = {c.name if c.name.startswith(prefix) else prefix + c.name: c for c in told}
    added = {name: column for name, column in called.items() if name not in head.columns}
    if not added or any(find_id([column], "user") or find_id([column], "item") for column in columns):
        return None
    ids = key.ids.unique()  # in the order of their first rows, as attributes are
    place = pc.index_in(shown.ids, value_set=ids)
    found = len(place) - place.null_count
    if found < _FOUND_NAMED * len(shown.known) or pc.count_distinct(place.drop_null()).as_py() < 2:
        return None
    lists = {name: Column(name, column.values.take(place)) for name, column in added.items()}
    joined = replace(
        head, columns={**head.columns, **lists}, sources={**head.sources, **dict.fromkeys(lists, other)}
    )
    share = found / max(len(place), 1)
    rest = {
        c.name: "it is no category"
        for c in columns
        if c is not key and c.name not in [column.name for column in added.values()]
    }
    return joined, NamedTable(
        other, key.name, shown.name, tuple(lists), share, (owner,), prefix, rest, several=True
    )


def _differ(lists: Column) -> bool:
    """True unless all lists hold the same, such as the days of the week."""
    return len({frozenset(values) for values in lists.known.to_pylist()}) > 1


def _may_name(column: Column) -> bool:
    """True for texts and whole numbers that may be ids."""
    kind = column.values.type
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or column.parts or column.made_of:
        return False
    if column.unit or column.is_date or column.separator or column.is_flag or column.distinct < 2:
        return False
    return column.floats is None or column.is_id


def _describes(table: Head) -> bool:
    """True for a table with names that is neither one of events nor one of outcomes."""
    if not table.named or is_called_after_outcomes(table.path):
        return False
    columns = list(table.columns.values())
    ids = [column for kind in ("user", "item") if (column := find_id(columns, kind)) is not None]
    several = [column for column in ids if column.distinct < _OWN * len(column.values)]
    return not (len(ids) == 2 and several and find_time(columns) is not None)


def _key(shown: Column, name: str, table: Head) -> tuple[Column | None, bool]:
    """Find the column of a table that a column names, and whether names tell so, too.

    Args:
        name: of the column in its own table.
    """
    keys = [c for c in table.columns.values() if _may_name(c) and _is_key(c)]
    if (same := _same(name, keys, table)) is not None:
        return same, True
    texts = [key for key in keys if key.floats is None and shown.floats is None]
    return next((key for key in texts if shown.ids_among(key) >= COMMON), None), False


def _same(name: str, keys: Sequence[Column], table: Head) -> Column | None:
    """Find the key of a table that is called as a column which names it."""
    snake = OutcomeName(name).snake
    for key in keys:
        if OutcomeName(key.name).snake == snake and snake not in _ANYTHING:
            return key
    thing = _last(_stem(name))
    for key in keys:
        named_so = _stem(key.name) if _stem(key.name) not in ("", *_ANYTHING) else _what(table.path)
        is_id = bool(_ID.search(OutcomeName(key.name).snake)) or OutcomeName(key.name).snake in _stem(name)
        if is_id and thing and thing == _last(named_so):
            return key
    return None


def _is_key(column: Column) -> bool:
    """True if each row has its own value."""
    return len(column.known) == len(column.values) and column.distinct >= _OWN * len(column.values)


def _stem(name: str) -> str:
    """Return what an id is of: ``home_city`` for ``home_city_id``."""
    return _ID.sub("", OutcomeName(name).snake)


def _what(path: Path) -> str:
    """Return what a table is of by its file: ``seller`` for ``dim_sellers.csv``."""
    return _OF_TABLES.sub("", OutcomeName(path.name.split(".")[0]).snake).strip("_")


def _last(words: str) -> str:
    """Return the last word in the singular."""
    word = words.rpartition("_")[2]
    if word.endswith("ies"):
        return word[:-3] + "y"
    word = re.sub(r"(ss|sh|ch|x)es$", r"\1", word)
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us")) else word


def _unfit(column: Column, owner: str, key: Column) -> str:
    """Return why a column of a joined table is no attribute; empty if it may be one."""
    if why := useless(column) or totals_outcomes(column):
        return why
    if column.unit and owner == "impressions":
        return "another time"
    is_text = column.floats is None and not column.unit and not column.is_date and not column.separator
    if is_text and column.distinct == len(column.values) and not pa.types.is_nested(column.values.type):
        return f"each {key.name} has its own"
    return ""


def looked_up(
    head: Head, shown_key: Column, table: Head, key: Column, added: Mapping[str, Column]
) -> tuple[Head, float, int]:
    """Add columns of a table to a sample by its ids.

    Args:
        added: columns of the table by the names that they get.

    Returns:
        The sample, the share of its rows whose id the table has, and the number of such ids. All rows count
        as found if enough are and the rest may stand in the part of the table that was not read.
    """
    wanted = shown_key.ids
    names = [key.name, *(column.name for column in added.values())]
    values = {name: table.columns[name].values for name in names}
    is_whole = True
    if table.rows < WHOLE * table.estimated_rows:
        values, is_whole = table.rows_with(key.name, wanted.unique(), names)
    place = pc.index_in(wanted, value_set=Column(key.name, values[key.name]).ids)
    place = pc.if_else(pc.is_valid(wanted), place, pa.scalar(None, place.type))
    columns = {name: Column(name, values[column.name].take(place)) for name, column in added.items()}
    known = {name: column for name, column in columns.items() if len(column.known)}
    sources = {**head.sources, **dict.fromkeys(known, table)}
    left_out = {**table.left_out, **head.left_out}
    joined = replace(head, columns={**head.columns, **known}, left_out=left_out, sources=sources)
    found, different = len(place) - place.null_count, int(pc.count_distinct(place.drop_null()).as_py())
    if not is_whole and found >= COMMON:
        return joined, 1.0, different
    return joined, found / max(len(place), 1), different
