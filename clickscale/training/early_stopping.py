"""Early stopping: training ends when the validation loss no longer falls, with the weights of the lowest."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EarlyStopping:
    """Remembers the best validation loss, and the weights that had it.

    Args:
        patience: validations in a row without a new best after which training stops; 0 never stops it.

    Attributes:
        best, best_step: lowest loss so far and the step after which it was measured; infinity and 0 before.
        bad: validations since.
        judged: step of the last validation.
        weights: copies of all weights at ``best_step`` by name; empty before.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best, self.best_step, self.bad, self.judged = math.inf, 0, 0, 0
        self.weights: dict[str, Tensor] = {}

    def over(self) -> bool:
        """True if training should stop."""
        return 0 < self.patience <= self.bad

    def judge(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> bool:
        """Take in the validation ``loss`` after ``step``; whether it is a new best, whose weights are copied.

        A loss that is not a number is never the best.
        """
        self.judged = step
        if not loss < self.best:
            self.bad += 1
            return False
        self.best, self.best_step, self.bad = loss, step, 0
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
        best = self.best if self.weights else None
        return {"best": best, "best_step": self.best_step, "bad": self.bad, "judged": self.judged}

    def restore(self, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up the weights and facts of a checkpoint."""
        self.weights = {name: tensor.clone() for name, tensor in weights.items()}
        self.best = math.inf if facts["best"] is None else facts["best"]
        self.best_step, self.bad, self.judged = facts["best_step"], facts["bad"], facts["judged"]
