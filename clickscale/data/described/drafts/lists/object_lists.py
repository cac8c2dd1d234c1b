"""Lists of objects in the rows of a table, such as the candidates of a request in JSON."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from clickscale.data.described.drafts.roles.column_names import is_quantity
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.tables.arrow_types import unreadable
from clickscale.data.tables.paths import value_at

_COMES_BACK = 0.5  # different values for each entry of lists, at most, where they come again


def with_lists_of_objects(head: Head) -> Head:
    """Take the values of objects that name items, such as candidates, for lists beside each other."""
    columns, left_out = dict(head.columns), dict(head.left_out)
    for name, objects in head.objects.items():
        entries, lists = [], {}
        for path, values in _inside(objects, ()):
            inner = values.flatten()
            if not unreadable(values.type) and inner.null_count < len(inner):
                entries.append(Column(path, inner))
                lists[f"{name}.{path}"] = Column(f"{name}.{path}", values)
        if find_id(entries, "item") is not None:
            columns |= lists
            del left_out[name]
    return replace(head, columns=columns, left_out=left_out)


def with_words_of_objects(head: Head) -> Head:
    """Take what comes back in lists of objects, such as the names of categories, for lists of values.

    Of words and numbers of the same objects, the words say what they are.
    """
    columns, left_out = dict(head.columns), dict(head.left_out)
    for name, objects in head.objects.items():
        read = [Column(f"{name}.{path}", values) for path, values in _inside(objects, ())]
        told = [(c, Column(c.name, c.values.flatten())) for c in read if not unreadable(c.values.type)]
        told = [(c, inner) for c, inner in told if 1 < inner.distinct < _COMES_BACK * len(inner.known)]
        words = [c for c, inner in told if inner.floats is None and not inner.unit]
        ids = [c for c, inner in told if inner.is_id and not is_quantity(inner)]
        for column in words or ids:
            columns[column.name] = column
            left_out.pop(name, None)
    return replace(head, columns=columns, left_out=left_out)


def _inside(objects: pa.Array, path: tuple[str, ...]) -> Iterator[tuple[str, pa.Array]]:
    """Yield the lists of what stands in lists of objects, and in objects in these, by its path."""
    values = value_at(objects, path)
    if not pa.types.is_struct(values.type.value_type):
        yield ".".join(path), values
        return
    for key in values.type.value_type:
        yield from _inside(objects, (*path, key.name))
