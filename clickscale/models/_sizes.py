"""Sizes of SUAN and LightSUAN (Lai et al. 2025, Table 4), and the towers of presets."""

from typing import NamedTuple

from clickscale.layers.head import HeadConfig


class _Size(NamedTuple):
    """Width of one feature's embedding, number of blocks, number of heads."""

    d: int
    blocks: int
    heads: int


SIZES = {
    "size-1": _Size(8, 1, 1),
    "size-2": _Size(8, 2, 2),
    "size-3": _Size(16, 4, 4),
    "size-4": _Size(32, 8, 8),
    "size-5": _Size(144, 12, 12),
}

# Of all models that the paper compares (section 4.1.4), with d = 8; the optimizer is Adam.
SUAN_TOWER = HeadConfig(hidden=(1024, 512, 256), norm="batch", activation="batch_dice")
DEBUG_TOWER = HeadConfig(hidden=(16, 8))
