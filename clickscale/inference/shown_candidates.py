"""Statistics of a request: the keys that they are counted by, and those that it lacks."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from clickscale.arrays import Array, Ints
from clickscale.batch import CandidateSide
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.statistics import distinct_slots
from clickscale.features import UNKNOWN, column_of
from clickscale.inference.counter_files import Key, raw_of_index
from clickscale.inference.request_ids import with_ids
from clickscale.inference.requests import Request, encode_requests
from clickscale.schema import Field

_NOTHING = object()  # the value of a slot that a field of several values does not fill


@dataclass(frozen=True)
class ShownCandidates:
    """One request without its behaviors.

    Attributes:
        user, items: ids as the encoder reads them, integers or texts; 0 for a role that the log does not
            have.
        rows: (C,) rows of the item table; 1 for items that it does not have.
        profile: (1, values) indices of categorical profile fields, by name.
        context: (C, values) indices of categorical context fields, by name.
    """

    time: int
    user: int | str
    items: list[int | str]
    rows: Ints
    profile: dict[str, Ints]
    context: dict[str, Ints]


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


class StatisticKeys:
    """Keys by which the candidates of a request are counted, as raw values.

    Args:
        items: item columns of the artifact or data set that the statistics are for.
    """

    def __init__(self, encoder: Encoder, items: Mapping[str, Array]) -> None:
        self._encoder, self._items, self._schema = encoder, items, encoder.schema
        self._raw: dict[str, Callable[[int], Any]] = {}

    def of(self, by: tuple[str, ...], shown: ShownCandidates) -> list[list[Key | None]]:
        """For each candidate its keys by slot, in the order of the slots of preparation; None for none."""
        columns = [self._values(name, shown) for name in by]
        return [
            [
                None if _NOTHING in key else key
                for key in itertools.product(*(column[row if len(column) > 1 else 0] for column in columns))
            ]
            for row in range(len(shown.items))
        ]

    def _values(self, name: str, shown: ShownCandidates) -> list[list[Any]]:
        """Raw values of one name, by candidate or for all of them, and by slot."""
        if name in ("user", self._schema.user.name):
            return [[shown.user]]
        if name in ("item", self._schema.item.name):
            return [[item] for item in shown.items]
        if name in shown.profile:
            indices = shown.profile[name]
        elif name in shown.context:
            indices = shown.context[name]
        else:
            indices = self._items[column_of(name)][shown.rows].reshape(len(shown.items), -1).astype(np.int64)
        raw = self._raw_values(name)
        return [
            [raw(index) if index >= UNKNOWN else _NOTHING for index in row]
            for row in distinct_slots(indices).tolist()
        ]

    def _raw_values(self, name: str) -> Callable[[int], Any]:
        """Find a function from an index of a field to its raw value."""
        if name not in self._raw:
            self._raw[name] = raw_of_index(self._encoder, name)
        return self._raw[name]


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
    return [value if isinstance(value, str) else _text(value) for value in values]


def _text(value: int | float) -> str:
    """The text of a number as the encoder writes it: 3.0 is "3"."""
    small = isinstance(value, int) or (value.is_integer() and abs(value) < 2.0**63)
    if small and not isinstance(value, bool):
        return str(int(value))
    return str(pa.scalar(value).cast(pa.string()).as_py())
