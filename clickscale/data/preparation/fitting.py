"""Fit of vocabularies and scales on the training part.

A value counts once for every training impression that carries it; behaviors count if they became known before
the user's training part ended. So the count of an item, a user or an attribute of items is how often a model
meets it in an epoch of training impressions, plus, for items and event attributes, in the behaviors. A value
of a profile counts once for every user of the training part: one that a single user has is a second id.
Scales weigh every training impression and behavior alike, and every user and item of the training part.

A number is standardized by the mean and deviation of those inside a fence around the bulk of its distinct
quantiles: neither an outlier nor a code such as -999 for "unknown" squeezes the others together. A column of
one value tells nothing, so it becomes 0.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Array, Floats, Ints
from clickscale.data.columns import NpyWriter, blocks, open_column
from clickscale.data.features.encoder import Encoder, Scale, Vocabulary, owner, transform
from clickscale.data.features.texts import splitmix64
from clickscale.data.features.values import MISSING, read_keys
from clickscale.data.preparation.records import KNOWN_AT, TABLES, Distinct, ids_of, table_fields
from clickscale.data.source import PART, Split
from clickscale.data.split import Division, part_of
from clickscale.errors import DataError
from clickscale.features import FIRST, column_of
from clickscale.schema import Field, Schema

_FEW = 1 << 18
_BINS = 32  # between quantiles of a number
_SAMPLE = 1 << 18  # approximate number of rows of which quantiles are taken, at most
_FENCE = 20  # interquartile ranges of the distinct quantiles beyond which a number is an outlier
_NOTHING = np.iinfo(np.int64).min


@dataclass
class _Tally:
    """Counts of keys, gathered block by block."""

    _keys: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    _counts: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    _waiting: list[tuple[Ints, Ints]] = dataclasses.field(default_factory=list)

    def add(self, keys: Ints, weights: Ints) -> None:
        """Count keys (n,) or (n, values), each row ``weights`` (n,) times; missing ones are left out."""
        weights = np.repeat(weights, keys[0].size if len(keys) else 1)
        keys = keys.ravel()
        used = (keys != MISSING) & (weights > 0)
        self._waiting.append(_sum_up(keys[used], weights[used]))
        if sum(len(waiting) for waiting, _ in self._waiting) > max(_FEW, len(self._keys)):
            self._merge()

    def _merge(self) -> None:
        every = [(self._keys, self._counts), *self._waiting]
        self._keys, self._counts = _sum_up(*(np.concatenate(column) for column in zip(*every, strict=True)))
        self._waiting = []

    def frequent(self, least: int) -> Ints:
        """List the keys that were counted ``least`` times or more, ascending."""
        self._merge()
        return self._keys[self._counts >= least]


def _sum_up(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Sum the counts of each distinct key."""
    distinct, back = np.unique(keys, return_inverse=True)
    sums = np.bincount(back, weights=counts, minlength=len(distinct))  # float64, exact below 2**53
    return distinct, sums.astype(np.int64)


@dataclass(frozen=True)
class _TrainingPart:
    """Weights of the rows of each table in the training part.

    Attributes:
        raw: raw values of fields, ``raw/TABLE/field.NAME.npy``.
        weights: by table, (rows,) number of times that a row counts.
    """

    schema: Schema
    raw: Path
    weights: dict[str, Array]

    def blocks(self, table: str, path: Path) -> Iterator[tuple[Array, Array]]:
        """Yield rows of a column of a table, and their weights."""
        column, weights = open_column(path), self.weights[table]
        for rows in blocks(len(column)):
            yield column[rows], weights[rows]

    def column(self, table: str, field: Field) -> Path:
        """Path of a field's raw values."""
        return self.raw / table / f"{column_of(field.name)}.npy"

    def scale(self, table: str, field: Field, path: Path) -> Scale:
        """Compute mean, deviation and quantiles of a numeric column; deviation 0 if it has no two values."""
        quantiles = self._quantiles(table, field, path)
        if not len(quantiles):
            return Scale(0.0, 0.0)
        low, high = np.quantile(quantiles, (0.25, 0.75))
        least, most = low - _FENCE * (high - low), high + _FENCE * (high - low)

        def total(mean: float, power: int) -> float:
            sums = []
            for block, weights in self.blocks(table, path):
                numbers = _numbers(field, block[weights > 0])
                numbers = numbers[(numbers >= least) & (numbers <= most)]
                sums.append(float(np.sum((numbers - mean) ** power)))
            return math.fsum(sums)

        count = total(0.0, 0)
        mean = total(0.0, 1) / count
        std = math.sqrt(total(mean, 2) / count)
        scale = Scale(mean, std if std > 1e-9 * abs(mean) else 0.0)
        return dataclasses.replace(scale, edges=tuple(np.unique(scale.apply(quantiles)).tolist()))

    def _quantiles(self, table: str, field: Field, path: Path) -> Floats:
        """Find distinct quantiles of a column, all of them values of it; a long column is sampled."""
        parts, begin = [np.zeros(0)], 0
        for block, weights in self.blocks(table, path):
            rows = np.arange(begin, begin + len(block), dtype=np.uint64)
            # By a hash of the row: neighbors are alike, and every n-th row may always be a positive.
            drawn = splitmix64(rows) % np.uint64(len(self.weights[table])) < _SAMPLE
            parts.append(_numbers(field, block[drawn & (weights > 0)]))
            begin += len(block)
        sample = np.concatenate(parts)
        if not len(sample):
            return sample
        return np.unique(np.quantile(sample, np.linspace(0, 1, _BINS + 1), method="inverted_cdf"))


def _numbers(field: Field, block: Array) -> Floats:
    """Transform the numbers of a block and leave out missing ones."""
    numbers = transform(field, block.astype(np.float64))
    return numbers[~np.isnan(numbers)]


def training_part(
    folder: Path, raw: Path, schema: Schema, split: Split, fixed: tuple[int, ...]
) -> _TrainingPart:
    """Find the training part of assembled columns.

    Raises:
        DataError: the training part is empty.
    """
    time, user = open_column(folder / "impressions/time.npy"), open_column(folder / "impressions/user.npy")
    item = open_column(folder / "impressions/item.npy")
    offsets = open_column(folder / "users/impressions.npy")
    given = folder / f"impressions/{PART}.npy"
    parts = Division(split, fixed, offsets, user, time, open_column(given) if given.exists() else None)
    users = np.zeros(len(offsets) - 1, np.int64)
    items = np.zeros(len(open_column(folder / "items/first_seen.npy")), np.int64)
    with NpyWriter(raw / "impressions" / "train.npy", "u1") as shown:
        for rows in blocks(len(time)):
            train = parts.part(rows) == 0
            np.add.at(users, user[rows][train], 1)
            np.add.at(items, item[rows][train], 1)
            shown.append(train.astype(np.uint8))
    if not users.any():
        raise DataError(f"{split} leaves no impression for training; choose smaller valid and test shares.")
    with NpyWriter(raw / "behaviors" / "train.npy", "u1") as past:
        for train, item_rows in _training_behaviors(folder, parts.bounds, np.diff(offsets) > 0):
            np.add.at(items, item_rows[train], 1)
            past.append(train.astype(np.uint8))
    tables = {name: open_column(raw / name / "train.npy") for name in ("impressions", "behaviors")}
    return _TrainingPart(schema, raw, tables | {"users": users, "items": items})


def _training_behaviors(
    folder: Path, bounds: Ints, shown: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], Array]]:
    """Yield which behaviors were known in their user's training part, and their rows of the item table."""
    offsets, item = open_column(folder / "users/offsets.npy"), open_column(folder / "behaviors/item.npy")
    clock = folder / "behaviors" / f"{KNOWN_AT}.npy"
    known = open_column(clock if clock.exists() else folder / "behaviors/time.npy")
    for rows in blocks(len(item)):
        user = np.searchsorted(offsets, np.arange(rows.start, rows.stop), side="right") - 1
        yield shown[user] & (part_of(user, known[rows], bounds) == 0), item[rows]


def fit_encoder(
    part: _TrainingPart, distinct: dict[str, Distinct], users: Vocabulary, items: Vocabulary
) -> Encoder:
    """Fit vocabularies and scales of every field except derived numbers and statistics."""
    schema, fields = part.schema, part.schema.fields()
    tallies: dict[str, _Tally] = {}
    scales = {}
    for role, field, ids in (("users", schema.user, users), ("items", schema.item, items)):
        weights = part.weights[role][FIRST:] if role == "items" else part.weights[role]
        keys = read_keys(ids.values, ids.dtype).data.astype(np.int64)
        tallies.setdefault(owner(schema, field.name), _Tally()).add(keys, weights)
    for table in TABLES:
        for field in table_fields(schema, table):
            if field.kind == "categorical":
                tally = tallies.setdefault(owner(schema, field.name), _Tally())
                if fields[owner(schema, field.name)].vocabulary == "exact":
                    for block, weights in part.blocks(table, part.column(table, field)):
                        tally.add(block, np.sign(weights) if table == "users" else weights)
            elif field.kind != "content":
                scales[field.name] = part.scale(table, field, part.column(table, field))
    vocabularies = {
        name: _vocabulary(schema, fields[name], tally, distinct) for name, tally in tallies.items()
    }
    return Encoder(schema, dict(sorted(vocabularies.items())), scales, items)


def _vocabulary(schema: Schema, field: Field, tally: _Tally, distinct: dict[str, Distinct]) -> Vocabulary:
    if field.vocabulary == "hash":
        return Vocabulary(field.dtype, None, field.buckets)
    keys = tally.frequent(field.min_count)
    if field.dtype == "int":
        return Vocabulary("int", pa.array(keys))
    role = ids_of("user" if field.name == schema.user.name else "item")
    texts = distinct[field.name if field.name in distinct else role].texts_of(keys)
    return Vocabulary("string", texts.take(pc.sort_indices(texts)))


def scale_made(folder: Path, part: _TrainingPart, encoder: Encoder) -> Encoder:
    """Standardize derived numbers and statistics in place, and add their scales to the encoder."""
    scales = dict(encoder.scales)
    for number in part.schema.computed():
        field = number.as_field()
        path = folder / "impressions" / f"{column_of(field.name)}.npy"
        scales[field.name] = part.scale("impressions", field, path)
        column = np.load(path, mmap_mode="r+", allow_pickle=False)
        for rows in blocks(len(column)):
            column[rows] = scales[field.name].apply(transform(field, column[rows].astype(np.float64)))
    return Encoder(encoder.schema, encoder.vocabularies, scales, encoder.item_rows)


def notes_on_scales(encoder: Encoder) -> tuple[str, ...]:
    """Name the numeric fields from which nothing can be learned."""
    constant = sorted(name for name, scale in encoder.scales.items() if not scale.std)
    if not constant:
        return ()
    return (
        f"Numbers without two values in the training part, so that models get nothing of them but whether "
        f"they are missing: {', '.join(constant)}.",
    )


def with_negatives(schema: Schema, count: int) -> Schema:
    """Return the schema of a log to which negatives were added."""
    return msgspec.structs.replace(schema, sampled_negatives=count) if count else schema
