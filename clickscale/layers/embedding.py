"""One table for all categorical features of a model, and what turns numbers into tokens."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.features import UNKNOWN, Feature, categorical, numeric
from clickscale.layers.kernels.frozen import Freezable

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
        found = functional.embedding(rows, self.weight, padding_idx=0, sparse=True)
        return functional.dropout(found, self.dropout, self.training) if self.dropout else found


class SideEmbedding(Freezable):
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
    bounds: Tensor
    first_line: Tensor

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
                    bounds = torch.where(width > 0, left, torch.inf)  # no number lies in a missing bin
                    self.register_buffer("bounds", bounds, persistent=False)
                    first_line = torch.arange(self.numbers) * (BINS + 2)
                    self.register_buffer("first_line", first_line, persistent=False)
                    bias, weight = weight * left[:, :1], weight[:, None] * width[..., None]  # (F, T, d)
                else:
                    weight = torch.randn(self.numbers, BINS + 1, dim) * 0.05
            self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.missing = nn.Parameter(torch.zeros(self.numbers, dim))

    def rows(self, indices: Tensor) -> Tensor:
        """Indices (..., columns) -> rows of the fused table."""
        if not self.values:
            return indices
        return torch.where(indices > 0, indices + self.column_offset, 0)

    def forward(self, table: FusedEmbedding, indices: Tensor, numbers: Tensor) -> Tensor:
        """Indices (..., columns) and numbers (..., F) -> tokens (..., n, d)."""
        return self.embed_rows(table, self.rows(indices), numbers)

    def embed_rows(self, table: FusedEmbedding, rows: Tensor, numbers: Tensor) -> Tensor:
        """As `forward`, for rows of the table instead of indices."""
        parts = [self._pool(table(rows), rows)] if self.values else []
        if self.numbers:
            frozen = self.frozen
            parts.append(self._embedded(numbers) if frozen is None else self._on_lines(numbers, frozen))
        if not parts:
            return table.weight.new_zeros((*_indices_shape(rows), 0, table.weight.shape[1]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def _embedded(self, numbers: Tensor) -> Tensor:
        """Numbers (..., F) -> (..., F, d)."""
        known = self._known(torch.nan_to_num(numbers)) + self.bias  # (..., F, d)
        return torch.where(numbers.isnan()[..., None], self.missing, known)

    def precomputed(self) -> Tensor | None:
        """(F * (T + 2), 2d + 2): the lines that numbers lie on, see `_on_lines`; None if not ``piecewise``.

        A line is its start (d), its rise (d), and the left edge and slope of the share of its rise. Line 0 is
        that of numbers below all edges, line t that of bin t, and the last one that of missing numbers.
        """
        if not self.numbers or self.how != "piecewise":
            return None
        bias = self.bias[:, None]  # (F, 1, d)
        before = bias + self.weight.cumsum(dim=1)[:, :-1]  # (F, T - 1, d): all of the bins to the left
        start = torch.cat([bias, bias, before, self.missing[:, None]], dim=1)  # (F, T + 2, d)
        share = torch.stack([self.edges, self.slopes], dim=-1)  # (F, T, 2)
        rise = functional.pad(torch.cat([self.weight, share], dim=-1), (0, 0, 1, 1))  # (F, T + 2, d + 2)
        return torch.cat([start, rise], dim=-1).flatten(0, 1)

    def _on_lines(self, numbers: Tensor, lines: Tensor) -> Tensor:
        """As `_embedded`, with one look-up of the line of each number instead of its shares of all bins."""
        x, dim = torch.nan_to_num(numbers), self.bias.shape[1]
        columns = x.reshape(-1, self.numbers).T.contiguous()  # (F, N)
        place = torch.searchsorted(self.bounds, columns, right=True).T.view(x.shape)  # (..., F)
        place = place.masked_fill(numbers.isnan(), BINS + 1) + self.first_line  # (..., F)
        found = functional.embedding(place, lines)  # (..., F, 2d + 2)
        share = ((x - found[..., -2]) * found[..., -1]).clamp_(max=1)  # (..., F)
        return torch.addcmul(found[..., :dim], share[..., None], found[..., dim:-2])

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
        for count in self.values:
            part = embedded[..., place : place + count, :]
            held = (rows[..., place : place + count] > 0).sum(dim=-1, keepdim=True).clamp(min=1)
            pooled.append(part.sum(dim=-2) / held)
            place += count
        return torch.stack(pooled, dim=-2)


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
