"""One table for all categorical features of a model, and what turns numbers into tokens."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.features import UNKNOWN, Feature, categorical, numeric
from clickscale.layers.kernels.sparse_look_up import LookUp

Numbers = Literal["linear", "buckets", "piecewise"]
BINS = 32  # of a number, at most; a number with fewer distinct quantiles leaves the last ones empty


class FusedEmbedding(nn.Module):
    """All embedding rows of a model in one table.

    Row 0 is the padding of every feature and stays zero; index i > 0 of a feature is row ``offset + i``. The
    row of a feature's unknown values starts at zero, so that it adds nothing until training has met one. One
    table means one look-up and one optimizer step per batch, whatever the number of features. Gradients are
    sparse: their size depends on the rows that a batch touches.

    Args:
        features: features by name; one with ``shares`` uses the rows of the feature it names.
        dim: width d of a row.
        std: standard deviation of the initial rows.
    """

    def __init__(self, features: Sequence[Feature], dim: int, std: float = 0.05) -> None:
        super().__init__()
        self.offsets: dict[str, int] = {}
        rows = 0
        for feature in categorical(tuple(features)):
            if not feature.shares:
                self.offsets[feature.name] = rows
                rows += feature.size - 1
        for feature in categorical(tuple(features)):
            if feature.shares:
                self.offsets[feature.name] = self.offsets[feature.shares]
        self.size, self.std, self.dropout = (rows + 1, dim), std, 0.0
        self.weight = nn.Parameter(self.initial())

    def initial(self, generator: torch.Generator | None = None) -> Tensor:
        """Rows (rows, d) as a new table has them; drawn from torch's own random numbers if None."""
        weight = torch.randn(self.size, generator=generator) * self.std
        weight[[0, *(offset + UNKNOWN for offset in self.offsets.values())]] = 0
        return weight

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (...,) int64 of the table -> (..., d)."""
        found: Tensor = LookUp.apply(self.weight, rows)  # type: ignore[no-untyped-call]
        return functional.dropout(found, self.dropout, self.training) if self.dropout else found


class SideEmbedding(nn.Module):
    """Embeds the fields of one side; each field becomes one token of width d.

    Tokens stand in the order of the features: categorical ones first, then numeric ones. A field of several
    values is the mean of its values. A missing number of field f becomes ``m_f``, and a number x

    * ``linear``: ``x * w_f + b_f``;
    * ``piecewise``: ``sum_t e_t(x) * w_ft + b_f``, where ``e_t(x)`` is the share of bin t that lies below x
      (0 to 1): the piecewise-linear encoding of Gorishniy et al. (NeurIPS 2022, eq. 1), except that numbers
      beyond the outer edges count as the edges. The bins lie between the quantiles of the training part.
      Its initial form is a line: ``w_ft`` is in proportion to the width of bin t;
    * ``buckets``: ``w_ft + b_f`` where t is the number of quantiles, without the lowest, that are at most x.
    """

    column_offset: Tensor
    edges: Tensor
    slopes: Tensor

    def __init__(
        self, features: tuple[Feature, ...], table: FusedEmbedding, dim: int, numbers: Numbers = "linear"
    ) -> None:
        super().__init__()
        self.values = tuple(feature.values for feature in categorical(features))
        self.numbers = len(numeric(features))
        self.tokens = len(self.values) + self.numbers
        offsets = [table.offsets[f.name] for f in categorical(features) for _ in range(f.values)]
        self.register_buffer("column_offset", torch.tensor(offsets, dtype=torch.int64), persistent=False)
        if self.numbers:
            self.how = numbers
            weight, bias = torch.randn(self.numbers, dim) * 0.05, torch.zeros(self.numbers, dim)
            if numbers != "linear":
                left, right = _bins(numeric(features))
                width = torch.where(right < torch.inf, right - left, 0)
                self.register_buffer("edges", left if numbers == "piecewise" else right, persistent=False)
                self.register_buffer("slopes", torch.where(width > 0, 1 / width, 0), persistent=False)
                if numbers == "piecewise":
                    bias, weight = weight * left[:, :1], weight[:, None] * width[..., None]  # (F, T, d)
                else:
                    weight = torch.randn(self.numbers, BINS + 1, dim) * 0.05
            self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.missing = nn.Parameter(torch.zeros(self.numbers, dim))

    def rows(self, indices: Tensor) -> Tensor:
        """Indices (..., columns) -> rows of the fused table."""
        return torch.where(indices > 0, indices + self.column_offset, 0)

    def forward(self, table: FusedEmbedding, indices: Tensor, numbers: Tensor) -> Tensor:
        """Indices (..., columns) and numbers (..., F) -> tokens (..., n, d)."""
        return self.embed_rows(table, self.rows(indices), numbers)

    def embed_rows(self, table: FusedEmbedding, rows: Tensor, numbers: Tensor) -> Tensor:
        """As `forward`, for rows of the table instead of indices."""
        parts = [self._pool(table(rows), rows)] if self.values else []
        if self.numbers:
            parts.append(self.embed_numbers(numbers))
        if not parts:
            return table.weight.new_zeros((*_indices_shape(rows), 0, table.weight.shape[1]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def embed_numbers(self, numbers: Tensor) -> Tensor:
        """Numbers (..., F) -> (..., F, d)."""
        known = self._known(torch.nan_to_num(numbers)) + self.bias  # (..., F, d)
        return torch.where(numbers.isnan()[..., None], self.missing, known)

    def _known(self, numbers: Tensor) -> Tensor:
        """Numbers (..., F) -> (..., F, d), without bias."""
        x = numbers[..., None]  # (..., F, 1)
        if self.how == "linear":
            return x * self.weight
        if self.how == "piecewise":
            shares = ((x - self.edges) * self.slopes).clamp(0, 1)  # (..., F, T)
            return torch.einsum("...ft,ftd->...fd", shares, self.weight)
        count = (x >= self.edges).sum(dim=-1)  # (..., F)
        return self.weight[torch.arange(self.numbers, device=x.device), count]

    def _pool(self, embedded: Tensor, rows: Tensor) -> Tensor:
        """Mean over the values of each field: (..., columns, d) -> (..., fields, d)."""
        if all(count == 1 for count in self.values):
            return embedded
        pooled, place = [], 0
        for count, alike in groupby(self.values):
            fields = len(list(alike))
            end = place + fields * count
            part = embedded[..., place:end, :]
            if count > 1:
                shape = (*rows.shape[:-1], fields, count)
                held = (rows[..., place:end] > 0).view(shape).sum(dim=-1, keepdim=True).clamp(min=1)
                part = part.reshape(*shape, part.shape[-1]).sum(dim=-2) / held  # (..., fields, d)
            pooled.append(part)
            place = end
        return torch.cat(pooled, dim=-2)


def _bins(features: tuple[Feature, ...]) -> tuple[Tensor, Tensor]:
    """Find the edges of the bins of numeric features, (F, T) each; 0 and infinity for missing bins."""
    left, right = torch.zeros(len(features), BINS), torch.full((len(features), BINS), torch.inf)
    for row, feature in enumerate(features):
        edges = torch.tensor(feature.edges)
        bins = max(len(edges) - 1, 0)
        left[row, :bins], right[row, :bins] = edges[:-1], edges[1:]
    return left, right


def _indices_shape(rows: Tensor) -> tuple[int, ...]:
    """Shape of ``rows`` without its last dimension."""
    return tuple(rows.shape[:-1])
