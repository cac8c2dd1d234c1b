"""From a prepared data set to batches, by vectorized gathers.

An epoch is planned at once: windows (a row of a batch each) are shuffled, then put into buckets of similar
length so that little is padded, then cut into batches. The plan depends on the seed and the epoch alone, so a
position in the data is two numbers, and any number of workers or restarts gives the same batches.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from clickscale.arrays import Array, Ints
from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.config import LONGEST, Config, check_least
from clickscale.data.dataset import Dataset, index_columns, number_columns
from clickscale.data.windows import Grouping, Windows, look_back, make_windows
from clickscale.errors import ConfigError, DataError
from clickscale.schema import select_labels

__all__ = ["Grouping", "Loader", "LoaderConfig"]

_BUCKET = 64  # batches that are sorted by length together: enough to pad little, few enough to stay random


class LoaderConfig(Config, frozen=True):
    """How impressions become batches.

    Attributes:
        length: behaviors that a candidate sees at most (L).
        window: impressions in one row of a ``timeline`` batch at most; 0 takes ``length``.
        slack: look further back at random, as a server does that appends to a state of ``length`` behaviors
            until it holds ``length + slack``: each window draws its own length from that range, by seed and
            epoch.
        batch_size: impressions in a batch, about.
        pairs: bound of a batch's pairs of a behavior or candidate and a behavior, padding included: rows *
            columns * (columns + candidates), as many as dense attention takes memory and time for. One row
            alone may exceed it. 0 sets no bound.
        placeholders: padding candidates that every row has in addition (m2 - 1 in Lai et al. 2025, section
            3.3); they change nothing that is learned.
        labels: names of the labels to load; the first one if empty.
        prefetch: batches built ahead by a thread; 0 builds each when asked.
    """

    grouping: Grouping = "timeline"
    length: int = 100
    window: int = 0
    slack: int = 0
    batch_size: int = 1024
    pairs: int = 0
    placeholders: int = 0
    shuffle: bool = True
    seed: int = 0
    labels: tuple[str, ...] = ()
    prefetch: int = 2


class Loader:
    """Batches of one part of a data set.

    Args:
        rank, world: this process takes every ``world``-th batch. Shuffled, all processes get equally many,
            and up to ``world - 1`` batches of an epoch go to nobody; unshuffled, nothing is left out.
        windows: the rows of batches, if ``config`` shall not cut them by ``grouping``, ``length`` and
            ``window``.

    Raises:
        DataError: the part has no impressions.
        ConfigError: a number that must be positive is not, or windows are given and ``slack`` too.
    """

    def __init__(
        self,
        dataset: Dataset,
        part: str,
        config: LoaderConfig,
        rank: int = 0,
        world: int = 1,
        windows: Windows | None = None,
    ) -> None:
        _check(config, windows)
        self.dataset, self.config, self.rank, self.world = dataset, config, rank, world
        self._rows = dataset.part(part)
        if not len(self._rows):
            raise DataError(f"Part {part!r} of {dataset.path} has no impressions; choose another split.")
        if windows is None:
            windows = make_windows(dataset, self._rows, config.grouping, config.length, config.window)
        self._windows = windows
        self._labels = select_labels(dataset.labels, config.labels)
        self._columns = _Gather(dataset, self._labels)

    @property
    def samples(self) -> int:
        """Impressions of one epoch, over all ranks."""
        return len(self._rows)

    def __len__(self) -> int:
        """Batches of the first epoch for this rank; shuffled epochs may differ by a few."""
        return self.steps(1)

    def steps(self, epochs: int) -> int:
        """Batches of the first ``epochs`` epochs together, for this rank."""
        return sum(len(self._plan(epoch, self._drawn(epoch))) for epoch in range(epochs))

    def _drawn(self, epoch: int) -> Windows:
        """The windows of an epoch: with slack, each looks back its own number of behaviors."""
        length, slack = self.config.length, self.config.slack
        if not slack:
            return self._windows
        random = np.random.default_rng((self.config.seed, epoch, slack))  # not the stream of the shuffle
        drawn = random.integers(length, length + slack, len(self._windows), endpoint=True)
        return look_back(self.dataset, self._rows, self._windows, drawn)

    def _plan(self, epoch: int, windows: Windows) -> list[Ints]:
        """Places in ``windows`` of each batch of an epoch, for this rank."""
        order = np.arange(len(windows))
        if not self.config.shuffle:
            cuts = cut_batches(windows, order, self.config.batch_size, self.config.pairs)
            return [order[a:b] for a, b in itertools.pairwise(cuts)][self.rank :: self.world]
        random = np.random.default_rng((self.config.seed, epoch))
        order = self._bucket(windows, random.permutation(order))
        cuts = cut_batches(windows, order, self.config.batch_size, self.config.pairs)
        place = random.permutation(len(cuts) - 1)
        place = place[: len(place) // self.world * self.world] if len(place) >= self.world else place
        return [order[cuts[i] : cuts[i + 1]] for i in place[self.rank :: self.world]]

    def _bucket(self, windows: Windows, order: Ints) -> Ints:
        """Sort by length inside groups of some batches; across them the order stays random."""
        length, count = windows.end[order] - windows.start[order], windows.count[order]
        group = np.cumsum(count) // (self.config.batch_size * _BUCKET)
        return order[np.lexsort((length, count // 8, group))]

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on; skipped ones cost nothing."""
        windows = self._drawn(epoch)
        plan = self._plan(epoch, windows)[start:]
        if not self.config.prefetch:
            yield from (self._build(windows, chosen) for chosen in plan)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            ahead: deque[Future[Batch]] = deque()
            for chosen in plan:
                ahead.append(pool.submit(self._build, windows, chosen))
                if len(ahead) > self.config.prefetch:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _build(self, windows: Windows, chosen: Ints) -> Batch:
        """Gather the windows ``chosen`` into one batch."""
        start, end, length = windows.start[chosen], windows.end[chosen], windows.length[chosen]
        width = max(int((end - start).max()), 1)
        size = int(windows.count[chosen].max()) + self.config.placeholders
        column = np.arange(width)
        behavior = column + (end - width)[:, None]  # (B, L), the newest at L - 1
        present = behavior >= start[:, None]
        place = np.arange(size)
        real = place < windows.count[chosen][:, None]  # (B, C)
        rows = self._rows[np.where(real, windows.first[chosen][:, None] + place, 0)]
        behavior = np.where(present, behavior, 0)
        return self._columns.batch(rows, real, behavior, present, end, length)


def _check(config: LoaderConfig, windows: Windows | None) -> None:
    """Refuse numbers that make no sense."""
    check_least(config, 1, "length", "batch_size")
    check_least(config, 0, "window", "slack", "pairs", "placeholders", "prefetch")
    if config.length + config.slack > LONGEST:
        raise ConfigError(
            f"length is {config.length} and slack {config.slack}; at most {LONGEST:,} together."
        )
    if windows is not None and config.slack:
        raise ConfigError(f"Windows that are cut already draw no lengths; leave out slack={config.slack}.")


def cut_batches(windows: Windows, order: Ints, batch_size: int, pairs: int) -> Ints:
    """Cut windows that stand in line into batches.

    Args:
        order: places in ``windows``, as they stand.
        batch_size: impressions in a batch, about.
        pairs: see `LoaderConfig`.

    Returns:
        First place in ``order`` of each batch, and the end.
    """
    count = windows.count[order]
    filled = (np.cumsum(count) - count) // batch_size
    cuts = np.append(np.flatnonzero(np.diff(filled, prepend=-1)), len(order))
    if not pairs or not len(order):
        return cuts
    columns = np.maximum(np.maximum.reduceat((windows.end - windows.start)[order], cuts[:-1]), 1)
    cost = columns * (columns + np.maximum.reduceat(count, cuts[:-1]))  # of each row of the batch
    rows = np.diff(cuts)
    pieces = -(-rows // np.maximum(pairs // cost, 1))
    size = -(-rows // pieces)  # all pieces of a batch alike
    place = np.arange(len(order)) - np.repeat(cuts[:-1], rows)
    return np.append(np.flatnonzero(place % np.repeat(size, rows) == 0), len(order))


class _Gather:
    """The columns that batches are made of."""

    def __init__(self, dataset: Dataset, labels: tuple[int, ...]) -> None:
        features = dataset.features
        self.dataset = dataset
        self.profile = index_columns(dataset.users, features.profile)
        self.profile_numbers = number_columns(dataset.users, features.profile)
        self.behavior_items = _rows(dataset.behaviors["item"])
        self.behavior_times = _rows(dataset.behaviors["time"])
        self.actions = [_rows(column) for column in index_columns(dataset.behaviors, features.behavior)]
        self.action_numbers = [
            _rows(column) for column in number_columns(dataset.behaviors, features.behavior)
        ]
        self.context = index_columns(dataset.impressions, features.context)
        self.context_numbers = number_columns(dataset.impressions, features.context)
        self.labels = [dataset.impressions[f"label.{dataset.labels[place]}"] for place in labels]

    def batch(
        self,
        rows: Ints,
        real: npt.NDArray[np.bool_],
        behavior: Ints,
        present: npt.NDArray[np.bool_],
        end: Ints,
        length: Ints,
    ) -> Batch:
        """Tensors of impressions ``rows`` (B, C) over rows ``behavior`` (B, L) that end at ``end`` (B,).

        A candidate sees the last ``length`` (B,) of those before it.
        """
        impressions = self.dataset.impressions
        user = np.asarray(impressions["user"])[rows[:, 0]]
        width = behavior.shape[1]
        offset = np.asarray(self.dataset.users["offsets"])[user]
        visible = np.asarray(impressions["visible"])[rows] + (offset - end)[:, None] + width  # (B, C) column
        visible = np.where(real, visible, 0)
        labels = np.stack([column[rows] for column in self.labels], axis=-1)  # (B, C, T)
        return Batch(
            user=UserSide(
                profile=_indices(self.profile, user),
                profile_numbers=_numbers(self.profile_numbers, user),
                items=_long(np.where(present, self.behavior_items[behavior], 0)),
                actions=_indices(self.actions, behavior, present),
                action_numbers=_numbers(self.action_numbers, behavior),
                times=_long(self.behavior_times[behavior]),
            ),
            candidates=CandidateSide(
                items=_long(np.where(real, np.asarray(impressions["item"])[rows], 0)),
                context=_indices(self.context, rows),
                context_numbers=_numbers(self.context_numbers, rows),
                times=_long(np.asarray(impressions["time"])[rows]),
                oldest=_long(np.maximum(visible - length[:, None], 0)),
                visible=_long(visible),
            ),
            labels=torch.from_numpy((labels == 1).astype(np.float32)),
            label_mask=torch.from_numpy((labels >= 0) & real[..., None]),
            rows=_long(np.where(real, rows, -1)),
        )


def _rows(column: Array) -> Array:
    """The column, or one row for padding to point at where a log has no behaviors."""
    return column if len(column) else np.zeros((1, *column.shape[1:]), column.dtype)


def _long(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _indices(columns: list[Array], at: Array, present: npt.NDArray[np.bool_] | None = None) -> torch.Tensor:
    """(*at.shape, columns) int64; 0 where not present."""
    parts = [column[at] if column.ndim > 1 else column[at][..., None] for column in columns]
    if not parts:
        return torch.zeros((*at.shape, 0), dtype=torch.int64)
    joined = np.concatenate(parts, axis=-1)
    return _long(joined if present is None else np.where(present[..., None], joined, 0))


def _numbers(columns: list[Array], at: Array) -> torch.Tensor:
    """(*at.shape, columns) float32."""
    if not columns:
        return torch.zeros((*at.shape, 0))
    return torch.from_numpy(np.stack([column[at].astype(np.float32) for column in columns], axis=-1))
