"""Matrices of frozen content vectors (text, image): a matrix in one ``.npy`` file, item ids in another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.errors import InputError


@dataclass(frozen=True)
class ContentVectors:
    """Memory-mapped vectors (rows, width) and the item id of each row."""

    vectors: np.ndarray[Any, Any]
    ids: pa.Array

    @property
    def width(self) -> int:
        """Floats in one vector."""
        return int(self.vectors.shape[1])

    def column(self, items: pa.Array) -> pa.Array:
        """Look up vectors of item ids as fixed-size lists of float32; null for items without one."""
        ids = items if items.type == self.ids.type else items.cast(pa.string())
        known = self.ids if items.type == self.ids.type else self.ids.cast(pa.string())
        rows = pc.index_in(ids, value_set=known)
        missing = rows.is_null().to_numpy(zero_copy_only=False)
        matrix_rows = rows.fill_null(0).to_numpy(zero_copy_only=False)
        flat = np.asarray(self.vectors[matrix_rows], np.float32).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), self.width, mask=pa.array(missing))


def load_content(vectors: Path, ids: Path) -> ContentVectors:
    """Open a matrix and its ids.

    Raises:
        InputError: a file is missing or damaged, or the two do not fit together.
    """
    return ContentVectors(*load_matrix(vectors, _load(vectors), ids, _load(ids)))


def load_matrix(
    vectors: Path, matrix: np.ndarray[Any, Any], ids: Path, keys: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], pa.Array]:
    """Check a matrix that was read from ``vectors``; return it with its ids as an arrow array.

    Raises:
        InputError: the array is not a matrix of floats, or the ids do not fit it.
    """
    if matrix.ndim != 2 or matrix.shape[1] < 1 or matrix.dtype.kind != "f":
        raise InputError(
            f"{vectors} holds {matrix.dtype} of shape {matrix.shape}; it must hold floats (items, width)."
        )
    if keys.shape != matrix.shape[:1]:
        raise InputError(f"{ids} holds {keys.shape} ids for the {matrix.shape[0]} vectors of {vectors}.")
    return matrix, pa.array(keys)


def open_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read every array of an ``.npz`` archive.

    Raises:
        InputError: the file is missing or damaged, or an array holds objects.
    """
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"{path} is one array and not an archive; rename it to end in .npy.")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"Cannot read {path}: {error}") from error


def _load(path: Path) -> np.ndarray[Any, Any]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"Cannot read {path}: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} is an archive of arrays; give one .npy array.")
    return loaded
