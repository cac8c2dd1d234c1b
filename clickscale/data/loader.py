"""Batches of a prepared data set, by vectorized gathers.

An epoch is planned at once. Windows, each a row of a batch, are shuffled, put into buckets of similar length
so that little is padded, and cut into batches. The plan depends on nothing but the seed and the epoch. So a
position in the data is two numbers, and any number of workers or restarts gives the same batches.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from msgspec.structs import replace

from clickscale.arrays import Array, Ints
from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.config import LONGEST, Config, check_least
from clickscale.data.dataset import Dataset, index_columns, number_columns
from clickscale.data.windows import Grouping, Windows, look_back, make_windows, replay_windows, served_windows
from clickscale.errors import ConfigError, DataError
from clickscale.features import UNKNOWN, label_of
from clickscale.schema import select_labels

__all__ = ["Grouping", "Loader", "LoaderConfig", "SCORED_PAIRS", "served_loaders"]

# Bound of a batch that is only scored (``pairs``): memory stays the same however long behaviors are.
SCORED_PAIRS = 1 << 24
_BUCKET = 64  # batches that are sorted by length together: enough to pad little, few enough to stay random


class LoaderConfig(Config, frozen=True):
    """Options of the loader: how impressions become batches.

    Attributes:
        length: the largest number of behaviors that a candidate sees (L).
        window: the largest number of impressions in one row of a ``timeline`` batch; 0 takes ``length``.
        slack: look further back at random, as a server does that appends to a state of ``length`` behaviors
            until it holds ``length + slack``. Each window draws its own length from that range, by seed and
            epoch.
        unknown_users: share of the windows whose user is shown as an unknown one, drawn by seed and epoch.
        batch_size: impressions in a batch, approximately.
        pairs: bound of a batch's pairs of a behavior or candidate and a behavior, padding included: rows *
            columns * (columns + candidates). Memory and time of dense attention grow with this number. A
            batch of a single row may exceed it. 0 sets no bound.
        placeholders: padding candidates added to every row (m2 - 1 in Lai et al. 2025, section 3.3); they
            change nothing that is learned.
        labels: names of the labels to load; the first one if empty.
        prefetch: batches that a thread builds ahead; 0 builds each batch when it is asked for.
    """

    grouping: Grouping = "timeline"
    length: int = 100
    window: int = 0
    slack: int = 0
    unknown_users: float = 0.0
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
        rank, world: this process takes every ``world``-th batch. With ``shuffle``, all processes get equally
            many, so up to ``world - 1`` batches of an epoch are left out. Without it, none is left out.
        windows: precomputed rows of batches; they override ``grouping``, ``length`` and ``window``.

    Raises:
        DataError: the part has no impressions.
        ConfigError: an option is out of range, or both ``windows`` and ``slack`` are set.
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
        # Windows that cost alike fill as many batches in any order.
        self._alike = not config.pairs and len(np.unique(windows.count)) == 1
        self._counted: dict[int, int] = {}  # batches of each epoch that was planned

    @property
    def samples(self) -> int:
        """Impressions of one epoch, over all ranks."""
        return len(self._rows)

    @property
    def behaviors(self) -> int:
        """Behaviors that a model encodes in one epoch, over all ranks, padding not counted."""
        return int((self._windows.end - self._windows.start).sum())

    def __len__(self) -> int:
        """Count the batches of the first epoch for this rank; shuffled epochs may differ by a few."""
        return self.steps(1)

    def steps(self, epochs: int) -> int:
        """Count the batches of the first ``epochs`` epochs for this rank."""
        return sum(self._count(0 if self._alike else epoch) for epoch in range(epochs))

    def _count(self, epoch: int) -> int:
        """Count the batches of an epoch, once: its plan sorts all windows."""
        if epoch not in self._counted:
            self._counted[epoch] = len(self._plan(epoch, self._drawn(epoch)))
        return self._counted[epoch]

    def _drawn(self, epoch: int) -> Windows:
        """Windows of an epoch; with slack, each looks back its own number of behaviors."""
        length, slack = self.config.length, self.config.slack
        if not slack:
            return self._windows
        random = np.random.default_rng((self.config.seed, epoch, slack))  # not the stream of the shuffle
        drawn = random.integers(length, length + slack, len(self._windows), endpoint=True)
        return look_back(self.dataset, self._rows, self._windows, drawn)

    def _unknown(self, epoch: int) -> npt.NDArray[np.bool_]:
        """Mark the windows of an epoch whose user is shown as an unknown one."""
        share, count = self.config.unknown_users, len(self._windows)
        if not share:
            return np.zeros(count, bool)
        random = np.random.default_rng((self.config.seed, epoch, 0, 1))  # a stream of its own, as for slack
        return random.random(count) < share

    def _plan(self, epoch: int, windows: Windows) -> list[Ints]:
        """Rows of ``windows`` in each batch of an epoch, for this rank."""
        order = np.arange(len(windows))
        if not self.config.shuffle:
            cuts = _cut_batches(windows, order, self.config.batch_size, self.config.pairs)
            return [order[a:b] for a, b in itertools.pairwise(cuts)][self.rank :: self.world]
        random = np.random.default_rng((self.config.seed, epoch))
        order = self._bucket(windows, random.permutation(order))
        cuts = _cut_batches(windows, order, self.config.batch_size, self.config.pairs)
        batches = random.permutation(len(cuts) - 1)
        if len(batches) >= self.world:  # equally many for each process, or one would wait for the others
            batches = batches[: len(batches) // self.world * self.world]
        return [order[cuts[i] : cuts[i + 1]] for i in batches[self.rank :: self.world]]

    def _bucket(self, windows: Windows, order: Ints) -> Ints:
        """Sort by length inside groups of batches; the order of the groups stays random."""
        length, count = windows.end[order] - windows.start[order], windows.count[order]
        group = np.cumsum(count) // (self.config.batch_size * _BUCKET)
        return order[np.lexsort((length, count // 8, group))]

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``start``-th on; skipped batches cost nothing."""
        windows, unknown = self._drawn(epoch), self._unknown(epoch)
        plan = self._plan(epoch, windows)[start:]
        if not self.config.prefetch:
            yield from (self._build(windows, unknown, chosen) for chosen in plan)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            ahead: deque[Future[Batch]] = deque()
            for chosen in plan:
                ahead.append(pool.submit(self._build, windows, unknown, chosen))
                if len(ahead) > self.config.prefetch:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _build(self, windows: Windows, unknown: npt.NDArray[np.bool_], chosen: Ints) -> Batch:
        """Gather the windows ``chosen`` into one batch; those marked ``unknown`` hide their user."""
        start, end, length = windows.start[chosen], windows.end[chosen], windows.length[chosen]
        width = max(int((end - start).max()), 1)
        size = int(windows.count[chosen].max()) + self.config.placeholders
        column = np.arange(width)
        behavior = column + (end - width)[:, None]  # (B, L), the newest at L - 1
        present = behavior >= start[:, None]  # (B, L)
        slot = np.arange(size)
        real = slot < windows.count[chosen][:, None]  # (B, C)
        rows = self._rows[np.where(real, windows.first[chosen][:, None] + slot, 0)]
        behavior = np.where(present, behavior, 0)
        batch = self._columns.batch(rows, real, behavior, present, end, length)
        batch.user.profile[torch.from_numpy(unknown[chosen]), 0] = UNKNOWN  # the user is the first field
        return batch


def served_loaders(dataset: Dataset, part: str, config: LoaderConfig, shared: int) -> list[Loader]:
    """Loaders of a part in which every impression is scored as a server scores its request.

    Args:
        config: its grouping and window do not matter. With slack, the part is replayed as by a server that
            appends to states (see `replay_windows`).
        shared: requests that see at most so many behaviors share one encoding of their user's first behaviors
            (see `served_windows`); 0 for models that cannot, or gain nothing.

    Raises:
        DataError: the part has no impressions.
    """
    rows, length = dataset.part(part), config.length
    if config.slack:
        kinds = [replay_windows(dataset, rows, length, config.slack)]
    elif shared and len(rows):
        kinds = [kind for kind in served_windows(dataset, rows, length, shared) if len(kind)]
    else:
        kinds = [make_windows(dataset, rows, "request", length)]
    config = replace(config, grouping="request", slack=0)  # the windows have theirs
    return [Loader(dataset, part, config, windows=windows) for windows in kinds]


def _check(config: LoaderConfig, windows: Windows | None) -> None:
    """Refuse options that are out of range."""
    check_least(config, 1, "length", "batch_size")
    check_least(config, 0, "window", "slack", "pairs", "placeholders", "prefetch")
    if not 0 <= config.unknown_users < 1:
        raise ConfigError(f"unknown_users is {config.unknown_users}; it must be a share from 0 to below 1.")
    if config.length + config.slack > LONGEST:
        raise ConfigError(
            f"length={config.length} and slack={config.slack} exceed {LONGEST:,} together; lower one of them."
        )
    if windows is not None and config.slack:
        raise ConfigError(f"Precomputed windows keep their lengths; leave out slack={config.slack}.")


def _cut_batches(windows: Windows, order: Ints, batch_size: int, pairs: int) -> Ints:
    """Cut a sequence of windows into batches.

    Args:
        order: rows of ``windows`` in their sequence.
        batch_size: impressions in a batch, approximately.
        pairs: see `LoaderConfig`.

    Returns:
        Index into ``order`` at which each batch begins, and the end.
    """
    count = windows.count[order]
    filled = (np.cumsum(count) - count) // batch_size
    cuts = np.append(np.flatnonzero(np.diff(filled, prepend=-1)), len(order))
    if not pairs or not len(order):
        return cuts
    columns = np.maximum(np.maximum.reduceat((windows.end - windows.start)[order], cuts[:-1]), 1)
    cost = columns * (columns + np.maximum.reduceat(count, cuts[:-1]))  # pairs of each row
    rows = np.diff(cuts)
    pieces = -(-rows // np.maximum(pairs // cost, 1))
    size = -(-rows // pieces)  # equal pieces, so that no batch is a small rest
    position = np.arange(len(order)) - np.repeat(cuts[:-1], rows)
    return np.append(np.flatnonzero(position % np.repeat(size, rows) == 0), len(order))


class _Gather:
    """Columns from which batches are gathered."""

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
        self.labels = [dataset.impressions[label_of(dataset.labels[index])] for index in labels]

    def batch(
        self,
        rows: Ints,
        real: npt.NDArray[np.bool_],
        behavior: Ints,
        present: npt.NDArray[np.bool_],
        end: Ints,
        length: Ints,
    ) -> Batch:
        """Gather impressions ``rows`` (B, C) over rows ``behavior`` (B, L) that end at ``end`` (B,).

        A candidate sees the last ``length`` (B,) behaviors before it.
        """
        impressions = self.dataset.impressions
        user = np.asarray(impressions["user"])[rows[:, 0]]
        width = behavior.shape[1]
        offset = np.asarray(self.dataset.users["offsets"])[user]
        # The data set counts visible behaviors from the user's first. A batch counts columns, and its last
        # column holds the newest behavior of the window.
        known = np.asarray(impressions["visible"])[rows]  # (B, C) behaviors since the user's first
        visible = np.where(real, known + (offset - end)[:, None] + width, 0)  # (B, C) columns
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
    """Return the column; in a log without behaviors, one row for padding to point at."""
    return column if len(column) else np.zeros((1, *column.shape[1:]), column.dtype)


def _long(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _indices(columns: list[Array], rows: Array, present: npt.NDArray[np.bool_] | None = None) -> torch.Tensor:
    """(*rows.shape, columns) int64 indices; 0 where not present."""
    parts = [column[rows] if column.ndim > 1 else column[rows][..., None] for column in columns]
    if not parts:
        return torch.zeros((*rows.shape, 0), dtype=torch.int64)
    joined = np.concatenate(parts, axis=-1)
    return _long(joined if present is None else np.where(present[..., None], joined, 0))


def _numbers(columns: list[Array], rows: Array) -> torch.Tensor:
    """(*rows.shape, columns) float32 numbers."""
    if not columns:
        return torch.zeros((*rows.shape, 0))
    return torch.from_numpy(np.stack([column[rows].astype(np.float32) for column in columns], axis=-1))
