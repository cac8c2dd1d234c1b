"""Self attention of behaviors and of candidates: one function for each block of a stack.

Written densely, every one of them is::

    allowed[head, query, key] = distance(query, key) is in the head's pattern and key is a behavior
    bias[head, query, key]    = f1(time between them) + f2(distance) if allowed else -inf
    output                    = softmax(scale * query @ key.T + bias) @ value

The bias, or the plan of `class_plans`, depends only on times and padding. It is made once per batch
and shared by all blocks. Behaviors take the sparse form where it is faster; it gives the same numbers.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import CandidateSide, sees_columns
from clickscale.layers.attention import attend, attend_with_itself
from clickscale.layers.bias import AttentionBias
from clickscale.layers.kernels.class_plans import ClassPlan, class_plan
from clickscale.layers.kernels.sparse_behaviors import attend_by_classes, choose
from clickscale.models._suan.patterns import HeadPatterns

# Self attention with the visible pairs bound: query, key, value (B, H, N, D / H), scale -> (B, H, N, D / H).
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]

# Pairs of rows and candidates, which one sequence computes and hardly anybody sees. At L = 50 and 50,000 of
# them a step of SUAN size-2 was 1.07 times as fast as in two parts, at 4,000 of them 1.4 times.
_WASTED = 1 << 17


def over_behaviors(
    bias: AttentionBias, patterns: HeadPatterns, times: Tensor, mask: Tensor, past: int
) -> list[Attend]:
    """Attention of the behaviors after the first ``past`` over all: times and mask (B, P + N)."""
    length = mask.shape[1]
    if not past and _form(patterns, mask) == "classes":
        first = patterns.distinct[0]
        phases = tuple(pattern.phase for pattern in patterns.distinct)
        plan = class_plan(times, mask, first.k, first.r, phases, bias.buckets)
        of_blocks = map(plan.of_heads, patterns.heads)
        return [partial(_by_classes, of_block, bias, block) for block, of_block in enumerate(of_blocks)]
    column = torch.arange(length, device=mask.device)
    distance = column[past:, None] - column  # (N, P + N)
    # Padding sees itself, so no row is empty.
    allowed = (distance == 0) | ((distance > 0) & mask[:, None])  # (B, N, P + N)
    biases = _by_pattern(bias, patterns, times[:, past:, None] - times[:, None], distance, allowed)
    return [partial(_densely, block_bias) for block_bias in biases]


def over_parts(
    bias: AttentionBias,
    patterns: HeadPatterns,
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
    allowed = (column >= side.oldest[..., None]) & (distance > 0) & mask[:, None]  # (B, C, L)
    biases = _by_pattern(bias, patterns, side.times[..., None] - times[:, None], distance, allowed)
    return _candidates(bias, biases, keys, values)


def one_sequence_pays(patterns: HeadPatterns, mask: Tensor, side: CandidateSide) -> bool:
    """True if behaviors and candidates are computed faster as rows of one sequence than one after the other.

    Args:
        mask: (B, L) of the behaviors.
    """
    (batch, length), count = mask.shape, side.items.shape[1]
    return batch * (length + count) * count <= _WASTED and _form(patterns, mask) == "dense"


def _form(patterns: HeadPatterns, mask: Tensor) -> str:
    """The faster form of attention among the behaviors of a mask (B, L)."""
    first = patterns.distinct[0]  # all have one k and one r
    batch, length = mask.shape
    return choose(batch, length, first.k, first.r)


def over_rows(
    bias: AttentionBias,
    patterns: HeadPatterns,
    reads: HeadPatterns,
    times: Tensor,
    mask: Tensor,
    side: CandidateSide,
) -> tuple[list[Attend], Tensor]:
    """Attention of the N = L + C rows of behaviors and then candidates over each other.

    A candidate stands right after the behaviors that it sees, and nobody else sees it.

    Args:
        reads: the patterns of candidates: all behaviors, or those of ``patterns``.
        times, mask: (B, L) of the behaviors.

    Returns:
        Attention by block, and the rows that each row sees if its head follows no pattern, (B, N, N) bool.
    """
    (batch, length), count = mask.shape, side.items.shape[1]
    column = torch.arange(length + count, device=mask.device)
    earlier = column[:length].expand(batch, -1)  # (B, L)
    place = torch.cat([earlier, side.visible], dim=1)  # (B, N) position of each row
    oldest = torch.cat([torch.zeros_like(earlier), side.oldest], dim=1)  # (B, N)
    seen = sees_columns(oldest, place, functional.pad(mask, (0, count)))  # (B, N, N)
    allowed = seen | (column[:, None] == column)  # (B, N, N); padding sees itself, so no row is empty
    # Of a pair that is allowed only a candidate and itself may be at less than zero: its place counts.
    distance = (place[..., None] - column).clamp_(min=0)  # (B, N, N)
    when = torch.cat([times, side.times], dim=1)  # (B, N)
    sparse = length if reads.full else length + count  # rows that follow the patterns
    biases = _by_pattern(bias, patterns, when[..., None] - when[:, None], distance, allowed, sparse)
    return [partial(_densely, each) for each in biases], allowed


def _by_pattern(
    bias: AttentionBias,
    patterns: HeadPatterns,
    delta: Tensor,
    distance: Tensor,
    allowed: Tensor,
    rows: int | None = None,
) -> list[Tensor]:
    """Bias (B, 1 or H, Q, L) of every block, -inf where a pair is not allowed or not in the head's pattern.

    Args:
        delta: (B, Q, L) int64 seconds from key to query. distance: (Q, L) or (B, Q, L) int64 positions.
        allowed: (B, Q, L) bool.
        rows: how many of the first rows follow the patterns; all if None.
    """
    if patterns.full:
        return bias(delta, distance, allowed)
    hidden = [~pattern.allows(distance) for pattern in patterns.distinct]  # each (Q, L) or (B, Q, L)
    if rows is not None:
        for one in hidden:
            one[..., rows:, :] = False
    if len(hidden) == 1:  # the mask of a single pattern costs no operation for each block
        return bias(delta, distance, allowed & ~hidden[0])
    return [
        made.masked_fill(torch.stack([hidden[place] for place in heads], dim=-3), -math.inf)
        for made, heads in zip(bias(delta, distance, allowed), patterns.heads, strict=True)
    ]


def over_whole(
    bias: AttentionBias,
    patterns: HeadPatterns,
    times: Tensor,
    mask: Tensor,
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    side: CandidateSide,
) -> list[Attend]:
    """Attention of candidates over the M columns that all of them see, and themselves.

    Args:
        times, mask: (B, P, M) of the columns of each distinct pattern.
        keys, values: per block (B, H, M, D / H).
    """
    moments = side.times[:, :1] if _of_one_moment(side.times) else side.times  # (B, 1 or C)
    delta = moments[..., None] - times.flatten(1)[:, None]  # (B, 1 or C, P M)
    allowed = mask.flatten(1)[:, None].expand(delta.shape)  # (B, 1 or C, P M)
    distance = patterns.distances(mask.shape[2], mask.device).view(1, -1)  # (1, P M)
    biases = [
        _of_heads(made.unflatten(-1, mask.shape[1:]), heads)
        for made, heads in zip(bias(delta, distance, allowed), patterns.heads, strict=True)
    ]
    return _candidates(bias, biases, keys, values)


def _of_heads(bias: Tensor, heads: tuple[int, ...]) -> Tensor:
    """Bias (B, tables, Q, P, M) by pattern as (B, 1 or H, Q, M) by head."""
    if len(heads) == 1:
        return bias[..., heads[0], :]
    tables = bias.shape[1]  # one for all heads, or one for each
    return torch.stack([bias[:, head % tables, :, place] for head, place in enumerate(heads)], dim=1)


def _of_one_moment(times: Tensor) -> bool:
    """True if the candidates of every row share a time, and so one row of the bias.

    The answer must reach the processor. On an accelerator that would wait for all work before it, so it is
    not asked there, and every candidate gets a row of its own: the same numbers.
    """
    return times.device.type == "cpu" and bool((times == times[:, :1]).all())


def _candidates(
    bias: AttentionBias, biases: list[Tensor], keys: tuple[Tensor, ...], values: tuple[Tensor, ...]
) -> list[Attend]:
    return [
        partial(_with_itself, key, value, block_bias, bias.own(block, key.device))
        for block, (key, value, block_bias) in enumerate(zip(keys, values, biases, strict=True))
    ]


# Each of these is `Attend` once its first arguments are bound.


def _densely(bias: Tensor, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return attend(query, key, value, bias, scale)


def _by_classes(
    plan: ClassPlan,
    bias: AttentionBias,
    block: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
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
