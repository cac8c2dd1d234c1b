"""Sources: the schema and the stream of canonical tables that an adapter gives to preparation.

Canonical tables and their columns (values still raw; ids as integers or text, times as int64 seconds UTC):

* ``users``:       ``user``, one column per profile field
* ``items``:       ``item``, one column per item field (content vectors as fixed-size lists of floats)
* ``behaviors``:   ``user``, ``item``, ``time``, optional ``known_at``, one column per behavior field
* ``impressions``: ``user``, ``item``, ``time``, one column ``label.NAME`` per label, one per context field,
  and ``part`` (``train``, ``valid``, ``test``) if the log comes with its own parts

``known_at`` is the moment from which a history may show a behavior with all its attributes (later feedback is
never an attribute of an earlier event); without the column it equals ``time``. Any table may carry a text
column ``problem``: where it is not null the row goes to quarantine with that text as its reason code, and a
column ``problem_value`` that shows what stood there (a struct of ``column`` and ``value``, or null). One raw
row may feed several tables; every table keeps its own count of rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from clickscale.config import Config
from clickscale.errors import ConfigError, unknown
from clickscale.schema import Schema

TableName = Literal["users", "items", "behaviors", "impressions"]
PROBLEM, PROBLEM_VALUE = "problem", "problem_value"
PART = "part"
PARTS = ("train", "valid", "test")
PART_NAMES = {  # names of parts in logs, lower case, and the part that each means
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "eval": "valid",
    "test": "test",
    "testing": "test",
}


class Split(Config, frozen=True):
    """Rule that divides impressions into train, valid and test.

    ``time`` cuts the whole log at two moments so that about ``valid`` and ``test`` of the impressions lie
    after them; ``user_time`` cuts each user's own impressions by the same fractions; ``user_last`` keeps the
    last ``test`` moments of each user for test and the ``valid`` moments before them for valid (both then
    count moments; a user without a moment left for training stays in train whole); ``day`` keeps the last
    ``test`` UTC days for test and the ``valid`` days before them for valid (both then count days).

    ``column`` and ``files`` take the parts that the log itself names. If it names no valid part, the last
    share ``valid`` of its train part, by time, becomes one.

    Attributes:
        column: of a split by ``column``: the column of the impressions with the names of the parts.
    """

    kind: Literal["time", "user_time", "user_last", "day", "column", "files"] = "time"
    valid: float = 0.1
    test: float = 0.1
    column: str = ""

    def __str__(self) -> str:
        """Name for errors, such as ``The split by time (valid 0.1, test 0.1)``."""
        return f"The split by {self.kind} (valid {self.valid:g}, test {self.test:g})"

    @property
    def is_given(self) -> bool:
        """True if the log itself says to which part an impression belongs."""
        return self.kind in ("column", "files")

    @property
    def is_by_user(self) -> bool:
        """True if every user is cut at moments of their own."""
        return self.kind in ("user_time", "user_last")


class Sampling(Config, frozen=True):
    """Rule by which negatives are drawn for a log that holds only positives.

    Attributes:
        by: ``uniform`` over the items that existed by then, or ``popularity``: as often as an item was a
            positive before.
        within: a categorical field of items; negatives then have the same value as the positive.
    """

    by: Literal["uniform", "popularity"] = "uniform"
    within: str = ""

    def check(self, schema: Schema, count: int) -> None:
        """Refuse options that contradict the schema.

        Raises:
            ConfigError: nothing is sampled, or the field is not a categorical field of items.
        """
        if not count and self != Sampling():
            raise ConfigError(
                f"negatives_by = {self.by!r} and negatives_within = {self.within!r} say how negatives are "
                "drawn, and none are; set negatives = 4, or remove these keys."
            )
        fields = [field.name for field in schema.items if field.kind == "categorical"]
        if self.within and self.within not in fields:
            raise ConfigError(
                "negatives_within takes a categorical field of items. "
                + unknown("field", self.within, fields)
            )


def _nothing_more(folder: Path) -> None:
    """Leave a data set as preparation made it."""


@dataclass(frozen=True)
class Source:
    """A raw log in the form that preparation reads.

    Attributes:
        chunks: makes a fresh iterator over (table name, record batch), from the start of the log.
        negatives: sampled negatives per positive; needed when the log has only positives (no label column).
        sampling: how they are drawn.
        time_bounds: seconds; rows with a time outside are quarantined.
        notes: sentences for the report, such as how negatives came about.
        findings: gives more such sentences once the chunks have been read.
        finish: writes further files into the unfinished data set, once its columns are there; the manifest
            then has their hashes.
        names: how messages call a table, such as by its file.
    """

    schema: Schema
    chunks: Callable[[], Iterator[tuple[TableName, pa.RecordBatch]]]
    split: Split = Split()
    negatives: int = 0
    sampling: Sampling = Sampling()
    time_bounds: tuple[int, int] = (631_152_000, 4_102_444_800)  # 1990-01-01 to 2100-01-01
    notes: tuple[str, ...] = field(default=())
    findings: Callable[[], tuple[str, ...]] = tuple
    finish: Callable[[Path], None] = _nothing_more
    names: Mapping[TableName, str] = field(default_factory=dict)
