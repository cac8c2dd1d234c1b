"""Who attends to whom, in the form that is fastest for the shape: a function for each block.

All forms give the same numbers. Dense ones compute every pair and shut those that are not seen; sparse ones
compute the pairs that a pattern lets be seen (see `clickscale.layers.kernels`).
What depends on times and padding alone is made once here and shared by all blocks.
"""

from functools import partial

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.layers.attention import Pattern, attend, attend_with_itself
from clickscale.layers.bias import AttentionBias
from clickscale.layers.kernels.sparse_behaviors import ClassPlan, attend_by_classes, choose, class_plan
from clickscale.layers.kernels.sparse_candidates import (
    CandidatePlan,
    attend_candidates_by_classes,
    candidate_plan,
    choose_for_candidates,
)
from clickscale.models._suan.block import Attend


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
    allowed = (distance == 0) | (pattern.allows(distance) & mask[:, None])
    biases = bias(times[:, past:, None] - times[:, None], distance, allowed)
    return [partial(_densely, shut) for shut in biases]


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
    k, r, (batch, count) = pattern.k, pattern.r, side.times.shape
    if choose_for_candidates(batch, count, mask.shape[1], k, r) == "classes":
        plan = candidate_plan(times, mask, side.times, side.oldest, side.visible, k, r, bias.buckets)
        return [
            partial(_candidates_by_classes, plan, bias, block, key, value)
            for block, (key, value) in enumerate(zip(keys, values, strict=True))
        ]
    column = torch.arange(mask.shape[1], device=mask.device)
    oldest, visible = side.oldest[..., None], side.visible[..., None]
    distance = visible - column  # (B, C, L)
    allowed = (column >= oldest) & pattern.allows(distance) & (distance > 0) & mask[:, None]
    return _candidates_densely(bias, side.times[..., None] - times[:, None], distance, allowed, keys, values)


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
    first = side.times[:, :1]
    moments = first if bool((side.times == first).all()) else side.times  # of one moment: (B, 1)
    allowed = mask[:, None].expand(-1, moments.shape[1], -1)
    delta = moments[..., None] - times[:, None]
    return _candidates_densely(bias, delta, distance[None], allowed, keys, values)


def _candidates_densely(
    bias: AttentionBias,
    delta: Tensor,
    distance: Tensor,
    allowed: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
) -> list[Attend]:
    made = bias(delta, distance, allowed)
    return [
        partial(_with_itself, key, value, shut, bias.own(block, key.device))
        for block, (key, value, shut) in enumerate(zip(keys, values, made, strict=True))
    ]


def _densely(bias: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attend(query, key, value, bias, scale)


def _by_classes(
    plan: ClassPlan, bias: AttentionBias, block: int, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    return attend_by_classes(query, key, value, plan, *_tables(bias, block), scale)


def _candidates_by_classes(
    plan: CandidatePlan,
    bias: AttentionBias,
    block: int,
    key: Tensor,
    value: Tensor,
    query: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    scale: float,
) -> Tensor:
    own = bias.own(block, query.device)
    return attend_candidates_by_classes(
        query, key, value, own_key, own_value, plan, *_tables(bias, block), own, scale
    )


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
    """Over keys and values that may be kept in half precision."""
    key, value = key.to(query.dtype), value.to(query.dtype)
    return attend_with_itself(query, key, value, own_key, own_value, bias, own, scale)


def _tables(bias: AttentionBias, block: int) -> tuple[Tensor | None, Tensor | None]:
    """Of a block, the tables of time and of distance."""
    tables = bias.tables(block)
    return (None, None) if tables is None else (tables.time, tables.position)
