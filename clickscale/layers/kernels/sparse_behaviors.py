"""Exact sparse self-attention that costs L (k + L / r) pairs, not L^2 (Lai et al. 2025, section 3.3.1).

Row i sees behavior j <= i when ``i - j < k`` (local window) or ``(i - j - phase) % r == 0`` (dilated); r = 1
is full causal attention. Densely, for queries, keys and values (L, D / H) of one head::

    distance = i - j
    seen     = (j <= i) and mask[j] and (distance < k or (distance - phase) % r == 0), or i == j
    logits   = scale * query @ key.T + time_table[bucket(times[i] - times[j])] + position_table[distance]
    output   = softmax(where(seen, logits, -inf)) @ value

Here the same sum is arranged by what is seen. Keys move to the right by the phase, so that row i and the key
now at place i are ``phase`` apart. Then rows and keys of one residue class ``i % r`` see each other like a
dense causal sequence of ceil(L / r) rows, so the dilated part is r small dense problems (`to_classes`). They
are cut into blocks of rows, and a block leaves out the keys after its last row, close to half of all. The
local offsets 0 .. k - 1 that are not in the classes, the band, are extra columns of the same softmax, so no
key is counted twice. The buckets of all pairs are in the plan, see `clickscale.layers.kernels.class_plans`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clickscale.layers.kernels.class_plans import Block, ClassPlan, HeadPlan
from clickscale.layers.kernels.residue_classes import (
    KEPT,
    LANES,
    SHUT,
    add_up,
    fold,
    from_classes,
    look_up,
    masking,
    moved,
    pieces,
    spread,
    to_classes,
)


def attend_by_classes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plans: Sequence[HeadPlan],
    time: Tensor | None,
    position: Tensor | None,
    scale: float,
) -> Tensor:
    """Attention of every behavior over the behaviors that the plan of each head lets it see.

    Args:
        query, key, value: (B, H, L, D / H).
        plans: together of all heads.
        time: (1 or H, 129) bias by time bucket, or None.
        position: (1 or H, N + 1) bias by distance, where distances beyond N share the last, or None.
        scale: factor of the products.

    Returns:
        (B, H, L, D / H), computed in float32 (float64 if the query is); any finite numbers in padding rows.
    """
    if query.shape[2] == 0:
        return value
    # Sums of many small terms: half precision keeps too few digits, on whatever the model runs.
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    inputs = query.to(exact), key.to(exact), value.to(exact), time, position
    with torch.autocast(query.device.type, enabled=False):
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
            out: Tensor = _ClassAttention.apply(*inputs, plans, scale)  # type: ignore[no-untyped-call]
        else:
            out = _forward(*inputs, plans, scale, ())
    return out.to(query.dtype)


def choose(batch: int, length: int, k: int, r: int) -> Literal["dense", "classes"]:
    """The faster form of self-attention on a CPU, by the measurements of docs/attention.md.

    Classes have a fixed cost of a third of a millisecond, and a local offset costs about fifteen pairs.
    """
    offsets = 0 if r == 1 else (k - 1) - (k - 1) // r
    return "classes" if batch * length**2 >= 240_000 and 15 * offsets <= length else "dense"


# --- layouts


def _like_rows(x: Tensor) -> Tensor:
    """Room for (B, H, L, D) that merges into (B, L, H D) without a copy."""
    batch, heads, length, width = x.shape
    return x.new_empty(batch, length, heads, width).transpose(1, 2)  # (B, H, L, D)


# --- the band


def _band_products(rows: Tensor, keys: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """(B, H, L, offsets): product of each row and the key so many positions before it."""
    # Products of a row and one key each are sums along D; a loop over few offsets copies no keys.
    out = rows.new_zeros(*rows.shape[:3], len(offsets))
    for column, offset in enumerate(offsets):
        before = keys[:, :, : keys.shape[2] - offset]
        torch.sum(rows[:, :, offset:] * before, dim=3, out=out[:, :, offset:, column])
    return out


def _add_band_keys(out: Tensor, weights: Tensor, keys: Tensor, offsets: tuple[int, ...]) -> None:
    """Add to each row the weighted keys (or values) before it."""
    for column, offset in enumerate(offsets):
        before = keys[:, :, : keys.shape[2] - offset]
        out[:, :, offset:].addcmul_(weights[:, :, offset:, column, None], before)


def _add_band_rows(out: Tensor, weights: Tensor, rows: Tensor, offsets: tuple[int, ...]) -> None:
    """Add to each key the weighted rows after it."""
    for column, offset in enumerate(offsets):
        before = out[:, :, : out.shape[2] - offset]
        before.addcmul_(weights[:, :, offset:, column, None], rows[:, :, offset:])


# --- the bias


class _Tables:
    """The bias of a pair from the tables of time and distance."""

    def __init__(self, time: Tensor | None, position: Tensor | None, like: Tensor) -> None:
        self.time = masking(time, like)
        self.position = None if position is None else position.to(like.dtype)

    def write(self, out: Tensor, ids: Tensor, distance: Tensor) -> None:
        """Write the bias of pairs, of buckets (b, r, R, W), into ``out`` (b, H, r, R, W)."""
        bias = look_up(self.time, ids)
        if self.position is None:
            out.copy_(bias)
        else:
            capped = distance.clamp(max=self.position.shape[1] - 1)  # far distances share the last entry
            of_distance = self.position[:, capped][:, None]  # (tables, 1, R, W)
            torch.add(bias.expand_as(out), of_distance, out=out)


class _TableGradients:
    """Sums of the gradient of the logits by time bucket and by distance; float64, since terms are many.

    Attributes:
        time: (tables, 8 * 130) by the buckets of `spread`, or None.
        position: (tables, N + 1), or None.
    """

    def __init__(self, time: Tensor | None, position: Tensor | None) -> None:
        self.time, self.position = time, position

    def of(self, heads: slice) -> "_TableGradients":
        """The sums of some heads, in the same memory."""
        return _TableGradients(_rows_of(self.time, heads), _rows_of(self.position, heads))

    def add(self, grad: Tensor, ids: Tensor, distance: Tensor) -> None:
        """Add the gradient (b, H, r, R, W) of logits of these buckets (b, r, R, W) and distances (R, W)."""
        # Heads that share a table add up first: the slow sums by index then run over one head.
        shared = grad.shape[1] > 1 and any(x is not None and len(x) == 1 for x in (self.time, self.position))
        summed = grad.sum(1, keepdim=True) if shared else grad
        if self.time is not None:
            add_up(self.time, spread(ids), summed if len(self.time) == 1 else grad)
        if self.position is not None:
            of_pair = (summed if len(self.position) == 1 else grad).sum((0, 2)).double()  # (tables, R, W)
            index = distance.clamp(max=self.position.shape[1] - 1)
            self.position.index_add_(1, index.flatten(), of_pair.flatten(1))


def _rows_of(table: Tensor | None, heads: slice) -> Tensor | None:
    """Rows of a table for some heads; a table of one row serves all."""
    return table if table is None or len(table) == 1 else table[heads]


# --- the attention


class _Piece(NamedTuple):
    """Operands of the products of rows and keys, for some rows of the batch, in classes.

    Attributes:
        rows: (b, H, r, n, D), queries or gradients.
        keys: (b, H, r, offsets + n, D), keys or values after zeros in place of the band.

        band: (b, H, r, n, offsets), scaled products of rows and the keys of the band.
    """

    rows: Tensor
    keys: Tensor
    band: Tensor
    scale: float


def _piece(rows: Tensor, keys: Tensor, plan: ClassPlan, scale: float = 1.0) -> _Piece:
    """Bring rows and keys (b, H, L, D) into classes, and multiply those of the band."""
    band = to_classes(_band_products(rows, keys, plan.offsets), plan.r).mul_(scale)
    shifted = to_classes(moved(keys, plan.phase), plan.r, len(plan.offsets))
    return _Piece(to_classes(rows, plan.r), shifted, band, scale)


def _add_products(x: Tensor, piece: _Piece, block: Block, share: int = 1) -> None:
    """Add to ``x`` (b, H, r, R, W), times ``share``, the products of a block's rows and keys."""
    rows = piece.rows.flatten(0, 2)[:, block.first : block.last]  # (b H r, R, D)
    keys = piece.keys.flatten(0, 2)[:, : x.shape[-1]]  # (b H r, W, D)
    # In place: no second tensor of all pairs is made.
    x.view(-1, *x.shape[-2:]).baddbmm_(rows, keys.transpose(1, 2), beta=share, alpha=piece.scale)
    x[..., : piece.band.shape[-1]] += piece.band[..., block.first : block.last, :]


def _weights(out: Tensor, piece: _Piece, block: Block, ids: Tensor, tables: _Tables) -> Tensor:
    """Write the weights of a block's pairs into ``out`` (b, H, r, R, W)."""
    tables.write(out, ids, block.distance)
    _add_products(out, piece, block)
    return torch.softmax(out, -1, out=out)


def _area(plan: ClassPlan, heads: int) -> int:
    """Logits of one row of the batch in the largest block."""
    return heads * max((block.ids[0].numel() for block in plan.blocks if len(block.ids)), default=0)


def _keys_from_classes(x: Tensor, out: Tensor, phase: int) -> None:
    """Write (b, H, r, n, D) of keys that were moved by the phase into ``out`` (b, H, L, D)."""
    if phase == 0:
        from_classes(x, out)
        return
    length = out.shape[2]
    phase = min(phase, length)
    out[:, :, : length - phase] = _natural(x, length)[:, :, phase:]
    out[:, :, length - phase :] = 0  # no row is far enough behind these keys


def _natural(x: Tensor, length: int) -> Tensor:
    """(b, H, r, n, D) -> (b, H, L, D)."""
    out = x.new_empty(*x.shape[:2], length, x.shape[-1])
    from_classes(x, out)
    return out


class _Work(NamedTuple):
    """A piece of the batch for the heads of one plan, which is number ``place``."""

    part: slice
    heads: slice
    place: int
    plan: ClassPlan
    tables: _Tables
    scale: float

    def of(self, *tensors: Tensor) -> list[Tensor]:
        """Its part of tensors (B, H, L, D)."""
        return [x[self.part, self.heads] for x in tensors]

    def room(self, kept: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Its part of the weights of every block, if any are kept."""
        return [weights[self.part] for weights in kept[self.place]] if kept else []


def _works(
    query: Tensor, time: Tensor | None, position: Tensor | None, plans: Sequence[HeadPlan], scale: float
) -> Iterator[_Work]:
    """All work that there is."""
    for place, (heads, plan) in enumerate(plans):
        tables = _Tables(_rows_of(time, heads), _rows_of(position, heads), query)
        for part in pieces(len(query), _area(plan, query[:, heads].shape[1]), query.device):
            yield _Work(part, heads, place, plan, tables, scale)


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    time: Tensor | None,
    position: Tensor | None,
    plans: Sequence[HeadPlan],
    scale: float,
    kept: Sequence[Sequence[Tensor]],
) -> Tensor:
    """`attend_by_classes`; writes the weights of every block of every plan into ``kept`` if there are any."""
    out = _like_rows(query)
    for work in _works(query, time, position, plans, scale):
        _attend(work, work.room(kept), *work.of(query, key, value, out))
    return out


def _attend(
    work: _Work, room: Sequence[Tensor], query: Tensor, key: Tensor, value: Tensor, out: Tensor
) -> None:
    """Write the result of a piece of work, all (b, H, L, D), and its weights if there is room."""
    plan, columns = work.plan, len(work.plan.offsets)
    piece = _piece(query, key, plan, work.scale)
    # (b H r, W of the last block, D); values begin with zeros for the columns of the band.
    values = to_classes(moved(value, plan.phase), plan.r, columns).flatten(0, 2)
    sums, shares = torch.empty_like(piece.rows), torch.empty_like(piece.band)
    for index, block in enumerate(plan.blocks):
        ids = block.ids[work.part]
        # Training writes the weights where the backward pass finds them; scoring reuses fresh memory.
        fresh = room[index] if room else query.new_empty(len(ids), query.shape[1], *ids.shape[1:])
        weights = _weights(fresh, piece, block, ids, work.tables)
        rows = slice(block.first, block.last)
        flat = weights.view(-1, *weights.shape[-2:])  # (b H r, R, W)
        sums.flatten(0, 2)[:, rows] = torch.bmm(flat, values[:, : flat.shape[2]])  # (b H r, R, D)
        shares[..., rows, :] = weights[..., :columns]
    from_classes(sums, out)
    _add_band_keys(out, _natural(shares, plan.length), value, plan.offsets)


class _Gradients:
    """Gradients of a piece of the batch, gathered block by block, the last block first."""

    def __init__(self, scores: _Piece, changes: _Piece, columns: int) -> None:
        self.scores, self.changes, self.columns = scores, changes, columns
        self.query = torch.empty_like(scores.rows)
        # The last block sees all keys, so its gradients start the sums and nothing needs to be set to zero.
        # Until it is in, which is first, these two are placeholders.
        self.key, self.value = self.query, self.query
        self.band_logits, self.band_weights = torch.empty_like(scores.band), torch.empty_like(scores.band)

    def add(self, weights: Tensor, dlogits: Tensor, block: Block) -> None:
        """Take in weights of a block and the gradient of its logits, both (b, H, r, R, W)."""
        rows, columns = slice(block.first, block.last), self.columns
        flat, flat_weights = dlogits.flatten(0, 2), weights.flatten(0, 2)  # (b H r, R, W)
        queries, changes = self.scores.rows.flatten(0, 2)[:, rows], self.changes.rows.flatten(0, 2)[:, rows]
        # Keys begin with zeros in place of the band, so its columns add nothing here; `write` adds the band.
        keys = self.scores.keys.flatten(0, 2)[:, : flat.shape[2]]  # (b H r, W, D)
        self.query.flatten(0, 2)[:, rows] = torch.bmm(flat, keys)
        key = torch.bmm(flat.transpose(1, 2)[:, columns:], queries)  # (b H r, last, D)
        value = torch.bmm(flat_weights.transpose(1, 2)[:, columns:], changes)  # (b H r, last, D)
        if block.last == self.query.shape[3]:
            # (b, H, r, n, D): the last block's keys are all rows of the classes.
            self.key, self.value = key.view_as(self.query), value.view_as(self.query)
        else:
            self.key.flatten(0, 2)[:, : block.last] += key
            self.value.flatten(0, 2)[:, : block.last] += value
        self.band_logits[..., rows, :] = dlogits[..., :columns]
        self.band_weights[..., rows, :] = weights[..., :columns]

    def write(self, out: Sequence[Tensor], inputs: Sequence[Tensor], plan: ClassPlan) -> None:
        """Write those of query, key and value (b, H, L, D); given query, key and gradient of the result."""
        query, key, grad = inputs
        scale = self.scores.scale
        from_classes(self.query.mul_(scale), out[0])
        _keys_from_classes(self.key.mul_(scale), out[1], plan.phase)
        _keys_from_classes(self.value, out[2], plan.phase)
        shares = _natural(self.band_logits, plan.length).mul_(scale)
        _add_band_keys(out[0], shares, key, plan.offsets)
        _add_band_rows(out[1], shares, query, plan.offsets)
        _add_band_rows(out[2], _natural(self.band_weights, plan.length), grad, plan.offsets)


class _ClassAttention(torch.autograd.Function):
    """`attend_by_classes` with gradients; no tensor is larger than the weights of the pairs."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        time: Tensor | None,
        position: Tensor | None,
        plans: Sequence[HeadPlan],
        scale: float,
    ) -> Tensor:
        """See `attend_by_classes`."""
        kept: list[list[Tensor]] = []
        heads = [query[:, of].shape[1] for of, _ in plans]
        if sum(plan.pairs * count for (_, plan), count in zip(plans, heads, strict=True)) <= KEPT:
            kept = [
                [query.new_empty(len(block.ids), count, *block.ids.shape[1:]) for block in plan.blocks]
                for (_, plan), count in zip(plans, heads, strict=True)
            ]
        out = _forward(query, key, value, time, position, plans, scale, kept)
        ctx.plans, ctx.scale = plans, scale
        ctx.save_for_backward(query, key, value, time, position, *chain(*kept))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, time, position, *flat = ctx.saved_tensors
        held = iter(flat)
        kept = [[next(held) for _ in plan.blocks] for _, plan in ctx.plans] if flat else []
        by_time = None if time is None else time.new_zeros(len(time), LANES * (SHUT + 1), dtype=torch.float64)
        by_distance = None if position is None else torch.zeros_like(position, dtype=torch.float64)
        tables = _TableGradients(by_time, by_distance)
        out = _like_rows(query), _like_rows(query), _like_rows(query)
        for work in _works(query, time, position, ctx.plans, ctx.scale):
            gradients = _gradients(work, work.room(kept), tables, *work.of(query, key, value, grad))
            gradients.write(work.of(*out), work.of(query, key, grad), work.plan)
        return (*out, None if by_time is None else fold(by_time), by_distance, None, None)


def _gradients(
    work: _Work,
    room: Sequence[Tensor],
    tables: _TableGradients,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    grad: Tensor,
) -> _Gradients:
    """Gather the gradients of a piece of work, all (b, H, L, D), and add up those of the tables.

    Args:
        room: weights of every block; if there are none they are computed again.
    """
    plan, sums = work.plan, tables.of(work.heads)
    scores, changes = _piece(query, key, plan, work.scale), _piece(grad, value, plan)
    gradients = _Gradients(scores, changes, len(plan.offsets))
    for index, block in reversed(list(enumerate(plan.blocks))):
        ids = block.ids[work.part]
        dweights = query.new_empty(len(ids), query.shape[1], *ids.shape[1:])  # (b, H, r, R, W)
        weights = (
            room[index] if room else _weights(torch.empty_like(dweights), scores, block, ids, work.tables)
        )
        _add_products(dweights, changes, block, share=0)
        # One fused pass, in place, for dlogits = weights (dweights - sum of weights dweights).
        dlogits = torch._softmax_backward_data(dweights, weights, -1, weights.dtype, grad_input=dweights)
        sums.add(dlogits, ids, block.distance)
        gradients.add(weights, dlogits, block)
    return gradients
