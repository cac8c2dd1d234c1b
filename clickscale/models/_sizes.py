"""Sizes of SUAN and LightSUAN (Lai et al. 2025, Table 4); a grade is a size and a length."""

from typing import NamedTuple


class Size(NamedTuple):
    """Width of one feature's embedding, number of blocks, number of heads."""

    d: int
    blocks: int
    heads: int


SIZES = {
    "size-1": Size(8, 1, 1),
    "size-2": Size(8, 2, 2),
    "size-3": Size(16, 4, 4),
    "size-4": Size(32, 8, 8),
    "size-5": Size(144, 12, 12),
}
