"""Types of Arrow: the plain one of a column, or the reason why it cannot be a column of a log."""

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.tables.paths import is_list

_UNREADABLE = (
    (pa.types.is_struct, "objects"),
    (pa.types.is_map, "maps"),
    (pa.types.is_union, "values of several types"),
    (pa.types.is_interval, "intervals"),
)


def unreadable(kind: pa.DataType) -> str:
    """Say what a plain type holds that no field can, or return an empty text."""
    if is_list(kind):
        inner = "lists" if is_list(kind.value_type) else unreadable(kind.value_type)
        return f"lists of {inner}" if inner else ""
    return next((name for test, name in _UNREADABLE if test(kind)), "")


def plain_type(column: pa.Array) -> pa.Array:
    """Convert a column to a type that is read further on: no dictionaries, views or types of extensions.

    Durations become integers in their own unit; times of day and UUIDs become text.
    """
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        is_uuid = kind.extension_name == "arrow.uuid"
        return _uuid_texts(column) if is_uuid else plain_type(column.storage)
    if pa.types.is_dictionary(kind):
        return plain_type(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain_type(pc.run_end_decode(column))
    if is_list(kind) and not pa.types.is_fixed_size_list(kind):
        return _plain_lists(column)
    target = _target(kind)
    return column if target is None else column.cast(target)


def _target(kind: pa.DataType) -> pa.DataType | None:
    """Type to which a column is cast, None if it stays."""
    targets = (
        (pa.types.is_string_view, pa.string()),
        (pa.types.is_binary_view, pa.binary()),
        (pa.types.is_fixed_size_binary, pa.binary()),
        (pa.types.is_time, pa.string()),
        (pa.types.is_duration, pa.int64()),
        (pa.types.is_float16, pa.float32()),
    )
    found = next((target for test, target in targets if test(kind)), None)
    if found is None and (pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)):
        return pa.large_list(kind.value_type)
    return found


def _uuid_texts(column: pa.Array) -> pa.Array:
    return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())


def _plain_lists(column: pa.Array) -> pa.Array:
    """Convert the values of lists."""
    values = plain_type(column.values)
    if values.type == column.values.type:
        return column
    return pa.LargeListArray.from_arrays(column.offsets.cast(pa.int64()), values, mask=column.is_null())
