"""The optimizer of a model: one for dense weights, one for each embedding table, one step for all.

A step first sums the sparse gradients per row, then takes the norm of all gradients, refuses the step if that
norm or the loss is not a finite number, scales gradients to the allowed norm, and only then moves weights.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from clickscale.config import Config
from clickscale.errors import ConfigError, DivergedError
from clickscale.layers.embedding import FusedEmbedding, SideEmbedding
from clickscale.layers.timed_inputs import TimeOfWeek
from clickscale.training.optimizers.dense import DenseAdam
from clickscale.training.optimizers.schedule import Schedule
from clickscale.training.optimizers.table_optimizers import (
    LazyAdam,
    RowGradient,
    RowSummer,
    RowwiseAdagrad,
    TableOptimizer,
)


class OptimizerConfig(Config, frozen=True):
    """Options of the update of weights.

    Attributes:
        dense: ``adamw`` (decoupled weight decay) or ``adam`` (decay added to the gradient).
        learning_rate: learning rate of dense weights; None leaves it to `clickscale.training.recipe`, or is
            0.001 where that does not decide.
        betas: decays of the moments of Adam, for dense weights and for tables.
        eps: epsilon of Adam for dense weights.
        weight_decay: only for matrices named ``weight``; not for biases, norms or any kind of embedding.
        table: ``adagrad`` (row-wise) or ``adam`` (lazy) for embedding tables.
        table_learning_rate: learning rate of embedding tables, and of the weights that embed numbers, hours
            and weekdays (by the optimizer of dense weights; see ``docs/recipes.md``); None leaves it to
            `clickscale.training.recipe`, or is 0.03 where that does not decide.
        week_rate: learning rate of hour and weekday where a model adds them to every token: that of ``dense``
            weights or of embedding rows (``table``); None leaves it to `clickscale.training.recipe`, or is
            ``dense`` where that does not decide.
        table_eps: epsilon of the optimizer of embedding tables.
        table_l2: added to the gradient of every row that a batch touches, times the row; None leaves it to
            `clickscale.training.recipe`.
        max_grad_norm: largest norm of all gradients together; 0 never scales.
        max_skipped: steps in a row that may be skipped because a number was not finite, before giving up.
    """

    dense: Literal["adamw", "adam"] = "adamw"
    learning_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    schedule: Schedule = Schedule(warmup=0.05, decay="cosine")
    table: Literal["adagrad", "adam"] = "adam"
    table_learning_rate: float | None = None
    week_rate: Literal["dense", "table"] | None = None
    table_eps: float = 1e-8
    table_l2: float | None = None
    table_schedule: Schedule = Schedule(warmup=0.05, decay="cosine")
    max_grad_norm: float = 1.0
    max_skipped: int = 10

    def __post_init__(self) -> None:
        positive = (self.rate, self.table_rate, self.eps, self.table_eps)
        if not all(0 < x < math.inf for x in positive):
            raise ConfigError(
                f"learning_rate is {self.learning_rate}, table_learning_rate {self.table_learning_rate}, eps"
                f" {self.eps}, table_eps {self.table_eps}; they must be positive numbers."
            )
        free = (self.weight_decay, self.max_grad_norm, self.max_skipped, self.table_l2 or 0)
        if not all(0 <= x < math.inf for x in free) or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"weight_decay is {self.weight_decay}, table_l2 {self.table_l2}, max_grad_norm"
                f" {self.max_grad_norm}, max_skipped {self.max_skipped}, betas {self.betas}; they must be"
                " >= 0, and betas below 1."
            )

    @property
    def rate(self) -> float:
        """Learning rate of dense weights."""
        return 1e-3 if self.learning_rate is None else self.learning_rate

    @property
    def table_rate(self) -> float:
        """Learning rate of embedding tables."""
        return 3e-2 if self.table_learning_rate is None else self.table_learning_rate


_SMALL = 1 << 16  # numbers of a gradient
_AGAIN = 1 / 3  # rate of rows in a second training: fast ones hide what fields and numbers tell together


@dataclass(frozen=True)
class StepResult:
    """Measurements of one step.

    Attributes:
        learning_rate, table_learning_rate: learning rates of the step.
        norm: norm of all gradients before scaling.
        skipped: whether the step was refused because a number was not finite.
    """

    learning_rate: float
    table_learning_rate: float
    norm: float
    skipped: bool


class Optimizers:
    """Moves every parameter of a model; see the module docstring for the order of events.

    Attributes:
        tables: optimizer of each embedding table by parameter name.
        begun, steps: first step of the schedule, and the number of its steps.
        table_steps: the same of the schedule of the tables.
        l2: see ``table_l2`` of the options; a second training has none.
        row_rate: learning rate of embedding rows, see ``table_learning_rate``; lower in a second training.
        skipped, skipped_in_a_row: steps refused so far.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, steps: int) -> None:
        """Prepare to train ``model`` for ``steps`` steps (the length of the schedules)."""
        self.config, self.begun, self.steps, self.table_steps = config, 0, steps, (0, steps)
        self.l2, self.row_rate = config.table_l2 or 0.0, config.table_rate
        self.skipped = self.skipped_in_a_row = 0
        tables = _table_parameters(model)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.tables = {name: _table_optimizer(self.parameters[name], config) for name in tables}
        self._summers = {name: RowSummer(len(self.parameters[name])) for name in tables}
        self.names = [name for name in self.parameters if name not in tables]  # dense, in order
        self._dense = _dense_optimizer(model, self.names, config)
        self._buffers = _running_statistics(model)
        self._sound = [buffer.clone() for buffer in self._buffers]

    def begin_again(self, span: tuple[int, int]) -> None:
        """Begin the schedules again, without L2 and with slower rows.

        Args:
            span: first step and number of steps.
        """
        self.begun, self.steps = self.table_steps = span
        self.l2, self.row_rate = 0.0, _AGAIN * self.config.table_rate

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def step(self, loss: Tensor, step: int) -> StepResult:
        """Move the weights by the gradients of ``loss``, as step number ``step`` (from 0), and forget them.

        A step that is skipped also takes back what its batch did to running statistics. Waits for the device
        once.

        Raises:
            DivergedError: more than ``max_skipped`` steps in a row were not finite.
        """
        rows = self._sum_rows()
        norm, value = torch.stack([self._norm(rows).to(loss.device), loss.detach().float()]).tolist()
        config, (begun, table_steps) = self.config, self.table_steps
        learning_rate = config.rate * config.schedule.factor(step - self.begun, self.steps)
        table_rate = self.row_rate * config.table_schedule.factor(step - begun, table_steps)
        finite = math.isfinite(norm) and math.isfinite(value)
        result = StepResult(learning_rate, table_rate, norm, skipped=not finite)
        self._count(result, value, step)
        if result.skipped:
            _copy(self._buffers, self._sound)
        else:
            _copy(self._sound, self._buffers)
            self._move(rows, self._divisor(norm), learning_rate, table_rate)
        self.zero_grad()
        return result

    def _sum_rows(self) -> dict[str, RowGradient]:
        """Gradient of the touched rows of each table."""
        found = {}
        for name, summer in self._summers.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                assert gradient.is_sparse, (
                    f"the gradient of table {name} is dense; look it up with sparse=True"
                )
                found[name] = summer.sum(gradient)
        return found

    def _dense_gradients(self) -> list[Tensor]:
        return [p.grad for name in self.names if (p := self.parameters[name]).grad is not None]

    def _norm(self, rows: dict[str, RowGradient]) -> Tensor:
        """Norm of all gradients together, shape ()."""
        every = self._dense_gradients() + [gradient.values for gradient in rows.values()]
        # Small gradients are joined: a norm of each takes longer than the copy.
        small = [gradient for gradient in every if gradient.numel() <= _SMALL]
        large = [gradient for gradient in every if gradient.numel() > _SMALL]
        if small:
            large.append(torch.cat([gradient.reshape(-1) for gradient in small]))
        return nn.utils.get_total_norm(large) if large else torch.zeros(())

    def _divisor(self, norm: float) -> float:
        """Number that divides all gradients so that their norm is at most ``max_grad_norm``."""
        return max(norm / self.config.max_grad_norm, 1.0) if self.config.max_grad_norm else 1.0

    def _move(
        self, rows: dict[str, RowGradient], divisor: float, learning_rate: float, table_rate: float
    ) -> None:
        self._dense.step((learning_rate, learning_rate, table_rate), divisor)
        with torch.no_grad():
            for name, gradient in rows.items():
                if divisor > 1:
                    gradient.values.div_(divisor)
                if self.l2:
                    gradient.values.add_(self.parameters[name][gradient.rows], alpha=self.l2)
                self.tables[name].update(self.parameters[name], gradient, table_rate)

    def _count(self, result: StepResult, loss: float, step: int) -> None:
        """Count skipped steps; too many in a row mean that training does not come back."""
        self.skipped += result.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if result.skipped else 0
        if self.skipped_in_a_row > self.config.max_skipped:
            raise DivergedError(
                f"Step {step}: loss {loss} and gradient norm {result.norm}; {self.skipped_in_a_row} steps in"
                f" a row were not finite, optimizer.max_skipped is {self.config.max_skipped}. The last"
                " checkpoint is sound. Train again with a lower optimizer.learning_rate or"
                " optimizer.table_learning_rate, or look for extreme numbers in the data."
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs, as flat names and live tensors."""
        found = {"skipped": torch.tensor([self.skipped, self.skipped_in_a_row])}
        for name, optimizer in self.tables.items():
            found |= {f"table.{name}.{key}": value for key, value in optimizer.state().items()}
        for name in self.names:
            state = self._dense.state.get(self.parameters[name], {})
            found |= {f"dense.{name}.{key}": value for key, value in state.items()}
        return found

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            ConfigError: the tensors belong to another model or another kind of optimizer.
        """
        self.skipped, self.skipped_in_a_row = (int(x) for x in tensors["skipped"])
        known = {"skipped"}
        for name, optimizer in self.tables.items():
            for key, live in optimizer.state().items():
                live.copy_(_find(tensors, f"table.{name}.{key}", live))
                known.add(f"table.{name}.{key}")
        for name in self.names:
            prefix, parameter = f"dense.{name}.", self.parameters[name]
            state = {key.removeprefix(prefix): key for key in tensors if key.startswith(prefix)}
            # Moments have the parameter's shape, the count of steps has none.
            self._dense.load(parameter, {short: tensors[key] for short, key in state.items()})
            known.update(state.values())
        _copy(self._sound, self._buffers)
        if left := sorted(set(tensors) - known):
            raise ConfigError(
                f"The saved optimizer has {left[0]!r}, which this model or optimizer does not have."
            )


def build_optimizer(model: nn.Module, config: OptimizerConfig, steps: int) -> Optimizers:
    """Optimizers of ``model`` for a run of ``steps`` steps."""
    return Optimizers(model, config, steps)


def _table_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that are embedding tables."""
    return [
        f"{name}.weight".removeprefix(".")
        for name, part in model.named_modules()
        if isinstance(part, FusedEmbedding)
    ]


def _table_optimizer(weight: Tensor, config: OptimizerConfig) -> TableOptimizer:
    if config.table == "adagrad":
        return RowwiseAdagrad(weight, config.table_eps)
    return LazyAdam(weight, config.betas, config.table_eps)


def _running_statistics(model: nn.Module) -> list[Tensor]:
    """Buffers that a forward pass may change: the floating ones that belong to the model's saved state."""
    state = model.state_dict(keep_vars=True)
    return [b for name, b in model.named_buffers() if name in state and b.is_floating_point()]


def _decays(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay pulls towards zero."""
    return {
        f"{part_name}.{name}".removeprefix(".")
        for part_name, part in model.named_modules()
        for name, parameter in part.named_parameters(recurse=False)
        if name.endswith("weight")
        and parameter.dim() > 1
        and not isinstance(part, FusedEmbedding | SideEmbedding)
    }


def _embedded(model: nn.Module, config: OptimizerConfig) -> set[str]:
    """Find the names of the dense parameters that learn as embedding rows: of numbers, hour and weekday."""
    weeks = config.week_rate == "table"
    return {
        f"{part_name}.{name}".removeprefix(".")
        for part_name, part in model.named_modules()
        if isinstance(part, SideEmbedding) or (isinstance(part, TimeOfWeek) and (part.is_field or weeks))
        for name, _ in part.named_parameters(recurse=False)
    }


def _dense_optimizer(model: nn.Module, names: list[str], config: OptimizerConfig) -> DenseAdam:
    parameters = dict(model.named_parameters())
    pulled, embeds = _decays(model), _embedded(model, config)
    free = [name for name in names if name not in pulled and name not in embeds]
    groups = [
        ([parameters[name] for name in names if name in pulled], config.weight_decay),
        ([parameters[name] for name in free], 0.0),
        ([parameters[name] for name in names if name in embeds], 0.0),
    ]
    return DenseAdam(groups, config.betas, config.eps, decoupled=config.dense == "adamw")


def _find(tensors: dict[str, Tensor], name: str, live: Tensor) -> Tensor:
    if name not in tensors or tensors[name].shape != live.shape:
        found = f"has shape {tuple(tensors[name].shape)}" if name in tensors else "is missing"
        raise ConfigError(
            f"The saved optimizer does not fit: {name!r} {found}, expected {tuple(live.shape)}."
        )
    return tensors[name]


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    """Copy tensors pairwise; models without running statistics have none."""
    if to:
        torch._foreach_copy_(to, source)
