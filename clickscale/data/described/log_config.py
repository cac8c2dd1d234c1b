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

Every key is described where it is defined below. `clickscale.data.described.guess` writes a first draft, and
`clickscale.data.described.log` reads the tables.
"""

import zoneinfo
from typing import Literal

from clickscale.config import Config
from clickscale.data.source import PROBLEM, Split
from clickscale.data.tables.casts import Unit
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import Format
from clickscale.errors import SchemaError
from clickscale.schema import Field, Label, Schema, Statistic

CANONICAL = ("user", "item", "time", "known_at", PROBLEM)  # columns that a field's name must not hide


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

    files: str | tuple[str, ...] = ()
    format: Format = "auto"
    separator: str = ""
    names: tuple[str, ...] = ()
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    nulls: tuple[str, ...] = TextFormat().nulls

    def text(self) -> TextFormat:
        """Return the layout of text files of this table."""
        return TextFormat(
            separator=self.separator,
            names=self.names,
            quote=self.quote,
            encoding=self.encoding,
            nulls=self.nulls,
        )


class _Impressions(Files, frozen=True):
    """The table of impressions: one row per labelled candidate.

    Attributes:
        user, item, time: names of its columns; those of the id fields and ``time`` if empty.
        time_unit: ``auto`` detects it from the size of the first values.
        fields: context fields.
    """

    user: str = ""
    item: str = ""
    time: str = "time"
    time_unit: Unit = "auto"
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

    user: str = ""
    item: str = ""
    time: str = ""
    time_unit: Unit = "auto"
    where: str = ""
    known_at: str = ""
    known_after: int = 0
    fields: tuple[Field, ...] = ()


class _Users(Files, frozen=True):
    """The table of profiles; without files, profiles come from a user's first impression."""

    user: str = ""
    fields: tuple[Field, ...] = ()


class _Items(Files, frozen=True):
    """The table of item attributes; without files, attributes come from an item's first impression."""

    item: str = ""
    fields: tuple[Field, ...] = ()


class _Content(Config, frozen=True):
    """Frozen vectors of items: ``.npy`` files, the matrix (rows, width) and the item id of each row."""

    vectors: str
    ids: str
    name: str = "content"


class LogConfig(Config, frozen=True):
    """Options of a whole log.

    Attributes:
        labels: outcomes of impressions. With ``negatives``, one or none, and its condition chooses the rows
            that count as positive; without a condition every row does.
        negatives: items sampled as negatives for each positive, for logs that have none of their own.
        time_bounds: seconds; rows with a time outside are quarantined.
        time_zone: of dates and times that name none, such as ``Europe/Berlin``; UTC if empty.
    """

    name: str
    impressions: _Impressions
    user: Field = Field(name="user")
    item: Field = Field(name="item")
    labels: tuple[Label, ...] = ()
    negatives: int = 0
    behaviors: _Behaviors = _Behaviors()
    users: _Users = _Users()
    items: _Items = _Items()
    content: _Content | None = None
    statistics: tuple[Statistic, ...] = ()
    split: Split = Split()
    time_bounds: tuple[int, int] | None = None
    time_zone: str = ""


def log_schema(config: LogConfig, width: int) -> Schema:
    """Derive the schema of a log; ``width`` is that of its content vectors, 0 without them.

    Raises:
        SchemaError: labels, names or fields contradict each other.
    """
    _check_zone(config)
    vectors = (Field(name=config.content.name, kind="content", width=width),) if config.content else ()
    schema = Schema(
        name=config.name,
        user=config.user,
        item=config.item,
        labels=_labels(config),
        profile=config.users.fields,
        behavior=config.behaviors.fields,
        items=(*config.items.fields, *vectors),
        context=config.impressions.fields,
        statistics=config.statistics,
        sampled_negatives=config.negatives,
    ).validate()
    for field in (*schema.profile, *schema.behavior, *schema.items, *schema.context):
        if field.name in CANONICAL:
            raise SchemaError(
                f"Log {config.name!r}: a field must not be named {field.name!r}; "
                f"choose another and keep the column: name = 'its_{field.name}', column = '{field.source}'."
            )
    return schema


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
