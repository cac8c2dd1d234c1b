"""Plans of sparse attention: the blocks of rows, and the time bucket and distance of every pair in them.

A plan depends only on times, padding and patterns. It is made once per batch, for all phases that occur, and
shared by all blocks of a model; `clickscale.layers.kernels.sparse_behaviors` says how its pairs are arranged.
"""

from dataclasses import dataclass, replace

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
        ids: (B, P, r, last - first, offsets + last) uint8, time bucket of each pair by phase, ``SHUT`` where
            not seen.
        distance: (P, last - first, offsets + last) int64, positions from key to row where it is seen.
    """

    first: int
    last: int
    ids: Tensor
    distance: Tensor


@dataclass(frozen=True)
class ClassPlan:
    """The part of self-attention that depends on times, padding and patterns: made once per batch.

    Attributes:
        length: L.
        r: number of classes.
        phases: P different ones: how far keys are moved, each less than r.
        heads: place in ``phases`` of each head's; a single one is that of all heads.
        offsets: the local offsets that are not in the classes of every phase.
    """

    length: int
    r: int
    phases: tuple[int, ...]
    heads: tuple[int, ...]
    offsets: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        """Rows of a class; those past the end of the sequence hold nothing."""
        return -(-self.length // self.r)

    @property
    def pairs(self) -> int:
        """Logits of one head of the whole batch."""
        return sum(block.ids[:, 0].numel() for block in self.blocks)

    @property
    def moves(self) -> list[tuple[slice, int]]:
        """Heads, and how far their keys are moved."""
        if len(self.heads) == 1:
            return [(slice(None), self.phases[self.heads[0]])]
        return [(slice(head, head + 1), self.phases[place]) for head, place in enumerate(self.heads)]

    @property
    def band(self) -> list[tuple[slice, int, int]]:
        """Heads that have an offset in the band and not in their classes, its column, and the offset."""
        found = []
        for column, offset in enumerate(self.offsets):
            heads = [heads for heads, phase in self.moves if (offset - phase) % self.r]
            # All heads at once where all have it: operations are few and large.
            every = [slice(None)] if len(heads) == len(self.moves) else heads
            found += [(some, column, offset) for some in every]
        return found

    def of_heads(self, heads: tuple[int, ...]) -> "ClassPlan":
        """The plan of a block of the model whose heads have these places in ``phases``."""
        if len(self.phases) == 1:
            return self
        places = sorted(set(heads))
        # Phases count up from head to head, so those of a block are mostly neighbors: a view, not a copy.
        together = places == list(range(places[0], places[-1] + 1))
        chosen = slice(places[0], places[-1] + 1) if together else places
        blocks = (replace(x, ids=x.ids[:, chosen], distance=x.distance[chosen]) for x in self.blocks)
        own = tuple(map(places.index, heads)) if len(places) > 1 else (0,)
        phases = tuple(self.phases[place] for place in places)
        return replace(self, phases=phases, heads=own, blocks=tuple(blocks))


def class_plan(
    times: Tensor, mask: Tensor, k: int, r: int, phases: tuple[int, ...], kind: Buckets
) -> ClassPlan:
    """Plan of a batch, for heads of which each has one of the phases.

    Args:
        times: (B, L) int64 seconds.
        mask: (B, L) bool, False where there is no behavior; such a row sees itself, and behaviors before it.
        k, r: local window and dilation, both at least 1.
        phases: remainders of the dilated distances modulo r, all different.
        kind: buckets of time differences, as of `time_buckets`.
    """
    batch, length = times.shape
    if k >= length:
        r, phases = 1, (0,)  # the window is the whole sequence: one class is cheaper than a band of L columns
    offsets = tuple(o for o in range(min(k, length)) if any((o - phase) % r for phase in phases))
    rows = -(-length // r)
    (times,) = short_times(times)  # half the memory traffic of int64
    when = to_classes(times[:, None, :, None], r)[..., 0]  # (B, 1, r, rows)
    keys = _moved_to_classes(times, r, phases)  # (B, P, r, rows)
    hidden = _moved_to_classes((~mask).to(torch.uint8).mul_(SHUT), r, phases, SHUT)  # (B, P, r, rows)
    band = to_classes(_band_ids(times, mask, offsets, kind)[:, None], r)  # (B, 1, r, rows, offsets)
    blocks = []
    for first, last in cuts(rows):
        shape = (batch, len(phases), r, last - first, len(offsets) + last)
        ids = times.new_empty(shape, dtype=torch.uint8)
        # In pieces, so that the differences of times (4 or 8 bytes a pair) stay in the cache.
        for part in pieces(batch, len(phases) * r * (last - first) * last, ids.device):
            classes = ids[part][..., len(offsets) :]
            later, earlier = when[part, ..., first:last, None], keys[part, ..., None, :last]
            write_buckets(later, earlier, kind, classes)
            # SHUT is the largest bucket, so a maximum masks.
            torch.maximum(classes, hidden[part, ..., None, :last], out=classes)
            _close_future(classes[..., first:], phases)
        _write_band(ids, band[..., first:last, :], r, phases, offsets)
        blocks.append(Block(first, last, ids, _distance(first, last, r, phases, offsets, ids.device)))
    heads = tuple(range(len(phases)))
    return ClassPlan(length, r, phases, heads, offsets, tuple(blocks))


def _moved_to_classes(x: Tensor, r: int, phases: tuple[int, ...], fill: int = 0) -> Tensor:
    """Values (B, L) moved to the right by every phase, in classes: (B, P, r, rows)."""
    wide = x[:, None, :, None]  # (B, 1, L, 1)
    return to_classes(torch.cat([moved(wide, phase, fill) for phase in phases], dim=1), r)[..., 0]


def _write_band(ids: Tensor, band: Tensor, r: int, phases: tuple[int, ...], offsets: tuple[int, ...]) -> None:
    """Write buckets (B, 1, r, rows, offsets), but what a phase has in its classes, into ids (B, P, ...)."""
    ids[..., : len(offsets)] = band
    for place, phase in enumerate(phases):
        for column, offset in enumerate(offsets):
            if (offset - phase) % r == 0:
                ids[:, place, ..., column] = SHUT


def _close_future(ids: Tensor, phases: tuple[int, ...]) -> None:
    """Hide later keys in the square part of a block (B, P, r, R, R); open the diagonal of the phase 0."""
    rows = ids.shape[-1]
    future = torch.full((rows, rows), SHUT, dtype=torch.uint8, device=ids.device).triu_(1)
    torch.maximum(ids, future, out=ids)
    if 0 in phases:  # padding too sees itself; at other phases the offset 0 of the band is what it sees
        ids[:, phases.index(0)].diagonal(dim1=-2, dim2=-1).zero_()


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
    first: int,
    last: int,
    r: int,
    phases: tuple[int, ...],
    offsets: tuple[int, ...],
    device: torch.device,
) -> Tensor:
    """(P, last - first, offsets + last) int64, see `Block`."""
    column = torch.arange(last, device=device)
    inside = (column[first:, None] - column).clamp_(min=0) * r  # (last - first, last)
    near = torch.tensor(offsets, dtype=torch.int64, device=device).expand(len(inside), -1)
    return torch.stack([torch.cat([near, inside + phase], dim=1) for phase in phases])
