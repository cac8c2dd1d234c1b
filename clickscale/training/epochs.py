"""How often training passes over the data, as a value that the loop reads."""

from collections.abc import Iterator
from dataclasses import dataclass

from clickscale.config import Config
from clickscale.errors import ConfigError


@dataclass(frozen=True)
class Position:
    """Where in the data a run stands: ``batch`` of ``epoch`` is the next one to train on."""

    epoch: int = 0
    batch: int = 0


class Epochs(Config, frozen=True):
    """Plain passes over the training part.

    Attributes:
        count: one by default: click models with id embeddings over-fit as soon as the second pass begins
            (Zhang et al. 2022, the one-epoch phenomenon).
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"epochs.count is {self.count}; it must be at least 1.")

    def remaining(self, position: Position) -> Iterator[Position]:
        """Start of each epoch that is still to come; the current one starts where the run stands."""
        for epoch in range(position.epoch, self.count):
            yield Position(epoch, position.batch if epoch == position.epoch else 0)
