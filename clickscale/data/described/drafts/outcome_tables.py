"""Tables of outcomes beside impressions that have none: which they are, and how they name an impression."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import Events, with_clock
from clickscale.data.described.drafts.roles import find_time, plain_name
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.toml_lines import file_lines, identifier, quoted, remark, time_lines
from clickscale.data.described.rows import as_text, composed
from clickscale.data.tables.casts import detect_unit, seconds

_SHOWN = re.compile(r"impr|imps?(_|$)|expos|show|display|serv|view|request|feed|bid")
_OUTCOMES = re.compile(
    r"(^|_)(click(s|ed)?|clk|conversions?|purchas(es?|ed)|orders?|installs?|buys?|bookings?|actions?)(_|\d|$)"
)
_ID = re.compile(r"(id|key|uuid|guid|token|hash)$")
_ANY_ID = ("id", "index", "no", "rownumber", "unnamed0")
_WITHIN = 3600  # seconds in which an outcome of a user and an item belongs to an impression
_KNOWN = 0.99  # share of the outcomes that are known after the delay of a label
_DAY = 86_400
_OWN = 0.95  # share of rows with a key of their own


@dataclass(frozen=True)
class OutcomeTable:
    """A table whose rows name impressions that had an outcome.

    Attributes:
        name: of the column that it makes.
        key: columns that name an impression, in both tables.
        time: of the outcomes, if an impression is named by user and item only.
    """

    head: Head
    name: str
    key: tuple[str, ...]
    time: Column | None

    @property
    def why(self) -> str:
        """Say how an impression is found."""
        return f"rows of {remark(self.head.path.name)} with the same {remark(' and '.join(self.key))}"

    def lines(self, base: Path) -> Iterator[str]:
        """Yield the table ``[[outcomes]]``."""
        yield f"\n[[outcomes]]  # the column {self.name} of the impressions: {self.why}"
        yield f"name = {quoted(self.name)}"
        yield from file_lines(self.head, base)
        yield f"key = [{', '.join(map(quoted, self.key))}]"
        if self.time is not None:
            yield from time_lines(self.time)
            yield f"within = {_WITHIN}  # seconds after an impression"

    def delay(self, events: Events) -> int:
        """Return the seconds after an impression until nearly all of its outcomes are known, by the sample.

        0 where the table has no time, or the samples nothing in common.
        """
        if self.time is not None:
            return _WITHIN
        columns = list(self.head.columns.values())
        time = with_clock(find_time(columns), columns)
        if time is None or events.time is None:
            return 0
        shown, known = (_texts(head, self.key) for head in (events.head, self.head))
        place = pc.index_in(known, value_set=shown)
        moments = [seconds(column.values, detect_unit(column.known))[0] for column in (events.time, time)]
        later = pc.subtract(moments[1], moments[0].take(place)).drop_null().to_numpy(zero_copy_only=False)
        if not len(later):
            return 0
        delay = int(np.ceil(np.quantile(np.maximum(later, 0), _KNOWN)))
        of_days = not (moments[1].drop_null().to_numpy(zero_copy_only=False) % _DAY).any()
        return max(delay, _DAY if of_days else 0)

    def of(self, rows: Head) -> Column:
        """Make the column of a sample of impressions, as far as the sample of outcomes tells it."""
        shown, known = (_texts(head, self.key) for head in (rows, self.head))
        return Column(self.name, pc.is_in(shown, value_set=known).cast(pa.int8()))


def find_outcomes(events: Events, heads: Sequence[Head]) -> list[OutcomeTable]:
    """Find the tables of outcomes of impressions that have none in their own table."""
    if events.labels or events.shape.listed is not None or _OUTCOMES.search(_words(events.head.path)):
        return []  # it has outcomes, or consists of them
    others = [head for head in heads if head is not events.head]
    return [table for head in others if (table := _outcome_table(events, head)) is not None]


def with_labels(events: Events, tables: Sequence[OutcomeTable]) -> Events:
    """Return the events with the outcomes of other tables as labels."""
    return replace(
        events, labels=[*events.labels, *((table.of(events.head), "", table.why) for table in tables)]
    )


def _outcome_table(events: Events, head: Head) -> OutcomeTable | None:
    """Return a table that is called after outcomes: by ids of impressions, or by user, item and time."""
    if not _OUTCOMES.search(_words(head.path)):
        return None
    name, columns = _name(head.path, events.head), list(head.columns.values())
    for column in columns:
        if column.name in events.ids or column.name not in events.head.columns:
            continue
        shown = events.head.columns[column.name]
        is_id = shown.floats is None or _ID.search(column.name.lower())
        if _names_rows(shown) and is_id and plain_name(column.name) not in _ANY_ID:
            return OutcomeTable(head, name, (column.name,), None)
    time = with_clock(find_time(columns), columns)
    if events.user is None or events.item is None or events.time is None or time is None:
        return None
    key = (events.user.name, events.item.name)
    if not _SHOWN.search(_words(events.head.path)) or not set(key) <= set(head.columns):
        return None
    return OutcomeTable(head, name, key, time)


def _names_rows(column: Column) -> bool:
    """True for ids of which nearly every row has its own."""
    kind = column.values.type
    if pa.types.is_nested(kind) or column.unit or (column.floats is not None and not column.is_id):
        return False
    return len(column.known) == len(column.values) and column.distinct >= _OWN * len(column.values)


def _name(path: Path, shown: Head) -> str:
    """Name the column after the file: of ``clicks.csv`` click."""
    name = identifier(path.name.split(".")[0]).removesuffix("s")
    return name if name not in shown.columns else f"has_{name}"


def _words(path: Path) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", path.name.split(".")[0]).lower().replace("-", "_")


def _texts(head: Head, key: Sequence[str]) -> pa.Array:
    parts = [as_text(head.columns[name].values) for name in key]
    return parts[0] if len(parts) == 1 else composed(parts)
