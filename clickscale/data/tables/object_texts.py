"""Objects that were written as text, such as ``{"page": "home"}`` in CSV, and values of JSON as arrays."""

import ast
import json
from typing import Any

import msgspec
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
    """Make an array (N,) of values of JSON; those without a common type become text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if value is None else as_json_text(value) for value in values], pa.string())


def as_json_text(value: Any) -> str:
    """Write a value as JSON, a text as it stands, without halves of characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()
