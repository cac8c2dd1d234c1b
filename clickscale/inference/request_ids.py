"""Raw ids of a request: ids of several columns, and roles that the log of a model does not have."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from clickscale.data.features.texts import (
    BAD_NUMBER,
    BAD_VALUE,
    NEGATIVE,
    NOT_FINITE,
    NOT_UTF8,
    OVERFLOW,
    PROBLEMS,
    hash_texts,
)
from clickscale.errors import InputError
from clickscale.inference.json_values import plain_text
from clickscale.schema import Field, Schema, composite

SHORT = 60  # characters of a value in a message
_WAYS = {
    BAD_VALUE: "send a whole number or the text of one",
    NEGATIVE: "send 0 or more",
    OVERFLOW: "send less than 2^63",
    NOT_UTF8: "send text that UTF-8 can write",
    BAD_NUMBER: "send a number",
    NOT_FINITE: "send a finite number",
}
_NEVER_SEEN = "an id that was never seen is fine"


def with_ids(request: Mapping[str, Any], schema: Schema, at: str) -> Mapping[str, Any]:
    """Write composite ids as the log has them, and the one id of a role that the log does not have."""
    changed: dict[str, Any] = {}
    if "user" in schema.absent:
        changed["user"] = 0
    elif schema.user.parts or "user" in schema.indistinct:
        changed["user"] = one_id(request.get("user"), schema.user, f"{at}user")
    for key in ("behaviors", "candidates") if schema.item.parts or "item" in schema.absent else ():
        rows = request.get(key)
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            continue
        changed[key] = [
            row if not isinstance(row, Mapping) else {**row, "item": _item_id(row, schema, f"{at}{key}[{n}]")}
            for n, row in enumerate(rows)
        ]
    return {**request, **changed} if changed else request


def _item_id(row: Mapping[str, Any], schema: Schema, path: str) -> Any:
    """Return the id of the item of a candidate or behavior."""
    if "item" not in schema.absent:
        return one_id(row.get("item"), schema.item, f"{path}.item")
    if "item" in row:
        raise InputError(f"{path}.item: the log of this model has no items; leave it out.")
    return 0


def one_id(value: Any, field: Field, path: str) -> Any:
    """Write a composite id, sent as the list of its parts, as one text; other values are passed on.

    Where all ids are one to the model, as with a history in every row of the log, any text is an id.
    """
    if field.is_constant and isinstance(value, str) and value and not value.isdecimal():
        return int(hash_texts(pa.array([value.encode("utf-8", "replace").decode()]))[0])
    if not field.parts or not isinstance(value, list | tuple):
        return value
    if len(value) != field.parts or any(isinstance(part, Mapping | list | tuple) for part in value):
        columns = ", ".join(field.column)
        raise InputError(f"{path} is {short(value)}; send {field.parts} values: {columns}.")
    if all(part is None for part in value):
        return None
    return composite([_part(part) for part in value])


def _part(value: Any) -> str:
    """Write a part of an id as the log has it: 3.0 is "3", and a missing one is empty."""
    return "" if value is None or value != value else plain_text(value)


def check_id(value: Any, path: str) -> None:
    """Refuse what cannot be one id."""
    if value is None or value == "":
        empty = "null" if value is None else "empty"
        raise InputError(f"{path} is {empty}; send an id ({_NEVER_SEEN}).")
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        raise InputError(f"{path} is {short(value)}; send one id.")


def short(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= SHORT else text[: SHORT - 3] + "..."


def wrong_value(path: str, value: Any, code: int, *, is_moment: bool = False) -> InputError:
    """The error of a value with a problem code, with the way out.

    Args:
        is_moment: of a timestamp; only the log says in which zone and order its dates were written.
    """
    way = f"; {_WAYS[code]}" if code in _WAYS else ""
    if is_moment:
        way = "; send seconds since 1970 UTC"
    return InputError(f"{path} is {short(value)}: {PROBLEMS[code].replace('_', ' ')}{way}.")
