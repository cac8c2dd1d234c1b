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

from collections.abc import Iterator, Sequence
from typing import Literal

from clickscale.config import Config
from clickscale.data.described.table_options import (
    Behaviors,
    Content,
    Files,
    History,
    Impressions,
    Items,
    JoinedTable,
    Outcome,
    Users,
)
from clickscale.data.source import PART, PROBLEM, Sampling, Split, TableName
from clickscale.data.tables.conditions import parse_condition
from clickscale.schema import Derived, Field, Label, Statistic

CANONICAL = ("user", "item", "time", "known_at", PART, PROBLEM)  # columns that a field's name must not hide


class LogConfig(Config, frozen=True):
    """Options of a whole log.

    Attributes:
        user, item: the id fields. A log without users leaves ``user`` out: histories are empty. A log without
            items, whose impressions differ by their context only, leaves ``item`` out.
        labels: outcomes of impressions. With ``negatives``, one or none, and its condition chooses the rows
            that count as positive; without a condition every row does.
        outcomes: tables of outcomes that the impressions lack, each of which becomes one of their columns.
        joined: tables that give columns which others lack, such as the requests that impressions name.
        negatives: items sampled as negatives for each positive, for logs that have none of their own.
        negatives_by: ``uniform``, or ``popularity``: as often as an item was a positive before.
        negatives_within: a categorical field of items in which negatives equal the positive.
        split: by global time, unless the files of the impressions are given by part.
        derived: numbers made of other fields and of the time, such as the age of an item.
        time_bounds: seconds; rows with a time outside are quarantined.
        groups: with ``history.per_row``, a categorical field of ``users`` whose values stand for the users in
            results.
        time_zone: of dates and times that name none, such as ``Europe/Berlin``; UTC if empty.
    """

    name: str
    impressions: Impressions
    user: Field | None = None
    item: Field | None = None
    labels: tuple[Label, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    joined: tuple[JoinedTable, ...] = ()
    negatives: int = 0
    negatives_by: Literal["uniform", "popularity"] = "uniform"
    negatives_within: str = ""
    behaviors: Behaviors = Behaviors()
    history: History | None = None
    users: Users = Users()
    items: Items = Items()
    content: Content | None = None
    derived: tuple[Derived, ...] = ()
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

    @property
    def known_after(self) -> int:
        """Seconds from a behavior until histories show it, where no column has the moment.

        Behaviors made of impressions wait for the outcomes that they show, and for no others. A column that
        is neither a label nor context may tell of any outcome.
        """
        if self.owns_rows and self.history is not None:
            return self.history.known_after
        table = self.behaviors
        if table.files or table.known_at:
            return 0 if table.known_at else table.known_after
        shown = set(_columns_of(table.fields, table.where))
        told = [{each.column, *_columns_of((), each.condition, each.known)} for each in self.labels]
        other = shown.difference(_columns_of(self.impressions.fields), *told)
        delays = [
            each.delay for each, columns in zip(self.labels, told, strict=True) if other or shown & columns
        ]
        return max([table.known_after, *delays])

    def parts(self) -> Split:
        """Return the split: the declared one, or that of the files."""
        by_files = isinstance(self.impressions.files, dict)
        return self.split or (Split(kind="files") if by_files else Split())

    def names(self) -> dict[TableName, str]:
        """Name each table by its files, or by those of the impressions if it has none of its own."""
        tables: dict[TableName, Files] = {
            "users": self.users,
            "items": self.items,
            "behaviors": self.behaviors,
            "impressions": self.impressions,
        }
        own = {name: [pattern for _, pattern in table.patterns()] for name, table in tables.items()}
        return {name: ", ".join(patterns or own["impressions"]) for name, patterns in own.items()}

    @property
    def absent(self) -> tuple[Literal["user", "item"], ...]:
        """Ids that the log does not have."""
        shown = self.impressions
        has_user = self.user is not None or bool(shown.user) or self.owns_rows
        has_item = self.item is not None or bool(shown.item)
        return (*(() if has_user else ("user",)), *(() if has_item else ("item",)))

    def notes(self) -> Iterator[str]:
        """Say what a reader of results must know of the shape of the log."""
        absent = self.absent
        if "user" in absent:
            yield (
                "The log names no user: each of its rows counts as a user of its own. So histories are "
                "empty, GAUC is not defined, and no split goes by user."
            )
        elif self.owns_rows:
            yield "Each row keeps its own history and counts as a user of its own, so no split goes by user."
            yield f"Results are grouped by {self.groups}." if self.groups else "GAUC is not defined."
        elif not self.behaviors.files:
            yield "Behaviors are the impressions of the log itself."
        if "item" in absent:
            yield "The log names no item: its impressions differ by their context only."
        if self.history and not self.history.times:
            yield "Histories in lists have an order but no times; they stand one second apart."
        if self.impressions.order:
            yield "The log has no times: moments are places in its order, one second apart."


def _columns_of(fields: Sequence[Field], *conditions: str) -> list[str]:
    """List the raw columns that fields and conditions read."""
    columns = [column for field in fields for column in field.flags or (field.source,)]
    return columns + [parse_condition(condition).column for condition in conditions if condition]
