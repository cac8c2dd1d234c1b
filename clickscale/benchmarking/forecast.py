"""Forecast of the time of a benchmark from the speeds of its models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clickscale.benchmarking.benchmark_config import TREES, BenchmarkConfig
from clickscale.benchmarking.cells import Cell, grid, seeds
from clickscale.benchmarking.progress import duration
from clickscale.benchmarking.speeds import Speed
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ConfigError

# Seconds on a core to start a command and to open the data and, after training, to measure a part with its
# intervals and to save the artifact.
START, FINISH = 3.0, 2.0
_TREES = 5e-4  # seconds for an impression of training; a few boosted trees are never what takes long


@dataclass(frozen=True)
class Sizes:
    """Impressions of the parts of a data set."""

    train: int
    valid: int
    test: int

    def training_seconds(self, speed: Speed, steps: int = 0) -> float:
        """Seconds to train for all epochs, or for ``steps``, and to measure the validation part."""
        return run_seconds(speed, self.valid, min(steps / speed.steps, 1.0) if steps else 1.0)

    def test_seconds(self, speed: Speed) -> float:
        """Seconds to measure the test part of a run."""
        return START + FINISH + self.test * speed.scoring


def open_parts(data: str) -> tuple[Dataset, Sizes]:
    """A data set whose runs can be chosen and measured, and the sizes of its parts.

    Raises:
        ConfigError: there is no validation or no test part.
    """
    dataset = open_dataset(data)
    sizes = Sizes(*(len(dataset.part(part)) for part in ("train", "valid", "test")))
    if not sizes.valid or not sizes.test:
        raise ConfigError(
            f"{data} lacks a validation or a test part; the one chooses learning rates and when to stop, the"
            " other measures. Prepare the data with both."
        )
    return dataset, sizes


@dataclass(frozen=True)
class Forecast:
    """Time of a benchmark, or of another set of runs: of its models, or of what else its lines are.

    Attributes:
        seconds: by model, of all its cells one after the other, if none stops early.
        cells: by model.
        speeds: by model; trees have none.
        failed: by model that cannot take part, why.
        jobs: cells that are trained at the same time.
    """

    seconds: dict[str, float]
    cells: dict[str, int]
    speeds: dict[str, Speed]
    failed: dict[str, str]
    jobs: int

    @property
    def total(self) -> float:
        """Seconds on the clock."""
        return sum(self.seconds.values()) / self.jobs

    def told(self, noun: str = "models") -> str:
        """The forecast as a sentence."""
        return (
            f"{sum(self.cells.values())} runs of {len(self.cells)} {noun} take about {duration(self.total)}"
            f" with {self.jobs} at the same time, less if some stop early"
        )


def training_seconds(cell: Cell, speeds: Mapping[str, Speed], sizes: Sizes) -> float:
    """Seconds to train a cell and to measure its validation part."""
    if cell.model == TREES:
        return START + FINISH + _TREES * sizes.train
    return sizes.training_seconds(speeds[cell.model], cell.steps)


def scoring_seconds(cell: Cell, speeds: Mapping[str, Speed], sizes: Sizes) -> float:
    """Seconds to measure the test part of a cell; trees do so while they are trained."""
    return 0.0 if cell.model == TREES else sizes.test_seconds(speeds[cell.model])


def run_seconds(speed: Speed, valid: int, share: float = 1.0) -> float:
    """Seconds of a command that trains a share of all steps and measures ``valid`` impressions."""
    during = max(round(share * speed.validations), 1) if speed.validations else 0
    scored = (during + 1) * valid * speed.scoring  # once more by the finished run
    return START + FINISH + share * speed.samples * speed.training + scored


def make_forecast(
    config: BenchmarkConfig, speeds: dict[str, Speed], failed: dict[str, str], sizes: Sizes, jobs: int
) -> Forecast:
    """Forecast of a benchmark of which nothing is done yet."""
    seconds, counts = {}, {}
    for model in config.entrants:
        if model not in failed:
            shown = shown_cells(config, model, grid(config, model)[0].rate, speeds)
            cells = {*grid(config, model), *shown}
            seconds[model] = sum(training_seconds(cell, speeds, sizes) for cell in cells)
            seconds[model] += sum(scoring_seconds(cell, speeds, sizes) for cell in shown)
            counts[model] = len(cells)
    return Forecast(seconds, counts, speeds, failed, jobs)


def matched_steps(config: BenchmarkConfig, model: str, speeds: Mapping[str, Speed]) -> int:
    """Steps of a model that cost as many operations as the reference's training; 0 for all of its epochs."""
    if model in (TREES, config.reference) or config.reference not in speeds:
        return 0
    steps = speeds[model].matched(speeds[config.reference].budget)
    return 0 if steps == speeds[model].steps else steps


def shown_cells(config: BenchmarkConfig, model: str, rate: float, speeds: Mapping[str, Speed]) -> list[Cell]:
    """Cells of a model in either table, each once."""
    steps: Iterable[int] = (0, matched_steps(config, model, speeds))
    return list(dict.fromkeys(cell for most in steps for cell in seeds(config, model, rate, most)))


def listed(failed: Mapping[str, str]) -> str:
    """Write why some could not be trained, each reason once."""
    reasons: dict[str, list[str]] = {}
    for name, why in failed.items():
        reasons.setdefault(why.rstrip("."), []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
