"""Self attention of behaviors and of candidates: one function for each block of a stack.

Written densely, every one of them is::

    allowed[query, key] = distance(query, key) is in the pattern and key is a behavior
    bias[query, key]    = f1(time between them) + f2(distance) if allowed else -inf
    output              = softmax(scale * query @ key.T + bias) @ value

The bias, or the plan of `sparse_behaviors`, depends only on times and padding. It is made once per batch and
shared by all blocks. Behaviors take the sparse form where it is faster; it gives the same numbers.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.layers.attention import Pattern, attend, attend_with_itself
from clickscale.layers.bias import AttentionBias
from clickscale.layers.kernels.sparse_behaviors import ClassPlan, attend_by_classes, choose, class_plan

# Self attention with the visible pairs bound: query, key, value (B, H, N, D / H), scale -> (B, H, N, D / H).
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def over_behaviors(
    bias: AttentionBias, pattern: Pattern, times: Tensor, mask: Tensor, past: int
) -> list[Attend]:
    """Attention of the behaviors after the first ``past`` over all: times and mask (B, P + N)."""
    batch, length = mask.shape
    if not past and choose(batch, length, pattern.k, pattern.r) == "classes":
        plan = class_plan(times, mask, pattern.k, pattern.r, bias.buckets)
        return [partial(_by_classes, plan, bias, block) for block in range(bias.blocks)]
    column = torch.arange(length, device=mask.device)
    distance = column[past:, None] - column  # (N, P + N)
    # Padding sees itself, so no row is empty.
    allowed = (distance == 0) | (pattern.allows(distance) & mask[:, None])  # (B, N, P + N)
    biases = bias(times[:, past:, None] - times[:, None], distance, allowed)  # each (B, 1 or H, N, P + N)
    return [partial(_densely, block_bias) for block_bias in biases]


def over_parts(
    bias: AttentionBias,
    pattern: Pattern,
    times: Tensor,
    mask: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    side: CandidateSide,
) -> list[Attend]:
    """Attention of candidates that see different parts of one timeline, and themselves.

    Args:
        times, mask: (B, L) of the behaviors.
        keys, values: per block (B, H, L, D / H).
    """
    column = torch.arange(mask.shape[1], device=mask.device)
    distance = side.visible[..., None] - column  # (B, C, L)
    # The candidate stands at position ``visible``: what is not before it has a distance of zero or less.
    allowed = (column >= side.oldest[..., None]) & pattern.allows(distance) & (distance > 0) & mask[:, None]
    return _candidates(bias, side.times[..., None] - times[:, None], distance, allowed, keys, values)


def over_whole(
    bias: AttentionBias,
    distance: Tensor,
    times: Tensor,
    mask: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    side: CandidateSide,
) -> list[Attend]:
    """Attention of candidates over the M columns that all of them see, and themselves.

    Args:
        distance: (M,) positions from the columns to the candidates.
        times, mask: (B, M) of those columns.
        keys, values: per block (B, H, M, D / H).
    """
    moments = side.times[:, :1] if _of_one_moment(side.times) else side.times  # (B, 1 or C)
    allowed = mask[:, None].expand(-1, moments.shape[1], -1)  # (B, 1 or C, M)
    return _candidates(bias, moments[..., None] - times[:, None], distance[None], allowed, keys, values)


def _of_one_moment(times: Tensor) -> bool:
    """True if the candidates of every row share a time, and so one row of the bias.

    The answer must reach the processor. On an accelerator that would wait for all work before it, so it is
    not asked there, and every candidate gets a row of its own: the same numbers.
    """
    return times.device.type == "cpu" and bool((times == times[:, :1]).all())


def _candidates(
    bias: AttentionBias,
    delta: Tensor,
    distance: Tensor,
    allowed: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
) -> list[Attend]:
    biases = bias(delta, distance, allowed)
    return [
        partial(_with_itself, key, value, block_bias, bias.own(block, key.device))
        for block, (key, value, block_bias) in enumerate(zip(keys, values, biases, strict=True))
    ]


# Each of these is `Attend` once its first arguments are bound.


def _densely(bias: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attend(query, key, value, bias, scale)


def _by_classes(
    plan: ClassPlan, bias: AttentionBias, block: int, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    tables = bias.tables(block)
    time, position = (None, None) if tables is None else (tables.time, tables.position)
    return attend_by_classes(query, key, value, plan, time, position, scale)


def _with_itself(
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    own: Tensor,
    query: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    scale: float,
) -> Tensor:
    # Kept states may be in half precision.
    key, value = key.to(query.dtype), value.to(query.dtype)
    return attend_with_itself(query, key, value, own_key, own_value, bias, own, scale)
