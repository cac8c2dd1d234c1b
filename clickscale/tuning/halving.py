"""Asynchronous successive halving (ASHA, Li et al. 2020) over trials that pause: the decisions alone.

A trial stands on a rung after a quarter, a half and the whole of its run. Of all trials that ever stood on a
rung the better half may go on, and going on comes before a new draw. The decisions depend on losses only, so
the same losses give the same search.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

RUNGS = 3


@dataclass(frozen=True)
class Standing:
    """A trial between two pieces of its training.

    Attributes:
        number: of the trial.
        losses: lowest validation loss up to each rung that it stood on; infinity if training diverged.
        over: whether it cannot go on: it is finished, stopped early or diverged.
    """

    number: int
    losses: tuple[float, ...]
    over: bool

    @property
    def loss(self) -> float:
        """The lowest validation loss."""
        return min(self.losses, default=math.inf)


def pauses(validations: int) -> tuple[int, ...]:
    """Validations after which a run of so many stands on each rung; 0 is its end."""
    return (max(validations // 4, 1), max(validations // 2, 1), 0)


def standing(number: int, losses: Sequence[float], validations: int, over: bool) -> Standing:
    """Standing of a trial with these validation ``losses``, oldest first.

    A trial that is over has passed every rung: a run that stopped early would only have become worse.
    """
    rungs = [pause for pause in pauses(validations) if over or 0 < pause <= len(losses)]
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    lowest = tuple(min(finite[: pause or len(finite)], default=math.inf) for pause in rungs)
    return Standing(number, lowest, over)


def to_continue(standings: Sequence[Standing]) -> Standing | None:
    """The trial that goes on; None if a new one is drawn."""
    for rung in reversed(range(RUNGS - 1)):
        on_rung = sorted((one.losses[rung], one.number, one) for one in standings if len(one.losses) > rung)
        for _, _, one in on_rung[: len(on_rung) // 2]:
            if len(one.losses) == rung + 1 and not one.over:
                return one
    return None


def best_of(standings: Sequence[Standing]) -> Standing:
    """The trial with the lowest loss among those that came to their end; the earlier one of two equals."""
    ended = [one for one in standings if one.over]
    return min(ended, key=lambda one: (one.loss, one.number))
