"""The sweep: train and measure every cell of a grid, on this machine or on a cluster, and keep the points.

::

    options.json     what was asked for
    forecast.json    speeds that the forecast rests on
    cells/           see `clickscale.scaling.sweeps.sweep_cell`
    latencies.json   milliseconds of a request by model, size and length
    scaling.json     the points (see `clickscale.scaling.points`), after every cell
    speeds.json      the same points' times
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from clickscale.benchmarking.benchmark_tables import measured_latency
from clickscale.benchmarking.processes import Ended, Job, run_jobs
from clickscale.benchmarking.progress import Progress, Say
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ClickscaleError, ConfigError, RunError
from clickscale.locks import one_writer
from clickscale.scaling.points import Cell, Measured, Sweep, write_points
from clickscale.scaling.sweeps.cluster import Shared, cluster_jobs, cluster_size, shared_by_all
from clickscale.scaling.sweeps.sweep_cell import (
    best_auc,
    cell_folder,
    finished_names,
    is_finished,
    measured_cell,
)
from clickscale.scaling.sweeps.sweep_config import SweepConfig, claim_sweep, refuse_other_sweep, settled
from clickscale.scaling.sweeps.sweep_forecast import (
    SweepForecast,
    make_forecast,
    measured_speeds,
    speed_key,
)
from clickscale.sealed import maybe_document, write_document

_LATENCIES = "latencies.json"


def sweep(
    config: SweepConfig,
    out: str | Path,
    *,
    jobs: int = 1,
    cluster: str = "",
    say: Say = lambda text: None,
) -> Sweep:
    """Train and measure every cell of a sweep; ``scaling.json`` in ``out`` holds the points.

    The same call continues a sweep that was stopped or killed: finished cells stay, and a cell in between
    continues from its last checkpoint. The points are then the same, byte for byte. A cell that fails is
    named in the result and tried again by the next call. A call with other axes adds cells.

    Args:
        jobs: cells that run at the same time on this machine.
        cluster: address of a Ray cluster whose machines share ``out`` and the data; ``local`` starts one with
            ``jobs`` workers on this machine.
        say: told how the sweep proceeds.

    Raises:
        RunError: ``out`` holds something else, or a sweep with other options, or is being written.
        ConfigError: a part is missing, or Ray is, or a machine of the cluster cannot run cells.
    """
    out, dataset = Path(out), _opened(config)
    config = settled(config, out, dataset)
    jobs = _workers(config, jobs, cluster)
    with one_writer(out, RunError), ExitStack() as stack:
        manifest, shared = claim_sweep(out, config), None
        if cluster:
            threads = config.run(config.cells[0]).threads
            shared = stack.enter_context(shared_by_all(cluster, threads, out, Path(config.data), manifest))
        forecast = _forecast(config, dataset, out, jobs, say)
        say(str(forecast))
        points = Points(config, out, dataset, manifest)
        points.failed |= {cell.name: why for cell, why in forecast.failed.items()}
        points.write()
        _run_cells(config, out, forecast, points, shared, say)
        if config.latency:
            points.measure_latencies(say)
        return points.write()


def forecast_sweep(
    config: SweepConfig, out: str | Path, *, jobs: int = 1, cluster: str = "", say: Say = lambda text: None
) -> SweepForecast:
    """Forecast what `sweep` with the same arguments would do; writes nothing but the speeds it measured.

    Speeds are kept only where a sweep was begun.

    Raises:
        RunError: ``out`` holds something else, or a sweep with other options or data.
        ConfigError: a part is missing, or Ray is.
    """
    out, dataset = Path(out), _opened(config)
    config = settled(config, out, dataset)
    refuse_other_sweep(out, config)
    return _forecast(config, dataset, out, _workers(config, jobs, cluster), say)


def _opened(config: SweepConfig) -> Dataset:
    dataset = open_dataset(config.data)
    for part in dict.fromkeys(("valid", config.part)):
        if not len(dataset.part(part)):
            raise ConfigError(
                f"{config.data} has no part {part!r}, and a sweep measures it; prepare the data with one."
            )
    return dataset


def _workers(config: SweepConfig, jobs: int, cluster: str) -> int:
    """Cells that run at the same time."""
    if not cluster:
        return jobs
    return cluster_size(cluster, jobs, config.run(config.cells[0]).threads, gpu=_on_gpu(config))


def _forecast(config: SweepConfig, dataset: Dataset, out: Path, jobs: int, say: Say) -> SweepForecast:
    """Measure the speeds that are not known yet, and forecast the cells that are left."""
    left = [cell for cell in config.cells if not is_finished(out, cell)]
    speeds, failed = measured_speeds(config, dataset, left, out, say)
    return make_forecast(config, dataset, speeds, failed, partial(is_finished, out), jobs)


def _run_cells(
    config: SweepConfig,
    out: Path,
    forecast: SweepForecast,
    points: "Points",
    shared: Shared | None,
    say: Say,
) -> None:
    """Run the cells that are left, and write the points after each.

    Args:
        shared: what the machines of a cluster see; None for this machine alone.
    """
    # A worker of a cluster begins in another folder.
    out, data = out.absolute(), Path(config.data).absolute()
    jobs = [
        Job(
            name=cell.name,
            commands=partial(_commands, cell, out, data),
            log=cell_folder(out, cell.name).with_name(f"{cell.name}.log"),
            seconds=seconds,
        )
        for cell, seconds in forecast.seconds.items()
    ]
    if not jobs:
        return
    progress = Progress([job.seconds for job in jobs], forecast.jobs, say, "cells")

    def tell(ended: Ended) -> None:
        points.add(ended.job.name, ended.failed)
        points.write()
        progress.count(ended)

    if shared:
        cluster_jobs(jobs, shared, tell, threads=forecast.threads, gpu=_on_gpu(config))
    else:
        run_jobs(jobs, forecast.jobs, tell, threads=forecast.threads)


def _on_gpu(config: SweepConfig) -> bool:
    return config.run(config.cells[0]).device == "cuda"


def _commands(cell: Cell, out: Path, data: Path) -> Sequence[Sequence[str]]:
    """The command of a cell; none if it is finished meanwhile."""
    words = ["sweep", "--out", str(out), "--data", str(data), "--cell", cell.name]
    return [] if is_finished(out, cell) else [words]


class Points:
    """The points of a sweep as far as they are measured, those of earlier calls with other axes included.

    Attributes:
        failed: by name of a cell, why it is missing.
    """

    def __init__(self, config: SweepConfig, out: Path, dataset: Dataset, manifest: str) -> None:
        self._config, self._out, self._name, self._manifest = config, out, dataset.schema.name, manifest
        self.failed: dict[str, str] = {}
        self._cells: dict[str, Measured] = {}
        self._latencies: dict[str, list[float]] = maybe_document(out / _LATENCIES, "measure again") or {}
        for name in finished_names(out):
            self.add(name)

    def add(self, name: str, failed: str = "") -> None:
        """Take a cell that ended; ``failed`` says why it failed, and is empty if it did not."""
        if not failed:
            try:
                self._cells[name] = measured_cell(self._out, name, self._config.part)
            except ClickscaleError as error:
                failed = str(error)
        if failed:
            self.failed[name] = failed
        else:
            self.failed.pop(name, None)

    def write(self) -> Sweep:
        """Write the files of the points."""
        cells = [
            msgspec.structs.replace(cell, latency_ms=latency, cached_ms=cached)
            for cell in self._cells.values()
            for latency, cached in [self._latencies.get(speed_key(cell), (None, None))]
        ]
        found = Sweep(
            data=self._name,
            manifest=self._manifest,
            by=self._config.by,
            part=self._config.part,
            cells=sorted(cells, key=lambda cell: cell.order),
            failed=dict(sorted(self.failed.items())),
            best_auc=best_auc(self._out, next(iter(self._cells)), self._config.part) if self._cells else None,
        )
        write_points(self._out, found)
        return found

    def measure_latencies(self, say: Say) -> None:
        """Measure what has no latency yet, one after the other, now that nothing else runs."""
        missing = {speed_key(cell): cell for cell in self._cells.values()}
        missing = {key: cell for key, cell in missing.items() if key not in self._latencies}
        if missing:
            say(f"measuring the latency of each model, size and length: {len(missing)}")
        for key, cell in missing.items():
            try:
                self._latencies[key] = list(measured_latency(cell_folder(self._out, cell.name)))
            except (ClickscaleError, MemoryError, RuntimeError) as error:
                say(f"{key} has no latency: {error}")
            write_document(self._out / _LATENCIES, self._latencies)
