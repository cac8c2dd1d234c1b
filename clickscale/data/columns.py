"""Columns on disk: ``.npy`` files written piece by piece, and read block by block."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array

BLOCK = 1 << 16  # rows; fixed, since sums over blocks must not depend on how much memory may be used
_HEADER = 128  # bytes; room for any shape, and it keeps the data aligned


class NpyWriter:
    """A ``.npy`` file that grows; the number of rows is written into its header when it is closed."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, width: tuple[int, ...] = ()) -> None:
        self.path, self.dtype, self.width, self.rows = path, np.dtype(dtype).newbyteorder("<"), width, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = path.open("wb")
        self._stream.write(self._header())

    def append(self, values: Array) -> None:
        """Write (n, *width) rows."""
        assert values.shape[1:] == self.width, f"{self.path}: rows of {values.shape[1:]}, not {self.width}"
        self._stream.write(np.ascontiguousarray(values, dtype=self.dtype).data)  # tofile would hide errno
        self.rows += len(values)

    def close(self) -> None:
        """Write the header and close the file."""
        self._stream.seek(0)
        self._stream.write(self._header())
        self._stream.close()

    def _header(self) -> bytes:
        shape = (self.rows, *self.width)
        text = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
        return (
            np.lib.format.magic(1, 0)
            + (_HEADER - 10).to_bytes(2, "little")
            + text.ljust(_HEADER - 11).encode()
            + b"\n"
        )

    def __enter__(self) -> "NpyWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._stream.close()


def write_column(path: Path, values: Array) -> None:
    """Write a column that is in memory."""
    with NpyWriter(path, values.dtype, values.shape[1:]) as writer:
        writer.append(values)


def open_column(path: Path) -> Array:
    """A column of at least one row is mapped into memory, read only."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def blocks(rows: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover ``rows`` rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
