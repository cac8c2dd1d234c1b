"""A hidden layer of the head (linear, RMS norm, Dice) in few operations, its gradient written by hand."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clickscale.layers.kernels.products import (
    first_rows,
    input_gradient,
    product,
    rows_with_room,
    weight_gradient,
    with_room,
)
from clickscale.layers.kernels.rms_scaling import Scaled, rms_gradients, scale_by_rms


class HiddenLayer(torch.autograd.Function):
    """``z (p + (1 - p) alpha)`` with ``p = sigmoid(z)`` and ``z = gain * rms_norm(x weight + bias)``.

    ``forward(x (N, K), weight (M, K), bias (M,), gain (M,), alpha (M,), eps)`` gives units (N, M).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, alpha: Tensor, eps: float
    ) -> Tensor:
        """See the class."""
        room = with_room(x, weight.numel())
        scaled = scale_by_rms(first_rows(product(room, weight), len(x)).add_(bias), eps)
        units = scaled.unit * gain
        gate = units.sigmoid()
        slope = torch.addcmul(gate, 1 - gate, alpha)
        ctx.eps = eps
        ctx.save_for_backward(room, weight, gain, alpha, units, gate, slope, *scaled)
        return units * slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        x, weight, gain, alpha, units, gate, slope, *scaled = ctx.saved_tensors
        through = (grad * units).mul_(1 - gate)  # what the gate hands on, but for its own height
        dalpha = through.sum(dim=0)
        dunits = through.mul_(gate).mul_(1 - alpha).addcmul_(grad, slope)
        room = rows_with_room(grad, len(grad), grad.shape[1], weight.numel())
        made = first_rows(room, len(grad))
        _, dgain = rms_gradients(dunits, gain, Scaled(*scaled), ctx.eps, out=made)
        dx = first_rows(input_gradient(room, weight), len(grad)) if ctx.needs_input_grad[0] else None
        return dx, weight_gradient(room, x), made.sum(dim=0), dgain, dalpha, None
