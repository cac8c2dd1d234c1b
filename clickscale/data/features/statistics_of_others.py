"""Point-in-time statistics that an impression would have with another item.

`clickscale.data.features.statistics` writes a column for each impression as it was shown. Here the item may
be another one; user, time and context stay those of the impression::

    others = StatisticsOfOthers(dataset.path, dataset.encoder)
    numbers = others.values(rows, items)      # (N, statistics), as the columns of impressions hold them

With the impression's own item the numbers are those of the columns. In memory stand about 30 bytes for each
event that is counted and each of its keys.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Floats32, Ints
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.statistics import (
    ImpressionLog,
    counts_positives,
    label_of_statistic,
    overall_rate,
    share_counts,
    share_values,
    surprises,
    values_of,
)
from clickscale.errors import DataError
from clickscale.schema import Label, Statistic


@dataclass(frozen=True)
class _Summand:
    """What an impression adds to the counts of its keys.

    Attributes:
        kind: 1 for ``rows``, for ``known`` labels and for ``positives``, or the ``surprise`` of a label.
        prior: of a surprise.
    """

    kind: str
    label: str = ""
    prior: float = 0.0


@dataclass(frozen=True)
class _Timeline:
    """Counted events in the order of key and time.

    Attributes:
        code: (entries,) key and time of each entry as one number, ascending.
        row: (entries,) event of each entry.
        sums: (entries + 1,) sums over the entries before each, for each summand.
        newest: (entries + 1,) moment of the newest positive before each, for each label; 0 before the first.
    """

    code: Ints
    row: Ints
    sums: dict[_Summand, Ints] = field(default_factory=dict)
    newest: dict[str, Ints] = field(default_factory=dict)


class StatisticsOfOthers:
    """Counts of a log by key and time, see the module docstring.

    Args:
        folder: a prepared data set.
        encoder: of the data set; its schema declares the statistics.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._encoder = encoder
        self._log = ImpressionLog(folder, encoder.schema)
        counted = self._log.counted
        first = min(int(self._log.time.min()), int(counted.time.min()))
        self._since, self._moment = (log.time.astype(np.int64) - first for log in (self._log, counted))
        self._span = max(int(self._since.max()), int(self._moment.max())) + 1
        self._timelines: dict[tuple[str, ...], _Timeline] = {}

    def values(self, rows: Ints, items: Ints) -> Floats32:
        """(N, statistics) standardized values of impressions ``rows`` (N,) with ``items`` (N,) instead.

        Args:
            items: rows of the item table.
        """
        declared = self._encoder.schema.statistics
        found = np.empty((len(rows), len(declared)), np.float32)
        for column, statistic in enumerate(declared):
            raw = self._raw(statistic, rows, items)
            found[:, column] = self._encoder.encode_raw(statistic.name, raw)
        return found

    def _raw(self, statistic: Statistic, rows: Ints, items: Ints) -> npt.NDArray[np.float32]:
        """(N,) values before they are standardized."""
        label = label_of_statistic(self._log.schema, statistic)
        keys, since = self._log.keys(statistic.by, rows, items), self._since[rows]
        if statistic.of == "share":
            return self._share(statistic, label, rows, items)
        if statistic.of == "recency":
            first, second = self._newest(statistic, label, keys, since)
        elif statistic.of == "count" and counts_positives(self._log.schema, statistic):
            positives = _Summand("positives", label.name)
            first = second = self._sum(statistic.by, positives, keys, since, label.delay, statistic.window)
        elif statistic.of == "count":
            first = second = self._sum(statistic.by, _Summand("rows"), keys, since, window=statistic.window)
        else:
            worth = _Summand("positives", label.name)
            if statistic.of == "lift":
                worth = _Summand("surprise", label.name, statistic.prior)
            first, second = (
                self._sum(statistic.by, summand, keys, since, label.delay, statistic.window)
                for summand in (_Summand("known", label.name), worth)
            )
        overall = self._overall(label, since) if statistic.of == "rate" else np.zeros(len(since))
        return values_of(statistic, first, second, keys >= 0, overall, since)

    def _share(self, statistic: Statistic, label: Label, rows: Ints, items: Ints) -> npt.NDArray[np.float32]:
        """(N,) values of a share."""
        positives, since = _Summand("positives", label.name), self._since[rows]
        keys = [self._log.keys(by, rows, items) for by, _ in share_counts(statistic)]
        counts = [
            self._sum(by, positives, key, since, label.delay, window)
            for key, (by, window) in zip(keys, share_counts(statistic), strict=True)
        ]
        return share_values(statistic, keys[0] >= 0, counts)

    def _overall(self, label: Label, since: Ints) -> npt.NDArray[np.float64]:
        """(N,) rate of a label in the whole log before each moment."""
        one = np.zeros((len(since), 1), np.int64)  # the only key of the whole log
        known, positives = (
            self._sum((), _Summand(kind, label.name), one, since, label.delay)[:, 0]
            for kind in ("known", "positives")
        )
        return overall_rate(known, positives)

    def _newest(self, statistic: Statistic, label: Label, keys: Ints, since: Ints) -> tuple[Ints, Ints]:
        """(N, slots) positives known in the window, and the moment of the newest where there are any."""
        positives = _Summand("positives", label.name)
        counts = self._sum(statistic.by, positives, keys, since, label.delay, statistic.window)
        timeline = self._timeline(statistic.by)
        if label.name not in timeline.newest:  # once for the log, since draws come batch by batch
            positive = np.diff(timeline.sums[positives]) > 0
            newest = np.maximum.accumulate(np.where(positive, np.arange(len(positive)), 0))
            timeline.newest[label.name] = np.concatenate(([0], self._moment[timeline.row[newest]]))
        until = np.searchsorted(timeline.code, self._moments(keys, since, label.delay))
        return counts, timeline.newest[label.name][until]

    def _sum(
        self, by: tuple[str, ...], summand: _Summand, keys: Ints, since: Ints, delay: int = 0, window: int = 0
    ) -> Ints:
        """(N, slots) sums over what was known of keys (N, slots) before moments (N,), 0 without a key."""
        timeline = self._timeline(by)
        if summand not in timeline.sums:
            addends = self._addends(summand)[timeline.row]
            timeline.sums[summand] = np.concatenate(([0], np.cumsum(addends, dtype=np.int64)))
        until = np.searchsorted(timeline.code, self._moments(keys, since, delay))
        oldest = np.searchsorted(timeline.code, self._moments(keys, since, window or self._span))
        sums = timeline.sums[summand]
        return np.where(keys >= 0, sums[np.maximum(until, oldest)] - sums[oldest], 0)

    def _moments(self, keys: Ints, since: Ints, back: int) -> Ints:
        """(N, slots) code of a key and the moment ``back`` seconds before."""
        codes: Ints = np.maximum(keys, 0) * self._span + np.maximum(since[:, None] - back, 0)
        return codes

    def _timeline(self, by: tuple[str, ...]) -> _Timeline:
        if by not in self._timelines:
            keys = self._log.counted.keys(by, slice(None))
            if int(keys.max(initial=0)) >= 2**62 // self._span:
                raise DataError(
                    f"Statistics by {', '.join(by)} have too many keys over {self._span:,} seconds; check the"
                    " unit of the times, or draw no unlabelled candidates."
                )
            entries = np.flatnonzero(keys.ravel() >= 0)
            row = entries // keys.shape[1]
            code = keys.ravel()[entries] * self._span + self._moment[row]
            order = np.argsort(code, kind="stable")
            self._timelines[by] = _Timeline(code[order], row[order])
        return self._timelines[by]

    def _addends(self, summand: _Summand) -> Ints:
        """(events,) what each event adds."""
        if summand.kind == "rows":
            return np.ones(len(self._log), np.int64)
        labels = self._log.counted.label(summand.label)
        if summand.kind != "surprise":
            return (labels >= 0 if summand.kind == "known" else labels == 1).astype(np.int64)
        label = next(label for label in self._log.schema.labels if label.name == summand.label)
        keys = self._log.keys(("item",), slice(None))
        known, positives = (
            self._sum(("item",), _Summand(kind, label.name), keys, self._since, label.delay)[:, 0]
            for kind in ("known", "positives")
        )
        overall = self._overall(label, self._since)
        return surprises(labels, known, positives, overall, summand.prior).astype(np.int64)
