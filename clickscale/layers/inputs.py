"""From the index tensors of a batch to tokens: the input layer that all models share."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.arrays import Array
from clickscale.batch import CandidateSide, UserSide
from clickscale.layers.embedding import FusedEmbedding, Numbers, SideEmbedding, distinct
from clickscale.schema import Feature, Features, categorical, column_of, content, numeric

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
            tokens = torch.cat([tokens, projection(vectors)[:, None]], dim=1)
        tokens = tokens * (unique > 0)[:, None, None]
        return functional.embedding(inverse, tokens.flatten(1))


def _as_they_are(items: Tensor) -> tuple[Tensor, Tensor]:
    """Every entry by itself, in the form of `distinct`."""
    return items.flatten(), torch.arange(items.numel(), device=items.device).view(items.shape)


def _two(column: Array) -> Array:
    """A column as (rows, values)."""
    return column if column.ndim == 2 else column[:, None]


class TimeOfWeek(nn.Module):
    """Hour of the day and day of the week (UTC) of a moment, as a vector of width D."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.hour = nn.Parameter(torch.randn(24, dim) * 0.05)
        self.day = nn.Parameter(torch.randn(7, dim) * 0.05)
        self.project = nn.Linear(dim, width, bias=False)

    def forward(self, times: Tensor) -> Tensor:
        """Times (...,) int64 seconds -> (..., D)."""
        week = (
            functional.linear(self.hour, self.project.weight)[None] + self.project(self.day)[:, None]
        )  # (7, 24, D)
        day = (times // 86400 + 4) % 7  # 1970-01-01 was a Thursday; 0 is Sunday
        return functional.embedding(day * 24 + times // 3600 % 24, week.flatten(0, 1))


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
        self.profile_tokens, self.context_tokens = self.profile_side.tokens, self.context_side.tokens

    def profile(self, user: UserSide) -> Tensor:
        """(B, n2, d)."""
        return self.profile_side(self.table, user.profile, user.profile_numbers)

    def behaviors(self, user: UserSide) -> Tensor:
        """(B, L, D)."""
        items = self.items(self.table, user.items)
        if not self.behavior_side.tokens:
            return items
        actions = self.behavior_side(self.table, user.actions, user.action_numbers).flatten(-2)
        return torch.cat([items, actions * user.mask[..., None]], dim=-1)

    def candidates(self, candidates: CandidateSide) -> Tensor:
        """(B, C, D), zero in the behavior fields."""
        return functional.pad(self.candidate_items(candidates), (0, self.width - self.item_width))

    def candidate_items(self, candidates: CandidateSide) -> Tensor:
        """(B, C, item fields * d)."""
        return self.items(self.table, candidates.items)

    def context(self, candidates: CandidateSide) -> Tensor:
        """(B, C, n3 * d)."""
        return self.context_side(self.table, candidates.context, candidates.context_numbers).flatten(-2)


class TimedInputs(Inputs):
    """`Inputs` of a model whose behaviors and candidates are one sequence of tokens of width D.

    Args:
        time_of_week: add an embedding of hour and weekday to every token.
        candidate: a candidate's behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes its token.
    """

    def __init__(
        self,
        features: Features,
        items: ItemColumns,
        dim: int,
        numbers: Numbers = "linear",
        *,
        time_of_week: bool = True,
        candidate: Literal["zero_fill", "linear"] = "zero_fill",
    ) -> None:
        super().__init__(features, items, dim, numbers)
        self.week = TimeOfWeek(dim, self.width) if time_of_week else None
        linear = candidate == "linear"
        self.linear = nn.Linear(self.item_width, self.width, bias=False) if linear else None

    def timed_behaviors(self, user: UserSide) -> Tensor:
        """(B, L, D)."""
        return self._timed(self.behaviors(user), user.times)

    def timed_candidates(self, candidates: CandidateSide) -> Tensor:
        """(B, C, D)."""
        if self.linear is None:
            return self._timed(self.candidates(candidates), candidates.times)
        return self._timed(self.linear(self.candidate_items(candidates)), candidates.times)

    def _timed(self, x: Tensor, times: Tensor) -> Tensor:
        return x if self.week is None else x + self.week(times)
