"""Input layer of all models: from the index tensors of a batch to tokens."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.arrays import Array
from clickscale.batch import CandidateSide, UserSide
from clickscale.features import Feature, Features, categorical, column_of, content, numeric
from clickscale.layers.embedding import FusedEmbedding, Numbers, SideEmbedding
from clickscale.layers.kernels.distinct_values import MANY, distinct, distinct_rows

ItemColumns = Mapping[str, Array]
_FEW = 8  # items of which finding the distinct ones costs more than embedding some twice


class ItemTable(nn.Module):
    """Attributes of every item, held once; embeds each distinct item of a batch once.

    Args:
        features: the item features, the item id first.
        columns: ``field.NAME`` -> (items,) or (items, values) indices, (items,) numbers, (items, width)
            content.
        how: form of the embeddings of numbers.
    """

    rows: Tensor
    numbers: Tensor

    def __init__(
        self,
        features: tuple[Feature, ...],
        columns: ItemColumns,
        table: FusedEmbedding,
        dim: int,
        how: Numbers = "linear",
    ) -> None:
        super().__init__()
        self.side = SideEmbedding(features, table, dim, how)
        indices = [_two(columns[column_of(f.name)]) for f in categorical(features)]
        numbers = [_two(columns[column_of(f.name)]) for f in numeric(features)]
        self.size = len(indices[0])
        rows = self.side.rows(torch.from_numpy(np.concatenate(indices, axis=1).astype(np.int64)))
        self.register_buffer("rows", rows, persistent=False)
        filled = (
            np.concatenate(numbers, axis=1).astype(np.float32)
            if numbers
            else np.zeros((self.size, 0), np.float32)
        )
        self.register_buffer("numbers", torch.from_numpy(filled), persistent=False)
        self.projections = nn.ModuleDict()
        for feature in content(features):
            vectors = np.array(columns[column_of(feature.name)])  # a copy: columns may be read-only maps
            self.register_buffer(f"content_{feature.name}", torch.from_numpy(vectors), persistent=False)
            self.projections[feature.name] = nn.Linear(feature.width, dim, bias=False)
        self.tokens = self.side.tokens + len(self.projections)

    def forward(self, table: FusedEmbedding, items: Tensor) -> Tensor:
        """Items (...,) -> (..., n * d); zeros for padding."""
        unique, inverse = distinct(items, self.size) if items.numel() > _FEW else _as_they_are(items)
        tokens = self.side.embed_rows(table, self.rows[unique], self.numbers[unique])  # (U, n, d)
        for name, projection in self.projections.items():
            vectors = getattr(self, f"content_{name}")[unique].to(tokens.dtype)
            tokens = torch.cat([tokens, projection(vectors)[:, None]], dim=1)  # (U, n + 1, d)
        tokens = tokens * (unique > 0)[:, None, None]  # (U, n, d); padding is zero
        return functional.embedding(inverse, tokens.flatten(1))  # (..., n * d)


def _as_they_are(items: Tensor) -> tuple[Tensor, Tensor]:
    """Entries and their own positions, in the form of `distinct`."""
    return items.flatten(), torch.arange(items.numel(), device=items.device).view(items.shape)


def _two(column: Array) -> Array:
    """A column as (rows, values)."""
    return column if column.ndim == 2 else column[:, None]  # (rows, values)


class Inputs(nn.Module):
    """All look-ups of a model.

    Behaviors and candidates have the same n1 fields (item fields, then behavior fields), so their tokens have
    the same width D = n1 * d; a candidate's behavior fields are zero (Lai et al. 2025; its code fills zeros).

    Args:
        numbers: form of the embeddings of numbers, see `clickscale.layers.embedding.SideEmbedding`.

    Attributes:
        width: D, width of a behavior or candidate token.
        profile_tokens, context_tokens: number of profile and context fields.
    """

    def __init__(self, features: Features, items: ItemColumns, dim: int, numbers: Numbers = "linear") -> None:
        super().__init__()
        self.dim = dim
        every = (*features.profile, *features.item, *features.behavior, *features.context)
        self.table = FusedEmbedding(every, dim)
        self.profile_side = SideEmbedding(features.profile, self.table, dim, numbers)
        self.behavior_side = SideEmbedding(features.behavior, self.table, dim, numbers)
        self.context_side = SideEmbedding(features.context, self.table, dim, numbers)
        self.items = ItemTable(features.item, items, self.table, dim, numbers)
        self.item_width = self.items.tokens * dim
        self.width = self.item_width + self.behavior_side.tokens * dim
        events = [feature.size for feature in categorical(features.behavior) for _ in range(feature.values)]
        self.sizes = (self.items.size, *events)  # of the columns that make a behavior
        self.profile_tokens, self.context_tokens = self.profile_side.tokens, self.context_side.tokens

    def profile(self, user: UserSide) -> Tensor:
        """(B, n2, d)."""
        return self.profile_side(self.table, user.profile, user.profile_numbers)

    def behaviors(self, user: UserSide) -> Tensor:
        """(B, L, D)."""
        if not self.behavior_side.tokens:
            return self.items(self.table, user.items)
        if math.prod(self.sizes) <= MANY * user.items.numel() and not self.behavior_side.numbers:
            return self._distinct_behaviors(user)
        items = self.items(self.table, user.items)
        actions = self.behavior_side(self.table, user.actions, user.action_numbers).flatten(-2)
        return torch.cat([items, actions * user.mask[..., None]], dim=-1)  # (B, L, D)

    def _distinct_behaviors(self, user: UserSide) -> Tensor:
        """(B, L, D); an item and attributes of an event that recur together are embedded and joined once."""
        columns = torch.cat([user.items[..., None], user.actions], dim=-1)  # (B, L, columns)
        rows, places = distinct_rows(columns, self.sizes, user.mask)
        actions = self.behavior_side(self.table, rows[:, 1:], user.action_numbers).flatten(1)
        tokens = torch.cat([self.items(self.table, rows[:, 0]), actions], dim=-1)  # (U, D)
        return functional.embedding(places, tokens)  # (B, L, D)

    def candidates(self, candidates: CandidateSide) -> Tensor:
        """(B, C, D), zero in the behavior fields."""
        return functional.pad(self.candidate_items(candidates), (0, self.width - self.item_width))

    def candidate_items(self, candidates: CandidateSide) -> Tensor:
        """(B, C, item fields * d)."""
        return self.items(self.table, candidates.items)

    def context(self, candidates: CandidateSide) -> Tensor:
        """(B, C, n3 * d)."""
        return self.context_side(self.table, candidates.context, candidates.context_numbers).flatten(-2)
