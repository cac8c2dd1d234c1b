"""Shared by the benchmarks of training: interleaved rounds, and one training step as `train` takes it."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clickscale.arrays import Ints
from clickscale.batch import Batch
from clickscale.data.dataset import Dataset
from clickscale.data.loader import Loader
from clickscale.models import CTRModel
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer


class SomeUsers(Dataset):
    """A prepared data set of which the parts hold the impressions of every ``every``-th user only."""

    def __init__(self, path: Path, every: int) -> None:
        super().__init__(path)
        self.every = every

    def part(self, name: str) -> Ints:
        """Rows of the impressions of a part, ascending."""
        rows = super().part(name)
        return rows[np.asarray(self.impressions["user"])[rows] % self.every == 0]


class Training:
    """Trains a model batch by batch, as `train` does, without its run folder."""

    def __init__(self, model: CTRModel[Any], loader: Loader) -> None:
        self.objective, self.loader = ClickLoss(model, ("label",)), loader
        self.optimizer = build_optimizer(model, OptimizerConfig(), 10_000)
        self.done = 0
        self.step(next(loader.batches()))  # warms up
        self.done = 0

    def step(self, batch: Batch) -> float:
        """Forward, backward, and the step of the optimizer; the loss."""
        losses = self.objective(batch)
        losses[LOSS].backward()
        self.optimizer.step(losses[LOSS], self.done)
        self.done += 1
        return float(losses[LOSS].detach())

    def epoch(self) -> int:
        """Load and train one epoch; the number of impressions in it.

        Whole epochs are compared because batches are not alike: each holds windows of similar length.
        """
        for batch in self.loader.batches(self.done // len(self.loader)):
            self.step(batch)
        return self.loader.samples


def speeds(works: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Samples per CPU-second of each work in each round, one after the other in every round.

    A work returns how many samples it did. CPU time of all threads of the process is counted, so neighbors on
    the machine slow nothing but the caches.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.process_time()
            samples = work()
            found[name].append(samples / (time.process_time() - started))
    return found


def show(found: Mapping[str, list[float]], yardstick: str) -> None:
    """Print medians, their spread, and their ratio to the yardstick, round by round."""
    for name, values in found.items():
        ratios = [value / base for value, base in zip(values, found[yardstick], strict=True)]
        print(
            f"{name:32} {statistics.median(values):10,.0f} samples/CPU-s"
            f" ({min(values):,.0f}-{max(values):,.0f})"
            f"  {statistics.median(ratios):6.2f}x ({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )
