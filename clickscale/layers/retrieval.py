"""General search units: from a lifelong timeline, the behaviors that matter for each candidate.

A search compares every candidate with every behavior at once; `top_behaviors` then takes the best ones as
columns of the timeline, so nothing is copied. Rankings compare whole numbers: a sum of whole numbers below
2**24 is exact in float32 in any order. So equal behaviors tie on every device and in every batch, and a
candidate retrieves the same behaviors whether it is scored by itself, with others or from a cached state.
The newer of two behaviors that tie comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clickscale.features import FIRST, PADDING

SearchKind = Literal["content", "field", "learned", "hash"]

# Unit vectors become whole numbers of 1 / GRID. The product of two, at most about GRID**2, stays below 2**24.
GRID = 4000
_RANKED = 2.0**16  # learned relevance is ranked in steps of 1 / 65,536
_NEVER = -(2**62)


def _unit_grid(vectors: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Directions of vectors (items, width) as whole numbers of 1 / `GRID`; zeros stay zeros."""
    grid = np.zeros(vectors.shape, np.int16)
    for start in range(0, len(vectors), 4096):  # in pieces: the copy is of 64-bit floats
        part = np.asarray(vectors[start : start + 4096], np.float64)
        norm = np.linalg.norm(part, axis=1, keepdims=True)
        grid[start : start + 4096] = np.rint(part / np.where(norm > 0, norm, 1) * GRID)
    return grid


def dots(left: Tensor, right: Tensor) -> Tensor:
    """Products (..., n, m) of whole vectors (..., n, w) and (..., m, w), exact in float32."""
    with torch.autocast(left.device.type, enabled=False):  # half precision would round
        return left @ right.transpose(-1, -2)  # (..., n, m)


def top_behaviors(similarity: Tensor, allowed: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The ``kept`` behaviors most similar to each candidate, oldest first.

    Args:
        similarity: (B, C, L) whole numbers of magnitude below 2**40.
        allowed: (B, C or 1, L) bool, the behaviors that may be taken.
        kept: K; at most L are taken.

    Returns:
        Columns (B, C, K) int64, ascending, and a mask (B, C, K): False in the first places where fewer than K
        are allowed.
    """
    length = similarity.shape[-1]
    column = torch.arange(length, device=similarity.device)
    # Similarity and column in one whole number: nothing ties, and of equal behaviors the newer wins.
    key = similarity.to(torch.int64).mul_(max(length, 1)).add_(column).masked_fill_(~allowed, _NEVER)
    best, column = key.topk(min(kept, length), dim=-1)  # (B, C, K)
    columns = column.masked_fill(best == _NEVER, -1).sort(dim=-1).values  # -1 comes first
    return columns.clamp(min=0), columns >= 0


def ranked(relevance: Tensor) -> Tensor:
    """Relevance (...) as the whole numbers that are ranked; without gradient."""
    return (relevance.detach().float() * _RANKED).round()


class ContentTable(nn.Module):
    """Frozen content vectors of items: directions only, on the grid.

    Args:
        fields: one or more arrays (items, width); an all-zero row is missing. Several are weighted equally.
    """

    grid: Tensor
    known: Tensor

    def __init__(self, fields: Sequence[npt.NDArray[Any]]) -> None:
        super().__init__()
        parts = [_unit_grid(np.asarray(field)) for field in fields]
        grid = parts[0] if len(parts) == 1 else _unit_grid(np.concatenate(parts, axis=1))
        self.width = grid.shape[1]
        grid[PADDING] = 0  # a column may hold anything there
        self.register_buffer("grid", torch.from_numpy(grid), persistent=False)
        self.register_buffer("known", torch.from_numpy(grid.any(axis=1)), persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        """Items (...) -> (..., width) float32, whole numbers."""
        return self.grid[items].float()

    def compare(self, candidates: Tensor, behaviors: Tensor) -> "Cosines":
        """Cosines of candidates (B, C) and behaviors (B, L), all items."""
        known = self.known[candidates][..., None] & self.known[behaviors][:, None]  # (B, C, L)
        return Cosines(dots(self(candidates), self(behaviors)), known)


@dataclass(frozen=True)
class Cosines:
    """Similarity of content.

    Attributes:
        dots: (B, C, L) float32, whole numbers: cosines in units of 1 / GRID**2.
        known: (B, C, L) bool: both have content.
    """

    dots: Tensor
    known: Tensor


class _AttributeSearch(nn.Module):
    """Hard search (SIM, Pi et al. 2020): behaviors that share values of an item field with the candidate.

    Args:
        codes: (items, values) indices of the field; padding and unknown match nothing.
    """

    codes: Tensor

    def __init__(self, codes: npt.NDArray[Any]) -> None:
        super().__init__()
        wide = np.sort(codes.astype(np.int32) if codes.ndim == 2 else codes.astype(np.int32)[:, None], axis=1)
        wide[:, 1:][wide[:, 1:] == wide[:, :-1]] = PADDING  # a value that an item holds twice counts once
        self.register_buffer("codes", torch.from_numpy(wide), persistent=False)

    def compare(self, candidates: Tensor, behaviors: Tensor) -> Tensor:
        """Count the values shared by candidates (B, C) and behaviors (B, L): (B, C, L); 0 means no match."""
        wanted, held = self.codes[candidates], self.codes[behaviors][:, None]  # (B, C, V), (B, 1, L, V)
        shared = torch.zeros((*candidates.shape, behaviors.shape[1]), device=candidates.device)
        for value in wanted.unbind(dim=-1):
            shared += ((held == value[..., None, None]).any(dim=-1)) & (value >= FIRST)[..., None]
        return shared


class _HashSearch(nn.Module):
    """SimHash search (ETA, Chen et al. 2021): signs of fixed random projections, by Hamming distance.

    The directions are drawn once and saved with the weights, so training and serving hash alike.
    """

    directions: Tensor

    def __init__(self, width: int, bits: int = 64) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(width, bits))

    def compare(self, candidates: Tensor, behaviors: Tensor) -> Tensor:
        """Equal minus different bits of candidates (B, C, D) and behaviors (B, L, D): (B, C, L)."""
        with torch.no_grad():
            return dots(self._signs(candidates), self._signs(behaviors))

    def _signs(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (x.to(self.directions.dtype) @ self.directions > 0).float() * 2 - 1


class _LearnedSearch(nn.Module):
    """Soft search (SIM): the product of learned projections of candidate and behavior.

    The choice of behaviors has no gradient. A model trains the projections by adding the relevance to logits.
    """

    def __init__(self, width: int, out: int = 16) -> None:
        super().__init__()
        self.candidate = nn.Linear(width, out, bias=False)
        self.behavior = nn.Linear(width, out, bias=False)
        self.scale = out**-0.5

    def forward(self, candidates: Tensor, behaviors: Tensor) -> Tensor:
        """Relevance (B, C, L) of behaviors (B, L, D) for candidates (B, C, D)."""
        return self.candidate(candidates) * self.scale @ self.behavior(behaviors).transpose(1, 2)


@dataclass(frozen=True)
class SearchResult:
    """Behaviors retrieved for each candidate.

    Attributes:
        columns: (B, C, K) int64, columns of the timeline, ascending.
        mask: (B, C, K) bool, False in the first places where fewer than K were found.
        relevance: (B, C, K) of a learned search, which the model has to let enter the score; else None.
    """

    columns: Tensor
    mask: Tensor
    relevance: Tensor | None = None


@dataclass(frozen=True)
class ItemTokens:
    """Items and what the model makes of them: (B, n) and (B, n, width)."""

    items: Tensor
    tokens: Tensor


class SearchUnit(nn.Module):
    """Finds the ``kept`` most similar of the behaviors that each candidate sees.

    Args:
        kind: by content cosine, by shared values of an item field, by learned projections of the item tokens,
            or by their hashes.
        width: of an item token.
        codes: (items,) or (items, values) indices of the field that ``field`` compares.
    """

    def __init__(
        self, kind: SearchKind, kept: int, width: int, codes: npt.NDArray[Any] | None = None
    ) -> None:
        super().__init__()
        self.kind, self.kept = kind, kept
        self.field = _AttributeSearch(codes) if kind == "field" and codes is not None else None
        self.learned = _LearnedSearch(width) if kind == "learned" else None
        self.hash = _HashSearch(width) if kind == "hash" else None

    def forward(
        self, candidates: ItemTokens, behaviors: ItemTokens, seen: Tensor, cosines: Cosines | None
    ) -> SearchResult:
        """Search.

        Args:
            candidates, behaviors: C and L per row.
            seen: (B, C or 1, L) bool.
            cosines: of the two, for kind ``content``.
        """
        if self.learned is not None:
            relevance = self.learned(candidates.tokens, behaviors.tokens)  # (B, C, L)
            columns, mask = top_behaviors(ranked(relevance), seen, self.kept)
            return SearchResult(columns, mask, relevance.gather(-1, columns))
        if self.hash is not None:
            similarity = self.hash.compare(candidates.tokens, behaviors.tokens)
        elif self.field is not None:
            similarity = self.field.compare(candidates.items, behaviors.items)
            seen = seen & (similarity > 0)  # a behavior that shares no value is not retrieved at all
        else:
            assert cosines is not None, "a search by content is given the cosines"
            similarity, seen = cosines.dots, seen & cosines.known
        return SearchResult(*top_behaviors(similarity, seen, self.kept))


# --- histograms

# (cosine + 1) * tiers, in units of 1 / GRID**2, must stay below 2**31.
MOST_TIERS = 64


def similarity_tiers(dots: Tensor, counted: Tensor, tiers: int) -> Tensor:
    """Histograms of similarities over ``tiers`` equal parts of [-1, 1], as log(1 + count).

    ``counted`` leaves out padding and items without content: their cosine of 0 would pile up in one tier.

    Args:
        dots: (..., L) products of grid vectors, cosines in units of 1 / GRID**2.
        counted: (..., L) bool.
        tiers: at most `MOST_TIERS`; tier t holds the cosines from 2 t / tiers - 1 up to the next tier.

    Returns:
        (..., tiers) float32.
    """
    whole = dots.to(torch.int32)  # exact, so that a cosine on a border has one tier everywhere
    tier = torch.div((whole + GRID**2) * tiers, 2 * GRID**2, rounding_mode="floor").clamp(0, tiers - 1)
    counts = torch.zeros((*dots.shape[:-1], tiers), device=dots.device)
    counts.scatter_add_(-1, tier.long(), counted.expand(dots.shape).float())  # (..., tiers)
    return counts.log1p()
