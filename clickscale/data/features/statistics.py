"""Point-in-time statistics: counts and rates of an item, a user or an attribute just before an impression.

`clickscale.schema.Statistic` declares them, for instance the click rate of an item over its last three days.
For an impression at time T with key k, of all impressions with the same key

* ``rows`` counts those with ``T - window <= time < T`` (window 0: all before T),
* ``known`` counts those of them whose label is 0 or 1 and was known before T (``time + label.delay < T``),
* ``positives`` sums the labels of the known ones,
* ``newest`` is the time of the newest known one whose label is 1;

``of="count"`` is ``rows``, ``of="rate"`` is ``(positives + prior * overall) / (known + prior)``,
``of="share"`` is ``(positives + prior * expected) / (others + prior) / expected``, where ``others`` are the
``positives`` of all but the last name of the key, and ``expected`` is the share of the last one among the
positives of all time, ``(its positives + 1) / (all positives + 1)``. With one name the share is divided by
`_ONE_IN` instead, which is also what is expected without a window,
``of="lift"`` is ``surprises / (known + prior)``, and ``of="recency"`` is ``T - newest`` or, without any, the
window. ``overall`` is the rate of all impressions of the log known before T, and 0.5 while none is known.
With ``prior = 0`` and nothing known, the rate is ``overall``.
``surprises`` sums, over the known ones, the label less the rate that its item had at that time, in steps of
1 / `STEPS`, so that the order of the sum does not matter. Impressions of one second never see each other.

In a log whose negatives were drawn, nothing but its positives is counted, in every kind of statistic: those
of `ImpressionLog.counted`. Drawn negatives have values, and add to none. So a rate would be 1 and a lift 0.

Keys are encoded indices: ``user`` and ``item`` are the rows of the tables of the data set, ``hour_of_day`` is
that of the impression (UTC, 0 to 23), a field is its index, so all unknown values of a field share one key.
``newest.item`` and ``newest.FIELD`` are those of the item of the user's newest positive
(`clickscale.data.features.newest_positives`), and no key where there is none. A field of several values
contributes the mean over its distinct values, and to a recency the smallest; several fields are combined by
every combination of their values.

Preparation calls it when every other column of the layout (`clickscale.data.layout`) is written::

    write_statistics(folder, schema, memory_rows=1 << 22, progress=None)

writes ``impressions/field.NAME.npy`` of every statistic: (impressions,) float32, raw, that is neither
transformed nor standardized (no NaN). Memory is bounded by ``memory_rows`` (about 150 bytes each) for any
number of impressions and any distribution of keys; only impressions that share both key and second must fit
together. The bytes written do not depend on ``memory_rows``.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickscale.arrays import Progress
from clickscale.data.columns import open_column
from clickscale.data.features.counts_in_memory import Integers, counts_before, newest_before
from clickscale.data.features.counts_on_disk import count_on_disk
from clickscale.data.features.newest_positives import NONE, Positives, write_newest_positives
from clickscale.errors import DataError, SchemaError, unknown
from clickscale.features import POSITIVES, column_of, label_of
from clickscale.files import array_on_disk
from clickscale.schema import HOUR, Label, Schema, Statistic, newest_of

Rows = slice | Integers
_NO_RATE = 0.5  # the overall rate while no label is known
STEPS = 10_000  # of a lift, between 0 and 1
_HOURS = 24
_ONE_IN = 1 / 1000  # share of a key that a share of one name is compared with


def rate(
    known: Integers, positives: Integers, overall: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    """Smoothed rate ``(positives + prior * overall) / (known + prior)``; ``overall`` without any weight."""
    weight = known + prior
    smoothed = (positives + prior * overall) / np.where(weight > 0, weight, 1)
    return np.where(weight > 0, smoothed, overall)


def overall_rate(known: Integers, positives: Integers) -> NDArray[np.float64]:
    """Rate of all known labels so far; `_NO_RATE` while none is known."""
    return np.where(known > 0, positives / np.maximum(known, 1), _NO_RATE)


def surprises(
    labels: NDArray[np.int8],
    known: Integers,
    positives: Integers,
    overall: NDArray[np.float64],
    prior: float,
) -> NDArray[np.int16]:
    """Steps from the item's rate at that time up to the label, any shape; 0 where the label is unknown."""
    steps = np.rint(STEPS * (labels - rate(known, positives, overall, prior))).astype(np.int16)
    return np.where(labels >= 0, steps, np.int16(0))


def values_of(
    statistic: Statistic,
    first: Integers,
    second: Integers,
    there: NDArray[np.bool_],
    overall: NDArray[np.float64],
    time: Integers,
) -> NDArray[np.float32]:
    """(n,) values of a statistic from the counts of its keys.

    Args:
        first: (n, slots) rows of a ``count``, or positives where only these count; known labels of a ``rate``
            or ``lift``; known positives of a ``recency``.
        second: (n, slots) positives of a ``rate``, sum of the surprises of a ``lift``, time of the newest
            positive of a ``recency`` (read where ``first`` is not 0).
        there: (n, slots) whether a slot holds a key.
        overall: (n,) rate of the whole log at that time; only a ``rate`` reads it.
        time: (n,) the moments of the values; only a ``recency`` reads them.
    """
    if statistic.of == "recency":
        ages = np.where(there & (first > 0), time[:, None] - second, statistic.window)
        return np.minimum(ages.min(axis=1), statistic.window).astype(np.float32)
    if statistic.of == "rate":
        return _mean(rate(first, second, overall[:, None], statistic.prior), there, overall)
    nothing = np.zeros(len(there))
    if statistic.of == "count":
        return _mean(first.astype(np.float64), there, nothing)
    weight = first + statistic.prior
    return _mean(second / STEPS / np.where(weight > 0, weight, 1), there, nothing)


def counts_positives(schema: Schema, statistic: Statistic) -> bool:
    """True if a statistic counts nothing but positive labels."""
    return statistic.of in ("recency", "share") or schema.sampled_negatives > 0


def share_counts(statistic: Statistic) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Keys and windows of the positives that a share is made of, in the order of `share_values`."""
    by, window = statistic.by, statistic.window
    counted = (by, window), (by[:-1], window)
    return (*counted, (by[-1:], 0), ((), 0)) if len(by) > 1 or window else counted


def share_values(
    statistic: Statistic, there: NDArray[np.bool_], counts: Sequence[Integers]
) -> NDArray[np.float32]:
    """(n,) values of a share.

    Args:
        there: (n, slots) whether a slot holds a key.
        counts: positives of `share_counts`: (n, slots), (n, slots of the others) and, of a key of several
            names or a window, (n, slots of the last name) and (n, 1). The slots of a key are pairs of the
            second and the third.
    """
    own, others, *all_time = counts
    expected = np.full(own.shape, _ONE_IN)
    if all_time:
        last, every = all_time
        expected = np.tile((last + 1) / (every + 1), (1, others.shape[1]))  # (n, slots)
    weight = np.repeat(others, own.shape[1] // others.shape[1], axis=1) + statistic.prior  # (n, slots)
    share = (own + statistic.prior * expected) / np.where(weight > 0, weight, 1)
    usual = expected if len(statistic.by) > 1 else _ONE_IN
    return _mean(np.where(weight > 0, share, expected) / usual, there, np.ones(len(there)))


def hours_of(time: Integers) -> Integers:
    """Hours (n,) of the day, UTC."""
    return time // 3600 % _HOURS


def distinct_slots(values: Integers) -> Integers:
    """Blank repeated values and padding of a field: (N, values) distinct values, -1 for none."""
    if values.shape[1] > 1:
        values = np.sort(values, axis=1)
        values[:, 1:][values[:, 1:] == values[:, :-1]] = 0
        values[values == 0] = -1
    return values


class ImpressionLog:
    """The columns of a prepared data set from which statistics are made, as memory maps.

    Attributes:
        time: (impressions,) int64 seconds.

    Args:
        table: ``impressions``, or `POSITIVES` for those of a log whose negatives were drawn.
    """

    def __init__(self, folder: Path, schema: Schema, table: str = "impressions") -> None:
        self.folder, self.schema, self._table = folder, schema, table
        self._user, self._item = self._map(f"{table}/user"), self._map(f"{table}/item")
        self.time: Integers = self._map(f"{table}/time")
        self._columns: dict[str, tuple[str, NDArray[np.int32], int]] = {}

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def counted(self) -> "ImpressionLog":
        """The events that statistics count: these, or the positives of a log whose negatives were drawn."""
        if not self.schema.sampled_negatives or self._table == POSITIVES:
            return self
        return ImpressionLog(self.folder, self.schema, POSITIVES)

    def _map(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            raise DataError(f"{path} is missing, and statistics need it; prepare the data set again.")
        return open_column(path)

    def write_newest(self, memory_rows: int) -> None:
        """Write the column of the items of newest positives, for what is counted as well."""
        first, counted = self.schema.labels[0], self.counted
        label = counted.label(first.name)
        among = Positives(counted._user, counted.time, counted._item, label, first.delay)
        for log in {self._table: self, counted._table: counted}.values():
            path = self.folder / log._table / "newest.npy"
            write_newest_positives(path, log._user, log.time, among, memory_rows)

    def label(self, name: str) -> NDArray[np.int8]:
        """(impressions,) int8 labels in {0, 1, -1}."""
        return self._map(f"{self._table}/{label_of(name)}")

    def slots(self, by: tuple[str, ...]) -> int:
        """Largest number of keys of one impression."""
        return int(self.keys(by, slice(0, 1)).shape[1])

    def keys(self, by: tuple[str, ...], rows: Rows, item: Integers | None = None) -> Integers:
        """(N, slots) keys of some impressions, -1 where an impression has fewer values.

        Args:
            item: (N,) rows of the item table to put in place of the items of the impressions.

        Raises:
            SchemaError: a name is not a categorical field, or the fields have too many combinations.
        """
        keys = np.zeros((len(self.time[rows]), 1), np.int64)
        combinations = 1
        for name in by:
            values, size = self._values(name, rows, item)
            combinations *= size
            if combinations >= 2**62:
                raise SchemaError(f"A statistic by {', '.join(by)} has too many keys; combine fewer fields.")
            crossed = keys[:, :, None] * size + values[:, None, :]  # (N, slots so far, values)
            crossed[(keys[:, :, None] < 0) | (values[:, None, :] < 0)] = -1
            keys = crossed.reshape(len(keys), keys.shape[1] * values.shape[1])
        return keys

    def _values(self, name: str, rows: Rows, item: Integers | None) -> tuple[Integers, int]:
        """(N, values) distinct values of a field, -1 for none, and the number of its indices."""
        if self.schema.keys_hour(name):
            return hours_of(self.time[rows])[:, None], _HOURS
        side, column, size = self._column(name)
        shown: NDArray[Any] = self._item[rows] if item is None else item
        found: NDArray[Any]
        if side == "newest":
            shown = self._map(f"{self._table}/newest")[rows]
            found = shown if column is self._item else column[shown]
            found = np.where((shown == NONE).reshape(-1, *[1] * (found.ndim - 1)), -1, found)
        elif side == "users":
            found = column[self._user[rows]]
        elif side == "items":
            found = column[shown]
        else:
            found = shown if column is self._item else column[rows]
        return distinct_slots((found[:, None] if found.ndim == 1 else found).astype(np.int64)), size

    def parts_of(self, by: tuple[str, ...], keys: Integers) -> list[Integers]:
        """Divide keys (N,) into the values (N,) of each name of ``by``."""
        parts = []
        for name in reversed(by):
            size = _HOURS if self.schema.keys_hour(name) else self._column(name)[2]
            keys, value = np.divmod(keys, size)
            parts.append(value)
        return parts[::-1]

    def _column(self, name: str) -> tuple[str, NDArray[np.int32], int]:
        """Open the column of a key once; return table, column and number of indices."""
        if name not in self._columns:
            schema = self.schema
            if read := newest_of(name):
                _, column, size = self._column(read)
                self._columns[name] = ("newest", column, size)
            elif name in ("user", schema.user.name):
                size = len(self._map("users/offsets")) - 1
                self._columns[name] = (self._table, self._user, size)
            elif name in ("item", schema.item.name):
                self._columns[name] = (self._table, self._item, len(self._map("items/first_seen")))
            else:
                side = self._side(name)
                column = self._map(f"{side}/{column_of(name)}")
                # What is counted has the keys of what asks for it, whichever of the two this is.
                tables = {"impressions", self.counted._table} if side == self._table else {side}
                columns = [self._map(f"{table}/{column_of(name)}") for table in tables]
                size = max(int(column.max(initial=0)) for column in columns) + 1
                self._columns[name] = (side, column, size)
        return self._columns[name]

    def _side(self, name: str) -> str:
        """Find the folder of the table that holds a categorical field."""
        schema = self.schema
        sides = {"users": schema.profile, "items": schema.items, self._table: schema.context}
        kinds = {field.name: (side, field.kind) for side, fields in sides.items() for field in fields}
        side, kind = kinds.get(name, ("", ""))
        if kind != "categorical":
            fit = [name for name, (_, kind) in kinds.items() if kind == "categorical"]
            raise SchemaError(
                "Statistics need categorical keys. " + unknown("key", name, ["user", "item", HOUR, *fit])
            )
        return side


def write_statistics(
    folder: Path,
    schema: Schema,
    *,
    memory_rows: int = 1 << 22,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the raw column of every statistic of the schema; see the module docstring.

    Args:
        folder: an unfinished data set with every other column.
        memory_rows: approximate number of rows in memory at once.
        scratch: folder of intermediate files, created and removed here; below ``folder`` by default.
        progress: called with ("statistics", impressions done, impressions to do, over all statistics).

    Raises:
        SchemaError: an unknown key or label, or a negative duration.
        DataError: a column is missing.
        OSError: the disk is full (``errno.ENOSPC``); intermediate files are removed.
    """
    if not schema.statistics:
        return
    log = ImpressionLog(folder, schema)
    if schema.reads_newest:
        log.write_newest(memory_rows)
    counter = LogCounter(log, memory_rows, scratch or folder / "statistics.spill")
    total = len(log) * len(schema.statistics)
    try:
        for index, statistic in enumerate(schema.statistics):
            with (folder / "impressions" / f"{column_of(statistic.name)}.npy").open("wb") as stream:
                shape = {"descr": "<f4", "fortran_order": False, "shape": (len(log),)}
                np.lib.format.write_array_header_1_0(stream, shape)
                for start, values in counter.column(statistic):
                    stream.write(values.tobytes())
                    if progress:
                        progress("statistics", index * len(log) + start + len(values), total)
    finally:
        shutil.rmtree(counter.scratch, ignore_errors=True)


class LogCounter:
    """Counts of a log, in memory if they fit and else on disk below ``scratch``, which the caller removes."""

    def __init__(self, log: ImpressionLog, memory_rows: int, scratch: Path) -> None:
        self.log, self.memory_rows, self.scratch = log, memory_rows, scratch
        self._overall: dict[str, tuple[Integers, Integers]] = {}
        self._surprise: dict[str, NDArray[np.int16]] = {}

    def column(self, statistic: Statistic) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, values) until all impressions are done."""
        label = label_of_statistic(self.log.schema, statistic)
        folder = self.scratch / f"statistic.{statistic.name}"
        if statistic.of == "share":
            yield from self._shares(statistic, label, folder)
            return
        slots = self.log.slots(statistic.by)
        positive = counts_positives(self.log.schema, statistic)
        counted = None if statistic.of == "count" and not positive else label
        worth = self.surprises(label, statistic.prior) if statistic.of == "lift" else None
        newest = statistic.of == "recency"
        counts = self._count(statistic.by, counted, statistic.window, folder, worth, newest=newest)
        if statistic.of == "count" and positive:
            counts = (counts[1], counts[1])
        overall = self._overall_counts(label) if statistic.of == "rate" else None
        step = max(1, self.memory_rows // slots)
        for start in range(0, len(self.log), step):
            rows = slice(start, min(start + step, len(self.log)))
            there = self.log.keys(statistic.by, rows) >= 0  # (n, slots)
            first, second = (
                part[rows.start * slots : rows.stop * slots].reshape(-1, slots) for part in counts
            )
            expected = np.zeros(len(there))
            if overall is not None:
                expected = overall_rate(*(part[rows] for part in overall))
            yield start, values_of(statistic, first, second, there, expected, self.log.time[rows])
        shutil.rmtree(folder, ignore_errors=True)

    def _shares(
        self, statistic: Statistic, label: Label, folder: Path
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, values) of a share."""
        counts = [
            (self._count(by, label, window, folder / str(place))[1], self.log.slots(by))
            for place, (by, window) in enumerate(share_counts(statistic))
        ]
        step = max(1, self.memory_rows // counts[0][1])
        for start in range(0, len(self.log), step):
            rows = slice(start, min(start + step, len(self.log)))
            there = self.log.keys(statistic.by, rows) >= 0  # (n, slots)
            parts = [
                part[rows.start * slots : rows.stop * slots].reshape(-1, slots) for part, slots in counts
            ]
            yield start, share_values(statistic, there, parts)
        shutil.rmtree(folder, ignore_errors=True)

    def _overall_counts(self, label: Label) -> tuple[Integers, Integers]:
        """Count (impressions,) known and positives of the whole log before each impression."""
        if label.name not in self._overall:
            self._overall[label.name] = self._count((), label, 0, self.scratch / f"overall.{label.name}")
        return self._overall[label.name]

    def surprises(self, label: Label, prior: float) -> NDArray[np.int16]:
        """Return (impressions,) steps from the item's rate at that time up to the label; 0 if unknown."""
        key = f"{label.name}.{prior}"
        if key not in self._surprise:
            known, positives = self._count(("item",), label, 0, self.scratch / f"lift.{key}")
            overall, labels = self._overall_counts(label), self.log.label(label.name)
            self.scratch.mkdir(parents=True, exist_ok=True)
            column = self.scratch / f"lift.{key}.npy"
            surprise = array_on_disk(column, np.int16, (len(self.log),))
            for start in range(0, len(self.log), self.memory_rows):
                rows = slice(start, start + self.memory_rows)
                expected = overall_rate(*(part[rows] for part in overall))
                surprise[rows] = surprises(labels[rows], known[rows], positives[rows], expected, prior)
            self._surprise[key] = surprise
        return self._surprise[key]

    def _count(
        self,
        by: tuple[str, ...],
        label: Label | None,
        window: int,
        folder: Path,
        worth: NDArray[np.int16] | None = None,
        *,
        newest: bool = False,
    ) -> tuple[Integers, Integers]:
        """Count (impressions * slots,): rows twice without a label; else known and positives.

        With ``worth`` (impressions,): known, and the sum of the worth of the known ones. With ``newest``:
        positives, and the time of the newest.
        """
        log, counted, slots = self.log, self.log.counted, self.log.slots(by)
        labels = None if label is None else counted.label(label.name)
        delay = 0 if label is None else label.delay
        if max(len(log), len(counted)) * slots > self.memory_rows:
            folder.mkdir(parents=True)
            return count_on_disk(
                partial(counted.keys, by),
                counted.time,
                labels,
                worth,
                slots=slots,
                delay=delay,
                window=window,
                memory_rows=self.memory_rows,
                folder=folder,
                newest=newest,
                asking=None if counted is log else (partial(log.keys, by), log.time),
            )
        keys, time = log.keys(by, slice(None)).ravel(), log.time
        if counted is not log and labels is not None:  # impressions ask, and are unknown to the counts
            keys = np.concatenate([keys, counted.keys(by, slice(None)).ravel()])
            labels = np.concatenate([np.full(len(log), -1, np.int8), labels])
            time = np.concatenate([time, counted.time])
        there = np.flatnonzero(keys >= 0)
        row = there // slots
        moment, known = time[row], None if labels is None else labels[row]
        asked, first, second = len(log) * slots, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        if newest and known is not None:
            first[there], second[there] = newest_before(
                keys[there], moment, known, delay=delay, window=window
            )
            return first[:asked], second[:asked]
        worths = None if worth is None else worth[row]
        before = counts_before(keys[there], moment, known, worths, delay=delay, window=window)
        first[there], second[there] = (
            (before.rows, before.rows) if label is None else (before.known, before.positives)
        )
        return first[:asked], second[:asked]


def _mean(
    values: NDArray[np.float64], there: NDArray[np.bool_], otherwise: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Average (n,) over the slots that hold a value; ``otherwise`` where none does."""
    held = there.sum(axis=1)
    mean = np.where(there, values, 0.0).sum(axis=1) / np.maximum(held, 1)
    return np.where(held > 0, mean, otherwise).astype(np.float32)


def label_of_statistic(schema: Schema, statistic: Statistic) -> Label:
    """Find the label of a statistic; refuse durations and statistics that make no sense in the log."""
    if fault := schema.fault_of(statistic):
        raise SchemaError(f"Schema {schema.name!r}: {fault}.")
    labels = {label.name: label for label in schema.labels}
    name = statistic.label or schema.labels[0].name
    if name not in labels:
        raise SchemaError(f"Statistic {statistic.name!r}: " + unknown("label", name, labels))
    if min(statistic.window, statistic.prior, labels[name].delay) < 0:
        raise SchemaError(f"Statistic {statistic.name!r}: window, prior and the label's delay must be >= 0.")
    return labels[name]
