"""Tables of requests, searches or sessions, which have what impressions lack, such as the user."""

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from clickscale.data.described.drafts.event_tables import useless
from clickscale.data.described.drafts.joined.named_tables import COMMON, NamedTable, looked_up
from clickscale.data.described.drafts.joined.outcome_tables import is_called_after_outcomes
from clickscale.data.described.drafts.labels.label_search import find_labels
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import plain_name
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import Column, Head

_REQUESTS = re.compile(
    r"(^|_)(request|req|search|srch|session|sess|query|impression|imp|impr|display|auction|bid|visit|page_?view|pv|"
    r"slate|trace|event|log|order|basket|exposure|recommendation|rec|message|mail|email|send|push|notification)"
    r"(_?(id|key|uuid|guid|hash|token|no|number))?$"
)
_ID = re.compile(r"(id|key|uuid|guid|hash|token|session|request|query|search)$")
_SESSIONS = ("session", "sessionid")  # stand for users where nothing else does
_OWN = 0.99  # share of the requests with a key of their own
_FOUND = 0.9  # share of the impressions that belong to a request, at least
_FOUND_USERS = 0.5  # the same where requests have the user or the time that impressions lack


def with_requests(head: Head, others: Sequence[Head]) -> tuple[Head, list[NamedTable]]:
    """Add to a sample of impressions the columns of the tables of requests among the others."""
    tables: list[NamedTable] = []
    if not head.named or not _holds_candidates(head):
        return head, tables
    for other in others:
        if other is head or not other.named:
            continue
        joined = next(_joins(head, other), None)
        if joined is not None:
            head, table = joined
            tables.append(table)
    return head, tables


def with_orders(head: Head, others: Sequence[Head]) -> tuple[Head, list[NamedTable]]:
    """Add to a table of outcomes, such as items of orders, the user and the time of what its rows name."""
    columns = list(head.columns.values())
    item, user, time = find_id(columns, "item"), find_id(columns, "user"), find_time(columns)
    if not (head.named and is_called_after_outcomes(head.path)) or item is None or (user and time):
        return head, []
    for other in others:
        if other is head or not other.named:
            continue
        for shown_key, key in _keys(head, other):
            added = [c for c in other.columns.values() if c is not key and c.name not in head.columns]
            lacking = [
                column
                for known, column in ((user, find_id(added, "user")), (time, find_time(added)))
                if known is None
            ]
            named_so = {column.name: column for column in lacking if column is not None}
            if shown_key is item or len(named_so) < len(lacking):
                continue
            joined, found, _ = looked_up(head, shown_key, other, key, named_so)
            if found >= _FOUND:
                rows = f"rows of {head.path.name}"
                table = NamedTable(other, key.name, shown_key.name, tuple(named_so), found, (rows,))
                return joined, [table]
    return head, []


def _holds_candidates(head: Head) -> bool:
    """True if rows have an item, by its name, or an outcome."""
    columns = list(head.columns.values())
    user, item = find_id(columns, "user"), find_id(columns, "item")
    rest = [column for column in columns if column not in (user, item)]
    several = item is not None and item.distinct < _OWN * head.rows
    return several or bool(find_labels(rest, head, user, item, None).labels)


def _joins(head: Head, requests: Head) -> Iterator[tuple[Head, NamedTable]]:
    """Yield the ways to join a table of requests."""
    shown = list(head.columns.values())
    user, item, time = find_id(shown, "user"), find_id(shown, "item"), find_time(shown)
    if user is not None and plain_name(user.name) in _SESSIONS:
        user = None
    for shown_key, key in _keys(head, requests):
        if shown_key in (user, item):
            continue
        added = [c for c in requests.columns.values() if c is not key and c.name not in head.columns]
        gains_user = user is None and find_id(added, "user") is not None
        gains_time = time is None and find_time(added) is not None
        if not _are_requests((shown_key, key), gains_user, gains_time, added):
            continue
        if find_id(added, "item") is not None and (item is None or (user is not None and time is not None)):
            continue  # impressions, or other events, of which these rows tell something
        if is_called_after_outcomes(requests.path) and not gains_user:
            continue
        columns = {column.name: column for column in added}
        joined, found, _ = looked_up(head, shown_key, requests, key, columns)
        if found >= (_FOUND_USERS if gains_user or gains_time else _FOUND):
            yield joined, NamedTable(requests, key.name, shown_key.name, tuple(columns), found)


def _are_requests(
    keys: Sequence[Column], gains_user: bool, gains_time: bool, added: Sequence[Column]
) -> bool:
    """True for rows that are named as requests and tell something, or tell both who and when."""
    if gains_user and gains_time:
        return True
    said = any(_REQUESTS.search(OutcomeName(column.name).snake) for column in keys)
    return said and (gains_user or gains_time or not all(map(useless, added)))


def _keys(head: Head, requests: Head) -> Iterator[tuple[Column, Column]]:
    """Yield the ids of impressions with those of requests that may be the same, equal names first.

    An ``id`` of both is mostly that of their own rows, so it comes last.
    """
    ids = [column for column in requests.columns.values() if _names_requests(column)]
    alike = [
        (head.columns[key.name], key)
        for key in ids
        if key.name in head.columns and not pa.types.is_nested(head.columns[key.name].values.type)
    ]
    yield from (pair for pair in alike if plain_name(pair[1].name) != "id")
    files = OutcomeName(requests.path.name.split(".")[0]).snake
    for key in ids:
        for shown in head.columns.values():
            if shown.name == key.name or pa.types.is_nested(shown.values.type):
                continue
            name = OutcomeName(shown.name).snake
            stem = re.sub(r"_?(id|key)$", "", name)
            same = plain_name(key.name) == "id" and stem != name and len(stem) > 2 and stem in files
            texts = shown.floats is None and key.floats is None and not shown.unit
            if same or (texts and shown.ids_among(key) >= COMMON):
                yield shown, key
    yield from (pair for pair in alike if plain_name(pair[1].name) == "id")


def _names_requests(column: Column) -> bool:
    """True for an id of which each row has its own."""
    kind = column.values.type
    if pa.types.is_nested(kind) or column.unit or not _ID.search(OutcomeName(column.name).snake):
        return False
    return len(column.known) == len(column.values) and column.distinct >= _OWN * len(column.values)
