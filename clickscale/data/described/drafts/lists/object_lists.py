"""Lists of objects in the rows of a table, such as the candidates of a request in JSON."""

from dataclasses import replace

from clickscale.data.described.drafts.roles import find_id
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.tables.arrow_types import unreadable
from clickscale.data.tables.paths import value_at


def with_lists_of_objects(head: Head) -> Head:
    """Take the values of objects that name items, such as candidates, for lists beside each other."""
    columns, left_out = dict(head.columns), dict(head.left_out)
    for name, objects in head.objects.items():
        entries, lists = [], {}
        for key in objects.type.value_type:
            values = value_at(objects, [key.name])
            inner = values.flatten()
            if not unreadable(values.type) and inner.null_count < len(inner):
                entries.append(Column(key.name, inner))
                lists[f"{name}.{key.name}"] = Column(f"{name}.{key.name}", values)
        if find_id(entries, "item") is not None:
            columns |= lists
            del left_out[name]
    return replace(head, columns=columns, left_out=left_out)
