"""A batch as one flat mapping, for tests that compare batches."""

from dataclasses import fields, is_dataclass

import torch
from torch import Tensor


def tensors(side: object) -> dict[str, Tensor]:
    """Every tensor of a batch by dotted name."""
    found: dict[str, Tensor] = {}
    for field in fields(side):  # type: ignore[arg-type]
        value = getattr(side, field.name)
        inner = (
            {f"{field.name}.{name}": tensor for name, tensor in tensors(value).items()}
            if is_dataclass(value)
            else {}
        )
        found |= inner or {field.name: value}
    return found


def equal(first: object, second: object) -> bool:
    """Whether two batches are equal to the last bit; missing numbers are equal to each other."""
    a, b = tensors(first), tensors(second)
    return a.keys() == b.keys() and all(
        x.dtype == b[name].dtype and torch.equal(torch.nan_to_num(x, 1e30), torch.nan_to_num(b[name], 1e30))
        for name, x in a.items()
    )
