"""Cells of a benchmark: each is one run in a folder of its own, made by ordinary commands.

::

    runs/MODEL/rate-0.001-seed-0             a run of the equal budget
    runs/MODEL/rate-0.001-seed-0-steps-90    a run of the reference's training operations
    runs/trees/seed-0                        boosted trees
    runs/MODEL/NAME.log                      what its commands said
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clickscale.benchmarking.benchmark_config import TREES, BenchmarkConfig
from clickscale.benchmarking.work import RunCell
from clickscale.inference.prediction_tables import TREES as TREES_FACTS


@dataclass(frozen=True)
class Cell(RunCell):
    """One run.

    Attributes:
        rate: learning rate of dense weights; 0 for trees.
        steps: steps at most; 0 sets no bound beside the epochs.
    """

    model: str
    rate: float
    seed: int
    steps: int = 0

    def __str__(self) -> str:
        """Name for people, such as ``hstu, rate 0.001, seed 0``."""
        rate = f", rate {self.rate:g}" if self.rate else ""
        return f"{self.model}{rate}, seed {self.seed}" + (f", {self.steps} steps" if self.steps else "")

    def folder(self, out: Path) -> Path:
        """Folder of the run in the folder of a benchmark."""
        rate = f"rate-{self.rate:g}-" if self.rate else ""
        steps = f"-steps-{self.steps}" if self.steps else ""
        return out / "runs" / self.model / f"{rate}seed-{self.seed}{steps}"

    def trained(self, out: Path) -> bool:
        """True if the run is finished."""
        return (self.folder(out) / TREES_FACTS).exists() if self.model == TREES else super().trained(out)

    def training(self, config: BenchmarkConfig, out: Path) -> list[str]:
        """Words after ``clickscale`` that train the cell, or continue it."""
        folder = ["--data", config.data, "--out", str(self.folder(out)), "--seed", str(self.seed)]
        if self.model == TREES:
            label = ["--label", config.label] if config.label else []
            return ["trees", *folder, *label, *_portion_flags(config.assignments(TREES))]
        words = ["train", self.model, *folder, "--resume", "--grade", config.grade]
        words += ["--length", str(config.length), "--learning-rate", f"{self.rate:g}"]
        words += ["--labels", config.label] if config.label else []
        sets = config.assignments(self.model) + ([f"epochs.steps={self.steps}"] if self.steps else [])
        # A length of one model's own wins over the common one, as --set wins over a flag.
        return [*words, *(word for text in sets for word in ("--set", text))]

    def validation_loss(self, out: Path) -> float:
        """Log-loss of the validation part; infinity if it is not there."""
        path = self.folder(out) / "evaluation-valid.json"
        if not self.trained(out) or not path.is_file():
            return math.inf
        loss = json.loads(path.read_text("utf-8"))["labels"][0]["log_loss"]["value"]
        return math.inf if loss is None else float(loss)


def _portion_flags(assignments: Sequence[str]) -> list[str]:
    """Flags by which trees learn from the share of the data that models learn from."""
    pairs = [text.partition("=") for text in assignments if text.startswith("portion.")]
    return [
        word for key, _, value in pairs for word in (f"--{key.removeprefix('portion.')}", value.strip("'"))
    ]


def grid(config: BenchmarkConfig, model: str) -> list[Cell]:
    """Cells that choose the learning rate of a model; trees have none to choose."""
    return [Cell(model, rate, 0) for rate in ((0.0,) if model == TREES else config.rates)]


def chosen_rate(config: BenchmarkConfig, model: str, out: Path) -> float | None:
    """Learning rate of the lowest validation loss, the first of equals; None if no cell of the grid is done.

    Only files about the validation part are read.
    """
    cells = grid(config, model)
    done = [cell for cell in cells if cell.trained(out)]
    return min(done, key=lambda cell: cell.validation_loss(out)).rate if done else None


def seeds(config: BenchmarkConfig, model: str, rate: float, steps: int = 0) -> list[Cell]:
    """Cells of a line of a table."""
    return [Cell(model, rate, seed, steps) for seed in range(config.seeds)]
