"""Streams of events: impressions and what came of them as rows of one table, told apart by a column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import Events, find_events
from clickscale.data.described.drafts.joined.outcome_tables import (
    WITHIN,
    OutcomeTable,
    TimedRows,
    shared_keys,
)
from clickscale.data.described.drafts.labels.label_search import named_labels
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName, kinds_of_stream
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.samples import WHOLE, Column, Head
from clickscale.data.described.drafts.shapes import Shape, with_entries, with_position
from clickscale.data.described.drafts.toml_lines import identifier, remark

_KINDS = 12  # kinds of events in one column, at most
_MOST = 0.5  # share of the acts whose impression the sample must have; those near its edges may lack it
_ALL = 0.99  # share of the rows with a value from which an id names all persons
_MORE = 0.3  # share by which acts, more often than impressions, follow one of their user and item


def find_stream(
    head: Head, shape_of: Callable[[Head], Shape]
) -> tuple[Events, tuple[OutcomeTable, ...]] | None:
    """Find impressions in a table that has other events in rows of their own, and what came of them.

    Most acts of the sample must have their impression in it. Where acts share neither an id nor user, item
    and hour with an impression, each row is an impression with its outcome, or nothing tells.

    Args:
        shape_of: finds the shape of a table.
    """
    for column in head.columns.values():
        kinds = _kinds(column)
        if kinds is None:
            continue
        shown, acts = kinds
        impressions = _without_empty(_rows_of(head, column, shown))
        shape = shape_of(impressions)
        if shape.listed is not None and (shape.order or shape.listed.gather):
            continue
        done = [(act, with_entries(_rows_of(head, column, act), shape)) for act in acts]
        events = find_events(shape) or _nameless(impressions, done, shape_of)
        if events is None or named_labels(events.labels):
            continue
        events = replace(events, labels=[])
        outcomes, unused = _outcomes(events, column, done, head.rows >= WHOLE * head.estimated_rows)
        if outcomes:
            kinds_left = [str(kind) for kind in column.known.unique().to_pylist() if kind != shown]
            where = f"{column.name} == '{shown}'", _remark(kinds_left, acts, unused)
            placed = with_position(events.shape, impressions, outcomes[0].of(events))
            return replace(events, shape=replace(placed, where=where)), outcomes
    return None


def _kinds(column: Column) -> tuple[str, list[str]] | None:
    """Return the value of impressions and those of acts of a column that says what happened."""
    if not pa.types.is_string(column.values.type) or not OutcomeName(column.name).tells_events:
        return None
    if not 2 <= column.distinct <= _KINDS or set(column.name) & set("<>=!'\"`"):
        return None
    kinds = kinds_of_stream(column.known.unique().to_pylist())
    if kinds is None:
        return None
    shown, acts = str(kinds[0]), [str(act) for act in kinds[1]]
    return None if any("'" in value or not value.isprintable() for value in (shown, *acts)) else (shown, acts)


def _rows_of(head: Head, column: Column, kind: str) -> Head:
    """Return the rows of a sample of one kind of event."""
    chosen = pc.equal(column.values, kind).fill_null(False)
    columns = {name: replace(each, values=each.values.filter(chosen)) for name, each in head.columns.items()}
    objects = {name: values.filter(chosen) for name, values in head.objects.items()}
    return replace(head, columns=columns, objects=objects, rows=int(pc.sum(chosen).as_py()))


def _without_empty(head: Head) -> Head:
    """Leave out the columns that impressions have no values of."""
    empty = [name for name, column in head.columns.items() if not len(column.known)]
    left_out = dict.fromkeys(empty, "no value in the rows of impressions")
    columns = {name: column for name, column in head.columns.items() if name not in empty}
    return replace(head, columns=columns, left_out={**head.left_out, **left_out})


def _nameless(
    shown: Head, acts: Sequence[tuple[str, Head]], shape_of: Callable[[Head], Shape]
) -> Events | None:
    """Find impressions that lack a user or an item, which only their outcome tells, by an id of both."""
    alone = Events(shape_of(shown), None, None, None, "")
    for act, head in acts:
        name = _name(act, shown)
        joined = _joined(alone, OutcomeTable(head, name, (), ()), None, _MOST)
        if joined is None:
            continue
        told = find_events(shape_of(replace(shown, columns={**shown.columns, name: joined.of(alone)})))
        if told is None or [column.name for column, _, _ in told.labels] != [name]:
            continue
        columns = {each: column for each, column in told.head.columns.items() if each != name}
        shape = replace(told.shape, head=replace(told.head, columns=columns))
        return replace(told, shape=shape, labels=[])
    return None


def _outcomes(
    events: Events, column: Column, acts: Sequence[tuple[str, Head]], is_whole: bool
) -> tuple[tuple[OutcomeTable, ...], dict[str, str]]:
    """List the acts that join impressions, all by the key of the first one; and say why others do not."""
    found: list[OutcomeTable] = []
    unused = {}
    for act, head in acts:
        made = OutcomeTable(head, _name(act, events.head), (), (), where=f"{column.name} == '{act}'")
        # The impression of what comes much later may lie beyond the sample.
        least = _MOST if is_whole or not found else 0.0
        joined = _joined(events, made, found[0].shown_key if found else None, least)
        if joined is None or joined.name in [table.name for table in found]:
            unused[act] = f"{act} (of no impression in the sample)"
        else:
            found.append(joined)
    return tuple(found), unused


def _joined(
    events: Events, acts: OutcomeTable, key: tuple[str, ...] | None, least: float
) -> OutcomeTable | None:
    """Join acts to impressions by an id of both, or by user and item and the time; by ``key`` if given.

    Args:
        key: columns of the impressions.
    """
    user, item, time = _person(events), events.item, events.time
    pair = (user.name, item.name) if user is not None and item is not None else ()
    for names in [key] if key else _keys(events, acts.head):
        if names != pair and _share(events.head, acts.head, names) > least:
            return replace(acts, key=names, shown_key=names)
    if not pair or time is None or key not in (None, pair) or events.shape.composite:
        return None
    theirs = (pair[0], _item_of(acts.head, pair[1]))
    following, usual = _following(events, acts.head, pair, theirs, time)
    if following <= max(_MOST, usual + _MORE):
        return None
    return replace(acts, key=theirs, shown_key=pair).timed(time, events)


def _person(events: Events) -> Column | None:
    """Return the user, or, where many rows have none, another id of persons that nearly all rows have.

    An account may be known only to those who log in, and a device of all.
    """
    user = events.user
    if user is None or _known(user) >= _ALL:
        return user
    others = [
        column
        for column in events.head.columns.values()
        if column not in (user, events.item) and not pa.types.is_nested(column.values.type)
    ]
    other = find_id([column for column in others if _known(column) >= _ALL], "user")
    return user if other is None else other


def _known(column: Column) -> float:
    """Return the share of rows with a value."""
    return len(column.known) / max(len(column.values), 1)


def _item_of(acts: Head, shown: str) -> str:
    """Return the column of the item of acts: that of the impressions, or, where acts lack it, their own.

    A list of products may be shown, and a single product clicked.
    """
    known = [column for column in acts.columns.values() if len(column.known)]
    own = None if shown in [column.name for column in known] else find_id(known, "item")
    return shown if own is None or pa.types.is_nested(own.values.type) else own.name


def _keys(events: Events, acts: Head) -> Iterator[tuple[str, ...]]:
    """Yield columns that name an impression: an id of its own, or an id of requests and the item."""
    item = events.item.name if events.item is not None else ""
    for shown, key in shared_keys(events, acts):
        # Pairs of any other columns, such as a device and an item, come back in a longer log.
        if shown == key and (len(key) == 1 or (key[0] in events.shape.left_out and key[1] == item)):
            yield key


def _share(shown: Head, acts: Head, key: Sequence[str]) -> float:
    """Return the share of the acts whose key an impression has."""
    found = pc.is_in(acts.texts(key).drop_null(), value_set=shown.texts(key))
    return float(pc.sum(found).as_py() or 0) / max(acts.rows, 1)


def _following(
    events: Events, acts: Head, pair: tuple[str, ...], theirs: tuple[str, ...], time: Column
) -> tuple[float, float]:
    """Return the shares of acts and of impressions that follow an impression of their user and item.

    Args:
        pair: columns of user and item of the impressions.
        theirs: the same of the acts.
    """
    shown, done = TimedRows.of(events.head, pair, time), TimedRows.of(acts, theirs, time)
    known = [np.asarray(rows.keys.is_valid()) for rows in (done, shown)]
    if not all(map(np.any, known)):
        return 0.0, 0.0
    followed = [shown.among(rows, before=WITHIN) for rows in (done, shown)]
    done_after, again = followed[0][known[0]] > 0, followed[1][known[1]] > 1  # an impression is its own
    return float(np.mean(done_after)), float(np.mean(again))


def _name(act: str, shown: Head) -> str:
    """Name the column of an outcome after its kind of event."""
    name = identifier(act).lower()
    return name if name not in shown.columns else f"has_{name}"


def _remark(kinds: Sequence[str], acts: Sequence[str], unused: Mapping[str, str]) -> str:
    """Say what becomes of the rows that are no impressions."""
    used = [act for act in acts if act not in unused]
    left_out = [unused.get(kind, kind) for kind in kinds if kind not in used]
    told = f"rows of {remark(', '.join(used))} are outcomes"
    return f"{told}; left out: {remark(', '.join(left_out))}" if left_out else told
