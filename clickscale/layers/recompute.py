"""Stacks that can save memory: they compute their blocks a second time in the backward pass."""

from torch import nn


class Recomputable(nn.Module):
    """A stack of blocks that can be computed again.

    Attributes:
        recompute: keep only what enters and leaves a block until the backward pass, and compute the rest
            again there: less memory, more time, the same numbers to the last bit.
    """

    recompute: bool = False


def recompute_blocks(model: nn.Module) -> int:
    """Make the stacks of a model recompute their blocks in the backward pass; how many there are."""
    stacks = [module for module in model.modules() if isinstance(module, Recomputable)]
    for stack in stacks:
        stack.recompute = True
    return len(stacks)
