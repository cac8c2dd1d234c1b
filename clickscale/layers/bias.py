"""Learned attention bias from the time between two events and from their distance in the sequence."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

TIME_BUCKETS = 129
Buckets = Literal["octave", "paper"]
Sharing = Literal["shared", "heads", "blocks", "none"]


def time_buckets(delta: Tensor, kind: Buckets = "octave") -> Tensor:
    """Bucket of a time difference in seconds: int64 in [0, 128], logarithmic.

    ``octave`` has two buckets per doubling and reads them from the bits of the float: cheap, and the same on
    every device. ``paper`` is ``floor(ln(max(|dt|, 1)) / 0.301)`` (the authors' code: buckets grow by 1.35).
    """
    if kind == "paper":
        steps = torch.log(delta.abs().clamp(min=1).double()) / 0.301
        return steps.floor().long().clamp(max=TIME_BUCKETS - 1)
    # A float32 has 8 bits of exponent above 23 bits of fraction. Shifted by 22, the exponent and the first
    # bit of the fraction remain: the doubling, and its half. 1 second is 127 << 1 = 254, bucket 0.
    bits = delta.abs().clamp(min=1).float().view(torch.int32)  # (...) the same memory read as integers
    return (bits >> 22).sub_(254).clamp_(max=TIME_BUCKETS - 1).long()


def _pair_buckets(delta: Tensor, allowed: Tensor, kind: Buckets = "octave") -> Tensor:
    """Bucket of every pair, `TIME_BUCKETS` where it is not allowed; all blocks of a model share it.

    Args:
        delta: (B, Q, L) int64 seconds from key to query.
        allowed: (B, Q, L) bool.

    Returns:
        (B, Q, L) int64 in [0, 129].
    """
    return torch.where(allowed, time_buckets(delta, kind), TIME_BUCKETS)


class _RelativeBias(nn.Module):
    """``f1(time difference) + f2(distance)`` for every pair (Lai et al. 2025, eq. 4), -inf where not allowed.

    Args:
        length: distances beyond it share one entry.
        tables: 1 to share the tables among heads (as the paper's code), or the number of heads.
    """

    def __init__(self, length: int, tables: int = 1) -> None:
        super().__init__()
        self.length = length
        self.time = nn.Parameter(torch.randn(tables, TIME_BUCKETS) * 0.02)
        self.position = nn.Parameter(torch.randn(tables, length + 1) * 0.02)

    def forward(self, buckets: Tensor, distance: Tensor) -> Tensor:
        """Bias of each pair.

        Args:
            buckets: (B, Q, L) int64 of `_pair_buckets`.
            distance: (Q, L) or (B, Q, L) int64 positions from key to query.

        Returns:
            (B, tables, Q, L), additive.
        """
        batch, queries, keys = buckets.shape
        tables, distance = self.time.shape[0], distance.clamp(0, self.length)
        # One more entry for pairs that are not allowed: masking costs no operation of its own.
        masked = torch.cat([self.time, self.time.new_full((tables, 1), -math.inf)], dim=1)  # (tables, 130)
        if distance.dim() == 3:
            # Distances that differ by row: one gather reads the sum of both tables.
            both = (masked[..., None] + self.position[:, None]).flatten(1)  # (tables, 130 (N + 1))
            place = torch.add(distance, buckets, alpha=self.length + 1).view(1, -1).expand(tables, -1)
            return torch.gather(both, 1, place).view(tables, *buckets.shape).transpose(0, 1)
        source = masked[None].expand(batch, -1, -1)  # (B, tables, 130)
        flat = buckets.view(batch, 1, -1).expand(-1, tables, -1)  # (B, tables, Q L)
        time = torch.gather(source, 2, flat).view(batch, tables, queries, keys)  # (B, tables, Q, L)
        return time + self.position[:, distance]

    def itself(self) -> Tensor:
        """(tables,): bias of an event towards itself."""
        # Zero seconds fall into bucket 0, zero positions into entry 0.
        return self.time[:, 0] + self.position[:, 0]


class AttentionBias(nn.Module):
    """The biases of all blocks of a model.

    Args:
        sharing: one set of tables for all heads and blocks (``shared``), one per head (``heads``), one per
            block and head (``blocks``), or ``none``: pairs are only masked.
    """

    def __init__(self, sharing: Sharing, blocks: int, heads: int, length: int, buckets: Buckets) -> None:
        super().__init__()
        sets = {"shared": 1, "heads": 1, "blocks": blocks, "none": 0}[sharing]
        tables = 1 if sharing == "shared" else heads
        self.blocks, self.heads, self.buckets = blocks, heads, buckets
        self.sets = nn.ModuleList(_RelativeBias(length, tables) for _ in range(sets))

    def forward(self, delta: Tensor, distance: Tensor, allowed: Tensor) -> list[Tensor]:
        """Additive bias of every block, each (B, 1 or H, Q, L), -inf where not allowed.

        Args:
            delta: (B, Q, L) int64 seconds from key to query.
            distance: (Q, L) or (B, Q, L) int64 positions from key to query.
            allowed: (B, Q, L) bool.
        """
        if not len(self.sets):
            mask = torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -math.inf)
            return [mask[:, None]] * self.blocks  # each (B, 1, Q, L)
        buckets = _pair_buckets(delta, allowed, self.buckets)
        # Buckets depend on times only, so all sets of tables read the same ones.
        biases = [bias(buckets, distance) for bias in self.sets]
        return biases if len(biases) == self.blocks else biases * self.blocks

    def tables(self, block: int) -> _RelativeBias | None:
        """The tables that a block reads, or None."""
        if not len(self.sets):
            return None
        bias = self.sets[block % len(self.sets)]  # one set serves all blocks, or each has its own
        assert isinstance(bias, _RelativeBias), "sets hold relative biases only"
        return bias

    def own(self, block: int, device: torch.device) -> Tensor:
        """(1 or H,): bias of a candidate towards itself in a block."""
        bias = self.tables(block)
        return torch.zeros(1, device=device) if bias is None else bias.itself()
