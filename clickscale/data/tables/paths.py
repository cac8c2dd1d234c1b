"""Values inside of objects, named by a path such as ``context.device``; lists on the way stay lists.

An object may be one of JSON or Parquet, a text that holds one, a map, or a list of named values such as
``[{"key": "page", "value": {"string_value": "home"}}]``, whose keys are steps of a path like any others.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.tables.object_texts import array_of, object_of

_PAIRS = ({"key", "value"}, {"name", "value"})  # keys of the objects in a list of named values


def base_of(name: str, known: Collection[str]) -> str | None:
    """Return the column, one of ``known``, inside of which a path leads, or which it names; None if none.

    Of ``a.b.c`` it may be ``a.b``, too: names of columns may have dots.
    """
    steps = name.split(".")
    bases = (".".join(steps[:count]) for count in range(len(steps), 0, -1))
    return next((base for base in bases if base in known), None)


def steps_below(name: str, base: str) -> list[str]:
    """List the steps of a path that lead on from its column."""
    return [] if name == base else name[len(base) + 1 :].split(".")


def value_at(values: pa.Array, path: Sequence[str]) -> pa.Array:
    """Read what stands at a path in each of the objects (N,), or a list of it for each list of objects."""
    if not path:
        return values
    kind = values.type
    if pa.types.is_struct(kind):
        used = len(path) if kind.get_field_index(".".join(path)) >= 0 else 1
        return value_at(pc.struct_field(values, ".".join(path[:used])), path[used:])
    if holds_pairs(kind) and path[0] not in _names_of_pairs(kind):
        return value_at(_named_value(values, path[0]), path[1:])
    if not is_list(kind):
        return array_of([_inside(value, path) for value in values.to_pylist()])
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    return pa.LargeListArray.from_arrays(offsets, value_at(values.flatten(), path), mask=values.is_null())


def _inside(value: Any, path: Sequence[str]) -> Any:
    try:
        return object_at(value, path)
    except ValueError:
        return None


def leads_into(path: Sequence[str], kind: pa.DataType) -> bool:
    """True if objects of a type, or lists of them, have a value at a path; texts and maps may have any."""
    if not path or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return True
    if holds_pairs(kind):
        return True
    if is_list(kind):
        return leads_into(path, kind.value_type)
    if not pa.types.is_struct(kind):
        return False
    if kind.get_field_index(".".join(path)) >= 0:
        return True
    return kind.get_field_index(path[0]) >= 0 and leads_into(path[1:], kind.field(path[0]).type)


def object_at(value: Any, path: Sequence[str]) -> Any:
    """Read what stands at a path of a JSON value, or a list of it for a list; None where nothing stands.

    Raises:
        ValueError: a text on the way begins like an object and is none.
    """
    if isinstance(value, str) and path:
        value = object_of(value)
    if isinstance(value, list):
        if path and _are_pairs(value) and path[0] not in value[0]:
            return object_at(_value_named(value, path[0]), path[1:])
        return [object_at(entry, path) for entry in value]
    if not path:
        return value
    if not isinstance(value, dict):
        return None
    if (whole := ".".join(path)) in value:
        return value[whole]
    return object_at(value.get(path[0]), path[1:])


def is_list(kind: pa.DataType) -> bool:
    """True for lists of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


# --- lists of named values


def holds_pairs(kind: pa.DataType) -> bool:
    """True for maps from texts, and for lists of objects with nothing but a ``key`` (or name) and a value."""
    return pa.types.is_map(kind) or (is_list(kind) and bool(_names_of_pairs(kind)))


def names_of_pairs(values: pa.Array) -> list[str]:
    """List the names of lists of named values (N,), in the order in which they come."""
    entries = values.flatten() if is_list(values.type) else values
    keys = entries.keys if pa.types.is_map(values.type) else pc.struct_field(entries, _key_of(values.type))
    return [str(key) for key in keys.drop_null().unique().to_pylist()]


def _names_of_pairs(kind: pa.DataType) -> set[str]:
    """Return the names of key and value, empty for any other type."""
    if not is_list(kind) or not pa.types.is_struct(kind.value_type):
        return set()
    names = {field.name for field in kind.value_type}
    fits = names in _PAIRS and pa.types.is_string(kind.value_type.field(_key_of(kind)).type)
    return names if fits else set()


def _key_of(kind: pa.DataType) -> str:
    return "key" if kind.value_type.get_field_index("key") >= 0 else "name"


def _named_value(values: pa.Array, name: str) -> pa.Array:
    """Return the value of a name in each list (N,), of several the first; null where it is missing."""
    if pa.types.is_map(values.type):
        return pc.map_lookup(values, pa.scalar(name, values.type.key_type), "first")
    entries = values.flatten()
    hit = pc.equal(pc.struct_field(entries, _key_of(values.type)), name).fill_null(False)
    hits = np.flatnonzero(hit.to_numpy(zero_copy_only=False))
    rows, first = np.unique(
        pc.list_parent_indices(values).to_numpy(zero_copy_only=False)[hits], return_index=True
    )
    place = np.zeros(len(values), np.int64)
    place[rows] = hits[first]
    has = np.zeros(len(values), bool)
    has[rows] = True
    return _only_value(pc.struct_field(entries, "value").take(pa.array(place, mask=~has)))


def _only_value(values: pa.Array) -> pa.Array:
    """Return the known one of values that are divided by type, as ``string_value`` and ``int_value`` are."""
    if not pa.types.is_struct(values.type) or any(not _is_typed(field.name) for field in values.type):
        return values
    parts = [pc.struct_field(values, field.name) for field in values.type]
    parts = [part for part in parts if part.null_count < len(part)]
    if len(parts) < 2:
        return parts[0] if parts else pa.nulls(len(values))
    return pc.coalesce(*(part.cast(pa.string()) for part in parts))


def _are_pairs(values: list[Any]) -> bool:
    """True for a list of objects with nothing but a key (or a name) and a value."""
    return bool(values) and all(isinstance(entry, dict) and set(entry) in _PAIRS for entry in values)


def _value_named(pairs: list[dict[str, Any]], name: str) -> Any:
    """Return the value of a name, of several the first; None where it is missing."""
    found = next((pair for pair in pairs if name in (pair.get("key"), pair.get("name"))), {})
    value = found.get("value")
    if not isinstance(value, dict) or not value or any(not _is_typed(key) for key in value):
        return value
    return next((each for each in value.values() if each is not None), None)


def _is_typed(name: str) -> bool:
    return name.endswith("_value")
