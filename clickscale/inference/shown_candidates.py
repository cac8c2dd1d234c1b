"""Statistics of a request: the keys that they are counted by, and those that it lacks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from clickscale.arrays import Array, Ints
from clickscale.batch import CandidateSide
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.statistics import distinct_slots, hours_of
from clickscale.features import UNKNOWN, column_of
from clickscale.inference.counter_files import Key, raw_of_index
from clickscale.inference.json_values import plain_text
from clickscale.inference.request_ids import with_ids
from clickscale.inference.requests import Request, encode_requests
from clickscale.schema import Field, newest_of

_TABLE = 100_000  # entries


@dataclass(frozen=True)
class ShownCandidates:
    """One request without its behaviors.

    Attributes:
        user, items: ids as the encoder reads them, integers or texts; 0 for a role that the log does not
            have.
        rows: (C,) rows of the item table; 1 for items that it does not have.
        profile: (1, values) indices of categorical profile fields, by name.
        context: (C, values) indices of categorical context fields, by name.
        newest: id of the item of the user's newest positive, where keys read it; None without one.
    """

    time: int
    user: int | str
    items: list[int | str]
    rows: Ints
    profile: dict[str, Ints]
    context: dict[str, Ints]
    newest: int | str | None = None


def read_shown(request: Request, encoder: Encoder) -> ShownCandidates:
    """Check a request and read what counting needs.

    Raises:
        InputError: names the first mistake by its path.
    """
    bare: Any = request
    if isinstance(request, dict) and "behaviors" in request:
        bare = {**request, "behaviors": None}
    return read_all_shown([bare], encoder)[0]


def read_all_shown(requests: Sequence[Request], encoder: Encoder) -> list[ShownCandidates]:
    """Check requests, behaviors included, and read what counting needs.

    Raises:
        InputError: names the first mistake by its path.
    """
    encoded = encode_requests(requests, encoder, 1)
    schema, user, candidates = encoder.schema, encoded.batch.user, encoded.batch.candidates
    profile = _by_field(user.profile[:, 1:], schema.profile)  # the first column is the user
    context = _by_field(candidates.context.flatten(0, 1), schema.context_fields())
    width = candidates.items.shape[1]
    shown = []
    for row, request in enumerate(requests):
        named = with_ids(request, schema, "")
        count = len(named["candidates"])
        columns = slice(row * width, row * width + count)
        shown.append(
            ShownCandidates(
                time=int(request["time"]),
                user=plain_ids([named["user"]], schema.user.dtype)[0],
                items=plain_ids([one["item"] for one in named["candidates"]], schema.item.dtype),
                rows=candidates.items[row, :count].numpy(),
                profile={name: values[row : row + 1] for name, values in profile.items()},
                context={name: values[columns] for name, values in context.items()},
            )
        )
    return shown


@dataclass(frozen=True)
class KeyTable:
    """Keys of the candidates of a request.

    Attributes:
        keys: K different ones, as raw values.
        index: (C, slots) place of the key of each slot; -1 for a slot without one.
    """

    keys: list[Key]
    index: Ints

    def of(self, row: int) -> tuple[Key, ...]:
        """Keys of one candidate."""
        return tuple(self.keys[place] for place in self.index[row].tolist() if place >= 0)


class StatisticKeys:
    """Keys by which the candidates of a request are counted, as raw values.

    Args:
        items: item columns of the artifact or data set that the statistics are for.
    """

    def __init__(self, encoder: Encoder, items: Mapping[str, Array]) -> None:
        self._encoder, self._items, self._schema = encoder, items, encoder.schema
        self._raw: dict[str, Callable[[int], Any]] = {}

    def of(self, by: tuple[str, ...], shown: ShownCandidates) -> KeyTable:
        """Keys of the candidates, slots in the order of those of preparation."""
        columns = [self._values(name, shown) for name in by]
        count, size = len(shown.items), 1
        codes = np.zeros((count, 1), np.int64)
        for one, raw in columns:
            size *= len(raw)
            crossed = codes[:, :, None] * len(raw) + one[:, None, :]  # (C, slots so far, values)
            crossed[(codes[:, :, None] < 0) | (one[:, None, :] < 0)] = -1
            codes = crossed.reshape(count, -1)  # (C, slots)
        found, index = _numbered(codes, size)
        parts = []
        for _, raw in reversed(columns):
            found, place = np.divmod(found, max(len(raw), 1))
            parts.append([raw[at] for at in place.tolist()])
        return KeyTable(list(zip(*parts[::-1], strict=True)) if parts else [()], index)

    def _values(self, name: str, shown: ShownCandidates) -> tuple[Ints, list[Any]]:
        """Codes of one name, (C or 1, values), -1 for none, and the raw value of each code."""
        if name in ("user", self._schema.user.name):
            return np.zeros((1, 1), np.int64), [shown.user]
        if name in ("item", self._schema.item.name):
            places: dict[int | str, int] = {}
            codes = [places.setdefault(item, len(places)) for item in shown.items]
            return np.array(codes, np.int64)[:, None], list(places)
        if read := newest_of(name):
            return self._newest_values(read, shown.newest)
        if self._schema.keys_hour(name):
            return np.zeros((1, 1), np.int64), hours_of(np.array([shown.time])).tolist()
        if name in shown.profile:
            indices = shown.profile[name]
        elif name in shown.context:
            indices = shown.context[name]
        else:
            indices = self._of_items(name, shown.rows)
        return self._coded(name, indices)

    def _newest_values(self, name: str, newest: int | str | None) -> tuple[Ints, list[Any]]:
        """Codes (1, values) of a name as the item of the newest positive has it; without one -1."""
        if newest is None:
            return np.full((1, 1), -1, np.int64), []
        if name in ("item", self._schema.item.name):
            return np.zeros((1, 1), np.int64), [newest]
        row = self._encoder.encode_items(pa.array([newest]))
        return self._coded(name, self._of_items(name, row))

    def _of_items(self, name: str, rows: Array) -> Ints:
        """Indices (rows, values) of a field of items."""
        return self._items[column_of(name)][rows].reshape(len(rows), -1).astype(np.int64)

    def _coded(self, name: str, indices: Ints) -> tuple[Ints, list[Any]]:
        """Codes of the indices of a field, and the raw value of each code."""
        distinct = distinct_slots(indices)
        distinct[distinct < UNKNOWN] = -1
        found, codes = _numbered(distinct, int(distinct.max()) + 1)
        return codes, [self._raw_values(name)(index) for index in found.tolist()]

    def _raw_values(self, name: str) -> Callable[[int], Any]:
        """Find a function from an index of a field to its raw value."""
        if name not in self._raw:
            self._raw[name] = raw_of_index(self._encoder, name)
        return self._raw[name]


def _numbered(values: Ints, size: int) -> tuple[Ints, Ints]:
    """Return the different values >= 0, in order, and the place of each value among them; -1 stays."""
    there = values >= 0
    if size > _TABLE:  # sorting beats a table that is almost empty
        found, index = np.unique(values[there], return_inverse=True)
    else:
        table = np.zeros(size, bool)
        table[values[there]] = True
        found = np.flatnonzero(table).astype(np.int64)
        index = (np.cumsum(table) - 1)[values[there]]
    numbered = np.full(values.shape, -1, np.int64)
    numbered[there] = index
    return found, numbered


def missing_statistics(candidates: CandidateSide, row: int, count: int, encoder: Encoder) -> tuple[str, ...]:
    """Declared statistics that one of the ``count`` candidates of a request came without."""
    numbers = [
        field.name for field in encoder.schema.context_fields() if field.kind in ("numeric", "timestamp")
    ]
    declared = {statistic.name for statistic in encoder.schema.statistics}
    absent = candidates.context_numbers[row, :count].isnan().any(dim=0).tolist()
    return tuple(
        name for name, is_absent in zip(numbers, absent, strict=True) if is_absent and name in declared
    )


def _by_field(indices: Tensor, fields: Iterable[Field]) -> dict[str, Ints]:
    """Divide (N, columns) indices into those of each categorical field."""
    columns, begin = {}, 0
    for field in fields:
        if field.kind == "categorical":
            columns[field.name] = indices[:, begin : begin + field.values].numpy().astype(np.int64)
            begin += field.values
    return columns


def plain_ids(values: Sequence[Any], dtype: str) -> list[int | str]:
    """Ids that a request may hold as the encoder reads them: ``12.0`` and ``"12"`` are one.

    Raises:
        ValueError: a text is no integer where ids are integers.
    """
    # Without arrow, whose fixed costs are those of many requests of few candidates.
    if dtype == "int":
        return [int(value) for value in values]
    return [plain_text(value) for value in values]
