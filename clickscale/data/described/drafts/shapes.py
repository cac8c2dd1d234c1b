"""Shapes of undescribed tables: lists in rows, a missing time or user, ids of several columns, parts.

`find_shape` turns the sample of a table into one with a row per event, so that the roles of columns are
guessed in one way for all shapes. What it did is kept as lines of the draft.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.lists.listed import (
    Listed,
    as_list,
    divider,
)
from clickscale.data.described.drafts.lists.object_lists import with_lists_of_objects
from clickscale.data.described.drafts.lists.slates import find_slate
from clickscale.data.described.drafts.roles.column_names import (
    is_quantity,
    mentions,
    named,
    plain_ends,
    plain_name,
)
from clickscale.data.described.drafts.roles.column_values import numbers_or_none, separation
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.toml_lines import quoted
from clickscale.data.described.rows import ORDER, Lists, Order, RowShape, as_text, composed, flat
from clickscale.data.source import PART_NAMES
from clickscale.data.tables.chunks import Chunk, empty_problems

_ENTRIES = 20_000  # rows of one event each in the sample of a table with lists
_PAST = re.compile(r"hist|past|prev|seq|behav|recent|click|read|watch|view|visited|bought")
_EVENT_IDS = re.compile(
    r"(impression|display|(ga)?session|request|event|row|log|query|search|srch|trace|pageview)id|index|rownumber|id|unnamed0"
)
_PROPENSITY = re.compile(r"propensity|^pscore|logging_?prob|^ips_?weight")
_PART_COLUMNS = ("split", "part", "partition", "set", "subset", "fold", "dataset", "datasplit")
_LINE = "line"  # the only column of a table whose lines begin with a user and go on with items
_PLACES = 30  # of a list of what was shown, at most
_UNIQUE = 0.95  # share of rows with a value of their own from which a column identifies events


@dataclass(frozen=True)
class Shape:
    """A table as rows of one event each, and the lines that describe how it became so.

    Attributes:
        head: sample with one row per event.
        user, item, time: columns of roles that the shape decides; None leaves them to be found.
        labels: columns of outcomes that the shape decides, as `guess` lists them.
        order: what stands for a missing time.
        listed: how lists become rows.
        doubt: what the sample does not tell of that.
        history: keys of the table ``[history]``, if rows hold lists of earlier behaviors.
        past: entries of the lists with one value for each of these behaviors.
        left_out: columns that are no features, with the reason.
        part: column with the names of parts.
        parts: paths by part, if files are parts.
        composite: columns that make the user together.
        where: condition of the rows that are impressions, if others stand beside them, and a remark.
    """

    head: Head
    user: Column | None = None
    item: Column | None = None
    time: Column | None = None
    labels: tuple[tuple[Column, str, str], ...] = ()
    order: Order = ""
    listed: Lists | None = None
    doubt: str = ""
    history: tuple[str, ...] = ()
    past: tuple[Column, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    parts: Mapping[str, Path] = field(default_factory=dict)
    composite: tuple[str, ...] = ()
    where: tuple[str, str] = ("", "")

    @property
    def holds_requests(self) -> bool:
        """True if a row is a request with several candidates."""
        return self.listed is not None and self.order != "lists" and bool(self.labels)


def find_shape(head: Head, others: Sequence[Head]) -> Shape:
    """Find the shape of a table among the ``others`` of the same log."""
    head = _with_user_in_front(head)
    plain, head = set(head.columns), with_lists_of_objects(head)
    shape = Shape(head, left_out=_ids_of_events(head))
    part = named(head.columns.values(), _PART_COLUMNS)
    if part is not None and {str(value).lower() for value in part.known.unique().to_pylist()} <= set(
        PART_NAMES
    ):
        shape = replace(shape, part=part.name, left_out={**shape.left_out, part.name: "it names the parts"})
    read = {name: as_list(column, name not in plain) for name, column in head.columns.items()}
    lists = {name: listed for name, listed in read.items() if listed is not None}
    shape = _taken_apart(shape, lists, others)
    return _with_composite_user(shape)


# --- columns that the shape of the log makes useless


def _ids_of_events(head: Head) -> dict[str, str]:
    """Find columns that identify a row, a session or a request, and propensities."""
    found = {}
    for name, column in head.columns.items():
        if _PROPENSITY.search(name.lower()):
            found[name] = "the probability with which the item was shown: a weight for evaluation, no feature"
        elif (_names_events(name) and _has_several(column)) or (not name.strip() and column.is_id):
            found[name] = "an id of one event or session, which does not come back"
        elif _identifies(column, head):
            found[name] = "nearly every row has a value of its own"
    return found


def _has_several(column: Column) -> bool:
    """True for more values than places in a list, which an ``index`` may be as well; lists have several."""
    return pa.types.is_nested(column.values.type) or column.distinct > _PLACES


def _names_events(name: str) -> bool:
    """True for ``request_id`` and other names of ids of one event or session."""
    return any(_EVENT_IDS.fullmatch(form) for form in (plain_name(name), *plain_ends(name)))


def _identifies(column: Column, head: Head) -> bool:
    """True for ids of which nearly every row has its own; numbers, moments and lists are none."""
    if pa.types.is_nested(column.values.type) or column.unit or column.separator or head.rows <= 20:
        return False
    if column.holds_urls:
        return False
    text = column.floats is None and not pa.types.is_floating(column.values.type)
    name = plain_name(column.name)
    named_id = not head.named or name.endswith(("id", "no", "key")) or _EVENT_IDS.fullmatch(f"{name}id")
    return (text or (column.is_id and bool(named_id))) and column.distinct >= _UNIQUE * head.rows


# --- lists


def _taken_apart(shape: Shape, lists: Mapping[str, Listed], others: Sequence[Head]) -> Shape:
    """Decide what the lists of a table are, and take those apart that hold several events."""
    slate = find_slate(shape.head, lists)
    may_hold_past = find_id(list(shape.head.columns.values()), "user") is not None or not shape.head.named
    options: Lists | None
    if slate is not None:
        item, options, label = slate.item, slate.options, slate.label
        if options.suffix:
            label = _free(options.suffix, shape.head)
            options = msgspec.structs.replace(options, suffix=label)
        lists, shape = {**lists, **slate.gathered}, replace(shape, doubt=slate.doubt)
        spent = {item, *options.chosen, *options.chosen_places, *options.parallel}
    elif (sequence := _sequence(shape.head, lists, others)) is not None:
        item, options = sequence
        label, spent = "", {item, *options.parallel}
    else:
        item, options, label, spent = "", None, "", set()
    rest = {name: listed for name, listed in lists.items() if name not in spent}
    ids = lists[item].flat.values if item else _item_ids(shape.head)
    if options is not None and options.suffix:
        ids = pc.replace_substring_regex(as_text(ids), r"-[01]$", "")
    past = _Past()
    if ids is not None and may_hold_past and not (options is not None and options.first):
        owner = find_id([c for name, c in shape.head.columns.items() if name not in lists], "user")
        past = _history(rest, ids, None if owner is None else owner.known)
    columns = {name: column for name, column in shape.head.columns.items() if name not in past.spent}
    head = replace(shape.head, columns=columns)
    shape = replace(shape, head=head, history=past.lines, past=past.columns)
    if options is None:
        return shape
    has_time = find_time(columns.values()) is not None or any(lists[n].column.unit for n in options.parallel)
    owner = find_id(list(columns.values()), "user")
    many_lists = owner is not None and owner.distinct < _UNIQUE * head.rows  # baskets or sessions of a user
    order: Order = "" if has_time else "rows" if label or many_lists else "lists"
    if label:
        place = _free("position", head)
        exploded = _explode(head, item, msgspec.structs.replace(options, position=place), order)
        options = _with_position(exploded, options, label, place)
    head = _explode(head, item, options, order)
    user = None if not options.first else head.columns[options.first]
    own = {
        name: "every list has a value of its own"
        for name, column in shape.head.columns.items()
        if name in head.columns and _numbers_lists(column)
    }
    labels = ((head.columns[label], "", "the outcome of each entry of a list"),) if label else ()
    time = head.columns.get(ORDER) if order else find_time(head.columns.values())
    return replace(
        shape,
        head=head,
        user=user,
        item=head.columns[item],
        time=time,
        labels=labels,
        order=order,
        listed=options,
        left_out={**own, **shape.left_out},
    )


def _numbers_lists(column: Column) -> bool:
    """True for whole numbers of which nearly every list has its own, quantities apart."""
    if pa.types.is_nested(column.values.type) or column.unit or not column.is_whole or is_quantity(column):
        return False
    return column.distinct >= _UNIQUE * len(column.values)


def _sequence(head: Head, lists: Mapping[str, Listed], others: Sequence[Head]) -> tuple[str, Lists] | None:
    """Find lists of all items of a user, or of a basket, in a log that has no other events."""
    columns = list(head.columns.values())
    if list(head.columns) == [_LINE]:
        return _LINE, Lists(separator=" ", first="user")
    user = find_id(columns, "user") or (columns[0] if not head.named and len(columns) <= 3 else None)
    if user is None or user.name in lists or _item_ids(head) is not None:
        return None
    if any(_has_events(other) for other in others):
        return None
    ids = {name: listed for name, listed in lists.items() if listed.ids and name != user.name}
    if not ids:
        return None
    item = max(ids, key=lambda name: (mentions(name, "item"), len(ids[name].flat.values)))
    parallel = [name for name, listed in lists.items() if name != item and listed.parallels(ids[item])]
    return item, Lists(separator=ids[item].said_separator, parallel=tuple(parallel))


def _has_events(head: Head) -> bool:
    """True for a table with a user and either an item or lists of items, and a time."""
    columns = list(head.columns.values())
    return find_time(columns) is not None and find_id(columns, "user") is not None


def _item_ids(head: Head) -> pa.Array | None:
    """Return the ids of items of a table with one of them in each row."""
    columns = [column for column in head.columns.values() if as_list(column) is None]
    item = find_id(columns, "item")
    return None if item is None else item.known


@dataclass(frozen=True)
class _Past:
    """Lists of earlier behaviors: keys of ``[history]``, entries of parallel lists, and all columns used."""

    lines: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    spent: frozenset[str] = frozenset()


def _history(lists: Mapping[str, Listed], items: pa.Array, users: pa.Array | None) -> _Past:
    """Find lists of earlier behaviors; where users and items have the same numbers, by their names."""
    shares = {
        name: round(listed.share_among(items), 1)
        + 0.5 * (bool(_PAST.search(name.lower())) or listed.is_like(items))
        for name, listed in lists.items()
        if listed.ids and not _holds_users(name, listed, items, users)
    }
    best = max(shares.values(), default=0.0)
    if best < 0.5:
        return _Past()
    # Of several kinds of behaviors, the most frequent one holds the others.
    likely = [name for name, share in shares.items() if share > best - 0.3]
    chosen = max(likely, key=lambda name: len(lists[name].flat.values))
    parallel = [name for name in lists if name != chosen and lists[name].parallels(lists[chosen])]
    times = next((name for name in parallel if lists[name].column.unit), "")
    lines = [f"items = {quoted(chosen)}  # lists of items, the oldest first"]
    if lists[chosen].said_separator:
        lines.append(f"entry_separator = {quoted(lists[chosen].separator)}")
    if times:
        lines.append(f"times = {quoted(times)}  # the time of each")
        lines.append(f'time_unit = "{lists[times].column.unit}"')
    similar = {name for name, share in shares.items() if share > 0.5}
    lines += [f"# left out: {name} (another list of earlier items)" for name in sorted(similar - {chosen})]
    beside = tuple(lists[name].column for name in parallel if name != times and name not in similar)
    return _Past(tuple(lines), beside, frozenset({chosen, *parallel, *similar}))


def _holds_users(name: str, listed: Listed, items: pa.Array, users: pa.Array | None) -> bool:
    """True for lists of people, such as friends, who are among the users as often as among the items."""
    if users is None or _PAST.search(name.lower()) or mentions(name, "item"):
        return False
    return (share := listed.share_among(users)) > 0.5 and share >= listed.share_among(items)


def user_history(head: Head, items: pa.Array, users: pa.Array) -> tuple[list[str], list[Column]]:
    """Describe a table with one row per user and lists of items: its keys, and entries of parallel lists."""
    lists = {name: listed for name, column in head.columns.items() if (listed := as_list(column)) is not None}
    columns = [column for name, column in head.columns.items() if name not in lists]
    user = find_id(columns, "user")
    past = (
        _history(lists, items, users)
        if user is not None and user.distinct >= _UNIQUE * head.rows
        else _Past()
    )
    if user is None or not past.lines:
        return [], []
    lines = [f"user = {quoted(user.name)}", *past.lines]
    time = find_time(columns)
    if time is not None and not any(line.startswith("times") for line in lines):
        lines += [f"time = {quoted(time.name)}  # of the last item", f'time_unit = "{time.unit}"']
    return lines, list(past.columns)


def _free(name: str, head: Head) -> str:
    """Return the name, or a longer one, that no column has."""
    while name in head.columns:
        name += "_in_list"
    return name


def _with_position(head: Head, options: Lists, label: str, name: str) -> Lists:
    """Keep the place in the list as a column if it says something of the label, and not everything."""
    truth = np.asarray(pc.equal(as_text(head.columns[label].values), "1").fill_null(False))
    place = np.asarray(head.columns[name].values)
    lists = np.cumsum(np.diff(place, prepend=place[:1]) <= 0) - 1
    # Relative to the length of the list, since of a long list a smaller share is chosen.
    relative = pa.array(place / np.bincount(lists)[lists])
    sure = max(3 / np.sqrt(12 * max(int(truth.sum()), 1)), 0.02)  # three deviations of the AUC of chance
    tells = sure < separation(Column(name, relative), truth.astype(float)) - 0.5 < 0.4
    return msgspec.structs.replace(options, position=name) if tells else options


def with_position(shape: Shape, whole: Head, label: Column) -> Shape:
    """Return a shape with the place in its lists, if it says something of an outcome that is found elsewhere.

    Args:
        whole: the table before its lists were taken apart.
        label: outcomes (N,) of the entries.
    """
    if shape.listed is None or shape.item is None:
        return shape
    whole, place = with_lists_of_objects(whole), _free("position", whole)
    options = msgspec.structs.replace(shape.listed, position=place)
    placed = _explode(whole, shape.item.name, options, shape.order).columns
    at = numbers_or_none(placed[place])
    known = map(numbers_or_none, shape.head.columns.values())
    if any(numbers is not None and at is not None and np.ptp(numbers - at) == 0 for numbers in known):
        return shape  # a column of the table says it
    head = replace(shape.head, columns={**shape.head.columns, place: placed[place]})
    beside = replace(head, columns={**head.columns, label.name: label})
    if not _with_position(beside, shape.listed, label.name, place).position:
        return shape
    return replace(shape, head=head, listed=options)


def with_entries(head: Head, shape: Shape) -> Head:
    """Take the lists of items in other rows of the table, such as clicks, apart as those of the shape."""
    if shape.listed is None or shape.item is None:
        return head
    lists = Lists(separator=shape.listed.separator)
    whole = replace(head, columns={**head.columns, **with_lists_of_objects(head).columns})
    listed = whole.columns.get(shape.item.name)
    has_lists = listed is not None and len(flat(listed.values, lists.separator).values) > 0
    return _explode(whole, shape.item.name, lists, "") if has_lists else head


def _explode(head: Head, item: str, options: Lists, order: Order) -> Head:
    """Take the lists of a sample apart, as the reader will."""
    rows = pa.RecordBatch.from_arrays([c.values for c in head.columns.values()], names=list(head.columns))
    if item in options.gather:
        count = np.full(len(rows), len(options.gather[item]))
    else:
        count = flat(head.columns[item].values, options.separator).count
    rows = rows.slice(0, max(int(np.searchsorted(np.cumsum(count), _ENTRIES)), 1))
    parts = {part for columns in options.gather.values() for part in columns}
    own = [name for name in head.columns if name not in parts]
    wanted = [*own, *options.gather, *options.made, *([ORDER] if order else [])]
    owner = find_id(list(head.columns.values()), "user")
    name = options.first or (owner.name if owner else next(iter(head.columns)))
    chunk = RowShape(item, options, order=order, owner=name).apply(
        Chunk(rows, empty_problems(len(rows))), head.path, wanted
    )
    events = chunk.rows.filter(pc.is_null(chunk.problem))
    names = [name for name in wanted if name in events.schema.names]
    columns = {name: Column(name, events.column(name)) for name in names}
    return replace(head, columns=columns, rows=events.num_rows)


# --- lines that begin with the user


def _with_user_in_front(head: Head) -> Head:
    """Read lines such as ``7 12 15 3``, a user and the items in order, as one column of texts."""
    if len(head.columns) != 1 or head.format not in ("csv", "tsv"):
        return head
    (column,) = head.columns.values()
    first = column.name if head.named else None
    texts = [*([first] if first else []), *(str(value) for value in column.known.to_pylist())]
    tokens = [text.split() for text in texts]
    if not all(len(line) > 1 for line in tokens) or divider(Column(_LINE, pa.array(texts))) != " ":
        return head
    return Head(
        head.path,
        head.format,
        msgspec.structs.replace(head.text, names=(_LINE,)),
        False,
        {_LINE: Column(_LINE, pa.array(texts))},
        len(texts),
    )


# --- users of several columns


def _with_composite_user(shape: Shape) -> Shape:
    """Compose the user of several columns, such as user_feature_0 and user_feature_1, if no column is one."""
    columns = list(shape.head.columns.values())
    if not shape.head.named or shape.user is not None or find_id(columns, "user") is not None:
        return shape
    parts = [
        column
        for column in columns
        if mentions(column.name, "user")
        and not mentions(column.name, "item")
        and not pa.types.is_nested(column.values.type)
        and not column.unit
        and (column.floats is None or column.is_whole)
    ]
    if len(parts) < 2:
        return shape
    names = tuple(column.name for column in parts)
    user = Column("+".join(names), composed([column.values for column in parts]))
    if user.distinct >= _UNIQUE * shape.head.rows:
        return shape
    head = replace(shape.head, columns={**shape.head.columns, user.name: user})
    return replace(shape, head=head, user=user, composite=names)
