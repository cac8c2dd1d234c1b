"""Users and items that no name tells: ids of which each value has a row of its own in another table."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import soon_over
from clickscale.data.described.drafts.joined.more_tables import in_common
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import mentions
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.tables.casts import detect_unit, seconds

_OWN = 0.99  # share of the rows of a table of attributes with an id of their own
_AGAIN = 0.9  # share of the rows of events with different ids, below which ids come again
_COMMON = 0.3  # share of all ids that both tables have
_FEWEST = 10  # different ids
_MANY = 1_000  # rows without a second one of an item, from which none comes again
_OFTENER = 0.05  # share of rows by which one id has the row before it oftener than others
_OF_EVENTS = re.compile(
    r"(^|_)(request|search|session|query|impression|imp|event|order|visit|slate|auction|bid|page_?view|display|log|"
    r"message|trace|transaction|basket|cart)(_|$)"
)
# Who or what serves an order is not what was ordered.
_SERVES = re.compile(
    r"(^|_)(courier|rider|carrier|employee|staff|clerk|cashier|agent|operator|warehouse|address|payment)(_|$)"
)
# What tables say of people and hardly of things.
_PERSONAL = re.compile(
    r"(^|_)(age|birth\w*|dob|gender|sex|sign(ed)?_?up\w*|joined\w*|registered\w*|member_since|follow(s|ed|ing)\w*|"
    r"interests?|subscri\w*|plan|loyal\w*|budget|income|salary|occupation|email|phone|home\w*|segment|"
    r"time_?zone|utc_offset\w*|marital\w*|education|geburtsjahr|heimat\w*|alter|geschlecht)(_|$)"
)


def with_joined_ids(heads: Sequence[Head]) -> list[Head]:
    """Give tables of events the user or item that no name tells, if another table describes it."""
    return [_with_ids(head, [other for other in heads if other is not head]) for head in heads]


def _with_ids(head: Head, others: Sequence[Head]) -> Head:
    columns = list(head.columns.values())
    user, item, time = find_id(columns, "user"), find_id(columns, "item"), find_time(columns)
    numbered = item is not None and time is not None and user is not None and numbers_events(item, others)
    if not head.named or (user is not None and item is not None and not numbered):
        return head
    told: dict[str, Literal["user", "item"]] = {}
    described = list(_described(head, others))
    people = [table.path for column, table in described if column is user]
    for column, table in described:
        if column in (user, item, time) or column.name in told or _is_other_user(column, user):
            continue
        role = _role(table)
        if numbered and user is not None and role == "item" and _may_vary(column, user):
            told[column.name], item, numbered = "item", column, False
        elif role == "user" and user is None and side_of(column, None, item)[0] != "item":
            told[column.name], user = "user", column
        elif item is None and (role == "item" or _may_be_item(column, user, table, head, others, people)):
            told[column.name], item = "item", column
    if numbered and user is not None:
        rest = [column for column in columns if column is not item and _may_vary(column, user)]
        told |= {} if (other := find_id(rest, "item")) is None else {other.name: "item"}
    if user is None or item is None:
        told |= _by_turns(head, others, user, item, time)
    marked = {name: replace(head.columns[name], role=role) for name, role in told.items()}
    return replace(head, columns={**head.columns, **marked}) if marked else head


def numbers_events(item: Column, others: Sequence[Head]) -> bool:
    """True for the id of an event, such as an offer: no row and no other table has one again."""
    if pa.types.is_nested(item.values.type) or not len(item.values) == item.distinct >= _MANY:
        return False
    columns = [column for head in others for column in head.columns.values()]
    return not any(item.ids_among(column) for column in columns if not pa.types.is_nested(column.values.type))


def _is_other_user(column: Column, user: Column | None) -> bool:
    """True for an id of users that some rows lack, beside the one of the table."""
    return user is not None and column.values.null_count > 0 and find_id([column], "user") is column


def _may_be_item(
    column: Column,
    user: Column | None,
    table: Head,
    head: Head,
    others: Sequence[Head],
    people: Collection[Path],
) -> bool:
    """True for ids beside those of users, unless each user has one, such as a household.

    The user may be that of an order or a request which the rows name.

    Args:
        people: paths of tables that describe the users, who may be shown to each other.
    """
    if (mentions(table.path.name, "user") and table.path not in people) or _SERVES.search(
        OutcomeName(column.name).snake
    ):
        return False
    if user is not None:
        return _may_vary(column, user)
    return any(_has_user(name, other) for name in head.columns for other in others)


def _may_vary(column: Column, user: Column) -> bool:
    """True unless each user has one value, or each value one user, as a visit has."""
    return side_of(column, user, None)[0] != "profile" and side_of(user, None, column)[0] != "item"


def _by_turns(
    head: Head, others: Sequence[Head], user: Column | None, item: Column | None, time: Column | None
) -> dict[str, Literal["user", "item"]]:
    """Tell users from items where no word does: several rows of a user follow each other in time.

    If no id has more of such rows than the others, the user is taken to stand before the item.
    """
    known = [column.name for column in (user, item, time) if column is not None]
    ids = _of_people_or_things(head, others, known, time)
    if user is not None or not ids or (item is None and len(ids) < 2):
        return {}
    turns = {column.name: _turns(column, time) for column in ids}
    first = max(ids, key=lambda column: turns[column.name])
    rest = [turns[column.name] for column in ids if column is not first]
    if item is not None:
        certain = turns[first.name] > max([_turns(item, time), *rest]) + _OFTENER
        return {first.name: "user"} if certain else {}
    user = first if turns[first.name] > max(rest) + _OFTENER else ids[0]
    things = [column for column in ids if column is not user and _may_vary(column, user)]
    if not things:
        return {}
    return {user.name: "user", max(things, key=lambda column: column.distinct).name: "item"}


def _of_people_or_things(
    head: Head, others: Sequence[Head], known: Sequence[str], time: Column | None
) -> list[Column]:
    """List the ids that other tables describe, without requests and visits, which name a user or end."""
    moments = None if time is None else seconds(time.values, detect_unit(time.known))[0]
    found = {
        column.name: column
        for column, table in _described(head, others)
        if column.name not in known
        and not _SERVES.search(OutcomeName(column.name).snake)
        and find_id(list(table.columns.values()), "user") is None
        and not (moments is not None and soon_over(column, moments))
    }
    return list(found.values())


def _turns(column: Column, time: Column | None) -> float:
    """Return how much oftener than by chance a row has the id of the row before, in the order of time."""
    values = column.values
    if time is not None:
        values = values.take(pc.sort_indices(seconds(time.values, detect_unit(time.known))[0]))
    same = pc.mean(pc.equal(values[1:], values[:-1]).cast(pa.float64())).as_py() or 0.0
    counts = pc.value_counts(column.known).field("counts").to_numpy(zero_copy_only=False)
    return float(same - ((counts / max(counts.sum(), 1)) ** 2).sum())


def _has_user(name: str, table: Head) -> bool:
    """True if a table has a row for each order or request of a name, with its user."""
    snake, file = OutcomeName(name).snake, OutcomeName(table.path.name.split(".")[0]).snake
    if not _OF_EVENTS.search(snake):
        return False
    of_file = "id" if re.sub(r"_?(id|key)$", "", snake) in file else name
    key = table.columns.get(name, table.columns.get(of_file))
    has_key = key is not None and key.distinct >= _OWN * len(key.values)
    columns = list(table.columns.values())
    return has_key and find_id(columns, "user") is not None and find_time(columns) is not None


def _described(head: Head, others: Sequence[Head]) -> Iterator[tuple[Column, Head]]:
    """Yield the ids of events with the tables that have a row for each."""
    for column in head.columns.values():
        if not _may_be_id(column) or column.distinct >= _AGAIN * head.rows:
            continue
        for table in others:
            keys = [key for key in table.columns.values() if _may_be_id(key) and _is_key(key, column)]
            if any(in_common(key, column) >= _COMMON for key in keys):
                yield column, table


def _may_be_id(column: Column) -> bool:
    if pa.types.is_nested(column.values.type) or column.unit or column.is_date or column.separator:
        return False
    if _OF_EVENTS.search(OutcomeName(column.name).snake):
        return False
    return column.distinct >= _FEWEST and (column.floats is None or column.is_id or column.is_padded)


def _is_key(key: Column, column: Column) -> bool:
    """True if each row has its own, under the same name or, of texts that are no numbers, another one."""
    texts = key.floats is None and column.floats is None
    snake = OutcomeName(key.name).snake  # empty for a name in letters of another script
    ends = {OutcomeName(column.name).snake, OutcomeName(column.name.rpartition(".")[2]).snake, "id"}
    named_alike = key.name == column.name or (snake != "" and snake in ends)
    return key.distinct >= _OWN * len(key.values) and (named_alike or texts)


def _role(table: Head) -> Literal["user", "item", ""]:
    """Return whom a table describes, by the name of its file, or else its columns; empty if nothing tells.

    What jobs have, such as a salary, is also said of people; so names of columns count only as long as the
    user is not known.
    """
    user, item = (mentions(table.path.name, kind) for kind in ("user", "item"))
    if not (user or item):
        user = any(_PERSONAL.search(OutcomeName(name).snake) for name in table.columns)
    return "" if user == item else "user" if user else "item"
