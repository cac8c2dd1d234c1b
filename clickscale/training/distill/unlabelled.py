"""Candidates that nobody labelled, for which a student learns what its teacher says.

They are drawn for each request of a batch: items of earlier impressions of the training part, hence as often
as an item was shown, and never one that did not exist by then. They stand at the time of their request, see
its history, and have its context; declared statistics and derived numbers are those that the item had at that
moment. They have no label and no row, so nothing but soft labels can be learned from them.
"""

from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from clickscale.batch import Batch, CandidateSide
from clickscale.data.dataset import Dataset
from clickscale.data.features.derived import DerivedNumbers
from clickscale.data.features.statistics_of_others import StatisticsOfOthers
from clickscale.features import numeric


class UnlabelledCandidates:
    """Draws candidates for the requests of batches.

    Args:
        count: candidates for each request.
        seed: of the draws; what is drawn depends on it, on the step and on the batch only.
    """

    def __init__(self, dataset: Dataset, count: int, seed: int) -> None:
        self._dataset, self._count, self._seed = dataset, count, seed
        rows = dataset.part("train")
        time = np.asarray(dataset.impressions["time"])[rows]
        order = np.argsort(time, kind="stable")
        self._time = time[order]
        self._items = np.asarray(dataset.impressions["item"])[rows][order].astype(np.int64)
        names = [feature.name for feature in numeric(dataset.features.context)]
        declared = [statistic.name for statistic in dataset.schema.statistics]
        self._columns = [names.index(name) for name in declared]  # of the statistics among the numbers
        self._derived = DerivedNumbers(dataset.encoder, dataset.item_columns())
        self._statistics = StatisticsOfOthers(dataset.path, dataset.encoder) if declared else None

    def __call__(self, batch: Batch, step: int) -> Batch:
        """The batch with more candidates behind those that it has: (B, C + drawn)."""
        first = _requests(batch)  # (B, R) column of the first candidate of each request, -1 for none
        anchor = first.repeat_interleave(self._count, 1)  # (B, drawn)
        there, anchor = anchor >= 0, anchor.clamp(min=0)
        rows = batch.rows.gather(1, anchor).clamp(min=0).numpy()
        side = CandidateSide(
            **{f.name: _at(getattr(batch.candidates, f.name), anchor) for f in fields(batch.candidates)}
        )
        # Strictly earlier: what was first shown at this very moment did not exist by then.
        earlier = np.searchsorted(self._time, side.times.numpy())
        there &= torch.from_numpy(earlier > 0)
        shares = np.random.default_rng((self._seed, step, self._count)).random(earlier.shape)
        items = self._items[(shares * np.maximum(earlier, 1)).astype(np.int64)]
        numbers = side.context_numbers
        if self._statistics is not None:
            real = there.numpy()
            filled = numbers[there]  # (n, F)
            filled[:, self._columns] = torch.from_numpy(self._statistics.values(rows[real], items[real]))
            numbers = numbers.index_put((there,), filled)
        drawn = replace(
            side,
            items=torch.from_numpy(items) * there,
            context_numbers=numbers,
            oldest=side.oldest * there,
            visible=side.visible * there,
        )
        joined = {
            f.name: torch.cat([getattr(batch.candidates, f.name), getattr(drawn, f.name)], 1)
            for f in fields(drawn)
        }
        unknown = batch.labels.new_zeros(*anchor.shape, batch.labels.shape[2])  # (B, drawn, T)
        longer = replace(
            batch,
            candidates=CandidateSide(**joined),
            labels=torch.cat([batch.labels, unknown], 1),
            label_mask=torch.cat([batch.label_mask, unknown.bool()], 1),
            rows=torch.cat([batch.rows, torch.full_like(anchor, -1)], 1),
        )
        return self._derived.fill(longer)


def _requests(batch: Batch) -> Tensor:
    """(B, R) column of the first candidate of each request of a row, in order, then -1."""
    real, times = batch.rows >= 0, batch.candidates.times
    begins = real.clone()
    begins[:, 1:] &= ~real[:, :-1] | (times[:, 1:] != times[:, :-1])
    count = begins.sum(1)
    order = begins.long().argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
    return torch.where(torch.arange(order.shape[1]) < count[:, None], order, -1)


def _at(values: Tensor, column: Tensor) -> Tensor:
    """Values (B, C) or (B, C, n) at columns (B, drawn)."""
    if values.dim() == 2:
        return values.gather(1, column)
    return values.gather(1, column[..., None].expand(-1, -1, values.shape[2]))
