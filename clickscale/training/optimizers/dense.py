"""Adam for dense weights: torch's fused kernel, without what comes with `torch.optim.Optimizer`.

The first step of `torch.optim.AdamW` imports torch's compiler, which takes 1.1 CPU seconds at every start;
the kernel itself does not need it. A later step of that class takes 1.1 to 1.4 times as long on one thread
(two runs of ``python benchmarks/bench_dense_adam.py``). Both move weights alike, bit for bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


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
        self.groups, self.betas, self.eps, self.decoupled = groups, betas, eps, decoupled
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Move every parameter that has a gradient, at the learning rate of its group."""
        for (parameters, decay), lr in zip(self.groups, rates, strict=True):
            moved = [parameter for parameter in parameters if parameter.grad is not None]
            if moved:
                self._move(moved, decay, lr)

    def _move(self, moved: list[nn.Parameter], decay: float, lr: float) -> None:
        states = [self._state_of(parameter) for parameter in moved]
        adam(
            list[Tensor](moved),
            [parameter.grad for parameter in moved if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            decoupled_weight_decay=self.decoupled,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=decay,
            eps=self.eps,
            maximize=False,
        )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if not self.state.get(parameter):  # also empty when it had no gradient before a checkpoint
            self.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return self.state[parameter]
