"""Softmax attention with an additive bias: over a sequence, and of candidates over it and themselves.

What both functions compute, per head::

    logits = scale * query @ key.T + bias        # -inf where a pair is masked
    output = softmax(logits) @ value             # candidates: one more column, the candidate itself

`plain_attend` and `plain_attend_with_itself` are these formulas in ordinary operations; they run under
autocast, which chooses the precision of every operation by itself. `attend` and `attend_with_itself` give the
same numbers faster, with the operations of `clickscale.layers.kernels.attention_gradients`.
"""

import torch
from torch import Tensor

from clickscale.layers.kernels.attention_gradients import Attend, AttendWithItself
from clickscale.layers.kernels.products import is_mixed


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
    if is_mixed(query):
        return plain_attend(query, key, value, bias, scale)
    out: Tensor = Attend.apply(query, key, value, bias, scale)  # type: ignore[no-untyped-call]
    return out


def plain_attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """`attend` in ordinary operations; without a bias every key is seen."""
    logits = (query * scale) @ key.transpose(-1, -2)  # (B, H, Q, L)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ value


def attend_to_few(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """`attend` without a bias to few keys; a softmax over few neighbors in memory takes 20 times as long."""
    logits = (key * scale) @ query.transpose(-1, -2)  # (B, H, L, Q)
    return logits.softmax(dim=-2).transpose(-1, -2) @ value


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
    inputs = query, key, value, own_key, own_value, bias, own
    if is_mixed(query):
        return plain_attend_with_itself(*inputs, scale)
    out: Tensor = AttendWithItself.apply(*inputs, scale)  # type: ignore[no-untyped-call]
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
