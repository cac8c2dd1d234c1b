"""Exact sparse self-attention that costs L (k + L / r) pairs, not L^2 (Lai et al. 2025, section 3.3.1).

Row i sees behavior j <= i when ``i - j < k`` (local window) or ``(i - j - phase) % r == 0`` (dilated); r = 1
is full causal attention. Densely, for queries, keys and values (L, D / H) of one head::

    distance = i - j
    seen     = (j <= i) and mask[j] and (distance < k or (distance - phase) % r == 0), or i == j
    logits   = scale * query @ key.T + time_table[bucket(times[i] - times[j])] + position_table[distance]
    output   = softmax(where(seen, logits, -inf)) @ value

Here the same sum is arranged by what is seen. Keys move to the right by their head's phase, so that row i and
the key now at place i are ``phase`` apart. Then rows and keys of one residue class ``i % r`` see each other
like a dense causal sequence of ceil(L / r) rows: the dilated part is r small dense problems (`to_classes`).
They are cut into blocks of rows, and a block leaves out the keys after its last row, close to half of all.
The local offsets 0 .. k - 1 that are not in the classes, the band, are extra columns of the same softmax. The
columns are those of all heads, and what a head has in its classes is shut there, so no key is counted twice.
The buckets of all pairs are in the plan, see `clickscale.layers.kernels.class_plans`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clickscale.layers.kernels.class_plans import Block, ClassPlan
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
    plan: ClassPlan,
    time: Tensor | None,
    position: Tensor | None,
    scale: float,
) -> Tensor:
    """Attention of every behavior over the behaviors that the plan lets it see.

    Args:
        query, key, value: (B, H, L, D / H).
        plan: of all heads, see `ClassPlan.of_heads`.
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
            out: Tensor = _ClassAttention.apply(*inputs, plan, scale)  # type: ignore[no-untyped-call]
        else:
            out = _forward(*inputs, plan, scale, ())
    return out.to(query.dtype)


def choose(batch: int, length: int, k: int, r: int) -> Literal["dense", "classes"]:
    """The faster form of self-attention on a CPU, by the measurements of docs/attention.md.

    Classes have a fixed cost of half a millisecond, and a local offset costs about fifteen pairs.
    """
    offsets = 0 if r == 1 else (k - 1) - (k - 1) // r
    enough = batch * length**2 >= 240_000 or (r > 1 and length >= 240)
    return "classes" if enough and 15 * offsets <= length else "dense"


# --- layouts


def _like_rows(x: Tensor) -> Tensor:
    """Room for (B, H, L, D) that merges into (B, L, H D) without a copy."""
    batch, heads, length, width = x.shape
    return x.new_empty(batch, length, heads, width).transpose(1, 2)  # (B, H, L, D)


# --- the band


def _band_products(rows: Tensor, keys: Tensor, plan: ClassPlan) -> Tensor:
    """(B, H, L, offsets): product of each row and the key so many positions before it, 0 where shut."""
    # Products of a row and one key each are sums along D; a loop over few offsets copies no keys.
    out = rows.new_zeros(*rows.shape[:3], len(plan.offsets))
    for heads, column, offset in plan.band:
        before = keys[:, heads, : keys.shape[2] - offset]
        torch.sum(rows[:, heads, offset:] * before, dim=3, out=out[:, heads, offset:, column])
    return out


def _add_band_keys(out: Tensor, weights: Tensor, keys: Tensor, plan: ClassPlan) -> None:
    """Add to each row the weighted keys (or values) before it."""
    for heads, column, offset in plan.band:
        before = keys[:, heads, : keys.shape[2] - offset]
        out[:, heads, offset:].addcmul_(weights[:, heads, offset:, column, None], before)


def _add_band_rows(out: Tensor, weights: Tensor, rows: Tensor, plan: ClassPlan) -> None:
    """Add to each key the weighted rows after it."""
    for heads, column, offset in plan.band:
        before = out[:, heads, : out.shape[2] - offset]
        before.addcmul_(weights[:, heads, offset:, column, None], rows[:, heads, offset:])


# --- the bias


class _Tables:
    """The bias of a pair from the tables of time and distance; ``heads`` are those of the plan."""

    def __init__(
        self, time: Tensor | None, position: Tensor | None, heads: tuple[int, ...], like: Tensor
    ) -> None:
        self.time, self.heads = masking(time, like), heads
        self.position = None if position is None else position.to(like.dtype)

    def write(self, out: Tensor, ids: Tensor, distance: Tensor) -> None:
        """Write the bias of pairs, of buckets (b, P, r, R, W), into ``out`` (b, H, r, R, W)."""
        bias = _of_heads(self.time, ids, self.heads)  # (b, 1 or H, r, R, W)
        if self.position is None:
            out.copy_(bias)
        else:
            capped = _capped(distance, self.position)
            of_distance = _of_heads(self.position, capped, self.heads)[:, :, None]  # (1, 1 or H, 1, R, W)
            torch.add(bias.expand_as(out), of_distance, out=out)


class _TableGradients:
    """Sums of the gradient of the logits by time bucket and by distance; float64, since terms are many.

    Attributes:
        time: (tables, 8 * 130) by the buckets of `spread`, or None.
        position: (tables, N + 1), or None.
        heads: those of the plan.
    """

    def __init__(self, time: Tensor | None, position: Tensor | None, heads: tuple[int, ...]) -> None:
        self.time, self.position, self.heads = time, position, heads

    def add(self, grad: Tensor, ids: Tensor, distance: Tensor) -> None:
        """Add the gradient (b, H, r, R, W) of logits of buckets (b, P, r, R, W) and distances (P, R, W)."""
        # Heads that share a table and a phase add up first: the slow sums by index then run over fewer.
        shared = any(x is not None and len(x) == 1 for x in (self.time, self.position))
        summed = _by_phase(grad, self.heads) if shared else grad
        if self.time is not None:
            _add_of_heads(self.time, spread(ids), summed if len(self.time) == 1 else grad, self.heads)
        if self.position is not None:
            terms = summed if len(self.position) == 1 else grad
            of_pair = terms.sum(0).sum(1)[None]  # (1, P or H, R, W); both at once takes ten times as long
            _add_of_heads(self.position, _capped(distance, self.position), of_pair, self.heads)


def _capped(distance: Tensor, position: Tensor) -> Tensor:
    """Entries (1, P, R, W) of distances (P, R, W): far ones share the last entry of the table."""
    return distance.clamp(max=position.shape[1] - 1)[None]


def _of_heads(tables: Tensor, index: Tensor, heads: tuple[int, ...]) -> Tensor:
    """Entries (b, 1 or H, ...) of each head's table (of 1 or H) at the index (b, P, ...) of its phase."""
    if len(tables) == 1:  # read once for all heads of a phase
        read = look_up(tables, index).squeeze(1)  # (b, P, ...)
        return read if heads == tuple(range(len(heads))) else read[:, heads]
    if len(heads) == 1:
        return look_up(tables, index[:, 0])
    each = (look_up(tables[head : head + 1], index[:, place]) for head, place in enumerate(heads))
    return torch.cat(tuple(each), dim=1)


def _by_phase(x: Tensor, heads: tuple[int, ...]) -> Tensor:
    """Sums (b, P, ...) of x (b, H, ...) over the heads of each phase."""
    if len(heads) == 1:
        return x.sum(1, keepdim=True) if x.shape[1] > 1 else x
    if heads == tuple(range(len(heads))):
        return x
    sums = x.new_zeros(len(x), max(heads) + 1, *x.shape[2:])
    return sums.index_add_(1, torch.tensor(heads, device=x.device), x)


def _add_of_heads(sums: Tensor, index: Tensor, terms: Tensor, heads: tuple[int, ...]) -> None:
    """Add terms to ``sums`` (1 or H, n) at the index (b, P, ...); the inverse of `_of_heads`.

    Args:
        terms: (b, P, ...) of one table that all heads share, see `_by_phase`, or (b, H, ...).
    """
    if len(sums) == 1:
        add_up(sums, index, terms[:, None])
    elif len(heads) == 1:
        add_up(sums, index[:, 0], terms)
    else:
        for head, place in enumerate(heads):
            add_up(sums[head : head + 1], index[:, place], terms[:, head : head + 1])


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
    band = to_classes(_band_products(rows, keys, plan), plan.r).mul_(scale)
    shifted = to_classes(_moved(keys, plan), plan.r, len(plan.offsets))
    return _Piece(to_classes(rows, plan.r), shifted, band, scale)


def _moved(keys: Tensor, plan: ClassPlan) -> Tensor:
    """Keys or values (b, H, L, D) moved by their head's phase."""
    parts = [moved(keys[:, heads], phase) for heads, phase in plan.moves]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


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
    return heads * max((block.ids[0, 0].numel() for block in plan.blocks if len(block.ids)), default=0)


def _keys_from_classes(x: Tensor, out: Tensor, plan: ClassPlan) -> None:
    """Write (b, H, r, n, D) of keys that were moved into ``out`` (b, H, L, D)."""
    length = out.shape[2]
    for heads, phase in plan.moves:
        if phase == 0:
            from_classes(x[:, heads], out[:, heads])
            continue
        reached = length - min(phase, length)
        out[:, heads, :reached] = _natural(x[:, heads], length)[:, :, length - reached :]
        out[:, heads, reached:] = 0  # no row is far enough behind these keys


def _room(query: Tensor, ids: Tensor) -> Tensor:
    """Room (b, H, r, R, W) for a number of each pair of a block, of buckets (b, P, r, R, W)."""
    return query.new_empty(len(ids), query.shape[1], *ids.shape[2:])


def _natural(x: Tensor, length: int) -> Tensor:
    """(b, H, r, n, D) -> (b, H, L, D)."""
    out = x.new_empty(*x.shape[:2], length, x.shape[-1])
    from_classes(x, out)
    return out


class _Work(NamedTuple):
    """A piece of the batch."""

    part: slice
    plan: ClassPlan
    tables: _Tables
    scale: float

    def of(self, *tensors: Tensor) -> list[Tensor]:
        """Its part of tensors (B, H, L, D), or of the weights of blocks."""
        return [x[self.part] for x in tensors]


def _works(
    query: Tensor, time: Tensor | None, position: Tensor | None, plan: ClassPlan, scale: float
) -> Iterator[_Work]:
    """All work that there is."""
    tables = _Tables(time, position, plan.heads, query)
    for part in pieces(len(query), _area(plan, query.shape[1]), query.device):
        yield _Work(part, plan, tables, scale)


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    time: Tensor | None,
    position: Tensor | None,
    plan: ClassPlan,
    scale: float,
    kept: Sequence[Tensor],
) -> Tensor:
    """`attend_by_classes`; writes the weights of every block into ``kept`` if there are any."""
    out = _like_rows(query)
    for work in _works(query, time, position, plan, scale):
        _attend(work, work.of(*kept), *work.of(query, key, value, out))
    return out


def _attend(
    work: _Work, room: Sequence[Tensor], query: Tensor, key: Tensor, value: Tensor, out: Tensor
) -> None:
    """Write the result of a piece of work, all (b, H, L, D), and its weights if there is room."""
    plan, columns = work.plan, len(work.plan.offsets)
    piece = _piece(query, key, plan, work.scale)
    # (b H r, W of the last block, D); values begin with zeros for the columns of the band.
    values = to_classes(_moved(value, plan), plan.r, columns).flatten(0, 2)
    sums, shares = torch.empty_like(piece.rows), torch.empty_like(piece.band)
    for index, block in enumerate(plan.blocks):
        ids = block.ids[work.part]
        # Training writes the weights where the backward pass finds them; scoring reuses fresh memory.
        fresh = room[index] if room else _room(query, ids)
        weights = _weights(fresh, piece, block, ids, work.tables)
        rows = slice(block.first, block.last)
        flat = weights.view(-1, *weights.shape[-2:])  # (b H r, R, W)
        sums.flatten(0, 2)[:, rows] = torch.bmm(flat, values[:, : flat.shape[2]])  # (b H r, R, D)
        shares[..., rows, :] = weights[..., :columns]
    from_classes(sums, out)
    _add_band_keys(out, _natural(shares, plan.length), value, plan)


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
        _keys_from_classes(self.key.mul_(scale), out[1], plan)
        _keys_from_classes(self.value, out[2], plan)
        shares = _natural(self.band_logits, plan.length).mul_(scale)
        _add_band_keys(out[0], shares, key, plan)
        _add_band_rows(out[1], shares, query, plan)
        _add_band_rows(out[2], _natural(self.band_weights, plan.length), grad, plan)


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
        plan: ClassPlan,
        scale: float,
    ) -> Tensor:
        """See `attend_by_classes`."""
        few = plan.pairs * query.shape[1] <= KEPT
        kept = [_room(query, block.ids) for block in plan.blocks] if few else []
        out = _forward(query, key, value, time, position, plan, scale, kept)
        ctx.plan, ctx.scale = plan, scale
        ctx.save_for_backward(query, key, value, time, position, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, time, position, *kept = ctx.saved_tensors
        by_time = None if time is None else time.new_zeros(len(time), LANES * (SHUT + 1), dtype=torch.float64)
        by_distance = None if position is None else torch.zeros_like(position, dtype=torch.float64)
        tables = _TableGradients(by_time, by_distance, ctx.plan.heads)
        out = _like_rows(query), _like_rows(query), _like_rows(query)
        for work in _works(query, time, position, ctx.plan, ctx.scale):
            gradients = _gradients(work, work.of(*kept), tables, *work.of(query, key, value, grad))
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
    plan = work.plan
    scores, changes = _piece(query, key, plan, work.scale), _piece(grad, value, plan)
    gradients = _Gradients(scores, changes, len(plan.offsets))
    for index, block in reversed(list(enumerate(plan.blocks))):
        ids = block.ids[work.part]
        dweights = _room(query, ids)
        weights = (
            room[index] if room else _weights(torch.empty_like(dweights), scores, block, ids, work.tables)
        )
        _add_products(dweights, changes, block, share=0)
        # One fused pass, in place, for dlogits = weights (dweights - sum of weights dweights).
        dlogits = torch._softmax_backward_data(dweights, weights, -1, weights.dtype, grad_input=dweights)
        tables.add(dlogits, ids, block.distance)
        gradients.add(weights, dlogits, block)
    return gradients
