"""Whether a number was made from the label: an average over the whole log, or one that counts its own row.

Three signs, none of which an honest number shows:

* *whole log*: given the number, the label rates of an item in two halves of its impressions move against each
  other. They do so only if the number holds the chance outcomes of both halves, as their mean does; a number
  known from elsewhere leaves them independent or moving together. The same for users.
* *own row, by change*: from one impression of a key to the next, the number changes by the later label, as a
  running count does that already holds its own row. An honest one changes by the earlier label.
* *own row, by difference*: among the rows of one key, the number ranks the labels, as a mean does that leaves
  its own row out.

Keys are the user, the item, each category of the item, alone and with the user, and the whole log.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.evidence import ROWS, Flags, Integers, Suspicion, auc
from clickscale.data.features.texts import splitmix64
from clickscale.features import Feature, column_of, label_of

_CHUNK = 1 << 18
_KEYS = 50  # items or users that a sign must be seen on
_OPPOSED = -0.3  # correlation of two halves, given the number, below which it holds both
_SURE = 6.0  # standard errors
_TELLING = 0.9  # AUC, of changes and differences
_CLASS = 50  # positives and negatives that these need

Floats = NDArray[np.float64]


def suspicious_aggregates(data: Dataset) -> Iterator[Suspicion]:
    """Yield the numbers that were made from a label."""
    declared = {number.name for number in data.schema.computed()}
    context = [
        feature
        for feature in data.features.context
        if feature.kind == "numeric" and feature.name not in declared
    ]
    for label in data.labels:
        yield from _whole_log(data, label, context)
        yield from _own_rows(data, label, context)


# --- averages over the whole log


class _Halves(NamedTuple):
    """Known labels and positives of each key, in two halves of the moments: (2, keys) each."""

    known: Floats
    positives: Floats


def _whole_log(data: Dataset, label: str, context: list[Feature]) -> Iterator[Suspicion]:
    """Yield attributes of items and users, and context that is constant for them, that average the label."""
    sides = (("user", data.features.profile, data.users), ("item", data.features.item, data.items))
    for key, features, table in sides:
        halves = _halves(data, key, label)
        for feature in features:
            if feature.kind == "numeric":
                values = _raw(data.encoder, feature, table[column_of(feature.name)])
                yield from _judged(feature, key, label, values, halves)
        for feature in context:
            values = _constant(data, feature, key, halves.known.shape[1])
            yield from _judged(feature, key, label, values, halves)


def _judged(feature: Feature, key: str, label: str, values: Floats, halves: _Halves) -> Iterator[Suspicion]:
    """Yield a suspicion if ``values`` (keys,) hold the outcomes of both halves."""
    usable = (halves.known.min(axis=0) >= 2) & np.isfinite(values)
    if usable.sum() < _KEYS or np.ptp(values[usable]) == 0:
        return
    known, positives = halves.known[:, usable], halves.positives[:, usable]
    number, total = values[usable], known.sum(axis=0)
    rates, alone = positives / known, np.log(total)
    usual, _ = _opposition(rates, total, alone)
    for form in (number, number / total):
        opposed, errors = _opposition(rates, total, np.stack([form, alone]))
        if opposed < min(_OPPOSED, usual + _OPPOSED) and errors < -_SURE:
            message = (
                f"{feature.name!r} is an aggregate of label {label!r} over the whole log: given it, the "
                f"label rates of each {key} in two halves of the log have correlation {opposed:.2f}"
            )
            yield Suspicion(feature.name, message, int(usable.sum()))
            return


def _opposition(rates: Floats, weight: Floats, given: Floats) -> tuple[float, float]:
    """Correlate two rows of ``rates`` (2, keys) after a linear fit to ``given``; also in standard errors."""
    root = np.sqrt(weight)
    design = np.vstack([np.ones_like(weight), np.atleast_2d(given)]) * root
    scaled = design.T / np.maximum(np.abs(design).max(axis=1), 1e-300)  # (keys, numbers)
    target = (rates * root).T  # (keys, 2)
    left = target - scaled @ np.linalg.lstsq(scaled, target, rcond=None)[0]
    spread = np.sqrt((left**2).sum(axis=0))
    if spread.min() < 1e-9 * max(float(np.abs(target).max()), 1e-300) * len(weight):
        return 0.0, 0.0
    correlation = float(np.clip((left[:, 0] @ left[:, 1]) / spread.prod(), -0.999999, 0.999999))
    return correlation, float(np.arctanh(correlation) * np.sqrt(max(len(weight) - 6, 1)))


def _halves(data: Dataset, key: str, label: str) -> _Halves:
    """Count labels by key; all rows of one user and moment are in the same half."""
    size = len(data.users["offsets"]) - 1 if key == "user" else len(data.items["first_seen"])
    known, positives = np.zeros((2, size)), np.zeros((2, size))
    for start in range(0, len(data.impressions["time"]), _CHUNK):
        rows = slice(start, start + _CHUNK)
        user, time = (data.impressions[name][rows].astype(np.uint64) for name in ("user", "time"))
        half = splitmix64(splitmix64(user) ^ time) % np.uint64(2)
        outcome, owner = data.impressions[label_of(label)][rows], data.impressions[key][rows]
        for index in range(2):
            mine = half == index
            known[index] += np.bincount(owner[mine & (outcome >= 0)], minlength=size)
            positives[index] += np.bincount(owner[mine & (outcome == 1)], minlength=size)
    return _Halves(known, positives)


def _constant(data: Dataset, feature: Feature, key: str, size: int) -> Floats:
    """Return (keys,) the value of a context field where a key has one value throughout, else NaN."""
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    column = data.impressions[column_of(feature.name)]
    for start in range(0, len(column), _CHUNK):
        values, owner = column[start : start + _CHUNK], data.impressions[key][start : start + _CHUNK]
        np.fmin.at(low, owner, values)
        np.fmax.at(high, owner, values)
    low[low != high] = np.nan
    return _raw(data.encoder, feature, low)


def _raw(encoder: Encoder, feature: Feature, values: NDArray[Any]) -> Floats:
    """Return numbers as the log has them, before they were transformed and standardized."""
    scale = encoder.scales[feature.name]
    numbers = values.astype(np.float64) * scale.std + scale.mean
    if encoder.schema.fields()[feature.name].transform == "log1p":
        return np.asarray(np.sign(numbers) * np.expm1(np.minimum(np.abs(numbers), 80.0)))
    return numbers


# --- numbers that count their own row


def _own_rows(data: Dataset, label: str, context: list[Feature]) -> Iterator[Suspicion]:
    """Yield the context numbers that change with, or differ by, the label of their own row."""
    if not context:
        return
    told: set[str] = set()
    for name, rows, key in _keyed(data):
        outcome = data.impressions[label_of(label)][rows]
        known = outcome >= 0
        rows, key, positive = rows[known], key[known], outcome[known] == 1
        order = np.lexsort((rows, data.impressions["time"][rows], key))
        rows, key, positive = rows[order], key[order], positive[order]
        for feature in context:
            if feature.name in told:
                continue
            values = data.impressions[column_of(feature.name)][rows].astype(np.float64)
            sign, count = _sign(values, key, positive)
            if sign:
                told.add(feature.name)
                message = f"{feature.name!r} {sign} (label {label!r}, by {name})"
                yield Suspicion(feature.name, message, count)


def _sign(values: Floats, key: Integers, positive: Flags) -> tuple[str, int]:
    """Describe a sign that numbers count their own row, and the rows it was seen on; empty without one.

    Args:
        values, key, positive: (N,) ordered by key, then time.
    """
    follows = key[1:] == key[:-1]
    change = np.diff(values)
    usable = follows & np.isfinite(change)
    if _telling(change[usable], positive[1:][usable]):
        return "changes by the label of its own row", int(usable.sum())
    there = np.isfinite(values)
    values, key, positive = values[there], key[there], positive[there]
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(begins):
        return "", 0
    rows = np.diff(np.append(begins, len(key)))
    clicked = np.add.reduceat(positive.astype(np.int64), begins)
    mixed = np.repeat((clicked > 0) & (clicked < rows), rows)
    apart = values - np.repeat(np.add.reduceat(values, begins) / rows, rows)
    if len(begins) > 1 and _telling(apart[mixed], positive[mixed]):
        return "ranks the labels of one key, as a mean does without its own row", int(mixed.sum())
    return "", 0


def _telling(score: Floats, positive: Flags) -> bool:
    """True if a score ranks outcomes nearly perfectly, in either direction."""
    if min(positive.sum(), (~positive).sum()) < _CLASS:
        return False
    area = auc(score, positive)
    return max(area, 1 - area) > _TELLING


def _keyed(data: Dataset) -> Iterator[tuple[str, Integers, Integers]]:
    """Yield (name, rows, (rows,) key) of each kind of key: all rows of some keys, about `ROWS` together."""
    user, item, time = (data.impressions[name] for name in ("user", "item", "time"))
    total = len(time)
    step = -(-total // ROWS)
    latest = int(np.quantile(time[:: max(total // ROWS, 1)], min(ROWS / max(total, 1), 1.0)))
    rows = _where(lambda part: time[part] <= latest, total)
    yield "the whole log", rows, np.zeros(len(rows), np.int64)
    rows = _where(lambda part: _chosen(user[part], step), total)
    yield "user", rows, user[rows].astype(np.int64)
    for feature in data.features.item:
        if feature.kind != "categorical" or feature.values > 1 or feature.name == data.schema.item.name:
            continue
        category = data.items[column_of(feature.name)].astype(np.int64)
        yield f"{feature.name}", rows, category[item[rows]]
        yield f"user and {feature.name}", rows, user[rows] * feature.size + category[item[rows]]
    rows = _where(lambda part: _chosen(item[part], step), total)
    yield "item", rows, item[rows].astype(np.int64)


def _where(test: Callable[[slice], Flags], rows: int) -> Integers:
    """Return the rows that pass a test, which gets a stretch of them at a time."""
    starts = range(0, rows, _CHUNK)
    found = [start + np.flatnonzero(test(slice(start, start + _CHUNK))) for start in starts]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _chosen(owner: NDArray[Any], step: int) -> Flags:
    """(rows,) True for the rows of one in ``step`` owners."""
    return np.equal(splitmix64(owner.astype(np.uint64)) % np.uint64(step), 0)
