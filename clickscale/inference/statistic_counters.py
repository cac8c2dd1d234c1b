"""Point-in-time statistics continued after a data set was prepared, event by event.

`StatisticCounters` holds the counts behind the declared statistics. It fills the statistics into a request
just before its time, and counts the impressions that were shown. The numbers are those, to the bit, that
preparing the longer log gives with the same vocabularies::

    counters = StatisticCounters.load("counters.parquet", "runs/suan/artifact")
    request = counters.complete(request)        # every candidate has its statistics
    numbers = counters.add(request)             # the candidates were shown
    counters.settle(numbers[0], "click", 1)     # and this became known
    counters.save("counters.parquet")

`clickscale.inference.counter_export` makes the file from a prepared data set, and
`clickscale.inference.counter_files` says what it holds.
"""

import heapq
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import structs

from clickscale.arrays import Array, Floats32, Ints
from clickscale.artifact import Artifact, load_artifact
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.statistics import overall_rate, share_values, surprises, values_of
from clickscale.errors import DamagedError, DataError, InputError, unknown
from clickscale.inference.counter_files import (
    CountersHead,
    Key,
    OpenImpression,
    Tally,
    contribution_rows,
    items_of,
    newest_tally,
    overall_of,
    read_counters,
    tallies_of,
    tallies_read,
    write_counters,
)
from clickscale.inference.requests import Request
from clickscale.inference.shown_candidates import ShownCandidates, StatisticKeys, read_shown
from clickscale.schema import Statistic


@dataclass
class _Counts:
    """Sums of one tally at the present moment.

    Attributes:
        sums: (count, sum) by key; of a recency, (positives in the window, time of the newest); of newest
            positives, (time, item) by user.
        recent: contributions that will leave the window, the oldest first; empty without a window.
    """

    tally: Tally
    sums: dict[Key, tuple[int, Any]] = field(default_factory=dict)
    recent: list[tuple[int, int, Key, int, int]] = field(default_factory=list)

    def add(self, order: int, key: Key, time: int, count: int, total: int) -> None:
        """Count a contribution that is due."""
        if self.tally.of == "newest":
            user, item = key
            self.sums[user,] = max(self.sums.get((user,), (time, item)), (time, item))
            return
        held, summed = self.sums.get(key, (0, 0))
        if self.tally.of == "recency":
            self.sums[key] = (held + count, max(summed, time) if held else time)
        else:
            self.sums[key] = (held + count, summed + total)
        if self.tally.window:
            heapq.heappush(self.recent, (time, order, key, count, total))

    def forget(self, moment: int) -> None:
        """Take out what left the window."""
        while self.recent and self.recent[0][0] < moment - self.tally.window:
            _, _, key, count, total = heapq.heappop(self.recent)
            held, summed = self.sums[key]
            # The newest of a recency leaves last, so it stands until no other is left.
            self.sums[key] = (held - count, summed if self.tally.of == "recency" else summed - total)
            if not held - count:
                del self.sums[key]


class StatisticCounters:
    """Counts behind the declared statistics at one moment, which requests move forward.

    `load` reads them from a file. One object serves one thread at a time.

    Args:
        encoder, items: of the artifact or data set that the statistics are for: its schema declares them, its
            vocabularies and item columns give the keys.
        moment: everything before it is counted.
    """

    def __init__(self, encoder: Encoder, items: Mapping[str, Array], moment: int = 0) -> None:
        self._encoder, self._keys, self.moment = encoder, StatisticKeys(encoder, items), moment
        self._schema = encoder.schema
        self._counts = {name: _Counts(tally) for name, tally in tallies_of(self._schema).items()}
        self._waiting: list[tuple[int, int, str, Key, int, int, int]] = []
        self._order = itertools.count()
        self._open: dict[int, OpenImpression] = {}
        self._next = 0
        self._delays = {label.name: label.delay for label in self._schema.labels}

    @classmethod
    def load(cls, path: str | Path, artifact: str | Path | Artifact) -> "StatisticCounters":
        """Read counters, to continue them for an artifact of the data set that they come from.

        Raises:
            InputError: the file is missing or no file of counters.
            DataError: its statistics are not those of the artifact.
        """
        held = artifact if isinstance(artifact, Artifact) else load_artifact(Path(artifact))
        counters = cls(held.encoder, held.item_columns())
        counters._fill(Path(path))
        return counters

    def save(self, path: str | Path) -> None:
        """Write the counters, whole or not at all."""
        write_counters(Path(path), self._head(), self._contributions())

    # --- reading and counting

    def complete(self, request: Request) -> dict[str, Any]:
        """A copy of a request in which every candidate has all declared statistics.

        Statistics that a candidate carries stay. Requests must come in the order of their times.

        Raises:
            InputError: the request is wrong, or older than the one before.
        """
        shown = read_shown(request, self._encoder)
        if shown.time < self.moment:
            raise InputError(
                f"time is {shown.time}, and these statistics are counted up to {self.moment}; complete "
                "requests in the order of their times."
            )
        self._advance(shown.time)
        shown = self._with_newest(shown)
        columns = {s.name: self._values(s, shown).tolist() for s in self._schema.statistics}
        candidates = [
            {**candidate, **{n: v[row] for n, v in columns.items() if candidate.get(n) is None}}
            for row, candidate in enumerate(request["candidates"])
        ]
        return {**request, "candidates": candidates}

    def add(self, request: Request, outcomes: Sequence[Mapping[str, int | None]] = ()) -> list[int]:
        """Count the candidates of a request as shown at its time; statistics exclude them until later.

        To equal preparation to the bit, add a request before one with a later time is completed.

        Args:
            outcomes: labels (0 or 1) of each candidate, as far as they are known.

        Returns:
            A number for each candidate, by which `settle` tells what becomes known later.
        """
        shown = read_shown(request, self._encoder)
        if outcomes and len(outcomes) != len(shown.items):
            raise InputError(
                f"{len(outcomes)} outcomes for {len(shown.items)} candidates; give one for each."
            )
        self._advance(shown.time)
        shown = self._with_newest(shown)
        keys = {name: self._keys.of(counts.tally.by, shown) for name, counts in self._counts.items()}
        numbers = []
        for row in range(len(shown.items)):
            mine = {name: table.of(row) for name, table in keys.items()}
            numbers.append(self._show(shown.time, mine, outcomes[row] if outcomes else {}))
        return numbers

    def _with_newest(self, shown: ShownCandidates) -> ShownCandidates:
        """Candidates beside the newest positive of their user, if keys read it."""
        if not self._schema.reads_newest:
            return shown
        _, item = self._counts[newest_tally(self._schema)].sums.get((shown.user,), (0, None))
        return replace(shown, newest=item)

    def settle(self, number: int, label: str, outcome: int) -> None:
        """Tell the outcome, 0 or 1, of a label of an impression.

        Raises:
            InputError: the impression has no such label, or its outcome was due before.
        """
        if label not in self._delays:
            raise InputError(unknown("label", label, self._delays))
        opened = self._open.get(number)
        late = opened is not None and opened.time + self._delays[label] < self.moment
        if opened is None or late or label not in opened.labels:
            raise InputError(
                f"Label {label!r} of impression {number} is not open: it was told, or its delay of "
                f"{self._delays[label]} s has passed; the schema declares how long an outcome takes."
            )
        self._count_outcome(opened, label, read_outcome(outcome, label))
        rest = tuple(name for name in opened.labels if name != label)
        if rest:
            self._open[number] = _with_labels(opened, rest)
        else:
            del self._open[number]

    def _show(self, time: int, keys: dict[str, tuple[Key, ...]], outcomes: Mapping[str, int | None]) -> int:
        """Count one impression; the number that it gets."""
        number, self._next = self._next, self._next + 1
        for name, counts in self._counts.items():
            if not counts.tally.label:
                self._wait(name, keys[name], time, time, 1, 0)
        labels = tuple(name for name in self._delays if overall_of(name) in self._counts)
        impression = OpenImpression(
            number=number,
            time=time,
            keys={name: keys[name] for name, counts in self._counts.items() if counts.tally.label},
            item={name: self._sum(items_of(name), keys) for name in labels if items_of(name) in self._counts},
            overall={name: self._sum(overall_of(name), keys) for name in labels},
            labels=labels,
        )
        for name in outcomes:
            if name not in self._delays:
                raise InputError(unknown("label", name, self._delays))
        known = {name: value for name, value in outcomes.items() if value is not None and name in labels}
        for name, value in known.items():
            self._count_outcome(impression, name, read_outcome(value, name))
        if rest := tuple(name for name in labels if name not in known):
            self._open[number] = _with_labels(impression, rest)
        return number

    def _sum(self, name: str, keys: Mapping[str, tuple[Key, ...]]) -> tuple[int, int]:
        return self._counts[name].sums.get(keys[name][0], (0, 0))

    def _count_outcome(self, impression: OpenImpression, label: str, outcome: int) -> None:
        """Let an outcome count once it is due."""
        due = impression.time + self._delays[label]
        for name, counts in self._counts.items():
            tally = counts.tally
            if tally.label != label or (tally.positives and not outcome):
                continue
            worth = surprise(impression, tally, outcome) if tally.of == "lift" else outcome
            self._wait(name, impression.keys[name], impression.time, due, 1, worth)

    def _wait(self, name: str, keys: Sequence[Key], time: int, due: int, count: int, total: int) -> None:
        for key in keys:
            heapq.heappush(self._waiting, (due, next(self._order), name, key, time, count, total))

    def _advance(self, moment: int) -> None:
        """Count what is due before a moment, and forget what left its window."""
        while self._waiting and self._waiting[0][0] < moment:
            _, order, name, key, time, count, total = heapq.heappop(self._waiting)
            self._counts[name].add(order, key, time, count, total)
        self.moment = max(self.moment, moment)
        for counts in self._counts.values():
            counts.forget(self.moment)
        # Impressions stand in the order in which they were shown, so the overdue ones come first.
        longest = max(self._delays.values())
        while self._open:
            number, first = next(iter(self._open.items()))
            if first.time + longest >= self.moment:
                break
            del self._open[number]

    def _values(self, statistic: Statistic, shown: ShownCandidates) -> Floats32:
        """(C,) values of a statistic just before the present moment."""

        def counted(name: str) -> tuple[Ints, Ints]:
            counts = self._counts[name]
            table = self._keys.of(counts.tally.by, shown)
            sums = [counts.sums.get(key, (0, 0)) for key in table.keys]
            return table.index, np.array(sums, np.int64).reshape(-1, 2)

        return statistic_values(statistic, self._counts[statistic.name].tally, counted, shown.time)

    # --- the file

    def _head(self) -> CountersHead:
        return CountersHead(
            moment=self.moment,
            statistics=self._schema.statistics,
            labels=self._schema.labels,
            next=self._next,
            open=tuple(self._open.values()),
        )

    def _contributions(self) -> Iterator[pa.RecordBatch]:
        """Rows of the file, in an order that depends on nothing but the counts."""
        waiting = sorted(self._waiting)
        for name, counts in self._counts.items():
            rows: list[tuple[Any, ...]] = []
            delay = counts.tally.delay
            if counts.tally.of == "newest":
                sums = counts.sums.items()
                rows += [((user, item), time, time + delay, 1, 1) for (user,), (time, item) in sums]
            elif counts.tally.window:
                rows += [
                    (key, time, time + delay, n, total) for time, _, key, n, total in sorted(counts.recent)
                ]
            else:
                rows += [(key, None, None, n, total) for key, (n, total) in counts.sums.items()]
            rows += [(key, time, due, n, total) for due, _, of, key, time, n, total in waiting if of == name]
            yield contribution_rows(name, rows)

    def _fill(self, path: Path) -> None:
        """Take over the counts of a file."""
        head, table = read_counters(path)
        if (head.statistics, head.labels) != (self._schema.statistics, self._schema.labels):
            raise DataError(
                f"{path} counts for other statistics or labels than those of this artifact; export the "
                "counters of its own data set: clickscale statistics export"
            )
        self.moment, self._next = head.moment, head.next
        self._open = {one.number: _with_tuples(one) for one in head.open}
        for batch in table.to_batches(max_chunksize=1 << 16):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                self._restore(path, *row)

    def _restore(
        self,
        path: Path,
        name: str,
        key: str | None,
        time: int | None,
        due: int | None,
        count: int | None,
        total: int | None,
    ) -> None:
        """Take over one contribution.

        Raises:
            DamagedError: it is of no statistic, or its values cannot be right.
        """
        if name not in self._counts:
            raise DamagedError(f"{path}: " + unknown("statistic", name, self._counts))
        tally = self._counts[name].tally
        values = _read_key(key, len(tally.by))
        is_timed = not tally.window if time is None else time <= self.moment
        if values is None or count is None or count < 0 or total is None or not is_timed:
            raise DamagedError(
                f"{path} has a row of {name!r} that cannot be right: key {key!r}, time {time}, due {due}, "
                f"count {count}, sum {total}; its moment is {self.moment}. Export the counters again."
            )
        if due is None or due < self.moment:
            self._counts[name].add(next(self._order), values, time or 0, count, total)
        else:
            self._wait(name, [values], due if time is None else time, due, count, total)


def _read_key(text: str | None, names: int) -> Key | None:
    """Read a key, the JSON list of a value for each name; None for anything else."""
    try:
        values = json.loads(text or "")
    except ValueError:
        return None
    fits = isinstance(values, list) and len(values) == names
    return tuple(values) if fits and not any(isinstance(value, list | dict) for value in values) else None


def statistic_values(
    statistic: Statistic, tally: Tally, counted: Callable[[str], tuple[Ints, Ints]], time: int
) -> Floats32:
    """(C,) values of a statistic.

    Args:
        tally: of the statistic.
        counted: of a tally by its name, (C, slots) rows of the sums, -1 for a slot without a key, and (K, 2)
            count and sum of each key; of a recency, positives and the time of the newest.
        time: the moment of the values; only a recency reads it.
    """

    def sums(name: str) -> tuple[npt.NDArray[np.bool_], Ints, Ints]:
        index, held = counted(name)
        rows = np.concatenate([held, np.zeros((1, 2), np.int64)])[index]  # (C, slots, 2); -1 reads the zeros
        first, second = (np.ascontiguousarray(part) for part in np.moveaxis(rows, -1, 0))
        return index >= 0, first, second

    (there, first, second), *others = (sums(name) for name in tallies_read(statistic, tally.label))
    if statistic.of == "share":
        return share_values(statistic, there, (second, *(positives for *_, positives in others)))
    expected = np.zeros(len(there))
    if statistic.of == "rate":
        expected = overall_rate(*(part[:, 0] for part in others[0][1:]))
    return values_of(statistic, first, second, there, expected, np.full(len(there), time))


def surprise(impression: OpenImpression, tally: Tally, outcome: int) -> int:
    """Steps from the rate that the item had up to the outcome."""
    known, positives = (np.array([count]) for count in impression.item[tally.label])
    overall = overall_rate(*(np.array([count]) for count in impression.overall[tally.label]))
    return int(surprises(np.array([outcome], np.int8), known, positives, overall, tally.prior)[0])


def read_outcome(value: object, label: str) -> int:
    """An outcome, 0 or 1."""
    if value not in (0, 1):
        raise InputError(f"labels[{label!r}] is {value!r}; give 0 or 1.")
    return int(value)


def _with_labels(impression: OpenImpression, labels: tuple[str, ...]) -> OpenImpression:
    return structs.replace(impression, labels=labels)


def _with_tuples(impression: OpenImpression) -> OpenImpression:
    """An impression read from JSON, where a key is a list."""
    keys = {name: tuple(tuple(key) for key in keys) for name, keys in impression.keys.items()}
    return structs.replace(impression, keys=keys)
