"""Values of JSON as arrays that the encoder reads.

What a value means depends on its field and never on the values beside it, which may be those of another
request: ``true`` is the word "true" in a field of texts, whatever the next candidate has.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from clickscale.schema import Field


def plain_text(value: Any) -> str:
    """The text of a scalar as the encoder writes it: 3.0 is "3", and true is "true"."""
    if isinstance(value, str | bool):
        return value if isinstance(value, str) else str(value).lower()
    if isinstance(value, int) or (value.is_integer() and abs(value) < 2.0**63):
        return str(int(value))
    return str(pa.scalar(value).cast(pa.string()).as_py())


def types_of(values: Sequence[Any]) -> frozenset[type]:
    """Types of the scalars, those inside lists included."""
    lists = (value if isinstance(value, list | tuple) else (value,) for value in values)
    return frozenset(map(type, chain.from_iterable(lists)))


def array_of(values: Sequence[Any], types: frozenset[type], field: Field) -> pa.Array:
    """Values of a field, all scalars or all lists, as one array; those of several types as texts.

    Args:
        types: of the scalars that are there.
    """
    is_text = field.kind == "categorical" and field.dtype == "string"
    if bool in types and not is_text:
        values, types = _with_counts(values), types - {bool} | {int}
    numbers = field.kind in ("numeric", "timestamp") and types <= {int, float}
    # Whole numbers and fractions of one column are one type to arrow, and to JSON.
    if numbers or len(types) <= 1:
        try:
            return pa.array(values, pa.float64() if numbers else None)
        except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
            pass  # an integer of more than 64 bits or half a surrogate pair: reported when read as text
    return pa.array(
        [
            [_text(one) for one in value] if isinstance(value, list | tuple) else _text(value)
            for value in values
        ]
    )


def _with_counts(values: Sequence[Any]) -> list[Any]:
    """Write 1 for true and 0 for false, also in lists."""
    return [
        _with_counts(value)
        if isinstance(value, list | tuple)
        else (int(value) if isinstance(value, bool) else value)
        for value in values
    ]


def _text(value: Any) -> bytes | None:
    if value is None or value != value:  # NaN is missing
        return None
    # Bytes, since a text of JSON may hold half a surrogate pair, which arrow takes as bytes only.
    return plain_text(value).encode("utf-8", "surrogatepass")
