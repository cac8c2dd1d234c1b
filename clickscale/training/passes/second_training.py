"""A second training in the same run, for what the first one leaves out where it is short and careful.

One pass with L2 on embedding rows is what most logs want: more learns ids by heart. A log whose outcomes
depend on what two fields say together, and on neither alone, gives such a training nothing to begin with. So
a second one follows on logs that are not large: from the same first weights, with several passes, a lower
rate of embedding rows and of the weights that embed numbers, and no L2 on these rows. It ends after the first
pass unless it is clearly better by then, or level with a training that has learned next to nothing. Its
weights stay only if their validation loss is clearly lower (`clickscale.training.early_stopping`). Where it
gains nothing, the run ends with the very weights of the first training, and has cost one more pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from clickscale.training.learner import Learner


@dataclass(frozen=True)
class SecondTraining:
    """The start of all models of a run, to which a second training returns.

    Attributes:
        weights, moments: of models and of optimizers, by the name of the learner; empty if there is none.
    """

    weights: dict[str, dict[str, Tensor]]
    moments: dict[str, dict[str, Tensor]]

    @classmethod
    def of(cls, learners: Sequence[Learner]) -> "SecondTraining":
        """Copy what learners have before the first step; a continued run makes them as it did then."""
        return cls(
            {one.name: _copies(one.model.state_dict()) for one in learners},
            {one.name: _copies(one.optimizer.state_dict()) for one in learners},
        )

    def begin(self, learners: Sequence[Learner], span: tuple[int, int], *, first: bool) -> None:
        """Let learners train as from the start, with schedules of their own and without L2.

        Args:
            span: first step of the second training, and the number of its steps at most.
            first: begin it; otherwise a run goes on within its second training.
        """
        for learner in learners:
            learner.optimizer.begin_again(span)
            if first:
                skipped = {"skipped": learner.optimizer.state_dict()["skipped"]}  # those of the whole run
                learner.model.load_state_dict(self.weights[learner.name])
                learner.optimizer.load_state_dict(self.moments[learner.name] | skipped)


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
