"""First rows of users and items, for logs that repeat their attributes in each impression."""

from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.data.features.texts import whole_texts
from clickscale.data.tables.chunks import Chunk


def _ids(values: pa.Array) -> pa.Array:
    """Write ids as they are told apart later, where 12.0 and 12 are one."""
    return whole_texts(values) if pa.types.is_string(values.type) else values


class FirstRows:
    """Finds rows with new ids; memory grows with the number of ids, not of rows."""

    def __init__(self) -> None:
        self._seen: set[Any] = set()

    def rows(self, chunk: Chunk, column: str) -> Chunk:
        """Keep the rows whose id is new; unreadable rows are left out."""
        coded = _ids(chunk[column]).dictionary_encode()
        usable = chunk.problem.is_null().to_numpy(zero_copy_only=False) & coded.is_valid().to_numpy(
            zero_copy_only=False
        )
        usable_rows = np.flatnonzero(usable)
        codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)[usable_rows]
        distinct, first = np.unique(codes, return_index=True)
        names = coded.dictionary.take(pa.array(distinct)).to_pylist()
        fresh = [index for name, index in zip(names, first, strict=True) if name not in self._seen]
        self._seen.update(names)
        keep = pa.array(np.sort(usable_rows[np.array(fresh, np.int64)]))
        return chunk.kept(keep)
