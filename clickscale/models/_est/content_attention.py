"""Content Sparse Attention (CSA; Liu et al. 2026, algorithm 1): each behavior gathers its nearest by content.

For one sequence of L behaviors:

    cosine = content @ content.T                    # (L, L) of unit vectors
    cosine[~allowed] = -inf                         # padding, no content; when causal also what is later
    nearest = top_k(cosine, K)                      # (L, K) columns; a behavior is its own nearest
    weights = cosine[nearest]                       # (L, K), or normalized, see ``weighting``
    for i in range(L):                              # in every block, with the same neighbors
        behaviors[i] += sum(weights[i, k] * normalized[nearest[i, k]] for k in range(K))

Content vectors are frozen, so neighbors and weights are found once per sequence and serve every block; there
are no parameters. A behavior without content has no neighbors and gathers zeros.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.layers.retrieval import GRID, dots

Weighting = Literal["none", "l1", "softmax"]
_ROWS = 512  # rows compared at once: bounds the memory of long timelines
_SHORT = 128  # up to this length, a dense gradient is faster than a sparse one
_NEVER = -(2**62)  # below the key of every pair


@dataclass(frozen=True)
class Neighbors:
    """Nearest neighbors of n rows in each of R sequences.

    Attributes:
        columns: (R, n, K) int64, columns of the sequence.
        weights: (R, n, K), 0 where a row has fewer than K neighbors.
    """

    columns: Tensor
    weights: Tensor


@dataclass(frozen=True)
class NeighborRule:
    """The rows that a row may gather, and their weights.

    Attributes:
        count: K, the row itself included (its cosine of 1 is the largest).
        causal: only the row itself and earlier ones.
        window: of these, only the newest ``window``; used when causal.
        weighting: of the cosines of a row: ``none`` takes them as they are, ``l1`` divides them by their
            absolute sum, ``softmax`` by the sum of their exponentials.
    """

    count: int = 5
    causal: bool = False
    window: int = 300
    weighting: Weighting = "none"


def nearest_neighbors(vectors: Tensor, present: Tensor, rule: NeighborRule, first: int = 0) -> Neighbors:
    """Neighbors of the rows ``first`` and later of a sequence.

    Args:
        vectors: (R, L, w) grid vectors.
        present: (R, L) bool, rows that are behaviors with content.
    """
    length = vectors.shape[1]
    parts = []
    for start in range(first, max(length, first + 1), _ROWS):
        stop = min(start + _ROWS, length)
        # A causal piece needs no column outside the windows of its rows.
        low, high = (max(0, start - rule.window + 1), stop) if rule.causal else (0, length)
        cosine = dots(vectors[:, start:stop], vectors[:, low:high])  # (R, n, m)
        allowed = present[:, start:stop, None] & present[:, None, low:high]  # (R, n, m)
        if rule.causal:
            row = torch.arange(start, stop, device=cosine.device)[:, None]  # (n, 1)
            column = torch.arange(low, high, device=cosine.device)
            allowed &= (column <= row) & (column > row - rule.window)
        nearest = nearest_of(cosine, allowed, rule)
        parts.append(Neighbors(nearest.columns + low, nearest.weights))
    return Neighbors(torch.cat([p.columns for p in parts], 1), torch.cat([p.weights for p in parts], 1))


def nearest_of(cosine: Tensor, allowed: Tensor, rule: NeighborRule) -> Neighbors:
    """The most similar of the allowed columns.

    Args:
        cosine: (R, n, m) products of grid vectors.
        allowed: (R, n, m) bool.
    """
    columns = cosine.shape[2]
    count = min(rule.count, columns, rule.window) if rule.causal else min(rule.count, columns)
    # Cosine and column in one whole number: no pair of columns ties, and of equal cosines the newer wins.
    column = torch.arange(columns, device=cosine.device)
    key = cosine.to(torch.int64).mul_(columns).add_(column).masked_fill_(~allowed, _NEVER)
    best, nearest = key.topk(count, dim=-1)  # (R, n, K)
    whole = torch.div(best, max(columns, 1), rounding_mode="floor")  # the cosine, out of its key
    return Neighbors(nearest, _weights(whole.float() / GRID**2, best > _NEVER, rule.weighting))


def _weights(cosine: Tensor, real: Tensor, weighting: Weighting) -> Tensor:
    """(R, n, K) weights of the neighbors, 0 where there is none."""
    if weighting == "softmax":
        # Not -inf: a row without neighbors would become NaN before the next line makes it 0.
        cosine = cosine.masked_fill(~real, -1e9).softmax(dim=-1)
    cosine = cosine.masked_fill(~real, 0)
    if weighting == "l1":
        return cosine / cosine.abs().sum(dim=-1, keepdim=True).clamp(min=1e-9)
    return cosine


def gather_neighbors(rows: Tensor, neighbors: Neighbors) -> Tensor:
    """``O_i = sum_j G_ij x_j`` over the neighbors j of each row i: rows (R, L, D) -> (R, n, D)."""
    if not neighbors.columns.numel():  # embedding_bag refuses to have nothing to look up
        return rows.new_zeros((*neighbors.columns.shape[:2], rows.shape[2]))
    weights = neighbors.weights.to(rows.dtype)
    if rows.shape[1] > _SHORT:
        return _weighted_sums(rows, neighbors.columns, weights)
    gathered: Tensor = _ShortGather.apply(rows, neighbors.columns, weights)  # type: ignore[no-untyped-call]
    return gathered


def _weighted_sums(rows: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """(R, n, D) of rows (R, L, D), columns and weights (R, n, K)."""
    # All rows form one table; a bag is the neighbors of a row. Nothing of size (R, n, K, D) is made.
    begin = torch.arange(len(rows), device=rows.device)[:, None, None] * rows.shape[1]  # (R, 1, 1)
    bags, scales = (columns + begin).flatten(0, 1), weights.flatten(0, 1)  # (R * n, K)
    sums = functional.embedding_bag(bags, rows.flatten(0, 1), per_sample_weights=scales, mode="sum")
    return sums.view(*columns.shape[:2], rows.shape[2])  # (R, n, D)


class _ShortGather(torch.autograd.Function):
    """`_weighted_sums` for short sequences, with the gradient as a dense product.

    The gradient of embedding_bag sorts all columns first, which takes longer than all else together.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(columns, weights)
        ctx.length = rows.shape[1]
        return _weighted_sums(rows, columns, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (grad,) = grads
        columns, weights = ctx.saved_tensors
        dense = grad.new_zeros((*columns.shape[:2], ctx.length))  # (R, n, L)
        dense.scatter_add_(2, columns, weights.to(grad.dtype))
        return dense.transpose(1, 2) @ grad, None, None  # (R, L, D)
