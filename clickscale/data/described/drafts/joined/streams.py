"""Streams of events: impressions and what came of them as rows of one table, told apart by a column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import Events, find_events
from clickscale.data.described.drafts.joined.outcome_tables import (
    WITHIN,
    Keys,
    OutcomeTable,
    pairs_of_keys,
    single_keys,
    texts_of,
    timed_rows,
)
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName, kinds_of_stream
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shapes import find_shape
from clickscale.data.described.drafts.toml_lines import identifier, remark

_KINDS = 12  # kinds of events in one column, at most
_MOST = 0.5  # share of the acts whose impression the sample must have; those near its edges may lack it
_MORE = 0.3  # share by which acts, more often than impressions, follow one of their user and item


@dataclass(frozen=True)
class Stream:
    """The impressions of a table that has other events in rows of their own, and what came of them.

    Attributes:
        events: the impressions.
        outcomes: acts that follow impressions, clicks first.
    """

    events: Events
    outcomes: tuple[OutcomeTable, ...]


def find_stream(head: Head, others: Sequence[Head]) -> Stream | None:
    """Find impressions and acts in rows of their own, if most acts of the sample have their impression in it.

    Where acts share neither an id nor user, item and hour with an impression, each row is an impression with
    its outcome, or nothing tells.
    """
    for column in head.columns.values():
        kinds = _kinds(column)
        if kinds is None:
            continue
        shown, acts = kinds
        shape = find_shape(_rows_of(head, column, shown), [other for other in others if other is not head])
        events = find_events(shape)
        if events is None or events.labels or shape.listed is not None:
            continue
        outcomes = tuple(_outcomes(events, column, [(act, _rows_of(head, column, act)) for act in acts]))
        if outcomes:
            where = f"{column.name} == '{shown}'", _remark(column, shown, acts, outcomes)
            events = replace(events, shape=replace(events.shape, where=where))
            return Stream(events, outcomes)
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
    return replace(head, columns=columns, rows=int(pc.sum(chosen).as_py()))


def _outcomes(events: Events, column: Column, acts: list[tuple[str, Head]]) -> Iterator[OutcomeTable]:
    """Yield the acts that can be joined to impressions, all by the key that joins the first of them."""
    found: OutcomeTable | None = None
    for act, head in acts:
        made = OutcomeTable(head, _name(act, events.head), (), (), where=f"{column.name} == '{act}'")
        joined = _joined(events, made, None if found is None else found.key)
        found = found or joined
        if joined is not None:
            yield joined


def _joined(events: Events, acts: OutcomeTable, key: tuple[str, ...] | None) -> OutcomeTable | None:
    """Join acts to impressions by an id of both, or by user and item and the time; by ``key`` if given."""
    keys = [shown for shown, _ in _keys(events, acts.head)] if key is None else [key]
    user, item, time = events.user, events.item, events.time
    pair = (user.name, item.name) if user is not None and item is not None else ()
    for names in keys:
        if names != pair and _share(events.head, acts.head, names) > _MOST:
            return replace(acts, key=names, shown_key=names)
    if not pair or time is None or key not in (None, pair) or events.shape.composite:
        return None
    following, usual = _following(events, acts.head, pair, time)
    if following <= max(_MOST, usual + _MORE):
        return None
    return replace(acts, key=pair, shown_key=pair, time=time)


def _keys(events: Events, acts: Head) -> Iterator[Keys]:
    """Yield columns that name an impression: an id of its own, or an id of requests and the item."""
    yield from (pair for pair in single_keys(events, acts) if pair[0] == pair[1])
    item = events.item.name if events.item is not None else ""
    for shown, key in pairs_of_keys(events, acts):
        # Pairs of any other columns, such as a device and an item, come back in a longer log.
        if shown[0] in events.shape.left_out and shown[1] == item:
            yield shown, key


def _share(shown: Head, acts: Head, key: Sequence[str]) -> float:
    """Return the share of the acts whose key an impression has."""
    found = pc.is_in(texts_of(acts, key).drop_null(), value_set=texts_of(shown, key))
    return float(pc.sum(found).as_py() or 0) / max(acts.rows, 1)


def _following(events: Events, acts: Head, pair: tuple[str, ...], time: Column) -> tuple[float, float]:
    """Return the shares of acts and of impressions that follow an impression of their user and item."""
    shown, done = (timed_rows(rows, pair, time) for rows in (events.head, acts))
    followed = [shown.among(rows, before=WITHIN) for rows in (done, shown)]
    return float(np.mean(followed[0] > 0)), float(np.mean(followed[1] > 1))  # an impression is its own


def _name(act: str, shown: Head) -> str:
    """Name the column of an outcome after its kind of event."""
    name = identifier(act).lower()
    return name if name not in shown.columns else f"has_{name}"


def _remark(column: Column, shown: str, acts: Sequence[str], outcomes: Sequence[OutcomeTable]) -> str:
    """Say what becomes of the rows that are no impressions."""
    used = [table.where for table in outcomes]
    kinds = [str(kind) for kind in column.known.unique().to_pylist() if kind != shown]
    taken = [kind for kind in kinds if f"{column.name} == '{kind}'" in used]
    rest = [kind for kind in kinds if kind not in taken]
    lost = [f"{kind} (joined to no impression)" if kind in acts else kind for kind in rest]
    told = f"rows of {remark(', '.join(taken))} are outcomes"
    return f"{told}; left out: {remark(', '.join(lost))}" if lost else told
