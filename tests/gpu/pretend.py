"""A device that is not there: its tensors compute on the CPU, and refuse to meet tensors of the CPU.

Where torch finds no GPU, this shows what would fail on one: an index tensor, a mask or a generator that was
made on the CPU, an optimizer state that stayed there, ``numpy()`` of a tensor of a model. The device calls
itself ``meta``, the only name that needs no hardware; values and gradients are computed in full.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = torch.device("meta")

# Operations that may read from both sides, as on a GPU: copies, and indexing by places that are on the CPU.
_MIXED = {"_to_copy", "copy_", "_foreach_copy_", "index", "index_put", "index_put_", "_index_put_impl_"}


class There(Tensor):
    """A tensor on the pretended device; ``inner`` holds its values on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        if inner.layout != torch.strided:  # the sparse gradient of a table
            return Tensor._make_wrapper_subclass(
                cls, inner.size(), dtype=inner.dtype, device=DEVICE, layout=inner.layout
            )
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:
        """Values as numbers; torch refuses this for subclasses, while any device offers it."""
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    """Sees the operations that make tensors from nothing, too."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else every operation passes through torch's compiler, which has to be imported first

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU, and put the result where a device would have put it."""
    tensors = [leaf for leaf in _leaves((*args, *kwargs.values())) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    name = func._schema.name.removeprefix("aten::")
    # Numbers (tensors without dimensions) may come from the CPU.
    strangers = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.dim()]
    if there and strangers and name not in _MIXED:
        raise RuntimeError(
            f"{func} got tensors of two devices: {[tuple(t.shape) for t in strangers]} are on the CPU"
        )
    here = {key: _mapped(_here, value) for key, value in kwargs.items()}
    found = func(*_mapped(_here, args), **here)
    device = kwargs.get("device")
    moved = bool(there) if device is None else torch.device(device) == DEVICE
    if name == "_local_scalar_dense" or not moved:
        return found
    known = {id(tensor.inner): tensor for tensor in there}  # results written in place
    found = _mapped(lambda x: _there(x, known), found)
    aliases = [result.alias_info for result in func._schema.returns if result.alias_info is not None]
    if there and aliases and not any(alias.is_write for alias in aliases):  # a view
        return return_and_correct_aliasing(func, args, kwargs, found)
    return found


def _leaves(tree: Any) -> Iterator[Any]:
    """Values in tuples and lists; those of `torch.utils._pytree` look for more, and most of the time."""
    for value in tree:
        if isinstance(value, tuple | list):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """Change the values in tuples and lists."""
    if isinstance(tree, tuple | list):
        return type(tree)([_mapped(change, value) for value in tree])
    return change(tree)


def _there(value: Any, known: dict[int, There]) -> Any:
    """Return the tensor of the device with given values, a new one if there is none yet."""
    if not isinstance(value, Tensor):
        return value
    return known[id(value)] if id(value) in known else There(value)


def _here(value: Any) -> Any:
    if isinstance(value, There):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


@contextmanager
def pretending() -> Iterator[None]:
    """Let the pretended device exist."""
    autocast = torch.autocast

    def autocast_here(device: str, *arguments: Any, **options: Any) -> Any:
        return autocast("cpu" if device == DEVICE.type else device, *arguments, **options)

    with patch.object(torch, "autocast", autocast_here), _Pretending():
        yield


def move(model: nn.Module) -> nn.Module:
    """Put the parameters and buffers of a model on the pretended device, as ``model.to`` does."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(There(parameter.detach()))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = There(buffer)
    return model
