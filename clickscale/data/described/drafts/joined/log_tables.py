"""Tables of a log: its impressions with all that is joined to them, other events, and the rest."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from clickscale.data.described.drafts.event_tables import Events, find_events, useless
from clickscale.data.described.drafts.joined.calendars import with_calendars
from clickscale.data.described.drafts.joined.chosen_tables import find_chosen
from clickscale.data.described.drafts.joined.dated_tables import holds_versions
from clickscale.data.described.drafts.joined.joined_ids import numbers_events
from clickscale.data.described.drafts.joined.named_tables import NamedTable
from clickscale.data.described.drafts.joined.outcome_tables import (
    OutcomeTable,
    find_outcomes,
    is_called_after_outcomes,
    with_labels,
)
from clickscale.data.described.drafts.joined.request_search import with_orders, with_requests
from clickscale.data.described.drafts.joined.streams import find_stream
from clickscale.data.described.drafts.labels.label_search import named_labels
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shapes import Shape, find_shape

_FEWEST, _NAMED = 10, 0.9  # different ids of a column, and the share that are rows of another table, at least
_ENOUGH = 0.5  # rows of a table for each impression from which its events are the behaviors


@dataclass(frozen=True)
class LogTables:
    """Tables of a log.

    Attributes:
        events: the impressions, then other tables of events, the best first.
        outcomes, requests: what is joined to the impressions.
        others: all other tables, those of events included.
    """

    events: list[Events]
    outcomes: list[OutcomeTable]
    requests: list[NamedTable]
    others: list[Head]


def find_tables(heads: Sequence[Head], parts: Mapping[Path, Mapping[str, Path]]) -> LogTables | None:
    """Find the tables of a log; None without any of events.

    Args:
        parts: by path of a table, the paths of its parts.
    """
    found = [_candidate(head, [other for other in heads if other is not head]) for head in heads]
    if any(each.events is not None and not holds_versions(each.shape.head) for each in found):
        found = [replace(e, plain=None, events=None) if holds_versions(e.shape.head) else e for e in found]
    logs = {each.shape.head.path for each in found if each.events is not None}
    found = [replace(e, plain=None, events=None) if _only_describes(e, heads, logs) else e for e in found]
    best = max(found, key=_worth)
    best = next((each for each in found if _is_finer(each, best)), best)
    best = _with_outcomes(best, found)
    if best.events is None:
        return None
    chosen = best.events
    if _numbers_its_rows(best, heads):
        chosen = replace(chosen, item=None)
    requests = [replace(table, parts=parts.get(table.head.path, {})) for table in best.requests]
    outcomes = [replace(table, parts=parts.get(table.head.path, {})) for table in best.outcomes]
    rest = _left(found, [best.shape.head, *(table.head for table in requests)])
    known = [table.name for table in outcomes]
    ordered = [with_orders(each.shape.head, [other.shape.head for other in rest]) for each in rest]
    further = find_outcomes(chosen, [head for head, _ in ordered])
    outcomes += [table for table in further if table.name not in known]
    orders = {head.path: tables for head, tables in ordered}
    for table in further:
        requests += orders[table.head.path] if {*table.key} & {*table.head.sources} else []
    shown = with_labels(chosen, outcomes)
    shown = replace(shown, shape=replace(shown.shape, parts=parts.get(shown.head.path, {})))
    rest = _left(rest, [*(table.head for table in outcomes), *(table.head for table in requests)])
    # A small table of other events would take the place of all that users did with impressions.
    least = _ENOUGH * shown.head.estimated_rows
    events = sorted((each for each in rest if each.plain is not None), key=_worth_alone, reverse=True)
    others = [
        each.plain
        for each in events
        if each.plain is not None
        and each.plain.rank[:2] == shown.rank[:2]
        and each.plain.head.estimated_rows >= least
    ]
    return LogTables([shown, *others], outcomes, requests, [each.shape.head for each in rest])


@dataclass(frozen=True)
class _Candidate:
    """A table that may hold the impressions.

    Attributes:
        shape: of the table alone.
        plain: the table alone as one of events, or None.
        events: its events with what is joined to them, their outcomes not yet labels; or ``plain``.
        outcomes: kinds of events in rows of their own.
        requests: tables of requests.
    """

    shape: Shape
    plain: Events | None
    events: Events | None
    outcomes: tuple[OutcomeTable, ...] = ()
    requests: tuple[NamedTable, ...] = ()


def _candidate(head: Head, others: Sequence[Head]) -> _Candidate:
    """Find the events of a table, alone and with the requests and the outcomes that it can be joined to."""
    shape = find_shape(head, others)
    plain = find_events(shape)
    whole, requests = with_requests(head, others)
    rest = [other for other in others if other not in [table.head for table in requests]]
    whole, calendars = with_calendars(whole, rest)
    requests += calendars
    rest = [other for other in rest if other not in [table.head for table in calendars]]

    def shape_of(rows: Head) -> Shape:
        return _shape_with(requests, find_shape(rows, rest))

    if (stream := find_stream(whole, shape_of)) is not None:
        return _Candidate(shape, plain, *stream, tuple(requests))
    alone = _shape_with(requests, find_shape(whole, []))
    if (chosen := find_chosen(whole, rest, alone)) is not None:
        return _Candidate(shape, plain, *chosen, tuple(requests))
    joined = find_events(shape_of(whole)) if requests else None
    if joined is None or (plain is not None and joined.rank < plain.rank):
        return _Candidate(shape, plain, plain)
    return _Candidate(shape, plain, joined, (), tuple(requests))


def _shape_with(requests: Sequence[NamedTable], shape: Shape) -> Shape:
    """Tell a shape what the tables of requests say of its columns."""
    left_out: dict[str, str] = {}
    time = find_time(shape.head.columns.values())
    for table in requests:
        file = table.head.path.name
        told = {name: useless(table.head.columns[name]) for name in table.added}
        left_out |= {name: f"{why} of {file}" for name, why in told.items() if why}
        if time is None or time.name != table.shown_key:  # 20240131 is a date and names one
            left_out[table.shown_key] = f"it names a row of {file}"
    columns = list(shape.head.columns.values())
    if shape.user is None and find_id(columns, "user") is None:
        persons = [table.person.name for table in requests if table.person is not None]
        shape = replace(shape, user=next((shape.head.columns[name] for name in persons), None))
    return replace(shape, left_out={**left_out, **shape.left_out})


def _only_describes(each: _Candidate, heads: Sequence[Head], logs: Collection[Path]) -> bool:
    """True for a table of which a longer one names the rows, if no name makes it one of events.

    Where the longer one is of events, a table with a row for each item and no label is none, whoever sells
    the items.

    Args:
        logs: the paths of tables of events.
    """
    events, own = each.events, each.shape.head
    if events is None:
        return False
    keys = [column for column in own.columns.values() if _has_row_each(column)]
    lists_items = events.item in keys and not events.labels and not each.outcomes
    if not (events.is_by_position or _has_lone_label(events) or lists_items):
        return False
    longer = [head for head in heads if head is not own and head.estimated_rows > own.estimated_rows]
    longer = [head for head in longer if head.path in logs or not lists_items]
    return any(
        _FEWEST <= column.distinct < len(column.values) and column.ids_among(key) > _NAMED * column.distinct
        for head in longer
        for column in head.columns.values()
        if not pa.types.is_nested(column.values.type)
        for key in keys
    )


def _numbers_its_rows(best: _Candidate, heads: Sequence[Head]) -> bool:
    """True if the item is the id of an event."""
    events, item = best.events, None if best.events is None else best.events.item
    if events is None or item is None or events.user is None or not events.labels or best.outcomes:
        return False
    own = best.shape.head.path
    return numbers_events(item, [head for head in heads if head.path != own])


def _has_lone_label(events: Events) -> bool:
    """True without users and items, if nothing but its two values speaks for the label."""
    return events.user is None and events.item is None and not named_labels(events.labels)


def _has_row_each(column: Column) -> bool:
    """True for texts or ids that differ in every row."""
    is_key = not pa.types.is_nested(column.values.type) and (column.floats is None or column.is_id)
    return is_key and not column.unit and column.distinct == len(column.values)


def _worth(each: _Candidate) -> tuple[tuple[bool, ...], int]:
    """Order tables by a label that was named, then by what they tell of an event, and by size."""
    if each.events is None:
        return (), 0
    user_and_item, timed, labeled = each.events.rank
    told = any(column.is_label for column in each.events.head.columns.values())
    return (told, user_and_item, timed, labeled or bool(each.outcomes)), each.events.head.size


def _with_outcomes(best: _Candidate, found: Sequence[_Candidate]) -> _Candidate:
    """Return the best table, or one with outcomes in another table if all its label has is two values."""
    if best.events is None or named_labels(best.events.labels) or not best.events.labels:
        return best
    rank, own = best.events.rank[:2], best.shape.head
    heads = [each.shape.head for each in found]
    if not is_called_after_outcomes(own.path):
        heads = [head for head in heads if head is not own]  # a table with a label is hardly one of outcomes
    alike = [each for each in found if each.events is not None and each.events.rank[:2] >= rank]
    with_them = [each for each in alike if each.events and find_outcomes(each.events, heads)]
    return max(with_them, key=_worth, default=best)


def _is_finer(each: _Candidate, other: _Candidate) -> bool:
    """True for rows that are no events alone but name those of another table, such as items of orders."""
    if each.plain is not None or other.shape.head.path not in [table.head.path for table in each.requests]:
        return False
    several = each.shape.head.estimated_rows >= other.shape.head.estimated_rows
    return several and _worth(each)[0] >= _worth(other)[0]


def _worth_alone(each: _Candidate) -> tuple[tuple[bool, ...], int]:
    return (each.plain.rank, each.plain.head.size) if each.plain is not None else ((), 0)


def _left(found: Sequence[_Candidate], spent: Sequence[Head]) -> list[_Candidate]:
    """Return the tables that are not spent."""
    paths = [head.path for head in spent]
    return [each for each in found if each.shape.head.path not in paths]
