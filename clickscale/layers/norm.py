"""Normalization over the last dimension."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """``gain * x / (rms(x) + eps)`` (Zhang and Sennrich 2019), eps outside the root.

    The norm function is used for the root mean square since its gradient at a zero row is zero, not NaN.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.eps, self.root = eps, width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.root
        return x / (rms + self.eps) * self.gain
