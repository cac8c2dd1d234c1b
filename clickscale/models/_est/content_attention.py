"""Content Sparse Attention (Liu et al. 2026, algorithm 1): each behavior gathers its nearest by content.

Neighbors and weights come from frozen content vectors, so they are found once per sequence and serve every
layer; nothing is learned. A row without content has no neighbors and gathers zeros.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.layers.retrieval import GRID, dots

Weighting = Literal["none", "l1", "softmax"]
_ROWS = 512  # rows compared at once: bounds the memory of long timelines
_NEVER = -(2**62)


@dataclass(frozen=True)
class Neighbors:
    """For n of the L rows of R sequences: columns (R, n, K) int64 and weights (R, n, K), 0 where too few."""

    columns: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Reach:
    """Which rows a row may gather.

    Attributes:
        kept: K, itself included (its cosine of 1 is the largest).
        causal: only itself and earlier rows.
        window: of these, only the newest ``window`` (causal alone).
        weighting: of the cosines of a row: as they are, divided by their absolute sum, or their softmax.
    """

    kept: int = 5
    causal: bool = False
    window: int = 300
    weighting: Weighting = "none"


def nearest(vectors: Tensor, present: Tensor, reach: Reach, first: int = 0) -> Neighbors:
    """The nearest neighbors of the rows ``first`` and later.

    Args:
        vectors: (R, L, w) grid vectors.
        present: (R, L) bool, rows that are behaviors with content.
    """
    length = vectors.shape[1]
    kept = min(reach.kept, length, reach.window) if reach.causal else min(reach.kept, length)
    parts = []
    for start in range(first, max(length, first + 1), _ROWS):
        stop = min(start + _ROWS, length)
        low = max(0, start - reach.window + 1) if reach.causal else 0
        cosine = dots(vectors[:, start:stop], vectors[:, low : stop if reach.causal else length])  # (R, n, m)
        row = torch.arange(start, stop, device=cosine.device)[:, None]
        column = torch.arange(low, low + cosine.shape[2], device=cosine.device)
        allowed = present[:, start:stop, None] & present[:, None, low : low + cosine.shape[2]]
        if reach.causal:
            allowed &= (column <= row) & (column > row - reach.window)
        # Of equal cosines the newer behavior wins.
        key = cosine.to(torch.int64).mul_(length).add_(column).masked_fill_(~allowed, _NEVER)
        best, place = key.topk(kept, dim=-1)
        whole = torch.div(best, max(length, 1), rounding_mode="floor")  # the cosine, out of its key
        weights = _weights(whole.float() / GRID**2, best > _NEVER, reach.weighting)
        parts.append(Neighbors(place + low, weights))
    return Neighbors(torch.cat([p.columns for p in parts], 1), torch.cat([p.weights for p in parts], 1))


def _weights(cosine: Tensor, real: Tensor, weighting: Weighting) -> Tensor:
    """(R, n, K) weights of the neighbors, 0 where there is none."""
    if weighting == "softmax":
        cosine = cosine.masked_fill(~real, -1e9).softmax(dim=-1)
    cosine = cosine.masked_fill(~real, 0)
    if weighting == "l1":
        return cosine / cosine.abs().sum(dim=-1, keepdim=True).clamp(min=1e-9)
    return cosine


def gather_neighbors(rows: Tensor, neighbors: Neighbors) -> Tensor:
    """``O_i = sum_j G_ij x_j`` over the neighbors j of each row i: rows (R, L, D) -> (R, n, D)."""
    count, length, width = rows.shape
    if not neighbors.columns.numel():
        return rows.new_zeros((*neighbors.columns.shape[:2], width))
    begin = torch.arange(count, device=rows.device)[:, None, None] * length
    bags = (neighbors.columns + begin).flatten(0, 1)
    weights = neighbors.weights.flatten(0, 1).to(rows.dtype)
    gathered = functional.embedding_bag(bags, rows.flatten(0, 1), per_sample_weights=weights, mode="sum")
    return gathered.view(*neighbors.columns.shape[:2], width)
