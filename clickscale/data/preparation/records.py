"""What preparation keeps outside of memory: checked rows as fixed-size records, parted by who they belong to.

Records stand one after another in one file per table. `part_records` deals them out to bucket files, each
small enough to be sorted in memory; inside a bucket they keep the order of the log.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.errors import DataError

Records = npt.NDArray[np.void]
_FEW = 1 << 18  # distinct values that are always worth waiting for before they are merged


class RecordFile:
    """Records of one type, appended and read in order."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype

    def append(self, records: Records) -> None:
        """Write records at the end."""
        with self.path.open("ab") as stream:
            stream.write(np.ascontiguousarray(records).data)

    @property
    def rows(self) -> int:
        """Number of records."""
        return self.path.stat().st_size // self.dtype.itemsize if self.path.exists() else 0

    def read(self) -> Records:
        """All records."""
        return np.fromfile(self.path, self.dtype) if self.rows else np.zeros(0, self.dtype)

    def chunks(self, rows: int) -> Iterator[Records]:
        """All records, some rows at a time."""
        for start in range(0, self.rows, rows):
            yield np.fromfile(self.path, self.dtype, rows, offset=start * self.dtype.itemsize)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def part_records(
    source: RecordFile, buckets: int, bucket_of: Callable[[Records], Ints], chunk_rows: int
) -> list[RecordFile]:
    """Deal the records out to ``buckets`` files, ``bucket_of`` says which; the source file is removed."""
    if buckets == 1:
        return [source]
    parts = [RecordFile(source.path.with_suffix(f".{place}"), source.dtype) for place in range(buckets)]
    for records in source.chunks(chunk_rows):
        bucket = bucket_of(records)
        order = np.argsort(bucket, kind="stable")
        cuts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
        for start, end in zip(cuts, np.append(cuts[1:], len(order)), strict=True):
            parts[int(bucket[order[start]])].append(records[order[start:end]])
    source.remove()
    return parts


@dataclass
class Distinct:
    """The distinct values of a column, gathered chunk by chunk.

    New chunks wait until they are as many as what is already merged, so that the whole costs a few sorts.

    Attributes:
        name: what the values are, for messages.
        textual: whether keys are hashes of texts, which are then kept too.
    """

    name: str
    textual: bool
    _keys: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    _texts: pa.Array = field(default_factory=lambda: pa.array([], pa.large_string()))
    _waiting: list[tuple[Ints, pa.Array]] = field(default_factory=list)

    def add(self, keys: Ints, texts: pa.Array | None = None) -> None:
        """Add non-negative keys, and for texts the text of each."""
        if not self.textual:
            keys = np.unique(keys)
        self._waiting.append((keys, texts))
        if sum(len(waiting) for waiting, _ in self._waiting) > max(_FEW, len(self._keys)):
            self._merge()

    def _merge(self) -> None:
        every = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        if not self.textual:
            self._keys = np.unique(every)
        else:
            parts = [self._texts, *(texts.cast(pa.large_string()) for _, texts in self._waiting)]
            self._merge_texts(every, pa.concat_arrays(parts))
        self._waiting = []

    def _merge_texts(self, keys: Ints, texts: pa.Array) -> None:
        self._keys, first, back = np.unique(keys, return_index=True, return_inverse=True)
        same = pc.equal(texts, texts.take(pa.array(first[back])))
        place = pc.index(same, False).as_py()
        if place >= 0:
            pair = f"{texts[place].as_py()!r} and {texts[int(first[back[place]])].as_py()!r}"
            raise DataError(
                f"Two values of {self.name}, {pair}, have the same 63-bit hash; change one in the log."
            )
        self._texts = texts.take(pa.array(first))

    def sorted(self) -> pa.Array:
        """The values in order: int64, or texts by their bytes."""
        self._merge()
        if not self.textual:
            return pa.array(self._keys)
        return self._texts.take(pc.sort_indices(self._texts))

    def texts_of(self, keys: Ints) -> pa.Array:
        """The texts of keys that were added."""
        self._merge()
        return self._texts.take(pa.array(np.searchsorted(self._keys, keys)))
