"""Predictions of a part of a data set as a table with the log's own ids, in the order of the log.

Columns, by the names of the schema::

    row                       number of the row in the log, from 0, quarantined rows counted, and each entry
                              of a list that was taken apart
    USER, ITEM                raw ids, under the names of the id fields; those of several columns as one text.
                              A role that the log does not have has no column
    time                      seconds since 1970
    label.NAME                1, 0, or nothing where it is unknown; for each label that is predicted
    score.NAME                predicted probability of the label

Scores are collected in a file, then the table is written piece by piece. So memory holds a few numbers for
each impression of the part, whatever the number of labels or the length of ids. Trees hold all features.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from scipy.special import expit

from clickscale.arrays import Ints
from clickscale.artifact import MANIFEST, load_artifact
from clickscale.baselines.trees import score_with_trees
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ArtifactError, DamagedError, InputError, RunError
from clickscale.evaluation.evaluate import score_part
from clickscale.features import FIRST, label_of
from clickscale.files import array_on_disk, heal, replacing, sha256_text
from clickscale.inference.replay import raw_ids
from clickscale.runtime import MOST, available_cores
from clickscale.sealed import read_document
from clickscale.training.run.folder import ADVICE, encoder_hashes, load_run, read_config

TREES, TREES_TEXT = "trees.json", "trees.txt"  # of a run of boosted trees
TABLE_ENDINGS = (".parquet", ".csv")
_PIECE = 1 << 16  # rows of the table that are written at once
_Scored = Iterator[tuple[Ints, npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class _Scores:
    """What scores the impressions of a data set.

    Attributes:
        score: yields rows (n,) and logits (n, T) of a part.
    """

    dataset: Dataset
    labels: tuple[str, ...]
    score: Callable[[str], _Scored]


def check_table(out: Path, overwrite: bool = False) -> None:
    """Refuse a file that cannot become a table, before anything is computed.

    Raises:
        InputError: it exists, its folder does not, or its ending is unknown.
    """
    if out.suffix not in TABLE_ENDINGS:
        raise InputError(f"{out} ends in {out.suffix or 'nothing'}; end it in {' or '.join(TABLE_ENDINGS)}.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} already exists; choose another file or give --overwrite.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: its folder does not exist.")


def predict_to_table(
    source: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    part: Literal["train", "valid", "test"] = "test",
    overwrite: bool = False,
) -> int:
    """Score a part as a server would, and write the table; see the module docstring.

    Args:
        source: a run, a run of trees, or an artifact.
        out: a file that ends in ``.parquet`` or ``.csv``; it appears whole or not at all.
        data: prepared data set with the same encoder; needed for an artifact, else that of the run.

    Returns:
        The number of rows.

    Raises:
        InputError: ``out`` cannot be written.
        RunError: ``source`` is neither, or the data set is not one of its encoder.
    """
    source, out = Path(source), Path(out)
    check_table(out, overwrite)
    scores = _scores(source, None if data is None else Path(data))
    rows = scores.dataset.part(part)
    with replacing(out) as partial:
        shape = (len(rows), len(scores.labels))
        logits = array_on_disk(partial.with_name("logits.npy"), np.float32, shape)
        for some, values in scores.score(part):
            logits[np.searchsorted(rows, some)] = values
        with table_writer(partial, _schema(scores.dataset, scores.labels)) as writer:
            for piece in _pieces(scores.dataset, rows, scores.labels, logits):
                writer.write_batch(piece)
    return len(rows)


def table_writer(path: Path, schema: pa.Schema) -> AbstractContextManager[Any]:
    """Open a writer of record batches, Parquet or CSV by the ending of the name."""
    if path.suffix == ".parquet":
        return pa.parquet.ParquetWriter(path, schema)
    return pa.csv.CSVWriter(path, schema)


# --- what scores


def _scores(source: Path, data: Path | None) -> _Scores:
    """Open a run, trees or an artifact, with its data set."""
    heal(source)
    if (source / TREES).is_file():
        return _trees(source, data)
    if (source / MANIFEST).is_file():
        return _artifact(source, data)
    where = data or Path(read_config(source).data)
    run = load_run(source, _there(where, source, data))
    return _model(run.model, run.dataset, run.config.length, run.labels)


def _model(model: Any, dataset: Dataset, length: int, labels: tuple[str, ...]) -> _Scores:
    names = labels or dataset.labels[:1]
    return _Scores(
        dataset, names, lambda part: score_part(model, dataset, part, length=length, labels=labels)
    )


def _artifact(source: Path, data: Path | None) -> _Scores:
    artifact = load_artifact(source)
    if data is None:
        raise RunError(f"{source} is an artifact, which names no data set; say which with --data.")
    dataset = open_dataset(data)
    if not artifact.encoder.equals(dataset.encoder):
        raise ArtifactError(
            f"The encoder of {source} differs from that of {data}: the same index means another value there. "
            "Give the data set that its run was trained on."
        )
    return _model(artifact.model, dataset, artifact.config.length, artifact.config.labels)


def _trees(source: Path, data: Path | None) -> _Scores:
    facts = read_document(source / TREES, ADVICE)
    if not (source / TREES_TEXT).is_file():
        raise RunError(f"{source} has no {TREES_TEXT}; fit the trees again: clickscale trees")
    text = (source / TREES_TEXT).read_text("utf-8")
    if sha256_text(text) != facts["trees_sha256"]:
        raise DamagedError(f"{source / TREES_TEXT} is damaged; fit the trees again: clickscale trees")
    dataset = open_dataset(_there(data or Path(facts["data"]), source, data))
    if facts["encoder_sha256"] != encoder_hashes(dataset):
        raise RunError(
            f"{source} was fitted to {facts['data']}, whose encoder differs from that of {dataset.path}. "
            "Give the data set of the run, or fit trees to this one."
        )
    threads = min(available_cores(), MOST)

    def score(part: str) -> _Scored:
        rows = dataset.part(part)
        options = {"label": facts["label"], "statistics": facts["statistics"], "threads": threads}
        yield rows, score_with_trees(text, dataset, rows, **options)

    return _Scores(dataset, (facts["label"],), score)


def _there(where: Path, source: Path, data: Path | None) -> Path:
    """The folder of the data set; without --data its absence is explained."""
    heal(where)
    if data is None and not where.is_dir():
        raise RunError(f"{source} was trained on {where}, which is not there; say where it is with --data.")
    return where


# --- the table


def _schema(dataset: Dataset, labels: tuple[str, ...]) -> pa.Schema:
    schema = dataset.schema
    columns = [("row", pa.int64())] if "row" in dataset.impressions else []
    for role, field in (("user", schema.user), ("item", schema.item)):
        if role not in schema.absent:
            columns.append((field.name, pa.int64() if field.dtype == "int" else pa.string()))
    columns.append(("time", pa.int64()))
    columns += [(label_of(name), pa.int8()) for name in labels]
    return pa.schema(columns + [(f"score.{name}", pa.float64()) for name in labels])


def _pieces(
    dataset: Dataset, rows: Ints, labels: tuple[str, ...], logits: npt.NDArray[np.float32]
) -> Iterator[pa.RecordBatch]:
    """Yield the table in the order of the log."""
    shown, schema = dataset.impressions, _schema(dataset, labels)
    users = raw_ids(dataset.users)
    items: pa.Array = dataset.encoder.item_rows.values
    order = np.argsort(shown["row"][rows], kind="stable") if "row" in shown else np.arange(len(rows))
    for start in range(0, len(order), _PIECE):
        place = order[start : start + _PIECE]
        here = rows[place]
        columns = [shown["row"][here]] if "row" in shown else []
        if "user" not in dataset.schema.absent:
            columns.append(users.take(shown["user"][here]))
        if "item" not in dataset.schema.absent:
            columns.append(items.take(shown["item"][here] - FIRST))
        columns.append(shown["time"][here])
        for name in labels:
            label = shown[label_of(name)][here]
            columns.append(pa.array(label, mask=label < 0))
        columns += list(expit(logits[place].astype(np.float64)).T)
        arrays = [
            (column if isinstance(column, pa.Array) else pa.array(column)).cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
