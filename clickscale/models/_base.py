"""The contract that every model keeps, and what a state is."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from clickscale.batch import Batch, CandidateSide, UserSide

S = TypeVar("S", bound="State")


@dataclass(frozen=True)
class State:
    """What a model computed from the user side alone; fields are tensors, or tuples of them, rows first."""

    def _each(self) -> dict[str, Tensor | tuple[Tensor, ...]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def split(self) -> list[Self]:
        """One state per row."""
        first = next(iter(self._each().values()))
        rows = len(first[0] if isinstance(first, tuple) else first)
        return [self._map(lambda x, row=row: x[row : row + 1]) for row in range(rows)]  # type: ignore[misc]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device; floats take ``dtype`` (half precision in a cache)."""
        return self._map(lambda x: x.to(device, dtype if x.is_floating_point() else None))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed = {
            name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
            for name, value in self._each().items()
        }
        return type(self)(**changed)


def stack(states: list[S]) -> S:
    """One state of all rows; the states must have equally many behaviors."""
    parts = [state._each() for state in states]
    joined: dict[str, Tensor | tuple[Tensor, ...]] = {}
    for name, value in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(value, tuple):
            joined[name] = tuple(torch.cat(group) for group in zip(*values, strict=True))
        else:
            joined[name] = torch.cat([part for part in values if isinstance(part, Tensor)])
    return type(states[0])(**joined)


class CTRModel(nn.Module):
    """A model is two functions: what can be known of the user alone, and what a candidate adds.

    Attributes:
        causal: whether a behavior's part of the state depends on earlier behaviors only. Only then can
            candidates that see different parts of one timeline share a state (grouping ``timeline``).
    """

    causal: bool = True

    def encode_user(self, user: UserSide) -> State:
        """State of each row; nothing here may depend on a candidate."""
        raise TypeError(f"{type(self).__name__} does not define encode_user")

    def score(self, state: State, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T) of every candidate given the state of its row; 0 at padding."""
        raise TypeError(f"{type(self).__name__} does not define score")

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C, T); exactly this composition, never overridden."""
        return self.score(self.encode_user(batch.user), batch.candidates)
