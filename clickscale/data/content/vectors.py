"""Frozen vectors of items from a file into a prepared data set, as one more item feature.

A vector that cannot be used is counted under its reason, with examples in
``quarantine/content.NAME.jsonl``: ``null_item``, ``bad_item`` and the like (the id), ``unknown_item`` (the
data set has no such item), ``null_vector``, ``bad_vector`` (another width), ``non_finite`` (a component is
NaN, infinite, no number, or too large for float16), ``zero_vector`` (it has no direction), ``duplicate_item``
(an earlier row has its vector). The first reason stands. Items without a vector have a row of zeros, which
every model takes for "no content".
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Array, Progress
from clickscale.config import Config
from clickscale.data.content.extend import Addition, add_item_features, new_names, write_facts
from clickscale.data.content.vector_files import VectorBlock, VectorFile
from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.texts import FINE, PROBLEMS
from clickscale.data.features.values import MISSING, read_keys
from clickscale.data.layout import TableReport
from clickscale.data.preparation.quarantine import Quarantine, Verdict
from clickscale.errors import InputError
from clickscale.files import file_entry
from clickscale.schema import FIRST, UNKNOWN, Field

_HARMLESS = ("unknown_item", "null_vector")  # no sign that the file is not what it should be


class ContentSummary(Config, frozen=True):
    """What became of the vectors of a content feature.

    Attributes:
        width: floats per vector.
        items: items of the data set.
        missing: those without a vector.
        table: rows of the file, kept and quarantined.
    """

    name: str
    width: int
    items: int
    missing: int
    table: TableReport


def import_vectors(
    dataset: Dataset,
    source: VectorFile,
    name: str,
    out: Path,
    *,
    normalize: bool = True,
    max_quarantined: float = 0.5,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ContentSummary:
    """Add the vectors of a file as the content feature ``name``; ``out`` becomes the new data set.

    Args:
        out: see `clickscale.data.content.extend`.
        normalize: scale every vector to length 1, so that products are cosines.
        max_quarantined: the largest share of vectors of known items that may be unusable.

    Raises:
        InputError: hardly any vector can be used, or none belongs to an item of the data set.
        SchemaError: the name is taken or cannot be one.
    """
    new_names(dataset.schema, name)
    tell = progress or _silent
    intake = _Intake(dataset.encoder, f"content.{name}")
    missing = 0

    def write(folder: Path) -> Addition:
        nonlocal missing
        column = VectorColumn(folder, name, dataset.features.items, source.width, normalize)
        done = 0
        for block in source.blocks():
            intake.take(block, column)
            done += len(block.vectors)
            tell("vectors", done, source.rows)
        intake.check(source.path, dataset, max_quarantined)
        intake.quarantine.write(folder / "quarantine")
        missing = column.close()
        write_facts(folder, name, _facts(source, missing, normalize))
        return Addition((column.field,), report={intake.table: intake.report()})

    add_item_features(dataset, out, write, overwrite=overwrite)
    items = dataset.features.items - FIRST
    return ContentSummary(name=name, width=source.width, items=items, missing=missing, table=intake.report())


def _silent(stage: str, done: int, total: int | None) -> None:
    """Show no progress."""


def _facts(source: VectorFile, missing: int, normalize: bool) -> dict[str, Any]:
    return {
        "made_by": "import",
        "file": source.path.name,
        "sha256": file_entry(source.path).sha256,
        "width": source.width,
        "normalized": normalize,
        "missing_items": missing,
    }


class VectorColumn:
    """A column of vectors that is filled in any order; rows that are never filled stay zero.

    Args:
        folder: of the data set that is being made.
        items: rows of the item table.
        normalize: scale vectors to length 1.
    """

    def __init__(self, folder: Path, name: str, items: int, width: int, normalize: bool) -> None:
        self.field = Field(name=name, kind="content", width=width)
        self.filled = np.zeros(items, bool)
        self._normalize = normalize
        path = folder / "items" / f"field.{name}.npy"
        self._column = np.lib.format.open_memmap(path, "w+", "<f2", (items, width), version=(1, 0))

    def prepared(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """(N, width) vectors as they are stored; not finite where a component is not or cannot be."""
        wide = vectors.astype(np.float64)
        if self._normalize:
            length = np.linalg.norm(wide, axis=1, keepdims=True)
            wide = np.divide(wide, length, out=wide, where=length > 0)
        with np.errstate(over="ignore", invalid="ignore"):
            return wide.astype(np.float16)

    def put(self, rows: npt.NDArray[np.integer[Any]], stored: npt.NDArray[np.float16]) -> None:
        """Fill rows with vectors as `prepared` gives them."""
        self._column[rows] = stored
        self.filled[rows] = True

    def close(self) -> int:
        """Write everything; how many items have no vector."""
        self._column.flush()
        del self._column
        return int((~self.filled[FIRST:]).sum())


class _Intake:
    """Judges the rows of a file and hands the good ones to the column."""

    def __init__(self, encoder: Encoder, table: str) -> None:
        self.encoder, self.table, self.quarantine = encoder, table, Quarantine()

    def take(self, block: VectorBlock, column: VectorColumn) -> None:
        """Judge one block."""
        verdict = Verdict(len(block.vectors))
        raw = read_keys(block.ids, self.encoder.schema.item.dtype)
        keys = raw.data.astype(np.int64)
        rows = self.encoder.item_rows.lookup(keys)
        for problem in pc.unique(block.problem.drop_null()).to_pylist():
            verdict.blame(_equal(block.problem, problem), problem, "item")
        for code in np.unique(raw.problems[raw.problems != FINE]):
            verdict.blame(raw.problems == code, _reason(PROBLEMS[code]), "item")
        verdict.blame(keys <= MISSING, "null_item", "item")
        verdict.blame(rows <= UNKNOWN, "unknown_item", "item")
        verdict.blame(~block.given, "null_vector", "item")
        verdict.blame(~block.fits, "bad_vector", "item")
        stored = column.prepared(np.where(block.fits[:, None], block.vectors, 0))
        verdict.blame(np.asarray(~np.isfinite(stored).all(axis=1)), "non_finite", "item")
        verdict.blame(np.asarray(~stored.any(axis=1)), "zero_vector", "item")
        verdict.blame(_repeated(rows, verdict.fine) | column.filled[rows], "duplicate_item", "item")
        self.quarantine.judge(self.table, pa.record_batch({"item": block.ids}), verdict)
        column.put(rows[verdict.fine], stored[verdict.fine])

    def report(self) -> TableReport:
        """Rows of the file."""
        quarantine = self.quarantine
        return TableReport(
            rows=quarantine.rows[self.table],
            kept=quarantine.kept(self.table),
            quarantined=dict(sorted(quarantine.counts.get(self.table, {}).items())),
        )

    def check(self, path: Path, dataset: Dataset, most: float) -> None:
        """Refuse a file of which hardly anything can be used."""
        report = self.report()
        bad = {reason: count for reason, count in report.quarantined.items() if reason not in _HARMLESS}
        judged = report.kept + sum(bad.values())
        if report.kept and judged - report.kept <= most * judged:
            return
        told = ", ".join(f"{reason} {count:,}" for reason, count in report.quarantined.items()) or "no rows"
        example = dataset.encoder.item_rows.values
        ids = f" Ids of the data set look like {example[0].as_py()!r}." if example else ""
        raise InputError(f"{report.kept:,} of {report.rows:,} vectors of {path} can be used: {told}.{ids}")


def _equal(values: pa.Array, text: str) -> Array:
    return np.asarray(pc.equal(values, text).fill_null(False).to_numpy(zero_copy_only=False))


def _reason(problem: str) -> str:
    return "bad_item" if problem == "bad_value" else problem


def _repeated(rows: npt.NDArray[np.int32], fine: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N,) whether an earlier fine row of the block is of the same item."""
    places = np.flatnonzero(fine)
    _, first = np.unique(rows[places], return_index=True)
    repeated = np.zeros(len(rows), bool)
    repeated[places] = True
    repeated[places[first]] = False
    return repeated
