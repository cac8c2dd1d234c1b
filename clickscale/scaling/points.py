"""The measured points of a sweep, and the two files that hold them.

``scaling.json`` holds what a sweep found and no value of a clock: the same sweep gives the same bytes,
however often it was stopped. ``speeds.json`` beside it holds what was timed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from clickscale.errors import DamagedError, DataError
from clickscale.sealed import maybe_document, read_document, write_document

POINTS, SPEEDS = "scaling.json", "speeds.json"
CANDIDATES = 500  # of the request whose latency a sweep measures
_ADVICE = "run the sweep again"
_TIMED = ("cpu_seconds", "latency_ms", "cached_ms")


class Cell(msgspec.Struct, frozen=True):
    """One run of a sweep: a model of a grade, a share of the training data, and a seed.

    Attributes:
        grade: size of the model, such as ``size-2``.
        length: behaviors that a candidate sees at most.
        fraction: share of the training impressions, in (0, 1].
    """

    model: str
    grade: str
    length: int
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's folder: ``suan-size-2-50-0.25-0``."""
        return f"{self.model}-{self.grade}-{self.length}-{self.fraction:g}-{self.seed}"

    @property
    def order(self) -> tuple[str, str, int, float, int]:
        """Sorts cells by model, grade, length, fraction and seed."""
        return self.model, self.grade, self.length, self.fraction, self.seed


class Measured(Cell, frozen=True, kw_only=True):
    """A cell whose run is trained and measured.

    Attributes:
        label: the label that was predicted.
        impressions: training impressions of the fraction.
        epochs: passes over them until training ended; None where a sweep was measured before this was kept.
        dense_parameters: parameters outside embedding tables.
        flops: operations of scoring one impression, its user encoded; two per multiply-add.
        training_flops: operations of all training steps.
        gauc: None where no user has both a positive and a negative.
        run: folder of the run, relative to that of the sweep.
        predictions: file of the predictions, relative to the sweep's folder; empty if they were not kept.
        cpu_seconds: of training.
        latency_ms: median time of a request of 500 candidates whose user is encoded.
        cached_ms: the same with the user's state cached.
    """

    label: str
    impressions: int
    dense_parameters: int
    flops: int
    training_flops: float
    auc: float
    gauc: float | None
    log_loss: float
    epochs: float | None = None
    run: str = ""
    predictions: str = ""
    cpu_seconds: float | None = None
    latency_ms: float | None = None
    cached_ms: float | None = None


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep measured.

    Attributes:
        data: name of the data set. manifest: hash of its manifest.
        by: how a fraction was taken: the newest impressions, or a sample of users.
        part: the part that was measured.
        cells: in the order of `Cell.order`.
        failed: by name of a cell, why it is missing.
        best_auc: the best possible AUC of the part, where the truth is known.
    """

    data: str
    manifest: str
    by: Literal["time", "users"]
    part: str
    cells: list[Measured]
    failed: dict[str, str] = {}
    best_auc: float | None = None

    def of(self, model: str) -> list[Measured]:
        """Cells of one model."""
        return [cell for cell in self.cells if cell.model == model]

    @property
    def models(self) -> list[str]:
        """Names of the models, each once."""
        return list(dict.fromkeys(cell.model for cell in self.cells))


def epochs_told(cells: Iterable[Measured]) -> str:
    """Epochs of cells for people: ``2``, ``1.5 to 2``, or nothing where they are not known."""
    known = {round(cell.epochs, 2) for cell in cells if cell.epochs is not None}
    return " to ".join(f"{end:g}" for end in sorted({min(known), max(known)})) if known else ""


def write_points(folder: Path, sweep: Sweep) -> None:
    """Write the two files of a sweep, ``speeds.json`` first."""
    cells = sorted(sweep.cells, key=lambda cell: cell.order)
    speeds = {cell.name: {key: getattr(cell, key) for key in _TIMED} for cell in cells}
    document = msgspec.to_builtins(msgspec.structs.replace(sweep, cells=cells))
    for cell in document["cells"]:
        for key in _TIMED:
            del cell[key]
    write_document(folder / SPEEDS, speeds)
    write_document(folder / POINTS, document)


def read_points(folder: str | Path) -> Sweep:
    """Read the files of a sweep; cells without an entry in ``speeds.json`` have no times.

    Raises:
        DataError: the folder holds no sweep.
        DamagedError: a file is not what was written.
    """
    where = Path(folder)
    if not is_sweep(where):
        raise DataError(f"{where} holds no {POINTS}; give the folder of a sweep.")
    document = read_document(where / POINTS, _ADVICE)
    speeds: dict[str, dict[str, Any]] = maybe_document(where / SPEEDS, _ADVICE) or {}
    try:
        sweep = msgspec.convert(document, Sweep)
        cells = [msgspec.structs.replace(cell, **speeds.get(cell.name, {})) for cell in sweep.cells]
    except (msgspec.ValidationError, TypeError) as error:
        raise DamagedError(f"{where / POINTS} cannot be read ({error}); {_ADVICE}.") from error
    _refuse_doubles(cells, where)
    return msgspec.structs.replace(sweep, cells=cells)


def is_sweep(folder: Path) -> bool:
    """True for a folder that holds the points of a sweep."""
    return (folder / POINTS).is_file()


def _refuse_doubles(cells: Iterable[Cell], where: Path) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.name in seen:
            raise DamagedError(f"{where / POINTS} holds cell {cell.name} twice; {_ADVICE}.")
        seen.add(cell.name)
