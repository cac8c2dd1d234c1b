"""Guess of the TOML that describes a log: a commented first draft from samples of its tables.

Every decision carries its reason as a comment. Some decisions will be wrong, so read the draft before you use
it. A log in one plain CSV needs no change.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import build
from clickscale.data.described.drafts.computed.derived_lines import Derivations
from clickscale.data.described.drafts.computed.made_columns import with_flag_groups, with_url_parts
from clickscale.data.described.drafts.computed.nearness import nearly_determines
from clickscale.data.described.drafts.computed.statistic_lines import (
    Sample,
    Sampled,
    sampled,
    statistic_lines,
)
from clickscale.data.described.drafts.event_tables import no_events, useless
from clickscale.data.described.drafts.files.file_groups import read_tables
from clickscale.data.described.drafts.joined.attribute_tables import find_attributes
from clickscale.data.described.drafts.joined.dated_tables import why_unused
from clickscale.data.described.drafts.joined.joined_ids import with_joined_ids
from clickscale.data.described.drafts.joined.log_tables import LogTables, find_tables
from clickscale.data.described.drafts.joined.more_tables import attributes_of, has_several_rows, key_of
from clickscale.data.described.drafts.joined.named_tables import NamedTable
from clickscale.data.described.drafts.labels.consequences import came_later
from clickscale.data.described.drafts.labels.label_lines import delays_of, label_lines, late_outcomes
from clickscale.data.described.drafts.labels.label_search import with_unknown_labels
from clickscale.data.described.drafts.libraries.library_draft import declared_log, library_draft
from clickscale.data.described.drafts.lists.object_lists import with_words_of_objects
from clickscale.data.described.drafts.roles.column_names import FEEDBACK, is_action, is_afterwards, named
from clickscale.data.described.drafts.roles.column_values import follows_order, numbers_or_none
from clickscale.data.described.drafts.roles.id_columns import guests_of, shared_id
from clickscale.data.described.drafts.roles.moments import is_moment_of
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shape_lines import list_lines, order_lines, split_lines
from clickscale.data.described.drafts.shapes import user_history
from clickscale.data.described.drafts.suspects import (
    moves_on,
    tells_whether,
    totals_outcomes,
    written_after,
    written_with,
    written_with_purchases,
)
from clickscale.data.described.drafts.toml_lines import (
    field_options,
    file_lines,
    identifier,
    quoted,
    remark,
    time_lines,
)
from clickscale.data.described.log_config import CANONICAL, LogConfig
from clickscale.data.described.log_schema import log_schema
from clickscale.data.described.rows import ORDER, as_text
from clickscale.data.features.texts import whole_texts
from clickscale.errors import ConfigError, InputError, unknown
from clickscale.schema import HOUR

Kind = Literal["user", "item"]


def guess(
    tables: Sequence[Path],
    base: Path | None = None,
    keep: Collection[str] = (),
    dataset: str = "",
    labels: Collection[str] = (),
) -> str:
    """TOML text for `clickscale.data.described.log`.

    Args:
        tables: the tables of one log in any order, of which one holds user, item and time; or the folder or
            the configuration of a log that was prepared for another library.
        base: folder in which the TOML will lie; the current one if None. Paths are written relative to it.
        keep: columns that are features whatever `clickscale.data.described.drafts.suspects` says of them.
        dataset: the data set to take of a configuration that declares several.
        labels: columns with outcomes, whatever their names and values tell.

    Raises:
        ConfigError: a configuration is wrong, or ``keep`` or ``dataset`` means nothing here.
        InputError: a table cannot be read, no table has columns for user, item and time, no table has a
            column of ``keep`` or ``labels``, or one of ``labels`` has no two outcomes.
    """
    declared = declared_log(tables, dataset)
    if declared is not None and (named_so := [*keep, *labels]):
        raise ConfigError(f"{declared.config} declares its columns itself; name {', '.join(named_so)} there.")
    if declared is not None:
        return _checked(library_draft(declared, base or Path.cwd()))
    if dataset:
        raise ConfigError(f"Data set {dataset!r}: no configuration among the tables declares any.")
    read = read_tables(tables)
    heads = [with_unknown_labels(head) for head in read.heads]
    known = [name for head in heads for name in head.columns]
    for name in (*keep, *labels):
        if name not in known:
            what = "to keep" if name in keep else "for the label"
            raise InputError(f"No table has a column {what}: " + unknown("column", name, known))
    found = find_tables(with_joined_ids([head.labeled(labels) for head in heads]), read.parts)
    if found is None:
        raise InputError(no_events(heads))
    draft = _Draft(found, base or Path.cwd(), keep)
    unread = (f"\n# Not used: {remark(name)} (no table). {why}." for name, why in read.unread.items())
    return _checked("\n".join([*draft.lines(), *unread]) + "\n")


def _checked(text: str) -> str:
    """Return the text of a draft that describes a log without contradictions."""
    log_schema(build(LogConfig, tomllib.loads(text), "the guessed draft"), 0)
    return text


def _left_out(reasons: Mapping[str, str]) -> Iterator[str]:
    """Name the columns of which no field is made."""
    yield from (f"# left out: {remark(name)} ({remark(why)})" for name, why in reasons.items() if why)


class _Draft:
    """Writes the TOML, table by table, and keeps field names distinct."""

    def __init__(self, tables: LogTables, base: Path, keep: Collection[str]) -> None:
        events = self.events = tables.events[0]
        timed = [table for table in tables.events[1:] if table.time is not None]
        behaviors = self.behaviors = timed[0] if timed else None
        self.tables, self.base = tables, base
        self.shape = events.shape
        self.taken = {"user", "item", *CANONICAL}
        self.categories: dict[str, Column] = {}  # categorical fields of items by name
        self.sampled: list[Sampled] = []  # categorical fields beside the impressions
        self.derived = Derivations(events.truth, None if self.shape.order else events.time, events.user)
        self.feedback = [column for column, _, _ in events.labels]
        others = [head for head in tables.others if not behaviors or head is not behaviors.head]
        self.history, self.past, described = self._history(others)
        others = [with_words_of_objects(head) for head in others if head is not described]
        found = find_attributes(events, others, keep)
        self.items, self.users, self.more, self.unused = found.items, found.users, found.more, found.unused
        self.named = found.named
        sources = [pair for table in self.named for pair in table.sources.items()]
        self.keep = {*keep, *(name for name, source in sources if source in keep)}
        self.events, self.shape = found.events, found.events.shape
        self.delays = delays_of(found.events, tables.outcomes)
        self.used: set[str] = set()  # columns of tables that fields read

    def _history(self, heads: list[Head]) -> tuple[list[str], list[Column], Head | None]:
        """Describe the lists of earlier behaviors, in the impressions or in a table of their own."""
        if self.shape.history or self.events.user is None or self.events.item is None:
            return list(self.shape.history), list(self.shape.past), None
        for head in heads:
            lines, past = user_history(head, self.events.item.known, self.events.user.known)
            if lines:
                return [*file_lines(head, self.base), *lines], past, head
        return [], [], None

    def _wanted(self, kind: Kind) -> Column | None:
        return self.events.joining(kind)

    def _key(self, head: Head, kind: Kind) -> Column | None:
        return key_of(head, kind, self._wanted(kind))

    def lines(self) -> Iterator[str]:
        """Yield the lines of the draft."""
        events = self.events
        yield "# A first draft, guessed from samples of the tables. Correct what is wrong."
        file = events.head.path.name.split(".")[0].rstrip("*-_")
        yield f"name = {quoted(identifier(file).replace('_', '-'))}"
        ids: tuple[tuple[Kind, Column | None], ...] = (("user", events.user), ("item", events.item))
        for role, column in ids:
            if column is not None:
                yield from self._id_lines(role, column)
            else:
                yield f"# No column names the {role}. If one holds it: {role} = {quoted('COLUMN')}"
        if events.is_by_position and events.head.named:
            yield "# WARNING: no name tells the user and the item, so the first two ids are taken for them."
        yield from label_lines(events, self.tables.outcomes, self.delays)
        for table in self.tables.outcomes:
            yield from table.lines(self.base)
        for requests in self.tables.requests:
            yield from requests.lines(self.base)
        body = list(self._body())
        named = self._read_tables()
        for joined in named:
            yield from joined.lines(self.base)
        yield from body
        used = [joined.head.path for joined in named]
        used += [head.path for head in (self.items, self.users) if head is not None]
        spent = {joined.head.path: joined.head for joined in self.named if joined.head.path not in used}
        for head in (*self.unused, *spent.values()):
            told = f"{remark(head.path.name)} ({remark(', '.join(head.columns))})"
            yield f"\n# Not used: {told}. {remark(why_unused(head, events))}."

    def _body(self) -> Iterator[str]:
        """Yield the tables with fields, and what is made of these."""
        events = self.events
        yield from self._impression_lines()
        if events.user is not None:
            yield from self._behavior_lines()
        if self.history:
            yield "\n[history]  # lists of what happened before; each event counts once"
            yield from self.history
            yield from self._fields([(column, "one value for each item") for column in self.past], "past_")
        yield from self._table_lines("items", "item", self.items)
        yield from self._more_lines("items", "item")
        yield from self._table_lines("users", "user", self.users)
        yield from self._more_lines("users", "user")
        has = {"user": events.user is not None, "item": events.item is not None}
        yield from self.derived.lines(self._free)
        ordered = bool(self.shape.order)
        keys_hour = HOUR not in self.taken and not ordered
        sample = Sample.of(self.sampled, events, keys_hour=keys_hour)
        yield from statistic_lines(self.categories, has, ordered, self._free, sample, not events.labels)
        yield from split_lines(self.shape, events.user)

    def _read_tables(self) -> list[NamedTable]:
        """List the named tables of which fields are read, and those by which these are found."""
        needed, read = set(self.used), []
        for table in reversed(self.named):
            if needed & set(table.added):
                needed.add(table.shown_key)
                read.append(table)
        return read[::-1]

    def _id_lines(self, role: Kind, column: Column) -> Iterator[str]:
        """Yield the line of an id, with a warning if one value seems to stand for all that are unknown."""
        yield f"{role} = {self._id(role, column)}  # {self._why(role)}"
        if role == "item":
            yield from self.events.other_item()
        value, share = shared_id(column)
        if share and not (role == "user" and guests_of(column)):
            yield f"# WARNING: {share:.0%} of the rows have the {role} {remark(str(value))}. If it stands for"
            yield "# all that are unknown, they share one history and one rate: give each an id of its own."

    def _why(self, role: str) -> str:
        if role == "user" and self.events.is_item_by_values:
            return "by its name"
        if role == "item" or not (self.shape.composite or self.shape.listed):
            return self.events.why
        if self.shape.composite:
            return "these columns together"
        return "by its name" if self.events.head.named else "by its position"

    def _id(self, name: str, column: Column) -> str:
        if name == "user" and self.shape.composite:
            return f"{{ name = {quoted(name)}, column = [{', '.join(map(quoted, self.shape.composite))}] }}"
        table = self.items if name == "item" else self.users
        key = self._key(table, "item" if name == "item" else "user") if table else None
        # Values out of lists are judged by the sample.
        whole = column.is_id if self.shape.listed else self.events.head.holds_integers(column.name)
        whole = whole and (table is None or key is None or table.holds_integers(key.name))
        whole = whole and not (name == "user" and self._guests())
        dtype = ', dtype = "int"' if whole else ""
        return f"{{ name = {quoted(name)}, column = {quoted(column.name)}{dtype} }}"

    def _guests(self) -> list[str]:
        """List the values of the user column that stand for visitors without an id."""
        user = self.events.user
        return [] if user is None or self.shape.composite else guests_of(user)

    def _impression_lines(self) -> Iterator[str]:
        events = self.events
        why = (
            "the largest table of events that has a label" if events.labels else "the largest table of events"
        )
        yield f"\n[impressions]  # {why}" if self.behaviors else "\n[impressions]"
        yield from file_lines(events.head, self.base, self.shape.parts)
        if self.shape.where[0]:
            where, told = self.shape.where
            yield f"where = {quoted(where)}  # {told}"
        if self.shape.order:
            # The rows of a user may stand together, and a user's outcomes are alike.
            judged = events.user is None and not self.shape.holds_requests
            columns = events.head.columns.values()
            yield from order_lines(self.shape.order, columns, events.truth if judged else None)
        elif events.time is not None:
            of_requests = any(name in events.head.sources for name in events.ids)
            yield from time_lines(events.time, events.shares_moments and not of_requests)
        if guests := self._guests():
            yield f"guests = [{', '.join(map(quoted, guests))}]  # rows of these are users of their own"
        sides = self._sides()
        yield from self._fields([(c, why) for c, side, why in sides if side == "context"])
        self._embedded = {
            "items": [(c, why) for c, side, why in sides if side == "item"],
            "users": [(c, why) for c, side, why in sides if side == "profile"],
        }
        yield from _left_out({column.name: why for column, side, why in sides if side == ""})
        if any(side == "" and "outcome" in why for _, side, why in sides):
            yield "# To use one that is known before the outcome, guess again with --keep COLUMN."
        yield from _left_out(events.head.left_out)
        if self.shape.listed:
            yield from list_lines(self.shape.listed, self.shape.doubt)

    def _sides(self) -> list[tuple[Column, str, str]]:
        """List the other columns of the impressions with their side ('' if left out) and the reason."""
        events = self.events
        labels = {column.name for column in self.feedback}
        made = {ORDER, self.shape.part if self.shape.part else ORDER}
        rest = [c for c in events.head.columns.values() if c.name not in events.ids | labels | made]
        asked = self.derived.moments_ahead([c for c in rest if c.name not in self.keep])
        self.ahead = {column.name: told for column, told in asked if not events.tells_label(column)}
        self.later = came_later([c for c in rest if c.name not in self.ahead], events.time)
        return [(column, *self._side(column)) for column in rest]

    def _side(self, column: Column) -> tuple[str, str]:
        events = self.events
        side, why = side_of(column, events.user, events.item)
        if column.name in self.keep:
            return self._apart(side, why)
        if column.name in self.ahead:
            told = self._apart(side, "it lies ahead and was asked for")
            return (
                told
                if self.ahead[column.name]
                else ("", "it lies ahead, and the time until then tells nothing")
            )
        if side == "context" and (later := self.later.get(column.name)):
            self.feedback.append(column)
            return "", f"{later}; an attribute of behaviors"
        if later := written_after(column, events.head.columns.values(), side == "context"):
            return "", later
        reason = useless(column) or self.shape.left_out.get(column.name, "")
        if column.unit and not is_moment_of(column, events.user, events.item, events.time):
            reason = "another time"
        if reason and not is_afterwards(column):
            return "", reason
        if is_action(column) or is_afterwards(column) or (column.is_flag and named([column], FEEDBACK)):
            self.feedback.append(column)
            return "", "it is known only after the impression, so it is an attribute of behaviors"
        if column.name in events.head.sources and (total := totals_outcomes(column)):
            return "", total
        if with_it := written_with(column, side == "context") or events.tells_label(column):
            self.feedback.append(column)
            return "", f"{with_it}; an attribute of behaviors"
        if not events.labels and events.item is not None and side != "profile":
            return self._beside_draws(column, events.item, side, why)
        return self._apart(side, why)

    def _apart(self, side: str, why: str) -> tuple[str, str]:
        """Return the context as the side of attributes that have a table of their own."""
        separate = (side == "item" and self.items) or (side == "profile" and self.users)
        return ("context", "it is in the impressions") if separate else (side, why)

    def _beside_draws(self, column: Column, item: Column, side: str, why: str) -> tuple[str, str]:
        """Choose the side of a column that drawn negatives would copy from their positive."""
        if side == "context" and nearly_determines(item, column):
            side, why = "item", f"the values of one {item.name!r} are nearly alike"
        if side == "item" and not self.items:
            return side, why
        told = written_with_purchases(column)
        if side == "item":
            told = f"{remark(why)}, and a drawn negative would have that of its positive"
        if told:
            self.feedback.append(column)
            return "", f"{told}; an attribute of behaviors"
        return side, why

    def _behavior_lines(self) -> Iterator[str]:
        yield "\n[behaviors]"
        if self.behaviors is not None and self.behaviors.time is not None:
            yield from file_lines(self.behaviors.head, self.base)
            yield from self._key_line("user", self.behaviors.user, self.events.user)
            yield from self._key_line("item", self.behaviors.item, self.events.item)
            yield from time_lines(self.behaviors.time)
            never = {*self.behaviors.ids, *self.behaviors.shape.left_out}
            rest = [c for name, c in self.behaviors.head.columns.items() if name not in never]
            yield from self._fields([(c, "") for c in rest if not c.unit and not useless(c)], "past_")
            yield from _left_out(self.behaviors.head.left_out)
            return
        yield "# No files: the impressions themselves, each visible only to later ones of the same user."
        feedback = self.feedback
        if self.shape.holds_requests:
            column, _, _ = self.events.labels[0]
            yield f"where = {quoted(f'{column.name} == 1')}  # of a request, only what was chosen"
            feedback = [other for other in feedback if other.name != column.name]
        elif self.events.labels:
            column, condition, _ = self.events.labels[0]
            yield f"# where = {quoted(condition or f'{column.name} == 1')}  # to show only the positive ones"
        late = late_outcomes(self.events, self.delays)
        yield from _left_out(late)
        yield "# known_after = 0  # seconds until an event may be shown; it waits for outcomes in its fields"
        yield from self._fields([(column, "") for column in feedback if column.name not in late], "past_")

    def _key_line(self, key: str, column: Column | None, usual: Column | None) -> Iterator[str]:
        if column is not None and (usual is None or column.name != usual.name):
            yield f"{key} = {quoted(column.name)}"

    def _table_lines(self, name: str, kind: Kind, head: Head | None) -> Iterator[str]:
        if head is None:
            fields = self._embedded[name]
            if fields:
                yield f"\n[{name}]  # no files: columns of the impressions, the first row of each {kind}"
                yield from self._fields(fields, kind=kind)
            return
        yield f"\n[{name}]  # one row per {kind}"
        yield from file_lines(head, self.base)
        key = self._key(head, kind)
        assert key is not None, "a table of attributes was chosen for its key"
        yield from self._key_line(kind, key, self.events.user if kind == "user" else self.events.item)
        rest = [column for column in head.columns.values() if column.name != key.name]
        shown = self._shown_rows(key, kind)
        reasons = {
            column.name: useless(column)
            or totals_outcomes(column)
            or moves_on(column, self.events.time, shown)
            for column in rest
            if column.name not in self.keep
        }
        later = [c for c in rest if reasons.get(c.name) and moves_on(c, self.events.time, shown)]
        reasons = {name: why or tells_whether(head.columns[name], later) for name, why in reasons.items()}
        kept = [(column, "") for column in rest if not reasons.get(column.name)]
        yield from self._fields(kept, kind=kind, rows=shown)
        yield from _left_out({**reasons, **head.left_out})

    def _more_lines(self, name: str, kind: Kind) -> Iterator[str]:
        for head, key in self.more[kind]:
            several = has_several_rows(key)
            yield f"\n[[{name}.more]]  # {'several rows' if several else 'one row'} per {kind}"
            yield from file_lines(head, self.base)
            yield from self._key_line("key", key, self._wanted(kind))
            attributes = [(column, "") for column in attributes_of(head, key)]
            # Attributes that were collected from several rows have rows of their own.
            shown = np.zeros(0, np.int64) if several else self._shown_rows(key, kind)
            yield from self._fields(attributes, kind=kind, rows=shown)

    def _fields(
        self,
        columns: list[tuple[Column, str]],
        prefix: str = "",
        kind: Kind | None = None,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> Iterator[str]:
        """Yield the lines of fields.

        Args:
            rows: (N,) row of the columns beside each row of the impressions, -1 for none; None if they are
                columns of the impressions.
        """
        if not columns:
            return
        yield "fields = ["
        for column, side in with_url_parts(with_flag_groups(columns) if kind else columns):
            nameless = self.events.user is None and self.events.item is None
            options, why = field_options(column, nameless, self._is_ordered(column, rows), kind == "user")
            wanted = identifier(column.name)
            name = self._free(wanted if not prefix or wanted.startswith(prefix) else prefix + wanted)
            raw = column.made_of or column.name
            self.used |= {raw, *column.parts}
            source = f", column = {quoted(raw)}" if name != raw and not column.parts else ""
            if kind == "item" and "kind" not in options:
                self.categories[name] = column
            if not prefix:
                options = self.derived.take(name, kind, column, rows, options)
            # Attributes of behaviors are no keys of statistics.
            shown = self.events.head.columns.get(raw)
            there = rows is not None or (not prefix and shown is not None and (shown is column or column.url))
            if "kind" not in options and there and (beside := sampled(name, kind, column, rows)) is not None:
                self.sampled.append(beside)
            yield f"  {{ name = {quoted(name)}{source}{options} }},  # {'; '.join(filter(None, (why, side)))}"
        yield "]"

    def _shown_rows(self, key: Column, kind: Kind) -> npt.NDArray[np.int64]:
        """Return (N,) row of a table of attributes for each row of the impressions, -1 for none."""
        ids = self.events.user if kind == "user" else self.events.item
        if ids is None or pa.types.is_nested(ids.values.type):
            return np.full(0, -1, np.int64)
        shown, known = (whole_texts(as_text(each.values)) for each in (ids, key))
        return np.asarray(pc.index_in(shown, known).fill_null(-1), np.int64)

    def _is_ordered(self, column: Column, rows: npt.NDArray[np.int64] | None) -> bool:
        """True if the outcomes of a column's values follow their order; see `_fields`."""
        values = numbers_or_none(column)
        label = self.events.truth
        if values is None or label is None or self.shape.listed:
            return False
        if rows is not None:
            values, label = values[rows[rows >= 0]], label[: len(rows)][rows >= 0]
        elif self.events.head.columns.get(column.name) is not column:
            return False  # of another table of events
        return follows_order(column, values, label)

    def _free(self, name: str) -> str:
        """Return the name, or the first of name_2, name_3, ... that is free."""
        number = 1
        free = name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free
