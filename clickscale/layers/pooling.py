"""Running sums over behaviors, and the means that come from them."""

import torch
from torch import Tensor
from torch.nn import functional


def running_sum(x: Tensor, start: Tensor | None = None) -> Tensor:
    """(B, L, D) -> (B, L + 1, D): entry i is the sum of the first i columns, plus ``start`` (B, 1, D)."""
    # Entry 0 is the sum before the first column, zero or ``start``: an empty range is no special case.
    if start is None:
        return functional.pad(x, (0, 0, 1, 0)).cumsum(dim=1)  # (B, L + 1, D)
    return torch.cat([start, x], dim=1).cumsum(dim=1)  # (B, L + 1, D)


def sum_between(running: Tensor, oldest: Tensor, visible: Tensor) -> Tensor:
    """Sum of the columns ``oldest <= column < visible`` of each candidate.

    Args:
        running: (B, L + 1, D) from `running_sum`.
        oldest, visible: (B, C) int64.

    Returns:
        (B, C, D).
    """
    # A candidate's behaviors are neighbors in the timeline, so the sum over any number of them is one
    # difference. Both bounds index running sums directly: entry i holds the first i columns.
    width = running.shape[2]
    upper = running.gather(1, visible[..., None].expand(-1, -1, width))  # (B, C, D)
    lower = running.gather(1, oldest[..., None].expand(-1, -1, width))  # (B, C, D)
    return upper - lower
