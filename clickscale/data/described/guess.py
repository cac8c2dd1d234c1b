"""Guess of the TOML that describes a log: a commented first draft from samples of its tables.

Every decision carries its reason as a comment. Some decisions will be wrong, so read the draft before you use
it. A log in one plain CSV needs no change.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.config_text import build
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
    tells_kind,
    value_count,
)
from clickscale.data.described.samples import Column, Head, read_head
from clickscale.data.described.toml_lines import (
    field_options,
    file_lines,
    identifier,
    quoted,
    remark,
    time_lines,
)
from clickscale.data.features.values import read_labels
from clickscale.errors import InputError
from clickscale.schema import Statistic, usual_statistics

Kind = Literal["user", "item"]
_NEGATIVES = 4
_CATEGORIES = (3, 300)  # fewest and most values of a field that tells the kind of an item
_STEPS = 20  # positives that must all have a flag before it is treated as a step before the label
_TELLTALE = 0.95  # AUC of one column for the label above which the column is treated as feedback

_WARNING = """\
# WARNING: no column says which rows are positive. So every row counts as a positive, and for each of them
# that many items which existed at its time are drawn as negatives. Figures on such negatives are not
# comparable with figures on negatives that users saw. If a column has the outcome, name it instead, as one of
#   labels = [{ name = "click", column = "clicked" }]
#   labels = [{ name = "like", condition = "rating >= 4" }]"""


@dataclass
class _Events:
    """A table of events with its columns of user, item and time."""

    head: Head
    user: Column
    item: Column
    time: Column
    why: str
    labels: list[tuple[Column, str, str]] = field(default_factory=list)  # column, condition, why

    @property
    def ids(self) -> set[str]:
        return {self.user.name, self.item.name, self.time.name}


def guess(tables: Sequence[Path], base: Path | None = None) -> str:
    """TOML text for `clickscale.data.described.log`.

    Args:
        tables: the tables of one log in any order; one of them holds user, item and time.
        base: folder in which the TOML will lie; the current one if None. Paths are written relative to it.

    Raises:
        InputError: a table cannot be read, or no table has columns for user, item and time.
    """
    heads = [read_head(path) for path in tables]
    events = [table for head in heads if (table := _events(head)) is not None]
    if not events:
        raise InputError(_nothing_found(heads))
    events.sort(key=lambda table: (bool(table.labels), table.head.size), reverse=True)
    draft = _Draft(events[0], events[1] if len(events) > 1 else None, heads, base or Path.cwd())
    text = "\n".join(draft.lines()) + "\n"
    log_schema(build(LogConfig, tomllib.loads(text), "the guessed draft"), 0)
    return text


def _nothing_found(heads: Sequence[Head]) -> str:
    return (
        f"No table has columns for user, item and time together: {'; '.join(map(_roles_of, heads))}. If a "
        "column is there under another name, rename it or describe the log by hand; for public logs, see: "
        "clickscale data list."
    )


def _roles_of(head: Head) -> str:
    """Say which columns of a table are its user, item and time, and which of these roles no column has."""
    columns = list(head.columns.values())
    found = {"user": find_id(columns, "user"), "item": find_id(columns, "item"), "time": find_time(columns)}
    missing = [f"no {role} column" for role, column in found.items() if column is None]
    known = [f"{role} {column.name}" for role, column in found.items() if column is not None]
    has = f"{', '.join(known)}, but {' and '.join(missing)}" if known else ", ".join(missing)
    return f"{head.path.name} has {has} among {', '.join([*head.columns, *head.left_out])}"


def _events(head: Head) -> _Events | None:
    """Return the table as one of events, if it has a user, an item and a time."""
    time = find_time(head.columns.values())
    if time is None:
        return None
    columns = list(head.columns.values())
    user, item, why = find_id(columns, "user"), find_id(columns, "item"), "by its name"
    if user is None and item is None:
        ids = [column for column in columns if column is not time and _may_be_id(column)]
        user, item, *_ = (*ids, None, None)
        why = "by its position, since no name helps: the user is often before the item"
    if user is None or item is None or user is item:
        return None
    labels = list(_labels([c for c in columns if c not in (time, user, item)], head.named))
    return _Events(head, user, item, time, why, labels)


def _may_be_id(column: Column) -> bool:
    several = column.distinct > 20 or plain_name(column.name).endswith("id")
    return (
        several and not column.unit and (column.is_id or (column.floats is None and not is_free_text(column)))
    )


def _labels(columns: list[Column], are_named: bool) -> Iterator[tuple[Column, str, str]]:
    """Yield the columns that separate positives from negatives, the best first."""
    flags = [column for column in columns if column.is_flag or column.is_signed_flag]
    chosen = [c for names in (CLICKS, FEEDBACK) for name in names if (c := named(flags, [name])) is not None]
    for column in chosen:
        yield column, _is_one(column), "its name and its two values"
    rating = named(columns, RATINGS) or next((c for c in columns if not are_named and looks_rated(c)), None)
    if not chosen and rating is not None and rating.floats is not None and 2 < rating.distinct <= 20:
        high = 4.0 if (most := pc.max(rating.floats).as_py()) <= 5 else float(np.ceil(0.8 * most))
        yield rating, f"{rating.name} >= {high:g}", f"ratings go up to {most:g}"
    elif not chosen and len(flags) == 1 and not is_afterwards(flags[0]):
        yield flags[0], _is_one(flags[0]), "the only column with two values such as 0 and 1"


def _is_one(flag: Column) -> str:
    """Return the condition of a label of 1 and -1; other pairs of values are labels as they are."""
    return f"{flag.name} == 1" if flag.is_signed_flag else ""


def _useless(column: Column) -> str:
    """Return the reason why a column cannot be a feature, or an empty text."""
    if column.distinct < 2:
        return f"it has one value in {len(column.values):,} sampled rows"
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
        numbers = read_labels(column.values)[0].astype(float)
    return numbers


def _precedes(flag: Column, label: npt.NDArray[np.float64]) -> bool:
    """True if a rare flag is set in all positives: an earlier step, as click is before like."""
    step, positive = _truth(flag) == 1, label == 1
    return int(positive.sum()) >= _STEPS and bool(step[positive].all()) and step.mean() < 0.5


def _meaning(statistic: Statistic) -> str:
    """Describe a statistic in words."""
    what = {
        "count": "number of earlier impressions of the same",
        "rate": "smoothed label rate of earlier impressions of the same",
        "lift": "earlier labels less the rates of their items, of the same",
    }[statistic.of]
    days = f", {statistic.window // 86_400} days back" if statistic.window else ""
    return f"{what} {' and '.join(statistic.by)}{days}"


def _unreadable(head: Head) -> Iterator[str]:
    """Name the columns of which no field can be made."""
    for name, why in head.left_out.items():
        yield f"# left out: {remark(name)} ({remark(why)})"


class _Draft:
    """Writes the TOML, table by table, and keeps field names distinct."""

    def __init__(self, events: _Events, behaviors: _Events | None, heads: Sequence[Head], base: Path) -> None:
        self.events, self.behaviors, self.base = events, behaviors, base
        self.taken = {"user", "item", *CANONICAL}
        self.categories: dict[str, Column] = {}  # categorical fields of items by name
        others = [
            head
            for head in heads
            if head is not events.head and (not behaviors or head is not behaviors.head)
        ]
        self.items = self._attribute_table(others, "item")
        self.users = self._attribute_table([head for head in others if head is not self.items], "user")
        self.unused = [head for head in others if head not in (self.items, self.users)]
        self.feedback = [column for column, _, _ in events.labels]

    def _attribute_table(self, heads: list[Head], kind: Kind) -> Head | None:
        """Find the table with one row per item or user."""
        scored = [(self._likeness(head, kind), index, head) for index, head in enumerate(heads)]
        best = max(scored, key=lambda entry: (entry[0], -entry[1]), default=(0, 0, None))
        other: Kind = "user" if kind == "item" else "item"
        return best[2] if best[0] > 0 and best[2] and best[0] >= self._likeness(best[2], other) else None

    def _likeness(self, head: Head, kind: Kind) -> int:
        key = self._key(head, kind)
        if key is None or key.distinct < 0.99 * head.rows:
            return 0
        hint = mentions(head.path.stem, kind)
        return 1 + 2 * (key.name == self._wanted(kind).name) + 2 * hint + (plain_name(key.name) != "id")

    def _wanted(self, kind: Kind) -> Column:
        return self.events.user if kind == "user" else self.events.item

    def _key(self, head: Head, kind: Kind) -> Column | None:
        """Find the column by which a table joins; in a table without names, the first one."""
        columns = list(head.columns.values())
        if not head.named:
            return columns[0]
        names = (plain_name(self._wanted(kind).name), *(USERS if kind == "user" else ITEMS), "id")
        return named(columns, names)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the draft."""
        events = self.events
        yield "# A first draft, guessed from samples of the tables. Correct what is wrong."
        yield f"name = {quoted(identifier(events.head.path.name.split('.')[0]).replace('_', '-'))}"
        yield f"user = {self._id('user', events.user)}  # {events.why}"
        yield f"item = {self._id('item', events.item)}  # {events.why}"
        yield from self._label_lines()
        yield from self._impression_lines()
        yield from self._behavior_lines()
        yield from self._table_lines("items", "item", self.items)
        yield from self._table_lines("users", "user", self.users)
        yield from self._statistic_lines()
        yield "\n[split]"
        yield 'kind = "time"  # the last 10% of the impressions are for test, the 10% before for valid'
        for head in self.unused:
            yield f"\n# Not used: {remark(head.path.name)} ({remark(', '.join(head.columns))})."

    def _id(self, name: str, column: Column) -> str:
        table = self.items if name == "item" else self.users
        key = self._key(table, "item" if name == "item" else "user") if table else None
        whole = self.events.head.holds_integers(column.name) and (
            not table or key is None or table.holds_integers(key.name)
        )
        dtype = ', dtype = "int"' if whole else ""
        return f"{{ name = {quoted(name)}, column = {quoted(column.name)}{dtype} }}"

    def _label_lines(self) -> Iterator[str]:
        if not self.events.labels:
            yield _WARNING
            flags = [quoted(c.name) for c in self.events.head.columns.values() if c.is_flag]
            if flags:
                yield f"# Columns with two values, such as 0 and 1: {', '.join(flags)}."
            yield f"negatives = {_NEGATIVES}"
            return
        yield "# Outcomes of an impression; training takes the first one unless --labels names others."
        yield "labels = ["
        for column, condition, why in self.events.labels:
            name = "like" if ">=" in condition else identifier(column.name).removeprefix("is_")
            source = f"condition = {quoted(condition)}" if condition else f"column = {quoted(column.name)}"
            yield f"  {{ name = {quoted(name)}, {source} }},  # {why}"
        yield "]"

    def _impression_lines(self) -> Iterator[str]:
        events = self.events
        why = (
            "the largest table of events that has a label" if events.labels else "the largest table of events"
        )
        yield f"\n[impressions]  # {why}" if self.behaviors else "\n[impressions]"
        yield from file_lines(events.head, self.base)
        yield from time_lines(events.time)
        sides = self._sides()
        yield from self._fields([(c, why) for c, side, why in sides if side == "context"])
        self._embedded = {
            "items": [(c, why) for c, side, why in sides if side == "item"],
            "users": [(c, why) for c, side, why in sides if side == "profile"],
        }
        for column, side, why in sides:
            if side == "":
                yield f"# left out: {remark(column.name)} ({why})"
        yield from _unreadable(events.head)

    def _sides(self) -> list[tuple[Column, str, str]]:
        """List the other columns of the impressions with their side ('' if left out) and the reason."""
        events = self.events
        labels = {column.name for column in self.feedback}
        rest = [c for c in events.head.columns.values() if c.name not in events.ids | labels]
        return [(column, *self._side(column)) for column in rest]

    def _side(self, column: Column) -> tuple[str, str]:
        reason = "another time" if column.unit else _useless(column)
        if reason and not is_afterwards(column):
            return "", reason
        if is_action(column) or is_afterwards(column) or (column.is_flag and named([column], FEEDBACK)):
            self.feedback.append(column)
            return "", "it is known only after the impression, so it is an attribute of behaviors"
        if self._determines_label(column):
            self.feedback.append(column)
            return "", "it nearly determines the label, so it may be feedback; an attribute of behaviors"
        side, why = side_of(column, self.events.head, self.events.user.name, self.events.item.name)
        separate = (side == "item" and self.items) or (side == "profile" and self.users)
        return ("context", "it is in the impressions") if separate else (side, why)

    def _determines_label(self, column: Column) -> bool:
        if not self.events.labels:
            return False
        label, condition, _ = self.events.labels[0]
        truth = _truth(label)
        if condition:
            truth = (truth >= float(condition.rpartition(" ")[2])).astype(float)
        return separation(column, truth) > _TELLTALE or (column.is_flag and _precedes(column, truth))

    def _behavior_lines(self) -> Iterator[str]:
        yield "\n[behaviors]"
        if self.behaviors is not None:
            yield from file_lines(self.behaviors.head, self.base)
            yield from self._key_line("user", self.behaviors.user, self.events.user)
            yield from self._key_line("item", self.behaviors.item, self.events.item)
            yield from time_lines(self.behaviors.time)
            rest = [c for c in self.behaviors.head.columns.values() if c.name not in self.behaviors.ids]
            yield from self._fields([(c, "") for c in rest if not c.unit and not _useless(c)], "past_")
            yield from _unreadable(self.behaviors.head)
            return
        yield "# No files: the impressions themselves, each visible only to later ones of the same user."
        if self.events.labels:
            column, condition, _ = self.events.labels[0]
            yield f"# where = {quoted(condition or f'{column.name} == 1')}  # to show only the positive ones"
        yield "# known_after = 0  # seconds after an impression at which its outcome is known"
        yield from self._fields([(column, "") for column in self.feedback], "past_")

    def _key_line(self, key: str, column: Column, usual: Column) -> Iterator[str]:
        if column.name != usual.name:
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
        yield from self._fields([(column, "") for column in rest if not _useless(column)], kind=kind)
        for column in rest:
            if why := _useless(column):
                yield f"# left out: {remark(column.name)} ({why})"
        yield from _unreadable(head)

    def _statistic_lines(self) -> Iterator[str]:
        category, why = self._category()
        yield "\n# Known before each impression, computed from earlier ones only. Models and trees read these"
        yield "# numbers beside the fields. Any of them may be removed."
        yield f"# {why}"
        for each in usual_statistics(category):
            yield f"[[statistics]]  # {_meaning(each)}"
            yield f"name = {quoted(self._free(each.name))}"
            yield f"by = [{', '.join(quoted(key) for key in each.by)}]"
            yield f"of = {quoted(each.of)}"
            if each.window:
                yield f"window = {each.window}"

    def _category(self) -> tuple[str, str]:
        """Return the item field that best tells the kind of an item, and why; an empty name if none does."""
        low, high = _CATEGORIES
        fit = {
            name: values
            for name, column in self.categories.items()
            if low <= (values := value_count(column)) <= high
        }
        if not fit:
            return "", f"No item field has {low} to {high} values, so none stands for the kind of an item."
        said = {name: values for name, values in fit.items() if tells_kind(self.categories[name])}
        middle = np.sqrt(low * high)
        chosen = min(said or fit, key=lambda name: abs(np.log(fit[name] / middle)))
        why = "by its name" if said else f"its {fit[chosen]} values are few enough to come back in a history"
        return chosen, f"{chosen} stands for the kind of an item: {why}."

    def _fields(
        self, columns: list[tuple[Column, str]], prefix: str = "", kind: Kind | None = None
    ) -> Iterator[str]:
        if not columns:
            return
        yield "fields = ["
        for column, side in columns:
            options, why = field_options(column)
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
