"""Tables with a row for each version of an item or a user, such as prices, and why others are not used."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.drafts.event_tables import Events, useless
from clickscale.data.described.drafts.joined.more_tables import (
    Kind,
    has_several_rows,
    in_common,
    is_category,
    key_of,
)
from clickscale.data.described.drafts.joined.named_tables import NamedTable
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.suspects import totals_outcomes
from clickscale.data.described.keys import gathered
from clickscale.data.described.periods import FIRST_OF_ALL, NEVER, Clock, Periods, Stretches
from clickscale.data.described.rows import as_text

_SURE_BEGIN = re.compile(
    r"(^|_)(valid|effective|holds)_?(from|since|start|date|begin)(_(date|time|at|ts))?$|^gultig_?(ab|von)$|"
    r"^val(ide|able)_(du|des|depuis)$|^(vigente|valido|valida)_(desde|dal|dalle|de)$|^geldig_(van|vanaf)$"
)
_BEGIN = re.compile(
    r"^(row_|sys_|record_)?(start|begin|from)(_?(date|time|at|ts))?$|^(von|ab|beginn|date_debut|debut_validite|desde|"
    r"fecha_inicio|data_inicio|data_inizio|begindatum|startdatum)$"
)
_END = re.compile(
    r"(^|_)(valid|effective|holds)_?(to|till|until|thru|through|end)(_(date|time|at|ts))?$|^gultig_?bis$|"
    r"^val(ide|able)_(au|jusqu\w*)$|^(vigente|valido|valida)_(hasta|al|ate|fino\w*)$|^geldig_tot$|"
    r"^(row_|sys_|record_)?(end|to|until)(_?(date|time|at|ts))?$|^(bis|ende|date_fin|fin_validite|hasta|fecha_fin|"
    r"data_fim|data_fine|einddatum|enddatum)$"
)
# The only moment of a table of changes: from then on, up to the next one, its row holds.
_CHANGED = re.compile(
    r"(^|_)(chang(ed|e)|modified|updated|recorded|snapshot|as_?of|gea(e)?ndert|modifiee?|modificad[oa]|modificat[oa]|"
    r"gewijzigd)(_?(at|on|date|time|ts|dt|datetime|am|le|em|el|il|op))?$"
)
_CURRENT = re.compile(
    r"^(is_)?(current|latest|active|aktuell|actuel|actual)(_(flag|row|record|version|ind))?$"
)
_APART = 0.95  # share of neighboring versions of which one ends before the next one begins
_DAY = 86_400
_BOTH = 2  # moments of a row that holds for a time
_COMMON = 0.2  # share of ids in common from which columns of different names are the same
_FOUND = 0.5  # share of the impressions for which a version holds


def with_dated_tables(
    events: Events, heads: Sequence[Head], keep: Collection[str]
) -> tuple[Events, list[NamedTable]]:
    """Add to the impressions the columns of versions that held at their time.

    Args:
        heads: tables that nothing else uses.
        keep: columns that are features whatever speaks against them.
    """
    tables: list[NamedTable] = []
    for head in heads:
        kinds: tuple[Kind, ...] = ("item", "user")
        joined = next(filter(None, (_joined(events, head, kind, keep) for kind in kinds)), None)
        if joined is not None:
            events, table = joined
            tables.append(table)
    return events, tables


def holds_versions(head: Head) -> bool:
    """True for a table whose only moments are those from and up to which its rows hold."""
    valid = _valid(head)
    moments = [name for name, column in head.columns.items() if column.unit or column.is_date]
    return len(valid) == _BOTH and set(moments) <= {*valid}


def _joined(
    events: Events, table: Head, kind: Kind, keep: Collection[str]
) -> tuple[Events, NamedTable] | None:
    """Join a table by the ids of a kind, if its rows are versions of these."""
    ids, time, listed = events.joining(kind), events.time, events.shape.listed
    if ids is None or time is None or events.shape.order or listed or pa.types.is_nested(ids.values.type):
        return None
    key, valid = key_of(table, kind, ids), _valid(table)
    if key is None or not valid or not table.named or not has_several_rows(key):
        return None
    if key.name != ids.name and in_common(key, ids) < _COMMON:
        return None
    known = key.ids.unique().drop_null()
    own, shown = (_codes(column, known) for column in (key, ids))
    bounds = [
        Clock(table.columns[name].unit or "iso", "")(table.columns[name].values, missing)  # type: ignore[arg-type]
        for name, missing in zip(valid, (FIRST_OF_ALL, NEVER), strict=False)
    ]
    periods = Periods.of(own, bounds)
    apart = _lie_apart(periods)
    several = _may_hold_together(table, key, valid) and (
        not apart or _begin_together(table, key, valid, periods)
    )
    if not apart and not several:
        return None
    stretches = Stretches.of(own, bounds) if several else None
    if stretches is not None:
        periods = Periods.of(stretches.keys, [stretches.begins, stretches.ends])
    moments = Clock(time.unit, "")(time.values, FIRST_OF_ALL)  # type: ignore[arg-type]
    places = periods.places(shown, moments)
    found = 1 - places.null_count / max(len(places), 1)
    rest = [c for c in table.columns.values() if c.name not in (key.name, *valid, *events.head.columns)]
    left_out = {c.name: why for c in rest if c.name not in keep and (why := _unfit(c))}
    added = {
        c.name: Column(c.name, _values(c, periods, stretches).take(places))
        for c in rest
        if c.name not in left_out
    }
    added = {name: column for name, column in added.items() if len(column.known)}
    if found < _FOUND or not added:
        return None
    sources = {**events.head.sources, **dict.fromkeys(added, table)}
    head = replace(events.head, columns={**events.head.columns, **added}, sources=sources)
    named = NamedTable(
        table,
        key.name,
        ids.name,
        tuple(added),
        found,
        left_out=left_out,
        valid=valid,
        several=several,
    )
    return replace(events, shape=replace(events.shape, head=head)), named


def _values(column: Column, periods: Periods, stretches: Stretches | None) -> pa.Array:
    """Return the values that hold in each period, lists of them where several rows do."""
    if stretches is None:
        return column.values.take(pa.array(periods.row))
    return gathered(as_text(column.values).take(pa.array(stretches.rows)), stretches.bounds)


def _begin_together(table: Head, key: Column, valid: Sequence[str], periods: Periods) -> bool:
    """True if rows of an id that begin together differ in a category, and do not stand there twice."""
    names = [key.name, *valid, *(c.name for c in table.columns.values() if c is not key and is_category(c))]
    names = [name for name in names if not pa.types.is_nested(table.columns[name].values.type)]
    rows = pa.table({name: table.columns[name].values for name in names})
    return len(periods.row) < _APART * len(rows.group_by(names).aggregate([]))


def _may_hold_together(table: Head, key: Column, valid: Sequence[str]) -> bool:
    """True for a table of categories that says from when and up to when one holds, as visits do not."""
    rest = [c for c in table.columns.values() if c.name not in (key.name, *valid)]
    told = [c for c in rest if not OutcomeName(c.plain).matches(_CURRENT) and c.distinct > 1]
    said = len(valid) == _BOTH and OutcomeName(table.columns[valid[0]].plain).matches(_SURE_BEGIN)
    return said and all(map(is_category, told))


def _codes(column: Column, known: pa.Array) -> Ints:
    """Return (N,) places of ids among those that a table has, -1 for others."""
    return np.asarray(pc.index_in(column.ids, value_set=known).fill_null(-1), np.int64)


def _valid(table: Head) -> tuple[str, ...]:
    """Name the columns with the moments from and up to which rows hold; empty if none is called so."""
    names = {name: OutcomeName(column.plain) for name, column in table.columns.items()}
    moments = {name: said for name, said in names.items() if table.columns[name].unit}
    sure = [name for name, said in moments.items() if said.matches(_SURE_BEGIN)]
    begins = sure or [name for name, said in moments.items() if said.matches(_BEGIN)]
    ends = [name for name, said in names.items() if said.matches(_END)]
    if not begins or not (sure or ends):
        return _changes(table, moments)
    return (begins[0], *ends[:1])


def _changes(table: Head, moments: Mapping[str, OutcomeName]) -> tuple[str, ...]:
    """Name the moment of each row of a table of changes; empty for other tables.

    What is known of a day may have come later on it, so days tell no order.
    """
    if len(moments) != 1 or not all(said.matches(_CHANGED) for said in moments.values()):
        return ()
    columns = list(table.columns.values())
    if find_id(columns, "user") is not None and find_id(columns, "item") is not None:
        return ()  # what users did
    (name,) = moments
    times = Clock(table.columns[name].unit, "")(table.columns[name].values, 0)  # type: ignore[arg-type]
    return (name,) if (times % _DAY).any() else ()


def _lie_apart(periods: Periods) -> bool:
    """True if nearly all versions of an id end before its next one begins, as events of a user do not."""
    same = periods.place[1:] == periods.place[:-1]
    before = periods.ends[:-1] <= periods.begins[1:]
    lasts = periods.ends[:-1] >= NEVER
    return bool(same.any() and (before | lasts)[same].mean() >= _APART)


def _unfit(column: Column) -> str:
    """Return why a column of versions is no attribute; empty if it may be one."""
    if OutcomeName(column.plain).matches(_CURRENT):
        return "it tells at any time which version is the last one"
    if column.unit or column.is_date:
        return "another time"
    return useless(column) or totals_outcomes(column)


def why_unused(head: Head, events: Events) -> str:
    """Say why nothing reads a table, and what may be done."""
    columns = list(head.columns.values())
    user, item = find_id(columns, "user"), find_id(columns, "item")
    if user is not None and item is not None and find_time(columns) is not None:
        return "It has events of its own; files of [behaviors] takes such a table"
    kinds: tuple[Kind, ...] = ("item", "user")
    for kind in kinds:
        ids = events.joining(kind)
        key = None if ids is None else key_of(head, kind, ids)
        if ids is None or key is None or pa.types.is_nested(key.values.type) or not ids.ids_among(key):
            continue
        if has_several_rows(key) and (time := find_time(columns)) is not None:
            return (
                f"It has several rows for each {key.name!r} and moments such as {time.name!r}, so an "
                "impression might see what came later; [[joined]] with valid_from takes versions by hand"
            )
        return "What it has is of another table already, or no feature"
    return "None of its columns names users, items or rows of another table"
