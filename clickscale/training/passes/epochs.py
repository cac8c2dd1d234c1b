"""Number of passes over the data and of steps, and the embedding tables that each pass begins with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clickscale.config import Config
from clickscale.errors import ConfigError


@dataclass(frozen=True)
class Position:
    """Position of a run in the data: ``batch`` of ``epoch`` is the next one to train on."""

    epoch: int = 0
    batch: int = 0


class Epochs(Config, frozen=True):
    """Passes over the training part; see `clickscale.training.passes.table_resets` for what a reset does.

    Attributes:
        count: passes at most; 0 leaves it to `clickscale.training.recipe`. Click models with id embeddings
            may over-fit as soon as the second pass begins (Zhang et al. 2022, the one-epoch phenomenon).
        steps: steps at most, with which the schedules of the learning rates end; 0 sets no bound.
        reset: embedding tables at the start of every later epoch: ``none`` keeps them, ``random`` draws new
            rows (MEDA, Fan et al. 2023), ``snapshot`` returns to those of the start (asynchronous multi-epoch
            training, Liu et al. 2026, section 5.5). Dense weights are always carried on.
        snapshot: with ``reset=snapshot``, folder of an earlier run whose tables are the start, of the first
            epoch too; the initial tables of the run itself if empty.
        again: passes at most of a second training, which begins from the first weights and has slower
            embedding rows without L2 (`clickscale.training.passes.second_training`). 0 leaves it out, None
            leaves it to the recipe. Early stopping keeps its weights only if they are clearly better.
    """

    count: int = 0
    steps: int = 0
    reset: Literal["none", "random", "snapshot"] = "none"
    snapshot: str = ""
    again: int | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(
                f"epochs.count is {self.count}; it must be at least 1, or 0 for the recipe's choice."
            )
        if self.steps < 0:
            raise ConfigError(f"epochs.steps is {self.steps}; it must be at least 1, or 0 for no bound.")
        if self.again is not None and self.again < 0:
            raise ConfigError(f"epochs.again is {self.again}; it must be at least 1, or 0 to leave it out.")
        if self.again and (self.steps or self.reset != "none"):
            name = "epochs.steps" if self.steps else "epochs.reset"
            raise ConfigError(f"epochs.again={self.again} trains a second time to the end; leave {name} out.")
        if self.snapshot and self.reset != "snapshot":
            raise ConfigError(
                f"epochs.snapshot names a run, but epochs.reset is {self.reset!r}; set epochs.reset=snapshot."
            )

    def bounded(self, steps: int) -> int:
        """Steps of a run whose passes have so many."""
        return min(steps, self.steps) if self.steps else steps

    @property
    def passes(self) -> int:
        """Passes at most of both trainings; those of the second one follow those of the first."""
        return self.count + (self.again or 0)

    def remaining(self, position: Position) -> Iterator[Position]:
        """Start of each epoch that is still to come; the current one starts where the run stands."""
        for epoch in range(position.epoch, self.passes):
            yield Position(epoch, position.batch if epoch == position.epoch else 0)
