"""Objects that were written as text, such as ``{"page": "home"}`` in CSV, and values of JSON as arrays."""

import ast
import json
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

_STARTS = ("{", "[")


def object_of(text: str) -> Any:
    """Parse a text that begins like an object or a list; return None for any other text.

    Exports of Python write objects as literals, such as ``{'page': None}``; nothing in them is run.

    Raises:
        ValueError: it begins so and is neither.
    """
    text = text.strip()
    if not text.startswith(_STARTS):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    try:
        return json.loads(text)  # many writers emit NaN, which the fast one refuses
    except (ValueError, RecursionError):
        pass
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("not an object") from error
    if not isinstance(found, dict | list):  # a set, {1, 2}
        raise ValueError("not an object")
    return found


def array_of(values: list[Any]) -> pa.Array:
    """Make an array (N,) of values of JSON; those without a common type become text.

    Of lists, which stay lists, the entries do.
    """
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        if all(value is None or isinstance(value, list) for value in values):
            return _lists_of(values)
        return pa.array([None if value is None else as_json_text(value) for value in values], pa.string())


def _lists_of(values: list[list[Any] | None]) -> pa.Array:
    """Make an array (N,) of lists whose entries have no common type."""
    ends = np.cumsum([0, *(len(value or ()) for value in values)])
    held = [entry for value in values for entry in value or ()]
    are_objects = all(entry is None or isinstance(entry, dict) for entry in held) and any(held)
    entries = _objects_of(held) if are_objects else array_of(held)
    missing = pa.array([value is None for value in values])
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), entries, mask=missing)


def _objects_of(values: list[dict[str, Any] | None]) -> pa.Array:
    """Make an array (N,) of objects, in each of which a value may have another type than in others."""
    names = list(dict.fromkeys(name for value in values for name in value or ()))
    parts = [array_of([None if value is None else value.get(name) for value in values]) for name in names]
    missing = pa.array([value is None for value in values])
    return pa.StructArray.from_arrays(parts, [as_json_text(name) for name in names], mask=missing)


def as_json_text(value: Any) -> str:
    """Write a value as JSON, a text as it stands, without halves of characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
