"""Products of many rows with a weight: by oneDNN on processors where that is faster.

Torch multiplies float32 matrices on a CPU with MKL. On an AMD EPYC with AVX-512, MKL reached 100 GFLOP/s on
one thread, and oneDNN 200 to 240; on one with AVX2 alone, oneDNN had 0.7 to 1.2 times the speed of MKL.
oneDNN makes code for every shape it meets, which takes half a millisecond, and batches of training differ in
their number of rows. So rows are padded with zeros to one of a few numbers: `rows_with_room` makes such
matrices. Small products, other types and other devices are torch's own.
"""

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST = 1 << 22  # multiply-adds of a product in training; below, the call costs more than is won
_SMALLEST_SERVED = 1_000_000  # the same in requests, whose shapes recur
_BY_ONEDNN = torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability() == "AVX512"


def rows_with_room(like: Tensor, count: int, width: int, work: int) -> Tensor:
    """Matrix (R', width) for ``count`` rows still to be written, and zeros after them.

    Args:
        work: multiply-adds for each row in the largest product of the caller. Matrices of one count and work
            get the same number of rows.
    """
    if not _pays(like, count * work):
        return like.new_empty(count, width)
    step = 1 << (count.bit_length() - 4)  # eight numbers of rows for each doubling
    room = like.new_empty(-(-count // step) * step, width)
    room[count:] = 0
    return room


def with_room(rows: Tensor, work: int) -> Tensor:
    """Rows (R, D) in a matrix from `rows_with_room`; the same tensor where that adds no padding."""
    room = rows_with_room(rows, len(rows), rows.shape[1], work)
    if len(room) == len(rows):
        return rows
    room[: len(rows)] = rows
    return room


def first_rows(x: Tensor, count: int) -> Tensor:
    """The rows of x (R', D) that are not padding."""
    return x if len(x) == count else x[:count]


def product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.t()`` for rows x (R, K) and a weight (N, K)."""
    return _product(x, weight) if _pays(x, x.numel() * len(weight)) else torch.mm(x, weight.t())


def served_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``functional.linear`` of a model that does not learn: (..., K), (N, K), (N,) -> (..., N)."""
    pays = _pays(x, x.numel() * len(weight), _SMALLEST_SERVED)
    if not pays or torch.is_grad_enabled() or is_mixed(x):
        return functional.linear(x, weight, bias)
    return _product(x, weight, bias)


def input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """``grad @ weight`` for rows (R, N) and a weight (N, K)."""
    return (
        _product(grad, weight.t()) if _pays(grad, grad.numel() * weight.shape[1]) else torch.mm(grad, weight)
    )


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """``grad.t() @ x`` for rows (R, N) and (R, K), both zero where they are padded: (N, K)."""
    if not _pays(grad, grad.numel() * x.shape[1]):
        return torch.mm(grad.t(), x)
    # oneDNN reads its first argument row by row, so that one is copied: the narrower of both.
    if x.shape[1] <= grad.shape[1]:
        return _product(x.t(), grad.t()).t()
    return _product(grad.t(), x.t())


def is_mixed(x: Tensor) -> bool:
    """True under autocast, where the hand-written gradients would meet tensors of two precisions."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def is_trained_by_hand(x: Tensor, weight: Tensor) -> bool:
    """True in training in one precision, where hand-written gradients serve."""
    return torch.is_grad_enabled() and not is_mixed(x) and x.dtype == weight.dtype


def _pays(x: Tensor, work: int, least: int = _SMALLEST) -> bool:
    """True if oneDNN is faster at so many multiply-adds with numbers such as those of x."""
    return work >= least and _BY_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu"


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return made
