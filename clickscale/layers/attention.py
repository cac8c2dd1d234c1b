"""Softmax attention with an additive bias: over a sequence, and of candidates over it and themselves."""

import torch
from torch import Tensor


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, D / H)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D / H) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(-2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention of every query over all keys that the bias does not mask.

    Args:
        query: (B, H, Q, D / H).
        key, value: (B, H, L, D / H).
        bias: (B, 1 or H, Q, L) additive, -inf where masked; every query needs one key that is not.
        scale: factor of the products.

    Returns:
        (B, H, Q, D / H).
    """
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
        bias: (B, 1 or H, C, L) additive, -inf where masked; all of a row may be.
        own: (1 or H,) bias of a candidate towards itself.
        scale: factor of the products.

    Returns:
        (B, H, C, D / H).
    """
    query = query * scale
    logits = query @ key.transpose(-1, -2) + bias  # (B, H, C, L)
    alone = (query * own_key).sum(dim=-1, keepdim=True) + own[:, None, None]  # (B, H, C, 1)
    weights = torch.cat([logits, alone], dim=-1).softmax(dim=-1)
    return weights[..., :-1] @ value + weights[..., -1:] * own_value
