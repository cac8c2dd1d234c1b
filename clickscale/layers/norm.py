"""Normalization over the last dimension."""

from typing import Any

import torch
from torch import Tensor, nn

from clickscale.layers.kernels.rms_scaling import Scaled, rms_gradients, scale_by_rms


class _ScaleByRMS(torch.autograd.Function):
    """``gain * x / (rms(x) + eps)`` with its gradient written out.

    As plain operations the gradient takes more than twice the time: each of five steps passes over a tensor
    of the size of x again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        scaled = scale_by_rms(x, eps)
        ctx.eps = eps
        ctx.save_for_backward(gain, *scaled)
        return scaled.unit * gain

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        gain, unit, size = ctx.saved_tensors
        rows = Scaled(unit.reshape(-1, len(gain)), size.reshape(-1, 1))
        by_x, by_gain = rms_gradients(grads[0].reshape(rows.unit.shape), gain, rows, ctx.eps)
        return by_x.view(unit.shape), by_gain, None


class RMSNorm(nn.Module):
    """``gain * x / (rms(x) + eps)`` (Zhang and Sennrich 2019), eps outside the root.

    A zero row stays zero, and its gradient is finite.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), in the wider type of x and gain."""
        # Rows of a half-precision product are normalized in single precision, as gain is.
        x = x.to(torch.promote_types(x.dtype, self.gain.dtype))
        gain = self.gain.to(x.dtype)
        normalized: Tensor = _ScaleByRMS.apply(x, gain, self.eps)  # type: ignore[no-untyped-call]
        return normalized
