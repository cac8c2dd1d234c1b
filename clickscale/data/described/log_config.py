"""Options of a described log: the TOML file with the places of its tables and the meaning of their columns.

::

    name = "shop"
    user = { name = "user", column = "user_id" }
    item = { name = "item", column = "item_id" }
    labels = [{ name = "click", column = "clicked" }]

    [impressions]
    files = "clicks/*.csv"
    time = "timestamp"
    fields = [{ name = "position" }]

    [behaviors]        # without files: the impressions themselves
    where = "clicked == 1"

    [items]            # without files: columns of the impressions; the first row of an item counts
    fields = [{ name = "category" }, { name = "price", kind = "numeric", transform = "log1p" }]

Every key is described where it is defined below. `clickscale.data.described.drafts.guess` writes a first
draft, and `clickscale.data.described.log` reads the tables.
"""

import zoneinfo
from collections.abc import Sequence
from typing import Literal

import msgspec

from clickscale.config import Config
from clickscale.data.described.rows import Columns, Lists, Order
from clickscale.data.source import PART, PARTS, PROBLEM, Sampling, Split
from clickscale.data.tables.casts import Unit
from clickscale.data.tables.conditions import parse_condition
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import Format
from clickscale.errors import SchemaError, unknown
from clickscale.schema import Field, Label, Schema, Statistic

CANONICAL = ("user", "item", "time", "known_at", PART, PROBLEM)  # columns that a field's name must not hide


class Files(Config, frozen=True):
    """Location and layout of a table.

    Attributes:
        files: one or several paths or patterns (``*``, ``**``), relative to the TOML file. Empty for users,
            items and behaviors: their columns are in the impressions table.
        format: by the ending of the file name, if ``auto``.
        separator: of text tables; comma or tab if empty.
        names: the columns of text tables without a header line.
        nulls: texts that mean a missing value.
    """

    files: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] = ()
    format: Format = "auto"
    separator: str = ""
    names: tuple[str, ...] = ()
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    nulls: tuple[str, ...] = TextFormat().nulls

    def patterns(self) -> list[tuple[str, str]]:
        """List the paths and patterns, each with its part if files are given by part."""
        if not isinstance(self.files, dict):
            return [("", pattern) for pattern in _several(self.files)]
        return [(part, pattern) for part, files in self.files.items() for pattern in _several(files)]

    def text(self) -> TextFormat:
        """Return the layout of text files of this table."""
        return TextFormat(
            separator=self.separator,
            names=self.names,
            quote=self.quote,
            encoding=self.encoding,
            nulls=self.nulls,
        )


def _several(files: str | tuple[str, ...]) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files


class _Impressions(Files, frozen=True):
    """The table of impressions: one row per labelled candidate, or one per request or user with ``lists``.

    Attributes:
        files: as for every table; or files by part, under the keys ``train``, ``valid`` and ``test``.
        user, item, time: names of its columns; those of the id fields and ``time`` if empty. Several columns
            make one composite id, or a moment of a date and a time of day.
        time_unit: ``auto`` detects it from the size of the first values.
        ordered: rows of one user and moment are neighbors in their true order, so the earlier ones are known
            to the later ones; each row gets a time one second after the row before.
        order: for a log without times: ``rows`` if later rows are later, ``lists`` if each row holds all
            items of one user, the oldest first; the lists of all users then end at the same moment.
        lists: how the lists of a row become impressions.
        fields: context fields.
    """

    user: Columns = ""
    item: Columns = ""
    time: Columns = "time"
    time_unit: Unit = "auto"
    ordered: bool = False
    order: Order = ""
    lists: Lists | None = None
    fields: tuple[Field, ...] = ()


class _Behaviors(Files, frozen=True):
    """The table of behaviors; without files, the impressions are the behaviors.

    Attributes:
        where: keep only the rows that fulfill this condition, such as ``clicked == 1``.
        known_at: column with the moment from which a behavior may be shown; where it is empty, its time.
        known_after: seconds after its time from which a behavior may be shown, if there is no such column.
            For behaviors made of impressions it is at least the longest ``delay`` of a label.
        fields: behavior fields.
    """

    user: Columns = ""
    item: Columns = ""
    time: Columns = ""
    time_unit: Unit = "auto"
    where: str = ""
    known_at: str = ""
    known_after: int = 0
    fields: tuple[Field, ...] = ()


class History(Files, frozen=True):
    """Lists of earlier behaviors, beside those of `_Behaviors`: a table, or columns of the impressions.

    A list stands in order, the oldest behavior first; each behavior counts once (`histories`).

    Attributes:
        files: the table, with one row per user; without files, the lists stand in the rows of impressions.
        user: column of a table of its own.
        items: column of lists of item ids.
        times: column of lists with the time of each; without it, the order of a list counts.
        time: of a table of its own without ``times``: column with the time of the last behavior of each
            list. Without it, lists are placed before the first impression of their user.
        known_after: seconds after its time from which a behavior with a time of its own may be shown.
        entry_separator: what divides the entries of texts, as in `Lists`.
        padding: an entry that fills lists up to one length and is no behavior, such as ``0``.
        newest_first: lists begin with the newest behavior.
        per_row: each row of the impressions keeps its own list, for logs whose rows cannot be put in order of
            time. Then every row counts as a user of its own, and the log declares none.
        fields: behavior fields in lists with one value for each behavior; fields of `_Behaviors` with the
            same name are the same feature.
    """

    items: str = ""
    user: Columns = ""
    times: str = ""
    time: str = ""
    time_unit: Unit = "auto"
    known_after: int = 0
    entry_separator: str = ""
    padding: str = ""
    newest_first: bool = False
    per_row: bool = False
    fields: tuple[Field, ...] = ()


class Outcome(Files, frozen=True):
    """A table of outcomes, such as clicks: the impressions that it names have one.

    Attributes:
        name: of the column of the impressions that it makes, 1 for those of its keys and 0 for all others; a
            label or a field reads it like any column.
        key: columns of this table that together name an impression.
        shown_key: the same of the impressions, if their names differ.
        within: seconds after an impression up to which an outcome of its key counts; 0 for any time.
        time, time_unit: of an outcome; with ``within``.
    """

    name: str = ""
    key: tuple[str, ...] = ()
    shown_key: tuple[str, ...] = ()
    within: int = 0
    time: str = ""
    time_unit: Unit = "auto"


class _Users(Files, frozen=True):
    """The table of profiles; without files, profiles come from a user's first impression."""

    user: Columns = ""
    fields: tuple[Field, ...] = ()


class _Items(Files, frozen=True):
    """The table of item attributes; without files, attributes come from an item's first impression."""

    item: Columns = ""
    fields: tuple[Field, ...] = ()


class _Content(Config, frozen=True):
    """Frozen vectors of items: ``.npy`` files, the matrix (rows, width) and the item id of each row."""

    vectors: str
    ids: str
    name: str = "content"


class LogConfig(Config, frozen=True):
    """Options of a whole log.

    Attributes:
        user, item: the id fields. A log without users leaves ``user`` out: histories are empty. A log without
            items, whose impressions differ by their context only, leaves ``item`` out.
        labels: outcomes of impressions. With ``negatives``, one or none, and its condition chooses the rows
            that count as positive; without a condition every row does.
        outcomes: tables of outcomes that the impressions lack, each of which becomes one of their columns.
        negatives: items sampled as negatives for each positive, for logs that have none of their own.
        negatives_by: ``uniform``, or ``popularity``: as often as an item was a positive before.
        negatives_within: a categorical field of items in which negatives equal the positive.
        split: by global time, unless the files of the impressions are given by part.
        time_bounds: seconds; rows with a time outside are quarantined.
        groups: with ``history.per_row``, a categorical field of ``users`` whose values stand for the users in
            results.
        time_zone: of dates and times that name none, such as ``Europe/Berlin``; UTC if empty.
    """

    name: str
    impressions: _Impressions
    user: Field | None = None
    item: Field | None = None
    labels: tuple[Label, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    negatives: int = 0
    negatives_by: Literal["uniform", "popularity"] = "uniform"
    negatives_within: str = ""
    behaviors: _Behaviors = _Behaviors()
    history: History | None = None
    users: _Users = _Users()
    items: _Items = _Items()
    content: _Content | None = None
    statistics: tuple[Statistic, ...] = ()
    split: Split | None = None
    time_bounds: tuple[int, int] | None = None
    groups: str = ""
    time_zone: str = ""

    def sampling(self) -> Sampling:
        """Return the rule by which negatives are drawn."""
        return Sampling(by=self.negatives_by, within=self.negatives_within)

    def behavior_fields(self) -> tuple[Field, ...]:
        """List the behavior fields of the table of behaviors, then those of lists only."""
        own = self.behaviors.fields
        listed = self.history.fields if self.history else ()
        return (*own, *(field for field in listed if field.name not in {each.name for each in own}))

    @property
    def owns_rows(self) -> bool:
        """True if every row is a user of its own, with a history of its own."""
        return self.history is not None and self.history.per_row

    def parts(self) -> Split:
        """Return the split: the declared one, or that of the files."""
        by_files = isinstance(self.impressions.files, dict)
        return self.split or (Split(kind="files") if by_files else Split())


def log_schema(config: LogConfig, width: int) -> Schema:
    """Derive the schema of a log; ``width`` is that of its content vectors, 0 without them.

    Raises:
        SchemaError: labels, names or fields contradict each other, or a feature reads the column of a label.
    """
    _check_zone(config)
    vectors = (Field(name=config.content.name, kind="content", width=width),) if config.content else ()
    absent: list[Literal["user", "item"]] = []
    if config.user is None and not config.impressions.user and not config.owns_rows:
        absent.append("user")
    if config.item is None and not config.impressions.item:
        absent.append("item")
    _check_shape(config, absent)
    _check_groups(config)
    nobody = "user" in absent or config.owns_rows
    schema = Schema(
        name=config.name,
        user=_constant("user") if nobody else _id("user", config.user, config.impressions.user),
        item=_constant("item") if "item" in absent else _id("item", config.item, config.impressions.item),
        labels=_labels(config),
        profile=config.users.fields,
        behavior=config.behavior_fields(),
        items=(*config.items.fields, *vectors),
        context=config.impressions.fields,
        statistics=config.statistics,
        sampled_negatives=config.negatives,
        absent=tuple(absent),
        groups=config.groups,
    ).validate()
    _refuse_outcomes(config)
    for field in (*schema.profile, *schema.behavior, *schema.items, *schema.context):
        if field.name in CANONICAL:
            raise SchemaError(
                f"Log {config.name!r}: a field must not be named {field.name!r}; "
                f"choose another and keep the column: name = 'its_{field.name}', column = '{field.source}'."
            )
    return schema


def _refuse_outcomes(config: LogConfig) -> None:
    """Refuse features that read the column from which a label is made."""
    if config.negatives:  # a condition chooses the positives, whose value the negatives copy
        return
    made_of = {label.column or parse_condition(label.condition).column: label.name for label in config.labels}
    tables = {
        "impressions": config.impressions.fields,
        "users": () if config.users.files else config.users.fields,
        "items": () if config.items.files else config.items.fields,
    }
    for name, fields in tables.items():
        for field in fields:
            for column in field.flags or (field.source,):
                if column not in made_of:
                    continue
                raise SchemaError(
                    f"Log {config.name!r}: field {field.name!r} of [{name}] reads the column "
                    f"{column!r}, of which label {made_of[column]!r} is made, so it holds the "
                    "outcome; remove it, or move it to [behaviors], where later impressions see it."
                )


def _id(role: str, declared: Field | None, columns: Columns) -> Field:
    """Return the id field of a role; requests must know that an id has several columns."""
    field = declared or Field(name=role)
    return field if isinstance(columns, str) else msgspec.structs.replace(field, column=columns)


def _constant(role: str) -> Field:
    """Make the id field of a role that the log does not have: every id has the same index."""
    return Field(name=role, dtype="int", vocabulary="hash", buckets=1)


def _check_shape(config: LogConfig, absent: Sequence[str]) -> None:
    """Refuse parts of a description that contradict each other.

    Raises:
        SchemaError: names the keys and the way out.
    """
    shown, history, name = config.impressions, config.history, f"Log {config.name!r}"
    needs_user = [
        key
        for key, used in (
            ("behaviors.files", bool(config.behaviors.files)),
            ("history", history is not None),
            ("users.files", bool(config.users.files)),
            ("impressions.order = 'lists'", shown.order == "lists"),
        )
        if used
    ]
    if "user" in absent and needs_user:
        raise SchemaError(f"{name} has {needs_user[0]} but no user; name its column: user = {{ ... }}.")
    if "item" in absent and (shown.lists or config.negatives or config.items.files or config.content):
        raise SchemaError(
            f"{name} has no item, so lists, negatives, items and content mean nothing; name it."
        )
    if shown.order and shown.time != "time":
        raise SchemaError(
            f"{name}: order = {shown.order!r} stands for a missing time, and time = {shown.time!r} names "
            "one; leave one of them out."
        )
    for outcome in config.outcomes:
        _check_outcome(name, outcome)
    if shown.ordered and (other := _beside_order(config)):
        raise SchemaError(
            f"{name}: ordered = true tells rows of one moment apart, which does not go with {other}; leave "
            "one of them out."
        )
    if shown.order == "lists" and shown.lists is None:
        raise SchemaError(f"{name}: order = 'lists' needs a table [impressions.lists], which may be empty.")
    if shown.lists and (isinstance(shown.item, tuple) or (config.item and config.item.parts)):
        raise SchemaError(f"{name}: lists are taken apart in one item column; it has several.")
    if history and not history.items:
        raise SchemaError(f"{name}: [history] needs the column with the lists: items = ...")
    if history and (flagged := [field.name for field in history.fields if field.flags]):
        raise SchemaError(f"{name}: field {flagged[0]!r} of [history] has flags, and its entries are lists.")
    if history and history.per_row:
        _check_rows_of_their_own(config, history)
    if isinstance(shown.files, dict) and (wrong := [key for key in shown.files if key not in PARTS]):
        raise SchemaError(f"{name}: impressions.files: " + unknown("part", wrong[0], PARTS))
    if config.parts().kind == "files" and not isinstance(shown.files, dict):
        raise SchemaError(
            f"{name}: a split by files needs the files of each part: "
            'files = { train = "train.csv", test = "test.csv" }.'
        )


def _check_outcome(log: str, outcome: Outcome) -> None:
    """Refuse a table of outcomes without a name, files, key or time."""
    said = {"name": outcome.name, "files": outcome.files, "key": outcome.key}
    missing = [key for key, value in said.items() if not value]
    missing += ["time"] if outcome.within and not outcome.time else []
    if missing:
        raise SchemaError(f"{log}: outcome {outcome.name!r} needs {missing[0]}.")
    if outcome.shown_key and len(outcome.shown_key) != len(outcome.key):
        raise SchemaError(
            f"{log}: outcome {outcome.name!r} has {len(outcome.key)} columns as its key and "
            f"{len(outcome.shown_key)} of the impressions; name as many."
        )
    if outcome.within < 0:
        raise SchemaError(f"{log}: outcome {outcome.name!r} counts within {outcome.within} s; set 0 or more.")


def _beside_order(config: LogConfig) -> str:
    """Name what does not go with rows of one moment in their true order."""
    shown = config.impressions
    keys = {
        "order": bool(shown.order),
        "lists": shown.lists is not None,
        "history": config.history is not None,
        "behaviors.files": bool(config.behaviors.files),
    }
    return next((key for key, used in keys.items() if used), "")


def _check_rows_of_their_own(config: LogConfig, history: History) -> None:
    """Refuse what means nothing where every row is a user of its own."""
    declared = [
        key
        for key, used in (
            ("user", config.user is not None),
            ("impressions.user", bool(config.impressions.user)),
            ("impressions.lists", config.impressions.lists is not None),
            ("behaviors.files", bool(config.behaviors.files)),
            ("users.files", bool(config.users.files)),
            ("history.files", bool(history.files)),
        )
        if used
    ]
    if declared:
        raise SchemaError(
            f"Log {config.name!r}: with history.per_row every row is a user of its own, so {declared[0]} "
            "means nothing; leave one of them out. A column with users may be a field of [users]."
        )
    if history.times and config.impressions.order:
        raise SchemaError(
            f"Log {config.name!r}: history.times = {history.times!r} cannot be compared with rows that have "
            "no time; leave it out, so that the order of each list counts."
        )


def _check_groups(config: LogConfig) -> None:
    """Refuse groups of a log that has users, or that are no categories of rows."""
    kinds = [field.name for field in config.users.fields if field.kind == "categorical" and field.values == 1]
    if config.groups and not config.owns_rows:
        raise SchemaError(
            f"Log {config.name!r}: groups = {config.groups!r} stands for the users of a log with "
            "history.per_row, and this log has none; leave it out."
        )
    if config.groups and config.groups not in kinds:
        complaint = unknown("field of [users]", config.groups, kinds)
        raise SchemaError(f"Log {config.name!r}: groups: {complaint}")


def _check_zone(config: LogConfig) -> None:
    try:
        zoneinfo.ZoneInfo(config.time_zone or "UTC")
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise SchemaError(
            f"Log {config.name!r}: time_zone = {config.time_zone!r} names no zone; write it like "
            "'Europe/Berlin' or 'UTC'."
        ) from error


def _labels(config: LogConfig) -> tuple[Label, ...]:
    """Return the declared labels, checked against ``negatives``."""
    if config.negatives < 0:
        raise SchemaError(f"Log {config.name!r}: negatives = {config.negatives} is below 0; set 0 or more.")
    if not config.negatives:
        for label in config.labels:
            if bool(label.column) == bool(label.condition):
                raise SchemaError(
                    f"Log {config.name!r}: label {label.name!r} needs a column of 0 and 1 or a condition, "
                    f"and has {'both' if label.column else 'neither'}."
                )
        return config.labels or _no_label(config.name)
    if len(config.labels) > 1 or any(label.column for label in config.labels):
        raise SchemaError(
            f"Log {config.name!r}: with sampled negatives there is one label without a column; "
            "give a condition instead if only some rows are positive."
        )
    return config.labels or (Label(name="positive"),)


def _no_label(name: str) -> tuple[Label, ...]:
    raise SchemaError(
        f"Log {name!r} declares no label. Name a column of 0 and 1 (column = ...), a comparison "
        "(condition = 'rating >= 4'), or sample negatives if every row is a positive (negatives = 4)."
    )
