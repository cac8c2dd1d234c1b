"""Encoder of raw values into indices and scaled numbers: one implementation for training and serving.

Index 0 is padding and 1 is unknown: missing, too rare, or never seen in the training part. A text is
identified by 63 bits of a hash of its bytes. Preparing a log proves that no two of its texts share them. A
text that the log does not have is mistaken for one that it has with probability (vocabulary size) / 2**63.

On disk, ``encoder.json`` lists the vocabularies and scales, and ``encoder.safetensors`` holds the values:
``field.NAME.keys`` (int64 ids) or ``field.NAME.bytes`` and ``field.NAME.ends`` (UTF-8), and the same
for ``items``, all item ids of the log in the order of the item table; ``scale.NAME.edges`` (float32) are the
quantiles of a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from clickscale.arrays import Floats, Ints, Ints32
from clickscale.config import Config
from clickscale.config_text import load_json
from clickscale.data.features.texts import hash_texts, splitmix64, text_buffers, texts_of
from clickscale.data.features.values import MISSING, read_field, read_keys
from clickscale.errors import DamagedError, DataError, SchemaError, unknown
from clickscale.features import FIRST, PADDING, UNKNOWN, Feature, Features, column_of
from clickscale.schema import Field, Schema
from clickscale.sealed import indented

JSON, TENSORS = "encoder.json", "encoder.safetensors"
DAY = 86_400  # timestamps are counted in days
# Deviations from the mean; a code for "unknown" such as 1e30 lies there, apart from the others but not so far
# that it drowns them.
_FARTHEST = 10.0
_LATER_KEYS = (
    *("notation", "unit", "url", "derived", "known", "known_after", "time_zone"),
    *("behavior_label", "has_own_behaviors"),
)
_STRANGER = "another"
_SPELLINGS = (("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0"))


@dataclass(frozen=True)
class Vocabulary:
    """The values of a categorical field and their indices.

    ``values`` are sorted (int64 ids, or UTF-8 texts by their bytes) and value i has index FIRST + i. Without
    values the vocabulary hashes every value into one of ``buckets`` indices.
    """

    dtype: Literal["int", "string"]
    values: pa.Array | None = None
    buckets: int = 0

    @property
    def size(self) -> int:
        """Number of indices, padding and unknown included."""
        return FIRST + (self.buckets if self.values is None else len(self.values))

    @cached_property
    def _known(self) -> tuple[Ints, Ints32]:
        """Keys in ascending order, and the index of each."""
        assert self.values is not None, "a hashing vocabulary does not keep values"
        if self.dtype == "int":
            keys = self.values.to_numpy(zero_copy_only=False)
            return keys, np.arange(FIRST, FIRST + len(keys), dtype=np.int32)
        keys = hash_texts(self.values)
        order = np.argsort(keys)
        return keys[order], (order + FIRST).astype(np.int32)

    @cached_property
    def stranger(self) -> int | str:
        """A value that is not among the values."""
        assert self.values is not None, "a hashing vocabulary has every value"
        if self.dtype == "int":
            keys, _ = self._known
            gaps = np.flatnonzero(keys != np.arange(len(keys)))
            return int(gaps[0]) if len(gaps) else len(keys)
        text = _STRANGER
        while self.encode(pa.array([text]))[0] != UNKNOWN:
            text += "'"
        return text

    def lookup(self, keys: Ints) -> Ints32:
        """Indices of keys (see `values`), same shape; missing and unseen ones are UNKNOWN."""
        if self.values is None:
            mixed = splitmix64(keys.astype(np.uint64)) % np.uint64(self.buckets)
            return np.where(keys == MISSING, UNKNOWN, mixed.astype(np.int32) + FIRST).astype(np.int32)
        known, index = self._known
        if not len(known):
            return np.full(keys.shape, UNKNOWN, np.int32)
        nearest = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[nearest] == keys, index[nearest], UNKNOWN).astype(np.int32)

    def as_spelled(self, keys: Ints) -> Ints:
        """Keys of texts, with those of ``true`` and ``false`` as the values spell them: ``True`` or ``1``."""
        for spellings in _SPELLINGS:
            spelled = hash_texts(pa.array(spellings))
            known = self.lookup(spelled) > UNKNOWN
            keys = np.where(keys == spelled[0], spelled[known.argmax()], keys)
        return keys

    def encode(self, values: pa.Array) -> Ints32:
        """(N,) indices of raw values of any type; null, unreadable and unseen ones are UNKNOWN."""
        return self.lookup(read_keys(values, self.dtype).data.astype(np.int64, copy=False))


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a numeric field over the training part, outliers left out.

    Attributes:
        std: 0 if the training part has one value or none: then every number is 0.
        edges: quantiles of the standardized numbers, ascending, distinct, exact in float32.
    """

    mean: float
    std: float
    edges: tuple[float, ...] = ()

    def apply(self, numbers: Floats) -> npt.NDArray[np.float32]:
        """Standardize and clip; NaN stays NaN."""
        if not self.std:
            return np.where(np.isnan(numbers), np.nan, 0).astype(np.float32)
        return np.clip((numbers - self.mean) / self.std, -_FARTHEST, _FARTHEST).astype(np.float32)


def transform(field: Field, numbers: Floats) -> Floats:
    """Transform numbers before they are standardized: timestamps to days, log1p to sign(x) log(1 + |x|)."""
    if field.kind == "timestamp":
        return numbers / DAY
    return np.sign(numbers) * np.log1p(np.abs(numbers)) if field.transform == "log1p" else numbers


def restore(field: Field, numbers: Floats) -> Floats:
    """Invert `transform`."""
    if field.kind == "timestamp":
        return numbers * DAY
    return np.sign(numbers) * np.expm1(np.abs(numbers)) if field.transform == "log1p" else numbers


class _VocabularyEntry(Config, frozen=True):
    dtype: Literal["int", "string"]
    buckets: int = 0


class _EncoderFile(Config, frozen=True):
    schema: Schema
    vocabularies: dict[str, _VocabularyEntry]
    scales: dict[str, tuple[float, float]]
    version: int = 1


class Encoder:
    """Every vocabulary and scale of a data set.

    Args:
        vocabularies: by field name; a field that shares a vocabulary has no entry.
        scales: by field name, for every numeric and timestamp field, derived numbers and statistics included.
        item_rows: all item ids of the log; an index is a row of the item table.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: Mapping[str, Vocabulary],
        scales: Mapping[str, Scale],
        item_rows: Vocabulary,
    ) -> None:
        self.schema, self.scales, self.item_rows = schema, dict(scales), item_rows
        self._fields = schema.fields()
        self.vocabularies = dict(vocabularies)

    def field(self, name: str) -> Field:
        """Return the field of that name, or raise `SchemaError`."""
        if name not in self._fields:
            raise SchemaError(unknown("field", name, self._fields))
        return self._fields[name]

    def vocabulary(self, name: str) -> Vocabulary:
        """Return the vocabulary that a categorical field uses, its own or a shared one."""
        return self.vocabularies[owner(self.schema, name)]

    def encode_field(self, name: str, values: pa.Array) -> npt.NDArray[Any]:
        """Encode raw values of any arrow type; an unreadable value is unknown and raises nothing.

        Returns:
            (N,) or (N, values) int32, (N,) float32 with NaN where missing, or (N, width) float16.
        """
        return self.encode_raw(name, read_field(self.field(name), values).data)

    def encode_raw(self, name: str, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Encode keys, untransformed numbers or vectors (`clickscale.data.features.values.Raw.data`)."""
        field = self.field(name)
        if field.kind == "categorical":
            indices = self.vocabulary(name).lookup(data)
            if field.values > 1:
                indices[data == MISSING] = PADDING
                indices[(data[:, 0] == MISSING), 0] = UNKNOWN
            return indices
        if field.kind == "content":
            return np.where(np.isfinite(data), data, 0).astype(np.float16)
        return self.scales[name].apply(transform(field, data))

    def decode_numbers(self, name: str, numbers: npt.NDArray[np.floating]) -> Floats:
        """Invert `encode_raw` for a numeric field or a timestamp, as far as floats allow; NaN stays NaN."""
        scale, field = self.scales[name], self.field(name)
        return restore(field, numbers.astype(np.float64) * scale.std + scale.mean)

    def encode_items(self, values: pa.Array) -> Ints32:
        """(N,) rows of the item table for raw item ids; 1 for items that the log does not have."""
        return self.item_rows.encode(values)

    def features(self) -> Features:
        """Describe the features from which models are built."""
        schema = self.schema
        return Features(
            profile=self._describe((schema.user, *schema.profile)),
            behavior=self._describe(schema.behavior),
            item=self._describe((schema.item, *schema.items)),
            context=self._describe(schema.context_fields()),
            items=self.item_rows.size,
            labels=tuple(label.name for label in schema.labels),
        )

    def _describe(self, fields: tuple[Field, ...]) -> tuple[Feature, ...]:
        return tuple(self._feature(field) for field in fields)

    def _feature(self, field: Field) -> Feature:
        if field.kind == "categorical":
            return Feature(
                name=field.name,
                kind="categorical",
                size=self.vocabulary(field.name).size,
                values=field.values,
                shares=owner(self.schema, field.name) if field.shares else "",
            )
        if field.kind == "content":
            return Feature(name=field.name, kind="content", width=field.width)
        return Feature(name=field.name, kind="numeric", width=1, edges=self.scales[field.name].edges)

    # --- files

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors``; equal encoders give equal bytes."""
        for name, data in self._files().items():
            (folder / name).write_bytes(data)  # save_file would hide that the disk is full

    def equals(self, other: "Encoder") -> bool:
        """True if both encode every value alike, even if other releases wrote their files."""
        return self._files() == other._files()

    def _files(self) -> dict[str, bytes]:
        tensors = _tensors("items", self.item_rows)
        for name, vocabulary in self.vocabularies.items():
            tensors |= _tensors(column_of(name), vocabulary)
        for name, scale in self.scales.items():
            tensors[f"scale.{name}.edges"] = np.array(scale.edges, np.float32)
        entries = {
            name: _VocabularyEntry(dtype=v.dtype, buckets=v.buckets) for name, v in self.vocabularies.items()
        }
        scales = {name: (scale.mean, scale.std) for name, scale in self.scales.items()}
        head = _EncoderFile(schema=self.schema, vocabularies=entries, scales=scales)
        text = indented(_as_before(msgspec.to_builtins(head)), ascii_only=False)
        return {JSON: (text + "\n").encode(), TENSORS: save(tensors)}

    @classmethod
    def load(cls, folder: Path) -> "Encoder":
        """Read the encoder that `save` wrote.

        Raises:
            DataError: the folder does not hold an encoder.
            DamagedError: its files do not fit together.
        """
        if not (folder / JSON).is_file():
            raise DataError(
                f"{folder} does not hold an encoder ({JSON} is missing); prepare the data set again."
            )
        head = load_json((folder / JSON).read_bytes(), _EncoderFile, str(folder / JSON))
        try:
            tensors = load_file(folder / TENSORS)
            items = _vocabulary(tensors, "items", head.schema.item.dtype, 0)
            vocabularies = {
                name: _vocabulary(tensors, column_of(name), entry.dtype, entry.buckets)
                for name, entry in head.vocabularies.items()
            }
            scales = {
                name: Scale(mean, std, tuple(tensors[f"scale.{name}.edges"].tolist()))
                for name, (mean, std) in head.scales.items()
            }
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DamagedError(
                f"Cannot read {folder / TENSORS} ({error}); prepare the data set again."
            ) from error
        return cls(head.schema, vocabularies, scales, items)


def _as_before(tree: Any) -> Any:
    """Leave out what a log does not use of later keys: it has the file, and the hash, of before they came."""
    if isinstance(tree, dict):
        return {key: _as_before(value) for key, value in tree.items() if value or key not in _LATER_KEYS}
    return [_as_before(value) for value in tree] if isinstance(tree, list | tuple) else tree


def owner(schema: Schema, name: str) -> str:
    """Follow ``shares`` to the field whose vocabulary a field uses; return its name."""
    fields, seen = schema.fields(), {name}
    while fields[name].shares:
        name = fields[name].shares
        if name in seen:
            raise SchemaError(
                f"Fields {sorted(seen)} share their vocabulary in a circle; give one of them its own."
            )
        seen.add(name)
    return name


def _tensors(prefix: str, vocabulary: Vocabulary) -> dict[str, npt.NDArray[Any]]:
    if vocabulary.values is None:
        return {}
    if vocabulary.dtype == "int":
        return {f"{prefix}.keys": vocabulary.values.to_numpy(zero_copy_only=False)}
    ends, data = text_buffers(vocabulary.values)
    return {f"{prefix}.bytes": np.ascontiguousarray(data), f"{prefix}.ends": np.ascontiguousarray(ends)}


def _vocabulary(
    tensors: Mapping[str, npt.NDArray[Any]], prefix: str, dtype: Literal["int", "string"], buckets: int
) -> Vocabulary:
    if buckets:
        return Vocabulary(dtype, None, buckets)
    if dtype == "int":
        return Vocabulary(dtype, pa.array(tensors[f"{prefix}.keys"]))
    return Vocabulary(dtype, texts_of(tensors[f"{prefix}.ends"], tensors[f"{prefix}.bytes"]))
