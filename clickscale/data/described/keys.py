"""Keys by which rows of two tables are joined, and the rows of a table by their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.rows import as_text, composed, flat
from clickscale.data.features.texts import is_placeholder, read_texts, whole_texts
from clickscale.data.features.values import read_keys
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.paths import is_list
from clickscale.errors import InputError


@dataclass(frozen=True)
class KeyedRows:
    """Columns of a table by the keys of its rows.

    Attributes:
        keys: (K,) distinct ones, ascending.
        columns: (K,) by name.
    """

    keys: Ints
    columns: Mapping[str, pa.Array]

    def places(self, keys: Ints) -> pa.Array:
        """Return the row of each key (N,), null for those that the table does not have."""
        if not len(self.keys):
            return pa.nulls(len(keys), pa.int64())
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return pa.array(place, mask=self.keys[place] != keys)

    def of(self, keys: Ints) -> dict[str, pa.Array]:
        """Return the columns of rows with the keys (N,), null for those that the table does not have."""
        rows = self.places(keys)
        return {name: column.take(rows) for name, column in self.columns.items()}


def gathered(values: pa.Array, ends: Ints) -> pa.Array:
    """Gather values (N,), in the order of their keys, into lists (K,); those of lists are put together.

    Args:
        ends: (K + 1,) first row of each key, and N.
    """
    if is_list(values.type):
        lengths = np.asarray(pc.list_value_length(values).fill_null(0), np.int64)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[ends]
        values = values.flatten()
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), values)


def with_lists(chunk: Chunk, columns: Sequence[str]) -> Chunk:
    """Repeat the rows of a chunk for each entry of the lists in the columns of a key.

    Of columns with lists of different lengths in a row, the missing entries are null.
    """
    lists = [name for name in columns if pa.types.is_nested(chunk[name].type)]
    if not lists:
        return chunk
    held = {name: flat(chunk[name]) for name in lists}
    count = np.max([entries.count for entries in held.values()], axis=0)
    row = np.repeat(np.arange(len(chunk)), count)
    place = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    taken = {name: chunk[name].take(pa.array(row)) for name in chunk.rows.schema.names if name not in held}
    for name, entries in held.items():
        source = pa.array(entries.start[row] + place, mask=place >= entries.count[row])
        taken[name] = entries.values.take(source)
    rows = pa.RecordBatch.from_arrays(list(taken.values()), names=list(taken))
    return Chunk(rows, chunk.problem.take(pa.array(row)))


def row_keys(what: str, chunk: Chunk, columns: Sequence[str], complete: bool = False) -> Ints:
    """Return (N,) keys of rows, `MISSING` where every column is empty.

    Args:
        what: name of the tables in messages.
        complete: a key is missing as well where one of its columns is empty or holds a placeholder, such as
            ``unknown``.

    Raises:
        InputError: a column holds lists.
    """
    parts = []
    for name in columns:
        values = chunk[name]
        if pa.types.is_nested(values.type):
            raise InputError(f"{what}: the key {name!r} holds lists; name a column of one value a row.")
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        parts.append(whole_texts(read_texts(values)[0]))
    if complete:
        named = [pc.and_(pc.is_valid(part), pa.array(~is_placeholder(part))) for part in parts]
        known = reduce(pc.and_, named)
        parts = [pc.if_else(known, part, pa.scalar(None, part.type)) for part in parts]
    keys: Ints = read_keys(parts[0] if len(parts) == 1 else composed(parts), "string").data.astype(np.int64)
    return keys


def together(arrays: Sequence[pa.Array]) -> pa.Array:
    """Join the parts of a column; those of several types as texts."""
    kinds = {array.type for array in arrays if not pa.types.is_null(array.type)}
    if len(kinds) > 1 and any(map(pa.types.is_nested, kinds)):
        texts = [
            [None if row is None else [str(value) for value in row if value is not None] for row in rows]
            for rows in (array.to_pylist() for array in arrays)
        ]
        return pa.concat_arrays([pa.array(rows, pa.large_list(pa.string())) for rows in texts])
    if len(kinds) > 1:
        return pa.concat_arrays([as_text(array) for array in arrays])
    kind = kinds.pop() if kinds else pa.string()
    return pa.concat_arrays([array.cast(kind) for array in arrays]) if arrays else pa.array([], kind)
