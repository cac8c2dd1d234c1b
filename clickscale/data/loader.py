"""From a prepared data set to batches, by vectorized gathers.

An epoch is planned at once: windows (a row of a batch each) are shuffled, then put into buckets of similar
length so that little is padded, then cut into batches. The plan depends on the seed and the epoch alone, so a
position in the data is two numbers, and any number of workers or restarts gives the same batches.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.config import Config
from clickscale.data.dataset import Array, Dataset, Ints, index_columns, number_columns
from clickscale.errors import ConfigError, DataError
from clickscale.schema import select_labels

Grouping = Literal["timeline", "request", "impression"]
_BUCKET = 64  # batches that are sorted by length together: enough to pad little, few enough to stay random


class LoaderConfig(Config, frozen=True):
    """How impressions become batches.

    Attributes:
        length: behaviors that a candidate sees at most (L).
        window: impressions in one row of a ``timeline`` batch at most; 0 takes ``length``.
        samples: impressions in a batch, about.
        labels: names of the labels to load; the first one if empty.
        prefetch: batches built ahead by a thread; 0 builds each when asked.
    """

    grouping: Grouping = "timeline"
    length: int = 100
    window: int = 0
    samples: int = 1024
    shuffle: bool = True
    seed: int = 0
    labels: tuple[str, ...] = ()
    prefetch: int = 2


@dataclass(frozen=True)
class Windows:
    """Rows of batches to come: impressions ``first:first + count`` of a part over behaviors ``start:end``."""

    first: Ints
    count: Ints
    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.first)


def make_windows(dataset: Dataset, rows: Ints, config: LoaderConfig) -> Windows:
    """Cut the impressions ``rows`` (ascending) into windows of one user each.

    ``impression``: one each. ``request``: equal user and time. ``timeline``: as many neighbors of one user as
    fit in ``window``, both in impressions and in behaviors that lie between the first and the last of them.
    """
    user = np.asarray(dataset.impressions["user"][rows], dtype=np.int64)
    visible = np.asarray(dataset.impressions["visible"][rows], dtype=np.int64)
    begins = np.ones(len(rows), dtype=bool)
    if config.grouping == "request":
        time = np.asarray(dataset.impressions["time"][rows])
        begins[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    elif config.grouping == "timeline":
        begins = _timeline_begins(user, visible, config.window or config.length)
    first = np.flatnonzero(begins)
    count = np.diff(np.append(first, len(rows)))
    offset = np.asarray(dataset.users["offsets"])[user[first]]
    start = offset + np.maximum(visible[first] - config.length, 0)
    return Windows(first, count, start, offset + visible[first + count - 1])


def _timeline_begins(user: Ints, visible: Ints, window: int) -> npt.NDArray[np.bool_]:
    """Where a new window begins: at a new user, and at every ``window`` impressions or visible behaviors."""
    fresh = np.ones(len(user), dtype=bool)
    fresh[1:] = user[1:] != user[:-1]
    # Place of the first impression of the same user.
    head = np.maximum.accumulate(np.where(fresh, np.arange(len(user)), 0))
    steps = (np.arange(len(user)) - head) // window
    reach = (visible - visible[head]) // window
    fresh[1:] |= (steps[1:] != steps[:-1]) | (reach[1:] != reach[:-1])
    return fresh


class Loader:
    """Batches of one part of a data set.

    Args:
        rank, world: this process takes every ``world``-th batch. Shuffled, all processes get equally many,
            and up to ``world - 1`` batches of an epoch go to nobody; unshuffled, nothing is left out.

    Raises:
        DataError: the part has no impressions.
        ConfigError: a number that must be positive is not.
    """

    def __init__(
        self, dataset: Dataset, part: str, config: LoaderConfig, rank: int = 0, world: int = 1
    ) -> None:
        if min(config.length, config.samples) < 1 or min(config.window, config.prefetch) < 0:
            raise ConfigError(f"length and samples must be >= 1, window and prefetch >= 0; got {config}.")
        self.dataset, self.config, self.rank, self.world = dataset, config, rank, world
        self._rows = dataset.part(part)
        if not len(self._rows):
            raise DataError(f"Part {part!r} of {dataset.path} has no impressions; choose another split.")
        self._windows = make_windows(dataset, self._rows, config)
        self._labels = select_labels(dataset.labels, config.labels)
        self._columns = _Gather(dataset, self._labels)
        self._cuts = self._cut(self._windows.count)

    @property
    def samples(self) -> int:
        """Impressions of one epoch, over all ranks."""
        return len(self._rows)

    def __len__(self) -> int:
        """Batches of the first epoch for this rank; shuffled epochs may differ by a few."""
        return len(self._plan(0))

    def steps(self, epochs: int) -> int:
        """Batches of the first ``epochs`` epochs together, for this rank."""
        return sum(len(self._plan(epoch)) for epoch in range(epochs))

    def _cut(self, counts: Ints) -> Ints:
        """First window of each batch, and the end, when windows of ``counts`` impressions stand in line."""
        filled = (np.cumsum(counts) - counts) // self.config.samples
        return np.append(np.flatnonzero(np.diff(filled, prepend=-1)), len(counts))

    def _plan(self, epoch: int) -> list[Ints]:
        """Windows of each batch of an epoch, for this rank."""
        order = np.arange(len(self._windows))
        if not self.config.shuffle:
            batches = [order[a:b] for a, b in itertools.pairwise(self._cuts)]
            return batches[self.rank :: self.world]
        random = np.random.default_rng((self.config.seed, epoch))
        order = self._bucket(random.permutation(order))
        cuts = self._cut(self._windows.count[order])
        place = random.permutation(len(cuts) - 1)
        place = place[: len(place) // self.world * self.world] if len(place) >= self.world else place
        return [order[cuts[i] : cuts[i + 1]] for i in place[self.rank :: self.world]]

    def _bucket(self, order: Ints) -> Ints:
        """Sort by length inside groups of some batches; across them the order stays random."""
        windows = self._windows
        length, count = windows.end[order] - windows.start[order], windows.count[order]
        group = np.cumsum(count) // (self.config.samples * _BUCKET)
        return order[np.lexsort((length, count // 8, group))]

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches of an epoch from the ``start``-th on; skipped ones cost nothing."""
        plan = self._plan(epoch)[start:]
        if not self.config.prefetch:
            yield from map(self._build, plan)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            ahead: deque[Future[Batch]] = deque()
            for windows in plan:
                ahead.append(pool.submit(self._build, windows))
                if len(ahead) > self.config.prefetch:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _build(self, chosen: Ints) -> Batch:
        """Gather the windows ``chosen`` into one batch."""
        windows = self._windows
        start, end = windows.start[chosen], windows.end[chosen]
        width, size = max(int((end - start).max()), 1), int(windows.count[chosen].max())
        column = np.arange(width)
        behavior = column + (end - width)[:, None]  # (B, L), the newest at L - 1
        present = behavior >= start[:, None]
        place = np.arange(size)
        real = place < windows.count[chosen][:, None]  # (B, C)
        rows = self._rows[np.where(real, windows.first[chosen][:, None] + place, 0)]
        behavior = np.where(present, behavior, 0)
        return self._columns.batch(rows, real, behavior, present, end, self.config.length)


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
        length: int,
    ) -> Batch:
        """Tensors of impressions ``rows`` (B, C) over rows ``behavior`` (B, L) that end at ``end`` (B,)."""
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
                oldest=_long(np.maximum(visible - length, 0)),
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
