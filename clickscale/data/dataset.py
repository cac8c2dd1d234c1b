"""A prepared data set, opened for reading: memory-mapped columns and the parts of a split."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clickscale.data.encoder import Encoder
from clickscale.data.layout import Manifest, check_sizes, read_manifest, verify
from clickscale.data.source import Split
from clickscale.errors import DamagedError, DataError, unknown
from clickscale.schema import Feature, Features, Schema, categorical, numeric

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
PARTS = ("train", "valid", "test")


class Columns(Mapping[str, Array]):
    """The ``.npy`` files of one folder as arrays by name, mapped into memory when first asked for."""

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

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _map(path: Path) -> Array:
    """Map one column; the plain array view gathers faster than numpy's memmap class."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); prepare the data set again.") from error


class Dataset:
    """A prepared data set: its schema, its columns (see `clickscale.data.layout`) and its split.

    Attributes:
        users, behaviors, items, impressions: columns by name.
        split: how parts are made; another split needs no new preparation.
    """

    def __init__(self, path: Path, split: Split | None = None) -> None:
        self.path = path
        self.manifest: Manifest = read_manifest(path)
        check_sizes(path, self.manifest.files)
        self.schema: Schema = self.manifest.schema
        self.features: Features = self.manifest.features
        self.split = split or self.manifest.split
        self.users, self.behaviors = Columns(path / "users"), Columns(path / "behaviors")
        self.items, self.impressions = Columns(path / "items"), Columns(path / "impressions")

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the indices of this data set."""
        return Encoder.load(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all labels, in order."""
        return self.features.labels

    @property
    def known_at(self) -> Ints:
        """(behaviors,) int64: the moment from which each behavior may be shown."""
        return self.behaviors["known_at" if "known_at" in self.behaviors else "time"]

    def verify(self) -> None:
        """Compare every file with its recorded hash; raises `DamagedError`."""
        verify(self.path, self.manifest.files)

    @cached_property
    def boundaries(self) -> tuple[int, ...]:
        """First second of valid and of test; empty for a split by each user's own time."""
        if self.split == self.manifest.split:
            return self.manifest.boundaries
        return split_boundaries(np.asarray(self.impressions["time"]), self.split)

    def parts(self) -> npt.NDArray[np.uint8]:
        """(impressions,) uint8: 0 train, 1 valid, 2 test."""
        if self.split.kind == "user_time":
            return _user_parts(self.users["impressions"], self.split)
        time = self.impressions["time"]
        part = np.zeros(len(time), dtype=np.uint8)
        for bound in self.boundaries:
            part += time >= bound
        return part

    def part(self, name: str) -> Ints:
        """Rows of the impressions of ``train``, ``valid`` or ``test``, ascending (by user, then time)."""
        if name not in PARTS:
            raise DataError(unknown("part", name, PARTS))
        return np.flatnonzero(self.parts() == PARTS.index(name)).astype(np.int64)

    def item_columns(self) -> dict[str, Array]:
        """Columns of the item table that models look up."""
        return {name: self.items[name] for name in self.items if name.startswith("field.")}


def open_dataset(path: str | Path, split: Split | None = None) -> Dataset:
    """Open a prepared data set; ``split`` replaces the one it was prepared with.

    Raises:
        DataError: ``path`` is not a prepared data set.
        DamagedError: a file is missing or was cut off.
    """
    return Dataset(Path(path), split)


def split_boundaries(time: Ints, split: Split) -> tuple[int, ...]:
    """First second of valid and of test.

    ``time``: the moment of the impression at place floor(share * N) in time order, so that equal times are
    never divided. ``day``: midnight (UTC) before the last days.

    Raises:
        DataError: a part of the split would be empty.
    """
    if split.kind == "user_time":
        return ()
    if split.kind == "day":
        last = int(time.max()) // 86400 + 1
        bounds = (int(last - split.valid - split.test) * 86400, int(last - split.test) * 86400)
    else:
        places = [int(len(time) * (1 - split.valid - split.test)), int(len(time) * (1 - split.test))]
        ranked = np.partition(time, [min(place, len(time) - 1) for place in places])
        bounds = (int(ranked[min(places[0], len(time) - 1)]), int(ranked[min(places[1], len(time) - 1)]))
    if not int(time.min()) < bounds[0]:
        raise DataError(
            f"The split {split} leaves nothing for training; choose smaller valid and test parts."
        )
    return bounds


def _user_parts(offsets: Ints, split: Split) -> npt.NDArray[np.uint8]:
    """Cut each user's impressions, which stand in time order, by the same fractions."""
    count = np.diff(offsets)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], count)
    share = (place + 0.5) / np.repeat(np.maximum(count, 1), count)
    return (share > 1 - split.valid - split.test).astype(np.uint8) + (share > 1 - split.test).astype(np.uint8)


def index_columns(columns: Columns, features: tuple[Feature, ...]) -> list[Array]:
    """Columns of the categorical features, in order; each (rows,) or (rows, values)."""
    return [columns[f"field.{feature.name}"] for feature in categorical(features)]


def number_columns(columns: Columns, features: tuple[Feature, ...]) -> list[Array]:
    """Columns of the numeric features, in order; each (rows,) float32."""
    return [columns[f"field.{feature.name}"] for feature in numeric(features)]
