"""Exact sparse self-attention that costs L (k + L / r) pairs, not L^2 (Lai et al. 2025, section 3.4.1).

Row i sees behavior j <= i when ``i - j < k`` (local window) or ``(i - j) % r == 0`` (dilated); r = 1 is full
causal attention. Densely, for queries, keys and values (L, D / H) of one head::

    distance = i - j
    seen     = (j <= i) and mask[j] and (distance < k or distance % r == 0), or i == j
    logits   = scale * query @ key.T + time_table[bucket(times[i] - times[j])] + position_table[distance]
    output   = softmax(where(seen, logits, -inf)) @ value

Here the same sum is arranged by what is seen. Rows and keys of one residue class ``i % r`` see each other
like a dense causal sequence of ceil(L / r) rows, so the dilated part is r small dense problems
(`to_classes`). They are cut into blocks of rows, and a block leaves out the keys after its last row, close to
half of all. The local offsets 1 .. k - 1 that r does not divide, the band, are extra columns of the same
softmax, so no key is counted twice. The buckets of all pairs depend only on times and padding: a `ClassPlan`
holds them, made once per batch and shared by all blocks of a model.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clickscale.layers.bias import Buckets
from clickscale.layers.kernels.residue_classes import (
    KEPT,
    LANES,
    SHUT,
    add_up,
    cuts,
    fold,
    from_classes,
    look_up,
    masking,
    pieces,
    short_times,
    spread,
    to_classes,
    write_buckets,
)


@dataclass(frozen=True)
class _Block:
    """Rows first <= m < last of every class: they see the band and the keys m' < last of their class.

    Attributes:
        ids: (B, r, last - first, offsets + last) int16, `spread` time bucket of each pair, ``SHUT`` where not
            seen.
        distance: (last - first, offsets + last) int64, positions from key to row; 0 where not seen.
    """

    first: int
    last: int
    ids: Tensor
    distance: Tensor


@dataclass(frozen=True)
class ClassPlan:
    """The part of self-attention that depends on times, padding, k and r: made once per batch for all blocks.

    Attributes:
        length: L.
        r: number of classes.
        offsets: the local offsets that are not multiples of r.
    """

    length: int
    r: int
    offsets: tuple[int, ...]
    blocks: tuple[_Block, ...]

    @property
    def rows(self) -> int:
        """Rows of a class; those past the end of the sequence hold nothing."""
        return -(-self.length // self.r)

    @property
    def pairs(self) -> int:
        """Logits of one head of the whole batch."""
        return sum(block.ids.numel() for block in self.blocks)


def class_plan(times: Tensor, mask: Tensor, k: int, r: int, kind: Buckets) -> ClassPlan:
    """Plan of a batch.

    Args:
        times: (B, L) int64 seconds.
        mask: (B, L) bool, False where there is no behavior; such a row sees itself, and behaviors before it.
        k, r: local window and dilation, both at least 1.
        kind: buckets of time differences, as of `time_buckets`.
    """
    batch, length = times.shape
    if k >= length:
        r = 1  # the window is the whole sequence: one class is cheaper than a band of L columns
    offsets = tuple(o for o in range(1, min(k, length)) if o % r)
    rows = -(-length // r)
    (times,) = short_times(times)  # half the memory traffic of int64
    when = to_classes(times[:, None, :, None], r)[:, 0, ..., 0]  # (B, r, rows)
    hidden = to_classes(~mask[:, None, :, None], r)[:, 0, ..., 0].to(torch.uint8).mul_(SHUT)  # (B, r, rows)
    band = to_classes(_band_ids(times, mask, offsets, kind)[:, None], r)[:, 0]  # (B, r, rows, offsets)
    blocks = []
    for first, last in cuts(rows):
        ids = times.new_empty((batch, r, last - first, len(offsets) + last), dtype=torch.uint8)
        # In pieces, so that the differences of times (4 or 8 bytes a pair) stay in the cache.
        for part in pieces(batch, r * (last - first) * last, ids.device):
            classes = ids[part][..., len(offsets) :]
            write_buckets(when[part, :, first:last, None], when[part, :, None, :last], kind, classes)
            # SHUT is the largest bucket, so a maximum masks; diagonals are opened last: padding sees itself.
            torch.maximum(classes, hidden[part, :, None, :last], out=classes)
            _close_future(classes[..., first:])
        ids[..., : len(offsets)] = band[:, :, first:last]
        blocks.append(_Block(first, last, spread(ids), _distance(first, last, r, offsets, ids.device)))
    return ClassPlan(length, r, offsets, tuple(blocks))


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
        time: (1 or H, 129) bias by time bucket, or None.
        position: (1 or H, N + 1) bias by distance, where distances beyond N share the last, or None.
        scale: factor of the products.

    Returns:
        (B, H, L, D / H), computed in float32 (float64 if the query is); any finite numbers in padding rows.
    """
    if plan.length == 0:
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

    Classes have a fixed cost of a third of a millisecond, and a local offset costs about fifteen pairs.
    """
    offsets = 0 if r == 1 else (k - 1) - (k - 1) // r
    return "classes" if batch * length**2 >= 240_000 and 15 * offsets <= length else "dense"


# --- the plan


def _close_future(ids: Tensor) -> None:
    """Hide later keys in the square part of a block, and let every row see itself."""
    rows = ids.shape[-1]
    future = torch.full((rows, rows), SHUT, dtype=torch.uint8, device=ids.device).triu_(1)
    torch.maximum(ids, future, out=ids)
    ids.diagonal(dim1=-2, dim2=-1).zero_()


def _band_ids(times: Tensor, mask: Tensor, offsets: tuple[int, ...], kind: Buckets) -> Tensor:
    """(B, L, offsets) uint8: buckets of each row and the one so many positions before it."""
    ids = torch.full((*times.shape, len(offsets)), SHUT, dtype=torch.uint8, device=times.device)
    for column, offset in enumerate(offsets):
        band = ids[:, offset:, column]
        write_buckets(times[:, offset:], times[:, :-offset], kind, band)
        band.masked_fill_(~mask[:, :-offset], SHUT)
    return ids


def _distance(first: int, last: int, r: int, offsets: tuple[int, ...], device: torch.device) -> Tensor:
    """(last - first, offsets + last) int64, see `_Block`."""
    column = torch.arange(last, device=device)
    inside = (column[first:, None] - column).clamp_(min=0) * r  # (last - first, last)
    return torch.cat(
        [torch.tensor(offsets, dtype=torch.int64, device=device).expand(len(inside), -1), inside], 1
    )


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
        torch.sum(rows[:, :, offset:] * keys[:, :, :-offset], dim=3, out=out[:, :, offset:, column])
    return out


def _add_band_keys(out: Tensor, weights: Tensor, keys: Tensor, offsets: tuple[int, ...]) -> None:
    """Add to each row the weighted keys (or values) before it."""
    for column, offset in enumerate(offsets):
        out[:, :, offset:].addcmul_(weights[:, :, offset:, column, None], keys[:, :, :-offset])


def _add_band_rows(out: Tensor, weights: Tensor, rows: Tensor, offsets: tuple[int, ...]) -> None:
    """Add to each key the weighted rows after it."""
    for column, offset in enumerate(offsets):
        out[:, :, :-offset].addcmul_(weights[:, :, offset:, column, None], rows[:, :, offset:])


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
    """Sums of the gradient of the logits by time bucket and by distance; float64, since terms are many."""

    def __init__(self, time: Tensor | None, position: Tensor | None) -> None:
        self._time = (
            None if time is None else time.new_zeros(len(time), LANES * (SHUT + 1), dtype=torch.float64)
        )
        self.position = None if position is None else torch.zeros_like(position, dtype=torch.float64)
        self.shared = any(x is not None and len(x) == 1 for x in (time, position))

    @property
    def time(self) -> Tensor | None:
        """(tables, 129)."""
        return None if self._time is None else fold(self._time)

    def add(self, grad: Tensor, ids: Tensor, distance: Tensor) -> None:
        """Add the gradient (b, H, r, R, W) of logits of these buckets (b, r, R, W) and distances (R, W)."""
        # Heads that share a table add up first: the slow sums by index then run over one head.
        summed = grad.sum(1, keepdim=True) if self.shared else grad
        if self._time is not None:
            add_up(self._time, ids, summed if len(self._time) == 1 else grad)
        if self.position is not None:
            of_pair = (summed if len(self.position) == 1 else grad).sum((0, 2)).double()  # (tables, R, W)
            index = distance.clamp(max=self.position.shape[1] - 1)
            self.position.index_add_(1, index.flatten(), of_pair.flatten(1))


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
    return _Piece(to_classes(rows, plan.r), to_classes(keys, plan.r, len(plan.offsets)), band, scale)


def _add_products(x: Tensor, piece: _Piece, block: _Block) -> Tensor:
    """Add to ``x`` (b, H, r, R, W) the products of a block's rows and keys."""
    x[..., : piece.band.shape[-1]] += piece.band[..., block.first : block.last, :]
    rows = piece.rows.flatten(0, 2)[:, block.first : block.last]  # (b H r, R, D)
    keys = piece.keys.flatten(0, 2)[:, : x.shape[-1]]  # (b H r, W, D)
    # In place: ``x`` holds the bias, or backward minus the mean, and no second tensor of all pairs is made.
    x.view(-1, *x.shape[-2:]).baddbmm_(rows, keys.transpose(1, 2), alpha=piece.scale)
    return x


def _weights(out: Tensor, piece: _Piece, block: _Block, ids: Tensor, tables: _Tables) -> Tensor:
    """Write the weights of a block's pairs into ``out`` (b, H, r, R, W)."""
    tables.write(out, ids, block.distance)
    _add_products(out, piece, block)
    return torch.softmax(out, -1, out=out)


def _area(plan: ClassPlan, heads: int) -> int:
    """Logits of one row of the batch in the largest block."""
    return heads * max((block.ids[0].numel() for block in plan.blocks if len(block.ids)), default=0)


def _natural(x: Tensor, length: int) -> Tensor:
    """(b, H, r, n, D) -> (b, H, L, D)."""
    out = x.new_empty(*x.shape[:2], length, x.shape[-1])
    from_classes(x, out)
    return out


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    time: Tensor | None,
    position: Tensor | None,
    plan: ClassPlan,
    scale: float,
    kept: tuple[Tensor, ...],
) -> Tensor:
    """`attend_by_classes`; writes the weights of every block into ``kept`` if there are any."""
    heads, columns = query.shape[1], len(plan.offsets)
    tables, out = _Tables(time, position, query), _like_rows(query)
    for part in pieces(len(query), _area(plan, heads), query.device):
        piece = _piece(query[part], key[part], plan, scale)
        values = to_classes(value[part], plan.r, columns).flatten(0, 2)  # (b H r, W of the last block, D)
        sums, shares = torch.empty_like(piece.rows), torch.empty_like(piece.band)
        for index, block in enumerate(plan.blocks):
            ids = block.ids[part]
            # Training writes the weights where the backward pass finds them; scoring reuses fresh memory.
            room = kept[index][part] if kept else query.new_empty(len(ids), heads, *ids.shape[1:])
            weights = _weights(room, piece, block, ids, tables)
            rows = slice(block.first, block.last)
            flat = weights.view(-1, *weights.shape[-2:])  # (b H r, R, W)
            # Values begin with zeros for the columns of the band, whose shares are added after the loop.
            sums.flatten(0, 2)[:, rows] = torch.bmm(flat, values[:, : flat.shape[2]])  # (b H r, R, D)
            shares[..., rows, :] = weights[..., :columns]
        from_classes(sums, out[part])
        _add_band_keys(out[part], _natural(shares, plan.length), value[part], plan.offsets)
    return out


class _Gradients:
    """Gradients of a piece of the batch, gathered block by block, the last block first."""

    def __init__(self, scores: _Piece, changes: _Piece, columns: int) -> None:
        self.scores, self.changes, self.columns = scores, changes, columns
        self.query = torch.empty_like(scores.rows)
        # The last block sees all keys, so its gradients start the sums and nothing needs to be set to zero.
        # Until it is in, which is first, these two are placeholders.
        self.key, self.value = self.query, self.query
        self.band_logits, self.band_weights = torch.empty_like(scores.band), torch.empty_like(scores.band)

    def add(self, weights: Tensor, dlogits: Tensor, block: _Block) -> None:
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

    def write(
        self, out: tuple[Tensor, Tensor, Tensor], inputs: tuple[Tensor, Tensor, Tensor], plan: ClassPlan
    ) -> None:
        """Write those of query, key and value (b, H, L, D); given query, key and gradient of the result."""
        query, key, grad = inputs
        scale = self.scores.scale
        from_classes(self.query.mul_(scale), out[0])
        from_classes(self.key.mul_(scale), out[1])
        from_classes(self.value, out[2])
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
        plan: ClassPlan,
        scale: float,
    ) -> Tensor:
        """See `attend_by_classes`."""
        kept: tuple[Tensor, ...] = ()
        if plan.pairs * query.shape[1] <= KEPT:
            shapes = [(len(block.ids), query.shape[1], *block.ids.shape[1:]) for block in plan.blocks]
            kept = tuple(query.new_empty(shape) for shape in shapes)
        out = _forward(query, key, value, time, position, plan, scale, kept)
        ctx.plan, ctx.scale = plan, scale
        ctx.save_for_backward(query, key, value, time, position, out, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by ``dlogits = weights (dweights - sum of weights dweights)``."""
        query, key, value, time, position, out, *kept = ctx.saved_tensors
        plan, heads = ctx.plan, query.shape[1]
        tables, sums = _Tables(time, position, query), _TableGradients(time, position)
        dquery, dkey, dvalue = (_like_rows(query) for _ in range(3))
        for part in pieces(len(query), _area(plan, heads), query.device):
            scores = _piece(query[part], key[part], plan, ctx.scale)
            changes = _piece(grad[part], value[part], plan)
            mean = to_classes((grad[part] * out[part]).sum(-1, keepdim=True), plan.r)
            gradients = _Gradients(scores, changes, len(plan.offsets))
            for index, block in reversed(list(enumerate(plan.blocks))):
                ids = block.ids[part]
                dlogits = query.new_empty(len(ids), heads, *ids.shape[1:])  # (b, H, r, R, W)
                # Start from minus the mean; the products of gradient and values are added in place.
                dlogits.copy_(-mean[..., block.first : block.last, :])
                weights = (
                    kept[index][part]
                    if kept
                    else _weights(torch.empty_like(dlogits), scores, block, ids, tables)
                )
                _add_products(dlogits, changes, block).mul_(weights)
                sums.add(dlogits, ids, block.distance)
                gradients.add(weights, dlogits, block)
            gradients.write(
                (dquery[part], dkey[part], dvalue[part]), (query[part], key[part], grad[part]), plan
            )
        return dquery, dkey, dvalue, sums.time, sums.position, None, None
