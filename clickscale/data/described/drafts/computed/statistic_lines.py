"""The statistics of a draft: the usual ones that a log can have, and those that its sample calls for.

Some logs are decided by what the usual statistics do not count: by a field of thousands of values, by pairs
of what a user and an item are, by how often a user saw an item, by how long a visit lasts. Models learn none
of this from a few ten thousand rows of ids. A statistic tells it in a number, where a sample of the
impressions says that it would; on other logs it would only be one more column.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.computed.followed import told_by_newest
from clickscale.data.described.drafts.computed.told import Codes, Floats, binned, joined, told_beyond
from clickscale.data.described.drafts.event_tables import Events
from clickscale.data.described.drafts.roles.column_names import mentions
from clickscale.data.described.drafts.roles.column_values import comparable, separation
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.toml_lines import quoted, remark
from clickscale.data.features.counts_in_memory import counts_before
from clickscale.data.features.statistics import hours_of
from clickscale.data.tables.casts import detect_unit, seconds
from clickscale.schema import HOUR, NEWEST, Statistic, newest_of, usual_statistics

_CATEGORIES = (3, 300)  # fewest and most values of a field that tells the kind of an item
_MANY, _ALONE = (
    300,
    0.75,
)  # values of a field that has a rate of its own: at least, and as a share of the rows
_MOST = 3  # fields of many values and pairs of fields that get statistics, at most
_TOGETHER = 10.0  # standard errors, see `told_beyond`; of real logs none has more than 5.4
_BEYOND_KIND = 5.0  # those of an attribute beyond the kind of an item; where it tells nothing, 3.2 at most
_AT_HOURS = 5.0  # those of an hour and a field, where users count once; where hours tell nothing, 3.5 at most
_LIKED = 5.0  # those of an attribute of items and the user, from which it is what users differ in
_SEEN = 0.1  # share of the rows whose user has seen the item, or another one of its series
_TELLS = 0.65  # AUC of a count that tells the outcome; that of ratings in a visit has .59, since users differ
_VISITS = {"10m": 600, "1h": 3600}  # windows in seconds
_RETURNING, _DAY = 0.5, 86_400  # share of the rows a day or more after the first of their user, at least
_LATELY = 4.0  # those of clicks in an hour, where users count once; where these tell nothing, 3.3 at most
_HOUR, _FEW, _CLICKS = 3600, 8, 3  # more rows and more clicks within the hour count as so many
_FOLLOWS = 4.0  # those of what the newest click showed and what is shown; where it tells nothing, 3.3 at most
_KNOWN = 3  # rows of a user before the hour, at least, and pseudo-rows of their rate
_MONTH = 30 * 86_400
_WEEK = 7 * 86_400  # that a sample spans at least, for hours to come again
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))


@dataclass(frozen=True)
class Sampled:
    """A categorical field beside the impressions of a sample.

    Attributes:
        side: whose attribute it is; None in the context.
        values: (N,) values of the rows, null where there is none.
    """

    name: str
    side: Literal["user", "item"] | None
    values: pa.Array
    is_list: bool = False


@dataclass(frozen=True)
class Sample:
    """What a sample of impressions says of statistics.

    Attributes:
        fields: those of one value.
        lists: attributes of items that have several.
        user, item: (N,) ids; None without them.
        seconds: (N,) times; None without them.
        label: (N,) outcomes; None without one.
        keys_hour: whether the hour of an impression can be a key: there are times, and no field has its name.
    """

    fields: Sequence[Sampled]
    user: pa.Array | None
    item: pa.Array | None
    seconds: pa.Array | None
    label: Floats | None
    keys_hour: bool = True
    lists: Sequence[Sampled] = ()

    @classmethod
    def of(cls, fields: Sequence[Sampled], events: Events, *, keys_hour: bool = True) -> "Sample":
        """Sample of a table of events; one of lists or of users of several columns says nothing."""
        ids = [None if column is None else column.values for column in (events.user, events.item)]
        if events.shape.listed or events.shape.composite:
            return cls([], None, None, None, None)
        user, item = (None if ids is None or pa.types.is_nested(ids.type) else ids for ids in ids)
        time = None if events.time is None else seconds(events.time.values, detect_unit(events.time.known))[0]
        single = [field for field in fields if not field.is_list]
        lists = [field for field in fields if field.is_list and field.side == "item"]
        return cls(single, user, item, time, events.truth, keys_hour, lists)

    @cached_property
    def is_of_returning_users(self) -> bool:
        """True if users come back after days; of a large log with many users a sample cannot tell it."""
        if self.user is None or self.seconds is None:
            return False
        told = np.asarray(self.seconds.is_valid())
        user, time = _codes(self.user)[told], np.asarray(self.seconds.drop_null(), np.int64)
        first = np.full(int(user.max(initial=0)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, user, time)
        return bool(len(user)) and float(np.mean((user > 0) & (time - first[user] >= _DAY))) >= _RETURNING

    def calls_for_recency(self, kind: str) -> bool:
        """True if users come back, or what they clicked of a kind within the last hour tells of the outcome.

        Args:
            kind: see `called_for`.
        """
        kinds = [_codes(field.values) for field in self.fields if field.name == kind]
        return self.is_of_returning_users or (bool(kinds) and self._clicks_tell(*kinds))

    def _clicks_tell(self, *kind: Codes) -> bool:
        """True if clicks of the user (on that kind) within the last hour tell more than those before do.

        Only users of whom more is known than this hour say so: else their clicks tell who they are.
        """
        if self.user is None or self.seconds is None or self.label is None:
            return False
        user, moment = _codes(self.user), np.asarray(self.seconds.fill_null(0), np.int64)
        known = (user > 0) & np.isfinite(self.label) & np.asarray(self.seconds.is_valid())
        if not known.any():
            return False
        outcome, rate = np.where(known, self.label, -1).astype(np.int64), self.label[known].mean()
        told, seen = list(kind), np.ones(len(user), bool)
        for key in (user, *(joined(user, each) for each in kind)):
            ever, lately = (counts_before(key, moment, outcome, window=window) for window in (0, _HOUR))
            rows, clicks = ever.known - lately.known, ever.positives - lately.positives
            seen &= (rows >= _KNOWN) | (key is not user)
            told.append(binned((clicks + _KNOWN * rate) / (rows + _KNOWN)))
            told.append(np.minimum(lately.known, _FEW) + 1)
            told.append(np.minimum(lately.positives, _CLICKS) + 1)
        label = np.where(known & seen, self.label, np.nan)
        return told_beyond(told[:-1], told[-1], label, group=user) >= _LATELY

    def called_for(self, kind: str) -> Iterator[tuple[Statistic, str]]:
        """Yield the statistics beyond the usual ones, each with the reason.

        Args:
            kind: the field that stands for the kind of an item; empty if none does.
        """
        for field in self._of_many_values()[:_MOST]:
            why = f"{field.name} has many values, each in few rows"
            yield Statistic(name=f"{field.name}_rate", by=(field.name,)), why
            yield Statistic(name=f"{field.name}_count", by=(field.name,), of="count"), why
        pairs = self._pairs()[:_MOST]
        for one, other in pairs:
            why = f"outcomes depend on {one} and {other} together"
            yield Statistic(name=f"{one}_{other}_rate", by=(one, other)), why
        if self.user is None:
            return
        seen = _earlier([self.user, self.item]) if self.item is not None else np.zeros(1, np.int64)
        if (seen > 0).mean() >= _SEEN and self._tells(seen):
            why = "users see an item again, and it tells something of the outcome"
            yield Statistic(name="user_item_rate", by=("user", "item")), why
            yield Statistic(name="user_item_count", by=("user", "item"), of="count"), why
        for name in self._followed(kind, pairs):
            why = f"what users clicked last tells which {name} follows"
            yield Statistic(name=f"after_{name}_lift", by=(NEWEST + name, name), of="lift"), why
        for name in self._come_back_to(kind):
            why = f"users come back to the same {name}, and it tells of the outcome"
            yield Statistic(name=f"user_{name}_rate", by=("user", name)), why
            yield Statistic(name=f"user_{name}_count", by=("user", name), of="count"), why
        if self.seconds is not None and self._tells(_lately(self.user, self.seconds, max(_VISITS.values()))):
            for name, window in _VISITS.items():
                why = "outcomes depend on the place in a visit"
                yield Statistic(name=f"user_count_{name}", by=("user",), of="count", window=window), why
        elif self._clicks_tell():
            why = "outcomes depend on what the user clicked within the last hour"
            yield Statistic(name="user_recency", by=("user",), of="recency", window=_MONTH), why

    def liked_of(self, names: Collection[str]) -> str:
        """Name the attribute of items, of some, that tells best what a user likes; empty if none does."""
        likely = [field for field in (*self.fields, *self.lists) if field.name in names]
        found = [(self._liked(field), field.name) for field in likely]
        told, name = max(found, default=(0.0, ""))
        return name if told >= _LIKED else ""

    def _come_back_to(self, kind: str) -> list[str]:
        """Name the attribute of items, such as their series, that tells what a user likes best; or none.

        What the kind of an item tells of it, the usual statistics have, so it must tell more than that.
        """
        kinds = [field for field in self.fields if field.name == kind]
        others = [field for field in self.fields if field.side == "item" and field.name != kind]
        found = [
            (self._liked(field, *kinds), field.name)
            for field in others
            if (_earlier([self.user, field.values]) > 0).mean() >= _SEEN
        ]
        told, name = max(found, default=(0.0, ""))
        return [name] if told >= (_BEYOND_KIND if kinds else _TOGETHER) else []

    def _followed(self, kind: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """List of item and kind what depends on that of the newest click, beyond pairs of fields."""
        if self.user is None or self.item is None or self.seconds is None or self.label is None:
            return []
        time = np.asarray(self.seconds.fill_null(0), np.int64)
        user = np.where(np.asarray(self.seconds.is_valid()), _codes(self.user), 0)
        kinds = {field.name: field.values for field in self.fields if field.name == kind}
        codes = {field.name: _codes(field.values) for field in self.fields}
        more = [joined(codes[one], codes[other]) for one, other in pairs if one in codes]
        shown = {name: _codes(values) for name, values in ({"item": self.item} | kinds).items()}
        return [
            name
            for name, of_row in shown.items()
            if told_by_newest(user, time, of_row, self.label, more) >= _FOLLOWS
        ]

    def _liked(self, field: Sampled, *kind: Sampled) -> float:
        """Measure how far an attribute of items tells what users like, beyond their kind if that is given."""
        if self.label is None or self.user is None:
            return 0.0
        user, codes = _codes(self.user), _codes(field.values)
        within = joined(user, _codes(kind[0].values)) if kind else None
        return told_beyond((user, codes), joined(user, codes), self.label, within=within)

    def _tells(self, count: Codes) -> bool:
        """True if a count tells the outcome."""
        return self.label is not None and separation(Column("", pa.array(count)), self.label) >= _TELLS

    def _of_many_values(self) -> list[Sampled]:
        """List the fields of the context with more values than a short training learns."""
        counts = [(field, pc.count_distinct(field.values).as_py()) for field in self.fields]
        return [
            field
            for field, count in counts
            if field.side is None and _MANY <= count <= _ALONE * len(field.values.drop_null())
        ]

    def _pairs(self) -> list[tuple[str, str]]:
        """List the fields that tell the outcome together, the strongest pair first.

        Pairs of attributes of users, or of items, are left out: their ids have them.
        """
        if self.label is None:
            return []
        low, high = _CATEGORIES
        few = [f for f in self.fields if low - 1 <= pc.count_distinct(f.values).as_py() <= high]
        few.sort(key=lambda field: ("user", None, "item").index(field.side))
        found = [
            (_told_together(_codes(one.values), _codes(other.values), self.label), one.name, other.name)
            for one, other in combinations(few, 2)
            if one.side != other.side or one.side is None
        ]
        found = [each for each in found if each[0] >= _TOGETHER]
        if self.keys_hour:
            found += [(self._told_by_hours(field), HOUR, field.name) for field in few]
        return [(one, other) for told, one, other in sorted(found, reverse=True) if told >= _AT_HOURS]

    def _told_by_hours(self, field: Sampled) -> float:
        """Measure how far the hour and a field together tell the outcome, alike for other users.

        Else an hour says who was there, and in a log of a few days what happened then.
        """
        known = np.zeros(0) if self.seconds is None else np.asarray(self.seconds.drop_null())
        if self.seconds is None or self.label is None or not len(known) or np.ptp(known) < _WEEK:
            return 0.0
        moment = np.asarray(self.seconds.fill_null(0), np.int64)
        hour = np.where(self.seconds.is_valid(), hours_of(moment) + 1, 0)
        group = moment // _DAY if self.user is None else _codes(self.user)
        return _told_together(hour, _codes(field.values), self.label, group)


def statistic_lines(
    categories: Mapping[str, Column],
    has: Mapping[str, bool],
    ordered: bool,
    free: Callable[[str], str],
    sample: Sample,
    drawn: bool,
) -> Iterator[str]:
    """Yield the tables ``[[statistics]]``.

    Args:
        categories: categorical fields of items by name.
        has: which of ``user`` and ``item`` the log has.
        ordered: true if moments are places in an order, so that windows in seconds mean nothing.
        free: gives a name that no field has.
        sample: what calls for more than the usual ones; where negatives are drawn, they copy the context of
            their positive, and nothing does.
        drawn: whether negatives are drawn.
    """
    category, why = _category(categories, sample)
    recency = sample.calls_for_recency(category)
    usual = [each for each in usual_statistics(category, drawn=drawn) if each.of != "recency" or recency]
    known = {(each.by, each.of, each.window) for each in usual}
    more = {
        each: said
        for each, said in (() if drawn else sample.called_for(category))
        if (each.by, each.of, each.window) not in known
    }
    statistics = [
        each
        for each in (*usual, *more)
        if all(has.get("user" if newest_of(key) else key, True) for key in each.by)
        and not (each.window and ordered)
    ]
    if not statistics:
        return
    yield "\n# Known before each impression, computed from earlier ones only. Models and trees read these"
    yield "# numbers beside the fields. Any of them may be removed."
    yield f"# {why}"
    for each in statistics:
        meaning = _meaning(each, "positives" if drawn else "impressions")
        yield f"[[statistics]]  # {'; '.join(filter(None, (meaning, remark(more.get(each, '')))))}"
        yield f"name = {quoted(free(each.name))}"
        yield f"by = [{', '.join(quoted(key) for key in each.by)}]"
        yield f"of = {quoted(each.of)}"
        if each.window:
            yield f"window = {each.window}"
        if each.prior != Statistic(name="", by=()).prior:
            yield f"prior = {each.prior:g}"


def _category(categories: Mapping[str, Column], sample: Sample) -> tuple[str, str]:
    """Return the item field that best tells the kind of an item, and why; an empty name if none does.

    Where no name tells, or several do, it is the one on which users differ most.
    """
    low, high = _CATEGORIES
    fit = {
        name: values for name, column in categories.items() if low <= (values := _value_count(column)) <= high
    }
    if not fit:
        return "", f"No item field has {low} to {high} values, so none stands for the kind of an item."
    said = {name: values for name, values in fit.items() if _tells_kind(categories[name])}
    middle = np.sqrt(low * high)
    # Numbers, such as those of shelves, are kinds only where nothing else is one.
    words = {name: values for name, values in fit.items() if categories[name].floats is None}
    if len(said) != 1 and (liked := sample.liked_of(said or fit)):
        return liked, f"{liked} stands for the kind of an item: outcomes depend on it and the user together."
    chosen = min(said or words or fit, key=lambda name: abs(np.log(fit[name] / middle)))
    why = "by its name" if said else f"its {fit[chosen]} values are few enough to come back in a history"
    return chosen, f"{chosen} stands for the kind of an item: {why}."


def _meaning(statistic: Statistic, counted: str) -> str:
    """Describe a statistic in words.

    Args:
        counted: what is counted.
    """
    *others, last = statistic.by
    share = (
        f"how often the positives of the same {' and '.join(others)} have this {last}, next to all positives"
    )
    what = {
        "count": f"number of earlier {counted} of the same",
        "rate": "smoothed label rate of earlier impressions of the same",
        "lift": "earlier labels less the rates of their items, of the same",
        "recency": "seconds since the newest positive label of the same",
        "share": share if others else "how many of a thousand earlier positives are of the same",
    }[statistic.of]
    window = statistic.window
    size, unit = next(((n, name) for n, name in _UNITS if window and window % n == 0), (1, ""))
    back = f", {window // size} {unit}{'s' * (window > size)} back" if unit else ""
    names = "" if what == share else f" {' and '.join(statistic.by)}"
    return f"{what}{names}{back}"


def _tells_kind(column: Column) -> bool:
    """True if a column's name implies that its values are kinds of items."""
    return mentions(column.name, "kind")


def _value_count(column: Column) -> int:
    """Count the different values; those of lists one by one."""
    if pa.types.is_nested(column.values.type):
        return int(pc.count_distinct(pc.list_flatten(column.known)).as_py())
    if not column.separator:
        return column.distinct
    return len({value for entries in column.entries() for value in entries})


# --- what a sample tells


def sampled(
    name: str, side: Literal["user", "item"] | None, column: Column, rows: Codes | None
) -> Sampled | None:
    """Put a field beside the impressions, lists as their texts; None if it is of several columns or rows.

    Args:
        rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
    """
    if column.parts or (rows is not None and not len(rows)):
        return None
    is_list = pa.types.is_nested(column.values.type) or bool(column.separator)
    values = comparable(column.values)
    if rows is not None:
        values = values.take(pa.array(np.maximum(rows, 0), mask=rows < 0))
    return Sampled(name, side, values, is_list)


def _codes(values: pa.Array) -> Codes:
    """Numbers (N,) of the values, 0 for none."""
    indices = pc.dictionary_encode(values).indices.fill_null(-1)
    return np.asarray(indices, np.int64) + 1


def _earlier(keys: Sequence[pa.Array]) -> Codes:
    """(N,) earlier rows of the sample that share all keys."""
    joined = np.unique(np.stack([_codes(key) for key in keys]), axis=1, return_inverse=True)[1].ravel()
    order = np.argsort(joined, kind="stable")
    first = np.r_[0, np.flatnonzero(np.diff(joined[order])) + 1]
    length = np.diff(np.r_[first, len(joined)])
    earlier = np.empty(len(joined), np.int64)
    earlier[order] = np.arange(len(joined)) - np.repeat(first, length)
    return earlier


def _lately(user: pa.Array, seconds: pa.Array, window: int) -> Codes:
    """(N,) rows of the sample with the same user within so many seconds before."""
    who, when = _codes(user), np.asarray(seconds.fill_null(0), np.int64)
    when = when - when.min()
    moments = who * (int(when.max()) + window + 1) + when  # those of a user stand together, in order
    ordered = np.sort(moments)
    return np.searchsorted(ordered, moments) - np.searchsorted(ordered, moments - window)


def _told_together(one: Codes, other: Codes, label: Floats, group: Codes | None = None) -> float:
    """Measure how far two fields together tell an outcome, see `told_beyond`."""
    return told_beyond((one, other), joined(one, other), label, group=group)
