"""Proof that no impression of a prepared data set sees anything that was not known at its moment.

Every impression and every behavior is compared. Timelines are in the order in which their events became
known. So an impression sees nothing of the future exactly when the last behavior it sees was known before
its moment and the next one was not. Statistics are recomputed by brute force for a sample of impressions,
from the rows strictly before.

What already holds the outcome when the log is written cannot be found by comparing times. Four neighbors
measure it: `telltales` asks whether a feature tells the label, `presence` whether a behavior's being there,
the moment or the order of rows does, `copies` whether sampled negatives have what only their positive can
have, and `aggregates` whether a number averages the label over the log.

Columns are read in chunks, so memory does not grow with the log.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickscale.data.checks.aggregates import suspicious_aggregates
from clickscale.data.checks.copies import suspicious_copies
from clickscale.data.checks.presence import suspicious_presence
from clickscale.data.checks.telltales import sample_of_train, suspicious_features
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.features.evidence import Suspicion
from clickscale.data.features.newest_positives import NONE
from clickscale.data.features.statistics import STEPS, ImpressionLog, overall_rate, rate
from clickscale.data.source import PARTS
from clickscale.features import POSITIVES, column_of, label_of
from clickscale.schema import Label, Statistic

Severity = Literal["error", "warning"]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_CHUNK = 1 << 18  # rows compared at once
_EXAMPLES = 5
_RECENT = 50  # visible behaviors among which an impression's own event is looked for
_ROUNDINGS = 8 * float(np.finfo(np.float32).eps)  # two float32 ways to the same number differ by less

_MEANING: dict[str, str] = {
    "offsets": "rows that are not one stretch of the table for each user",
    "item_range": "rows of items that are not in the item table",
    "timeline_order": "behaviors that became known before the behavior in front of them",
    "known_before_event": "behaviors known before they happened",
    "visible_future": "impressions that see a behavior known at or after their moment",
    "visible_incomplete": "impressions that do not see a behavior known before their moment",
    "visible_range": "impressions that see a negative number of behaviors, or more than there are",
    "own_event": "impressions that see their own event among their newest behaviors",
    "item_not_yet_there": "impressions of an item before its first moment in the log",
    "part_order": "impressions of an earlier part that lie after one of a later part",
    "part_tie": "impressions that share their user and second with one of another part",
    "telling_feature": "a feature tells the label",
    "telling_presence": "the presence of a behavior, the moment or the order of rows tells the label",
    "copied_value": "sampled negatives copy a value that goes with the item of their positive",
    "aggregate": "a number was made from the label",
    "newest_positive": "sampled impressions whose newest positive is not that of the rows strictly before",
    "statistic": "sampled impressions whose statistic is not that of the rows strictly before",
}


class _Finding(msgspec.Struct, frozen=True):
    """One kind of fault, with the rows that have it.

    Attributes:
        code: a key of `_MEANING`.
        severity: an ``error`` fails the check; a ``warning`` does not.
        message: one sentence.
        count: rows with the fault.
        rows: a few of them (rows of the impressions; of the behaviors, or users, where the message says so).
        name: the feature, or the value named in `clickscale.data.checks.presence`, that tells the label.
    """

    code: str
    severity: Severity
    message: str
    count: int
    rows: tuple[int, ...] = ()
    name: str = ""


class _LeakReport(msgspec.Struct, frozen=True):
    """Result of `leak_check`.

    Attributes:
        checked: number of rows compared, by code.
    """

    dataset: str
    findings: tuple[_Finding, ...]
    checked: dict[str, int]

    @property
    def ok(self) -> bool:
        """True if no error was found; warnings do not count."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, ``ok`` included."""
        return {"ok": self.ok, **msgspec.to_builtins(self)}


def leak_check(
    dataset: Dataset | str | Path, *, sample: int = 128, seed: int = 0, accept: Collection[str] = ()
) -> _LeakReport:
    """Look for anything that was not known at an impression's moment; see the module docstring.

    Args:
        accept: names of features, or of values of `presence`, that may tell the label; they become warnings.
        sample: impressions for which every statistic is recomputed.
        seed: chooses these impressions.

    Raises:
        DataError: the folder is not a prepared data set, or a file is missing or cut off.
    """
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    tally = _Tally()
    _check_behaviors(data, tally)
    _check_impressions(data, tally)
    _check_parts(data, tally)
    if tally.broken:  # some rows point outside their tables, so nothing else can be computed
        return _LeakReport(str(data.path), tuple(tally.findings()), tally.checked)
    total = len(data.impressions["time"])
    rows = np.sort(np.random.default_rng(seed).choice(total, min(sample, total), replace=False))
    if data.schema.reads_newest:
        _check_newest(data, rows, tally)
    for statistic in data.schema.statistics:
        _check_statistic(data, statistic, rows, tally)
    telling = _telling(data, sample_of_train(data, seed), tally)
    found = [
        _Finding(code, "warning" if name in accept else "error", message, count, (), name)
        for code, (name, message, count) in telling
    ]
    return _LeakReport(str(data.path), (*tally.findings(), *found), tally.checked)


def _telling(data: Dataset, rows: Integers, tally: "_Tally") -> list[tuple[str, Suspicion]]:
    """List what tells a label, each with the code of its finding."""
    checks = (
        ("telling_feature", suspicious_features(data, rows), len(rows)),
        ("telling_presence", suspicious_presence(data, rows), len(rows)),
        ("copied_value", suspicious_copies(data, rows), len(rows)),
        ("aggregate", suspicious_aggregates(data), len(data.impressions["time"])),
    )
    for code, _, checked in checks:
        tally.checked[code] = checked
    return [(code, suspicion) for code, suspicions, _ in checks for suspicion in suspicions]


class _Tally:
    """Faults counted chunk by chunk."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self._faults: dict[tuple[str, str], tuple[int, list[int]]] = {}

    def add(self, code: str, faulty: Flags, first_row: int = 0, detail: str = "") -> None:
        """Count the flags that are set; flag i belongs to row ``first_row + i``."""
        self.add_rows(code, np.flatnonzero(faulty) + first_row, len(faulty), detail)

    def add_rows(self, code: str, rows: Integers, checked: int, detail: str = "") -> None:
        """Count faulty rows out of ``checked``."""
        self.checked[code] = self.checked.get(code, 0) + checked
        if len(rows):
            count, examples = self._faults.get((code, detail), (0, []))
            examples = [*examples, *rows[: _EXAMPLES - len(examples)].tolist()]
            self._faults[code, detail] = (count + len(rows), examples)

    @property
    def broken(self) -> bool:
        """True if rows point outside their tables."""
        return any(code in ("offsets", "item_range", "visible_range") for code, _ in self._faults)

    def findings(self) -> list[_Finding]:
        """List one finding per code and detail."""
        return [
            _Finding(
                code,
                "warning" if code == "part_tie" else "error",
                f"{_MEANING[code]}{detail}",
                count,
                tuple(rows),
            )
            for (code, detail), (count, rows) in self._faults.items()
        ]


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    """Yield the begin and the end of each chunk."""
    for start in range(0, rows, _CHUNK):
        yield start, min(start + _CHUNK, rows)


def _check_behaviors(data: Dataset, tally: _Tally) -> None:
    """Check that timelines are in the order of becoming known, and that nothing is known too early."""
    time, known, offsets = data.behaviors["time"], data.known_at, data.users["offsets"]
    for table, ends in (("behaviors", offsets), ("impressions", data.users["impressions"])):
        rows = len(getattr(data, table)["time"])
        wrong = (np.diff(ends) < 0) | (ends[1:] > rows)
        if len(wrong):
            wrong[0] |= ends[0] != 0
            wrong[-1] |= ends[-1] != rows
        tally.add("offsets", wrong, detail=f" ({table}; the rows are users)")
    for start, end in _chunks(len(time)):
        now = known[start:end]
        item = data.behaviors["item"][start:end]
        outside = (item < 0) | (item >= len(data.items["first_seen"]))
        tally.add("item_range", outside, start, " (rows of the behaviors)")
        tally.add("known_before_event", now < time[start:end], start, " (rows of the behaviors)")
        before = known[max(start - 1, 0) : end - 1] if start else np.concatenate((now[:1], now[:-1]))
        back = now < before
        first = offsets[(offsets >= start) & (offsets < end)] - start
        back[first] = False  # a user's first behavior follows another user's
        tally.add("timeline_order", back, start, " (rows of the behaviors)")


def _check_impressions(data: Dataset, tally: _Tally) -> None:
    """Compare the behaviors that every impression sees with those that were known."""
    columns, offsets, known = data.impressions, data.users["offsets"], data.known_at
    ends, first_seen = data.users["impressions"], data.items["first_seen"]
    users = len(offsets) - 1
    for start, end in _chunks(len(columns["time"])):
        user, time, item, visible = (columns[name][start:end] for name in ("user", "time", "item", "visible"))
        row = np.arange(start, end)
        stray = (user < 0) | (user >= users)
        user = np.clip(user, 0, users - 1)
        stray |= (row < ends[user]) | (row >= ends[user + 1])
        tally.add(
            "offsets", stray, start, " (impressions of another user's stretch; the rows are impressions)"
        )
        begin, count = offsets[user], np.maximum(offsets[user + 1] - offsets[user], 0)
        tally.add("item_range", (item < 0) | (item >= len(first_seen)), start, " (rows of the impressions)")
        item = np.clip(item, 0, len(first_seen) - 1)
        tally.add("visible_range", (visible < 0) | (visible > count), start)
        visible = np.clip(visible, 0, count)
        newest, following = _at(known, begin + visible - 1), _at(known, begin + visible)
        tally.add("visible_future", (visible > 0) & (newest >= time), start)
        tally.add("visible_incomplete", (visible < count) & (following < time), start)
        tally.add("own_event", _sees_own_event(data, begin + visible, visible, item, time), start)
        late = first_seen[item] > time
        if data.schema.sampled_negatives:  # an item is drawn only if it was there before
            late |= (first_seen[item] == time) & _all_negative(data, start, end)
        tally.add("item_not_yet_there", late, start)


def _at(column: NDArray[Any], rows: Integers) -> NDArray[Any]:
    """Return the values of some rows; rows outside of the column give an arbitrary value."""
    if not len(column):
        return np.zeros(len(rows), column.dtype)
    return column[np.clip(rows, 0, len(column) - 1)]


def _sees_own_event(data: Dataset, end: Integers, visible: Integers, item: Integers, time: Integers) -> Flags:
    """(n,) True where one of the newest visible behaviors has the impression's own item and time."""
    own = np.zeros(len(item), np.bool_)
    for back in range(1, min(_RECENT, int(visible.max(initial=0))) + 1):
        rows = np.flatnonzero(visible >= back)
        row = np.clip(end[rows] - back, 0, len(data.behaviors["item"]) - 1)
        own[rows] |= (data.behaviors["item"][row] == item[rows]) & (data.behaviors["time"][row] == time[rows])
    return own


def _all_negative(data: Dataset, start: int, end: int) -> Flags:
    """(n,) True where an impression has no positive label."""
    labels = [data.impressions[label_of(name)][start:end] for name in data.labels]
    return np.asarray(np.max(labels, axis=0) <= 0)


def _check_parts(data: Dataset, tally: _Tally) -> None:
    """Check that parts follow one another in time, in the whole log or for each user."""
    if data.split.is_given:  # whoever wrote the log chose the parts, which need not follow time
        return
    by_user = data.split.is_by_user
    parts, time, user = data.parts(), data.impressions["time"], data.impressions["user"]
    groups = len(data.users["offsets"]) - 1 if by_user else 1
    for part, name in enumerate(PARTS[:-1]):
        begins = np.full(groups, np.iinfo(np.int64).max)  # first moment of the later parts
        for start, end in _chunks(len(time)):
            later = parts[start:end] > part
            group = user[start:end] * by_user
            np.minimum.at(begins, group[later], time[start:end][later])
        for start, end in _chunks(len(time)):
            here = parts[start:end] == part
            limit = begins[user[start:end] * by_user]
            detail = f" ({name} and the parts after it)"
            tally.add("part_order", here & (time[start:end] > limit), start, detail)
            tally.add(
                "part_tie" if by_user else "part_order", here & (time[start:end] == limit), start, detail
            )


def _check_newest(data: Dataset, rows: Integers, tally: _Tally) -> None:
    """Compare the items of newest positives, which are keys of statistics, on some impressions."""
    shown, counted, label = data.impressions, data.counted, data.schema.labels[0]
    ends = data.users[POSITIVES if data.schema.sampled_negatives else "impressions"]
    wrong = []
    for row in rows.tolist():
        own = slice(*ends[shown["user"][row] : shown["user"][row] + 2])
        known = counted["time"][own] + label.delay < shown["time"][row]
        known &= counted[label_of(label.name)][own] == 1
        moments = zip(counted["time"][own][known], counted["item"][own][known], strict=True)
        if shown["newest"][row] != max(moments, default=(0, NONE))[1]:
            wrong.append(row)
    tally.add_rows("newest_positive", np.array(wrong, np.int64), len(rows))


def _check_statistic(data: Dataset, statistic: Statistic, rows: Integers, tally: _Tally) -> None:
    """Compare one statistic with its definition on some impressions."""
    expected = _recompute(data, statistic, rows)
    scale = data.encoder.scales[statistic.name]
    scaled = data.encoder.encode_field(statistic.name, pa.array(expected.astype(np.float32)))
    stored = data.impressions[column_of(statistic.name)][rows]
    size = np.maximum(np.abs(expected), np.abs(scale.mean))
    relative = (
        (size / scale.std if scale.std else 0.0) + np.abs(scaled) + 1e-6
    )  # constant ones are stored as 0
    same = np.abs(stored - scaled) <= _ROUNDINGS * relative
    tally.add_rows("statistic", rows[~same], len(rows), f" ({statistic.name})")


@dataclass(frozen=True)
class _Seen:
    """What the counted events of a log say of some impressions before their moments.

    Attributes:
        there: (rows, slots) whether a slot holds a key.
        counts: (3, rows, slots) events, known labels, positives.
        ages: (rows, slots) seconds since the newest positive; the window if there is none.
        shown: known events, for every row and slot in turn.
        places: row and slot of each of these.
    """

    there: Flags
    counts: Integers
    ages: Integers
    shown: list[Integers]
    places: list[tuple[int, int]]


def _look(log: ImpressionLog, label: Label, by: tuple[str, ...], window: int, rows: Integers) -> _Seen:
    """Compare every row with all counted events of the log."""
    counted, moment = log.counted, log.time[rows]
    outcome = counted.label(label.name)
    wanted = log.keys(by, rows)  # (rows, slots)
    seen_all = _Seen(
        wanted >= 0, np.zeros((3, *wanted.shape), np.int64), np.full(wanted.shape, window), [], []
    )
    for start, end in _chunks(len(counted)):
        keys, time = counted.keys(by, slice(start, end)), counted.time[start:end]
        labels = outcome[start:end]
        order = np.argsort(keys, axis=None)
        sorted_keys = keys.ravel()[order]
        for row, slot in np.argwhere(wanted >= 0):
            key, now = wanted[row, slot], moment[row]
            same = order[slice(*np.searchsorted(sorted_keys, (key, key + 1)))] // keys.shape[1]
            seen = same[(time[same] < now) & ((time[same] >= now - window) | (window == 0))]
            known = seen[(labels[seen] >= 0) & (time[seen] + label.delay < now)]
            positives = known[labels[known] == 1]
            seen_all.counts[:, row, slot] += (len(seen), len(known), len(positives))
            ages = seen_all.ages
            ages[row, slot] = (now - time[positives]).min(initial=ages[row, slot])
            seen_all.shown.append(start + known)
            seen_all.places.append((row, slot))
    return seen_all


def _recompute(data: Dataset, statistic: Statistic, rows: Integers) -> NDArray[np.float64]:
    """Compute a statistic (rows,) from its definition, comparing every row with all counted events.

    Independent of `clickscale.data.features.counts_in_memory`, which it checks. Raw values, not
    standardized.
    """
    log = ImpressionLog(data.path, data.schema)
    label = next(label for label in data.schema.labels if label.name == (statistic.label or data.labels[0]))
    seen = _look(log, label, statistic.by, statistic.window, rows)
    events, known, positives = seen.counts
    if statistic.of == "recency":
        return seen.ages.min(axis=1).astype(np.float64)
    values, otherwise = events.astype(np.float64), np.zeros(len(rows))
    if statistic.of == "count" and data.schema.sampled_negatives:
        values = positives.astype(np.float64)
    if statistic.of == "share":
        values, otherwise = _shares(log, label, statistic, positives, rows), np.ones(len(rows))
    if statistic.of == "rate":
        otherwise = _overall_rate(log, label, rows)
        values = rate(known, positives, otherwise[:, None], statistic.prior)
    if statistic.of == "lift":
        weight = known + statistic.prior
        values = _surprises(data, statistic, label, seen) / np.where(weight > 0, weight, 1)
    held = seen.there.sum(axis=1)
    mean = np.where(seen.there, values, 0).sum(axis=1) / np.maximum(held, 1)
    return np.where(held > 0, mean, otherwise)


def _overall_rate(log: ImpressionLog, label: Label, rows: Integers) -> NDArray[np.float64]:
    """(rows,) rate of all labels that were known before each moment."""
    counts = np.zeros((2, len(rows)), np.int64)  # known, positives
    for start, end in _chunks(len(log)):
        labels = log.label(label.name)[start:end]
        counts += _overall_before(log.time[start:end] + label.delay, labels, log.time[rows])
    return overall_rate(*counts)


def _shares(
    log: ImpressionLog, label: Label, statistic: Statistic, own: Integers, rows: Integers
) -> NDArray[np.float64]:
    """(rows, slots) shares of the positives ``own``, slot by slot."""
    by, prior = statistic.by, statistic.prior
    among = _look(log, label, by[:-1], statistic.window, rows).counts[2]
    last = _look(log, label, by[-1:], 0, rows).counts[2]
    every = _look(log, label, (), 0, rows).counts[2][:, 0]
    values = np.ones(own.shape)
    for row, slot in np.ndindex(*own.shape):
        group, kind = divmod(slot, last.shape[1])
        expected = 1 / 1000
        if len(by) > 1 or statistic.window:
            expected = (last[row, kind] + 1) / (every[row] + 1)
        weight = among[row, group] + prior
        share = (own[row, slot] + prior * expected) / weight if weight else expected
        values[row, slot] = share / (expected if len(by) > 1 else 1 / 1000)
    return values


def _surprises(data: Dataset, statistic: Statistic, label: Label, seen: _Seen) -> NDArray[np.float64]:
    """Sum (rows, slots), over the known impressions of each place, the label less its item's rate then."""
    totals = np.zeros(seen.there.shape)
    each = np.unique(np.concatenate([np.zeros(0, np.int64), *seen.shown]))
    if len(each):
        by_item = msgspec.structs.replace(statistic, by=("item",), of="rate", window=0)
        outcome = data.impressions[label_of(label.name)][each]
        steps = np.rint(STEPS * (outcome - _recompute(data, by_item, each)))
        for place, known in zip(seen.places, seen.shown, strict=True):
            totals[place] += steps[np.searchsorted(each, known)].sum() / STEPS
    return totals


def _overall_before(known: Integers, labels: NDArray[np.int8], moment: Integers) -> Integers:
    """Count (2, n) known labels and positives strictly before each moment."""
    order = np.argsort(moment)
    first_after = np.searchsorted(moment[order], known, side="right")  # the first moment that may count it
    counts = np.zeros((2, len(moment)), np.int64)
    for index, flags in enumerate((labels >= 0, labels == 1)):
        counts[index, order] = np.cumsum(np.bincount(first_after[flags], minlength=len(moment) + 1))[
            : len(moment)
        ]
    return counts
