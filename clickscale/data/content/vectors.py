"""Import of frozen item vectors from a file, as one more item feature of a prepared data set.

A vector that cannot be used is counted under its reason, with examples in
``quarantine/content.NAME.jsonl``: ``null_item``, ``bad_item`` and the like (the id), ``unknown_item`` (the
data set does not have the item), ``null_vector``, ``bad_vector`` (another width), ``non_finite`` (a component
is NaN, infinite, not a number, or too large for float16), ``zero_vector`` (it has no direction),
``duplicate_item`` (an earlier row has its vector). A row counts under its first reason. Items without a
vector have a row of zeros, which every model reads as "no content".
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
from clickscale.data.preparation.quarantine import Quarantine, RowProblems
from clickscale.errors import InputError
from clickscale.features import FIRST, UNKNOWN, column_of
from clickscale.files import array_on_disk, file_entry
from clickscale.schema import Field

_HARMLESS = ("unknown_item", "null_vector")  # normal in a file that covers other items too


class ContentSummary(Config, frozen=True):
    """Summary of the vectors of a content feature.

    Attributes:
        width: floats per vector.
        items: items of the data set.
        missing: items without a vector.
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
        InputError: too many vectors are unusable, or none belongs to an item of the data set.
        SchemaError: the name is taken or malformed.
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
            intake.add(block, column)
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
        path = folder / "items" / f"{column_of(name)}.npy"
        self._column = array_on_disk(path, "<f2", (items, width), version=(1, 0))

    def prepared(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Convert (N, width) vectors to their stored form; a component that does not fit is not finite."""
        wide = vectors.astype(np.float64)
        if self._normalize:
            length = np.linalg.norm(wide, axis=1, keepdims=True)
            wide = np.divide(wide, length, out=wide, where=length > 0)
        with np.errstate(over="ignore", invalid="ignore"):
            return wide.astype(np.float16)

    def put(self, rows: npt.NDArray[np.integer[Any]], stored: npt.NDArray[np.float16]) -> None:
        """Fill rows with vectors in the form of `prepared`."""
        self._column[rows] = stored
        self.filled[rows] = True

    def close(self) -> int:
        """Write everything; return the number of items without a vector."""
        self._column.flush()
        del self._column
        return int((~self.filled[FIRST:]).sum())


class _Intake:
    """Checks the rows of a file and writes the usable ones into the column."""

    def __init__(self, encoder: Encoder, table: str) -> None:
        self.encoder, self.table, self.quarantine = encoder, table, Quarantine()

    def add(self, block: VectorBlock, column: VectorColumn) -> None:
        """Check one block and write its usable rows."""
        problems = RowProblems(len(block.vectors))
        raw = read_keys(block.ids, self.encoder.schema.item.dtype)
        keys = raw.data.astype(np.int64)
        rows = self.encoder.item_rows.lookup(keys)
        for problem in pc.unique(block.problem.drop_null()).to_pylist():
            problems.mark(_equal(block.problem, problem), problem, "item")
        for code in np.unique(raw.problems[raw.problems != FINE]):
            problems.mark(raw.problems == code, _reason(PROBLEMS[code]), "item")
        problems.mark(keys <= MISSING, "null_item", "item")
        problems.mark(rows <= UNKNOWN, "unknown_item", "item")
        problems.mark(~block.present, "null_vector", "item")
        problems.mark(~block.fits, "bad_vector", "item")
        stored = column.prepared(np.where(block.fits[:, None], block.vectors, 0))
        problems.mark(np.asarray(~np.isfinite(stored).all(axis=1)), "non_finite", "item")
        problems.mark(np.asarray(~stored.any(axis=1)), "zero_vector", "item")
        problems.mark(_repeated(rows, problems.usable) | column.filled[rows], "duplicate_item", "item")
        self.quarantine.add_chunk(self.table, pa.record_batch({"item": block.ids}), problems)
        column.put(rows[problems.usable], stored[problems.usable])

    def report(self) -> TableReport:
        """Summarize the rows of the file."""
        quarantine = self.quarantine
        return TableReport(
            rows=quarantine.rows[self.table],
            kept=quarantine.kept(self.table),
            quarantined=dict(sorted(quarantine.counts.get(self.table, {}).items())),
        )

    def check(self, path: Path, dataset: Dataset, most: float) -> None:
        """Refuse a file with too many unusable vectors of known items."""
        report = self.report()
        bad = {reason: count for reason, count in report.quarantined.items() if reason not in _HARMLESS}
        relevant = report.kept + sum(bad.values())
        if report.kept and relevant - report.kept <= most * relevant:
            return
        reasons = (
            ", ".join(f"{reason} {count:,}" for reason, count in report.quarantined.items()) or "no rows"
        )
        example = dataset.encoder.item_rows.values
        ids = f" Ids of the data set look like {example[0].as_py()!r}." if example else ""
        raise InputError(f"{report.kept:,} of {report.rows:,} vectors of {path} can be used: {reasons}.{ids}")


def _equal(values: pa.Array, text: str) -> Array:
    return np.asarray(pc.equal(values, text).fill_null(False).to_numpy(zero_copy_only=False))


def _reason(problem: str) -> str:
    return "bad_item" if problem == "bad_value" else problem


def _repeated(rows: npt.NDArray[np.int32], usable: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(N,) True where an earlier usable row of the block has the same item."""
    usable_rows = np.flatnonzero(usable)
    _, first = np.unique(rows[usable_rows], return_index=True)
    repeated = np.zeros(len(rows), bool)
    repeated[usable_rows] = True
    repeated[usable_rows[first]] = False
    return repeated
