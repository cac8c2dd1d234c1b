"""Plans of sparse attention: the blocks of rows, and the time bucket and distance of every pair in them.

A plan depends only on times, padding and pattern. It is made once per batch, for every phase that occurs, and
shared by all blocks of a model; `clickscale.layers.kernels.sparse_behaviors` says how its pairs are arranged.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from clickscale.layers.bias import Buckets
from clickscale.layers.kernels.residue_classes import (
    SHUT,
    cuts,
    moved,
    pieces,
    short_times,
    to_classes,
    write_buckets,
)


@dataclass(frozen=True)
class Block:
    """Rows first <= m < last of every class: they see the band and the keys m' < last of their class.

    Attributes:
        ids: (B, r, last - first, offsets + last) uint8, time bucket of each pair, ``SHUT`` where not seen.
        distance: (last - first, offsets + last) int64, positions from key to row; 0 where not seen.
    """

    first: int
    last: int
    ids: Tensor
    distance: Tensor


@dataclass(frozen=True)
class ClassPlan:
    """The part of self-attention that depends on times, padding and pattern: made once per batch.

    Attributes:
        length: L.
        r: number of classes.
        phase: how far keys are moved, less than r.
        offsets: the local offsets that are not in the classes.
    """

    length: int
    r: int
    phase: int
    offsets: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        """Rows of a class; those past the end of the sequence hold nothing."""
        return -(-self.length // self.r)

    @property
    def pairs(self) -> int:
        """Logits of one head of the whole batch."""
        return sum(block.ids.numel() for block in self.blocks)


class HeadPlan(NamedTuple):
    """Heads that share a pattern, and its plan."""

    heads: slice
    plan: ClassPlan


def class_plan(times: Tensor, mask: Tensor, k: int, r: int, phase: int, kind: Buckets) -> ClassPlan:
    """Plan of a batch.

    Args:
        times: (B, L) int64 seconds.
        mask: (B, L) bool, False where there is no behavior; such a row sees itself, and behaviors before it.
        k, r: local window and dilation, both at least 1.
        phase: remainder of the dilated distances modulo r.
        kind: buckets of time differences, as of `time_buckets`.
    """
    batch, length = times.shape
    if k >= length:
        r, phase = 1, 0  # the window is the whole sequence: one class is cheaper than a band of L columns
    offsets = tuple(offset for offset in range(min(k, length)) if (offset - phase) % r)
    rows = -(-length // r)
    (times,) = short_times(times)  # half the memory traffic of int64
    when = to_classes(times[:, None, :, None], r)[:, 0, ..., 0]  # (B, r, rows)
    keys = to_classes(moved(times[:, None, :, None], phase), r)[:, 0, ..., 0]  # (B, r, rows)
    hidden = moved((~mask[:, None, :, None]).to(torch.uint8).mul_(SHUT), phase, SHUT)  # (B, 1, L, 1)
    hidden = to_classes(hidden, r)[:, 0, ..., 0]  # (B, r, rows)
    band = to_classes(_band_ids(times, mask, offsets, kind)[:, None], r)[:, 0]  # (B, r, rows, offsets)
    blocks = []
    for first, last in cuts(rows):
        ids = times.new_empty((batch, r, last - first, len(offsets) + last), dtype=torch.uint8)
        # In pieces, so that the differences of times (4 or 8 bytes a pair) stay in the cache.
        for part in pieces(batch, r * (last - first) * last, ids.device):
            classes = ids[part][..., len(offsets) :]
            write_buckets(when[part, :, first:last, None], keys[part, :, None, :last], kind, classes)
            # SHUT is the largest bucket, so a maximum masks.
            torch.maximum(classes, hidden[part, :, None, :last], out=classes)
            _close_future(classes[..., first:], itself=phase == 0)
        ids[..., : len(offsets)] = band[:, :, first:last]
        blocks.append(Block(first, last, ids, _distance(first, last, r, phase, offsets, ids.device)))
    return ClassPlan(length, r, phase, offsets, tuple(blocks))


def _close_future(ids: Tensor, *, itself: bool) -> None:
    """Hide later keys in the square part of a block, and with ``itself`` open the diagonal."""
    rows = ids.shape[-1]
    future = torch.full((rows, rows), SHUT, dtype=torch.uint8, device=ids.device).triu_(1)
    torch.maximum(ids, future, out=ids)
    if itself:  # padding too sees itself; at other phases the offset 0 of the band is what it sees
        ids.diagonal(dim1=-2, dim2=-1).zero_()


def _band_ids(times: Tensor, mask: Tensor, offsets: tuple[int, ...], kind: Buckets) -> Tensor:
    """(B, L, offsets) uint8: buckets of each row and the one so many positions before it."""
    ids = torch.full((*times.shape, len(offsets)), SHUT, dtype=torch.uint8, device=times.device)
    for column, offset in enumerate(offsets):
        band = ids[:, offset:, column]
        before = slice(0, times.shape[1] - offset)
        write_buckets(times[:, offset:], times[:, before], kind, band)
        if offset:  # padding sees itself
            band.masked_fill_(~mask[:, before], SHUT)
    return ids


def _distance(
    first: int, last: int, r: int, phase: int, offsets: tuple[int, ...], device: torch.device
) -> Tensor:
    """(last - first, offsets + last) int64, see `Block`."""
    column = torch.arange(last, device=device)
    inside = (column[first:, None] - column).clamp_(min=0) * r + phase  # (last - first, last)
    return torch.cat(
        [torch.tensor(offsets, dtype=torch.int64, device=device).expand(len(inside), -1), inside], 1
    )
