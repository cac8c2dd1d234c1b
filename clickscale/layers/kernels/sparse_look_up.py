"""Look-ups in a table of embedding rows, with a sparse gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class LookUp(torch.autograd.Function):
    """Rows of a table, with a sparse gradient; row 0 is padding, and its gradient is zero.

    Torch's own sparse gradient takes padding out, which is a search, and checks every index once more.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        """Weight (rows, d) and rows (...) int64 -> (..., d)."""
        ctx.size = weight.shape
        ctx.save_for_backward(rows)
        return functional.embedding(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """See the class."""
        (rows,) = ctx.saved_tensors
        indices, width = rows.reshape(1, -1), ctx.size[1]
        # Torch adds sparse gradients row by row if their values are contiguous. If they are not, as here with
        # an unused column, it joins them, which is several times as fast.
        values = grad.new_empty(indices.shape[1], width + 1)[:, :width]
        torch.mul(grad.reshape(-1, width), (indices[0] > 0)[:, None], out=values)
        return torch.sparse_coo_tensor(indices, values, ctx.size, check_invariants=False), None
