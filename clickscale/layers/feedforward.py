"""Feed-forward layers of transformer blocks."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(nn.Module):
    """``(SiLU(x Wa) * x Wb) Wc`` without biases (Shazeer 2020; Lai et al. 2025, eq. 16: hidden width 3D).

    It has three matrices, so at two thirds of the hidden width it has as many weights as `ReLUFeedForward`.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * hidden, bias=False)  # Wa and Wb in one product
        self.leave = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate, value = self.enter(x).chunk(2, dim=-1)  # (..., hidden) each, views of one product
        return self.leave(functional.silu(gate) * value)


class ReLUFeedForward(nn.Module):
    """``ReLU(x Wa) Wb`` without biases, of the same size as a SwiGLU with two thirds of its hidden width."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden, bias=False)
        self.leave = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.leave(torch.relu(self.enter(x)))
