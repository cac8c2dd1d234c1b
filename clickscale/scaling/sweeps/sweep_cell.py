"""One cell of a sweep: an ordinary run, measured on one part, and what the sweep adds to its folder.

::

    cells/NAME/           an ordinary run
    cells/NAME/cell.json  operations of its training; written last, so that it marks a finished cell
    cells/NAME.log        what its process said
"""

import math
from pathlib import Path

import msgspec

from clickscale.benchmarking.speeds import training_operations
from clickscale.data.dataset import open_dataset
from clickscale.errors import DataError
from clickscale.runtime import set_threads
from clickscale.scaling.points import Cell, Measured
from clickscale.scaling.sweeps.sweep_config import SweepConfig
from clickscale.sealed import read_document, write_document
from clickscale.training.run.folder import ADVICE
from clickscale.training.run_state import read_done
from clickscale.workflow import evaluate, run_results, train

_CELLS, _DONE = "cells", "cell.json"


def cell_folder(out: Path, name: str) -> Path:
    """Folder of the run of a cell."""
    return out / _CELLS / name


def is_finished(out: Path, cell: Cell) -> bool:
    """True if a cell is trained and measured."""
    return (cell_folder(out, cell.name) / _DONE).is_file()


def finished_names(out: Path) -> list[str]:
    """Names of the finished cells of a sweep, those of earlier calls with other axes included."""
    return sorted(path.parent.name for path in (out / _CELLS).glob(f"*/{_DONE}"))


def run_cell(config: SweepConfig, cell: Cell, out: Path, *, progress: bool | None = None) -> int:
    """Train a cell, or continue it, and measure it; the exit code, which is 0 if it is finished.

    The result does not depend on how often the cell was stopped before.
    """
    if is_finished(out, cell):
        return 0
    folder, options = cell_folder(out, cell.name), config.run(cell)
    result = train(options, folder, resume=True, progress=progress)
    if not result.finished:
        return result.exit_code
    set_threads(options.threads)
    if not (folder / f"evaluation-{config.part}.json").is_file():
        evaluate(folder, data=config.data, part=config.part)
    dataset = open_dataset(config.data, portion=options.portion)
    facts = {
        "cell": msgspec.to_builtins(cell),
        "impressions": len(dataset.part("train")),
        "training_flops": training_operations(options, dataset) * result.samples,
    }
    write_document(folder / _DONE, facts)
    return 0


def measured_cell(out: Path, name: str, part: str) -> Measured:
    """What is known of a finished cell, latencies left out.

    Raises:
        DataError: a file is damaged, or the part has no AUC.
    """
    folder = cell_folder(out, name)
    facts, cost = read_document(folder / _DONE, ADVICE), read_document(folder / "cost.json", ADVICE)
    cell = msgspec.convert(facts["cell"], Cell)
    result, done = run_results(folder, part)[0], read_done(folder)
    auc, gauc, loss = result.auc.value, result.gauc.value, result.log_loss.value
    if not math.isfinite(auc):
        raise DataError(f"{folder} has no AUC on the part {part}: {result.auc.reason}.")
    return Measured(
        model=cell.model,
        grade=cell.grade,
        length=cell.length,
        fraction=cell.fraction,
        seed=cell.seed,
        label=result.label,
        impressions=facts["impressions"],
        dense_parameters=cost["dense"],
        flops=round(cost["user"] + cost["candidate"]),
        training_flops=facts["training_flops"],
        auc=auc,
        gauc=gauc if math.isfinite(gauc) else None,
        log_loss=loss,
        run=f"{_CELLS}/{name}",
        predictions=f"{_CELLS}/{name}/predictions-{part}.safetensors",
        epochs=round(done.samples / facts["impressions"], 3),
        cpu_seconds=done.cpu_seconds,
    )


def best_auc(out: Path, name: str, part: str) -> float | None:
    """AUC of the true probabilities on the part of a finished cell; None where they are not known."""
    evaluation = read_document(cell_folder(out, name) / f"evaluation-{part}.json", ADVICE)
    label = evaluation["labels"][0]["label"]
    # Only evaluations on a simulated world have the entry. It shares the luck of the clicks with the cells.
    found = [one["drawn_auc"] for one in evaluation.get("regret", ()) if one["label"] == label]
    return found[0] if found else None
