"""The file of counters: declared statistics as sums that another program can continue.

It is Parquet. Each row is a contribution to one count::

    statistic    name of a statistic; ``overall:LABEL``, ``item:LABEL``, ``share:...`` or ``newest:LABEL``
    key          JSON list of the raw values of ``by``, in order; null: unknown; a hashed field: its bucket
    time         second of the impressions; null if it no longer matters
    due          the contribution counts for moments after this one; null if it counts already
    count        impressions (``of = "count"``), positives of a recency or share, else impressions whose label
                 is known. Where negatives were drawn, positives alone are counted, by a count, too
    sum          positives of a rate, a recency, a share and of what counts positives alone; of a lift the sum
                 of round(10000 * (label - rate of the item then))

A statistic with a window sums, at time T, the rows of its key with ``due < T`` and ``T - window <= time``;
without a window those with ``due < T``. ``due`` is ``time`` for a count of impressions, and ``time`` plus the
delay of the label for all others. ``overall:LABEL`` counts all known labels. ``item:LABEL`` counts them by
item over all time, for the rates of items in lifts. ``share:LABEL:WINDOW:NAMES`` counts the positives that
shares are compared with. ``newest:LABEL`` has a row for the newest positive of each user, and for those that
are not due, with user and item as key. `clickscale.data.features.statistics` says how a value follows from
these sums.

The metadata key ``clickscale`` holds JSON: ``moment``, before which everything is counted, the statistics,
the labels with their delays, and ``open``: impressions with a label that is neither known nor overdue.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clickscale.config import Config
from clickscale.config_text import load_json, to_json
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.statistics import counts_positives, label_of_statistic, share_counts
from clickscale.errors import ConfigError, InputError
from clickscale.features import FIRST, UNKNOWN
from clickscale.files import replacing
from clickscale.schema import Label, Schema, Statistic

_META = b"clickscale"
_VERSION = 1
_COLUMNS = pa.schema(
    [
        ("statistic", pa.string()),
        ("key", pa.string()),
        ("time", pa.int64()),
        ("due", pa.int64()),
        ("count", pa.int64()),
        ("sum", pa.int64()),
    ]
)
Key = tuple[Any, ...]


class OpenImpression(Config, frozen=True):
    """An impression with a label that may still become known.

    Attributes:
        keys: the keys to which its labels count, by the name of the tally.
        item, overall: (known, positives) of its item and of all impressions at its time, by label.
        labels: the labels that are not known yet.
    """

    number: int
    time: int
    keys: dict[str, tuple[Key, ...]]
    item: dict[str, tuple[int, int]]
    overall: dict[str, tuple[int, int]]
    labels: tuple[str, ...]


class CountersHead(Config, frozen=True):
    """Metadata of a file of counters; see the module docstring.

    Attributes:
        next: number of the next impression.
    """

    moment: int
    statistics: tuple[Statistic, ...]
    labels: tuple[Label, ...]
    next: int = 0
    open: tuple[OpenImpression, ...] = ()
    version: int = _VERSION


@dataclass(frozen=True)
class Tally:
    """One family of counts: of what, by which key, how far back.

    Attributes:
        label: label whose outcomes are counted; empty for impressions.
        of: that of the statistic, or ``newest``: items of newest positives.
        positives: whether outcomes of 1 alone are counted.
    """

    name: str
    by: tuple[str, ...]
    of: str
    label: str
    delay: int
    window: int
    prior: float = 0.0
    positives: bool = False


def tallies_of(schema: Schema) -> dict[str, Tally]:
    """Tallies by name that the statistics of a schema need, those of whole labels first."""
    own, shared = {}, {}
    for statistic in schema.statistics:
        label = label_of_statistic(schema, statistic)
        positives = counts_positives(schema, statistic)
        counted = statistic.of != "count" or positives
        own[statistic.name] = Tally(
            statistic.name,
            statistic.by,
            statistic.of,
            label.name if counted else "",
            label.delay if counted else 0,
            statistic.window,
            statistic.prior,
            positives,
        )
        for by, window in share_counts(statistic)[1:] if statistic.of == "share" else ():
            name = _share_of(label.name, by, window)
            shared[name] = Tally(name, by, "share", label.name, label.delay, window, positives=True)
        if counted:
            for name, by in ((overall_of(label.name), ()), (items_of(label.name), ("item",))):
                if not by or statistic.of == "lift":
                    only = schema.sampled_negatives > 0
                    shared[name] = Tally(name, by, "rate", label.name, label.delay, 0, positives=only)
    if schema.reads_newest:
        first, name = schema.labels[0], newest_tally(schema)
        by = ("user", "item")
        shared[name] = Tally(name, by, "newest", first.name, first.delay, 0, positives=True)
    return shared | own


def newest_tally(schema: Schema) -> str:
    """Name of the tally of newest positives."""
    return f"newest:{schema.labels[0].name}"


def overall_of(label: str) -> str:
    """Name of the tally of all known labels."""
    return f"overall:{label}"


def items_of(label: str) -> str:
    """Name of the tally of known labels by item."""
    return f"item:{label}"


def _share_of(label: str, by: tuple[str, ...], window: int) -> str:
    """Name of the tally of positives that a share is compared with."""
    return f"share:{label}:{window}:{','.join(by)}"


def tallies_read(statistic: Statistic, label: str) -> tuple[str, ...]:
    """Names of the tallies that a value of a statistic is made of, its own first."""
    if statistic.of == "share":
        compared = (_share_of(label, by, window) for by, window in share_counts(statistic)[1:])
        return (statistic.name, *compared)
    return (statistic.name, overall_of(label)) if statistic.of == "rate" else (statistic.name,)


def raw_of_index(encoder: Encoder, name: str) -> Callable[[int], Any]:
    """A function from an index of a categorical field to its raw value as a key holds it."""
    values = encoder.vocabulary(name).values
    texts = None if values is None else values.to_pylist()

    def raw(index: int) -> Any:
        if index == UNKNOWN:
            return None
        return index if texts is None else texts[index - FIRST]

    return raw


def contribution_rows(name: str, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows (key, time, due, count, sum) of one statistic as a piece of the file."""
    keys, times, dues, counts, sums = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    texts = [json.dumps(key, ensure_ascii=False, separators=(",", ":")) for key in keys]
    columns = ([name] * len(rows), texts, times, dues, counts, sums)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _COLUMNS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_COLUMNS)


def write_counters(path: Path, head: CountersHead, pieces: Iterator[pa.RecordBatch]) -> None:
    """Write a file of counters, whole or not at all."""
    schema = _COLUMNS.with_metadata({_META: to_json(head).encode()})
    with replacing(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for piece in pieces:
            writer.write_batch(piece.replace_schema_metadata(schema.metadata))


def read_counters(path: Path) -> tuple[CountersHead, pa.Table]:
    """Metadata and rows of a file of counters.

    Raises:
        InputError: the file is missing, damaged or something else.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Cannot read {path}: {error}; make it: clickscale statistics export") from error
    meta = (table.schema.metadata or {}).get(_META)
    if meta is None or not table.schema.remove_metadata().equals(_COLUMNS):
        raise InputError(f"{path} is no file of counters; make one: clickscale statistics export")
    try:
        head = load_json(meta, CountersHead, str(path))
    except ConfigError as error:
        raise InputError(f"{path} is no file of counters of this release ({error}).") from error
    if head.version != _VERSION:
        raise InputError(
            f"{path} has version {head.version}, this release reads {_VERSION}; export the counters again."
        )
    return head, table
