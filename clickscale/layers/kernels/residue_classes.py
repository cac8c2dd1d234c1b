"""Memory layout of sparse attention: pieces of work, residue classes, and bias tables read by index.

A residue class of r holds the positions i with the same ``i % r``. ``to_classes`` is, without its loop::

    for i in range(L):
        out[:, :, i % r, before + i // r] = x[:, :, i]
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from clickscale.layers.bias import TIME_BUCKETS, Buckets, time_buckets

SHUT = TIME_BUCKETS  # the bucket of pairs that are not seen; its bias is -inf
_ROWS = 64  # rows of a block, about
_PIECE = 1 << 19  # logits that are worked on together: they share the cache of one core with their gradient
LANES = 8  # see `spread`
KEPT = 1 << 26  # logits of which the weights wait for the backward pass; more are computed again


# --- pieces of work


def cuts(rows: int) -> list[tuple[int, int]]:
    """Blocks of about equally many rows."""
    count = max(round(rows / _ROWS), 1) if rows > 0 else 0
    # Small blocks leave out more of the keys that come later; large ones multiply faster.
    edges = [rows * i // count for i in range(count + 1)] if count else []
    return list(pairwise(edges))


def pieces(batch: int, numbers: int, device: torch.device) -> list[slice]:
    """Rows of the batch to work on together, where each holds so many numbers."""
    step = max(_PIECE // max(numbers, 1), 1) if device.type == "cpu" else max(batch, 1)
    return [slice(first, min(first + step, batch)) for first in range(0, batch, step)]


# --- classes


def to_classes(x: Tensor, r: int, before: int = 0) -> Tensor:
    """(B, H, L, D) -> (B, H, r, before + ceil(L / r), D): position i is row i // r of class i % r.

    What no position fills is zero: ``before`` rows at the start of every class, and the last row of some.
    """
    batch, heads, length, width = x.shape
    full = length // r
    out = x.new_empty(batch, heads, r, before - (-length // r), width)
    out[:, :, :, :before] = 0  # zeros, not fresh memory: they are multiplied, and fresh memory may hold nan
    # One strided copy of the positions that fill whole rows of all classes, then the rest.
    out[:, :, :, before : before + full].transpose(2, 3).copy_(_by_row(x[:, :, : full * r], r))
    if length % r:
        out[:, :, : length % r, -1] = x[:, :, full * r :]
        out[:, :, length % r :, -1] = 0
    return out


def moved(x: Tensor, steps: int, fill: int = 0) -> Tensor:
    """Rows (B, H, L, D) moved to the right: row i goes to i + steps, the last ones fall out."""
    steps = min(steps, x.shape[2])
    return functional.pad(x, (0, 0, steps, -steps), value=fill) if steps else x


def from_classes(x: Tensor, out: Tensor) -> None:
    """Write (B, H, r, ceil(L / r), D) into ``out`` (B, H, L, D)."""
    r, length = x.shape[2], out.shape[2]
    full = length // r  # rows that every class has; the first length % r classes have one more
    _by_row(out[:, :, : full * r], r).copy_(x[:, :, :, :full].transpose(2, 3))
    if length % r:
        out[:, :, full * r :] = x[:, :, : length % r, full]


def _by_row(x: Tensor, r: int) -> Tensor:
    """View (B, H, n r, D) as (B, H, n, r, D)."""
    batch, heads, length, width = x.shape
    return x.view(batch, heads, length // r, r, width)  # (B, H, n, r, D)


# --- bias


def short_times(*times: Tensor) -> tuple[Tensor, ...]:
    """Times from the earliest of all, as int32 where they fit: differences stay what they are."""
    present = [x for x in times if x.numel()]
    if not present or present[0].device.type != "cpu":
        return times
    first, last = min(int(x.min()) for x in present), max(int(x.max()) for x in present)
    return tuple((x - first).int() if last - first < 1 << 31 else x for x in times)


def write_buckets(later: Tensor, earlier: Tensor, kind: Buckets, out: Tensor) -> None:
    """Write ``time_buckets(later - earlier, kind)``, of tensors that broadcast, into the uint8 ``out``."""
    delta = torch.sub(later, earlier)
    if kind == "paper":
        out.copy_(time_buckets(delta, kind))
        return
    # The exponent and the first bit of the fraction: two buckets per doubling, see `time_buckets`.
    bits = delta.float().abs_().view(torch.int32)  # all bits of zero are 0: the clamp puts it in bucket 0
    out.copy_(bits.bitwise_right_shift_(22).sub_(254).clamp_(0, TIME_BUCKETS - 1))


def spread(ids: Tensor) -> Tensor:
    """Buckets (..., W) uint8 as int16, those of neighboring columns in different copies of the buckets.

    Neighbors mostly share a bucket, and sums of many terms by bucket are slow where every addition waits for
    the one before: with eight copies of each bucket they take a third of the time.
    """
    lanes = torch.arange(ids.shape[-1], dtype=torch.int16, device=ids.device) % LANES
    return ids.to(torch.int16).add_(lanes * (SHUT + 1))


def fold(sums: Tensor) -> Tensor:
    """Sums (tables, 8 * 130) by the buckets of `spread` as (tables, 129) by time bucket."""
    return sums.view(len(sums), LANES, SHUT + 1).sum(dim=1)[:, :SHUT]  # (tables, 129)


def masking(time: Tensor | None, like: Tensor) -> Tensor:
    """(tables, 130): the table of time, and -inf for what is not seen."""
    table = like.new_zeros(1, TIME_BUCKETS) if time is None else time.to(like.dtype)
    return functional.pad(table, (0, 1), value=-torch.inf)  # (tables, 130)


def look_up(tables: Tensor, index: Tensor) -> Tensor:
    """Entries (b, tables, ...) of every table at a small-integer index (b, ...)."""
    wide = index.flatten().long()  # (b * ...,)
    out = tables.new_empty(len(tables), wide.numel())  # (tables, b * ...): each table is read in one pass
    for table, target in zip(tables, out, strict=True):
        torch.index_select(table, 0, wide, out=target)
    return out.view(len(tables), *index.shape).transpose(0, 1)  # (b, tables, ...)


def add_up(sums: Tensor, index: Tensor, terms: Tensor) -> None:
    """Add terms (b, tables, ...) to ``sums`` (tables, n) at the index (b, ...); the inverse of `look_up`."""
    flat = index.flatten()  # (b * ...,)
    for table, total in enumerate(sums):
        # In float64: a bucket sums so many small terms that float32 would lose the last of them.
        total += torch.bincount(flat, terms[:, table].flatten().double(), len(total))
