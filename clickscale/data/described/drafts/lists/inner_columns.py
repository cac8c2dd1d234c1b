"""Values inside of objects in a sample, each as a column that is named by its path."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.tables.object_texts import array_of, object_of
from clickscale.data.tables.paths import holds_pairs, names_of_pairs, value_at

_MOST = 100  # names in one object; more are ids, such as those of products with their prices
_LOOKED_AT = 200  # texts that show whether a column holds objects
_MOSTLY = 0.95


def inner_columns(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of some rows, those of objects as one for each value inside, by path."""
    found: dict[str, pa.Array] = {}
    for name in rows.schema.names:
        for path, values in _leaves(name, rows.column(name)):
            found.setdefault(path, values)
    return found


def _leaves(name: str, values: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    values = _parsed(values)
    steps = _steps(values)
    if not 0 < len(steps) <= _MOST or not all(steps):
        yield name, values
        return
    for step in steps:
        yield from _leaves(f"{name}.{step}", value_at(values, [step]))


def _steps(values: pa.Array) -> list[str]:
    """List the names of the values inside of objects, or of lists of named values; none of anything else."""
    if pa.types.is_struct(values.type):
        return [field.name for field in values.type]
    return names_of_pairs(values) if holds_pairs(values.type) else []


def _parsed(values: pa.Array) -> pa.Array:
    """Read texts that are objects, or lists of objects, as these; return anything else as it stands."""
    if not pa.types.is_string(values.type):
        return values
    known = values.drop_null().slice(0, _LOOKED_AT)
    begin_so = pc.match_substring_regex(known, r"^\s*(\{|\[\s*[\{\]]|$)").cast(pa.float64())
    if not len(known) or pc.mean(begin_so).as_py() < _MOSTLY:
        return values
    parsed = [_object_or_none(text) for text in known.to_pylist()]
    if sum(isinstance(value, dict | list) for value in parsed) < _MOSTLY * len(parsed) or not any(parsed):
        return values
    everything = [_object_or_none(text) for text in values.to_pylist()]
    return array_of(everything)


def _object_or_none(text: str | None) -> object:
    try:
        return None if text is None else object_of(text)
    except ValueError:
        return None
