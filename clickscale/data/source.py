"""Sources: the schema and the stream of canonical tables that an adapter gives to preparation.

Canonical tables and their columns (values still raw; ids as integers or text, times as int64 seconds UTC):

* ``users``:       ``user``, one column per profile field
* ``items``:       ``item``, one column per item field (content vectors as fixed-size lists of floats)
* ``behaviors``:   ``user``, ``item``, ``time``, optional ``known_at``, one column per behavior field
* ``impressions``: ``user``, ``item``, ``time``, one column ``label.NAME`` per label, one per context field

``known_at`` is the moment from which a history may show a behavior with all its attributes (later feedback is
never an attribute of an earlier event); without the column it equals ``time``. Any table may carry a text
column ``problem``: where it is not null the row goes to quarantine with that text as its reason code, and a
column ``problem_value`` that shows what stood there (a struct of ``column`` and ``value``, or null). One raw
row may feed several tables; every table keeps its own count of rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from clickscale.config import Config
from clickscale.schema import Schema

TableName = Literal["users", "items", "behaviors", "impressions"]
PROBLEM, PROBLEM_VALUE = "problem", "problem_value"


class Split(Config, frozen=True):
    """Rule that divides impressions into train, valid and test.

    ``time`` cuts the whole log at two moments so that about ``valid`` and ``test`` of the impressions lie
    after them; ``user_time`` cuts each user's own impressions by the same fractions; ``day`` keeps the last
    ``test`` UTC days for test and the ``valid`` days before them for valid (both then count days).
    """

    kind: Literal["time", "user_time", "day"] = "time"
    valid: float = 0.1
    test: float = 0.1


@dataclass(frozen=True)
class Source:
    """A raw log in the form that preparation reads.

    Attributes:
        chunks: makes a fresh iterator over (table name, record batch), from the start of the log.
        negatives: sampled negatives per positive; needed when the log has only positives (no label column).
        time_bounds: seconds; rows with a time outside are quarantined.
        notes: sentences for the report, such as how negatives came about.
        findings: gives more such sentences once the chunks have been read.
        names: how messages call a table, such as by its file.
    """

    schema: Schema
    chunks: Callable[[], Iterator[tuple[TableName, pa.RecordBatch]]]
    split: Split = Split()
    negatives: int = 0
    time_bounds: tuple[int, int] = (631_152_000, 4_102_444_800)  # 1990-01-01 to 2100-01-01
    notes: tuple[str, ...] = field(default=())
    findings: Callable[[], tuple[str, ...]] = tuple
    names: Mapping[TableName, str] = field(default_factory=dict)
