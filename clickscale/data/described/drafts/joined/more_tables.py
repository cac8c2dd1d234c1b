"""Further tables with attributes of users or items: which they are, and their rows as values of an id."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import useless
from clickscale.data.described.drafts.roles.column_names import (
    CLICKS,
    FEEDBACK,
    mentions,
    named,
    plain_ends,
    plain_name,
)
from clickscale.data.described.drafts.roles.role_words import WORDS
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.suspects import totals_outcomes
from clickscale.data.described.keys import gathered
from clickscale.data.described.rows import as_text

Kind = Literal["user", "item"]
_KNOWN = 0.2  # share of ids in common from which a table is about users or items
_COMMON = 0.3  # share of ids in common from which columns of different names are the same
_SOME, _ALL = 30, 0.95  # different ids, at least, of which so many are among those of a table
_OWN = 0.99  # share of rows with an id of their own in a table with one row for each


def find_more(
    heads: Sequence[Head],
    key: Callable[[Head, Kind], Column | None],
    ids: dict[Kind, Column | None],
    outcomes: Collection[str],
) -> dict[Kind, list[tuple[Head, Column]]]:
    """Find the tables that are about users only or about items only, each with the column of the id.

    Args:
        key: finds the column that may hold the ids of a role.
        ids: columns of the events.
        outcomes: columns of the events that tell their outcomes. A table that has one of them, too, or flags
            of outcomes in several rows of an id, is one of other events.
    """
    found: dict[Kind, list[tuple[Head, Column]]] = {"item": [], "user": []}
    for head in heads:
        keys = {kind: column for kind in found if ids[kind] is not None and (column := key(head, kind))}
        if len({column.name for column in keys.values()}) != 1:
            continue  # none, or both: what users did with items
        if any(name in outcomes for name in head.columns):
            continue
        alike = {kind: _shared(head, column, kind, ids[kind]) for kind, column in keys.items()}
        kind = max(alike, key=lambda kind: alike[kind])
        if alike[kind] > _KNOWN and attributes_of(head, keys[kind]):
            found[kind].append((head, keys[kind]))
    return found


def _shared(head: Head, key: Column, kind: Kind, ids: Column | None) -> float:
    """Return the share of ids in common; 0 for an ``id`` of anything, and for a log of what ids did."""
    if ids is None or pa.types.is_nested(key.values.type):
        return 0.0
    if plain_name(key.name) == "id" and not mentions(head.path.name, kind):
        return 0.0
    flags = [column for column in head.columns.values() if column.is_flag]
    happened = any(column.unit for column in head.columns.values()) or named(flags, (*CLICKS, *FEEDBACK))
    if has_several_rows(key) and happened:
        return 0.0  # of what happened an impression must not know what comes later
    return in_common(key, ids)


def key_of(head: Head, kind: Kind, wanted: Column | None) -> Column | None:
    """Find the column by which a table of users or items joins; in a table without names, the first one.

    Args:
        wanted: ids of the events, by whose values a column of texts is found where no name helps.
    """
    columns = list(head.columns.values())
    if not head.named:
        return columns[0]
    own_names = (plain_name(wanted.name), *plain_ends(wanted.name)) if wanted else ()
    names = (*own_names, *WORDS[kind].names, "id")
    found, own = named(columns, names), named(columns, ("id",))
    if found is not None and wanted is not None and own is not None and found.name != wanted.name:
        # A table of ads has an id of its own, and names their campaigns, which may be items elsewhere.
        plain = not any(pa.types.is_nested(column.values.type) for column in (found, own, wanted))
        found = own if plain and in_common(own, wanted) > in_common(found, wanted) else found
    # An id inside of an object, such as artist.id of a track, is often one of something else.
    sure = found is not None and "." not in found.name
    if sure or wanted is None or not _holds_texts(wanted):
        return found
    texts = [column for column in columns if _holds_texts(column)]
    alike = [column for column in texts if in_common(column, wanted) >= _COMMON]
    # Of many users a log of a few days has some.
    return next(iter([*alike, *(column for column in texts if _has_all(column, wanted))]), found)


def _has_all(column: Column, wanted: Column) -> bool:
    """True if a column has nearly all ids of another one, which are many."""
    return wanted.distinct >= _SOME and wanted.ids_among(column) >= _ALL * wanted.distinct


def _holds_texts(column: Column) -> bool:
    return column.floats is None and not pa.types.is_nested(column.values.type)


def in_common(one: Column, other: Column) -> float:
    """Return the share of all ids of two columns that both have."""
    both = len(one.plain_ids & other.plain_ids)
    return both / max(len(one.plain_ids) + len(other.plain_ids) - both, 1)


def has_several_rows(key: Column) -> bool:
    """True if an id has several rows."""
    return key.distinct < _OWN * len(key.values)


def attributes_of(head: Head, key: Column) -> list[Column]:
    """List the useful columns beside an id; of one with several rows, categories as lists of all of an id."""
    others = [column for column in head.columns.values() if column is not key]
    columns = [column for column in others if not (useless(column) or totals_outcomes(column))]
    if not has_several_rows(key):
        return columns
    codes = key.values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    ends = np.append(np.unique(codes[order], return_index=True)[1], len(order)).astype(np.int64)
    rows = pa.array(order)
    return [
        Column(column.name, gathered(_plain(column.values).take(rows), ends))
        for column in columns
        if is_category(column)
    ]


def _plain(values: pa.Array) -> pa.Array:
    return values if pa.types.is_nested(values.type) else as_text(values)


def is_category(column: Column) -> bool:
    """True for texts and whole numbers that come back, which are no moments; lists hold such."""
    if pa.types.is_nested(column.values.type):
        return not column.width and not pa.types.is_nested(column.values.type.value_type)
    if column.unit or column.is_date or column.separator:
        return False
    several = pc.count_distinct(column.known).as_py() < 0.5 * len(column.known)
    return bool(several and (column.floats is None or column.is_id))
