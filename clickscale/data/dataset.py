"""A prepared data set, opened for reading: memory-mapped columns and the parts of a split."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Ints
from clickscale.data.columns import open_column
from clickscale.data.features.encoder import JSON, TENSORS, Encoder
from clickscale.data.layout import ADVICE, Manifest, read_manifest
from clickscale.data.portion import WHOLE, Portion
from clickscale.data.source import PART, PARTS, Split
from clickscale.data.split import Division, boundaries
from clickscale.errors import DamagedError, DataError, unknown
from clickscale.features import POSITIVES, Feature, Features, categorical, column_of, numeric
from clickscale.files import check_samples, check_sizes, heal, verify
from clickscale.schema import Schema


class Columns(Mapping[str, Array]):
    """Arrays of one folder by name: ``.npy`` files that are mapped into memory at their first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(path.name.removesuffix(".npy") for path in folder.glob("*.npy"))
        self._open: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._open:
            if name not in self._names:
                raise KeyError(unknown("column", name, self._names))
            self._open[name] = _map(self._folder / f"{name}.npy")
        return self._open[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without the error that a look-up of an absent column would word

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _map(path: Path) -> Array:
    """Map one column; the plain array view gathers faster than numpy's memmap class."""
    try:
        return open_column(path)
    except (ValueError, OSError) as error:
        raise DamagedError(f"Cannot read {path} ({error}); {ADVICE}.") from error


class Dataset:
    """A prepared data set: its schema, its columns (see `clickscale.data.layout`) and its split.

    Attributes:
        users, behaviors, items, impressions: columns by name.
        counted: columns of the events that statistics count: the impressions, or the positives of a log
            whose negatives were drawn.
        split: rule of the parts; another split needs no new preparation.
        portion: share of the training part; what is left out of it belongs to no part.
    """

    def __init__(self, path: Path, split: Split | None = None, portion: Portion = WHOLE) -> None:
        heal(path)
        self.path = path
        self.manifest: Manifest = read_manifest(path)
        check_sizes(path, self.manifest.files, ADVICE)
        check_samples(path, self.manifest.samples, ADVICE)  # of the rest, `verify` compares every byte
        self.schema: Schema = self.manifest.schema
        self.features: Features = self.manifest.features
        self.split = split or self.manifest.split
        self.portion = portion
        self.users, self.behaviors = Columns(path / "users"), Columns(path / "behaviors")
        self.items, self.impressions = Columns(path / "items"), Columns(path / "impressions")
        self.counted = Columns(path / POSITIVES) if self.schema.sampled_negatives else self.impressions

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the indices of this data set; its hashes are compared first.

        All of it, since artifacts take it over and give it a hash of their own.
        """
        verify(self.path, {name: self.manifest.files[name] for name in (JSON, TENSORS)}, ADVICE)
        return Encoder.load(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all labels, in order."""
        return self.features.labels

    @property
    def known_at(self) -> Ints:
        """(behaviors,) int64 moments from which each behavior may be shown."""
        return self.behaviors["known_at" if "known_at" in self.behaviors else "time"]

    def verify(self) -> None:
        """Compare every file with its recorded hash; raises `DamagedError`."""
        verify(self.path, self.manifest.files, ADVICE)

    @cached_property
    def boundaries(self) -> tuple[int, ...]:
        """First second of valid and of test; see `clickscale.data.split.boundaries`."""
        if self.split == self.manifest.split:
            return self.manifest.boundaries
        return boundaries(self.impressions["time"], self.split, self._given)

    @property
    def _given(self) -> Array | None:
        """(impressions,) parts that the log itself names, if it does."""
        return self.impressions.get(PART)

    def parts(self) -> npt.NDArray[np.uint8]:
        """(impressions,) uint8: 0 train, whole whatever the portion, 1 valid, 2 test."""
        user, time = self.impressions["user"], self.impressions["time"]
        offsets = self.users["impressions"]
        return Division(self.split, self.boundaries, offsets, user, time, self._given).part(slice(None))

    def part(self, name: str) -> Ints:
        """Rows of the impressions of ``train``, ``valid`` or ``test``, ascending (by user, then time)."""
        if name not in PARTS:
            raise DataError(unknown("part", name, PARTS))
        rows = np.flatnonzero(self.parts() == PARTS.index(name)).astype(np.int64)
        if name != "train":
            return rows
        return self.portion.chosen(rows, self.impressions["user"], self.impressions["time"])

    def item_columns(self) -> dict[str, Array]:
        """Columns of the item table that models look up."""
        names = [column_of(feature.name) for feature in self.features.item]
        return {name: self.items[name] for name in names}


def open_dataset(path: str | Path, split: Split | None = None, portion: Portion = WHOLE) -> Dataset:
    """Open a prepared data set.

    Args:
        split: replaces the one it was prepared with.
        portion: share of the training part.

    Raises:
        DataError: ``path`` is not a prepared data set.
        DamagedError: a file is missing, was cut off, or differs where it is sampled. `Dataset.verify`
            compares every byte, as ``clickscale inspect`` does.
    """
    return Dataset(Path(path), split, portion)


def index_columns(columns: Columns, features: tuple[Feature, ...]) -> list[Array]:
    """Columns of the categorical features, in order; each (rows,) or (rows, values)."""
    return [columns[column_of(feature.name)] for feature in categorical(features)]


def number_columns(columns: Columns, features: tuple[Feature, ...]) -> list[Array]:
    """Columns of the numeric features, in order; each (rows,) float32."""
    return [columns[column_of(feature.name)] for feature in numeric(features)]
