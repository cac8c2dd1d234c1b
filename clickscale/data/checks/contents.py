"""Numbers about a prepared data set: label rates, histories, unknown values, sizes.

Shares of unknown values are measured where models meet them: profile, item and context fields over the
impressions, behavior fields over the behaviors. A value is unknown if it was missing, unseen in the training
part or too rare (index 1), or if a number is missing (NaN). Columns are read in chunks.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from clickscale.data.dataset import Columns, Dataset
from clickscale.data.preparation.summary import Summary, summarize
from clickscale.data.source import PARTS
from clickscale.features import UNKNOWN, Feature, column_of, label_of

_DAY = 86_400
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
LENGTHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # lower ends of the bins
_CHUNK = 1 << 18

Integers = NDArray[np.int64]


class _Day(msgspec.Struct, frozen=True):
    """One UTC day; ``rates`` by label, None where no label is known."""

    day: str
    impressions: int
    rates: dict[str, float | None]


class _Part(msgspec.Struct, frozen=True):
    """One part of the split; times are UTC, empty for a part without rows."""

    impressions: int
    users: int
    first: str
    last: str
    rates: dict[str, float | None]


class FieldSummary(msgspec.Struct, frozen=True):
    """One field.

    Attributes:
        side: ``profile``, ``behavior``, ``item``, ``context`` or ``statistic``.
        size: number of indices, padding and unknown included; 0 for numbers and vectors.
        unknown: share of unknown values, in [0, 1]; see the module docstring.
    """

    name: str
    side: str
    kind: str
    size: int
    unknown: float


class Inspection(msgspec.Struct, frozen=True):
    """Measurements of `inspect_dataset`.

    Attributes:
        bytes: size on disk.
        visible: quantiles of the number of behaviors that an impression sees, by ``"0.5"`` and so on.
        lengths: impressions by number of visible behaviors: (lower end of the bin, count).
        empty: share of impressions that see no behavior.
        quarantined: rows by table and reason.
    """

    name: str
    path: str
    counts: dict[str, int]
    bytes: int
    parts: dict[str, _Part]
    days: tuple[_Day, ...]
    visible: dict[str, float]
    lengths: tuple[tuple[int, int], ...]
    empty: float
    fields: tuple[FieldSummary, ...]
    rows: dict[str, int]
    quarantined: dict[str, dict[str, int]]
    sampled_negatives: int
    notes: tuple[str, ...]
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tree: dict[str, Any] = msgspec.to_builtins(self)
        return tree


def inspect_dataset(data: Dataset) -> Inspection:
    """Measure a prepared data set; reads every column once, in chunks."""
    manifest = data.manifest
    lengths = _visible_counts(data.impressions["visible"])
    total = int(lengths.sum())
    return Inspection(
        name=data.schema.name,
        path=str(data.path),
        counts=manifest.counts,
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        parts=_parts(data),
        days=_days(data),
        visible=_quantiles(lengths),
        lengths=_binned(lengths),
        empty=float(lengths[0] / total) if total else 0.0,
        fields=tuple(_fields(data)),
        rows={table: report.rows for table, report in manifest.report.items()},
        quarantined={table: report.quarantined for table, report in manifest.report.items()},
        sampled_negatives=data.schema.sampled_negatives,
        notes=manifest.notes,
        summary=_summary(data),
    )


def _summary(data: Dataset) -> Summary:
    """Summarize the parts as preparation does, which older data sets do not hold."""
    parts = data.parts()
    labels = {label: data.impressions[label_of(label)] for label in data.labels}
    return summarize(data.impressions, lambda rows: parts[rows], labels, data.split, data.schema.indistinct)


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows))


def _visible_counts(visible: NDArray[np.int32]) -> Integers:
    """Count impressions by visible behaviors; entry n counts those that see n."""
    counts = np.zeros(int(visible.max(initial=0)) + 1, np.int64)
    for rows in _chunks(len(visible)):
        counts += np.bincount(visible[rows], minlength=len(counts))
    return counts


def _quantiles(counts: Integers) -> dict[str, float]:
    """Quantiles of a number that occurs ``counts[number]`` times (the lower of two neighbors)."""
    reached = np.cumsum(counts)
    ranks = [int(share * max(reached[-1] - 1, 0)) for share in _QUANTILES]
    return {
        f"{q:g}": float(np.searchsorted(reached, rank, "right"))
        for q, rank in zip(_QUANTILES, ranks, strict=True)
    }


def _binned(counts: Integers) -> tuple[tuple[int, int], ...]:
    """Sum counts by the bins of `LENGTHS`, up to the last bin with an impression."""
    ends = [low for low in LENGTHS if low < len(counts)]
    sums = np.add.reduceat(counts, ends)
    return tuple((low, int(count)) for low, count in zip(ends, sums, strict=True))


def _rates(known: NDArray[Any], positives: NDArray[Any], labels: tuple[str, ...]) -> dict[str, float | None]:
    """Label rates from (labels,) counts."""
    return {
        label: float(positives[index] / known[index]) if known[index] else None
        for index, label in enumerate(labels)
    }


def _label_counts(data: Dataset, group: Integers, rows: slice, groups: int) -> NDArray[np.int64]:
    """Count rows, then known and positives of each label: (groups, 1 + 2 labels)."""
    counts = [np.bincount(group, minlength=groups)]
    for label in data.labels:
        outcome = data.impressions[label_of(label)][rows]
        counts += [np.bincount(group[flags], minlength=groups) for flags in (outcome >= 0, outcome == 1)]
    return np.stack(counts, axis=1)


def _days(data: Dataset) -> tuple[_Day, ...]:
    """Days that have impressions, in order."""
    time = data.impressions["time"]
    first = int(time.min(initial=np.iinfo(np.int64).max)) // _DAY
    groups = max(int(time.max(initial=0)) // _DAY - first + 1, 0)
    counts = np.zeros((groups, 1 + 2 * len(data.labels)), np.int64)
    for rows in _chunks(len(time)):
        counts += _label_counts(data, time[rows] // _DAY - first, rows, groups)
    return tuple(
        _Day(
            day=f"{datetime.fromtimestamp((first + int(day)) * _DAY, UTC):%Y-%m-%d}",
            impressions=int(counts[day, 0]),
            rates=_rates(counts[day, 1::2], counts[day, 2::2], data.labels),
        )
        for day in np.flatnonzero(counts[:, 0])
    )


def _parts(data: Dataset) -> dict[str, _Part]:
    """Size, dates, users and label rates of each part."""
    time, parts = data.impressions["time"], data.parts()
    counts = np.zeros((len(PARTS), 1 + 2 * len(data.labels)), np.int64)
    low, high = np.full(len(PARTS), np.iinfo(np.int64).max), np.full(len(PARTS), -1)
    users = np.zeros((len(PARTS), len(data.users["offsets"]) - 1), np.bool_)
    for rows in _chunks(len(time)):
        part = parts[rows].astype(np.int64)
        counts += _label_counts(data, part, rows, len(PARTS))
        np.minimum.at(low, part, time[rows])
        np.maximum.at(high, part, time[rows])
        users[part, data.impressions["user"][rows]] = True
    return {
        name: _Part(
            impressions=int(counts[index, 0]),
            users=int(users[index].sum()),
            first=_moment(int(low[index])) if counts[index, 0] else "",
            last=_moment(int(high[index])) if counts[index, 0] else "",
            rates=_rates(counts[index, 1::2], counts[index, 2::2], data.labels),
        )
        for index, name in enumerate(PARTS)
    }


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _fields(data: Dataset) -> Iterator[FieldSummary]:
    """Every field with its share of unknown values; the id of a role that the log does not have is none."""
    features, seen, schema = data.features, data.impressions, data.schema
    constant = {field.name for field in (schema.user, schema.item) if field.name in schema.absent}
    statistics = {statistic.name for statistic in schema.statistics}
    sides: tuple[tuple[str, tuple[Feature, ...], Columns, str, int], ...] = (
        ("profile", features.profile, data.users, "user", len(seen["time"])),
        ("behavior", features.behavior, data.behaviors, "", len(data.behaviors["time"])),
        ("item", features.item, data.items, "item", len(seen["time"])),
        ("context", features.context, seen, "", len(seen["time"])),
    )
    for side, group, columns, through, total in sides:
        for feature in group:
            if feature.name in constant:
                continue
            column = columns[column_of(feature.name)]
            table = (
                _unknown(column) if through else None
            )  # of users or items, which are few beside the impressions
            hits = 0
            for rows in _chunks(total):
                hits += int((_unknown(column[rows]) if table is None else table[seen[through][rows]]).sum())
            kept = "statistic" if feature.name in statistics else side
            yield FieldSummary(feature.name, kept, feature.kind, feature.size, hits / max(total, 1))


def _unknown(column: NDArray[Any]) -> NDArray[np.bool_]:
    """(rows,) True where a value is unknown: the first of several, a NaN, a vector of zeros."""
    if column.dtype == np.float16:
        return np.asarray(~column.any(axis=1))
    if column.dtype.kind == "f":
        return np.isnan(column)
    return np.asarray((column if column.ndim == 1 else column[:, 0]) == UNKNOWN)
