"""Learning rate as a function of the step only, so that a resumed run needs no memory of it."""

import math
from typing import Literal

from clickscale.config import Config
from clickscale.errors import ConfigError


class Schedule(Config, frozen=True):
    """Warm-up followed by a decay.

    Attributes:
        warmup: share of all steps over which the rate rises in a straight line.
        decay: shape of the rate after the warm-up.
        floor: share of the full rate at the end of the decay.
    """

    warmup: float = 0.0
    decay: Literal["constant", "cosine", "linear"] = "constant"
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.warmup <= 1 and 0 <= self.floor <= 1):
            raise ConfigError(f"A schedule's warmup and floor are shares between 0 and 1; got {self}.")

    def factor(self, step: int, steps: int) -> float:
        """Factor of the learning rate at ``step`` (from 0) of ``steps``; the last step still moves."""
        warm = round(self.warmup * steps)
        if step < warm:
            return (step + 1) / warm
        if self.decay == "constant":
            return 1.0
        gone = min((step - warm) / max(steps - warm, 1), 1.0)
        left = 1 - gone if self.decay == "linear" else (1 + math.cos(math.pi * gone)) / 2
        return self.floor + (1 - self.floor) * left
