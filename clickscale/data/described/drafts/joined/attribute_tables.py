"""Tables that describe the items and the users of a log, and those that all its tables name."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from clickscale.data.described.drafts.event_tables import OTHER_USER, SAME_ITEM, SAME_USER, Events
from clickscale.data.described.drafts.joined.dated_tables import with_dated_tables
from clickscale.data.described.drafts.joined.more_tables import Kind, find_more, in_common, key_of
from clickscale.data.described.drafts.joined.named_tables import NamedTable, with_named_tables
from clickscale.data.described.drafts.roles.column_names import mentions, plain_name
from clickscale.data.described.drafts.samples import WHOLE, Column, Head

_SOME = 0.05  # share of the ids of a column, beyond chance, that name rows of another table
_SEVERAL, _MOST = 20, 0.9  # users, at least, and the share of them with a row in the table of items
_ALIKE = 0.5  # share of ids in common from which a column whose name says else, or nothing, may hold them


@dataclass(frozen=True)
class _AttributeTables:
    """Tables around the impressions.

    Attributes:
        events: the impressions, with the columns of tables that they name.
        items, users: the table with a row for each, with the columns of those that they name.
        more: further tables of both, each with the column of the id.
        named: tables that others name, one after the other.
        unused: all other tables.
    """

    events: Events
    items: Head | None
    users: Head | None
    more: dict[Kind, list[tuple[Head, Column]]]
    named: list[NamedTable]
    unused: list[Head]


def find_attributes(events: Events, heads: Sequence[Head], keep: Collection[str]) -> _AttributeTables:
    """Find out what tables beside the impressions describe.

    Args:
        keep: columns that are features whatever speaks against them.
    """
    items = _attribute_table(events, heads, "item")
    users = _attribute_table(events, [head for head in heads if head is not items], "user")
    # People who are shown to people have one table.
    if users is None and items is not None and _describes_too(events, items, "user"):
        users = items
    elif items is None and users is not None and _describes_too(events, users, "item"):
        items = users
    rest = [head for head in heads if head not in (items, users)]
    ids: dict[Kind, Column | None] = {"user": events.joining("user"), "item": events.joining("item")}
    outcomes = [column.name for column, _, _ in events.labels]
    more = find_more(rest, lambda head, kind: key_of(head, kind, ids[kind]), ids, outcomes)
    for kind, tables in more.items():
        more[kind] = [(head, key) for head, key in tables if _key(events, head, kind) is not None]
    known = [head for tables in more.values() for head, _ in tables]
    unused = [head for head in rest if head not in known]
    events, dated = with_dated_tables(events, unused, keep)
    unused = [head for head in unused if all(head is not table.head for table in dated)]
    found = _with_named(_AttributeTables(events, items, users, more, [], unused), keep)
    return replace(found, named=[*dated, *found.named])


def _attribute_table(events: Events, heads: Sequence[Head], kind: Kind) -> Head | None:
    """Find the table with one row per item or user."""
    scored = [(_likeness(events, head, kind), index, head) for index, head in enumerate(heads)]
    best = max(scored, key=lambda entry: (entry[0], -entry[1]), default=(0, 0, None))
    other: Kind = "user" if kind == "item" else "item"
    if best[0] > 0 and best[2] and best[0] >= _likeness(events, best[2], other):
        return best[2]
    return None


def _likeness(events: Events, head: Head, kind: Kind) -> float:
    """Score a table as the one of items or users, by names and by ids in common; 0 if it is none."""
    wanted = events.joining(kind)
    key = _key(events, head, kind)
    if key is None or wanted is None or key.distinct < 0.99 * head.rows:
        return 0
    if pa.types.is_nested(key.values.type):
        return 0  # lists join nothing
    if not head.named and not in_common(key, wanted):
        return 0  # its first column is one of anything
    hint = mentions(head.path.name, kind)
    if plain_name(key.name) == "id" and head.named and not hint and in_common(key, wanted) < _ALIKE:
        return 0  # of anything else
    # Generated names such as column_1 are alike by chance.
    named_alike = head.named and key.name == wanted.name
    whole = head.rows >= WHOLE * head.estimated_rows
    is_flat = not pa.types.is_nested(wanted.values.type)
    if is_flat and whole and not named_alike and wanted.distinct >= _SEVERAL and not wanted.ids_among(key):
        return 0  # it describes others
    return 1 + 2 * named_alike + 2 * hint + (plain_name(key.name) != "id") + in_common(key, wanted)


def _describes_too(events: Events, head: Head, kind: Kind) -> bool:
    """True if nearly all users, or items, have a row in the table of the others, by the texts of its key."""
    wanted, key = events.joining(kind), _key(events, head, "user")
    if wanted is None or key is None or _key(events, head, "item") is not key:
        return False
    if key.floats is not None or wanted.floats is not None or pa.types.is_nested(wanted.values.type):
        return False  # numbers are alike by chance
    return wanted.distinct >= _SEVERAL and wanted.ids_among(key) >= _MOST * wanted.distinct


def _key(events: Events, head: Head, kind: Kind) -> Column | None:
    """Find the column of a table that holds ids of a role, and nothing else that impressions name."""
    wanted = events.joining(kind)
    key = key_of(head, kind, wanted)
    if key is None or wanted is None or not head.named or key.name == wanted.name:
        return key
    alike = events.head.columns.get(key.name)
    # Documents have an _id of their own, which names none of other documents.
    is_other = alike is not None and plain_name(key.name) != "id" and _names(alike, key)
    return None if is_other and in_common(key, wanted) < _ALIKE else key


def _names(column: Column, key: Column) -> bool:
    """True if a column may hold ids of a key."""
    return pa.types.is_nested(column.values.type) or column.ids_among(key) > _SOME * column.distinct


def _with_named(found: _AttributeTables, keep: Collection[str]) -> _AttributeTables:
    """Add the tables that items, users, their further tables and impressions name."""
    events, named = found.events, list[NamedTable]()
    # Owners of items may be users, too, and an impression may name a second item.
    others = [*found.unused, *(head for head in (found.users, found.items) if head is not None)]
    heads: dict[Kind, Head | None] = {"item": found.items, "user": found.users}
    more: dict[Kind, list[tuple[Head, Column]]] = {"item": [], "user": []}
    for kind, head in heads.items():
        key = None if head is None else key_of(head, kind, events.joining(kind))
        if head is not None and key is not None:
            heads[kind], tables = with_named_tables(head, f"{kind}s", others, [key.name], keep)
            named += tables
        for head, key in found.more[kind]:
            head, tables = with_named_tables(head, f"rows of {head.path.name}", others, [key.name], keep)
            more[kind].append((head, key))
            named += tables
    shape = events.shape
    listed = shape.listed
    # A table of the users with an id of their own says something of the impressions of these.
    second = (OTHER_USER, SAME_USER, SAME_ITEM)
    left_out = [name for name, why in shape.left_out.items() if why not in second]
    spent = {*events.ids, *(column.name for column, _, _ in events.labels), *left_out, *events.unfit}
    spent |= {*listed.made, *listed.parallel, *listed.chosen} if listed is not None else set()
    spent |= {table.shown_key for table in named}  # items or users have the same
    head, tables = with_named_tables(events.head, "impressions", others, spent, keep)
    named = _once([*named, *tables])
    events = replace(events, shape=replace(shape, head=head)) if tables else events
    paths = [table.head.path for table in named]
    unused = [head for head in found.unused if head.path not in paths]
    return _AttributeTables(events, heads["item"], heads["user"], more, named, unused)


def _once(tables: Sequence[NamedTable]) -> list[NamedTable]:
    """Join the tables that several name alike."""
    found: dict[tuple[object, ...], NamedTable] = {}
    for table in tables:
        key = (table.head.path, table.key, table.shown_key)
        known = found.get(key, replace(table, owners=(), added=()))
        found[key] = replace(
            known,
            owners=(*known.owners, *table.owners),
            added=tuple(dict.fromkeys([*known.added, *table.added])),
            left_out={**known.left_out, **table.left_out},
        )
    return list(found.values())
