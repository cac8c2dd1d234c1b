"""Tables of requests, searches or sessions, which have what impressions lack, such as the user."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import useless
from clickscale.data.described.drafts.joined.outcome_tables import is_called_after_outcomes
from clickscale.data.described.drafts.labels.label_search import find_labels
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles import find_id, find_time, named, plain_name
from clickscale.data.described.drafts.samples import WHOLE, Column, Head
from clickscale.data.described.drafts.toml_lines import file_lines, quoted, remark
from clickscale.data.described.rows import as_text
from clickscale.data.features.texts import whole_texts

_REQUESTS = re.compile(
    r"(^|_)(request|req|search|srch|session|sess|query|impression|imp|impr|display|auction|bid|visit|page_?view|pv|"
    r"slate|trace|event|log|order|basket|exposure|recommendation|rec|message|mail|email|send|push|notification)"
    r"(_?(id|key|uuid|guid|hash|token|no|number))?$"
)
_ID = re.compile(r"(id|key|uuid|guid|hash|token|session|request|query|search)$")
_SESSIONS = ("session", "sessionid")  # stand for users where nothing else does
_PERSONS = ("uuid", "guid")
_OWN = 0.99  # share of the requests with a key of their own
_FOUND = 0.9  # share of the impressions that belong to a request, at least
_FOUND_USERS = 0.5  # the same where requests have the user or the time that impressions lack
_COMMON = 20  # keys in common, at least, of columns with different names


@dataclass(frozen=True)
class RequestTable:
    """A table with a row for each request, which impressions name.

    Attributes:
        key: column that names a request.
        shown_key: the same of the impressions.
        added: columns that the impressions lack.
        found: share of the sampled impressions that belong to a request.
        parts: paths by part, if its files are parts.
    """

    head: Head
    key: str
    shown_key: str
    added: tuple[str, ...]
    found: float
    parts: Mapping[str, Path] = field(default_factory=dict)

    @property
    def person(self) -> Column | None:
        """Column that stands for the user where none is called so."""
        return named([self.head.columns[name] for name in self.added], _PERSONS)

    def lines(self, base: Path) -> Iterator[str]:
        """Yield the table ``[[joined]]``."""
        shown = remark(self.shown_key)
        yield f"\n[[joined]]  # impressions with the same {shown} have its columns"
        yield from file_lines(self.head, base, self.parts)
        lost = 1 - self.found
        why = f"  # {lost:.1%} of the sampled impressions have none of its rows" if lost else ""
        yield f"key = [{quoted(self.key)}]{why}"
        if self.key != self.shown_key:
            yield f"shown_key = [{quoted(self.shown_key)}]  # of the impressions"


def with_requests(head: Head, others: Sequence[Head]) -> tuple[Head, list[RequestTable]]:
    """Add to a sample of impressions the columns of the tables of requests among the others."""
    tables: list[RequestTable] = []
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


def _holds_candidates(head: Head) -> bool:
    """True if rows have an item, by its name, or an outcome."""
    columns = list(head.columns.values())
    user, item = find_id(columns, "user"), find_id(columns, "item")
    rest = [column for column in columns if column not in (user, item)]
    several = item is not None and item.distinct < _OWN * head.rows
    return several or bool(find_labels(rest, head, user, item).labels)


def _joins(head: Head, requests: Head) -> Iterator[tuple[Head, RequestTable]]:
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
        joined, found = _joined(head, shown_key, requests, key, added)
        if found >= (_FOUND_USERS if gains_user or gains_time else _FOUND):
            names = tuple(column.name for column in added)
            yield joined, RequestTable(requests, key.name, shown_key.name, names, found)


def _are_requests(
    keys: Sequence[Column], gains_user: bool, gains_time: bool, added: Sequence[Column]
) -> bool:
    """True for rows that are named as requests and tell something, or tell both who and when."""
    if gains_user and gains_time:
        return True
    said = any(_REQUESTS.search(OutcomeName(column.name).snake) for column in keys)
    return said and (gains_user or gains_time or not all(map(useless, added)))


def _keys(head: Head, requests: Head) -> Iterator[tuple[Column, Column]]:
    """Yield the ids of impressions with those of requests that may be the same, equal names first."""
    ids = [column for column in requests.columns.values() if _names_requests(column)]
    for key in ids:
        if key.name in head.columns and not pa.types.is_nested(head.columns[key.name].values.type):
            yield head.columns[key.name], key
    files = OutcomeName(requests.path.name.split(".")[0]).snake
    for key in ids:
        for shown in head.columns.values():
            if shown.name == key.name or pa.types.is_nested(shown.values.type):
                continue
            name = OutcomeName(shown.name).snake
            stem = re.sub(r"_?(id|key)$", "", name)
            same = plain_name(key.name) == "id" and stem != name and len(stem) > 2 and stem in files
            texts = shown.floats is None and key.floats is None and not shown.unit
            if same or (texts and _in_common(shown, key) >= _COMMON):
                yield shown, key


def _names_requests(column: Column) -> bool:
    """True for an id of which each row has its own."""
    kind = column.values.type
    if pa.types.is_nested(kind) or column.unit or not _ID.search(OutcomeName(column.name).snake):
        return False
    return len(column.known) == len(column.values) and column.distinct >= _OWN * len(column.values)


def _in_common(one: Column, other: Column) -> int:
    """Count the ids of one column that are among those of another."""
    return int(pc.sum(pc.is_in(_ids(one.known).unique(), value_set=_ids(other.known))).as_py() or 0)


def _joined(
    head: Head, shown_key: Column, requests: Head, key: Column, added: Sequence[Column]
) -> tuple[Head, float]:
    """Add the columns of requests to a sample; return it with the share of its rows that have a request."""
    wanted = _ids(shown_key.values)
    values = {name: requests.columns[name].values for name in (key.name, *(column.name for column in added))}
    is_whole = True
    if requests.rows < WHOLE * requests.estimated_rows:
        values, is_whole = requests.rows_with(key.name, wanted.unique(), list(values))
    place = pc.index_in(wanted, value_set=_ids(values[key.name]))
    columns = {column.name: Column(column.name, values[column.name].take(place)) for column in added}
    found = len(place) - place.null_count
    known = {name: column for name, column in columns.items() if len(column.known)}
    sources = {**head.sources, **dict.fromkeys(known, requests)}
    left_out = {**requests.left_out, **head.left_out}
    joined = replace(head, columns={**head.columns, **known}, left_out=left_out, sources=sources)
    if not is_whole and found >= _COMMON:  # the others may stand in the part that was not read
        return joined, 1.0
    return joined, found / max(len(place), 1)


def _ids(values: pa.Array) -> pa.Array:
    """Write ids as they are compared."""
    return whole_texts(as_text(values))
