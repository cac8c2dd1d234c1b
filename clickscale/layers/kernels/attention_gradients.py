"""Attention with gradients written by hand: few large operations for `clickscale.layers.attention`.

A small training step is bound by the number of operations and not by their size. In ordinary operations the
scale, the bias and the mask of attention each make a tensor of all pairs, forward and backward. Here the bias
is what the products are added to, the scale is a factor of the product, and one softmax is all that is kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Attend(torch.autograd.Function):
    """`clickscale.layers.attention.attend`, with the gradients of a softmax between two products."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
        """See the class."""
        weights = _products(query, key, bias, scale).softmax(dim=-1)  # (B H, Q, L)
        ctx.scale, ctx.bias_shape = scale, bias.shape
        ctx.save_for_backward(query, key, value, weights)
        return torch.bmm(weights, value.flatten(0, 1)).view(query.shape)  # (B, H, Q, D / H)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, weights = ctx.saved_tensors
        flat = grad.flatten(0, 1)  # (B H, Q, D / H)
        dvalue = torch.bmm(weights.transpose(1, 2), flat).view(value.shape)  # (B, H, L, D / H)
        dlogits = torch.bmm(flat, value.flatten(0, 1).transpose(1, 2))  # (B H, Q, L)
        # One fused pass for dlogits = weights (dweights - sum of weights dweights).
        dlogits = torch._softmax_backward_data(dlogits, weights, -1, weights.dtype)
        dbias = _sum_to(dlogits, query.shape[:2], ctx.bias_shape)
        dquery = torch.bmm(dlogits, key.flatten(0, 1)).mul_(ctx.scale).view(query.shape)  # (B, H, Q, D / H)
        # The scale multiplies (B, H, L, D / H), not the larger tensor of pairs.
        dkey = torch.bmm(dlogits.transpose(1, 2), query.flatten(0, 1)).mul_(ctx.scale).view(key.shape)
        return dquery, dkey, dvalue, dbias, None


class AttendWithItself(torch.autograd.Function):
    """`clickscale.layers.attention.attend_with_itself`; the own logit is the last column of one softmax."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        own_key: Tensor,
        own_value: Tensor,
        bias: Tensor,
        own: Tensor,
        scale: float,
    ) -> Tensor:
        """See the class."""
        itself = (query * own_key).sum(dim=-1, keepdim=True)  # (B, H, C, 1)
        itself = itself.mul_(scale).add_(own[:, None, None]).flatten(0, 1)  # (B H, C, 1)
        logits = torch.cat([_products(query, key, bias, scale), itself], dim=-1)  # (B H, C, L + 1)
        weights = logits.softmax(dim=-1)  # a softmax in place takes longer than one into fresh memory
        out = torch.bmm(weights[..., :-1], value.flatten(0, 1)).view(query.shape)  # (B, H, C, D / H)
        ctx.scale, ctx.shapes = scale, (bias.shape, own.shape)
        ctx.save_for_backward(query, key, value, own_key, own_value, weights)
        return out.addcmul_(weights[..., -1:].view(*query.shape[:3], 1), own_value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, own_key, own_value, weights = ctx.saved_tensors
        (bias_shape, own_shape), scale = ctx.shapes, ctx.scale
        flat = grad.flatten(0, 1)  # (B H, C, D / H)
        dvalue = torch.bmm(weights[..., :-1].transpose(1, 2), flat).view(value.shape)  # (B, H, L, D / H)
        d_own_value = grad * weights[..., -1:].view(*query.shape[:3], 1)  # (B, H, C, D / H)
        ditself = (grad * own_value).sum(dim=-1, keepdim=True).flatten(0, 1)  # (B H, C, 1)
        dseen = torch.bmm(flat, value.flatten(0, 1).transpose(1, 2))  # (B H, C, L)
        dlogits = torch.cat([dseen, ditself], dim=-1)  # (B H, C, L + 1)
        dlogits = torch._softmax_backward_data(dlogits, weights, -1, weights.dtype)  # (B H, C, L + 1)
        seen, itself = dlogits[..., :-1], dlogits[..., -1:]
        dbias = _sum_to(seen, query.shape[:2], bias_shape)
        split = itself.view(*query.shape[:3], 1)  # (B, H, C, 1)
        d_own = split.sum(dim=(0, 2, 3))  # (H,)
        itself = split * scale
        dquery = torch.bmm(seen, key.flatten(0, 1)).mul_(scale).view(query.shape).addcmul_(itself, own_key)
        dkey = torch.bmm(seen.transpose(1, 2), query.flatten(0, 1)).mul_(scale).view(key.shape)
        return (
            dquery,
            dkey,
            dvalue,
            query * itself,
            d_own_value,
            dbias,
            d_own if own_shape[0] > 1 else d_own.sum(dim=0, keepdim=True),
            None,
        )


def _products(query: Tensor, key: Tensor, bias: Tensor, scale: float) -> Tensor:
    """(B H, Q, L) logits in one operation: the bias, to which the scaled products are added."""
    # Two heads may share the bias, so it is copied, once, into what the products are added to.
    logits = query.new_empty(*query.shape[:3], key.shape[2]).copy_(bias).flatten(0, 1)  # (B H, Q, L)
    return logits.baddbmm_(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)


def _sum_to(grad: Tensor, batch_and_heads: torch.Size, shape: torch.Size) -> Tensor:
    """Gradient (B H, Q, L) of a bias that had ``shape``: heads, and queries, may have shared it."""
    grad = grad.view(*batch_and_heads, *grad.shape[1:])  # (B, H, Q, L)
    shared = [axis for axis in (1, 2) if shape[axis] != grad.shape[axis]]
    return grad.sum(dim=shared, keepdim=True) if shared else grad
