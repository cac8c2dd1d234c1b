"""Derived numbers of a draft: ages, comparisons of numbers, distances, and values in common."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickscale.data.described.drafts.computed.told import Codes, Floats, told_beyond
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_values import codes_of, numbers_or_none
from clickscale.data.described.drafts.roles.moments import moments_beside
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.toml_lines import MOST_VALUES, quoted, remark
from clickscale.data.described.rows import as_text
from clickscale.data.features.derived import compared
from clickscale.data.features.zones import utc_offsets
from clickscale.schema import COMPARISONS, Derived

_FEWEST, _MOST = 3, 10_000  # values that both fields must have, and that one may have
_ALIKE = 0.5  # of the field with fewer values, the share that the other has, too
_AXES = ("latitude", "longitude")
_COORDINATE = re.compile(r"(?:^|_)(?:(lat|latitude)|lon|lng|long|longitude)(?=_|$)")
_DISTANCES = 3  # at most, and as many comparisons of numbers
_COMPARED = 12  # numbers that are compared
_SURE = 5.0  # standard errors, see `told_beyond`
_VERY_SURE = 10.0  # of so many comparisons
_RETURN = re.compile(r"(^|_)return|^(date_)?retour$")  # of a journey, or of goods
_DAY, _HOURS = 86_400, 6 * 3600  # in seconds; what follows within hours, as the end of a ride, came of it
_AS_OFTEN = 0.5  # as moments of positives are known, those of negatives are at least
_BEFORE = 0.01  # share of the moments ahead that may lie before the day of their impression
_BINS = 32
_OF_ZONES = re.compile(
    r"(^|_)(tz|time_?zones?|(utc|gmt|tz|time|zone)_?offset|zeitzone|fuseau|zona_horaria|huso_horario)(_|$)"
)
_LIKE_ZONE = re.compile(r"[A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+)+|((UTC|GMT) ?)?[-+]\d\d?:\d\d")
_ZONES, _MOSTLY = 600, 0.9  # different zones at most, and the share of the rows in a known one
_CLOCKS: tuple[tuple[Literal["local_hour", "local_weekday"], int, int], ...] = (
    ("local_hour", 3600, 24),
    ("local_weekday", 86_400, 7),
)
_ORDERED = 0.99  # share of the stays that end after their begin
_APART = 0.9  # correlation of ranks

Side = Literal["user", "item"] | None


@dataclass(frozen=True)
class _Set:
    """Values of a field beside the impressions of a sample.

    Attributes:
        number: of each value.
        rows: (N, values) numbers of the values of each impression, -1 for none.
    """

    name: str
    side: Side
    number: dict[str, int]
    rows: Codes


@dataclass
class Derivations:
    """What a draft derives, found field by field as the draft is written.

    Args:
        truth: (N,) outcomes of the impressions of a sample, NaN where unknown; None without outcomes.
        time: of these impressions; None if they have no times.
        user: of these impressions, whose rows are no evidence of their own; None without users.
    """

    truth: Floats | None
    time: Column | None
    user: Column | None = None
    _found: list[tuple[Derived, str]] = field(default_factory=list)
    _sets: list[_Set] = field(default_factory=list)
    _numbers: list[tuple[str, Floats]] = field(default_factory=list)
    _places: dict[tuple[Side, str], dict[str, str]] = field(default_factory=dict)
    _ahead: dict[str, str] = field(default_factory=dict)  # names of fields by those of columns
    _stays: list[tuple[str, str]] = field(default_factory=list)
    _clocks: dict[str, list[Codes]] = field(default_factory=dict)  # local times so far, each (N,)

    def moments_ahead(self, columns: Sequence[Column]) -> list[tuple[Column, bool]]:
        """Find the moments that lie ahead of the impressions.

        Returns:
            Their columns, each with true if the time until then, or that between two of them, tells of the
            outcome.
        """
        if self.time is None or self.truth is None:
            return []
        found = _asked_for(columns, self.time, self.truth)
        if not found:
            return []
        moments = {column.name: moments_beside(column, self.time, None)[0] for column in found}
        times = moments_beside(self.time, self.time, None)[0]
        told = {name for name, values in moments.items() if _tells_age(values, times, self.truth)}
        for one, other in combinations(moments, 2):
            begin, end = sorted((one, other), key=lambda name: np.nanmean(moments[name]))
            length = moments[end] - moments[begin]
            known = np.isfinite(length)
            if not known.any() or (length[known] >= 0).mean() < _ORDERED:
                continue
            ages = [moments[name] - times for name in (begin, end)]
            if min(_told_by(length, [age], self.truth) for age in ages) > _SURE:
                self._stays.append((begin, end))
        self._ahead = dict.fromkeys(told.union(*self._stays), "")
        return [(column, column.name in self._ahead) for column in found]

    def take(self, name: str, side: Side, column: Column, rows: Codes | None, options: str) -> str:
        """Take a field into account, and return its options.

        Args:
            rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
            options: of the field, in TOML; with matches, its vocabulary becomes that of another field.
        """
        if column.name in self._ahead and rows is None:
            self._ahead[column.name] = name
        if 'kind = "timestamp"' in options and self.time is not None:
            moments, times = moments_beside(column, self.time, rows)
            if _tells_age(moments, times, self.truth):
                age = Derived(name=f"{name}_age", of="age", by=(name,))
                self._found.append((age, f"days from {remark(name)} to the impression"))
        self._found += self._local_times(name, column, rows, options)
        if 'kind = "numeric"' in options:
            self._numbers.append((name, _numbers_beside(column, rows)))
        words = OutcomeName(name).snake
        if 'kind = "numeric"' in options and (coordinate := _COORDINATE.search(words)):
            place = (side, words[: coordinate.start()] + words[coordinate.end() :])
            self._places.setdefault(place, {})[_AXES[0] if coordinate[1] else _AXES[1]] = name
        if "kind =" in options or self.truth is None or column.parts:
            return options
        mine = _set_of(name, side, column, rows)
        if mine is None:
            return options
        for other in self._sets:
            if other.side != side and _are_alike(mine, other) and self._tells(mine, other):
                match = Derived(name=f"{other.name}_{name}_matches", of="matches", by=(other.name, name))
                why = f"what {remark(other.name)} and {remark(name)} have in common tells of the outcome"
                self._found.append((match, why))
                return f"{options}, shares = {quoted(other.name)}"
        self._sets.append(mine)
        return options

    def _tells(self, one: _Set, other: _Set) -> bool:
        """True if a value in common tells the outcome, beyond what the first value of either field tells."""
        if self.truth is None or not len(one.rows) == len(other.rows) == len(self.truth):
            return False
        translated = np.array([one.number.get(value, -2) for value in other.number], np.int64)
        theirs = np.where(other.rows >= 0, translated[np.maximum(other.rows, 0)], -2)
        match = (one.rows[:, :, None] == theirs[:, None, :]).any(axis=(1, 2))
        first = (one.rows[:, 0] + 1, other.rows[:, 0] + 1)
        flat = self.user is not None and not pa.types.is_nested(self.user.values.type)
        users = codes_of(self.user.values) if self.user is not None and flat else None
        return told_beyond(first, match + 1, self.truth, group=users) > _SURE

    def _local_times(
        self, name: str, column: Column, rows: Codes | None, options: str
    ) -> Iterator[tuple[Derived, str]]:
        """Yield the local times in the zones of a field that tell more than UTC and the zone do."""
        if self.time is None or self.truth is None or re.search('values =|url =|kind = "[^n]', options):
            return
        zones, place = _zones_beside(column, rows)
        if not zones:
            return
        times = moments_beside(self.time, self.time, None)[0]
        if not len(place) == len(times) == len(self.truth):
            return
        clock = np.full(len(times), np.nan)
        for at, zone in enumerate(zones):
            there = (place == at) & np.isfinite(times)
            clock[there] = times[there] + utc_offsets(zone, times[there].astype(np.int64))
        for of, size, cycle in _CLOCKS:
            utc, local = (_in_cycle(each, size, cycle) for each in (times, clock))
            others = self._clocks.setdefault(of, [])  # a zone and its offset are one clock
            if told_beyond([utc, place + 1, *others], local, self.truth) > _SURE:
                others.append(local)
                what = f"the {of.removeprefix('local_')} on the clocks of {remark(name)}"
                yield Derived(name=of, of=of, by=(name,)), f"{what} tells of the outcome"

    def lines(self, free: Callable[[str], str]) -> Iterator[str]:
        """Yield the tables ``[[derived]]``.

        Args:
            free: gives a name that no field has.
        """
        found = [*self._found, *self._lengths(), *self._distances(), *self._compared()]
        if found:
            yield "\n# Made of other fields and of the time of an impression; no request carries them."
        for number, why in found:
            yield f"[[derived]]  # {why}"
            yield f"name = {quoted(free(number.name))}"
            yield f"of = {quoted(number.of)}"
            yield f"by = [{', '.join(map(quoted, number.by))}]"

    def _lengths(self) -> Iterator[tuple[Derived, str]]:
        """Yield the days between the begin and the end of a stay."""
        for begin, end in self._stays[:_DISTANCES]:
            by = (self._ahead[end], self._ahead[begin])
            if all(by):
                name = f"{by[1]}_{by[0]}_days"
                yield Derived(name=name, of="difference", by=by), f"days from {by[1]} to {by[0]}"

    def _distances(self) -> Iterator[tuple[Derived, str]]:
        """Yield the distances between places of which both coordinates are known."""
        places = [place for place in self._places.values() if len(place) == len(_AXES)]
        for one, other in list(combinations(places, 2))[:_DISTANCES]:
            by = tuple(place[axis] for place in (one, other) for axis in _AXES)
            name = f"{one['latitude']}_{other['latitude']}_distance"
            why = f"kilometers between {', '.join(map(remark, by[:2]))} and {', '.join(map(remark, by[2:]))}"
            yield Derived(name=name, of="distance", by=by), why

    def _compared(self) -> Iterator[tuple[Derived, str]]:
        """Yield the differences, ratios and products that tell more than both numbers, strongest first."""
        if self.truth is None:
            return
        found = []
        coordinates = {name for place in self._places.values() for name in place.values()}
        numbers = [each for each in self._numbers if each[0] not in coordinates][:_COMPARED]
        for (one, values), (other, others) in combinations(numbers, 2):
            if not len(values) == len(others) == len(self.truth) or _are_years(values) != _are_years(others):
                continue
            for of in COMPARISONS:
                told = _told_by(compared(of, values, others), [values, others], self.truth)
                found.append((told, Derived(name=f"{one}_{other}_{of}", of=of, by=(one, other))))
        spent: set[tuple[str, ...]] = set()
        for told, number in sorted(found, key=lambda each: each[0], reverse=True):
            if told > _VERY_SURE and number.by not in spent and len(spent) < _DISTANCES:
                spent.add(number.by)
                why = f"the {number.of} of {' and '.join(map(remark, number.by))} tells of the outcome"
                yield number, why


def _zones_beside(column: Column, rows: Codes | None) -> tuple[list[str], Codes]:
    """List the time zones of a field, and the place (N,) among them of each row's, -1 for none.

    Without zones, or with one, the list is empty.
    """
    nothing = list[str](), np.zeros(0, np.int64)
    if pa.types.is_nested(column.values.type) or not 1 < column.distinct <= _ZONES:
        return nothing
    coded = as_text(column.values).dictionary_encode()
    texts, place = coded.dictionary.to_pylist(), np.asarray(coded.indices.fill_null(-1), np.int64)
    alike = [text for text in texts if _LIKE_ZONE.fullmatch(text.strip())]
    if not _OF_ZONES.search(OutcomeName(column.name).snake) and 2 * len(alike) < len(texts):
        return nothing  # Japan and Cuba are zones, and countries
    offsets = np.array([utc_offsets(text, np.zeros(1, np.int64))[0] for text in texts])
    known = np.isfinite(offsets)
    if known[place[place >= 0]].mean() < _MOSTLY or len(np.unique(offsets[known])) < 2:
        return nothing
    return texts, place if rows is None else np.where(rows >= 0, place[np.maximum(rows, 0)], -1)


def _are_years(values: Floats) -> bool:
    """True for whole numbers (N,) from 1800 to 2100, which nothing but years goes with."""
    known = values[np.isfinite(values)]
    return bool(len(known) and (known % 1 == 0).all() and known.min() >= 1800 and known.max() <= 2100)


def _in_cycle(seconds: Floats, size: int, cycle: int) -> Codes:
    """Number (N,) hours of the day or days of the week from 1; 0 for none."""
    known = np.isfinite(seconds)
    return np.where(known, np.where(known, seconds, 0) // size % cycle + 1, 0).astype(np.int64)


def _numbers_beside(column: Column, rows: Codes | None) -> Floats:
    """(N,) numbers beside the impressions, NaN for none."""
    values = numbers_or_none(column)
    if values is None:
        return np.zeros(0)
    return values if rows is None else np.where(rows >= 0, values[np.maximum(rows, 0)], np.nan)


def _told_by(made: Floats, of: Sequence[Floats], truth: Floats) -> float:
    """Measure what a number (N,) tells beyond those that it is made of, see `told_beyond`."""
    known = np.isfinite(made)
    if known.sum() < _BINS:
        return 0.0
    bins = [np.where(known, _binned(values, known), 0) for values in (*of, made)]
    return told_beyond(bins[:-1], bins[-1], truth)


def _set_of(name: str, side: Side, column: Column, rows: Codes | None) -> _Set | None:
    """Number the values of a field; None if they are too few or too many to be in common with another's."""
    if pa.types.is_nested(column.values.type):
        known = [[str(value) for value in values if value is not None] for values in column.known.to_pylist()]
    elif column.separator:
        known = column.entries()
    else:
        known = [[text] for text in as_text(column.known).to_pylist()]
    number: dict[str, int] = {}
    width = min(max(map(len, known), default=0), MOST_VALUES)
    table = np.full((len(column.values), width), -1, np.int64)
    places = np.flatnonzero(column.values.is_valid().to_numpy(zero_copy_only=False))
    for place, values in zip(places.tolist(), known, strict=True):
        for at, value in enumerate(values[:width]):
            table[place, at] = number.setdefault(value, len(number))
    if not _FEWEST <= len(number) <= _MOST:
        return None
    if rows is None:
        return _Set(name, side, number, table)
    beside = table[np.maximum(rows, 0)] if len(table) else np.full((len(rows), width), -1, np.int64)
    return _Set(name, side, number, np.where(rows[:, None] >= 0, beside, -1))


def _are_alike(one: _Set, other: _Set) -> bool:
    """True if two fields of different sides have many values in common."""
    both = one.number.keys() & other.number.keys()
    return _FEWEST <= len(both) >= _ALIKE * min(len(one.number), len(other.number))


def _asked_for(columns: Sequence[Column], time: Column, label: Floats) -> list[Column]:
    """List the moments after the impressions that were asked for, such as the day of a departure.

    The name says so, nearly no moment lies before the day of its impression, and negatives have one as well:
    a moment that only positives have came of the outcome.

    Args:
        label: (N,) outcomes, NaN where unknown.
    """
    called = [column for column in columns if column.unit and OutcomeName(column.name).is_ahead]
    found = [column for column in called if _lies_ahead(column, time, label)]
    return [] if all(_RETURN.search(OutcomeName(column.name).snake) for column in found) else found


def _lies_ahead(column: Column, time: Column, label: Floats) -> bool:
    """True if moments lie after the impressions, mostly by hours or more, and not only those of positives."""
    moments, shown = moments_beside(column, time, None)
    known = np.isfinite(moments) & np.isfinite(shown)
    is_known, positive = np.isfinite(moments), label > 0
    if len(label) != len(moments) or not known.any() or positive.all() or not positive.any():
        return False
    ahead = (moments - shown)[known]
    after = (ahead <= -_DAY).mean() < _BEFORE and np.median(ahead) > _HOURS
    return bool(after and is_known[label <= 0].mean() >= _AS_OFTEN * is_known[positive].mean())


def _tells_age(moments: Floats, times: Floats, truth: Floats | None) -> bool:
    """True if the time since moments (N,), NaN for none, tells the outcome beyond what the moments tell.

    Where outcomes are unknown, as in a log of positives, it is enough that it is not nearly the moments over
    again, which it is for films of a century in a log of a month.
    """
    known = np.isfinite(moments) & np.isfinite(times)
    if known.sum() < _BINS:
        return False
    ages = times - moments
    if truth is None:
        ranks = np.stack([np.argsort(np.argsort(values[known])) for values in (moments, ages)])
        return bool(abs(np.asarray(np.corrcoef(ranks))[0, 1]) < _APART)
    return _told_by(ages, [moments], truth) > _SURE


def _binned(values: Floats, known: npt.NDArray[np.bool_]) -> Codes:
    """Number (N,) bins with equally many of the known values, from 1."""
    edges = np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.searchsorted(edges, values) + 1
