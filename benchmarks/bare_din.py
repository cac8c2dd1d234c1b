"""DIN written by hand for one data set, as the reference of speed. Imports nothing but torch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

DIM, HIDDEN, TOWER = 16, 36, (256, 128)


class Dice(nn.Module):
    """Dice over rows, by the batch norm of torch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-8, momentum=0.02, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.norm(x))
        return gate * x + self.alpha * (1 - gate) * x


class BareDIN(nn.Module):
    """DIN over copied histories: one candidate per row."""

    def __init__(self, profile: Sequence[int], item: Sequence[int], event: Sequence[int]) -> None:
        """Embeddings for fields with so many values each."""
        super().__init__()
        self.profile = nn.ModuleList(nn.Embedding(size, DIM, padding_idx=0) for size in profile)
        self.item = nn.ModuleList(nn.Embedding(size, DIM, padding_idx=0) for size in item)
        self.event = nn.ModuleList(nn.Embedding(size, DIM, padding_idx=0) for size in event)
        width = DIM * (len(item) + len(event))
        self.first, self.dice = nn.Linear(4 * width, HIDDEN), Dice(HIDDEN)
        self.second = nn.Linear(HIDDEN, 1)
        layers: list[nn.Module] = []
        inputs = width + DIM * (len(item) + len(profile))
        for units in TOWER:
            layers += [nn.Linear(inputs, units), nn.BatchNorm1d(units, momentum=0.02), Dice(units)]
            inputs = units
        self.tower = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(self, profile: Tensor, candidate: Tensor, history: Tensor) -> Tensor:
        """Profile (N, n2), candidate (N, item fields), history (N, L, item and event fields) -> (N,)."""
        users = torch.cat([table(profile[:, i]) for i, table in enumerate(self.profile)], 1)
        items = torch.cat([table(candidate[:, i]) for i, table in enumerate(self.item)], 1)
        tables = (*self.item, *self.event)
        keys = torch.cat([table(history[:, :, i]) for i, table in enumerate(tables)], 2)  # (N, L, D)
        query = functional.pad(items, (0, keys.shape[2] - items.shape[1]))[:, None].expand_as(keys)
        pairs = torch.cat([query, keys, query - keys, query * keys], 2)  # (N, L, 4 D)
        weights = self.second(self.dice(self.first(pairs).flatten(0, 1))).view(history.shape[:2])
        weights = weights * (history[:, :, 0] > 0)
        interest = (weights[:, None] @ keys).squeeze(1)
        return self.tower(torch.cat([interest, items, users], 1)).squeeze(1)
