"""The behaviors of its row's timeline that each candidate sees, and the selection of some of them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import CandidateSide, sees_columns


@dataclass(frozen=True)
class SelectedBehaviors:
    """K behaviors of the timeline for each candidate. A row is a candidate: R = B * C.

    Attributes:
        columns: (B, C, K) int64, columns of the timeline; an arbitrary one where the mask is False.
        mask: (B, C, K) bool, whether the place holds a behavior.
        items: (R, K), 0 where it does not.
        seconds, distance: (R, K), how long and how many behaviors before the candidate.
    """

    columns: Tensor
    mask: Tensor
    items: Tensor
    seconds: Tensor
    distance: Tensor

    @property
    def row_mask(self) -> Tensor:
        """(R, K) bool."""
        return self.mask.flatten(0, 1)  # (R, K)


@dataclass(frozen=True)
class Visibility:
    """The part of its row's timeline that each candidate of a batch sees.

    Where all candidates of each row share one moment, as in a request, it is held once: C' is 1, else C.

    Attributes:
        candidates: C per row.
        items, times: (B, L) of the behaviors.
        oldest, visible, moment: (B, C'), as ``oldest``, ``visible`` and ``times`` of `CandidateSide`.
        seen: (B, C', L) bool, the behaviors that each candidate sees.
    """

    candidates: CandidateSide
    items: Tensor
    times: Tensor
    oldest: Tensor
    visible: Tensor
    moment: Tensor
    seen: Tensor

    @classmethod
    def of(cls, candidates: CandidateSide, items: Tensor, times: Tensor) -> "Visibility":
        """Visibility of rows of behaviors (B, L) for their candidates."""
        moments = [candidates.oldest, candidates.visible, candidates.times]
        # Padding at the end of a row may hold anything; it must not make a row look as if it had two moments.
        alike = [((x == x[:, :1]) | ~candidates.mask).all() for x in moments]
        if bool(torch.stack(alike).all()):
            moments = [x[:, :1] for x in moments]
        oldest, visible, moment = moments
        seen = sees_columns(oldest, visible, items > 0)
        return cls(candidates, items, times, oldest, visible, moment, seen)

    def newest(self, count: int) -> Tensor:
        """(B, C', L) bool: the seen behaviors among the last ``count`` columns before the candidate."""
        column = torch.arange(self.items.shape[1], device=self.seen.device)
        return self.seen & (column >= self.visible[..., None] - count)  # (B, C', L)

    def window(self, count: int) -> SelectedBehaviors:
        """The last min(count, L) columns before each candidate."""
        width = min(count, self.items.shape[1])
        back = torch.arange(-width, 0, device=self.seen.device)  # (W,)
        column = self.candidates.visible[..., None] + back  # (B, C, W)
        oldest = self.candidates.oldest[..., None].clamp(min=0)  # (B, C, 1)
        return self.select(column.clamp(min=0), column >= oldest)

    def select(self, columns: Tensor, mask: Tensor) -> SelectedBehaviors:
        """Columns (B, C, K) of the timeline for each candidate, of which those in the mask count."""
        flat = columns.flatten(0, 1)  # (R, K)
        items = take_columns(self.items, columns) * mask.flatten(0, 1)  # (R, K)
        return SelectedBehaviors(
            columns,
            (items > 0).view(mask.shape),  # a column of padding is not a behavior either
            items,
            self.candidates.times.flatten()[:, None] - take_columns(self.times, columns),
            self.candidates.visible.flatten()[:, None] - flat,
        )


def take_columns(x: Tensor, columns: Tensor) -> Tensor:
    """Columns (B, C, K) of rows x (B, L, ...), for each candidate: (B * C, K, ...); zeros if L is 0."""
    begin = torch.arange(len(x), device=x.device)[:, None, None] * x.shape[1]  # (B, 1, 1), first row of each
    flat = (columns + begin).flatten(0, 1)  # (R, K), rows of x as one table of B * L
    if not (flat.numel() and x.shape[1]):
        return x.new_zeros((*flat.shape, *x.shape[2:]))
    if x.dim() == 2:
        return x.reshape(-1)[flat]  # (R, K)
    return functional.embedding(flat, x.flatten(0, 1))  # faster than indexing, forward and backward


def first_column(seen: Tensor) -> int:
    """First of the columns (..., L) that any candidate sees; L if none sees any."""
    used = seen.flatten(0, -2).any(dim=0)  # (L,)
    return int(used.int().argmax()) if bool(used.any()) else seen.shape[-1]
