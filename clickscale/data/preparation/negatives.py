"""Negatives for logs that show only what users did: items that existed by then, drawn uniformly."""

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Ints
from clickscale.data.features.texts import splitmix64
from clickscale.data.preparation.records import Records


class NegativeSampler:
    """Draws items that the log had seen before a moment, without replacement and never the positive itself.

    Draws depend on the data alone (user, item and time of the positive), not on how the log is cut up.

    Args:
        first_seen: (items,) seconds, negative for items that the log never shows.
        count: negatives per positive; fewer where fewer items existed.
    """

    def __init__(self, first_seen: Ints, count: int) -> None:
        seen = np.flatnonzero(first_seen >= 0)
        self._items = seen[np.argsort(first_seen[seen], kind="stable")]  # by age
        self._ages = first_seen[self._items]
        self._place = np.full(len(first_seen), len(first_seen), np.int64)
        self._place[self._items] = np.arange(len(self._items))
        self.count = count

    def draw(
        self, item: Ints, time: Ints, seed: npt.NDArray[np.uint64]
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """(N, count) items and which of them were really drawn, for positives ``item`` at ``time``."""
        existing = np.searchsorted(self._ages, time, side="left")  # items first seen strictly before
        place = self._place[item]
        taken = np.where(place < existing, place, len(self._place))[
            :, None
        ]  # (N, 1), ascending; large: nothing
        free = existing - (place < existing)
        drawn = np.zeros((len(item), self.count), np.int64)
        for turn in range(self.count):
            left = free - turn
            random = splitmix64(seed + np.uint64(turn)) % np.maximum(left, 1).astype(np.uint64)
            chosen = random.astype(np.int64)
            for column in range(taken.shape[1]):  # step over what is taken
                chosen += chosen >= taken[:, column]
            drawn[:, turn] = np.where(left > 0, chosen, 0)
            taken = np.sort(
                np.concatenate([taken, np.where(left > 0, chosen, len(self._place))[:, None]], axis=1)
            )
        return self._items[drawn], np.arange(self.count) < free[:, None]


def add_negatives(
    positives: Records, item: Ints, sampler: NegativeSampler, labels: list[str]
) -> tuple[Records, Ints]:
    """Put the negatives of each positive right behind it.

    Args:
        positives: sorted impressions; those whose first label is 1 get negatives, with the same user, time
            and context and every label 0.
        item: (N,) rows of the item table.

    Returns:
        The records and their rows of the item table.
    """
    positive = positives[labels[0]] == 1
    seed = np.zeros(len(positives), np.uint64)
    for name in ("user", "item", "time"):
        seed = splitmix64(seed ^ positives[name].astype(np.uint64))
    drawn, real = sampler.draw(item, positives["time"], seed)
    real &= positive[:, None]
    every = np.concatenate([item[:, None], drawn], axis=1)  # (N, 1 + count)
    kept = np.concatenate([np.ones((len(positives), 1), bool), real], axis=1)
    records = np.repeat(positives, kept.sum(axis=1))
    is_drawn = np.broadcast_to(np.arange(every.shape[1]) > 0, every.shape)[kept]
    for name in labels:
        records[name][is_drawn] = 0
    return records, every[kept]
