"""Visitors without an id: each of their rows belongs to a user of its own.

A row that is a request with several candidates stays one, since this happens before lists are taken apart.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.rows import as_text
from clickscale.data.features.texts import read_texts, whole_texts
from clickscale.data.tables.chunks import Chunk


class Guests:
    """Gives an id to each row of a table that names nobody, chunk after chunk.

    Args:
        texts: values of the column that stand for nobody; an empty one for a missing id.
        column: of users.
    """

    def __init__(self, texts: Sequence[str], column: str) -> None:
        self._texts, self._column, self._rows, self._guests = texts, column, 0, 0

    def findings(self) -> list[str]:
        """Say how many rows were of guests."""
        said = f"{self._guests:,} rows of the impressions name no user; each is a user of its own."
        return [said] if self._guests else []

    def own(self, chunk: Chunk, key: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Find the rows (N,) whose key names a user that is a guest, so that no other table knows it."""
        if not self._texts or self._column not in key:
            return np.zeros(len(chunk), bool)
        made = pc.match_substring_regex(as_text(chunk[self._column]), r"^\(\d+\)$").fill_null(False)
        return np.asarray(made.to_numpy(zero_copy_only=False), bool)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the chunk with users everywhere; ids of guests are numbers of rows in brackets."""
        if not self._texts:
            return chunk
        users = whole_texts(read_texts(as_text(chunk[self._column]))[0])
        nobody = pc.is_in(users, value_set=pa.array(self._texts, users.type))
        if "" in self._texts:
            nobody = pc.or_(nobody, pc.is_null(users))
        numbers = pa.array(np.arange(self._rows, self._rows + len(chunk))).cast(users.type)
        self._rows += len(chunk)
        self._guests += pc.sum(nobody).as_py() or 0
        ids = pc.binary_join_element_wise(
            *(pa.scalar(text, users.type) if isinstance(text, str) else text for text in ("(", numbers, ")")),
            pa.scalar("", users.type),
        )
        place = chunk.rows.schema.get_field_index(self._column)
        rows = chunk.rows.set_column(place, self._column, pc.if_else(nobody, ids, users))
        return Chunk(rows, chunk.problem, chunk.evidence)
