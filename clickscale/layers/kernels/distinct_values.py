"""Distinct values of a batch, so that what recurs is computed once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MANY = 8  # times as many values as entries, and sorting the entries is faster than flags of the values


def distinct(items: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Distinct values of ``items`` (ascending) and the place of each entry among them.

    A table of flags of length ``size`` replaces sorting where it is not much longer than the input.
    """
    if size > MANY * items.numel():
        return torch.unique(items, return_inverse=True)
    present = torch.zeros(size, dtype=torch.bool, device=items.device)
    present[items.reshape(-1)] = True
    number = present.cumsum(0) - 1
    return present.nonzero().squeeze(1), number[items]


def distinct_rows(columns: Tensor, sizes: Sequence[int], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows (U, columns) of several columns, and the place of each entry among them.

    Args:
        columns: (..., columns), each below its size. mask: (...), False where all columns count as 0.
    """
    code = columns[..., 0]
    for size, column in zip(sizes[1:], columns[..., 1:].unbind(dim=-1), strict=True):
        code = code * size + column
    unique, places = distinct(code * mask, math.prod(sizes))
    return torch.stack(torch.unravel_index(unique, tuple(sizes)), dim=-1), places  # (U, columns)
