"""Impressions of a prepared data set as the raw requests that a client would have sent.

It inverts the encoder, so that served scores can be compared with evaluated ones, and newcomers have a
true request to begin with. A value that training did not keep (unknown) comes back as null. Among others in a
list it comes back as a value that the vocabulary does not have, since a null in a list is no value.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.dataset import Columns, Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.texts import texts_of
from clickscale.errors import DataError
from clickscale.features import FIRST, UNKNOWN, column_of
from clickscale.schema import Field


def requests_from_dataset(dataset: Dataset, rows: Sequence[int] | Ints) -> list[dict[str, Any]]:
    """Raw requests of the impressions ``rows``; neighbors of one user and moment share a request.

    Every behavior known before the request is sent; the scorer cuts to the length of its model.

    Raises:
        DataError: a field is hashed, so its raw values are not kept.
    """
    replay = Replay(dataset)
    rows = np.asarray(rows, np.int64)
    user, time = dataset.impressions["user"][rows], dataset.impressions["time"][rows]
    cuts = np.flatnonzero((user[1:] != user[:-1]) | (time[1:] != time[:-1])) + 1
    return [replay.request(part) for part in np.split(rows, cuts) if len(part)]


class Replay:
    """Reads raw values back out of a data set.

    Attributes:
        users: raw ids in the order of the table.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.encoder, self.schema = dataset, dataset.encoder, dataset.schema
        self.users: pa.Array = raw_ids(dataset.users)
        self.items: pa.Array = self.encoder.item_rows.values

    def request(self, rows: Ints) -> dict[str, Any]:
        """One request with the items of ``rows`` as candidates."""
        shown, users = self.dataset.impressions, self.dataset.users
        user = int(shown["user"][rows[0]])
        # `visible` counts from the user's first behavior: exactly those known before the impression.
        first = int(users["offsets"][user])
        seen = np.arange(first, first + int(shown["visible"][rows[0]]))
        request = {
            "time": int(shown["time"][rows[0]]),
            "candidates": [self.candidate(row) for row in rows.tolist()],
        }
        if "user" in self.schema.absent:
            return request
        return request | {
            "user": self.users[user].as_py(),
            "profile": self.profile(user),
            "behaviors": [self.behavior(row) for row in seen.tolist()],
        }

    def candidate(self, row: int, *, statistics: bool = True) -> dict[str, Any]:
        """The candidate of an impression, with or without its statistics."""
        fields = self.schema.sent_fields() if statistics else self.schema.context
        return self._shown(self.dataset.impressions, fields, row)

    def counted(self, row: int) -> dict[str, Any]:
        """Item and context of an event that statistics count (`Dataset.counted`)."""
        return self._shown(self.dataset.counted, self.schema.context, row)

    def _shown(self, columns: Columns, fields: Sequence[Field], row: int) -> dict[str, Any]:
        return {**self._item(columns, row), **self._values(fields, columns, row)}

    def profile(self, user: int) -> dict[str, Any]:
        """Profile of a row of the table of users."""
        return self._values(self.schema.profile, self.dataset.users, user)

    def behavior(self, row: int) -> dict[str, Any]:
        """One behavior."""
        columns = self.dataset.behaviors
        behavior = {**self._item(columns, row), "time": int(columns["time"][row])}
        if "known_at" in columns:
            behavior["known_at"] = int(columns["known_at"][row])
        return behavior | self._values(self.schema.behavior, columns, row)

    def _item(self, columns: Columns, row: int) -> dict[str, Any]:
        """Return the item of a row under its key; nothing in a log without items."""
        if "item" in self.schema.absent:
            return {}
        return {"item": self.items[int(columns["item"][row]) - FIRST].as_py()}

    def _values(self, fields: Sequence[Field], columns: Columns, row: int) -> dict[str, Any]:
        """Raw values of one row, missing ones left out."""
        values = {
            field.name: raw_value(self.encoder, field, columns[column_of(field.name)][row])
            for field in fields
        }
        return {name: value for name, value in values.items() if value is not None}


def raw_value(encoder: Encoder, field: Field, value: Any) -> Any:
    """The raw value behind an index, a row of indices or a scaled number; None if missing or unknown."""
    if field.kind == "categorical":
        # Index 0 pads the lists of a field of several values and has no raw value.
        indices = np.atleast_1d(value)
        indices = indices[indices > 0]
        vocabulary = encoder.vocabulary(field.name)
        if vocabulary.values is None:
            raise DataError(
                f"Field {field.name!r} is hashed; its raw values cannot be read back from the data set. Give "
                "it vocabulary = 'exact' in the description of the log, and prepare it again."
            )
        if indices.tolist() == [UNKNOWN]:
            return None
        values = vocabulary.values.take(pa.array(indices - FIRST, mask=indices == UNKNOWN))
        entries = [vocabulary.stranger if entry is None else entry for entry in values.to_pylist()]
        return entries[0] if field.values == 1 else entries
    return None if np.isnan(value) else float(encoder.decode_numbers(field.name, np.asarray(value)))


def raw_ids(columns: Columns) -> pa.Array:
    """Raw ids in the order of the table."""
    if "ids" in columns:
        return pa.array(columns["ids"])
    return texts_of(np.asarray(columns["ids.ends"]), np.asarray(columns["ids.bytes"]))
