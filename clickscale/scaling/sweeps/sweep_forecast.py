"""Forecast of the time and cost of a sweep, from a few steps of each model, size and length."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from clickscale.benchmarking.forecast import FINISH, run_seconds
from clickscale.benchmarking.progress import Say, duration
from clickscale.benchmarking.speeds import Speed, measure_speed, read_speeds, write_speeds
from clickscale.data.dataset import Dataset
from clickscale.errors import ClickscaleError
from clickscale.runtime import available_cores, set_threads
from clickscale.scaling.points import Cell
from clickscale.scaling.sweeps.sweep_config import SweepConfig

_FORECAST = "forecast.json"


@dataclass(frozen=True)
class SweepForecast:
    """Time and cost of the cells that are left.

    Attributes:
        seconds: by cell, in the order in which they run: seed by seed, cheap ones first, so that a first grid
            is there early.
        cpu: processor seconds, by cell; on a busy machine fewer than those on the clock.
        operations: of training, by cell.
        epochs: of a cell at most, by cell; 0 where the recipe decides by the fraction.
        finished: cells that are done already.
        failed: by cell that cannot be trained, why.
        jobs: cells that run at the same time.
        threads: that a cell computes with.
        by: how a fraction is taken.
    """

    seconds: dict[Cell, float]
    cpu: dict[Cell, float]
    operations: dict[Cell, float]
    epochs: dict[Cell, int]
    finished: int
    failed: dict[Cell, str]
    jobs: int
    threads: int
    by: str

    @property
    def total(self) -> float:
        """Seconds on the clock."""
        return sum(self.seconds.values()) / self.jobs

    @property
    def core_hours(self) -> float:
        """Hours of a processor core."""
        return sum(self.cpu.values()) / 3600

    @property
    def tflop(self) -> float:
        """10^12 operations of training."""
        return sum(self.operations.values()) / 1e12

    def __str__(self) -> str:
        """The forecast as a sentence."""
        taken = {"time": "the newest impressions", "users": "a sample of users"}[self.by]
        if not self.seconds and not self.failed:
            return f"all {_cells(self.finished)} finished"
        done = f"{_cells(self.finished)} finished; " if self.finished else ""
        free = available_cores() // self.threads
        more = f" (this machine has room for --jobs {free})" if free > self.jobs else ""
        time = f"about {duration(self.total)} with {self.jobs} at the same time{more}"
        cost = f"{self.core_hours:.2g} core-hours and {self.tflop:,.3g} TFLOP"
        return (
            f"{done}{_cells(len(self.seconds))} left, {time}: {cost}; each has {self._passes}, and a"
            f" fraction is {taken}"
        )

    @property
    def _passes(self) -> str:
        counts = set(self.epochs.values())
        if not counts or 0 in counts:
            return "the epochs of the recipe for its fraction"
        most, least = max(counts), min(counts)
        told = f"{most}" if most == least else f"{least} to {most}"
        return f"{told} epochs, less if it stops early" if most > 1 else "1 epoch"


def _cells(count: int) -> str:
    return "1 cell is" if count == 1 else f"{count} cells are"


def make_forecast(
    config: SweepConfig,
    dataset: Dataset,
    speeds: dict[str, Speed],
    failed: dict[str, str],
    finished: Callable[[Cell], bool],
    jobs: int,
) -> SweepForecast:
    """Forecast the cells of a sweep that are not finished.

    Args:
        speeds, failed: by model, size and length, as `speed_key` joins them.
    """
    valid, part = len(dataset.part("valid")), len(dataset.part(config.part))
    seconds, cpu, operations, epochs, missing = {}, {}, {}, {}, {}
    left = [cell for cell in config.cells if not finished(cell)]
    for cell in left:
        if (speed := speeds.get(speed_key(cell))) is None:
            missing[cell] = failed[speed_key(cell)]
            continue
        scoring = FINISH + part * speed.scoring if config.part != "valid" else 0.0
        seconds[cell] = run_seconds(speed, valid, cell.fraction) + scoring
        cpu[cell] = run_seconds(replace(speed, training=speed.cpu), valid, cell.fraction) + scoring
        operations[cell] = cell.fraction * speed.budget
        epochs[cell] = config.run(cell).epochs.count
    order = sorted(seconds, key=lambda cell: (cell.seed, seconds[cell], cell.name))
    threads = config.run(left[0] if left else config.cells[0]).threads or 1
    return SweepForecast(
        seconds={cell: seconds[cell] for cell in order},
        cpu=cpu,
        operations=operations,
        epochs=epochs,
        finished=len(config.cells) - len(left),
        failed=missing,
        jobs=jobs,
        threads=threads,
        by=config.by,
    )


def speed_key(cell: Cell) -> str:
    """Name of what has one speed: ``suan-size-2-50``."""
    return f"{cell.model}-{cell.grade}-{cell.length}"


def measured_speeds(
    config: SweepConfig, dataset: Dataset, cells: list[Cell], out: Path, say: Say
) -> tuple[dict[str, Speed], dict[str, str]]:
    """Speeds of cells by `speed_key`, and why a model cannot be trained on the data.

    Measured on the whole training part; a smaller one has smaller batches, which are a little slower. Speeds
    stay in the folder ``out`` for later calls, if it is there.
    """
    known = read_speeds(out, _FORECAST)
    # One for each key; any cell of it does.
    wanted = {speed_key(cell): Cell(cell.model, cell.grade, cell.length, 1.0, 0) for cell in cells}
    missing = {key: cell for key, cell in wanted.items() if key not in known}
    if missing:
        say(f"measuring a few steps of each model, size and length: {len(missing)}")
    found, failed = {}, {}
    for key, cell in missing.items():
        options = config.run(cell)
        set_threads(options.threads)
        try:
            found[key] = measure_speed(options, dataset)
        except (ClickscaleError, MemoryError, RuntimeError) as error:  # torch words a full memory as the last
            failed[key] = " ".join(str(error).split())
            say(f"{key} is left out: {failed[key]}")
    if found and out.is_dir():
        write_speeds(out, known | found, _FORECAST)
    return known | found, failed
