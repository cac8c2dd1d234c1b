"""The models that learn in a run, each with the optimizer that moves it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clickscale.data.dataset import Dataset
from clickscale.training.objectives import LOSS, Objective
from clickscale.training.optimizers.optim import Optimizers
from clickscale.training.run.run_config import RunConfig


@dataclass(frozen=True)
class Learner:
    """A model that learns in a run, and its optimizer.

    Attributes:
        name: tells the models of a run apart, in checkpoints, logs and losses; empty for the only one.
        notes: messages to log when the run starts.
    """

    name: str
    model: nn.Module
    optimizer: Optimizers
    notes: tuple[str, ...] = ()

    def key(self, name: str) -> str:
        """Name of something of this model among those of the run."""
        return f"{self.name}.{name}" if self.name else name

    def own_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of this model's own losses; the model takes a step only if it is finite."""
        if not self.name:
            return losses[LOSS]
        prefix = f"{LOSS}.{self.name}."
        return torch.stack([loss for name, loss in losses.items() if name.startswith(prefix)]).sum()


# Makes the objective and the learners of a run, given its device and its number of steps.
Assemble = Callable[[torch.device, int], tuple[Objective, list[Learner]]]


@dataclass(frozen=True)
class Plan:
    """A run that is about to start.

    Attributes:
        config: its options, with everything decided that was left to the recipe.
        notes: why they were decided so.
        assemble: makes objective and learners.
        shared: requests of one user that see at most so many behaviors share an encoding in validation; 0 if
            no model can, or none gains.
        whose: model that the messages are about, if a command trains another one after it.
    """

    config: RunConfig
    notes: list[str]
    assemble: Assemble
    shared: int
    whose: str = ""


# Decides the options of a run and makes its models, given its data set.
Planner = Callable[[Dataset], Plan]
