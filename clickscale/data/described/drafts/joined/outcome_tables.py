"""Tables of outcomes beside impressions that have none: which they are, and how they name an impression."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.computed.made_columns import with_clock
from clickscale.data.described.drafts.event_tables import Events
from clickscale.data.described.drafts.labels.label_search import named_labels
from clickscale.data.described.drafts.roles.column_names import plain_name
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.samples import WHOLE, Column, Head
from clickscale.data.described.drafts.toml_lines import file_lines, identifier, quoted, remark, time_lines
from clickscale.data.described.rows import moment_texts
from clickscale.data.tables.casts import detect_unit, seconds

_SHOWN = re.compile(r"impr|imps?(_|$)|expos|show|display|serv|view|request|feed|bid")
_OUTCOMES = re.compile(
    r"(^|_)(click(s|ed)?|clk|conversions?|purchas(es?|ed)|orders?|installs?|buys?|bookings?|actions?|engagements?|taps?|"
    r"responses?)(_|\d|$)"
)
_CLICKS = re.compile(r"(^|_)(click|clk|tap)(_|$|s|ed)")  # the first label of several
_ID = re.compile(r"(id|key|uuid|guid|token|hash)$")
_ANY_ID = ("id", "index", "no", "rownumber", "unnamed0")
WITHIN = 3600  # seconds in which an outcome of a user and an item belongs to an impression
_KNOWN = 0.99  # share of the outcomes that are known after the delay of a label
_SPARE = 2  # times as long as nearly all outcomes take, an impression waits for one
_DAY = 86_400
_OWN = 0.95  # share of rows with a key of their own
_ONCE = 0.99  # share of the impressions whose user and item no other one has
_FOUND = 0.9  # share of the keys of outcomes that impressions have
_COMMON = 20  # keys in common that are enough where the name of a file says nothing of outcomes


@dataclass(frozen=True)
class OutcomeTable:
    """A table whose rows name impressions that had an outcome.

    Attributes:
        name: of the column that it makes.
        key: columns that name an impression.
        shown_key: the same of the impressions.
        time: of the outcomes, if an impression is named by user and item only.
        within: seconds after an impression in which they belong to it, if it is named by user and item only.
        where: condition of its rows that are outcomes, if others stand beside them.
        parts: paths by part, if its files are parts.
    """

    head: Head
    name: str
    key: tuple[str, ...]
    shown_key: tuple[str, ...]
    time: Column | None = None
    within: int = WITHIN
    where: str = ""
    parts: Mapping[str, Path] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """Say how an impression is found."""
        theirs = "" if self.key == self.shown_key else f" as {remark(' and '.join(self.key))}"
        shown = remark(" and ".join(self.shown_key))
        where = f"{remark(self.where)} and " if self.where else ""
        return f"rows of {remark(self.head.path.name)} with {where}the same {shown}{theirs}"

    def lines(self, base: Path) -> Iterator[str]:
        """Yield the table ``[[outcomes]]``."""
        yield f"\n[[outcomes]]  # the column {self.name} of the impressions: {self.why}"
        yield f"name = {quoted(self.name)}"
        yield from file_lines(self.head, base, self.parts)
        if self.where:
            yield f"where = {quoted(self.where)}"
        yield f"key = [{', '.join(map(quoted, self.key))}]"
        if self.key != self.shown_key:
            yield f"shown_key = [{', '.join(map(quoted, self.shown_key))}]  # of the impressions"
        if self.time is not None:
            yield from time_lines(self.time)
            yield f"within = {self.within}  # seconds after an impression"

    def delay(self, events: Events) -> int:
        """Return the seconds after an impression until nearly all of its outcomes are known, by the sample.

        0 where the table has no time, or the samples nothing in common; as long as an outcome may take
        where impressions are named by user and item, and few in the sample have one.
        """
        if self.time is None:
            later = _seconds_later(events, self.head, self.shown_key, self.key)
        elif np.sum((later := self._waits(events)) > 0) < _COMMON:
            return self.within  # the moments of impressions, again, tell nothing of a time until the outcome
        if not len(later):
            return 0
        delay = int(np.ceil(np.quantile(np.maximum(later, 0), _KNOWN)))
        moments = _moments(self.head)
        of_days = moments is not None and not (moments.drop_null().to_numpy() % _DAY).any()
        return max(delay, _DAY if of_days else 0)

    def _waits(self, events: Events) -> npt.NDArray[np.int64]:
        """Return the seconds to the first outcome of each impression of the sample that has one."""
        if self.time is None or events.time is None:
            return np.zeros(0, np.int64)
        shown = TimedRows.of(events.head, self.shown_key, events.time)
        waits = TimedRows.of(self.head, self.key, self.time).first_after(shown, self.within)
        return waits[waits >= 0]

    def timed(self, time: Column, events: Events) -> "OutcomeTable":
        """Return the table with the time of its rows, by which they follow impressions of a user and an item.

        A click counts for every impression before it. So of an hour only as much is taken as clicks need,
        lest it counts for an earlier impression of the same item, too.
        """
        table = replace(self, time=time)
        if events.time is None:
            return table
        shown = TimedRows.of(events.head, self.shown_key, events.time)
        later = shown.last_before(TimedRows.of(self.head, self.key, time), WITHIN)
        if np.sum(later > 0) < _COMMON:
            return table
        usual = float(np.quantile(later[later >= 0], _KNOWN))
        return replace(table, within=min(WITHIN, 60 * int(np.ceil(_SPARE * usual / 60))))

    def of(self, events: Events) -> Column:
        """Make the column of a sample of impressions, as far as the sample of outcomes tells it."""
        if self.where and self.time is not None and events.time is not None:
            # Samples of two tables are of different times, those of one are of the same.
            done = TimedRows.of(self.head, self.key, self.time)
            shown = TimedRows.of(events.head, self.shown_key, events.time)
            has = done.among(shown, after=self.within) > 0
            return Column(self.name, pa.array(has.astype(np.int8), mask=np.asarray(shown.keys.is_null())))
        keys, known = events.head.texts(self.shown_key), self.head.texts(self.key)
        found = pc.is_in(keys, value_set=known.drop_null()).cast(pa.int8())
        return Column(self.name, pc.if_else(keys.is_valid(), found, pa.scalar(None, pa.int8())))


def find_outcomes(events: Events, heads: Sequence[Head]) -> list[OutcomeTable]:
    """Find the tables of outcomes of impressions that have none in their own table."""
    if named_labels(events.labels) or events.shape.listed is not None:
        return []
    others = [head for head in heads if head is not events.head]
    found = [table for head in others if (table := _outcome_table(events, head)) is not None]
    return sorted(found, key=lambda table: not _CLICKS.search(table.name))


def with_labels(events: Events, tables: Sequence[OutcomeTable]) -> Events:
    """Return the events with the outcomes of other tables as labels."""
    own = named_labels(events.labels) if tables else events.labels
    return replace(events, labels=[*own, *((table.of(events), "", table.why) for table in tables)])


def _outcome_table(events: Events, head: Head) -> OutcomeTable | None:
    """Return a table of outcomes: by ids of impressions, or by user, item and time.

    A table that is not called after outcomes is one if it has later times for some of the impressions. Of
    events that are outcomes themselves, such as clicks, only what follows them is one, such as purchases.
    """
    further = is_called_after_outcomes(events.head.path)
    told = is_called_after_outcomes(head.path) and not further
    name, columns = column_after(head.path, events.head), list(head.columns.values())
    for shown_key, key in [] if further else shared_keys(events, head):
        same = told and len(key) == 1 and shown_key == key and plain_name(key[0]) not in _ANY_ID
        if not same and not _is_known(events.head, head, shown_key, key, 1 if told else _COMMON):
            continue
        if told or _comes_later(events, head, shown_key, key):
            return OutcomeTable(head, name, key, shown_key)
    time = with_clock(find_time(columns), columns)
    if events.user is None or events.item is None or events.time is None or time is None:
        return None
    if further or _SHOWN.search(_words(events.head.path)):
        pair = _person_and_item(events, head, events.user.name, events.item.name)
        if pair is not None and (told or _follows(events, head, pair, time)):
            return OutcomeTable(head, name, pair, pair).timed(time, events)
    once = (events.user.name, events.item.name)
    answers = not further and _answers(events, head, once)
    return OutcomeTable(head, name, once, once) if answers else None


def _answers(events: Events, head: Head, once: tuple[str, str]) -> bool:
    """True if a smaller table has later times for users and items that meet once, as in a mailing."""
    shown = events.head
    if not {*once} <= {*head.columns} or shown.rows < WHOLE * shown.estimated_rows:
        return False
    meet_once = len(shown.texts(once).unique()) >= _ONCE * shown.rows
    return (
        meet_once and _is_known(shown, head, once, once, _COMMON) and _comes_later(events, head, once, once)
    )


def _follows(events: Events, head: Head, pair: tuple[str, str], time: Column) -> bool:
    """True if nearly all rows of a smaller table follow an impression of their pair within an hour."""
    if events.time is None or head.estimated_rows > _FOUND * events.head.estimated_rows:
        return False
    shown, rows = TimedRows.of(events.head, pair, events.time), TimedRows.of(head, pair, time)
    known = np.asarray(pc.is_in(rows.keys, value_set=shown.keys.drop_null()))
    since = shown.last_before(rows, WITHIN)[known]
    return int(np.sum(since > 0)) >= _COMMON and bool(np.mean(since > 0) >= _FOUND)


def _person_and_item(events: Events, head: Head, user: str, item: str) -> tuple[str, str] | None:
    """Return the columns of both tables that name an item, and who saw it: the user, or else a visit."""
    visits = [column.name for column in _ids(events, events.head) if not _names_rows(column)]
    for person in (user, *visits):
        if not {person, item} <= {*head.columns}:
            continue
        key = (person, item)
        if person == user or _is_known(events.head, head, key, key, _COMMON):
            return key
    return None


_Keys = tuple[tuple[str, ...], tuple[str, ...]]  # columns of the impressions, and of the outcomes


def shared_keys(events: Events, head: Head) -> Iterator[_Keys]:
    """Yield the columns that may name an impression in both tables: ids, then pairs of columns."""
    yield from _single_keys(events, head)
    yield from _pairs_of_keys(events, head)


def _single_keys(events: Events, head: Head) -> Iterator[_Keys]:
    """Yield the ids of impressions with those of another table that may be the same, equal names first."""
    ids = [column for column in _ids(events, events.head) if _names_rows(column)]
    for shown in ids:
        same = head.columns.get(shown.name)
        if same is None or pa.types.is_nested(same.values.type):
            continue
        if not (plain_name(shown.name) in _ANY_ID and _numbers_rows(same)):
            yield (shown.name,), (shown.name,)
    for shown in ids:
        for column in _ids(events, head):
            # Numbers of rows are alike by chance.
            if column.name != shown.name and (shown.floats is None or _names_impressions(column)):
                yield (shown.name,), (column.name,)


def _pairs_of_keys(events: Events, head: Head) -> Iterator[_Keys]:
    """Yield the pairs of an id and another column that name an impression in both tables, items first."""
    common = [
        name
        for name, column in head.columns.items()
        if name in events.head.columns and not pa.types.is_nested(column.values.type) and not column.unit
    ]
    item = events.item.name if events.item is not None else ""
    for first in (column.name for column in _ids(events, events.head) if column.name in common):
        for second in sorted(common, key=lambda name: name != item):
            if first == second or pa.types.is_nested(events.head.columns[second].values.type):
                continue
            if len(events.head.texts((first, second)).unique()) >= _OWN * events.head.rows:
                yield (first, second), (first, second)


def _ids(events: Events, head: Head) -> list[Column]:
    """List the columns of ids that are neither user nor item."""
    return [
        column
        for column in head.columns.values()
        if column.name not in events.ids
        and not pa.types.is_nested(column.values.type)
        and not column.unit
        and (column.floats is None or _ID.search(column.name.lower()))
    ]


def _names_impressions(column: Column) -> bool:
    """True for a name such as impression_id."""
    name = column.name.lower()
    return _SHOWN.search(name) is not None and _ID.search(name) is not None


def _is_known(shown: Head, head: Head, shown_key: tuple[str, ...], key: tuple[str, ...], least: int) -> bool:
    """True if impressions have the keys of a table; samples of large tables, at least some in common."""
    found = pc.is_in(head.texts(key).drop_null(), value_set=shown.texts(shown_key))
    common = int(pc.sum(found).as_py() or 0)
    if shown.rows >= WHOLE * shown.estimated_rows:
        return common > 0 and common >= _FOUND * len(found)
    return common >= least


def _comes_later(events: Events, head: Head, shown_key: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """True if a smaller table has times after those of the impressions that it names."""
    later = _seconds_later(events, head, shown_key, key)
    if len(later) < _COMMON or head.estimated_rows > _FOUND * events.head.estimated_rows:
        return False
    return bool(np.mean(later >= 0) >= _OWN and np.median(later) > 0)


def _seconds_later(
    events: Events, head: Head, shown_key: tuple[str, ...], key: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Return the seconds from an impression to each row that names it; none where a table has no time."""
    moments = _moments(head)
    if moments is None or events.time is None:
        return np.zeros(0, np.int64)
    place = pc.index_in(head.texts(key), value_set=events.head.texts(shown_key), skip_nulls=True)
    before = seconds(events.time.values, detect_unit(events.time.known))[0].take(place)
    return np.asarray(pc.subtract(moments, before).drop_null().to_numpy(zero_copy_only=False), np.int64)


def _moments(head: Head) -> pa.Array | None:
    """Return (N,) seconds of the rows of a table, or None without times."""
    columns = list(head.columns.values())
    time = with_clock(find_time(columns), columns)
    return None if time is None else seconds(time.values, detect_unit(time.known))[0]


def _names_rows(column: Column) -> bool:
    """True for ids of which nearly every row has its own."""
    kind = column.values.type
    if pa.types.is_nested(kind) or column.unit or (column.floats is not None and not column.is_id):
        return False
    return len(column.known) == len(column.values) and column.distinct >= _OWN * len(column.values)


def _numbers_rows(column: Column) -> bool:
    """True for an id that counts the rows of its own table; what came of a few impressions has gaps."""
    if not column.is_id or len(column.known) < 2:
        return False
    numbers = np.asarray(column.floats, np.float64)
    return bool(np.mean(np.diff(numbers) == 1) >= _FOUND)


def column_after(path: Path, shown: Head) -> str:
    """Name the column after the file: of ``clicks.csv`` click."""
    name = identifier(path.name.split(".")[0]).removesuffix("s")
    return name if name not in shown.columns else f"has_{name}"


def is_called_after_outcomes(path: Path) -> bool:
    """True for names of files such as ``clicks.csv``."""
    return _OUTCOMES.search(_words(path)) is not None


def _words(path: Path) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", path.name.split(".")[0]).lower().replace("-", "_")


@dataclass(frozen=True)
class TimedRows:
    """Keys and times of the rows of a sample.

    Attributes:
        keys: (N,) texts.
        times: (N,) seconds, null where unreadable.
    """

    keys: pa.Array
    times: pa.Array

    @classmethod
    def of(cls, head: Head, key: Sequence[str], time: Column) -> "TimedRows":
        """Take keys and times of rows of a sample; ``time`` is theirs, or that of other rows."""
        columns = [head.columns[name].values for name in time.parts or (time.name,)]
        moments = moment_texts(columns) if time.parts else columns[0]
        return cls(head.texts(key), seconds(moments, detect_unit(time.known))[0])

    def among(self, rows: "TimedRows", before: int = 0, after: int = 0) -> npt.NDArray[np.int64]:
        """Count for each of other rows (N,) those of these with its key, some seconds before or after it."""
        found, asked, known = self._places(rows, before, after)
        first, last = np.searchsorted(found, asked - before), np.searchsorted(found, asked + after, "right")
        return np.where(known, last - first, 0)

    def first_after(self, rows: "TimedRows", most: int) -> npt.NDArray[np.int64]:
        """Return for each of other rows (N,) the seconds to the next of these with its key, -1 for none."""
        found, asked, known = self._places(rows, 0, most)
        later = np.append(found, np.iinfo(np.int64).max)[np.searchsorted(found, asked)] - asked
        return np.where(known & (later <= most), later, -1)

    def last_before(self, rows: "TimedRows", most: int) -> npt.NDArray[np.int64]:
        """Return for each of other rows (N,) the seconds since the last of these with its key, or -1."""
        found, asked, known = self._places(rows, most, 0)
        place = np.searchsorted(found, asked, "right")
        since = asked - np.append(found, 0)[place - 1]
        return np.where(known & (place > 0) & (since <= most), since, -1)

    def _places(
        self, rows: "TimedRows", before: int, after: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Write key and time as one number, those of different keys further apart than before and after.

        Returns:
            those of these rows in order, those of the other ones, and which of the latter are known.
        """
        codes = pa.concat_arrays([self.keys, rows.keys]).dictionary_encode().indices
        times = pa.concat_arrays([self.times, rows.times])
        known = pc.and_(codes.is_valid(), times.is_valid()).to_numpy(zero_copy_only=False)
        moments = times.fill_null(0).to_numpy(zero_copy_only=False)
        own = np.arange(len(codes)) < len(self.keys)
        if not known.any():
            return np.zeros(0, np.int64), np.zeros(len(rows.keys), np.int64), known[~own]
        start = moments - moments[known].min() + before
        span = int(start[known].max()) + after + 1
        place = codes.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) * span + start
        return np.sort(place[own & known]), place[~own], known[~own]
