"""Lists of events in the lines of a file, as apps and sessions send what happened since the last line."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import OutcomeName, kinds_of_stream
from clickscale.data.described.drafts.lists.inner_columns import inner_columns
from clickscale.data.described.drafts.roles.id_columns import find_id
from clickscale.data.described.drafts.samples import Column
from clickscale.data.tables.casts import detect_unit, seconds
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.paths import is_list

_FEWEST, _COMMON = 10, 0.5  # different items of lines, and the share that is in lists, at least
_KINDS = 20  # kinds of events, at most
_TIMES = (631_152_000, 4_102_444_800)  # 1990 to 2100
_MOSTLY = 0.95  # share of the objects with a moment


def list_of_events(chunk: Chunk) -> str:
    """Return the only column of lists of objects that are events: each has a kind and a moment.

    Empty if a line is an event itself: then the lists are what happened before it.
    """
    lists = [name for name in chunk.rows.schema.names if is_list(chunk[name].type)]
    told = [name for name in lists if _are_events(chunk.select([name]).unnested(name))]
    return told[0] if len(told) == 1 and not _is_event(chunk, told[0]) else ""


def _is_event(chunk: Chunk, inside: str) -> bool:
    """True for lines with an outcome, or an item of those in the lists, as no app or campaign is."""
    columns = [Column(name, values) for name, values in inner_columns(chunk.rows).items()]
    beside = [column for column in columns if column.name.partition(".")[0] != inside]
    if any(OutcomeName(column.name).is_plain for column in beside):
        return True
    item = find_id(beside, "item")
    if item is None or pa.types.is_nested(item.values.type) or item.distinct < _FEWEST:
        return False
    objects = inner_columns(chunk.select([inside]).unnested(inside).rows)
    flat = [Column(name, values) for name, values in objects.items() if not pa.types.is_nested(values.type)]
    return any(item.ids_among(column) > _COMMON * item.distinct for column in flat)


def _are_events(chunk: Chunk) -> bool:
    """True for objects with a moment, and with a text of a few kinds of which some say shown, or clicked."""
    if not len(chunk) or not pa.types.is_struct(chunk.rows.column(0).type):
        return False
    columns = list(inner_columns(chunk.kept(chunk.rows.column(0).is_valid()).rows).values())
    kinds = [column.unique() for column in columns if pa.types.is_string(column.type)]
    told = any(len(values) <= _KINDS and _tell_events(values.drop_null().to_pylist()) for values in kinds)
    return told and any(map(_are_moments, columns))


def _are_moments(values: pa.Array) -> bool:
    """True for several moments from 1990 to 2100."""
    if pa.types.is_nested(values.type) or pa.types.is_boolean(values.type) or len(values.unique()) < 2:
        return False
    times, _ = seconds(values, detect_unit(values))
    within = pc.and_(pc.greater_equal(times, _TIMES[0]), pc.less(times, _TIMES[1])).fill_null(False)
    return bool(np.mean(np.asarray(within)) > _MOSTLY)


def _tell_events(values: Sequence[object]) -> bool:
    """True if one of several kinds says that something was shown, or two say what was done."""
    shown, acts = (kinds_of_stream([*values, other]) for other in ("click", "impression"))
    is_shown = shown is not None and shown[0] in values
    return len(values) > 1 and (is_shown or (acts is not None and len(acts[1]) > 1))
