"""Evidence in the values of columns: what determines what, and what ranks the label."""

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.samples import Column

_CODES = re.compile(
    r"(^|_)(id|ids|code|key|hash|zip\w*|postal\w*|no|idx|index|type|class|version)($|_)|(id|code)$"
)
_NEIGHBORS = 4  # different values in a group of neighbors, at least
_MOST_GROUPS = 32
_CERTAIN = 3.0  # deviations from no correlation beyond which neighboring values are alike
SOME_GROUPS = 20  # items or users with several rows that are enough for evidence from values


def looks_rated(column: Column) -> bool:
    """True for a column of numbers such as 1 to 5 or 0.5 to 5."""
    if column.floats is None or not 3 < column.distinct <= 10:
        return False
    return 0.5 <= pc.min(column.floats).as_py() <= 1 and pc.max(column.floats).as_py() in (5.0, 10.0)


def follows_order(column: Column, values: npt.NDArray[np.float64], label: npt.NDArray[np.float64]) -> bool:
    """True if neighboring whole numbers have similar label rates, as amounts do and ids do not.

    Groups of neighbors hold equally many rows. Of the different values of a group every second one is set
    aside. Only where neighbors are alike do the rates of the two halves rise and fall together.

    Args:
        values: (N,) numbers of the column beside each label, NaN where missing.
    """
    usable = np.isfinite(values) & np.isfinite(label)
    if not column.is_whole or not usable.any() or _CODES.search(column.name.lower()):
        return False
    found, value = np.unique(values[usable], return_inverse=True)
    groups = min(_MOST_GROUPS, len(found) // _NEIGHBORS)
    if groups < _MOST_GROUPS // 2:
        return False  # few values, each of which can be learned for itself
    rank = np.cumsum(np.bincount(value))[value] - 1  # of the last row with the value
    cell = 2 * (rank * groups // len(value)) + value % 2
    rows = np.bincount(cell, minlength=2 * groups).reshape(groups, 2)
    positives = np.bincount(cell, label[usable] > 0, minlength=2 * groups).reshape(groups, 2)
    rates = (positives / np.maximum(rows, 1))[rows.min(axis=1) > 0]  # (groups that have both halves, 2)
    if len(rates) < groups // 2 or min(rates.std(axis=0)) == 0:
        return False
    alike = float(np.corrcoef(rates.T)[0, 1])
    return alike * len(rates) ** 0.5 > _CERTAIN


def is_free_text(column: Column) -> bool:
    """True for sentences, addresses and other texts that rarely repeat; moments are none."""
    is_text = pa.types.is_string(column.values.type) and column.floats is None
    if not is_text or column.separator or column.unit:
        return False
    lengths = pc.utf8_length(column.known)
    long = len(column.known) > 0 and pc.mean(lengths).as_py() > 25
    return bool(long) and column.distinct > 0.5 * len(column.known)


def repeats(key: Column) -> int:
    """Count the ids with several rows."""
    counts = pc.value_counts(key.known).field("counts").to_numpy(zero_copy_only=False)
    return int(np.sum(counts > 1))


def determines(key: Column, column: Column, share: float = 0.98) -> bool:
    """True if nearly all of the ids with several rows have one value, and several values occur."""
    if pa.types.is_nested(key.values.type) or column.distinct < 2:
        return False
    keys, values = codes_of(key.values), codes_of(comparable(column.values))
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    sizes = np.diff(np.r_[starts, len(keys)])
    changes = np.r_[False, (keys[1:] == keys[:-1]) & (values[1:] != values[:-1])]
    constant = np.add.reduceat(changes, starts) == 0
    several = sizes > 1
    return bool(several.sum() >= SOME_GROUPS and constant[several].mean() >= share)


def comparable(values: pa.Array) -> pa.Array:
    """Write lists as texts; return anything else as it stands."""
    if not pa.types.is_nested(values.type):
        return values
    return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())


def codes_of(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return (N,) numbers of the values, -1 for none."""
    coded = values.dictionary_encode()
    return np.asarray(coded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def separation(column: Column, label: npt.NDArray[np.float64]) -> float:
    """Compute the AUC, 0.5 or more, with which the values of a numeric column rank the label."""
    numbers = numbers_or_none(column)
    if numbers is None:
        return 0.5
    usable = np.isfinite(numbers) & np.isfinite(label)
    values, truth = numbers[usable], label[usable] > 0
    positives = int(truth.sum())
    if positives == 0 or positives == len(truth):
        return 0.5
    ordered = np.sort(values)
    rank = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    auc = (rank[truth].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))
    return float(max(auc, 1 - auc))


def numbers_or_none(column: Column) -> npt.NDArray[np.float64] | None:
    """Return (N,) numbers, NaN where missing, or None for a column that does not hold numbers."""
    if column.floats is None:
        return None
    full = np.full(len(column.values), np.nan)
    full[column.values.is_valid().to_numpy(zero_copy_only=False)] = column.floats.to_numpy(
        zero_copy_only=False
    )
    return full
