"""Schema of a log: its fields, labels and statistics; a data set, a run and an artifact carry the same one.

A field belongs to a side (profile, behavior, item, context) by the tuple of `Schema` that holds it. The
user and item ids are fields too: their vocabularies feed id embeddings. A model sees a field as a
`clickscale.features.Feature`.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal

from clickscale.config import Config
from clickscale.errors import SchemaError, unknown

VERSION = 1
HOUR = "hour_of_day"  # of an impression, as a key of statistics
NEWEST = "newest."  # before "item" or a field of items: a key of statistics, see `Statistic`
_LONGEST = 10**12  # seconds of a window or a delay: sums of moments stay far from the end of 64 bits

Kind = Literal["categorical", "numeric", "timestamp", "content"]
Notation = Literal["", "1,234.5", "1.234,5"]
UrlPart = Literal["", "host", "section"]


class Field(Config, frozen=True):
    """One feature of a log, in one raw column.

    ``categorical`` values become indices; ``numeric`` become standardized float32 (missing: NaN);
    ``timestamp`` become days, standardized like numbers; ``content`` are frozen vectors of ``width`` floats.

    Attributes:
        column: name of the raw column; the field's own name if empty. Several columns make one composite id
            of a user or an item (`composite`).
        flags: raw columns of 0 and 1 instead of one column; the values of a row are the names of those that
            are 1, at most ``values`` of them.
        dtype: type of raw ids; ``int`` refuses anything that is not a non-negative 64-bit integer.
        vocabulary: ``exact`` keeps every value seen ``min_count`` times in the training part, or for a
            profile by so many of its users (others are unknown); ``hash`` maps values to ``buckets`` rows and
            needs no dictionary.
        values: largest number of values in a row; 1 for plain fields, more for lists such as tags.
        separator: splits a text column into values, or ``[]`` for texts that are lists in brackets; raw list
            columns need none.
        transform: ``log1p`` compresses a numeric field before it is standardized.
        notation: how people wrote the texts of a numeric field: which of comma and point stands before the
            fraction (`clickscale.data.features.notations`). Empty: as computers write numbers.
        unit: unit of a numeric field that stands beside numbers in texts (`clickscale.data.features.units`).
            Numbers of other units of its dimension are brought to it.
        url: the part of the URLs of a categorical field that is its value (`clickscale.data.features.urls`).
        shares: name of a categorical field whose vocabulary and embedding rows this one uses; that field must
            not share another's.
    """

    name: str
    kind: Kind = "categorical"
    column: str | tuple[str, ...] = ""
    flags: tuple[str, ...] = ()
    dtype: Literal["int", "string"] = "string"
    vocabulary: Literal["exact", "hash"] = "exact"
    min_count: int = 1
    buckets: int = 0
    values: int = 1
    separator: str = ""
    transform: Literal["none", "log1p"] = "none"
    notation: Notation = ""
    unit: str = ""
    url: UrlPart = ""
    width: int = 0
    shares: str = ""

    @property
    def source(self) -> str:
        """Name of the raw column, or of the column that is composed of several."""
        return joined_name(self.flags or self.column) or self.name

    @property
    def is_constant(self) -> bool:
        """True for an id of which every value is one to models."""
        return self.vocabulary == "hash" and self.buckets == 1

    @property
    def parts(self) -> int:
        """Number of raw columns of a composite id; 0 for a field in one column."""
        return len(self.column) if isinstance(self.column, tuple) else 0

    def problems(self) -> list[str]:
        """Describe the faults of this field, one sentence each."""
        problems = []
        if not _is_name(self.name):
            problems.append(f"name {self.name!r} must be letters, digits and '_' and begin with a letter")
        if self.kind == "content" and self.width < 1:
            problems.append("a content field needs width >= 1")
        if self.vocabulary == "hash" and self.buckets < 1:
            problems.append("vocabulary 'hash' needs buckets >= 1")
        if self.values < 1 or self.min_count < 1:
            problems.append("values and min_count must be >= 1")
        if (self.notation or self.unit) and self.kind != "numeric":
            problems.append(f"only numeric fields have a {'notation' if self.notation else 'unit'}")
        if self.unit != self.unit.strip() or self.unit[:1].isdecimal():
            problems.append(f"unit {self.unit!r} must be what stands behind numbers, such as 'km' or '/10'")
        if self.url and (
            self.kind != "categorical" or self.values > 1 or self.dtype != "string" or self.parts
        ):
            problems.append("a part of a URL is a text; leave out kind, values and dtype")
        if self.values > 1 and self.kind != "categorical":
            problems.append("only categorical fields may hold several values")
        if self.parts and (self.dtype != "string" or self.values > 1 or self.kind != "categorical"):
            problems.append("an id of several columns is a text; leave out dtype, kind and values")
        if self.flags and (self.column or self.dtype != "string" or self.separator):
            problems.append("flags make a list of their names; leave out column, dtype and separator")
        if self.flags and self.kind != "categorical":
            problems.append("flags are categorical")
        return [f"field {self.name!r}: {problem}" for problem in problems]


def newest_of(key: str) -> str:
    """Name what a key of statistics reads of the item of the newest positive; empty for other keys."""
    return key.removeprefix(NEWEST) if key.startswith(NEWEST) else ""


def joined_name(columns: str | tuple[str, ...]) -> str:
    """Return the name of one column, or of the column that several are composed into."""
    return columns if isinstance(columns, str) else "+".join(columns)


def composite(parts: Sequence[str]) -> str:
    """Write the parts of a composite id as one text; different parts give different texts."""
    return "|".join(part.replace("\\", "\\\\").replace("|", "\\|") for part in parts)


class Label(Config, frozen=True):
    """A yes/no outcome of an impression.

    Attributes:
        column: raw column with 0/1 (or true/false, yes/no; empty or null: unknown, masked in the loss).
        condition: instead of a 0/1 column, a comparison such as ``rating >= 4`` or ``action == buy``.
        known: a condition on any column without which the outcome is unknown, such as ``rating != -1``.
        delay: seconds from the impression until the outcome is known; statistics count it only then.
    """

    name: str
    column: str = ""
    condition: str = ""
    known: str = ""
    delay: int = 0


class Statistic(Config, frozen=True):
    """A number known before each impression, computed from earlier impressions only.

    ``count`` is how many earlier impressions share the key, ``rate`` their smoothed label rate
    ``(positives + prior * overall) / (n + prior)`` where ``overall`` is the rate of all impressions known by
    then. ``lift`` is the mean of the label less the rate that its item had then, with ``prior`` more
    impressions at the rate of their item: high for a user who clicks items that others do not click.
    ``recency`` is the seconds since the newest of them whose label is 1, or ``window`` if there is none.
    ``share`` is how many times as often as among all the last name of ``by`` occurs among the positives that
    share the names before it; of one name, how many of a thousand positives share it.
    In a log whose negatives were drawn, positives alone are counted, so rates and lifts say nothing there.
    SUAN's e_other ("its CTR of the last 3 days") is ``by=("item",), of="rate", window=259200``.

    Attributes:
        by: the key: ``item``, ``user``, ``hour_of_day`` (of the impression, UTC, unless a field has this
            name), ``newest.item`` or ``newest.FIELD`` (the item of the user's newest positive of the first
            label, or a field of that item), or names of item, profile or context fields; several are
            combined. A field with several values contributes the mean over its values, and the smallest
            recency.
        label: label whose rate is computed; the first label if empty.
        window: seconds looked back; 0 is all time, which a recency cannot have.
        prior: pseudo-impressions of the overall rate or share, or of no lift.
    """

    name: str
    by: tuple[str, ...]
    of: Literal["count", "rate", "lift", "recency", "share"] = "rate"
    label: str = ""
    window: int = 0
    prior: float = 20.0

    def as_field(self) -> Field:
        """The context field that carries this statistic."""
        wide = self.of in ("count", "recency", "share")
        return Field(name=self.name, kind="numeric", transform="log1p" if wide else "none")


Comparison = Literal["difference", "ratio", "product"]
COMPARISONS: tuple[Comparison, ...] = ("difference", "ratio", "product")
# Kinds of the fields that a derived number is made of, and others that they may have.
_DERIVED_BY: dict[str, list[list[Kind]]] = {
    "age": [["timestamp"]],
    "difference": [["numeric", "numeric"], ["timestamp", "timestamp"]],  # of moments: the length of a stay
    "ratio": [["numeric", "numeric"]],
    "product": [["numeric", "numeric"]],
    "distance": [["numeric"] * 4],
    "matches": [["categorical", "categorical"]],
    "local_hour": [["categorical"], ["numeric"]],
    "local_weekday": [["categorical"], ["numeric"]],
}


class Derived(Config, frozen=True):
    """A number made of other fields and of the time when a candidate is scored.

    ``age`` is the days from a moment, such as that of an item's upload, to the impression. ``difference``,
    ``ratio`` and ``product`` are of two numbers, such as a price and the usual one; the difference of two
    moments is in days. ``distance`` is the kilometers between two places. ``matches`` counts the values that
    two fields have in common, such as the interests of a user and the topics of an item. ``local_hour`` is
    the hour on the clocks of a time zone, from 0 up to 24 with fractions, and ``local_weekday`` their day,
    from Monday (0) to Sunday (6).

    Attributes:
        by: fields of items, profiles and the context: the timestamp of an age; two numbers, or the two
            timestamps of a difference; latitude, longitude, latitude and longitude of a distance, in degrees;
            two categorical fields of matches, one of which ``shares`` the vocabulary of the other; the zone
            of a local time (`clickscale.data.features.zones`).
    """

    name: str
    of: Literal["age", "difference", "ratio", "product", "distance", "matches", "local_hour", "local_weekday"]
    by: tuple[str, ...]

    def as_field(self) -> Field:
        """The context field that carries this number."""
        plain = self.of in ("difference", "matches", "local_hour", "local_weekday")
        return Field(name=self.name, kind="numeric", transform="none" if plain else "log1p")


def _is_name(name: str) -> bool:
    """True for letters of any script, digits and '_', beginning with a letter."""
    return name.isidentifier() and name[0] != "_" and unicodedata.is_normalized("NFKC", name)


def _is_zone(field: Field) -> bool:
    """True if the texts of a field can be had back from its indices, one for each row."""
    return field.kind == "numeric" or (field.values == 1 and field.vocabulary == "exact")


def usual_statistics(
    category: str = "", *, returning: bool = True, drawn: bool = False
) -> tuple[Statistic, ...]:
    """Statistics that a log declares by default.

    Args:
        category: an item field that tells the kind of an item, such as its genre; empty without one.
        returning: whether users come back after days, which may need a kind of item again. Where they come
            once, as to rate their films in one sitting, rates of a day and of a week repeat those of all
            time, and models learn less well.
        drawn: whether negatives were drawn, so that positives alone are counted.
    """
    if drawn:
        return _usual_of_positives(category, returning)
    found = [
        Statistic(name="item_rate", by=("item",)),
        Statistic(name="item_count", by=("item",), of="count"),
        Statistic(name="user_rate", by=("user",)),
        Statistic(name="user_count", by=("user",), of="count"),
        Statistic(name="user_lift", by=("user",), of="lift"),
        Statistic(name="user_lift_7d", by=("user",), of="lift", window=7 * 86_400),
    ]
    if category:
        both = ("user", category)
        found += [
            Statistic(name=f"user_{category}_rate", by=both),
            Statistic(name=f"user_{category}_count", by=both, of="count"),
            Statistic(name=f"user_{category}_lift", by=both, of="lift"),
        ]
        if returning:
            found += [
                Statistic(name=f"user_{category}_rate_1d", by=both, window=86_400),
                Statistic(name=f"user_{category}_rate_7d", by=both, window=7 * 86_400),
                Statistic(name=f"user_{category}_recency", by=both, of="recency", window=30 * 86_400),
            ]
    return tuple(found)


def _usual_of_positives(category: str, returning: bool) -> tuple[Statistic, ...]:
    """Statistics that a log of positives declares by default."""
    month = 30 * 86_400
    windows = (("", 0), ("_30d", month), ("_365d", 365 * 86_400))
    found = [
        Statistic(name="item_count", by=("item",), of="count"),
        *(
            # One expected positive: in a window of few, a single one is no sign that an item is popular.
            Statistic(name=f"item_share{name}", by=("item",), of="share", window=window, prior=1000.0)
            for name, window in windows
        ),
        Statistic(name="user_count", by=("user",), of="count"),
        Statistic(name="after_item_share", by=(NEWEST + "item", "item"), of="share"),
    ]
    if category:
        both = ("user", category)
        found += [
            Statistic(name=f"user_{category}_share", by=both, of="share"),
            Statistic(name=f"user_{category}_count", by=both, of="count"),
        ]
        if returning:
            found += [
                Statistic(name=f"user_{category}_share_7d", by=both, of="share", window=7 * 86_400),
                Statistic(name=f"user_{category}_recency", by=both, of="recency", window=month),
            ]
    return tuple(found)


class Schema(Config, frozen=True):
    """All fields, labels and numbers of a log; see the module docstring for sides and indices.

    Attributes:
        sampled_negatives: 0 if the log has its own negatives; otherwise the number sampled for each positive.
            Reports repeat it, since such an AUC is not comparable with one on shown negatives.
        absent: roles that the log does not have. Without users, every impression belongs to a user of its
            own and no history is shown; without items, all impressions show one item and differ by context.
        groups: a categorical profile field whose values stand for the users in results, for a log in which
            every row is a user of its own.
        known_after: seconds from a behavior to the moment at which the histories of the log show it; a
            behavior that tells its ``known_at`` needs none.
        behavior_label: label without which an impression is no behavior; empty if no label alone decides it.
        has_own_behaviors: true if behaviors are events of their own, and no impression is one.
        time_zone: of dates and times in tables that name none; UTC if empty.
    """

    name: str
    user: Field
    item: Field
    labels: tuple[Label, ...]
    profile: tuple[Field, ...] = ()
    behavior: tuple[Field, ...] = ()
    items: tuple[Field, ...] = ()
    context: tuple[Field, ...] = ()
    derived: tuple[Derived, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    sampled_negatives: int = 0
    absent: tuple[Literal["user", "item"], ...] = ()
    groups: str = ""
    known_after: int = 0
    behavior_label: str = ""
    has_own_behaviors: bool = False
    time_zone: str = ""
    version: int = VERSION

    @property
    def indistinct(self) -> tuple[str, ...]:
        """Roles that tell nothing: those that the log does not have, and users if every row is one."""
        told = "user" in self.absent or not self.user.is_constant
        return self.absent if told else (*self.absent, "user")

    def computed(self) -> tuple[Derived | Statistic, ...]:
        """Numbers that no column of the log holds: the derived ones, then the statistics."""
        return (*self.derived, *self.statistics)

    def context_fields(self) -> tuple[Field, ...]:
        """Context fields of models: the logged ones, the derived ones, then the statistics."""
        return (*self.context, *(number.as_field() for number in self.computed()))

    def sent_fields(self) -> tuple[Field, ...]:
        """Context fields that a request carries: the logged ones and the statistics."""
        return (*self.context, *(statistic.as_field() for statistic in self.statistics))

    def fault_of(self, statistic: Statistic) -> str:
        """Describe why a statistic says nothing in this log; empty if it says something."""
        if not self.sampled_negatives or statistic.of not in ("rate", "lift"):
            return ""
        return (
            f"statistic {statistic.name!r}: where negatives are drawn, positives alone are counted, and a "
            f"{statistic.of} of these says nothing; declare of = 'share' or 'count' and prepare the log"
        )

    def keys_hour(self, key: str) -> bool:
        """True if a key of statistics is the hour of an impression, and no field has this name."""
        return key == HOUR and HOUR not in {f.name for f in (*self.profile, *self.items, *self.context)}

    @property
    def reads_newest(self) -> bool:
        """True if a key of statistics is what the user's newest positive showed."""
        return any(newest_of(key) for statistic in self.statistics for key in statistic.by)

    def fields(self) -> dict[str, Field]:
        """Every field by name, ids and statistics included."""
        return {field.name: field for field in self._all_fields()}

    def _all_fields(self) -> tuple[Field, ...]:
        context = self.context_fields()
        return (self.user, self.item, *self.profile, *self.behavior, *self.items, *context)

    def validate(self) -> "Schema":
        """Return self, or raise `SchemaError` that lists every problem."""
        problems = [problem for field in self.fields().values() for problem in field.problems()]
        problems += self._doubles() + self._dangling() + self._misplaced() + self._underivable()
        if self.version != VERSION:
            problems.append(f"version {self.version} is not {VERSION}, the only one that this release reads")
        if not self.labels:
            problems.append("it declares no label (name one or more under labels)")
        for label in self.labels:  # the name becomes the name of a column's file
            if not _is_name(label.name) or not 0 <= label.delay <= _LONGEST:
                problems.append(
                    f"label {label.name!r}: the name must be letters, digits and '_' and begin with a "
                    f"letter, and the delay (now {label.delay}) must be >= 0 and at most {_LONGEST} seconds"
                )
        if problems:
            raise SchemaError(f"Schema {self.name!r}: " + "; ".join(problems) + ".")
        return self

    def _misplaced(self) -> list[str]:
        """Describe composite fields that are no ids, and uses of a role that the log does not have."""
        ids = (self.user, self.item)
        problems = [
            f"field {field.name!r} has several columns, which only the ids of users and items may have"
            for field in self._all_fields()
            if field.parts and field not in ids
        ]
        for role, fields in (("user", (*self.profile, *self.behavior)), ("item", self.items)):
            if role not in self.absent:
                continue
            problems += [f"field {field.name!r} needs a {role}, and the log has none" for field in fields]
            problems += [
                f"statistic {statistic.name!r} needs a {role}, and the log has none"
                for statistic in self.statistics
                if role in statistic.by
            ]
        return problems

    def _underivable(self) -> list[str]:
        """Describe derived numbers that cannot be made of their fields."""
        fields = {field.name: field for field in (*self.profile, *self.items, *self.context)}
        owners = {field.name: field.shares or field.name for field in self._all_fields()}
        problems = []
        for number in self.derived:
            what = f"derived number {number.name!r}"
            unknown_names = [name for name in number.by if name not in fields]
            kinds = [fields[name].kind for name in number.by if name in fields]
            if unknown_names:
                known = ", ".join(sorted(fields)) or "none"
                problems.append(
                    f"{what}: {unknown_names[0]!r} is not a field of items, profiles or the context ({known})"
                )
            elif kinds not in _DERIVED_BY[number.of]:
                wanted = ", or ".join(", ".join(kinds) for kinds in _DERIVED_BY[number.of])
                problems.append(f"{what} of {number.of!r} is by fields of the kinds {wanted}, in this order")
            elif number.of.startswith("local") and not _is_zone(fields[number.by[0]]):
                problems.append(
                    f"{what} is by the zone {number.by[0]!r}, which needs one value and an exact vocabulary"
                )
            elif number.of == "matches" and owners[number.by[0]] != owners[number.by[1]]:
                one, other = number.by
                problems.append(
                    f"{what}: {one!r} and {other!r} have vocabularies of their own; "
                    f"add shares = {one!r} to {other!r}"
                )
        return problems

    def _doubles(self) -> list[str]:
        names = [field.name for field in self._all_fields()]
        labels = [label.name for label in self.labels]
        doubled = {n for n in names if names.count(n) > 1} | {n for n in labels if labels.count(n) > 1}
        return [f"name {name!r} is used twice" for name in sorted(doubled)]

    def _dangling(self) -> list[str]:
        fields = self.fields()
        owners = {field.name for field in fields.values() if field.kind == "categorical" and not field.shares}
        problems = [
            f"field {field.name!r} shares {field.shares!r}, which has no vocabulary of its own"
            for field in fields.values()
            if field.shares and field.shares not in owners
        ]
        keys = {f.name for f in (self.user, self.item, *self.profile, *self.items, *self.context)}
        keys |= {"user", "item", HOUR}
        if not self.indistinct:
            keys |= {NEWEST + key for key in ("item", self.item.name, *(field.name for field in self.items))}
        labels = [label.name for label in self.labels]
        for statistic in self.statistics:
            what = f"statistic {statistic.name!r}"
            known = f"(known are {', '.join(sorted(keys))})"
            problems += [f"{what}: unknown key {key!r} {known}" for key in statistic.by if key not in keys]
            if statistic.label and statistic.label not in labels:
                problems.append(f"{what}: unknown label {statistic.label!r} (known are {', '.join(labels)})")
            if not statistic.by:
                problems.append(f"{what}: by needs one key or more")
            if not 0 <= statistic.window <= _LONGEST or not 0 <= statistic.prior < float("inf"):
                now = f"(now {statistic.window} and {statistic.prior:g})"
                problems.append(
                    f"{what}: window and prior {now} must be >= 0, and at most {_LONGEST} s and finite"
                )
            problems += filter(None, [self.fault_of(statistic)])
            if statistic.of == "recency" and not statistic.window:
                problems.append(
                    f"statistic {statistic.name!r}: a recency needs a window in seconds, its value where "
                    "nothing is that recent; window = 604800 is a week"
                )
        return problems


def select_labels(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[int, ...]:
    """Find the positions of labels by name; that of the first label if no name is given.

    Raises:
        SchemaError: a label does not exist or is named twice.
    """
    for name in wanted:
        if name not in names:
            raise SchemaError(unknown("label", name, names))
        if wanted.count(name) > 1:
            raise SchemaError(f"Label {name!r} is named twice; name each label once.")
    return tuple(names.index(name) for name in wanted) or (0,)
