"""Optimizers of embedding tables: a step costs what the touched rows cost, whatever the table's size.

The gradient of a `FusedEmbedding` is sparse and uncoalesced: one entry per lookup, most rows several times.
It is summed per row once; the sum then serves clipping and the update. Finding the distinct rows takes no
sort and nothing of the length of the table: every lookup writes its own number into a scratch place of its
row, and the one whose number stays there stands for the row. Measured beside `torch.unique` in
``benchmarks/bench_embedding_optimizer.py``.

Row 0 (padding) never has a gradient, so neither it nor its state ever changes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RowGradient:
    """The gradient of the touched rows.

    Attributes:
        rows: (U,) int64, distinct rows.
        values: (U, D) float32, the sum over the lookups of each row.
    """

    rows: Tensor
    values: Tensor


class RowSummer:
    """Sums sparse gradients per row, in an order that depends on nothing but the lookups.

    Attributes:
        slots: one int32 per row of the table, scratch: never read before it is written in the same call, so
            pages of rows that were never touched take no memory.
    """

    def __init__(self, rows: int) -> None:
        self.slots = np.empty(rows, np.int32)

    def distinct(self, lookups: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct values of ``lookups`` (N,) and, for each lookup, its place among them."""
        if lookups.device.type != "cpu":
            rows, places = torch.unique(lookups, return_inverse=True)
            return rows, places
        taken = lookups.numpy()
        numbers = np.arange(len(taken), dtype=np.int32)
        self.slots[taken] = numbers  # NumPy promises that the last of equal indices stays
        rows = taken[self.slots.take(taken) == numbers]
        self.slots[rows] = numbers[: len(rows)]
        return torch.from_numpy(rows), torch.from_numpy(self.slots.take(taken).astype(np.int64))

    def sum(self, gradient: Tensor) -> RowGradient:
        """Sum an uncoalesced sparse gradient (rows of the table, D) per row."""
        values = gradient._values().float()  # (N, D)
        rows, places = self.distinct(gradient._indices()[0])
        return RowGradient(rows, values.new_zeros(len(rows), values.shape[1]).index_add_(0, places, values))


class TableOptimizer(Protocol):
    """Methods of a table's optimizer that a training step calls."""

    def update(self, weight: Tensor, gradient: RowGradient, lr: float) -> None:
        """Change the touched rows of ``weight`` in place."""

    def state(self) -> dict[str, Tensor]:
        """The live tensors that a checkpoint keeps; writing into them restores the optimizer."""


class RowwiseAdagrad:
    """Adagrad (Duchi et al. 2011) with one accumulator per row: the mean over the row of squared gradients.

    The state is one float32 per row. ``w -= lr * g / (sqrt(sum of mean(g^2)) + eps)``.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.eps = eps
        self.sums = weight.new_zeros(weight.shape[0], dtype=torch.float32)  # (rows,)

    def update(self, weight: Tensor, gradient: RowGradient, lr: float) -> None:
        """Change the touched rows of ``weight`` (rows, D) in place."""
        rows, values = gradient.rows, gradient.values
        sums = self.sums[rows].add_(values.square().mean(1))  # (U,)
        self.sums[rows] = sums
        rate = sums.sqrt_().add_(self.eps).reciprocal_().mul_(-lr)
        weight.index_copy_(0, rows, weight.index_select(0, rows).addcmul_(values, rate[:, None]))

    def state(self) -> dict[str, Tensor]:
        """The accumulators."""
        return {"sums": self.sums}


class LazyAdam:
    """Adam (Kingma and Ba 2015) whose moments decay only when their row is touched, the lazy form.

    The state is two float32 tables. Bias is corrected by the number of steps of the whole table, as sparse
    Adams commonly do, not by those of the row: a row that is first seen late starts with steps about
    ``(1 - beta1) / sqrt(1 - beta2)`` times lr, 3.2 lr with the usual betas.
    """

    def __init__(self, weight: Tensor, betas: tuple[float, float], eps: float) -> None:
        self.betas, self.eps = betas, eps
        self.means = torch.zeros_like(weight, dtype=torch.float32, requires_grad=False)  # (rows, D)
        self.squares = torch.zeros_like(self.means)
        self.steps = torch.zeros((), dtype=torch.int64)

    def update(self, weight: Tensor, gradient: RowGradient, lr: float) -> None:
        """Change the touched rows of ``weight`` (rows, D) in place."""
        """Move the touched rows; see the class."""
        rows, values = gradient.rows, gradient.values
        first, second = self.betas
        self.steps += 1
        means = self.means.index_select(0, rows).lerp_(values, 1 - first)
        squares = self.squares.index_select(0, rows).mul_(second).addcmul_(values, values, value=1 - second)
        self.means.index_copy_(0, rows, means)
        self.squares.index_copy_(0, rows, squares)
        steps = int(self.steps)
        scale = squares.div_(1 - second**steps).sqrt_().add_(self.eps)
        change = weight.index_select(0, rows).addcdiv_(means, scale, value=-lr / (1 - first**steps))
        weight.index_copy_(0, rows, change)

    def state(self) -> dict[str, Tensor]:
        """Both moments and the number of steps."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}
