"""A student and a teacher that are small, and what is asked of them again and again."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.training.distill import distillation
from clickscale.training.distill.distill_config import DistillConfig, ModelChoice
from clickscale.training.objectives import OnlineDistillation
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.passes.epochs import Epochs
from tests.training.compared import last

SMALL = ("head.hidden=[8]",)
SLOW = OptimizerConfig(learning_rate=0.003, table_learning_rate=0.003, table_l2=0.0)


def config_of(data: Path, *changes: str) -> DistillConfig:
    config = DistillConfig(
        data=str(data),
        student=ModelChoice(model="din", grade="size-1", length=4, model_options=SMALL, optimizer=SLOW),
        teacher=ModelChoice(model="suan", grade="size-1", length=8, model_options=SMALL, optimizer=SLOW),
        batch_size=12,
        grouping="timeline",
        window=8,
        epochs=Epochs(count=1),
        early_stopping=False,
        labels=("click", "like"),
        ramp=0.0,
        teacher_first=False,
    )
    return override(config, ["log_every=3", "threads=1", *changes])


def weights(run: Path) -> dict[str, Tensor]:
    """Weights of a run of one model."""
    return {k: v for k, v in last(run).tensors.items() if k.startswith("model.")}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distill_in_two_calls(config: DistillConfig, out: Path, at: int = 5) -> None:
    """Distill until a signal comes in the ``at``-th batch, then to the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(at))
        assert not distillation.distill(config, out).finished
    assert distillation.distill(config, out).finished


def stopping(at: int, number: int = signal.SIGTERM) -> type[OnlineDistillation]:
    """An objective during whose ``at``-th batch a signal comes."""

    class Stopping(OnlineDistillation):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += self.training
            if self.training and self.batches == at:
                signal.raise_signal(number)
            return super().forward(batch)

    return Stopping
