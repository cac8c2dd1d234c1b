"""How near to each other the values of a column are within the rows of an id."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickscale.data.described.drafts.roles.column_values import codes_of, numbers_or_none
from clickscale.data.described.drafts.samples import Column

_FEW_NUMBERS = 10  # different numbers that are compared as other values are
_ALIKE = 0.75  # share of the differences of a column that lie between items, not within them
_GROUPS = 20  # items with several rows that are enough for evidence from values


def nearly_determines(key: Column, column: Column) -> bool:
    """True if values differ little between the rows of an id, next to how they differ between any two rows.

    Of numbers the ranks are compared; of other values, how often two are equal.
    """
    if pa.types.is_nested(column.values.type) or column.distinct < 2:
        return False
    keys = codes_of(key.values)
    rows = np.bincount(keys[keys >= 0], minlength=1)
    usable = (keys >= 0) & (rows[keys] > 1) & np.asarray(column.values.is_valid())
    keys, place = np.unique(keys[usable], return_inverse=True)
    if len(keys) < _GROUPS:
        return False
    is_number = column.floats is not None and column.distinct > _FEW_NUMBERS
    within, anyhow = (_spread if is_number else _unlike)(_codes_or_ranks(column, is_number)[usable], place)
    return anyhow > 0 and within < (1 - _ALIKE) * anyhow


def _codes_or_ranks(column: Column, is_number: bool) -> npt.NDArray[np.float64]:
    """Return (N,) ranks of numbers, or codes of other values."""
    numbers = numbers_or_none(column) if is_number else None
    if numbers is None:
        return codes_of(column.values).astype(float)
    return np.searchsorted(np.sort(numbers), numbers).astype(float)


def _spread(values: npt.NDArray[np.float64], place: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the variance within groups and that of all values, each without bias."""
    count = np.bincount(place)
    left = values - (np.bincount(place, values) / count)[place]
    return float(left @ left) / max(len(values) - len(count), 1), float(values.var(ddof=1))


def _unlike(values: npt.NDArray[np.float64], place: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return how often two rows of a group differ, and how often any two rows do."""
    _, value = np.unique(values, return_inverse=True)
    _, cell = np.unique(place * (value.max() + 1) + value, return_inverse=True)
    pairs = [_pairs(np.bincount(codes)) for codes in (cell, place, value)]
    return 1 - pairs[0] / max(pairs[1], 1), 1 - pairs[2] / max(_pairs(np.array([len(value)])), 1)


def _pairs(counts: npt.NDArray[np.int64]) -> float:
    """Count the pairs of rows within groups of some sizes."""
    return float((counts * (counts - 1)).sum())
