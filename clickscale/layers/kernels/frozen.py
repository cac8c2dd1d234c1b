"""Layers of a model that does not learn any more.

What depends on weights alone is computed once, when an artifact is loaded, and not with every request. Large
products go to oneDNN, which uses the vector instructions of every processor; the library that torch takes by
itself does so on some makes only (products of a head: 2.1 times as long on an AMD EPYC with AVX-512). The
scores are the same but for rounding.
"""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

_ONE_DNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_LARGE = 1_000_000  # multiply-adds; a smaller product takes less time than a call of oneDNN, some 10 us


class Freezable(nn.Module, ABC):
    """A layer with a faster form for weights that stay as they are.

    Attributes:
        frozen: what it computes from its weights once; None before `freeze`, and from training on.
    """

    frozen: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frozen", None, persistent=False)

    @abstractmethod
    def precomputed(self) -> Tensor | None:
        """What depends on weights alone; None if it is better computed each time."""

    def train(self, mode: bool = True) -> Self:
        """As of torch; a layer that learns forgets what it computed from older weights."""
        if mode:
            self.frozen = None
        super().train(mode)
        return self


class _LargeProduct(nn.Linear):
    """A linear layer that leaves large products to oneDNN where no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return product(x, self.weight, self.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``functional.linear`` by the faster library: (..., in), (out, in), (out,) -> (..., out)."""
    large = x.numel() * len(weight) >= _LARGE and _ONE_DNN
    if not large or torch.is_grad_enabled() or not _is_single(x):
        return functional.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _is_single(x: Tensor) -> bool:
    """True in single precision on the processor."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def freeze(model: nn.Module) -> None:
    """Let a model that does not learn any more score faster; `train` forgets what would be outdated."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Freezable):
                module.frozen = module.precomputed()
            elif type(module) is nn.Linear:
                module.__class__ = _LargeProduct
