"""Draft of a schema.toml from what another library's configuration declares, and from samples of its tables.

What the configuration says is taken over: features, their kinds, what they share, the parts. It does not say
who is the user, what is the item, when a row happened, and which lists are histories of what; names and
values tell that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.libraries.declared import DeclaredField, DeclaredLog
from clickscale.data.described.drafts.libraries.fuxictr import fuxictr_log, is_fuxictr
from clickscale.data.described.drafts.libraries.torcheasyrec import is_torcheasyrec, torcheasyrec_log
from clickscale.data.described.drafts.roles.column_names import named
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shape_lines import split_lines
from clickscale.data.described.drafts.shapes import Shape
from clickscale.data.described.drafts.suspects import written_after, written_with
from clickscale.data.described.drafts.toml_lines import (
    field_options,
    file_lines,
    identifier,
    quoted,
    remark,
    time_lines,
)
from clickscale.data.described.log_config import CANONICAL
from clickscale.data.described.rows import Flat, as_text, flat
from clickscale.data.tables.folders import matching_files
from clickscale.errors import InputError, unknown

_ALIKE = 0.98  # share of rows in which two lists of one history have equally many entries
_TIME_NAMES = ("timestamp", "time", "ts", "timems", "timestampms", "eventtime", "datetime", "date")
_MOST_VALUES = 50  # of a list that is no history


def declared_log(paths: Sequence[Path], dataset: str = "") -> DeclaredLog | None:
    """Find the configuration of another library among files or in a folder, and read it; None without one.

    Raises:
        ConfigError: it cannot be read, or it declares what is not known.
        InputError: its data are missing.
    """
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    for file in files:
        if is_fuxictr(file):
            return fuxictr_log(file, dataset)
        if is_torcheasyrec(file):
            return torcheasyrec_log(file)
    return None


def library_draft(log: DeclaredLog, base: Path) -> str:
    """TOML text of a declared log; paths are written relative to ``base``.

    Raises:
        InputError: a declared column is missing, or a sequence of texts has no separator.
    """
    train = log.files["train"]
    head = read_head(matching_files("train", train.parent, train.name)[0])
    return "\n".join(_Draft(log, head, base).lines()) + "\n"


@dataclass(frozen=True)
class _List:
    """A sequence with its entries in the sample."""

    declared: DeclaredField
    flat: Flat
    entries: Column

    def share_among(self, ids: pa.Array) -> float:
        """Share of the entries that are among other ids."""
        if not len(self.entries.values):
            return 0.0
        known = pc.is_in(as_text(self.entries.values), as_text(ids).unique())
        return float(pc.mean(known.cast(pa.float64())).as_py())

    def parallels(self, other: "_List") -> bool:
        """True if both are lists over the same behaviors."""
        if self.declared.group or other.declared.group:
            return self.declared.group == other.declared.group
        return bool(np.mean(self.flat.count == other.flat.count) > _ALIKE)


class _Draft:
    """Decides the roles of the columns, and writes the tables of the draft."""

    def __init__(self, log: DeclaredLog, head: Head, base: Path) -> None:
        self.log, self.head, self.base = log, head, base
        self._check()
        self.fields = [f for f in log.fields if f.column in head.columns and f.column not in log.labels]
        self.lists = [_List(field, *self._entries(field)) for field in self.fields if field.is_list]
        plain = [f for f in self.fields if not f.is_list]
        ids = [head.columns[f.column] for f in plain if f.kind in ("categorical", "meta")]
        declared = {field.column for field in log.fields} | set(log.labels)
        others = [column for name, column in head.columns.items() if name not in declared]
        self.user = find_id(ids, "user") or find_id(others, "user")
        self.item, self.history, self.why = self._item_and_history(find_id(ids, "item"), plain)
        named_times = [c for c in head.columns.values() if c.unit and named([c], _TIME_NAMES)]
        self.time = find_time(named_times) or find_time(
            c for c in others if not pa.types.is_nested(c.values.type)
        )
        if self.time is not None and self.time in (self.user, self.item):
            self.time = None
        self.owns_rows = self.history is not None and (self.user is None or self.time is None)
        self.names = {f.name: "item" for f in self.fields if self.item and f.column == self.item.name}
        if self.user is not None and not self.owns_rows:
            self.names |= {f.name: "user" for f in self.fields if f.column == self.user.name}
        self.taken = {"user", "item", *CANONICAL}

    def _check(self) -> None:
        """Refuse columns that are not there, and texts that nothing divides."""
        known = [*self.head.columns, *self.head.left_out]
        for what, name in [
            *(("the label", label) for label in self.log.labels),
            *((f"feature {field.name!r}", field.column) for field in self.log.fields),
        ]:
            if name not in known:
                raise InputError(
                    f"{self.head.path}, {what} of {self.log.config}: " + unknown("column", name, known)
                )
        for field in self.log.fields:
            column = self.head.columns.get(field.column)
            if (
                field.is_list
                and column
                and not field.separator
                and not pa.types.is_nested(column.values.type)
            ):
                raise InputError(
                    f"{self.log.config}: {field.name!r} is a sequence, {self.head.path} has texts in its "
                    "column, and no separator says what divides them; name it (splitter: ^)."
                )

    def _entries(self, field: DeclaredField) -> tuple[Flat, Column]:
        listed = flat(self.head.columns[field.column].values, field.separator)
        return listed, Column(field.column, listed.values)

    def _item_and_history(
        self, item: Column | None, plain: Sequence[DeclaredField]
    ) -> tuple[Column | None, "_List | None", str]:
        """Choose the item and the list of its ids, together: the behaviors of a history are items."""
        columns = {f.name: f.column for f in plain if f.kind == "categorical"}
        lists = [one for one in self.lists if one.declared.kind == "sequence"]
        shared = [one for one in lists if one.declared.shares in columns]
        if item is not None:
            own = [one for one in shared if columns[one.declared.shares] == item.name]
            likely = own or [one for one in lists if one not in shared and one.share_among(item.known) > 0.5]
            if likely or not shared:
                history = max(likely, key=lambda one: len(one.flat.values), default=None)
                return item, history, "by its name"
        if shared:
            history = max(shared, key=lambda one: one.entries.distinct)
            chosen = self.head.columns[columns[history.declared.shares]]
            return chosen, history, f"the histories hold it: {history.declared.name} shares its embedding"
        return item, None, "by its name"

    def lines(self) -> Iterator[str]:
        """Yield the lines of the draft."""
        log = self.log
        yield f"# A draft from {remark(log.config.name)} ({log.library}) and samples of the tables."
        yield "# Correct what is wrong."
        yield f"name = {quoted(identifier(log.name).replace('_', '-'))}"
        if self.owns_rows:
            missing = "time" if self.user is not None else "user"
            yield f"# No column has the {missing}, so rows have no order: each keeps its own history."
        elif self.user is not None:
            yield f"user = {self._id('user', self.user)}  # by its name"
        else:
            yield "# No column names the user."
        if self.item is not None:
            yield f"item = {self._id('item', self.item)}  # {remark(self.why)}"
        else:
            yield "# No column names the item."
        if self.owns_rows and (group := self._group()):
            yield f"groups = {quoted(group)}  # stands for the users in results, such as GAUC"
        labels = (
            f"{{ name = {quoted(identifier(label))}, column = {quoted(label)} }}" for label in log.labels
        )
        yield f"labels = [{', '.join(labels)}]"
        yield from self._impressions()
        if self.user is not None and not self.owns_rows:
            yield from self._behaviors()
        if self.history is not None:
            yield from self._history_lines(self.history)
        for name, side in (("items", "item"), ("users", "profile")):
            if self.sides[side]:
                yield f"\n[{name}]  # no files: columns of the impressions"
                yield from self.sides[side]
                yield "]"
        yield from split_lines(Shape(self.head, order="" if self.time else "rows", parts=self._parts()), None)
        yield "\n# No [[statistics]]: the features are those of the configuration. Numbers known before,"
        yield "# such as rates of items and users, often add more than a better model does."

    def _group(self) -> str:
        """Name of the field of the user, where rows are users of their own; empty if no feature has it."""
        user = self.user.name if self.user is not None else ""
        of_user = [f.name for f in self.fields if f.column == user and f.kind == "categorical"]
        return identifier(of_user[0]) if of_user else ""

    def _parts(self) -> dict[str, Path]:
        return dict(self.log.files) if len(self.log.files) > 1 else {}

    def _id(self, role: str, column: Column) -> str:
        whole = self.head.holds_integers(column.name)
        if role == "item" and self.history is not None:
            whole = whole and self.history.entries.is_id
        dtype = ', dtype = "int"' if whole else ""
        least = next((f.min_count for f in self.fields if f.column == column.name), 1)
        rare = f", min_count = {least}" if least > 1 else ""
        return f"{{ name = {quoted(role)}, column = {quoted(column.name)}{dtype}{rare} }}"

    def _impressions(self) -> Iterator[str]:
        yield "\n[impressions]"
        train = replace(self.head, path=self.log.files["train"])
        yield from (line.partition("  # by")[0] for line in file_lines(train, self.base, self._parts()))
        if self.time is not None:
            yield from time_lines(self.time)
        else:
            yield 'order = "rows"  # no column has the time'
        self.sides: dict[str, list[str]] = {"context": [], "item": [], "profile": []}
        left_out = dict(self.log.left_out) | {name: why for name, why in self.head.left_out.items()}
        for field, column, listed in self._features():
            options = self._options(field, column, listed)
            if options is None:
                left_out[field.name] = "vectors are read by clickscale content"
                continue
            side = self._side(field, column)
            self.sides[side] = self.sides[side] or ["fields = ["]
            self.sides[side].append(self._line(field, column.name, options))
        if self.sides["context"]:
            yield from self.sides["context"]
            yield "]"
        for name, why in left_out.items():
            yield f"# left out: {remark(name)} ({remark(why)})"

    def _features(self) -> Iterator[tuple[DeclaredField, Column, _List | None]]:
        """Fields that are neither ids nor the time nor lists of the history."""
        spent = {column.name for column in (self.item, self.time) if column is not None}
        spent |= {self.user.name} if self.user is not None and not self.owns_rows else set()
        spent |= {one.declared.column for one in self._of_history()}
        for field in self.fields:
            if field.kind != "meta" and field.column not in spent:
                listed = next((one for one in self.lists if one.declared is field), None)
                if field.kind != "numbers":
                    yield field, self.head.columns[field.column], listed

    def _of_history(self) -> list[_List]:
        """The list of items and those over the same behaviors."""
        if self.history is None:
            return []
        history, divider = self.history, self.history.declared.separator
        return [
            one
            for one in self.lists
            if one is history or (one.parallels(history) and one.declared.separator == divider)
        ]

    def _options(self, field: DeclaredField, column: Column, listed: _List | None) -> str | None:
        """Options of a field in TOML; None if it cannot be taken over."""
        if field.kind == "vector":
            return None
        if field.kind == "numeric":
            options, _ = field_options(column)
            return ', kind = "numeric"' + (', transform = "log1p"' if "log1p" in options else "")
        rare = f", min_count = {field.min_count}" if field.min_count > 1 else ""
        nested = pa.types.is_nested(column.values.type)
        several = listed is not None or nested
        if not several and field.separator and pa.types.is_string(column.values.type):
            several = bool(pc.any(pc.match_substring(column.known, field.separator)).as_py())
        if not several:
            return rare + self._shared(field)
        most = int(flat(column.values, field.separator).count.max(initial=1))
        values = max(min(most, field.most or most, _MOST_VALUES), 1)
        separator = "" if nested else f", separator = {quoted(field.separator)}"
        return f", values = {values}{separator}{rare}{self._shared(field)}"

    def _shared(self, field: DeclaredField) -> str:
        """Key ``shares`` of a field, if what it shares is a field of the draft with values of its own."""
        owner = next((f for f in self.fields if f.name == field.shares), None)
        if owner is None or owner.shares or owner.kind != "categorical":
            return ""
        return f", shares = {quoted(self.names.get(owner.name, identifier(owner.name)))}"

    def _side(self, field: DeclaredField, column: Column) -> str:
        """Side of a field; an attribute must not change between the rows of one item or user."""
        if self.owns_rows and (column is self.user or field.source == "user"):
            return "profile"
        user, item = None if self.owns_rows else self.user, self.item
        if field.source in ("user", "item"):
            user, item = (user, None) if field.source == "user" else (None, item)
        return side_of(column, user, item)[0]

    def _line(self, field: DeclaredField, column: str, options: str) -> str:
        name = identifier(field.name)
        while name in self.taken:
            name += "_2"
        self.taken.add(name)
        source = f", column = {quoted(column)}" if name != column else ""
        known = self.head.columns[field.column]
        doubt = "" if field.is_list else written_after(known) or written_with(known, varies=True)
        remarked = f"  # WARNING: {doubt}; remove it unless it is known before" if doubt else ""
        return f"  {{ name = {quoted(name)}{source}{options} }},{remarked}"

    def _behaviors(self) -> Iterator[str]:
        yield "\n[behaviors]  # no files: the impressions, each visible only to later ones of the same user"
        condition = quoted(f"{self.log.labels[0]} == 1")
        if self.history is not None:
            yield f"where = {condition}  # those that later lists repeat count once"
        else:
            yield f"# where = {condition}  # to show only the positive ones"

    def _history_lines(self, history: _List) -> Iterator[str]:
        yield "\n[history]  # lists in the rows of the impressions; the oldest behavior comes first"
        yield f"items = {quoted(history.declared.column)}"
        if self.owns_rows:
            yield "per_row = true"
        if not pa.types.is_nested(self.head.columns[history.declared.column].values.type):
            yield f"entry_separator = {quoted(history.declared.separator)}"
        if (padding := _padding(history.flat)) is not None:
            yield f"padding = {quoted(padding)}  # it fills lists up to one length"
        yield "# newest_first = true  # if lists begin with the newest behavior"
        beside = [one for one in self._of_history() if one is not history]
        times = None
        if self.time is not None:
            times = next(
                (one for one in beside if one.entries.unit and named([one.entries], _times_of(one))), None
            )
        if times is not None:
            yield f"times = {quoted(times.declared.column)}"
            yield f'time_unit = "{times.entries.unit}"'
        fields = [one for one in beside if one is not times]
        if fields:
            yield "fields = ["
            for one in fields:
                numbers = (
                    ', kind = "numeric"' if one.declared.kind == "numbers" else self._shared(one.declared)
                )
                yield self._line(one.declared, one.declared.column, numbers)
            yield "]"


def _times_of(one: _List) -> tuple[str, ...]:
    """Names of a list of times: those of a time, also behind the name of its sequence."""
    plain = identifier(one.declared.column).lower().replace("_", "")
    return tuple(plain for name in _TIME_NAMES if plain.endswith(name))


def _padding(lists: Flat) -> str | None:
    """Entry that fills lists up, if all are of one length, and one value stands at an end of many of them."""
    if len(lists.count) < 2 or lists.count[0] < 2 or (lists.count != lists.count[0]).any():
        return None
    entries = np.array(as_text(lists.values).fill_null("").to_pylist()).reshape(len(lists.count), -1)
    for end in (entries[:, 0], entries[:, -1]):
        values, often = np.unique(end, return_counts=True)
        if values[often.argmax()] in ("0", "-1") and often.max() > 0.05 * len(end):
            return str(values[often.argmax()])
    return None
