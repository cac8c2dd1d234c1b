"""Visible behaviors of every head of every block: the sparse pattern of LightSUAN and its phases.

A position at distance ``i - j >= 0`` from a behavior sees it iff::

    i - j < k  or  (i - j - phase) mod r == 0

The paper (Lai et al. 2025, section 3.3.1) gives every head the phase 0: what one head skips, all skip. With
staggered phases the heads skip different behaviors, at the same cost. Distances count back from the
position, so padding and appended behaviors change nothing for the others.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Phase = Literal["paper", "head", "block_head"]


@dataclass(frozen=True)
class Pattern:
    """The behaviors that one head sees, see the module docstring; ``r = 1`` is full attention."""

    k: int = 1
    r: int = 1
    phase: int = 0

    @property
    def full(self) -> bool:
        """True if every earlier behavior is seen."""
        return self.r == 1

    def allows(self, distance: Tensor) -> Tensor:
        """Distances (...) int64 -> bool; later behaviors (negative distances) are never seen."""
        if self.full:
            return distance >= 0
        return (distance >= 0) & ((distance < self.k) | ((distance - self.phase) % self.r == 0))

    def columns(self, length: int, device: torch.device) -> Tensor:
        """Columns (M,) int64, ascending, that the position right after ``length`` behaviors sees."""
        column = torch.arange(length, device=device)
        return column if self.full else column[self.allows(length - column)]

    def distances(self, count: int, device: torch.device) -> Tensor:
        """The ``count`` smallest distances (M,) int64 of behaviors before the position, descending."""
        if self.full:
            return torch.arange(count, 0, -1, device=device)
        # One in every r distances is seen, so among the first r * count are at least as many as needed.
        distance = torch.arange(1, count * self.r + 1, device=device)
        return distance[self.allows(distance)][:count].flip(0)


@dataclass(frozen=True)
class HeadPatterns:
    """The pattern of every head of every block.

    Attributes:
        distinct: patterns that occur, each once.
        heads: per block, the place in ``distinct`` of each head's pattern; a single one is that of all heads.
    """

    distinct: tuple[Pattern, ...]
    heads: tuple[tuple[int, ...], ...]

    @property
    def full(self) -> bool:
        """True if all heads see every earlier behavior."""
        return all(pattern.full for pattern in self.distinct)

    def columns(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Columns that the position right after ``length`` behaviors sees, by distinct pattern.

        Returns:
            Columns (P, M) int64, ascending and aligned to the right, and where they are real, (P, M) bool.
        """
        every = [pattern.columns(length, device) for pattern in self.distinct]
        most = max(map(len, every))
        place = torch.arange(most, device=device)
        columns = torch.stack([functional.pad(x, (most - len(x), 0)) for x in every])  # (P, M)
        return columns, torch.stack([place >= most - len(x) for x in every])  # (P, M)

    def distances(self, count: int, device: torch.device) -> Tensor:
        """(P, M) distances of the columns that a state keeps, aligned to the right as those are."""
        return torch.stack([pattern.distances(count, device) for pattern in self.distinct])  # (P, M)


def _same_for_all(pattern: Pattern, blocks: int) -> HeadPatterns:
    """One pattern for all heads."""
    return HeadPatterns((pattern,), ((0,),) * blocks)


def staggered(k: int, r: int, phase: Phase, blocks: int, heads: int) -> HeadPatterns:
    """Patterns whose phase is 0 (``paper``), the head's number, or the number among all heads of all blocks.

    A phase counts modulo r.
    """
    if phase == "paper" or r == 1:
        return _same_for_all(Pattern(k, r), blocks)
    first = [block * heads if phase == "block_head" else 0 for block in range(blocks)]
    phases = [tuple((start + head) % r for head in range(heads)) for start in first]
    distinct = sorted({phase for block in phases for phase in block})
    places = tuple(tuple(map(distinct.index, block)) for block in phases)
    return HeadPatterns(tuple(Pattern(k, r, phase) for phase in distinct), places)
