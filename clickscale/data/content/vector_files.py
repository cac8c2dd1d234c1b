"""Files of item vectors, as blocks of ids and float32 rows: NumPy, safetensors, Parquet, JSON lines, CSV.

=================  ==========================================================================================
``.npy``           a matrix (rows, width); the ids in a second ``.npy`` file
``.npz``           an archive with an array of ids, named by ``key``, and one matrix beside it
``.safetensors``   the same as tensors (ids are integers there)
tables             a column of ids, named by ``key``, and either one column of lists (in CSV a text such as
                   ``0.1 0.2`` or ``[0.1, 0.2]``) or one column per component: all columns but the ids
=================  ==========================================================================================

Nothing is unpickled. Rows are read in blocks; matrices of ``.npy`` files are mapped.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clickscale.arrays import Flags, Floats32
from clickscale.data.columns import BLOCK, blocks
from clickscale.data.features.texts import nulls, read_texts
from clickscale.data.features.values import read_numbers
from clickscale.data.tables.matrices import load_content, load_matrix, open_arrays
from clickscale.data.tables.raw_tables import read
from clickscale.errors import InputError, unknown


@dataclass(frozen=True)
class VectorBlock:
    """Consecutive rows of a file of vectors.

    Attributes:
        ids: raw item ids.
        vectors: (N, width) float32; NaN where a component is missing or no number.
        given: (N,) whether the row has a vector at all.
        fits: (N,) whether it has as many components as the others.
        problem: text or null per row: what reading the file found wrong.
    """

    ids: pa.Array
    vectors: Floats32
    given: Flags
    fits: Flags
    problem: pa.Array


@dataclass(frozen=True)
class VectorFile:
    """A file of vectors: their width, how many rows if that is known, and a fresh pass over the blocks."""

    path: Path
    width: int
    rows: int | None
    blocks: Callable[[], Iterator[VectorBlock]]


def open_vectors(path: Path, key: str, *, ids: Path | None = None, column: str = "") -> VectorFile:
    """Open a file of item vectors; the ending of its name says how to read it.

    Args:
        key: name of the ids within the file; an ``.npy`` file has none.
        ids: file of ids, for ``.npy``.
        column: name of the matrix, or of the column of lists; the only one that fits if empty.

    Raises:
        InputError: the file is missing, damaged, or does not hold what it should; the message names it.
    """
    if path.suffix == ".npy":
        if ids is None:
            raise InputError(f"{path} holds vectors without ids; give the .npy file of the ids with --ids.")
        content = load_content(path, ids)
        return _matrix_file(path, content.vectors, content.ids)
    if path.suffix in (".npz", ".safetensors"):
        arrays = open_arrays(path) if path.suffix == ".npz" else _tensors(path)
        matrix, keys = _choose(path, arrays, key, column)
        return _matrix_file(path, *load_matrix(path, matrix, path, keys))
    return _table_file(path, key, column)


def _tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"Cannot read {path}: {error}") from error


def _choose(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], key: str, column: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The matrix and the ids among the arrays of a file."""
    if key not in arrays:
        raise InputError(f"{path}: " + unknown("array of ids", key, arrays) + " Name it with --key.")
    if column and column not in arrays:
        raise InputError(f"{path}: " + unknown("array", column, arrays))
    fitting = [column] if column else [name for name in arrays if name != key and arrays[name].ndim == 2]
    if len(fitting) != 1:
        raise InputError(
            f"{path} holds {len(fitting)} matrices beside the ids ({', '.join(arrays)}); name one with"
            " --column."
        )
    return arrays[fitting[0]], arrays[key]


def _matrix_file(path: Path, matrix: npt.NDArray[Any], ids: pa.Array) -> VectorFile:
    def pieces() -> Iterator[VectorBlock]:
        size = max(1, (BLOCK << 4) // matrix.shape[1])
        for rows in blocks(len(matrix), size):
            with np.errstate(over="ignore"):
                vectors = np.asarray(matrix[rows]).astype(np.float32)
            count, whole = len(vectors), np.ones(len(vectors), bool)
            yield VectorBlock(
                ids.slice(rows.start, count), vectors, whole, whole, pa.nulls(count, pa.string())
            )

    return VectorFile(path, int(matrix.shape[1]), len(matrix), pieces)


# --- tables


def _table_file(path: Path, key: str, column: str) -> VectorFile:
    """A table; its first rows tell where the vectors are and how wide."""
    first = next(read(path), None)
    if first is None:
        raise InputError(f"{path} has no rows.")
    names = list(first.rows.schema.names)
    for name in (key, column or key):
        if name not in names:
            raise InputError(f"{path}: " + unknown("column", name, names))
    others = [name for name in names if name != key]
    lists = [column] if column else [name for name in others if _is_list(first[name].type)]
    width = _first_length(first[lists[0]]) if lists else len(others)
    if width < 1 or len(lists) > 1:
        raise InputError(
            f"{path} shows no vectors beside {key!r} (columns {', '.join(names)}); name the column of lists"
            " with --column, or give one column per component."
        )

    def pieces() -> Iterator[VectorBlock]:
        for chunk in read(path, [key, *(lists or others)]):
            parts = (
                _from_lists(chunk[lists[0]], width)
                if lists
                else _from_columns([chunk[name] for name in others])
            )
            yield VectorBlock(chunk[key], *parts, chunk.problem)

    return VectorFile(path, width, None, pieces)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _lists(values: pa.Array) -> pa.Array:
    """A column of lists; a text becomes the list of what stands between commas or spaces."""
    if _is_list(values.type):
        return values
    texts, _ = read_texts(values)
    bare = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, r"[\[\]()]", ""))
    return pc.split_pattern_regex(bare, r"\s*[,;|\s]\s*")


def _first_length(values: pa.Array) -> int:
    """Components of the first vector; 0 if there is none."""
    lengths = pc.list_value_length(_lists(values)).drop_null()
    return int(lengths[0].as_py()) if len(lengths) else 0


def _from_lists(values: pa.Array, width: int) -> tuple[Floats32, Flags, Flags]:
    """Vectors (N, width), whether a row has one, and whether it has that many components."""
    lists = _lists(values)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    fits = lengths == width
    vectors = np.full((len(lists), width), np.nan, np.float32)
    flat, _ = read_numbers(lists.flatten())
    vectors[fits] = flat[np.repeat(fits, lengths)].reshape(-1, width)
    return vectors, ~nulls(lists), fits


def _from_columns(columns: list[pa.Array]) -> tuple[Floats32, Flags, Flags]:
    """The same for one column per component."""
    vectors = np.stack([read_numbers(column)[0] for column in columns], axis=1).astype(np.float32)
    return vectors, np.ones(len(vectors), bool), np.ones(len(vectors), bool)
