"""``gain * x / (rms(x) + eps)`` and its gradients, for norms and for kernels that hold one."""

from typing import NamedTuple

import torch
from torch import Tensor

_TINY = 1e-30  # a zero row has rms 0; its gradient is divided by this instead, and stays finite


class Scaled(NamedTuple):
    """Rows x over their root mean square, and what the gradients need.

    Attributes:
        unit: (..., D), x times ``scale``, before the gain.
        rms, scale: (..., 1), the root mean square of x and ``1 / (rms + eps)``.
    """

    unit: Tensor
    rms: Tensor
    scale: Tensor


def scale_by_rms(x: Tensor, eps: float) -> Scaled:
    """Divide rows x (..., D) by their root mean square plus ``eps``."""
    rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)  # (..., 1)
    scale = (rms + eps).reciprocal_()
    return Scaled(x * scale, rms, scale)


def rms_gradients(grad: Tensor, gain: Tensor, scaled: Scaled) -> tuple[Tensor, Tensor]:
    """Gradients of x (..., D) and of the gain (D,), for the gradient (..., D) of ``unit * gain``."""
    unit, rms, scale = scaled
    width = unit.shape[-1]
    product = grad * unit
    along = (product @ gain)[..., None]  # (..., 1), the gradient along x
    # d rms / dx = x / (D rms): what a change of x's length does through the scale.
    bend = along.div_((scale * rms.clamp(min=_TINY)).mul_(width))
    by_x = (grad * gain).addcmul_(unit, bend, value=-1).mul_(scale)
    return by_x, product.view(-1, width).sum(dim=0)
