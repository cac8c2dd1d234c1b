"""The benchmark: choose learning rates on the validation part, train the seeds, measure, write the tables."""

from collections.abc import Sequence
from pathlib import Path

from clickscale.benchmarking.benchmark_config import (
    TREES,
    BenchmarkConfig,
    claim_folder,
    refuse_other_benchmark,
)
from clickscale.benchmarking.benchmark_page import Benchmark, write_benchmark
from clickscale.benchmarking.benchmark_tables import measured_latencies, table
from clickscale.benchmarking.cells import Cell, chosen_rate, grid, seeds
from clickscale.benchmarking.forecast import (
    Forecast,
    Sizes,
    listed,
    make_forecast,
    matched_steps,
    open_parts,
    scoring_seconds,
    shown_cells,
    training_seconds,
)
from clickscale.benchmarking.progress import Progress, Say
from clickscale.benchmarking.speeds import Speed, measure_speeds, read_speeds, write_speeds
from clickscale.benchmarking.work import work
from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError, RunError
from clickscale.files import remove_folder
from clickscale.training.run.folder import CHECKPOINTS


def benchmark(
    config: BenchmarkConfig, out: str | Path, *, jobs: int = 1, say: Say = lambda text: None
) -> Benchmark:
    """Train models under one budget; write ``benchmark.md``, ``benchmark.json`` and a picture into ``out``.

    The runs stay in ``out/runs`` (see `clickscale.benchmarking.cells`). The same call continues a benchmark
    that was stopped or killed: runs that are finished stay, and a run in between continues from its last
    checkpoint. A run that fails is named in the result and tried again by the next call.

    Args:
        jobs: runs that are trained at the same time.
        say: told how the benchmark proceeds.

    Raises:
        RunError: ``out`` holds something else, or a benchmark with other options.
        ConfigError: there is no validation part, or the reference cannot be trained on the data.
    """
    out = Path(out)
    dataset, sizes = open_parts(config.data)
    claim_folder(out, config)
    known = read_speeds(out)
    forecast = _forecast(config, dataset, sizes, known, jobs, say)
    write_speeds(out, known | forecast.speeds)
    say(forecast.told())
    return _Session(config, out, dataset, sizes, forecast, say).run()


def forecast_benchmark(
    config: BenchmarkConfig, out: str | Path, *, jobs: int = 1, say: Say = lambda text: None
) -> Forecast:
    """Forecast the time of a whole benchmark from a few steps of each model; nothing is written.

    Raises:
        RunError, ConfigError: `benchmark` with the same arguments would raise it.
    """
    out, parts = Path(out), open_parts(config.data)
    refuse_other_benchmark(out, config)
    return _forecast(config, *parts, read_speeds(out), jobs, say)


def _forecast(
    config: BenchmarkConfig, dataset: Dataset, sizes: Sizes, known: dict[str, Speed], jobs: int, say: Say
) -> Forecast:
    """Measure what is not known yet; a model that cannot be trained on the data is left out by name."""
    # Options that are wrong for any data set end the benchmark.
    asked = {model: (config.run(model), dataset) for model in config.entrants if model != TREES}
    speeds, failed = measure_speeds(asked, known, say)
    if config.reference in failed:
        raise ConfigError(f"The reference cannot be trained on the data: {failed[config.reference]}")
    return make_forecast(config, speeds, failed, sizes, jobs)


class _Session:
    """One call of a benchmark; all that must survive it is in the folder."""

    def __init__(
        self,
        config: BenchmarkConfig,
        out: Path,
        dataset: Dataset,
        sizes: Sizes,
        forecast: Forecast,
        say: Say,
    ) -> None:
        self._config, self._out, self._dataset, self._sizes = config, out, dataset, sizes
        self._forecast, self._say, self._failed = forecast, say, dict(forecast.failed)
        self._models = [model for model in config.entrants if model not in forecast.failed]

    def run(self) -> Benchmark:
        """Choose the rates, train all seeds, measure, write."""
        choosing = [cell for cells in self._grids() for cell in cells]
        self._progress = self._planned(choosing)
        self._work(choosing, tested=False)
        rates = self._rates()
        self._remove_losers(choosing, rates)
        self._work([cell for model, rate in rates.items() for cell in self._shown(model, rate)], tested=True)
        return self._written(rates)

    def _grids(self) -> list[list[Cell]]:
        """Cells of each model between whose learning rates there is a choice."""
        grids = [grid(self._config, model) for model in self._models]
        return [cells for cells in grids if len(cells) > 1]

    def _rates(self) -> dict[str, float]:
        """The rate of each model that has one: the only one, or the one that was chosen."""
        found = {}
        for model in self._models:
            first, *others = grid(self._config, model)
            rate = chosen_rate(self._config, model, self._out) if others else first.rate
            if rate is not None:
                found[model] = rate
        return found

    def _remove_losers(self, choosing: Sequence[Cell], rates: dict[str, float]) -> None:
        """Delete the checkpoints of the runs whose rate was not chosen; the artifact keeps their weights."""
        for cell in choosing:
            checkpoints = cell.folder(self._out) / CHECKPOINTS
            loses = cell.trained(self._out) and cell.rate != rates.get(cell.model)
            if loses and checkpoints.is_dir():
                remove_folder(checkpoints)

    def _shown(self, model: str, rate: float) -> list[Cell]:
        return shown_cells(self._config, model, rate, self._forecast.speeds)

    def _planned(self, choosing: Sequence[Cell]) -> Progress:
        """Work that is left; which rates will be chosen makes no difference to the time."""
        seconds = [self._seconds(cell, False) for cell in choosing if not cell.trained(self._out)]
        for model in self._models:
            rate = chosen_rate(self._config, model, self._out) or grid(self._config, model)[0].rate
            for cell in self._shown(model, rate):
                if cell in choosing and not cell.tested(self._out):
                    seconds.append(scoring_seconds(cell, self._forecast.speeds, self._sizes))
                elif not cell.tested(self._out):
                    seconds.append(self._seconds(cell, True))
        # A run whose rate is chosen counts twice: it is trained now, and its test part is measured later.
        noun = "trainings or tests"
        return Progress([one for one in seconds if one], self._forecast.jobs, self._say, noun)

    def _seconds(self, cell: Cell, tested: bool) -> float:
        speeds, sizes = self._forecast.speeds, self._sizes
        training = 0.0 if cell.trained(self._out) else training_seconds(cell, speeds, sizes)
        return training + (scoring_seconds(cell, speeds, sizes) if tested else 0.0)

    def _work(self, cells: Sequence[Cell], *, tested: bool) -> None:
        """Finish cells, and measure their test part if ``tested``; what is done is left alone."""
        self._failed |= work(
            cells,
            self._out,
            tested=tested,
            commands=lambda cell: self._commands(cell, tested),
            seconds=lambda cell: self._seconds(cell, tested),
            jobs=self._forecast.jobs,
            progress=self._progress,
        )

    def _commands(self, cell: Cell, tested: bool) -> list[list[str]]:
        """Commands that a cell still needs."""
        folder = cell.folder(self._out)
        trained = cell.trained(self._out)
        if cell.model == TREES and not trained and folder.is_dir():
            remove_folder(folder)  # trees cannot be continued
        commands = [] if trained else [cell.training(self._config, self._out)]
        # Trees measure the test part while they are trained.
        later = tested and cell.model != TREES and not cell.tested(self._out)
        return [*commands, *([cell.testing(self._out)] if later else [])]

    def _written(self, rates: dict[str, float]) -> Benchmark:
        """Tables of all cells that are done."""
        config, out, speeds = self._config, self._out, self._forecast.speeds
        self._say("measuring latencies and writing the tables")
        equal = self._tested(rates, {})
        matched = self._tested(rates, {model: matched_steps(config, model, speeds) for model in rates})
        latencies = measured_latencies(equal, out)
        losses = {
            model: {f"{cell.rate:g}": cell.validation_loss(out) for cell in grid(config, model)}
            for model in rates
            if model != TREES
        }
        every = dict.fromkeys([*equal, *matched, *(c for m in rates for c in grid(config, m))])
        found = Benchmark(
            data=self._dataset.schema.name,
            config=config,
            equal=table(equal, out, config.reference, speeds, latencies),
            matched=table(matched, out, config.reference, speeds, latencies),
            losses=losses,
            rates=rates,
            failed=self._failed,
            commands={str(c.folder(out)): ["clickscale", *c.training(config, out)] for c in every},
            speeds=speeds,
        )
        if not found.equal:
            raise RunError(f"No run of {out} is finished: {listed(self._failed)}")
        write_benchmark(found, out, self._dataset.manifest.notes)
        return found

    def _tested(self, rates: dict[str, float], steps: dict[str, int]) -> list[Cell]:
        """Cells of a table that are done."""
        cells = [c for m, rate in rates.items() for c in seeds(self._config, m, rate, steps.get(m, 0))]
        return [cell for cell in cells if cell.tested(self._out)]
