"""States in a quarter of the bytes: 8 bits a number, with a scale for each row of each head.

A row is what a state keeps of one behavior, such as a key of a head. Its largest magnitude becomes 127, so
one large row costs the others nothing. What does not grow with the behaviors, a few numbers, is kept in half
precision.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from clickscale.state import State

_STEPS = 127  # of a number on either side of zero
_SMALLEST = 1e-12  # a row of zeros has a scale too


@dataclass(frozen=True)
class Int8State:
    """A state whose rows are 8-bit numbers.

    Attributes:
        state: int8 where scales are given.
        scales: for each tensor of the state (..., 1) float32, or None.
    """

    state: State
    scales: tuple[Tensor | None, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        scales = sum(one.numel() * one.element_size() for one in self.scales if one is not None)
        return self.state.nbytes + scales

    def restore(self) -> State:
        """The state in float32, each number at most half a step of its row away."""
        scales = iter(self.scales)

        def grown(part: Tensor) -> Tensor:
            scale = next(scales)
            if scale is not None:
                return part.float() * scale
            return part.float() if part.is_floating_point() else part

        return self.state.each(grown)


def to_int8(state: State) -> Int8State | None:
    """Copy a state; None if a number is not finite or too large for half precision."""
    grows = iter(list(_grows(state)))
    scales: list[Tensor | None] = []

    def shrunk(part: Tensor) -> Tensor:
        many = next(grows)
        if not part.is_floating_point():
            scales.append(None)
            return part.clone()
        if not many:
            scales.append(None)
            return part.to(torch.float16, copy=True)
        scale = part.float().abs().amax(dim=-1, keepdim=True).clamp(min=_SMALLEST) / _STEPS
        scales.append(scale)
        return (part.float() / scale).round().clamp(-_STEPS, _STEPS).to(torch.int8)

    kept = state.each(shrunk)
    floats = [part for part in (*kept.tensors(), *scales) if part is not None and part.is_floating_point()]
    if not all(bool(part.isfinite().all()) for part in floats):
        return None
    return Int8State(kept, tuple(scales))


def _grows(state: State) -> Iterator[bool]:
    """Tell for each tensor of a state if it has a row for each of several behaviors."""
    for field in fields(state):
        value = getattr(state, field.name)
        axis = type(state).GROWS.get(field.name)
        for part in value if isinstance(value, tuple) else (value,):
            yield axis is not None and part.shape[axis] > 1
