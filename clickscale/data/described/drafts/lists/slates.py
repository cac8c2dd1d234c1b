"""Lists of what was shown, each entry of which is an impression, and what came of their entries.

The outcome is a mark at each entry, a list beside them, the ids of the entries that were chosen, or their
places. The list itself may be divided into columns such as ``item_1`` to ``item_8``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.lists.listed import Listed
from clickscale.data.described.drafts.roles.column_names import mentions
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.rows import Lists, as_text, flat, gathered, places_of

_PAST = re.compile(r"hist|past|prev|seq|behav|recent|click|read|watch|view|visited|bought")
_SHOWN = re.compile(r"inview|in_view|impression|shown|candidate|slate|exposed|displayed|recommended")
_CHOSEN = re.compile(
    r"click|clk|chosen|choice|select|pick|tap|purchas|bought|buy|order|book(?!s)|convert|install|open|"
    r"clic(?!k)|kli(c?k)|kauf|gekocht|gebucht|gew(a|ae)hlt|bestellt|achat|achete|acquist|ordinat|commande|choisi|"
    r"selec|seleziona|scelt|elegid|escolhid|gekozen|abiert|apert|ouvert|geoeffnet|compr(a|ad[oa]|ou)(_|$)"
)
_PLACE = re.compile(r"pos|place|rank|index|idx|slot|rang|platz|plaats|(^|_)nr(_|$)")
_EARLIER = re.compile(r"(^|_)(last|prev|previous|past|hist|history|recent|avg|mean)(_|$)")
_SLOTS = re.compile(
    r"shown|slate|slot|display|expos|impression|candidat|recom+[ae]nd|^(pos|position|rank|place)$|"
    r"^(posicion|posicao|posizione|rang|rango|platz|plaats|positie)$|mostrad|exibid|affich|angezeigt|empfehl|getoond"
)
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)\Z")
_MOSTLY = 0.9
_DOUBT = """\
no sampled outcome is at place 0 or at the last one of a list, so the first place may be 0 as
# well as 1"""


@dataclass(frozen=True)
class Slate:
    """Lists of shown items in the rows of a table.

    Attributes:
        item: column of the lists.
        options: how they are taken apart.
        label: column of the outcome of each entry.
        doubt: what the sample does not tell of that.
        gathered: lists that are made of several columns.
    """

    item: str
    options: Lists
    label: str
    doubt: str = ""
    gathered: Mapping[str, Listed] = field(default_factory=dict)


def find_slate(head: Head, lists: Mapping[str, Listed]) -> Slate | None:
    """Find lists of shown items in a table, of which ``lists`` are the columns of lists."""
    return _marked(lists) or _by_places(head, lists) or _by_ids(head, lists) or _wide(head)


def _marked(lists: Mapping[str, Listed]) -> Slate | None:
    """Find entries with their outcome, such as ``N5-0``."""
    for name, listed in lists.items():
        texts = as_text(listed.flat.values)
        marked = pc.match_substring_regex(texts, r".-[01]$").fill_null(False)
        if len(texts) > 20 and pc.mean(marked.cast(pa.float64())).as_py() > 0.95:
            return Slate(name, Lists(separator=listed.said_separator, suffix="click"), "click")
    return None


def _by_ids(head: Head, lists: Mapping[str, Listed]) -> Slate | None:
    """Find the ids of what was chosen of a list, or a list with the outcome of each entry."""
    single = _single_ids(head, lists)
    ids = {name: listed for name, listed in lists.items() if listed.ids}
    pairs = [(shown, chosen) for shown in ids for chosen in _chosen_of(shown, {**lists, **single})]
    pairs.sort(
        key=lambda pair: (bool(_SHOWN.search(pair[0].lower())), len(ids[pair[0]].flat.values)), reverse=True
    )
    flags = [name for name, listed in lists.items() if listed.column.is_flag]
    flags.sort(key=lambda name: not _tells_outcome(name))
    items = find_id([replace(listed.column, name=name) for name, listed in ids.items()], "item")
    likely = sorted(
        ids, key=lambda name: (items is None or name != items.name, not _SHOWN.search(name.lower()))
    )
    for shown in [*(pair[0] for pair in pairs), *likely]:
        chosen = tuple(other for name, other in pairs if name == shown)
        parallel = _beside(lists, shown)
        outcomes = [name for name in flags if name in parallel]
        label = chosen[0] if chosen else outcomes[0] if outcomes else ""
        if label and not (_is_past(shown) and (not chosen or label in single)):
            options = Lists(separator=ids[shown].said_separator, chosen=chosen, parallel=parallel)
            return Slate(shown, options, label)
    return None


def _tells_outcome(name: str) -> bool:
    """True if the name, or the last step of a path, has a word for what was chosen."""
    return OutcomeName(name).has_word or bool(_CHOSEN.search(name.rpartition(".")[2].lower()))


def _chosen_of(shown: str, lists: Mapping[str, Listed]) -> Iterator[str]:
    """Yield the lists that hold some of the ids of a list, row by row."""
    for name, listed in lists.items():
        fewer = name != shown and len(listed.flat.values) < len(lists[shown].flat.values)
        if fewer and not listed.parallels(lists[shown]) and listed.share_in(lists[shown]) > _MOSTLY:
            yield name


def _single_ids(head: Head, lists: Mapping[str, Listed]) -> dict[str, Listed]:
    """Read columns of one id in each row as lists of it; the item of a row may also be in its history."""
    # What was clicked is the item of no row.
    columns = [
        column
        for name, column in head.columns.items()
        if name not in lists and not OutcomeName(name).has_word
    ]
    if find_id(columns, "item") is not None:
        return {}
    single = {}
    for name, column in head.columns.items():
        text = column.floats is None and pa.types.is_string(column.values.type)
        if name not in lists and not column.unit and column.distinct > 2 and (text or column.is_id):
            values = flat(pc.if_else(pc.is_valid(column.values), as_text(column.values), ""))
            single[name] = Listed(values, "", column)
    return single


def _beside(lists: Mapping[str, Listed], shown: str) -> tuple[str, ...]:
    """List the columns with one value for each entry of a list."""
    return tuple(name for name, listed in lists.items() if name != shown and listed.parallels(lists[shown]))


def _is_past(name: str) -> bool:
    return bool(_PAST.search(name.lower())) and not _SHOWN.search(name.lower())


# --- places of what was chosen


def _by_places(head: Head, lists: Mapping[str, Listed]) -> Slate | None:
    """Find the places of what was chosen of a list."""
    ids = [name for name, listed in lists.items() if listed.ids and not _is_past(name)]
    ids.sort(key=lambda name: (not _SHOWN.search(name.lower()), -len(lists[name].flat.values)))
    for shown in ids:
        parallel = _beside(lists, shown)
        rest = [column for name, column in head.columns.items() if name not in (shown, *parallel)]
        found, first, doubt = _places_in(rest, lists[shown].flat.count, lists)
        if not found:
            continue
        both = {**lists, **_single_ids(head, lists)}
        options = Lists(
            separator=lists[shown].said_separator,
            parallel=parallel,
            chosen=tuple(name for name in _chosen_of(shown, both) if name not in found),
            chosen_places=found,
            first_place=first,
        )
        return Slate(shown, options, found[0], doubt)
    return None


def _places_in(
    columns: Sequence[Column], count: Ints, lists: Mapping[str, Listed]
) -> tuple[tuple[str, ...], int, str]:
    """Return the columns with places in lists of some lengths (N,), the first place, and what is in doubt."""
    found = {
        column.name: first
        for column in columns
        if _says_place(column, column.name in lists) and (first := _first_place(column, count)) is not None
    }
    known = [first for first, is_sure in found.values() if is_sure]
    if not found or len(set(known)) > 1:
        return (), 0, ""
    # With the places of many outcomes, those at the very first one would hardly be missing.
    return tuple(found), known[0] if known else 1, "" if known else _DOUBT


def _says_place(column: Column, is_list: bool) -> bool:
    """True for names such as ``clicked_positions``; lists need no word for places."""
    name = OutcomeName(column.name).snake
    may_be = bool(_PLACE.search(name) or (is_list and not column.width))
    return may_be and bool(_CHOSEN.search(name)) and not _EARLIER.search(name)


def _first_place(column: Column, count: Ints) -> tuple[int, bool] | None:
    """Return the place of first entries, and whether the sample tells it; None if a column has no places.

    Args:
        count: (N,) entries of each list.
    """
    if column.unit or (not pa.types.is_nested(column.values.type) and column.distinct < 2):
        return None
    row, place = places_of(column.values)
    if not len(place) or (place > count[row]).mean() > 1 - _MOSTLY or len(np.unique(place)) < 2:
        return None
    if pa.types.is_nested(column.values.type) and column.values.type.value_type == pa.bool_():
        return None
    has_zero, has_last = bool((place == 0).any()), bool((place == count[row]).any())
    if has_zero and has_last:  # where nothing was chosen, some logs have 0
        alone = bool((np.bincount(row)[row[place == 0]] == 1).all())
        return (1, True) if alone else None
    if (place > count[row]).any():
        return None
    return (1 if has_last else 0, True) if has_zero or has_last else (1, False)


# --- lists that are divided into columns


def _wide(head: Head) -> Slate | None:
    """Find items in neighboring columns, with the outcome of each, or with what was chosen of them."""
    groups = dict(_numbered(head))
    for stem, (numbers, parts) in groups.items():
        shown = _gathered(head, stem, parts)
        if not (_SLOTS.search(stem) or find_id([shown.column], "item")):
            continue
        if not shown.ids or not _share_ids(head, parts):
            continue
        alike = {
            name: columns
            for name, (same, columns) in groups.items()
            if same == numbers and not mentions(name, "user")
        }
        flags = [
            name for name, columns in alike.items() if name != stem and _are_outcomes(head, name, columns)
        ]
        spent = {part for columns in alike.values() for part in columns}
        rest = [column for name, column in head.columns.items() if name not in spent]
        chosen = () if flags else tuple(_chosen_ids(rest, shown))
        filled = np.full(head.rows, len(parts))
        places, first, doubt = ((), 0, "") if flags or chosen else _places_in(rest, filled, {})
        if not (flags or chosen or places):
            continue
        names = {name: _free(name, head, spent) for name in alike}
        options = Lists(
            gather={names[name]: columns for name, columns in alike.items()},
            parallel=tuple(names[name] for name in alike if name != stem),
            chosen=chosen,
            chosen_places=places,
            first_place=first,
        )
        made = {names[name]: _gathered(head, names[name], columns) for name, columns in alike.items()}
        label = (*(names[name] for name in flags), *chosen, *places)[0]
        return Slate(names[stem], options, label, doubt, made)
    return None


def _numbered(head: Head) -> Iterator[tuple[str, tuple[list[int], tuple[str, ...]]]]:
    """Yield columns whose names differ in a number that counts up, with these, by the rest of the names."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name, column in head.columns.items():
        if (form := _NUMBERED.match(name)) and not pa.types.is_nested(column.values.type):
            groups.setdefault((form["before"], form["after"]), []).append((int(form["number"]), name))
    for (before, after), members in groups.items():
        members.sort()
        numbers = [number for number, _ in members]
        stem = re.sub(r"_+", "_", OutcomeName(f"{before}_{after}").snake)
        if len(numbers) > 1 and stem and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            yield stem, (numbers, tuple(name for _, name in members))


def _gathered(head: Head, name: str, parts: Sequence[str]) -> Listed:
    values = gathered([head.columns[part].values for part in parts])
    entries = flat(values)
    return Listed(entries, "", Column(name, entries.values))


def _share_ids(head: Head, parts: Sequence[str]) -> bool:
    """True if most values of the second column occur in the first: of one kind, such as items."""
    first, second = (as_text(head.columns[part].known) for part in parts[:2])
    if not len(first) or not len(second):
        return False
    return bool(pc.mean(pc.is_in(second, value_set=first.unique()).cast(pa.float64())).as_py() > 0.5)


def _are_outcomes(head: Head, stem: str, parts: Sequence[str]) -> bool:
    """True for columns of 0 and 1 with a word for an outcome."""
    values = pa.concat_arrays([as_text(head.columns[part].values) for part in parts])
    return bool(OutcomeName(stem).has_word or _CHOSEN.search(stem)) and Column(stem, values).is_flag


def _chosen_ids(columns: Sequence[Column], shown: Listed) -> Iterator[str]:
    """Yield the columns of one id that was chosen of what was shown."""
    for column in columns:
        if pa.types.is_nested(column.values.type) or column.unit or not _CHOSEN.search(column.name.lower()):
            continue
        values = flat(pc.if_else(pc.is_valid(column.values), as_text(column.values), ""))
        listed = Listed(values, "", column)
        if column.distinct > 2 and listed.share_in(shown) > _MOSTLY:
            yield column.name


def _free(name: str, head: Head, spent: set[str]) -> str:
    """Return the name of a list, or a longer one, that no other column has."""
    while name in head.columns and name not in spent:
        name += "_list"
    return name
