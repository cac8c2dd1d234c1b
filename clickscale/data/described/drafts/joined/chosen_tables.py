"""Tables of what was chosen of lists in another one, such as the clicks on the results of queries."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import Events, find_events
from clickscale.data.described.drafts.joined.outcome_tables import OutcomeTable, column_after, shared_keys
from clickscale.data.described.drafts.labels.label_search import named_labels
from clickscale.data.described.drafts.samples import Head
from clickscale.data.described.drafts.shapes import Shape, with_position

_COMMON, _MOSTLY = 20, 0.9  # rows that name a sampled list, and the share that name an entry of it, at least


def find_chosen(
    head: Head, others: Sequence[Head], shape: Shape
) -> tuple[Events, tuple[OutcomeTable, ...]] | None:
    """Find lists of shown items in a table, and the tables whose rows name a list and one of its entries.

    Args:
        shape: of the table, its lists taken apart.
    """
    if shape.listed is None or shape.labels or shape.item is None:
        return None
    events = find_events(shape)
    if events is None or named_labels(events.labels):
        return None
    lists = Events(replace(shape, head=head), None, None, None, "")
    found = [table for other in others if (table := _chosen(lists, events, other)) is not None]
    if not found:
        return None
    events = replace(events, labels=[])
    return replace(events, shape=with_position(events.shape, head, found[0].of(events))), tuple(found)


def _chosen(lists: Events, events: Events, other: Head) -> OutcomeTable | None:
    """Return a table as one of outcomes if nearly all of its rows name a list and an entry of it."""
    assert events.item is not None, "lists of items were taken apart"
    for shown_key, key in shared_keys(lists, other):
        known = pc.is_in(other.texts(key), value_set=events.head.texts(shown_key).drop_null())
        if len(key) > 1 or pc.sum(known).as_py() < _COMMON:
            continue
        shown_pair = (*shown_key, events.item.name)
        shown = events.head.texts(shown_pair)
        for pair in _pairs(key, other):
            if np.mean(np.asarray(pc.is_in(other.texts(pair), value_set=shown).filter(known))) > _MOSTLY:
                return OutcomeTable(other, column_after(other.path, events.head), pair, shown_pair)
    return None


def _pairs(key: tuple[str, ...], other: Head) -> Iterator[tuple[str, ...]]:
    """Yield the key with each other column that may name an entry."""
    for name, column in other.columns.items():
        if name not in key and not pa.types.is_nested(column.values.type) and not column.unit:
            yield (*key, name)
