"""A hidden layer of the head (linear, RMS norm, Dice) in few operations, its gradient written by hand."""

from typing import Any

import torch
from torch import Tensor, nn
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


def through_tower(tower: nn.Sequential, x: Tensor) -> Tensor:
    """Logits (N, T) of features x (N, K) by hidden layers of three modules each, and a last linear one."""
    layers: list[Any] = list(tower)
    for linear, norm, dice in zip(layers[0:-1:3], layers[1:-1:3], layers[2:-1:3], strict=True):
        weights = linear.weight, linear.bias, norm.gain, dice.alpha
        x = HiddenLayer.apply(x, *weights, norm.eps)  # type: ignore[no-untyped-call]
    logits: Tensor = layers[-1](x)
    return logits
