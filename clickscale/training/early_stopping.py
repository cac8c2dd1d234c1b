"""Early stopping: training ends when the validation loss no longer falls, with the weights of the lowest.

A second training (`clickscale.training.passes.second_training`) is judged by its own losses. Its weights
take the place of those of the first only if their loss is clearly lower, since small differences on the
validation part are chance.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CLEARLY = 0.01  # share by which the loss of a second training must be lower
ENOUGH = 400  # validation impressions of the rarer outcome from which it is enough: fewer decide by chance
LEVEL = 0.005  # share by which it may be higher where the first training has learned next to nothing
NOTHING = 0.02  # share by which the loss of such a training is below that of the constant rate


class EarlyStopping:
    """Remembers the best validation loss, and the weights that had it.

    Args:
        patience: validations in a row without a new best after which training stops; 0 never stops it.
        constant: loss of the constant rate.
        rarer: validation impressions of the rarer outcome.

    Attributes:
        clearly: share by which the loss of a second training must be lower.
        best, best_step: loss of ``weights`` and the step after which it was measured; infinity and 0 before.
        lowest, bad: lowest loss of this training, and the validations since.
        first: lowest loss of the training before this one; infinity if there was none.
        judged: step of the last validation.
        weights: copies of all weights at ``best_step`` by name; empty before.
    """

    def __init__(self, patience: int, constant: float = math.inf, rarer: int = ENOUGH) -> None:
        self.patience, self.constant = patience, constant
        # The error of a mean falls with the root of its number.
        self.clearly = CLEARLY * math.sqrt(max(ENOUGH / max(rarer, 1), 1))
        self.best, self.best_step, self.bad, self.judged = math.inf, 0, 0, 0
        self.lowest = self.first = math.inf
        self.weights: dict[str, Tensor] = {}

    def over(self) -> bool:
        """True if training should stop."""
        return 0 < self.patience <= self.bad

    def begin_again(self) -> None:
        """Go on with a second training."""
        self.first, self.lowest, self.bad = self.lowest, math.inf, 0

    def promises(self) -> bool:
        """True if the second training is worth more than its first pass.

        It is clearly better by then, unless it is one that both trainings need long to begin with.
        """
        idle = self.first > self.constant * (1 - NOTHING)
        return self.lowest < self.first * ((1 + LEVEL) if idle else (1 - self.clearly))

    def judge(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> bool:
        """Take in the validation ``loss`` after ``step``; whether it is a new best, whose weights are copied.

        A loss that is not a number is never the best. In a second training, one is that is clearly lower than
        those of the first.
        """
        self.judged = step
        if not loss < self.lowest:
            self.bad += 1
            return False
        self.lowest, self.bad = loss, 0
        if not loss < self.first * (1 - self.clearly):
            return False
        self.best, self.best_step = loss, step
        for name, live in weights.items():
            if name in self.weights:
                self.weights[name].copy_(live)
            else:
                self.weights[name] = live.detach().clone()
        return True

    def put_back(self, weights: Mapping[str, Tensor]) -> None:
        """Give live ``weights`` the values of the best step; nothing changes if there was none."""
        with torch.no_grad():
            for name, best in self.weights.items():
                weights[name].copy_(best)

    def facts(self) -> dict[str, float | None]:
        """Values that a checkpoint keeps beside the weights, ready for JSON."""
        losses = {"best": self.best, "lowest": self.lowest, "first": self.first}
        facts = {name: loss if math.isfinite(loss) else None for name, loss in losses.items()}
        return facts | {"best_step": self.best_step, "bad": self.bad, "judged": self.judged}

    def restore(self, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up the weights and facts of a checkpoint."""
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        for name in ("best", "lowest", "first"):
            setattr(self, name, math.inf if facts[name] is None else facts[name])
        self.best_step, self.bad, self.judged = facts["best_step"], facts["bad"], facts["judged"]
