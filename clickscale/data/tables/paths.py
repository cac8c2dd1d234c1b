"""Values inside of objects, named by a path such as ``context.device``; lists on the way stay lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def value_at(values: pa.Array, path: Sequence[str]) -> pa.Array:
    """Read what stands at a path in each of the objects (N,), or a list of it for each list of objects."""
    if not path:
        return values
    if pa.types.is_struct(values.type):
        return value_at(pc.struct_field(values, path[0]), path[1:])
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    return pa.LargeListArray.from_arrays(offsets, value_at(values.flatten(), path), mask=values.is_null())


def leads_into(path: Sequence[str], kind: pa.DataType) -> bool:
    """True if objects of a type, or lists of them, have a value at a path."""
    if not path:
        return True
    if is_list(kind):
        return leads_into(path, kind.value_type)
    return (
        pa.types.is_struct(kind)
        and kind.get_field_index(path[0]) >= 0
        and leads_into(path[1:], kind.field(path[0]).type)
    )


def object_at(value: Any, path: Sequence[str]) -> Any:
    """Read what stands at a path of a JSON value, or a list of it for a list; None where nothing stands."""
    if isinstance(value, list):
        return [object_at(entry, path) for entry in value]
    if not path:
        return value
    return object_at(value.get(path[0]), path[1:]) if isinstance(value, dict) else None


def is_list(kind: pa.DataType) -> bool:
    """True for lists of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
