"""A toy batch and a toy model with a table, dense weights and running statistics."""

import torch
from torch import Tensor, nn

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.features import Feature
from clickscale.layers.embedding import FusedEmbedding
from clickscale.layers.head import BatchNorm


def toy_batch(*, labels: Tensor, label_mask: Tensor, items: Tensor | None = None) -> Batch:
    """A batch of users without behaviors; labels and mask (B, C, T), items (B, C) from 1 on."""
    users, candidates = labels.shape[:2]
    nothing = torch.zeros(users, 1, 0)
    shown = torch.ones(users, candidates, dtype=torch.int64) if items is None else items
    zero = torch.zeros_like(shown)
    return Batch(
        user=UserSide(nothing.long()[:, 0], nothing[:, 0], zero[:, :1], nothing.long(), nothing, zero[:, :1]),
        candidates=CandidateSide(
            shown,
            torch.zeros(users, candidates, 0, dtype=torch.int64),
            torch.zeros(users, candidates, 0),
            zero,
            zero,
            zero,
        ),
        labels=labels,
        label_mask=label_mask,
        rows=torch.arange(users * candidates).view(users, candidates),
    )


class Toy(nn.Module):
    """Logit of an item from its embedding; ``rows`` items, row 0 of the table is padding."""

    def __init__(self, rows: int = 10, dim: int = 4) -> None:
        super().__init__()
        self.table = FusedEmbedding([Feature(name="item", kind="categorical", size=rows)], dim)
        self.norm = BatchNorm(dim)
        self.out = nn.Linear(dim, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C, 1)."""
        embedded = self.table(batch.candidates.items)  # (B, C, d)
        return self.out(self.norm(embedded.flatten(0, 1))).view(*batch.candidates.items.shape, 1)


def random_batch(seed: int, rows: int = 10) -> Batch:
    """Eight users with five candidates; even items are clicked."""
    items = torch.randint(1, rows, (8, 5), generator=torch.Generator().manual_seed(seed))
    labels = (items % 2 == 0).float()[..., None]
    return toy_batch(labels=labels, label_mask=torch.ones_like(labels, dtype=torch.bool), items=items)
