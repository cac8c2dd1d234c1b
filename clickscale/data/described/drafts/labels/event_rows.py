"""Clicks that are rows beside those of their impressions."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.rows import as_text, composed

_JOINED = 0.3  # share by which clicks, more often than impressions, stand beside one of their user and item
_OWN = 0.95  # share of impressions with an id of their own


def is_stream(column: Column, act: object, head: Head, user: Column | None, item: Column | None) -> bool:
    """True if clicks are rows beside those of their impressions.

    Then they have the id of an impression, or user and item of one far more often than impressions have
    those of another one.
    """
    clicked = pc.equal(column.values, act).fill_null(False).to_numpy(zero_copy_only=False)
    keys = [key for key in head.columns.values() if key not in (column, user, item) and _may_be_key(key)]
    for key in keys:
        ids, own = _repeats(key.values, clicked)
        if own <= 1 - _OWN and ids > _JOINED:
            return True
    known = [
        key.values for key in (user, item) if key is not None and not pa.types.is_nested(key.values.type)
    ]
    if len(known) < 2:
        return False
    pairs, others = _repeats(composed(known), clicked)
    return pairs > others + _JOINED


def _may_be_key(column: Column) -> bool:
    """True for texts and whole numbers that may name an impression."""
    if pa.types.is_nested(column.values.type) or column.unit:
        return False
    return column.floats is None or column.is_id


def _repeats(keys: pa.Array, clicked: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[float, float]:
    """Return the share of clicks with the key of an impression, and of impressions with that of another."""
    codes = as_text(keys).dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    known = codes >= 0
    shown = codes[known & ~clicked]
    chosen = codes[known & clicked]
    if not len(shown) or not len(chosen):
        return 0.0, 1.0
    often = np.bincount(shown, minlength=int(codes.max()) + 1)
    return float(np.mean(often[chosen] > 0)), float(np.mean(often[shown] > 1))
