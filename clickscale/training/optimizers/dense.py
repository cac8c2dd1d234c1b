"""Adam for dense weights: torch's fused kernel, without what comes with `torch.optim.Optimizer`.

The first step of `torch.optim.AdamW` imports torch's compiler, which takes 1.1 CPU seconds at every start;
the kernel itself does not need it. A later step of that class takes 1.1 to 1.4 times as long on one thread
(two runs of ``python benchmarks/bench_dense_adam.py``). Both move weights alike, bit for bit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class _Moments(NamedTuple):
    """Lists for the kernel: parameters that have a gradient, and what belongs to each."""

    parameters: list[nn.Parameter]
    averages: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]


class _Group:
    """Parameters of one learning rate and weight decay, and how many steps each has taken."""

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.steps = torch.zeros(len(parameters), device=parameters[0].device if parameters else None)
        self.moments = _Moments([], [], [], [])  # of the last step; most steps move the same parameters


class DenseAdam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) if ``decoupled``.

    Args:
        groups: parameters and the weight decay of each group.

    Attributes:
        state: per parameter that ever had a gradient, ``step`` (), and ``exp_avg`` and ``exp_avg_sq`` of its
            shape.
    """

    def __init__(
        self,
        groups: list[tuple[list[nn.Parameter], float]],
        betas: tuple[float, float],
        eps: float,
        decoupled: bool,
    ) -> None:
        self.groups = [_Group(parameters, decay) for parameters, decay in groups]
        self.betas, self.eps = betas, eps
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_

    @torch.no_grad()
    def step(self, rates: Sequence[float], divisor: float = 1.0) -> None:
        """Move every parameter that has a gradient, at the learning rate of its group.

        Args:
            divisor: of all gradients.
        """
        for group, lr in zip(self.groups, rates, strict=True):
            moved = [parameter for parameter in group.parameters if parameter.grad is not None]
            if moved:
                self._move(group, self._moments(group, moved), lr, divisor)

    def _move(self, group: _Group, moments: _Moments, lr: float, divisor: float) -> None:
        if len(moments.steps) == len(group.parameters):
            group.steps += 1  # one operation instead of one for each parameter
        else:
            torch._foreach_add_(moments.steps, 1)
        self._kernel(
            list[Tensor](moments.parameters),
            [parameter.grad for parameter in moments.parameters if parameter.grad is not None],
            moments.averages,
            moments.squares,
            [],
            moments.steps,
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=group.decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=None if divisor == 1 else group.steps.new_full((), divisor),
        )

    def _moments(self, group: _Group, moved: list[nn.Parameter]) -> _Moments:
        """Lists for the kernel; those of the last step serve again if the same parameters move."""
        before = group.moments.parameters
        if len(before) != len(moved) or any(x is not y for x, y in zip(before, moved, strict=True)):
            states = [self._state_of(group, parameter) for parameter in moved]
            parts = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
            group.moments = _Moments(moved, *parts)
        return group.moments

    def _state_of(self, group: _Group, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            place = next(index for index, other in enumerate(group.parameters) if other is parameter)
            self.state[parameter] = {
                "step": group.steps[place],
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]

    def load(self, parameter: nn.Parameter, saved: dict[str, Tensor]) -> None:
        """Restore the state of a parameter; an empty one means that it never had a gradient."""
        group = next(group for group in self.groups if any(parameter is other for other in group.parameters))
        if before := self.state.pop(parameter, None):
            before["step"].zero_()
        group.moments = _Moments([], [], [], [])
        if saved:
            state = self._state_of(group, parameter)
            for key, value in state.items():
                value.copy_(saved[key])
