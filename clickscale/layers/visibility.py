"""What each candidate sees of its row's timeline, and how columns of the timeline are picked for it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import CandidateSide, sees_columns


@dataclass(frozen=True)
class Picked:
    """Behaviors picked for each candidate; a row is a candidate, R = B * C.

    Attributes:
        columns: (B, C, K) of the timeline.
        items: (R, K), 0 where nothing was picked.
        seconds, distance: (R, K), how long and how many behaviors before the candidate.
    """

    columns: Tensor
    items: Tensor
    seconds: Tensor
    distance: Tensor

    @property
    def mask(self) -> Tensor:
        """(R, K) bool."""
        return self.items > 0


@dataclass(frozen=True)
class Sight:
    """Candidates over the timeline of their row.

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
    def of(cls, candidates: CandidateSide, items: Tensor, times: Tensor) -> "Sight":
        """Sight of candidates over rows of behaviors (B, L)."""
        moments = [candidates.oldest, candidates.visible, candidates.times]
        alike = [((x == x[:, :1]) | ~candidates.mask).all() for x in moments]
        if bool(torch.stack(alike).all()):
            moments = [x[:, :1] for x in moments]
        oldest, visible, moment = moments
        seen = sees_columns(oldest, visible, items > 0)
        return cls(candidates, items, times, oldest, visible, moment, seen)

    def newest(self, count: int) -> Tensor:
        """(B, C', L) bool: what is seen of the last ``count`` columns before the moment."""
        column = torch.arange(self.items.shape[1], device=self.seen.device)
        return self.seen & (column >= self.visible[..., None] - count)

    def window(self, count: int) -> Picked:
        """The last min(count, L) columns before each candidate."""
        width = min(count, self.items.shape[1])
        column = self.candidates.visible[..., None] + torch.arange(-width, 0, device=self.seen.device)
        return self.pick(column.clamp(min=0), column >= self.candidates.oldest[..., None].clamp(min=0))

    def pick(self, columns: Tensor, mask: Tensor) -> Picked:
        """Columns (B, C, K) of each candidate, of which only those in the mask count."""
        flat = columns.flatten(0, 1)
        return Picked(
            columns,
            take_columns(self.items, columns) * mask.flatten(0, 1),
            self.candidates.times.flatten()[:, None] - take_columns(self.times, columns),
            self.candidates.visible.flatten()[:, None] - flat,
        )


def take_columns(x: Tensor, columns: Tensor) -> Tensor:
    """Columns (B, C, K) of rows x (B, L, ...), for each candidate: (B * C, K, ...)."""
    begin = torch.arange(len(x), device=x.device)[:, None, None] * x.shape[1]
    flat = (columns + begin).flatten(0, 1)
    if not flat.numel():
        return x.new_zeros((*flat.shape, *x.shape[2:]))
    return x.reshape(-1)[flat] if x.dim() == 2 else functional.embedding(flat, x.flatten(0, 1))


def first_column(seen: Tensor) -> int:
    """First of the columns (..., L) that anybody sees; L if nobody sees any."""
    used = seen.flatten(0, -2).any(dim=0)
    return int(used.int().argmax()) if bool(used.any()) else seen.shape[-1]
