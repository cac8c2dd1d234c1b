"""Predictions of a model for the labelled candidates of one part of a data set, and their file.

A `Predictions` file is all that evaluation and comparison need: no model, no data set. It is one safetensors
file whose metadata is JSON and holds a hash of the arrays.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from clickscale.arrays import Flags, Floats32, Ints, Ints32
from clickscale.errors import DamagedError, DataError, InputError
from clickscale.files import replacing, sha256_of, system_error

_FORMAT = "clickscale-predictions-1"


_VECTORS: dict[str, type[np.generic]] = {
    "row": np.int64,
    "user": np.int64,
    "time": np.int64,
    "behaviors": np.int32,
    "item_age": np.int64,
    "user_activity": np.int32,
}
_MATRICES: dict[str, type[np.generic]] = {"labels": np.float32, "label_mask": np.bool_, "logits": np.float32}
_ARRAYS = (*_VECTORS, *_MATRICES)


@dataclass(frozen=True)
class Predictions:
    """Logits and labels of N impressions for T labels, with the facts that the slices of a report need.

    `row` (N,) impression row ids, each once; `user` (N,); `time` (N,) seconds since 1970, UTC. `labels` (N,
    T) in {0, 1} where `label_mask` (N, T) is true (values elsewhere are ignored), `logits` (N, T).
    `behaviors` (N,) visible behaviors, `item_age` (N,) seconds since the item was first seen in the log or
    -1, `user_activity` (N,) impressions of the user in the training part. `grouping` is how the rows were
    batched when they were scored.

    Raises `DataError` if shapes or types do not fit.
    """

    row: Ints
    user: Ints
    time: Ints
    labels: Floats32
    label_mask: Flags
    logits: Floats32
    behaviors: Ints32
    item_age: Ints
    user_activity: Ints32
    label_names: tuple[str, ...]
    part: str
    grouping: str

    def __post_init__(self) -> None:
        if not self.label_names or len(set(self.label_names)) != len(self.label_names):
            raise DataError(f"label_names is {self.label_names}; give one distinct name per label.")
        rows = len(np.atleast_1d(self.row))
        for name, dtype in _VECTORS.items():
            _check_array(name, getattr(self, name), dtype, (rows,))
        for name, dtype in _MATRICES.items():
            _check_array(name, getattr(self, name), dtype, (rows, len(self.label_names)))

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: npt.NDArray[np.integer[Any] | np.bool_]) -> "Predictions":
        """The given rows, by position (M,) or by mask (N,)."""
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return Predictions(**arrays, label_names=self.label_names, part=self.part, grouping=self.grouping)

    def select_labels(self, names: Sequence[str]) -> "Predictions":
        """The same rows with these labels only, in this order; `DataError` if one is missing."""
        missing = [name for name in names if name not in self.label_names]
        if missing:
            raise DataError(f"No label {missing[0]!r} in these predictions; they have {self.label_names}.")
        columns = [self.label_names.index(name) for name in names]
        arrays = {name: getattr(self, name) for name in _VECTORS}
        arrays |= {name: np.ascontiguousarray(getattr(self, name)[:, columns]) for name in _MATRICES}
        return Predictions(**arrays, label_names=tuple(names), part=self.part, grouping=self.grouping)

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all.

        Raises `DataError` if the disk is full or the folder cannot be written; an older file then stays as it
        was.
        """
        target = Path(path)
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        about = self._about()
        metadata = {"format": _FORMAT, "about": about, "sha256": _digest(arrays, about)}
        try:
            with replacing(target) as partial:
                save_file(arrays, partial, metadata)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"Cannot write predictions to {target}: {system_error(error)}. Check folder and disk."
            ) from error

    def _about(self) -> str:
        """The facts beside the arrays, as JSON."""
        return json.dumps({"label_names": self.label_names, "part": self.part, "grouping": self.grouping})

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read a file that `save` wrote.

        Raises `InputError` if the file is missing or of another kind, `DamagedError` if it is truncated or
        altered.
        """
        source = Path(path)
        if not source.is_file():
            raise InputError(f"No predictions at {source}; `clickscale evaluate` writes them.")
        arrays, metadata = _read_whole(source)
        if metadata.get("format") != _FORMAT:
            raise InputError(
                f"{source} holds {metadata.get('format')!r}, not {_FORMAT!r}; evaluate the run again."
            )
        about = metadata.get("about", "")
        if set(arrays) != set(_ARRAYS) or metadata.get("sha256") != _digest(arrays, about):
            raise DamagedError(f"{source} is damaged: this is not what was written. Evaluate the run again.")
        facts = json.loads(about)
        labels = tuple(facts["label_names"])
        return cls(**arrays, label_names=labels, part=facts["part"], grouping=facts["grouping"])


def concatenate(predictions: Sequence[Predictions]) -> Predictions:
    """One `Predictions` of all the rows, in the given order (workers' shards of one part).

    Raises `DataError` if there is none, if their labels, part or grouping differ, or if a row comes twice: it
    would count twice in every metric.
    """
    if not predictions:
        raise DataError("Nothing to concatenate; give one or more predictions.")
    first = predictions[0]
    for other in predictions[1:]:
        for name in ("label_names", "part", "grouping"):
            if getattr(first, name) != getattr(other, name):
                mine, theirs = getattr(first, name), getattr(other, name)
                raise DataError(f"Predictions of {name} {mine!r} and {theirs!r} are not shards of one part.")
    arrays = {name: np.concatenate([getattr(part, name) for part in predictions]) for name in _ARRAYS}
    _check_rows_once(arrays["row"])
    return Predictions(**arrays, label_names=first.label_names, part=first.part, grouping=first.grouping)


def common_rows(
    a: Predictions, b: Predictions, allow_missing: bool = False
) -> tuple[Predictions, Predictions]:
    """The predictions of two runs side by side: the rows of equal id, by rising id, and the labels of both.

    Raises `DataError` if the runs share no label or no row, if one has rows that the other lacks (unless
    `allow_missing`, which drops them), or if a shared row has another user, time or label in the other run:
    then they were not measured on the same data.
    """
    labels = [name for name in a.label_names if name in b.label_names]
    if not labels:
        raise DataError(f"The runs share no label: one has {a.label_names}, the other {b.label_names}.")
    _check_rows_once(a.row)
    _check_rows_once(b.row)
    # Row ids name impressions of the data set, so runs may have scored them in any order.
    _, in_a, in_b = np.intersect1d(a.row, b.row, assume_unique=True, return_indices=True)
    missing = len(a) - len(in_a), len(b) - len(in_b)
    if not len(in_a) or (any(missing) and not allow_missing):
        raise DataError(
            f"The runs were evaluated on different rows: {len(in_a)} shared, {missing[0]} only in the first, "
            f"{missing[1]} only in the second. Evaluate both on the same data and part."
        )
    shared_a, shared_b = a.take(in_a).select_labels(labels), b.take(in_b).select_labels(labels)
    _check_same_facts(shared_a, shared_b)
    return shared_a, shared_b


def _check_same_facts(a: Predictions, b: Predictions) -> None:
    # Unknown labels have arbitrary values: -1 makes them equal.
    known_a, known_b = np.where(a.label_mask, a.labels, -1), np.where(b.label_mask, b.labels, -1)
    facts = {"user": (a.user, b.user), "time": (a.time, b.time), "labels": (known_a, known_b)}
    for name, (of_a, of_b) in facts.items():
        differs = (of_a != of_b).reshape(len(a), -1).any(axis=1)
        if differs.any():
            at = int(differs.argmax())
            raise DataError(
                f"Row {a.row[at]} has {name} {of_a[at].tolist()} in one run and {of_b[at].tolist()} in the "
                f"other ({int(differs.sum())} such rows): the runs were evaluated on different data sets."
            )


def _check_rows_once(rows: Ints) -> None:
    distinct, counts = np.unique(rows, return_counts=True)
    if len(distinct) < len(rows):
        most = int(counts.argmax())
        raise DataError(
            f"Impression row {distinct[most]} comes {counts[most]} times; {len(rows) - len(distinct)} of "
            f"{len(rows)} rows are repeated. Score each row once."
        )


def _check_array(name: str, array: object, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name} is a {type(array).__name__}; give a numpy array.")
    if array.dtype != dtype or array.shape != shape:
        raise DataError(f"{name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}.")


def _digest(arrays: dict[str, npt.NDArray[Any]], about: str) -> str:
    """sha256 over `about` and the arrays' bytes in the order of `_ARRAYS`; they must be contiguous."""
    return sha256_of([about.encode(), *(arrays[name].reshape(-1).view(np.uint8).data for name in _ARRAYS)])


def _read_whole(source: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    try:
        with safe_open(str(source), framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DamagedError(
            f"{source} is damaged or not a safetensors file: {error}. Evaluate again."
        ) from error
    return arrays, metadata
