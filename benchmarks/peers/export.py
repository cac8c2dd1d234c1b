"""Rows of a prepared data set as plain arrays that any library can be trained on.

Every impression becomes one row with a copy of its history, as the libraries want it: the last ``length``
behaviors known before the impression, oldest first, padded with 0 on the right. Indices are those of
clickscale's encoder (0 padding, 1 unknown), so all see the same vocabulary. Numbers are those of clickscale,
missing ones are 0, which is their mean.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clickscale.data.dataset import Columns, Dataset
from clickscale.data.source import PARTS
from clickscale.data.windows import make_windows
from clickscale.features import Feature, categorical, numeric

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Column:
    """One input.

    Attributes:
        kind: ``index``, ``indices`` (several, 0 where there are fewer), ``number`` or ``history``.
        size: rows of the embedding table.
        table: the column whose embedding table a history shares; empty for others.
    """

    name: str
    kind: str
    size: int = 0
    table: str = ""


def export(dataset: Dataset, folder: Path, length: int) -> list[Column]:
    """Write ``PART.npz`` for each part, and ``columns.json`` last.

    A file holds the columns, ``row`` (the impression), ``label`` and ``history_length``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = describe(dataset)
    for part in PARTS:
        np.savez(folder / f"{part}.npz", **gather(dataset, dataset.part(part), length))
    (folder / "columns.json").write_text(json.dumps([asdict(column) for column in columns], indent=1))
    return columns


def describe(dataset: Dataset) -> list[Column]:
    """The inputs, in order.

    The libraries attend with one query for each history. An attribute of the event has none at the candidate,
    so the candidate carries a constant (see `gather`), and its embedding becomes a learned query.
    """
    features, found = dataset.features, []
    for group in (features.profile, features.item, features.context):
        for feature in categorical(group):
            found.append(Column(feature.name, "index", feature.size))
            if feature.values > 1:
                found.append(Column(f"{feature.name}_all", "indices", feature.size, feature.name))
        found += [Column(feature.name, "number") for feature in numeric(group)]
    found += [Column(feature.name, "index", feature.size) for feature in categorical(features.behavior)]
    for group in (features.item, features.behavior):
        found += [
            Column(f"history_{feature.name}", "history", feature.size, feature.name)
            for feature in categorical(group)
        ]
    return found


def gather(dataset: Dataset, rows: npt.NDArray[np.int64], length: int) -> Arrays:
    """The columns of impressions ``rows``, by name."""
    features, impressions = dataset.features, dataset.impressions
    user, item = (np.asarray(impressions[name])[rows] for name in ("user", "item"))
    arrays: Arrays = {"row": rows, "label": impressions[f"label.{dataset.labels[0]}"][rows]}
    for columns, at, group in (
        (dataset.users, user, features.profile),
        (dataset.items, item, features.item),
        (impressions, rows, features.context),
    ):
        arrays |= _fields(columns, at, group)
    windows = make_windows(dataset, rows, "impression", length)
    place = windows.start[:, None] + np.arange(length)  # (N, L)
    present = place < windows.end[:, None]
    place = np.where(present, place, 0)
    arrays["history_length"] = (windows.end - windows.start).astype(np.int32)
    behaved = np.asarray(dataset.behaviors["item"])[place]
    for feature in categorical(features.item):
        history = _first(dataset.items[f"field.{feature.name}"])[behaved]
        arrays[f"history_{feature.name}"] = np.where(present, history, 0).astype(np.int32)
    for feature in categorical(features.behavior):
        history = _first(dataset.behaviors[f"field.{feature.name}"])[place]
        arrays[f"history_{feature.name}"] = np.where(present, history, 0).astype(np.int32)
        arrays[feature.name] = np.full(len(rows), feature.size - 1, np.int32)
    return arrays


def _fields(columns: Columns, at: npt.NDArray[Any], group: tuple[Feature, ...]) -> Arrays:
    """The features of one table at the rows ``at``."""
    arrays: Arrays = {}
    for feature in categorical(group):
        values = np.asarray(columns[f"field.{feature.name}"])[at]
        arrays[feature.name] = _first(values).astype(np.int32)
        if feature.values > 1:
            arrays[f"{feature.name}_all"] = values.astype(np.int32)  # (N, values)
    for feature in numeric(group):
        numbers = np.asarray(columns[f"field.{feature.name}"])[at]
        arrays[feature.name] = np.nan_to_num(numbers).astype(np.float32)
    return arrays


def _first(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first value of a field of several values, which is all that the histories of the libraries hold."""
    return np.asarray(column if column.ndim == 1 else column[:, 0])
