"""Lines of the tables of a benchmark, from the runs that are done."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clickscale.artifact import load_artifact
from clickscale.benchmarking.benchmark_config import TREES
from clickscale.benchmarking.cells import Cell
from clickscale.benchmarking.speeds import Speed
from clickscale.costs.latency import CACHED, PARALLEL, compare_latency
from clickscale.evaluation.metrics import rela_impr
from clickscale.evaluation.significance import Interval, PairedTest
from clickscale.report.comparison import Entrant, Line, compare
from clickscale.run_page import CANDIDATES
from clickscale.runtime import set_threads
from clickscale.workflow import entrant

_LATENCY_SECONDS = 3.0  # of the measurement of one model


@dataclass(frozen=True)
class BenchmarkLine:
    """One model in a table; what does not apply is None.

    Attributes:
        rate: learning rate of dense weights.
        seeds: runs.
        auc, gauc, log_loss: means over seeds, with the mean of the seeds' intervals over users.
        spread: standard deviation of the AUC over seeds; nan with one.
        rela_impr: of the mean AUC over that of the reference, in percent.
        against_best: AUC less that of the model with the highest mean, tested over users; None for itself.
        over_seeds: the same tested over seeds.
        dense: parameters outside embedding tables.
        gflops: 10^9 operations of a request of 60 candidates.
        steps: of training, unless it stops early.
        training_tflops: 10^12 operations of these steps.
        cpu_rate: training impressions for a processor second.
        latency, cached: milliseconds of a request of 500 candidates on one thread, with encoding the user and
            from a stored state.
    """

    name: str
    rate: float | None
    seeds: int
    auc: Interval
    gauc: Interval
    log_loss: Interval
    spread: float
    rela_impr: float
    against_best: PairedTest | None
    over_seeds: PairedTest | None
    dense: int | None
    gflops: float | None
    steps: int | None
    training_tflops: float | None
    cpu_rate: float | None
    latency: float | None
    cached: float | None


def table(
    cells: Sequence[Cell],
    out: Path,
    reference: str,
    speeds: Mapping[str, Speed],
    latencies: Mapping[str, tuple[float, float]],
) -> list[BenchmarkLine]:
    """Lines of the runs ``cells`` in the folder of a benchmark; see `_lines_of`."""
    runs = {cell: entrant(cell.folder(out), "test") for cell in cells}
    return _lines_of(runs, reference, speeds, latencies)


def _lines_of(
    runs: Mapping[Cell, Entrant],
    reference: str,
    speeds: Mapping[str, Speed],
    latencies: Mapping[str, tuple[float, float]],
) -> list[BenchmarkLine]:
    """Lines of evaluated runs, the highest AUC first, then the constant rate and item popularity."""
    if not runs:
        return []
    # Cells of one model stay together; the first one's model is the one that the others are tested against.
    ordered = sorted(runs, key=lambda cell: -_mean_auc(cell.model, runs))
    compared = compare([runs[cell] for cell in ordered])
    base = _mean_auc(reference, runs)
    first = {cell.model: cell for cell in reversed(ordered)}
    return [_line(line, first.get(line.name), runs, base, speeds, latencies) for line in compared]


def _mean_auc(model: str, runs: Mapping[Cell, Entrant]) -> float:
    """Mean over the seeds of a model; nan if it has no run."""
    values = [one.results[0].auc.value for cell, one in runs.items() if cell.model == model]
    return statistics.fmean(values) if values else math.nan


def _line(
    line: Line,
    cell: Cell | None,
    runs: Mapping[Cell, Entrant],
    base: float,
    speeds: Mapping[str, Speed],
    latencies: Mapping[str, tuple[float, float]],
) -> BenchmarkLine:
    """One line; ``cell`` is a run of the model, None for a line that costs nothing."""
    result = runs[cell].results[0] if cell else None
    speed = speeds.get(cell.model) if cell else None
    latency, cached = latencies.get(cell.model, (None, None)) if cell else (None, None)
    steps = (cell.steps or speed.steps) if cell and speed else None
    return BenchmarkLine(
        name=line.name,
        rate=cell.rate if cell and cell.model != TREES else None,
        seeds=len(line.seeds),
        auc=line.values["auc"],
        gauc=line.values["gauc"],
        log_loss=line.values["log_loss"],
        spread=line.spread["auc"],
        rela_impr=rela_impr(line.values["auc"].value, base) if base > 0.5 else math.nan,
        against_best=line.against.get("auc"),
        over_seeds=line.seeds_test.get("auc"),
        dense=result.dense if result else None,
        gflops=result.gflops if result else None,
        steps=steps,
        training_tflops=speed.budget * steps / speed.steps / 1e12 if speed and steps else None,
        cpu_rate=1 / speed.cpu if speed else None,
        latency=latency,
        cached=cached,
    )


def measured_latencies(cells: Sequence[Cell], out: Path) -> dict[str, tuple[float, float]]:
    """Latency of each model, as `measured_latency` measures it."""
    found: dict[str, tuple[float, float]] = {}
    for cell in cells:
        # One after the other: the tables of twenty models at once might not fit into memory.
        if cell.model not in found and cell.model != TREES:
            found[cell.model] = measured_latency(cell.folder(out))
    return found


def measured_latency(run: Path) -> tuple[float, float]:
    """Median milliseconds of a request, fresh and cached, on one thread with a full history."""
    set_threads(1)
    artifact = load_artifact(run / "artifact")
    models = {"": (artifact.model, artifact.config.length)}
    times = compare_latency(models, artifact.config.features, CANDIDATES, seconds=_LATENCY_SECONDS)[""]
    return times[PARALLEL].p50, times[CACHED].p50
