"""Softmax attention with an additive bias: over a sequence, and of candidates over it and themselves.

What both functions compute, per head::

    logits = scale * query @ key.T + bias        # -inf where a pair is masked
    output = softmax(logits) @ value             # candidates: one more column, the candidate itself

`attend` and `attend_with_itself` write this with few large operations and gradients of their own, because a
small training step is bound by the number of operations and not by their size. ``plain_attend`` and
``plain_attend_with_itself`` are the same formulas in ordinary operations; they run under autocast, which
chooses the precision of every operation by itself.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Pattern:
    """Which behaviors a position sees: those less than ``k`` positions back, and every ``r``-th one.

    A position at distance ``i - j >= 0`` from a behavior sees it iff ``i - j < k`` or ``(i - j) mod r == 0``
    (Lai et al. 2025, section 3.4.1). Distances count back from the position, so padding and appended
    behaviors change nothing for the others. ``r = 1`` is full attention.
    """

    k: int = 1
    r: int = 1

    @property
    def full(self) -> bool:
        """Whether every earlier behavior is seen."""
        return self.r == 1

    def allows(self, distance: Tensor) -> Tensor:
        """Distances (...) int64 -> bool; later behaviors (negative distances) are never seen."""
        if self.full:
            return distance >= 0
        return (distance >= 0) & ((distance < self.k) | (distance % self.r == 0))

    def columns(self, length: int, device: torch.device) -> Tensor:
        """Columns (M,) int64, ascending, that the position right after ``length`` behaviors sees."""
        column = torch.arange(length, device=device)
        return column if self.full else column[self.allows(length - column)]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, D / H)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)  # (B, H, N, D / H)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D / H) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(-2)  # (B, N, D)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Attention of every query over all keys that the bias does not mask.

    Args:
        query: (B, H, Q, D / H).
        key, value: (B, H, L, D / H).
        bias: (B, 1 or H, Q, L) additive, -inf where masked; every query needs one key that is not.
        scale: factor of the products.

    Returns:
        (B, H, Q, D / H).
    """
    if torch.is_autocast_enabled(query.device.type):
        return plain_attend(query, key, value, bias, scale)
    out: Tensor = _Attend.apply(query, key, value, bias, scale)  # type: ignore[no-untyped-call]
    return out


def plain_attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """`attend` in ordinary operations; without a bias every key is seen."""
    logits = (query * scale) @ key.transpose(-1, -2)  # (B, H, Q, L)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ value


def attend_with_itself(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    bias: Tensor,
    own: Tensor,
    scale: float,
) -> Tensor:
    """Attention of candidates: each sees the unmasked behaviors and itself, never another candidate.

    Args:
        query, own_key, own_value: (B, H, C, D / H) of the candidates.
        key, value: (B, H, L, D / H) of the behaviors.
        bias: (B, 1 or H, C or 1, L) additive, -inf where masked; all of a row may be.
        own: (1 or H,) bias of a candidate towards itself.
        scale: factor of the products.

    Returns:
        (B, H, C, D / H).
    """
    given = query, key, value, own_key, own_value, bias, own
    if torch.is_autocast_enabled(query.device.type):
        return plain_attend_with_itself(*given, scale)
    out: Tensor = _AttendWithItself.apply(*given, scale)  # type: ignore[no-untyped-call]
    return out


def plain_attend_with_itself(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    bias: Tensor,
    own: Tensor,
    scale: float,
) -> Tensor:
    """`attend_with_itself` in ordinary operations."""
    query = query * scale
    logits = query @ key.transpose(-1, -2) + bias  # (B, H, C, L)
    itself = (query * own_key).sum(dim=-1, keepdim=True) + own[:, None, None]  # (B, H, C, 1)
    weights = torch.cat([logits, itself], dim=-1).softmax(dim=-1)  # (B, H, C, L + 1)
    return weights[..., :-1] @ value + weights[..., -1:] * own_value


class _Attend(torch.autograd.Function):
    """`attend`, with the gradients of a softmax between two products."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
        """See `attend`."""
        weights = _products(query, key, bias, scale).softmax(dim=-1)  # (B H, Q, L)
        ctx.scale, ctx.bias_shape = scale, bias.shape
        ctx.save_for_backward(query, key, value, weights)
        return torch.bmm(weights, value.flatten(0, 1)).view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """By ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, weights = ctx.saved_tensors
        flat = grad.flatten(0, 1)  # (B H, Q, D / H)
        dvalue = torch.bmm(weights.transpose(1, 2), flat).view(value.shape)
        dlogits = torch.bmm(flat, value.flatten(0, 1).transpose(1, 2))  # (B H, Q, L)
        dlogits = torch._softmax_backward_data(dlogits, weights, -1, weights.dtype)
        dbias = _sum_to(dlogits, query.shape[:2], ctx.bias_shape)
        dquery = torch.bmm(dlogits, key.flatten(0, 1)).mul_(ctx.scale).view(query.shape)
        dkey = torch.bmm(dlogits.transpose(1, 2), query.flatten(0, 1)).mul_(ctx.scale).view(key.shape)
        return dquery, dkey, dvalue, dbias, None


class _AttendWithItself(torch.autograd.Function):
    """`attend_with_itself`; the candidate's own logit is the last column of one softmax."""

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
        """See `attend_with_itself`."""
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
        """By ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, own_key, own_value, weights = ctx.saved_tensors
        (bias_shape, own_shape), scale = ctx.shapes, ctx.scale
        flat = grad.flatten(0, 1)  # (B H, C, D / H)
        dvalue = torch.bmm(weights[..., :-1].transpose(1, 2), flat).view(value.shape)
        d_own_value = grad * weights[..., -1:].view(*query.shape[:3], 1)
        ditself = (grad * own_value).sum(dim=-1, keepdim=True).flatten(0, 1)  # (B H, C, 1)
        dlogits = torch.cat([torch.bmm(flat, value.flatten(0, 1).transpose(1, 2)), ditself], dim=-1)
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
    shape = (*query.shape[:3], key.shape[2])
    added = bias.to(query.dtype).expand(shape).flatten(0, 1)  # (B H, Q, L)
    return torch.baddbmm(added, query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), alpha=scale)


def _sum_to(grad: Tensor, batch_and_heads: torch.Size, shape: torch.Size) -> Tensor:
    """Gradient (B H, Q, L) of a bias that had ``shape``: heads, and queries, may have shared it."""
    grad = grad.view(*batch_and_heads, *grad.shape[1:])  # (B, H, Q, L)
    shared = [axis for axis in (1, 2) if shape[axis] != grad.shape[axis]]
    return grad.sum(dim=shared, keepdim=True) if shared else grad
