"""Attention by a small network over pairs of candidate and behavior, as a training batch needs it.

The network (Zhou et al. 2018) maps a behavior k, seen from a candidate q, to units
``(product * q + key) k + own``, sends them through Dice, and sums them by ``out``. The gate of Dice is
``sigmoid(rate * (unit - center))``. Center and rate of each unit are learned, or, as in the paper, are mean
and inverse deviation of the unit over the real pairs of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-8  # added to a variance
_PIECE = 1 << 17  # numbers of a piece of pairs; some four such pieces share the cache of one core


class Layers(NamedTuple):
    """Weights of the attention network: maps to its units (hidden, D), then four numbers of each unit."""

    product: Tensor
    key: Tensor
    alpha: Tensor
    out: Tensor
    center: Tensor
    rate: Tensor


class TrainedAttention(torch.autograd.Function):
    """See the module docstring.

    Written out because each pair has ``hidden`` units: as separate operations, some thirty passes over them
    through main memory cost more than the products. Here a piece of the batch takes all its passes while it
    is in the cache, and only the units before Dice are kept for the backward pass.

    ``forward(measured, query (B, C, D), own (B, C, hidden), tokens (B, L, D), seen (B, C * L) of 0 and 1,
    *Layers)`` gives weights (B, C * L), without bias and not masked, and mean and variance (hidden,) of the
    units if ``measured``, which then stand for center and rate; else zeros. The gradient of the weights is
    taken where ``seen`` is 1. All float32.
    """

    @staticmethod
    def forward(
        ctx: Any, measured: bool, query: Tensor, own: Tensor, tokens: Tensor, seen: Tensor, *layers: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        product, key, alpha, out, center, rate = layers
        tokens = tokens.contiguous()
        hidden, pairs = len(alpha), seen.shape[1]
        units, weights = query.new_empty(len(query), hidden, pairs), torch.empty_like(seen)
        sums = query.new_zeros(2, hidden)
        pieces = _pieces(units)
        scratch, maps = units.new_empty(units[pieces[0]].shape), _empty_maps(query[pieces[0]], hidden)
        for rows in pieces:
            x = units[rows]
            grid = x.view(len(x), -1, tokens.shape[1])  # (b, hidden * C, L)
            map_of_unit = torch.addcmul(key[:, None], query[rows, None], product[:, None], out=maps[: len(x)])
            torch.bmm(map_of_unit.flatten(1, 2), tokens[rows].transpose(1, 2), out=grid)  # (b, hidden * C, L)
            grid += own[rows].transpose(1, 2).reshape(len(x), -1, 1)  # (b, hidden * C, 1) to every behavior
            if measured:
                real = torch.mul(x, seen[rows, None], out=scratch[: len(x)])
                sums[0] += real.sum((0, 2))
                sums[1] += real.mul_(x).sum((0, 2))
            else:
                weights[rows] = _weights(x, alpha, out, center, rate, scratch)
        count = seen.sum().clamp(min=1)
        mean, square = sums / count
        variance = (square - mean.square()).clamp_(min=0)
        if measured:
            center, rate = mean, (variance + EPS).rsqrt()
            for rows in pieces:
                weights[rows] = _weights(units[rows], alpha, out, center, rate, scratch)
        ctx.measured = measured
        ctx.save_for_backward(query, tokens, seen, product, key, alpha, out, units, center, rate, count)
        ctx.mark_non_differentiable(mean, variance)
        return weights, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients: with gate g of x, ``dy/dx = alpha + (1 - alpha) (g + rate x g (1 - g))``.

        What is measured depends on all units: batch norm's rest, a line in x, is added then.
        """
        query, tokens, seen, product, key, alpha, out, units, center, rate, count = ctx.saved_tensors
        grad = gradients[0] * seen
        bend = out * (1 - alpha)
        by_x, by_gated, by_slope, by_slope_x = _pair_sums(units, grad, center, rate)
        by_shift, by_rate = bend * by_slope, bend * (by_slope_x - center * by_slope)
        linear = -rate.pow(3) * by_rate / count
        constant = -rate * by_shift / count - linear * center
        inputs = query, tokens, product, key
        gradients_of_inputs = tuple(map(torch.zeros_like, inputs))
        own = query.new_empty(len(query), query.shape[1], len(alpha))
        pieces = _pieces(units)
        gates, slopes = (units.new_empty(units[pieces[0]].shape) for _ in range(2))
        maps = _empty_maps(query[pieces[0]], len(alpha)), _empty_maps(query[pieces[0]], len(alpha))
        for rows in pieces:
            x, weight = units[rows], grad[rows, None]
            gate = _gate(x, center, rate, gates)
            slope = torch.mul(x, gate, out=slopes[: len(x)])
            slope.addcmul_(slope, gate, value=-1).mul_(
                _column(bend * rate)
            )  # (1 - alpha) out rate x g (1 - g)
            gate.mul_(_column(bend)).add_(slope).add_(_column(out * alpha)).mul_(weight)
            if ctx.measured:
                rest = torch.mul(x, _column(linear), out=slope).add_(_column(constant))
                gate.addcmul_(rest, seen[rows, None])
            # What was the gate is now the gradient of the units.
            own[rows] = _grid(gate, tokens).sum(2).view(len(x), len(alpha), -1).transpose(1, 2)
            _product_gradients(_grid(gate, tokens), rows, inputs, gradients_of_inputs, maps)
        dquery, dtokens, dproduct, dkey = gradients_of_inputs
        dalpha, dout = out * (by_x - by_gated), alpha * by_x + (1 - alpha) * by_gated
        learned = (None, None) if ctx.measured else (-rate * by_shift, by_rate)
        return None, dquery, own, dtokens, None, dproduct, dkey, dalpha, dout, *learned


def _pieces(units: Tensor) -> list[slice]:
    """Rows that are worked on together; all of them on an accelerator, which has no large cache."""
    fitting = _PIECE // max(units[0].numel(), 1) if units.device.type == "cpu" else len(units)
    step = min(max(fitting, 1), len(units))
    return [slice(first, first + step) for first in range(0, len(units), step)]


def _column(values: Tensor) -> Tensor:
    """One value per unit, to be spread over the pairs of (b, hidden, pairs)."""
    return values[:, None]  # (hidden, 1)


def _grid(units: Tensor, tokens: Tensor) -> Tensor:
    """Units (b, hidden, C * L) as (b, hidden * C, L)."""
    return units.view(len(units), -1, tokens.shape[1])  # (b, hidden * C, L)


def _empty_maps(query: Tensor, hidden: int) -> Tensor:
    """Room for what turns a behavior into units, for each candidate: (b, hidden, C, D)."""
    return query.new_empty(len(query), hidden, *query.shape[1:])


def _gate(x: Tensor, center: Tensor, rate: Tensor, room: Tensor) -> Tensor:
    """The gate of units (b, hidden, pairs), written into ``room``."""
    scaled = torch.mul(x, _column(rate), out=room[: len(x)])
    return scaled.sub_(_column(center * rate)).sigmoid_()


def _weights(x: Tensor, alpha: Tensor, out: Tensor, center: Tensor, rate: Tensor, room: Tensor) -> Tensor:
    """Weights (b, pairs) of units (b, hidden, pairs)."""
    gated = _gate(x, center, rate, room).mul_(x)
    return (alpha * out) @ x + ((1 - alpha) * out) @ gated


def _pair_sums(units: Tensor, grad: Tensor, center: Tensor, rate: Tensor) -> Tensor:
    """Sums (4, hidden) over pairs of ``grad`` (B, pairs) times x, x g, x g (1 - g) and x^2 g (1 - g)."""
    sums = units.new_zeros(4, units.shape[1])
    pieces = _pieces(units)
    gates, terms = (units.new_empty(units[pieces[0]].shape) for _ in range(2))
    for rows in pieces:
        x = units[rows]
        gate = _gate(x, center, rate, gates)
        term = torch.mul(x, grad[rows, None], out=terms[: len(x)])
        sums[0] += term.sum((0, 2))
        sums[1] += term.mul_(gate).sum((0, 2))
        sums[2] += term.addcmul_(term, gate, value=-1).sum((0, 2))
        sums[3] += term.mul_(x).sum((0, 2))
    return sums


def _product_gradients(
    grad: Tensor,
    rows: slice,
    inputs: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...],
    room: tuple[Tensor, Tensor],
) -> None:
    """Gradients of query, tokens, product and key from that of the units (b, hidden * C, L)."""
    query, tokens, product, key = inputs
    dquery, dtokens, dproduct, dkey = gradients
    first, second = (part[: len(grad)] for part in room)
    maps = torch.addcmul(key[:, None], query[rows, None], product[:, None], out=first)
    torch.bmm(grad.transpose(1, 2), maps.flatten(1, 2), out=dtokens[rows])  # (b, L, D)
    torch.bmm(grad, tokens[rows], out=maps.view(len(grad), -1, tokens.shape[2]))  # now their gradient
    dkey += maps.sum((0, 2))
    dproduct += torch.mul(maps, query[rows, None], out=second).sum((0, 2))
    torch.sum(maps.mul_(product[:, None]), 1, out=dquery[rows])  # (b, C, D)
