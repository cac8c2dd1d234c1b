"""Rows of a table as a description means them: lists taken apart, ids composed, an order for a missing time.

A log often has one row per request or per user, with lists in it. `RowShape` turns such rows into rows of one
event each, before anything else looks at them, so all other code reads plain columns.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.config import Config
from clickscale.data.features.texts import whole_texts
from clickscale.data.features.values import names_of_flags
from clickscale.data.tables.casts import integers
from clickscale.data.tables.chunks import Chunk, mark

ORDER, ROW, PART_OF_FILE = "(order)", "(row)", "(part)"  # columns that no file has
_MADE = (ORDER, ROW, PART_OF_FILE)
_FIRST_ROW = 946_684_800  # the year 2000: the moment of the first row of a table in order
_PUNCTUATION = r"[\[\](){},'\"]"  # around the entries of a list that was written as text
_NOWHERE = 1 << 20  # a place that no list has
_LAST_ENTRY = 1_600_000_000  # the moment of the last entry of every list in order

Order = Literal["", "rows", "lists"]
Columns = str | tuple[str, ...]


class Lists(Config, frozen=True):
    """Lists in the rows of the impressions: every entry of the item column becomes a row of its own.

    Lists are list columns, or texts whose entries stand between separators. Other columns repeat for each
    entry, apart from those that are named here.

    Attributes:
        separator: what divides the entries of texts; if empty, spaces, commas, brackets and quotes do.
        parallel: columns of lists with one value for each entry.
        chosen: columns of lists, or of one id, with those entries that were, say, clicked. Each becomes a
            column of 1 and 0. A row without a value has no such entry.
        chosen_places: the same by the places of these entries, as lists, texts or one number. A missing
            place, or one below ``first_place`` such as -1, stands for none.
        first_place: the place of the first entry, for ``chosen_places``.
        gather: lists that are made of columns beside each other, such as ``item_1`` to ``item_8``, by the
            name that the other options call them. A column without an item is an empty place.
        suffix: name of a column for the 0 or 1 at the end of each entry, such as the click in ``N1-0``.
        suffix_separator: what stands before it.
        first: name of a column for the first entry of each list, which is not an item.
        position: name of a column for the place of an entry in its list, from 1.
    """

    separator: str = ""
    parallel: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    chosen_places: tuple[str, ...] = ()
    first_place: int = 0
    gather: dict[str, tuple[str, ...]] = {}
    suffix: str = ""
    suffix_separator: str = "-"
    first: str = ""
    position: str = ""

    @property
    def made(self) -> set[str]:
        """Columns that exist only after the lists are taken apart."""
        return {name for name in (self.suffix, self.first, self.position) if name}


@dataclass(frozen=True)
class Joined:
    """A column that is made of several.

    Attributes:
        kind: a composite ``id`` (`clickscale.schema.composite`), a list of the names of those ``flags`` that
            are 1, or a ``moment`` of a date and a time of day.
    """

    parts: tuple[str, ...]
    kind: Literal["id", "flags", "moment"]

    def of(self, columns: Mapping[str, pa.Array]) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
        """Make the column; return it with the rows (N,) of its parts that hold what cannot be."""
        parts = {name: columns[name] for name in self.parts}
        if self.kind == "flags":
            return names_of_flags(parts)
        make = composed if self.kind == "id" else moment_texts
        return make(list(parts.values())), {}


class RowShape:
    """Turns the rows of a table, as they stand in its files, into rows of one event each.

    Args:
        item: column whose lists are taken apart; only used with ``lists``.
        joined: columns that are made of several, by name.
        order: what stands for the time that the table does not have.
        owner: column of the user, each of whom has one list if ``order`` is ``lists``.
        parts: name of the part of each file, if files are parts.
    """

    def __init__(
        self,
        item: str = "",
        lists: Lists | None = None,
        joined: Mapping[str, Joined] | None = None,
        order: Order = "",
        owner: str = "",
        parts: Mapping[Path, str] | None = None,
    ) -> None:
        self._item, self._lists, self._order, self._owner = item, lists, order, owner
        self._joined, self._parts = dict(joined or {}), dict(parts or {})
        self._rows = 0
        self._owners: set[Any] = set()

    @property
    def has_lists(self) -> bool:
        """True if rows hold lists that are taken apart."""
        return self._lists is not None

    def with_parts(self, parts: Mapping[Path, str]) -> "RowShape":
        """Return the shape of a table whose files are parts."""
        return RowShape(self._item, self._lists, self._joined, self._order, self._owner, parts)

    def without_lists(self) -> "RowShape":
        """Return the shape that leaves lists whole."""
        return RowShape("", None, self._joined, self._order, self._owner, self._parts)

    def raw_columns(self, wanted: Sequence[str]) -> list[str]:
        """List the columns that a file must have so that the columns ``wanted`` can be made."""
        parts = {name: joined.parts for name, joined in self._joined.items()}
        names = [part for name in wanted for part in parts.get(name, (name,))]
        if self._lists is not None:
            lists = self._lists
            names += [self._item, *lists.parallel, *lists.chosen, *lists.chosen_places]
            names = [name for name in names if name not in lists.made]
            names = [part for name in names for part in lists.gather.get(name, (name,))]
        return [name for name in dict.fromkeys(names) if name not in _MADE]

    def apply(self, chunk: Chunk, path: Path, wanted: Sequence[str]) -> Chunk:
        """Return rows of one event each with the columns ``wanted``."""
        kept = {name: chunk[name] for name in self.raw_columns(wanted)}
        if self._parts:
            kept[PART_OF_FILE] = pa.array([self._parts[path]] * len(chunk), pa.string())
        rows = np.arange(self._rows, self._rows + len(chunk))
        self._rows += len(chunk)
        if self._order == "rows":
            kept[ORDER] = pa.array(_FIRST_ROW + rows)
        if ROW in wanted:
            kept[ROW] = pa.array(rows)
        chunk = _chunk(kept, chunk.problem, chunk.evidence)
        entries = None if self._lists is None else _take_apart(chunk, self._item, self._lists)
        chunk = chunk if entries is None else entries.chunk
        columns = {name: chunk[name] for name in chunk.rows.schema.names}
        for name, joined in self._joined.items():
            if name not in wanted:
                continue
            columns[name], wrong = joined.of(columns)
            for part, rows_of_it in wrong.items():
                chunk = chunk.marked(rows_of_it, "bad_flag", part)
        if self._order != "lists" or entries is None:
            return _chunk(columns, chunk.problem, chunk.evidence)
        columns[ORDER] = pa.array(_LAST_ENTRY - entries.after)
        again = self._has_earlier_list(columns[self._owner], entries.row)
        return _chunk(columns, mark(chunk.problem, again, "second_list_of_user"))

    def _has_earlier_list(self, owner: pa.Array, row: Ints) -> npt.NDArray[np.bool_]:
        """Find the entries (N,) of rows whose user had an earlier row."""
        firsts = np.flatnonzero(np.diff(row, prepend=-1) > 0)
        again = np.zeros(int(row.max(initial=-1)) + 1, bool)
        for place, name in zip(row[firsts].tolist(), owner.take(pa.array(firsts)).to_pylist(), strict=True):
            again[place] = name in self._owners
            self._owners.add(name)
        return again[row]


def _chunk(columns: Mapping[str, pa.Array], problem: pa.Array, evidence: pa.Array | None = None) -> Chunk:
    rows = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    return Chunk(rows, problem, evidence)


def composed(columns: Sequence[pa.Array], whole: bool = False) -> pa.Array:
    """Compose ids (N,) of several columns, as `clickscale.schema.composite` does; null if every part is.

    Args:
        whole: null if any part is.
    """
    texts = []
    for column in columns:
        text = as_text(column)
        for letter in ("\\", "|"):
            text = pc.replace_substring(text, letter, "\\" + letter)
        texts.append(text)
    known = reduce(pc.and_ if whole else pc.or_, [pc.is_valid(text) for text in texts])
    joined = pc.binary_join_element_wise(*texts, "|", null_handling="replace", null_replacement="")
    return pc.if_else(known, joined, pa.scalar(None, pa.string()))


def moment_texts(columns: Sequence[pa.Array]) -> pa.Array:
    """Write dates and times of day as moments (N,); null if a part is missing.

    An hour such as 7 is 07:00, and 101530 is 10:15:30.
    """
    texts = [pc.utf8_trim_whitespace(whole_texts(as_text(column))) for column in columns]
    texts = [pc.replace_substring_regex(text, r"[ T]00:00(:00(\.0+)?)?$", "") for text in texts]  # of dates
    clocks = [pc.replace_substring_regex(text, r"^(\d\d)(\d\d)(\d\d)$", r"\1:\2:\3") for text in texts[1:]]
    texts = [*texts[:1], *clocks]
    texts = [pc.replace_substring_regex(text, r"^(\d)(:|$)", r"0\1\2") for text in texts]
    texts = [pc.replace_substring_regex(text, r"^(\d\d)$", r"\1:00") for text in texts]
    return pc.binary_join_element_wise(*texts, " ")


def as_text(values: pa.Array) -> pa.Array:
    """Write ids as texts; 12.0 and 12 are one."""
    if pa.types.is_string(values.type):
        return values
    return (integers(values) if pa.types.is_floating(values.type) else values).cast(pa.string())


@dataclass(frozen=True)
class Flat:
    """Lists of a column under each other: row n holds ``values[start[n] : start[n] + count[n]]``."""

    values: pa.Array
    start: Ints
    count: Ints

    @property
    def row(self) -> Ints:
        """(entries,) row of each entry."""
        return np.repeat(np.arange(len(self.count)), self.count)

    def lists(self) -> list[list[Any]]:
        """Return the entries of each row."""
        values = self.values.to_pylist()
        return [values[first : first + count] for first, count in zip(self.start, self.count, strict=True)]


def flat(values: pa.Array, separator: str = "") -> Flat:
    """Flatten a column of lists, or of texts as `Lists` describes them; a missing list is an empty one."""
    lists = values if pa.types.is_nested(values.type) else _split(values, separator)
    count = np.asarray(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    return Flat(lists.flatten(), np.cumsum(count) - count, count)


def _split(values: pa.Array, separator: str) -> pa.Array:
    """Divide texts into lists; an empty text is an empty list."""
    texts = as_text(values).fill_null("")
    if not separator:
        texts = pc.replace_substring_regex(texts, _PUNCTUATION, " ")
        texts, separator = pc.replace_substring_regex(texts, r"\s+", " "), " "
    texts = pc.utf8_trim(texts, characters=f" \t{separator}")
    lists = pc.split_pattern(texts, separator)
    return pc.if_else(pc.equal(texts, ""), pa.scalar([], pa.list_(pa.string())), lists)


@dataclass(frozen=True)
class _Entries:
    """Entries of lists as rows of their own.

    Attributes:
        row: (N,) row of each entry in the table as it was read.
        after: (N,) number of entries that follow in the same list.
        place: (N,) place of each entry in its list, from 0; -1 for what was chosen and not shown.
    """

    chunk: Chunk
    row: Ints
    after: Ints
    place: Ints


def _take_apart(chunk: Chunk, item: str, lists: Lists) -> _Entries:
    """Make a row of each entry of the lists; a row that cannot be taken apart stays one, with the reason."""
    chunk = _gathered(chunk, lists.gather)
    whole = flat(chunk[item], lists.separator)
    shown = Flat(whole.values, whole.start + 1, np.maximum(whole.count - 1, 0)) if lists.first else whole
    parallel = {name: flat(chunk[name], lists.separator) for name in lists.parallel}
    filled = shown.values.is_valid().to_numpy(zero_copy_only=False) if item in lists.gather else None
    held = shown.count if filled is None else np.bincount(shown.row[filled], minlength=len(chunk))
    problem = mark(chunk.problem, held == 0, "empty_list")
    for other in parallel.values():
        problem = mark(problem, other.count != shown.count, "uneven_lists")
    usable = problem.is_null().to_numpy(zero_copy_only=False)
    count = np.where(usable, shown.count, 1)
    row = np.repeat(np.arange(len(chunk)), count)
    place = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    if filled is not None:  # an empty place is no entry, and those after it keep theirs
        source = np.where(usable[row], shown.start[row] + place, 0)
        kept = ~usable[row] | (filled[source] if len(filled) else False)
        row, place = row[kept], place[kept]
    real = usable[row]

    def entries(of: Flat) -> pa.Array:
        return of.values.take(pa.array(of.start[row] + place, mask=~real))

    made = {name: entries(other) for name, other in parallel.items()}
    if lists.first:
        has_first = whole.count > 0
        made[lists.first] = whole.values.take(pa.array(whole.start, mask=~has_first)).take(pa.array(row))
    if lists.position:
        made[lists.position] = pa.array(place + 1, mask=~real)
    made[item] = entries(shown)
    if lists.suffix:
        form = f"^(?P<item>.+?)(?:{re.escape(lists.suffix_separator)}(?P<suffix>[01]))?$"
        pairs = pc.extract_regex(as_text(made[item]), form)
        made[item], suffix = pc.struct_field(pairs, "item"), pc.struct_field(pairs, "suffix")
        made[lists.suffix] = pc.if_else(pc.equal(suffix, ""), pa.scalar(None, pa.string()), suffix)
    chosen = {*lists.chosen, *lists.chosen_places}
    repeated = [name for name in chunk.rows.schema.names if name not in {*made, *chosen}]
    made |= {name: chunk[name].take(pa.array(row)) for name in repeated}
    problem = problem.take(pa.array(row))
    result = _Entries(_chunk(made, problem), row, count[row] - 1 - place, place)
    for name in lists.chosen:
        result = _with_chosen(result, item, name, flat(chunk[name], lists.separator), usable)
    for name in lists.chosen_places:
        result = _with_places(result, item, name, places_of(chunk[name], lists.first_place), usable)
    return result


def _gathered(chunk: Chunk, gather: Mapping[str, tuple[str, ...]]) -> Chunk:
    """Add lists that are made of the columns of a row."""
    columns = {name: chunk[name] for name in chunk.rows.schema.names}
    for name, parts in gather.items():
        if all(part in columns for part in parts):
            columns[name] = gathered([columns[part] for part in parts])
    return _chunk(columns, chunk.problem, chunk.evidence)


def gathered(parts: Sequence[pa.Array]) -> pa.Array:
    """Make a list (N,) of the values of each row of some columns, missing ones included."""
    known = {part.type for part in parts if not pa.types.is_null(part.type)}
    kind = known.pop() if len(known) == 1 else pa.string()
    alike = [part.cast(kind) if pa.types.is_null(part.type) else part for part in parts]
    alike = alike if not known else [as_text(part) for part in alike]
    rows = len(parts[0])
    by_row = np.arange(len(parts) * rows).reshape(len(parts), rows).T.ravel()
    offsets = pa.array(len(parts) * np.arange(rows + 1))
    return pa.LargeListArray.from_arrays(offsets, pa.concat_arrays(alike).take(pa.array(by_row)))


def places_of(values: pa.Array, first: int = 0) -> tuple[Ints, Ints]:
    """Read places of entries, from 0: the row (M,) of each, and the places (M,).

    What is no whole number is a place that no list has.

    Args:
        values: (N,) numbers, lists of them, or texts such as ``[0, 2]`` and ``0|2``.
        first: number of the first place.
    """
    row, place = [], []
    for index, value in enumerate(values.to_pylist()):
        if isinstance(value, str):
            given: Sequence[Any] = [token for token in re.split(r"[^\w.+-]+", value) if token]
        else:
            given = value if isinstance(value, list) else [value]
        for each in given:
            number = _number_or_none(each)
            if number is None or number >= first:
                row.append(index)
                place.append(_NOWHERE if number is None or number % 1 else int(number) - first)
    return np.array(row, np.int64), np.array(place, np.int64)


def _number_or_none(value: Any) -> float | None:
    """Read a place; a missing one is below all others."""
    try:
        number = -1.0 if value is None else float(value)
    except ValueError:
        return None
    return -1.0 if np.isnan(number) else min(number, float(_NOWHERE))


def _with_chosen(
    entries: _Entries, item: str, name: str, chosen: Flat, usable: npt.NDArray[np.bool_]
) -> _Entries:
    """Add a column of 1 for chosen entries, by their ids."""
    shown, ids = entries.chunk[item], chosen.values
    if shown.type != ids.type:
        shown, ids = as_text(shown), as_text(ids)
    code = pa.concat_arrays([shown, ids]).dictionary_encode().indices
    codes = np.asarray(code.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    known = codes[len(shown) :] >= 0
    wanted = _Chosen(chosen.row[known], codes[len(shown) :][known], ids.filter(pa.array(known)))
    return _flagged(entries, item, name, codes[: len(shown)], wanted, usable)


def _with_places(
    entries: _Entries, item: str, name: str, chosen: tuple[Ints, Ints], usable: npt.NDArray[np.bool_]
) -> _Entries:
    """Add a column of 1 for chosen entries, by their places."""
    row, place = chosen
    nothing = pa.nulls(len(place), entries.chunk[item].type)
    return _flagged(entries, item, name, entries.place, _Chosen(row, place, nothing), usable)


@dataclass(frozen=True)
class _Chosen:
    """Entries that were chosen: their rows, the codes that they share with what was shown, and their ids."""

    row: Ints
    code: Ints
    ids: pa.Array


def _flagged(
    entries: _Entries, item: str, name: str, codes: Ints, chosen: _Chosen, usable: npt.NDArray[np.bool_]
) -> _Entries:
    """Add a column of 1 for chosen entries; one that is not shown becomes a row with a problem.

    Args:
        codes: (N,) of the entries; those below 0 are unknown.
    """
    chunk = entries.chunk
    span = max(int(codes.max(initial=0)), int(chosen.code.max(initial=0))) + 2
    shown, wanted = entries.row * span + codes + 1, chosen.row * span + chosen.code + 1
    flags = pa.array(np.isin(shown, wanted).astype(np.int8), mask=codes < 0)
    lost = np.flatnonzero(usable[chosen.row] & ~np.isin(wanted, shown))
    columns = {column: chunk[column] for column in chunk.rows.schema.names} | {name: flags}
    if not len(lost):
        return dataclasses.replace(entries, chunk=_chunk(columns, chunk.problem))
    # The first entry of the row lends the lost one its other columns.
    lender = np.searchsorted(entries.row, chosen.row[lost])
    order = np.append(np.arange(len(chunk)), lender)
    columns = {column: values.take(pa.array(order)) for column, values in columns.items()}
    ids = [chunk[item], chosen.ids.take(pa.array(lost))]
    alike = ids[0].type == ids[1].type
    columns[item] = pa.concat_arrays(ids if alike else [as_text(values) for values in ids])
    is_lost = np.arange(len(order)) >= len(chunk)
    problem = mark(chunk.problem.take(pa.array(order)), is_lost, "chosen_not_shown")
    back = np.argsort(entries.row[order], kind="stable")  # rows of one request stay together
    sorted_columns = {column: values.take(pa.array(back)) for column, values in columns.items()}
    return _Entries(
        _chunk(sorted_columns, problem.take(pa.array(back))),
        entries.row[order][back],
        entries.after[order][back],
        np.where(is_lost, -1, entries.place[order])[back],
    )
