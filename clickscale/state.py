"""State of a user in a model: tensors that can be split by row, kept and stacked again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

S = TypeVar("S", bound="State")


@dataclass(frozen=True)
class State:
    """Fields are tensors, or tuples of them, rows first.

    Attributes:
        GROWS: fields that grow with the behaviors, and along which axis. States of fewer behaviors than
            others are filled up with zeros on the left of that axis when they are stacked, so zeros must
            read as padding.
    """

    GROWS: ClassVar[Mapping[str, int]] = {}

    def _each(self) -> dict[str, Tensor | tuple[Tensor, ...]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def tensors(self) -> list[Tensor]:
        """Every tensor of the state."""
        values = self._each().values()
        return [tensor for value in values for tensor in (value if isinstance(value, tuple) else (value,))]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def split(self) -> list[Self]:
        """One state per row; each owns its memory, so keeping one does not keep the others."""
        rows = len(self.tensors()[0])
        if rows == 1:
            return [self]
        return [self.each(lambda x, row=row: x[row : row + 1].clone()) for row in range(rows)]  # type: ignore[misc]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device; floats take ``dtype`` (half precision in a cache)."""
        return self.each(lambda x: x.to(device, dtype if x.is_floating_point() else None))

    def clone(self) -> Self:
        """Copy the tensors: a view would keep alive the batch that it is a part of."""
        return self.each(torch.clone)

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Change every tensor, in the order of `tensors`."""
        changed = {
            name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
            for name, value in self._each().items()
        }
        return type(self)(**changed)


def stack(states: list[S]) -> S:
    """One state of all rows; where some have fewer behaviors, they are padded on the left.

    A candidate of the stacked state that sees everything has ``visible`` equal to the most behaviors.
    """
    parts = [state._each() for state in states]
    joined: dict[str, Tensor | tuple[Tensor, ...]] = {}
    for name, value in parts[0].items():
        axis = type(states[0]).GROWS.get(name)
        values = [part[name] for part in parts]
        if isinstance(value, tuple):
            joined[name] = tuple(_join(list(group), axis) for group in zip(*values, strict=True))
        else:
            joined[name] = _join([part for part in values if isinstance(part, Tensor)], axis)
    return type(states[0])(**joined)


def _join(tensors: list[Tensor], axis: int | None) -> Tensor:
    """Rows of all tensors, equally long along ``axis``."""
    if len(tensors) == 1:
        return tensors[0]
    if axis is None or len({tensor.shape[axis] for tensor in tensors}) == 1:
        return torch.cat(tensors)
    longest = max(tensor.shape[axis] for tensor in tensors)
    behind = tensors[0].dim() - 1 - axis
    return torch.cat([functional.pad(x, (0, 0) * behind + (longest - x.shape[axis], 0)) for x in tensors])
