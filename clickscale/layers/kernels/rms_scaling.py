"""``gain * x / (rms(x) + eps)`` and its gradients, for norms and for kernels that hold one."""

from typing import NamedTuple

import torch
from torch import Tensor

# A row whose rms is below this share of eps has the gradient of a zero row: what its length does is beyond
# the last digit.
_LEAST = 1e-6


class Scaled(NamedTuple):
    """Rows x over their root mean square, and what the gradients need.

    Attributes:
        unit: (..., D), x divided by ``size``, before the gain.
        size: (..., 1), the root mean square of x plus ``eps``.
    """

    unit: Tensor
    size: Tensor


def scale_by_rms(x: Tensor, eps: float) -> Scaled:
    """Divide rows x (..., D) by their root mean square plus ``eps``."""
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5).add_(eps)  # (..., 1)
    return Scaled(x / size, size)


def rms_gradients(
    grad: Tensor, gain: Tensor, scaled: Scaled, eps: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients of rows x (R, D) and of the gain (D,), for the gradient (R, D) of ``unit * gain``.

    The first is written into ``out`` if that is given.
    """
    unit, size = scaled
    product = grad * unit
    # d rms / dx = x / (D rms): what a change of x's length does through the size.
    along = torch.mm(product, gain[:, None])  # (R, 1), the gradient along x
    bend = along.div_((size - eps).clamp_(min=_LEAST * eps)).mul_(1 / len(gain))
    by_x = torch.mul(grad, gain, out=out).div_(size).addcmul_(unit, bend, value=-1)
    return by_x, product.sum(dim=0)
