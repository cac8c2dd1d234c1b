"""Exact sparse attention of candidates over a timeline, at the cost of what they see: C (k + L / r) pairs.

A candidate stands right after the ``visible`` behaviors before it, at virtual position v = visible. It sees
itself and the behaviors of columns oldest <= j < v with ``v - j < k`` or ``(v - j) % r == 0``. Those of one
row of the batch and one residue class v % r see the same class of behaviors: a group. Groups are sorted
by size and their candidates by v, and blocks of them leave out behaviors that none of the block sees. The
candidate itself and the local offsets that no class has are extra columns of the same softmax.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from clickscale.layers.bias import Buckets
from clickscale.layers.kernels.residue_classes import (
    KEPT,
    LANES,
    SHUT,
    add_up,
    cuts,
    fold,
    look_up,
    masking,
    pieces,
    short_times,
    spread,
    write_buckets,
)


@dataclass(frozen=True)
class GroupBlock:
    """Members first <= m < last of the first groups over the rows low <= n < high of their classes.

    Attributes:
        ids: (groups, last - first, high - low) int16, `spread` time bucket of each pair, ``SHUT`` where not
            seen.
        steps: like ``ids``, rows of the class from behavior to candidate; 0 where not seen.
    """

    first: int
    last: int
    low: int
    high: int
    ids: Tensor
    steps: Tensor


@dataclass(frozen=True)
class CandidatePlan:
    """What candidates' attention needs of times, padding, k and r: made once per batch.

    Attributes:
        r: number of classes.
        rows: n, rows of a class.
        offsets: the local offsets that are no multiple of r.
        members: (G, M) int64, flat index of the candidate (b C + c) of each place; some are there in vain.
        columns: (G, n) int64, flat index of the behavior (b L + j) of each row of a group's class.
        place: (B C,) int64, flat place of each candidate; 0 of those that see nothing.
        sees: (B C,) bool, whether a candidate sees any column.
        near: (B C, offsets) int64, flat index of the behavior at each local offset.
        near_ids: (B C, offsets) uint8, its time bucket, ``SHUT`` where not seen.
    """

    r: int
    rows: int
    offsets: tuple[int, ...]
    members: Tensor
    columns: Tensor
    place: Tensor
    sees: Tensor
    near: Tensor
    near_ids: Tensor
    blocks: tuple[GroupBlock, ...]

    @property
    def pairs(self) -> int:
        """Logits of one head of the whole batch, without the extra columns."""
        return sum(block.ids.numel() for block in self.blocks)


def candidate_plan(
    times: Tensor,
    mask: Tensor,
    candidate_times: Tensor,
    oldest: Tensor,
    visible: Tensor,
    k: int,
    r: int,
    kind: Buckets,
) -> CandidatePlan:
    """Plan of a batch.

    Args:
        times: (B, L) int64 seconds, of behaviors.
        mask: (B, L) bool, False where there is no behavior.
        candidate_times: (B, C) int64 seconds.
        oldest, visible: (B, C) int64, the columns that a candidate may see begin and end there.
        k, r: local window and dilation, both at least 1.
        kind: buckets of time differences, as of `time_buckets`.
    """
    length, device = times.shape[1], times.device
    if k > length:
        r = 1  # the window is the whole sequence
    offsets = tuple(o for o in range(1, min(k, length + 1)) if o % r)
    rows = -(-length // r)
    times, candidate_times = short_times(times, candidate_times)
    visible = torch.where(visible > oldest, visible, 0)  # 0: sees nothing, is in no group
    near, near_ids = _near(times, mask, candidate_times, oldest, visible, offsets, kind)
    place, members, groups, sizes = _groups(visible, r)
    row, cls = groups // r, groups % r  # (G,)
    column = cls[:, None] + torch.arange(rows, device=device) * r  # (G, n)
    columns = row[:, None] * length + column.clamp(max=max(length - 1, 0))
    real = (column < length) & mask.flatten()[columns]
    inside = torch.arange(members.shape[1], device=device) < sizes[:, None]  # (G, M)
    past = torch.where(inside, visible.flatten()[members] - cls[:, None], 0)
    ends = past // r  # a candidate sees the class's rows before this one,
    starts = (oldest.flatten()[members] - cls[:, None] + r - 1).clamp(min=0) // r  # from this one on
    given = times.flatten()[columns], real, candidate_times.flatten()[members], starts, ends
    blocks = tuple(_group_block(first, last, sizes, kind, *given) for first, last in cuts(members.shape[1]))
    sees = (visible > 0).flatten()
    return CandidatePlan(r, rows, offsets, members, columns, place, sees, near, near_ids, blocks)


def attend_candidates_by_classes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    plan: CandidatePlan,
    time: Tensor | None,
    position: Tensor | None,
    own_bias: Tensor,
    scale: float,
) -> Tensor:
    """Attention of every candidate over the behaviors that the plan lets it see, and itself.

    Args:
        query, own_key, own_value: (B, H, C, D / H) of candidates.
        key, value: (B, H, L, D / H) of behaviors.
        time: (1 or H, 129) bias by time bucket, or None.
        position: (1 or H, N + 1) bias by distance, where distances beyond N share the last, or None.
        own_bias: (1 or H,) bias of a candidate towards itself.
        scale: factor of the products.

    Returns:
        (B, H, C, D / H), computed in float32 (float64 if the query is).
    """
    if plan.members.numel() == 0:
        return own_value
    batch, heads, count, width = query.shape
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    with torch.autocast(query.device.type, enabled=False):
        rows, keys, values = (_flat(x.to(exact)) for x in (query * scale, key, value))  # (B N, H D)
        own_keys, own_values = (_flat(x.to(exact)).view(-1, heads, width) for x in (own_key, own_value))
        near_keys, near_values = (
            _pick(x, plan.near, heads) for x in (keys, values)
        )  # (B C, offsets, H, D / H)
        split = rows.view(-1, heads, width)
        alone = (split * own_keys).sum(-1, keepdim=True) + own_bias.to(exact)[:, None]
        nearby = (split[:, None] * near_keys).sum(-1) + _near_bias(plan, time, position, rows)
        extra = torch.cat([alone, nearby.transpose(1, 2)], dim=2)  # (B C, H, 1 + offsets)
        out, weights = _attend_groups(
            _grouped(rows, plan.members, heads),
            _grouped(keys, plan.columns, heads),
            _grouped(values, plan.columns, heads),
            _grouped(extra.flatten(1), plan.members, heads),
            time,
            position,
            plan,
        )
        found, shares = (_ungrouped(x, plan.place) for x in (out, weights))  # (B C, H, D / H and 1 + offsets)
        found = found + shares[..., :1] * own_values
        if plan.offsets:
            found = found + torch.einsum("nho,nohd->nhd", shares[..., 1:], near_values)
        found = torch.where(plan.sees[:, None, None], found, own_values)
    return found.view(batch, count, heads, width).transpose(1, 2).to(query.dtype)


def choose_for_candidates(
    batch: int, candidates: int, length: int, k: int, r: int
) -> Literal["dense", "classes"]:
    """The faster form for candidates over a timeline on a CPU, by the measurements of docs/attention.md."""
    offsets = 0 if r == 1 else (k - 1) - (k - 1) // r
    return "classes" if batch * candidates * length >= 1 << 19 and 15 * offsets <= length else "dense"


# --- the plan


def _near(
    times: Tensor,
    mask: Tensor,
    candidate_times: Tensor,
    oldest: Tensor,
    visible: Tensor,
    offsets: tuple[int, ...],
    kind: Buckets,
) -> tuple[Tensor, Tensor]:
    """Behaviors at the local offsets and their buckets, see `CandidatePlan`."""
    batch, length = times.shape
    back = torch.tensor(offsets, dtype=torch.int64, device=times.device)
    column = visible[..., None] - back  # (B, C, offsets)
    start = torch.arange(batch, device=times.device)[:, None, None] * length
    near = start + column.clamp(min=0)
    ids = torch.empty(column.shape, dtype=torch.uint8, device=times.device)
    if ids.numel():
        write_buckets(candidate_times[..., None], times.flatten()[near], kind, ids)
        seen = (column >= oldest[..., None].clamp(min=0)) & mask.flatten()[near]
        ids.masked_fill_(~seen, SHUT)
    return near.flatten(0, 1), ids.flatten(0, 1)


def _groups(visible: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Candidates that see something, by row and class.

    Returns:
        Place (B C,) of every candidate, members (G, M), class b r + s (G,) and size (G,) of every group.
    """
    batch = len(visible)
    start = torch.arange(batch, device=visible.device)[:, None] * r
    visible, of = visible.flatten(), (start + visible % r).flatten()
    some = visible.nonzero()[:, 0]
    sizes = torch.bincount(of[some], minlength=batch * r)
    by_size = torch.argsort(sizes, descending=True, stable=True)[: int((sizes > 0).sum())]
    largest = int(sizes[by_size[0]]) if len(by_size) else 0
    furthest = int(visible.max()) if len(some) else 0
    order = some[torch.argsort(of[some] * (furthest + 1) + visible[some])]
    rank = torch.arange(len(order), device=visible.device) - (sizes.cumsum(0) - sizes)[of[order]]
    number = torch.empty_like(sizes)
    number[by_size] = torch.arange(len(by_size), device=visible.device)
    place = torch.zeros_like(visible)
    place[order] = number[of[order]] * largest + rank
    members = visible.new_zeros(len(by_size) * largest)
    members[place[order]] = order
    return place, members.view(len(by_size), largest), by_size, sizes[by_size]


def _group_block(
    first: int,
    last: int,
    sizes: Tensor,
    kind: Buckets,
    times: Tensor,
    real: Tensor,
    candidate_times: Tensor,
    starts: Tensor,
    ends: Tensor,
) -> GroupBlock:
    """Pairs of the members first <= m < last with what they see.

    Args:
        sizes: (G,) members of each group, descending.
        times, real: (G, n) of behaviors; ``candidate_times``: (G, M).
        starts, ends: (G, M) the rows of its class that a member may see begin and end there.
    """
    groups = int((sizes > first).sum())
    part = slice(0, groups), slice(first, last)
    starts, ends, candidate_times = starts[part], ends[part], candidate_times[part]
    some = ends > starts
    high = int(ends[some].max()) if bool(some.any()) else 0
    low = int(starts[some].min()) if high else 0
    wide = torch.int16 if high < 1 << 15 else torch.int32
    ids = torch.empty((groups, last - first, high - low), dtype=torch.uint8, device=times.device)
    steps = torch.empty(ids.shape, dtype=wide, device=times.device)
    row = torch.arange(low, high, dtype=wide, device=times.device)
    for piece in pieces(groups, ids[:1].numel(), times.device):
        write_buckets(candidate_times[piece, :, None], times[piece, None, low:high], kind, ids[piece])
        begin, end = starts[piece, :, None].to(wide), ends[piece, :, None].to(wide)
        seen = (row >= begin) & (row < end) & real[piece, None, low:high]
        ids[piece].masked_fill_(~seen, SHUT)
        torch.sub(end, row, out=steps[piece]).clamp_(min=0)
    return GroupBlock(first, last, low, high, spread(ids), steps)


# --- layouts


def _flat(x: Tensor) -> Tensor:
    """(B, H, N, D / H) -> (B N, D)."""
    return x.transpose(1, 2).flatten(2).flatten(0, 1)


def _pick(rows: Tensor, index: Tensor, heads: int) -> Tensor:
    """Rows (N, D) at an index (...), as (..., H, D / H)."""
    return rows.index_select(0, index.flatten()).view(*index.shape, heads, rows.shape[1] // heads)


def _grouped(rows: Tensor, index: Tensor, heads: int) -> Tensor:
    """Rows (N, D) at an index (G, M), as (G, H, M, D / H)."""
    return _pick(rows, index, heads).transpose(1, 2)


def _ungrouped(x: Tensor, place: Tensor) -> Tensor:
    """(G, H, M, D / H) -> (B C, H, D / H)."""
    rows = x.transpose(1, 2).flatten(0, 1)
    return rows.index_select(0, place)


# --- the attention


def _near_bias(plan: CandidatePlan, time: Tensor | None, position: Tensor | None, like: Tensor) -> Tensor:
    """(B C, offsets, 1 or H): bias at the local offsets, -inf where not seen."""
    bias = masking(time, like).t()[plan.near_ids.long()]
    if position is None:
        return bias
    back = torch.tensor(plan.offsets, dtype=torch.int64, device=like.device)
    return bias + position.to(like.dtype).t()[back.clamp(max=position.shape[1] - 1)]


def _by_steps(position: Tensor, plan: CandidatePlan) -> tuple[Tensor, Tensor]:
    """(n + 1,) entry of the table for each number of steps in a class, and these entries (tables, n + 1)."""
    distance = torch.arange(plan.rows + 1, device=position.device) * plan.r
    entry = distance.clamp_(max=position.shape[1] - 1)
    return entry, position[:, entry]


class _GroupAttention(torch.autograd.Function):
    """Attention of groups of candidates over their classes and extra columns.

    ``forward(rows (G, H, M, D), keys (G, H, n, D), values, extra (G, H, M, X), time, position, plan)`` gives
    sums of values (G, H, M, D), and the weights of the extra columns, of which ``extra`` are the logits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        keys: Tensor,
        values: Tensor,
        extra: Tensor,
        time: Tensor | None,
        position: Tensor | None,
        plan: CandidatePlan,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        keep = any(ctx.needs_input_grad) and plan.pairs * rows.shape[1] <= KEPT
        out, shares, kept = torch.zeros_like(rows), torch.zeros_like(extra), []
        for block, part in _work(plan, rows):
            weights = _weights(rows, keys, extra, time, position, plan, block, part)
            flat = weights.flatten(0, 1)
            at = part, slice(None), slice(block.first, block.last)
            columns = extra.shape[3]
            found = torch.bmm(flat, _cut(values, part, block.low, block.high, columns))
            out[at], shares[at] = found.view_as(out[at]), weights[..., :columns]
            if keep:
                kept.append(weights)
        ctx.plan, ctx.keep = plan, keep
        ctx.save_for_backward(rows, keys, values, extra, time, position, out, shares, *kept)
        return out, shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """By ``dlogits = weights (dweights - sum of weights dweights)``."""
        rows, keys, values, extra, time, position, out, shares, *kept = ctx.saved_tensors
        plan, columns = ctx.plan, extra.shape[3]
        mean = (grads[0] * out).sum(-1, keepdim=True) + (grads[1] * shares).sum(-1, keepdim=True)
        drows, dkeys, dvalues, dextra = (torch.zeros_like(x) for x in (rows, keys, values, extra))
        sums = _GroupGradients(time, position, plan)
        for number, (block, part) in enumerate(_work(plan, rows)):
            weights = (
                kept[number] if ctx.keep else _weights(rows, keys, extra, time, position, plan, block, part)
            )
            at = part, slice(None), slice(block.first, block.last)
            seen = part, slice(None), slice(block.low, block.high)
            change = grads[0][at].flatten(0, 1)
            dlogits = torch.empty_like(weights).copy_(-mean[at])
            dlogits[..., :columns] += grads[1][at]
            flat, flat_weights = dlogits.flatten(0, 1), weights.flatten(0, 1)
            flat.baddbmm_(change, _cut(values, part, block.low, block.high, columns).transpose(1, 2))
            dlogits.mul_(weights)
            sums.add(dlogits[..., columns:], block.ids[part], block.steps[part])
            drows[at] = torch.bmm(flat, _cut(keys, part, block.low, block.high, columns)).view_as(drows[at])
            dkeys[seen] += _turned(rows[at].flatten(0, 1), flat, columns).view_as(dkeys[seen])
            dvalues[seen] += _turned(change, flat_weights, columns).view_as(dvalues[seen])
            dextra[at] = dlogits[..., :columns]
        return drows, dkeys, dvalues, dextra, *sums.result(), None


def _work(plan: CandidatePlan, rows: Tensor) -> list[tuple[GroupBlock, slice]]:
    """Blocks, and the groups of each that are worked on together."""
    heads = rows.shape[1]
    return [
        (block, part)
        for block in plan.blocks
        for part in pieces(len(block.ids), heads * block.ids[:1].numel(), rows.device)
    ]


def _cut(x: Tensor, part: slice, low: int, high: int, columns: int) -> Tensor:
    """Rows low .. high of some groups, after zeros for extra columns: (g H, columns + high - low, D)."""
    return functional.pad(x[part, :, low:high], (0, 0, columns, 0)).flatten(0, 1)


def _turned(rows: Tensor, weights: Tensor, columns: int) -> Tensor:
    """Sum of rows (N, R, D) by weights (N, R, columns + W), as (N, W, D)."""
    return torch.bmm(rows.transpose(1, 2), weights)[:, :, columns:].transpose(1, 2)


def _weights(
    rows: Tensor,
    keys: Tensor,
    extra: Tensor,
    time: Tensor | None,
    position: Tensor | None,
    plan: CandidatePlan,
    block: GroupBlock,
    part: slice,
) -> Tensor:
    """(g, H, R, X + W): weights of the pairs of some groups in a block."""
    at = part, slice(None), slice(block.first, block.last)
    ids, steps, columns = block.ids[part], block.steps[part], extra.shape[3]
    out = rows.new_empty(len(ids), rows.shape[1], ids.shape[1], columns + ids.shape[2])
    out[..., :columns] = extra[at]
    bias = look_up(masking(time, rows), ids)
    if position is not None:
        bias = bias + look_up(_by_steps(position.to(rows.dtype), plan)[1], steps)
    out[..., columns:] = bias
    turned = _cut(keys, part, block.low, block.high, columns).transpose(1, 2)
    out.view(-1, *out.shape[2:]).baddbmm_(rows[at].flatten(0, 1), turned)
    return torch.softmax(out, -1, out=out)


class _GroupGradients:
    """Sums of the gradient of the logits by time bucket and by steps; float64, as terms are many."""

    def __init__(self, time: Tensor | None, position: Tensor | None, plan: CandidatePlan) -> None:
        self.plan, self.tables = plan, (time, position)
        sizes = LANES * (SHUT + 1), plan.rows + 1
        self.sums = tuple(
            None if x is None else x.new_zeros(len(x), size, dtype=torch.float64)
            for x, size in zip(self.tables, sizes, strict=True)
        )

    def add(self, grad: Tensor, ids: Tensor, steps: Tensor) -> None:
        """Add the gradient (g, H, R, W) of logits of these buckets and steps (g, R, W)."""
        shared = any(x is not None and len(x) == 1 for x in self.sums)
        summed = grad.sum(1, keepdim=True) if shared else grad
        for sums, index in zip(self.sums, (ids, steps), strict=True):
            if sums is not None:
                add_up(sums, index, summed if len(sums) == 1 else grad)

    def result(self) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the two tables."""
        time, position = self.sums
        if position is not None and self.tables[1] is not None:
            entry, _ = _by_steps(self.tables[1], self.plan)
            position = torch.zeros_like(self.tables[1], dtype=torch.float64).index_add_(1, entry, position)
        return None if time is None else fold(time), position


def _attend_groups(
    rows: Tensor,
    keys: Tensor,
    values: Tensor,
    extra: Tensor,
    time: Tensor | None,
    position: Tensor | None,
    plan: CandidatePlan,
) -> tuple[Tensor, Tensor]:
    """`_GroupAttention`, typed."""
    found: tuple[Tensor, Tensor] = _GroupAttention.apply(rows, keys, values, extra, time, position, plan)  # type: ignore[no-untyped-call]
    return found
