"""Normalization over the last dimension."""

from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-30  # a zero row has rms 0; its gradient is divided by this instead, and stays finite


class _ScaleByRMS(torch.autograd.Function):
    """``gain * x / (rms(x) + eps)`` with its gradient written out.

    As plain operations the gradient takes more than twice the time: each of five steps passes over a tensor
    of the size of x again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5  # (..., 1)
        scale = (rms + eps).reciprocal()
        ctx.save_for_backward(x, gain, rms, scale)
        return (x * scale).mul_(gain)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        x, gain, rms, scale = ctx.saved_tensors
        width = x.shape[-1]
        product = (grad * x).reshape(-1, width)  # (rows, D)
        by_gain = (scale.reshape(1, -1) @ product).view(width)  # (D,)
        along = (product @ gain[:, None]).view(scale.shape)  # (..., 1), the gradient along x
        # d rms / dx = x / (D rms): what a change of x's length does through the scale.
        bend = along * scale.square() / (rms.clamp(min=_TINY) * width)
        return (grad * gain).mul_(scale).sub_(x * bend), by_gain, None


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
