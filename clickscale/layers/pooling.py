"""Sums over the behaviors that each candidate sees, from one running sum per row."""

import torch
from torch import Tensor


def running_sum(x: Tensor, start: Tensor | None = None) -> Tensor:
    """(B, L, D) -> (B, L + 1, D): entry i is the sum of the first i columns, plus ``start`` (B, 1, D)."""
    begin = torch.zeros_like(x[:, :1]) if start is None else start
    if not x.shape[1]:
        return begin if start is not None else x.new_zeros((x.shape[0], 1, x.shape[2]))
    return torch.cat([begin, begin + x.cumsum(dim=1)], dim=1)


def sum_between(running: Tensor, oldest: Tensor, visible: Tensor) -> Tensor:
    """Sum of the columns ``oldest <= column < visible`` of each candidate.

    Args:
        running: (B, L + 1, D) from `running_sum`.
        oldest, visible: (B, C) int64.

    Returns:
        (B, C, D).
    """
    width = running.shape[2]
    upper = running.gather(1, visible[..., None].expand(-1, -1, width))
    lower = running.gather(1, oldest[..., None].expand(-1, -1, width))
    return upper - lower


class BehaviorMean:
    """Mean of what each behavior row sees; keeps the running sums, since candidates need them later.

    Args:
        mask: (B, L) bool, the rows that are behaviors.
        counts: (B, P + L + 1, 1) running count of behaviors, P earlier ones included.
        earlier: (B, P + 1, D) running sums of the earlier behaviors, or None.
        causal: each row sees itself and what is older; otherwise every row sees all.

    Attributes:
        sums: (B, P + L + 1, D) after the call.
    """

    def __init__(self, mask: Tensor, counts: Tensor, earlier: Tensor | None, causal: bool) -> None:
        self.mask, self.counts, self.causal = mask, counts, causal
        self.sums = earlier if earlier is not None else counts[:, :, :0]  # no gate: nothing to average

    def __call__(self, x: Tensor) -> Tensor:
        """Rows (B, L, D) -> the mean that each sees, (B, L or 1, D)."""
        begin = self.sums[:, -1:].to(x.dtype) if self.sums.shape[2] else None
        running = running_sum(x * self.mask[..., None], begin)  # (B, L + 1, D)
        self.sums = running if begin is None else torch.cat([self.sums[:, :-1].to(x.dtype), running], dim=1)
        new = x.shape[1]
        if self.causal:
            return running[:, 1:] / self.counts[:, -new:].clamp(min=1)
        return running[:, -1:] / self.counts[:, -1:].clamp(min=1)
