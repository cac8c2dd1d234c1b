"""What a request says about statistics: the keys that they are counted by, and those that it lacks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from clickscale.arrays import Ints
from clickscale.batch import CandidateSide
from clickscale.data.features.encoder import Encoder
from clickscale.inference.request_ids import with_ids
from clickscale.inference.requests import Request, encode_requests
from clickscale.schema import Field


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
    encoded = encode_requests([bare], encoder, 1)
    schema, user, candidates = encoder.schema, encoded.batch.user, encoded.batch.candidates
    named = with_ids(bare, schema, "")
    return ShownCandidates(
        time=int(request["time"]),
        user=plain_ids([named["user"]], schema.user.dtype)[0],
        items=plain_ids([one["item"] for one in named["candidates"]], schema.item.dtype),
        rows=candidates.items[0].numpy(),
        profile=_by_field(user.profile[:, 1:], schema.profile),  # the first column is the user
        context=_by_field(candidates.context[0], schema.context_fields()),
    )


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
