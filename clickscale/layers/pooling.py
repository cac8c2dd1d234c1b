"""Running sums over behaviors, and the means that come from them."""

import torch
from torch import Tensor
from torch.nn import functional


def running_sum(x: Tensor, start: Tensor | None = None) -> Tensor:
    """(B, L, D) -> (B, L + 1, D): entry i is the sum of the first i columns, plus ``start`` (B, 1, D)."""
    if start is None:
        return functional.pad(x, (0, 0, 1, 0)).cumsum(dim=1)
    return torch.cat([start, x], dim=1).cumsum(dim=1)


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
