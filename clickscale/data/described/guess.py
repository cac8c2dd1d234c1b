"""Guess of the TOML that describes a log: a commented first draft from the heads of its tables.

Every decision carries its reason as a comment. Some decisions will be wrong, so read the draft before you use
it. A log in one plain CSV needs no change.
"""

import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import build
from clickscale.data.described.file_parts import part_files
from clickscale.data.described.log_config import CANONICAL, LogConfig, log_schema
from clickscale.data.described.roles import (
    CLICKS,
    FEEDBACK,
    ITEMS,
    RATINGS,
    USERS,
    find_id,
    find_time,
    is_action,
    is_afterwards,
    is_free_text,
    is_quantity,
    looks_rated,
    mentions,
    named,
    numbers_or_none,
    plain_name,
    separation,
    side_of,
)
from clickscale.data.described.rows import ORDER
from clickscale.data.described.samples import Column, Head, read_head
from clickscale.data.described.shape_lines import list_lines, split_lines
from clickscale.data.described.shapes import Shape, find_shape, user_history
from clickscale.data.described.statistic_lines import statistic_lines
from clickscale.data.described.suspects import tells_outcome, totals_outcomes, written_after, written_with
from clickscale.data.described.toml_lines import field_options, file_lines, identifier, quoted, time_lines
from clickscale.errors import InputError, unknown

Kind = Literal["user", "item"]
_NEGATIVES = 4
_FEW_COLUMNS = 4  # of a table without times, whose first two may be user and item
_STEPS = 20  # positives that must all have a flag before it is treated as a step before the label
_TELLTALE = 0.95  # AUC of one column for the label above which the column is treated as feedback

_ORDERS = {
    "rows": "no column has the time, so later rows are taken to be later",
    "lists": "no column has the time; the items of a user stand in order",
}

_WARNING = """\
# WARNING: no column says which rows are positive. So every row counts as a positive, and for each of them
# that many items which existed at its time are drawn as negatives. Figures on such negatives are not
# comparable with figures on negatives that users saw. If a column has the outcome, name it instead, as one of
#   labels = [{ name = "click", column = "clicked" }]
#   labels = [{ name = "like", condition = "rating >= 4" }]"""


@dataclass
class _Events:
    """A table of events with its columns of user, item and time, those that it has."""

    shape: Shape
    user: Column | None
    item: Column | None
    time: Column | None
    why: str
    labels: list[tuple[Column, str, str]] = field(default_factory=list)  # column, condition, why

    @property
    def head(self) -> Head:
        return self.shape.head

    @property
    def ids(self) -> set[str]:
        return {column.name for column in (self.user, self.item, self.time) if column is not None}

    @property
    def rank(self) -> tuple[bool, ...]:
        """How much of an event the table tells: user and item, then a time, then a label."""
        return self.user is not None and self.item is not None, not self.shape.order, bool(self.labels)


def guess(tables: Sequence[Path], base: Path | None = None, keep: Collection[str] = ()) -> str:
    """TOML text for `clickscale.data.described.log`.

    Args:
        tables: the tables of one log in any order; one of them holds user, item and time.
        base: folder in which the TOML will lie; the current one if None. Paths are written relative to it.
        keep: columns that are features whatever `clickscale.data.described.suspects` says of them.

    Raises:
        InputError: a table cannot be read, no table has columns for user, item and time, or no table has
            a column of ``keep``.
    """
    heads, parts = part_files([read_head(path) for path in tables])
    shapes = [find_shape(head, [other for other in heads if other is not head]) for head in heads]
    shapes = [replace(shape, parts=parts.get(shape.head.path, {})) for shape in shapes]
    events = [table for shape in shapes if (table := _events(shape)) is not None]
    if not events:
        raise InputError(_nothing_found(heads))
    events.sort(key=lambda table: (table.rank, table.head.path.stat().st_size), reverse=True)
    events = [table for table in events if table.rank[:2] == events[0].rank[:2]]
    known = [name for head in heads for name in head.columns]
    for name in keep:
        if name not in known:
            raise InputError("No table has a column to keep: " + unknown("column", name, known))
    others = [shape.head for shape in shapes]
    draft = _Draft(events[0], events[1] if len(events) > 1 else None, others, base or Path.cwd(), keep)
    text = "\n".join(draft.lines()) + "\n"
    log_schema(build(LogConfig, tomllib.loads(text), "the guessed draft"), 0)
    return text


def _nothing_found(heads: Sequence[Head]) -> str:
    tables = "; ".join(f"{head.path.name} has {', '.join(head.columns)}" for head in heads)
    return (
        f"No table has columns for user, item and time together: {tables}. Without a user or an item, a log "
        "needs a label. If the columns are there under other names, describe the log by hand; for public "
        "logs, see: clickscale data list."
    )


def _events(shape: Shape) -> _Events | None:
    """Return the table as one of events, if it has a user and an item, or a label."""
    head = shape.head
    columns = [column for column in head.columns.values() if column.name not in shape.left_out]
    time = shape.time or find_time(columns)
    user, item, why = _user_and_item(shape, columns, time)
    both = user is not None and item is not None
    described = [column for column in (user, item) if column is not None and not _comes_back(column)]
    if not both:  # a column with one row for each id is the key of a table of attributes
        user, item = (None if column in described else column for column in (user, item))
    labels = list(shape.labels) or list(
        _labels([c for c in columns if c not in (time, user, item)], head.named or user is None)
    )
    if not labels and user is None and item is None and not head.named:
        labels = [(flag, "", "a column of 0 and 1 at the edge of the table") for flag in _edges(columns)[:1]]
    if not both and not labels:
        return None
    telling = bool(labels) and named([labels[0][0]], CLICKS) is not None
    if item is None and not telling and (described or labels[0][0] not in _edges(columns)):
        return None
    if time is None and both and len(described) == 2:
        return None
    if time is None and not shape.order:
        shape = replace(shape, order="rows")
    return _Events(shape, user, item, time, why, labels)


def _user_and_item(
    shape: Shape, columns: list[Column], time: Column | None
) -> tuple[Column | None, Column | None, str]:
    """Find the ids by their shape, names or positions, and return them with the reason."""
    every = list(shape.head.columns.values())
    user, item = shape.user or find_id(every, "user"), shape.item or find_id(every, "item")
    why = "by its name" if shape.item is None else "its lists hold items"
    ids = [column for column in columns if column is not time and _may_be_id(column)]
    if shape.item is not None and user is None and not shape.head.named:
        user = next((column for column in ids if column is not item), None)
    elif user is None and item is None and (time is not None or _begins_with_ids(columns)):
        user, item, *_ = (*ids, None, None)
        why = "by its position, since no name helps: the user is often before the item"
    return (None if user is item else user), item, why


def _begins_with_ids(columns: Sequence[Column]) -> bool:
    """True for a table without times that has little else than two ids in front."""
    return len(columns) <= _FEW_COLUMNS and len(columns) > 1 and all(map(_may_be_id, columns[:2]))


def _comes_back(key: Column) -> bool:
    """True if ids repeat, as in a table of events and not in one of attributes."""
    return key.distinct < 0.9 * len(key.values)


def _edges(columns: Sequence[Column]) -> list[Column]:
    """Return the first and the last column, those that hold 0 and 1."""
    return [column for column in (columns[0], columns[-1]) if column.is_flag]


def _may_be_id(column: Column) -> bool:
    several = column.distinct > 20 or plain_name(column.name).endswith("id")
    return (
        several and not column.unit and (column.is_id or (column.floats is None and not is_free_text(column)))
    )


def _labels(columns: list[Column], are_named: bool) -> Iterator[tuple[Column, str, str]]:
    """Yield the columns that separate positives from negatives, the best first."""
    flags = [column for column in columns if column.is_flag]
    chosen = [c for names in (CLICKS, FEEDBACK) for name in names if (c := named(flags, [name])) is not None]
    for column in chosen:
        yield column, "", "its name and its two values"
    rating = named(columns, RATINGS) or next((c for c in columns if not are_named and looks_rated(c)), None)
    if not chosen and rating is not None and rating.floats is not None and 2 < rating.distinct <= 20:
        high = 4.0 if (most := pc.max(rating.floats).as_py()) <= 5 else float(np.ceil(0.8 * most))
        yield rating, f"{rating.name} >= {high:g}", f"ratings go up to {most:g}"
    elif not chosen and len(flags) == 1 and not is_afterwards(flags[0]):
        yield flags[0], "", "the only column with the values 0 and 1"


def _useless(column: Column) -> str:
    """Return the reason why a column cannot be a feature, or an empty text."""
    if column.distinct < 2:
        return "it has one value"
    if is_free_text(column):
        return "free text"
    unique = column.distinct == len(column.values) > 20 and not column.unit and not column.separator
    names = column.floats is None and pa.types.is_string(column.values.type)
    return (
        "it differs in every row" if unique and (names or (column.is_id and not is_quantity(column))) else ""
    )


def _truth(column: Column) -> npt.NDArray[np.float64]:
    """Return (N,) numbers of a column of numbers or of true and false."""
    numbers = numbers_or_none(column)
    if numbers is None:
        numbers = np.array([str(value).lower() == "true" for value in column.values.to_pylist()], float)
    return numbers


def _precedes(flag: Column, label: npt.NDArray[np.float64]) -> bool:
    """True if a rare flag is set in all positives: an earlier step, as click is before like."""
    step, positive = _truth(flag) == 1, label == 1
    return int(positive.sum()) >= _STEPS and bool(step[positive].all()) and step.mean() < 0.5


class _Draft:
    """Writes the TOML, table by table, and keeps field names distinct."""

    def __init__(
        self,
        events: _Events,
        behaviors: _Events | None,
        heads: Sequence[Head],
        base: Path,
        keep: Collection[str],
    ) -> None:
        self.events, self.behaviors, self.base, self.keep = events, behaviors, base, keep
        self.shape = events.shape
        self.taken = {"user", "item", *CANONICAL}
        self.categories: dict[str, Column] = {}  # categorical fields of items by name
        others = [
            head
            for head in heads
            if head is not events.head and (not behaviors or head is not behaviors.head)
        ]
        self.history, self.past, described = self._history(others)
        others = [head for head in others if head is not described]
        self.items = self._attribute_table(others, "item")
        self.users = self._attribute_table([head for head in others if head is not self.items], "user")
        self.unused = [head for head in others if head not in (self.items, self.users)]
        self.feedback = [column for column, _, _ in events.labels]

    def _history(self, heads: list[Head]) -> tuple[list[str], list[Column], Head | None]:
        """Describe the lists of earlier behaviors, in the impressions or in a table of their own."""
        if self.shape.history or self.events.user is None or self.events.item is None:
            return list(self.shape.history), list(self.shape.past), None
        for head in heads:
            lines, past = user_history(head, self.events.item.known)
            if lines:
                return [*file_lines(head, self.base), *lines], past, head
        return [], [], None

    def _attribute_table(self, heads: list[Head], kind: Kind) -> Head | None:
        """Find the table with one row per item or user."""
        scored = [(self._likeness(head, kind), index, head) for index, head in enumerate(heads)]
        best = max(scored, key=lambda entry: (entry[0], -entry[1]), default=(0, 0, None))
        other: Kind = "user" if kind == "item" else "item"
        return best[2] if best[0] > 0 and best[2] and best[0] >= self._likeness(best[2], other) else None

    def _likeness(self, head: Head, kind: Kind) -> int:
        key, wanted = self._key(head, kind), self._wanted(kind)
        if key is None or wanted is None or key.distinct < 0.99 * head.rows:
            return 0
        hint = mentions(head.path.stem, kind)
        return 1 + 2 * (key.name == wanted.name) + 2 * hint + (plain_name(key.name) != "id")

    def _wanted(self, kind: Kind) -> Column | None:
        if kind == "user":
            return None if self.shape.composite else self.events.user
        return self.events.item

    def _key(self, head: Head, kind: Kind) -> Column | None:
        """Find the column by which a table joins; in a table without names, the first one."""
        columns = list(head.columns.values())
        if not head.named:
            return columns[0]
        wanted = self._wanted(kind)
        names = (plain_name(wanted.name if wanted else ""), *(USERS if kind == "user" else ITEMS), "id")
        return named(columns, names)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the draft."""
        events = self.events
        yield "# A first draft, guessed from the heads of the tables. Correct what is wrong."
        yield f"name = {quoted(identifier(events.head.path.name.split('.')[0]).replace('_', '-'))}"
        for role, column in (("user", events.user), ("item", events.item)):
            if column is not None:
                yield f"{role} = {self._id(role, column)}  # {self._why(role)}"
            else:
                yield f"# No column names the {role}."
        yield from self._label_lines()
        yield from self._impression_lines()
        if events.user is not None:
            yield from self._behavior_lines()
        if self.history:
            yield "\n[history]  # lists of what happened before; each event counts once"
            yield from self.history
            yield from self._fields([(column, "one value for each item") for column in self.past], "past_")
        yield from self._table_lines("items", "item", self.items)
        yield from self._table_lines("users", "user", self.users)
        has = {"user": events.user is not None, "item": events.item is not None}
        yield from statistic_lines(self.categories, has, bool(self.shape.order), self._free)
        yield from split_lines(self.shape, events.user)
        for head in self.unused:
            yield f"\n# Not used: {head.path.name} ({', '.join(head.columns)})."

    def _why(self, role: str) -> str:
        if role == "item" or not (self.shape.composite or self.shape.listed):
            return self.events.why
        if self.shape.composite:
            return "these columns together"
        return "by its name" if self.events.head.named else "by its position"

    def _id(self, name: str, column: Column) -> str:
        if name == "user" and self.shape.composite:
            return f"{{ name = {quoted(name)}, column = [{', '.join(map(quoted, self.shape.composite))}] }}"
        dtype = ', dtype = "int"' if column.is_id else ""
        return f"{{ name = {quoted(name)}, column = {quoted(column.name)}{dtype} }}"

    def _label_lines(self) -> Iterator[str]:
        if not self.events.labels:
            yield _WARNING
            flags = [quoted(c.name) for c in self.events.head.columns.values() if c.is_flag]
            if flags:
                yield f"# Columns with two values, such as 0 and 1: {', '.join(flags)}."
            yield f"negatives = {_NEGATIVES}"
            yield '# negatives_by = "popularity"  # draws that take popularity out of what is measured'
            return
        yield "# Outcomes of an impression; training takes the first one unless --labels names others."
        yield "labels = ["
        for column, condition, why in self.events.labels:
            name = identifier(column.name).removeprefix("is_") if not condition else "like"
            name = "click" if self.shape.holds_requests else name
            source = f"condition = {quoted(condition)}" if condition else f"column = {quoted(column.name)}"
            yield f"  {{ name = {quoted(name)}, {source} }},  # {why}"
        yield "]"

    def _impression_lines(self) -> Iterator[str]:
        events = self.events
        why = (
            "the largest table of events that has a label" if events.labels else "the largest table of events"
        )
        yield f"\n[impressions]  # {why}" if self.behaviors else "\n[impressions]"
        yield from file_lines(events.head, self.base, self.shape.parts)
        if self.shape.order:
            yield f'order = "{self.shape.order}"  # {_ORDERS[self.shape.order]}'
        elif events.time is not None:
            yield from time_lines(events.time)
        sides = self._sides()
        yield from self._fields([(c, why) for c, side, why in sides if side == "context"])
        self._embedded = {
            "items": [(c, why) for c, side, why in sides if side == "item"],
            "users": [(c, why) for c, side, why in sides if side == "profile"],
        }
        for column, side, why in sides:
            if side == "":
                yield f"# left out: {column.name} ({why})"
        if any(side == "" and "outcome" in why for _, side, why in sides):
            yield "# To use one that is known before the outcome, guess again with --keep COLUMN."
        if self.shape.listed:
            yield from list_lines(self.shape.listed)

    def _sides(self) -> list[tuple[Column, str, str]]:
        """List the other columns of the impressions with their side ('' if left out) and the reason."""
        events = self.events
        labels = {column.name for column in self.feedback}
        made = {ORDER, self.shape.part if self.shape.part else ORDER}
        rest = [c for c in events.head.columns.values() if c.name not in events.ids | labels | made]
        return [(column, *self._side(column)) for column in rest]

    def _side(self, column: Column) -> tuple[str, str]:
        if column.name in self.keep:
            return side_of(column, self.events.user, self.events.item)
        if later := written_after(column):
            return "", later
        reason = (
            "another time" if column.unit else _useless(column) or self.shape.left_out.get(column.name, "")
        )
        if reason and not is_afterwards(column):
            return "", reason
        if is_action(column) or is_afterwards(column) or (column.is_flag and named([column], FEEDBACK)):
            self.feedback.append(column)
            return "", "it is known only after the impression, so it is an attribute of behaviors"
        side, why = side_of(column, self.events.user, self.events.item)
        if with_it := written_with(column, side == "context") or self._tells_label(column):
            self.feedback.append(column)
            return "", f"{with_it}; an attribute of behaviors"
        separate = (side == "item" and self.items) or (side == "profile" and self.users)
        return ("context", "it is in the impressions") if separate else (side, why)

    def _tells_label(self, column: Column) -> str:
        """Return how a column tells the label in the sample, empty if it does not."""
        if not self.events.labels:
            return ""
        label, condition, _ = self.events.labels[0]
        truth = _truth(label)
        if condition:
            truth = (truth >= float(condition.rpartition(" ")[2])).astype(float)
        if separation(column, truth) > _TELLTALE or (column.is_flag and _precedes(column, truth)):
            return "it nearly determines the label, so it may be feedback"
        return tells_outcome(column, truth)

    def _behavior_lines(self) -> Iterator[str]:
        yield "\n[behaviors]"
        if self.behaviors is not None and self.behaviors.time is not None:
            yield from file_lines(self.behaviors.head, self.base)
            yield from self._key_line("user", self.behaviors.user, self.events.user)
            yield from self._key_line("item", self.behaviors.item, self.events.item)
            yield from time_lines(self.behaviors.time)
            rest = [c for c in self.behaviors.head.columns.values() if c.name not in self.behaviors.ids]
            yield from self._fields([(c, "") for c in rest if not c.unit and not _useless(c)], "past_")
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
        yield "# known_after = 0  # seconds after an impression at which its outcome is known"
        yield from self._fields([(column, "") for column in feedback], "past_")

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
        reasons = {
            column.name: "" if column.name in self.keep else _useless(column) or totals_outcomes(column)
            for column in rest
        }
        yield from self._fields([(column, "") for column in rest if not reasons[column.name]], kind=kind)
        for name, why in reasons.items():
            if why:
                yield f"# left out: {name} ({why})"

    def _fields(
        self, columns: list[tuple[Column, str]], prefix: str = "", kind: Kind | None = None
    ) -> Iterator[str]:
        if not columns:
            return
        yield "fields = ["
        for column, side in columns:
            options, why = field_options(column, self.events.user is None and self.events.item is None)
            wanted = identifier(column.name)
            name = self._free(wanted if not prefix or wanted.startswith(prefix) else prefix + wanted)
            source = f", column = {quoted(column.name)}" if name != column.name else ""
            if kind == "item" and "kind" not in options:
                self.categories[name] = column
            yield f"  {{ name = {quoted(name)}{source}{options} }},  # {'; '.join(filter(None, (why, side)))}"
        yield "]"

    def _free(self, name: str) -> str:
        """Return the name, or the first of name_2, name_3, ... that is free."""
        number = 1
        free = name
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        return free
