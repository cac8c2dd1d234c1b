"""Blocks that are computed again in the backward pass: the same numbers, less kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from clickscale.batch import Batch
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.layers.recompute import recompute_blocks
from clickscale.models import CTRModel, build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("recompute")
    source = tiny_source(statistics=STATISTICS, users=3, behaviors=500, impressions=400)
    return open_dataset(tiny_dataset(folder, source))


def made(log: Dataset, name: str, *changes: str) -> CTRModel[Any]:
    torch.manual_seed(0)
    return build_model(name, log.features, log.item_columns(), length=150, overrides=changes)


def batches(log: Dataset) -> list[Batch]:
    return list(Loader(log, "train", LoaderConfig(length=150, batch_size=120, prefetch=0)).batches())


def trained(model: nn.Module, made: list[Batch]) -> list[Tensor]:
    """Losses, gradients, weights and running statistics of the steps."""
    objective = ClickLoss(model, ("click",))
    optimizer = build_optimizer(model, OptimizerConfig(), len(made))
    found = []
    for step, batch in enumerate(made):
        losses = objective(batch)
        losses[LOSS].backward()
        gradients = [x.grad for x in model.parameters() if x.grad is not None]
        found += [losses[LOSS].detach(), *(x.to_dense() if x.is_sparse else x.clone() for x in gradients)]
        optimizer.step(losses[LOSS], step)
    return found + [x.clone() for x in model.state_dict().values()]


VARIANTS = [("suan",), ("suan", "block.residual=prenorm"), ("suan", "block.fusion=sum"), ("lightsuan", "r=4")]


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_training_is_the_same_bit_for_bit(log: Dataset, variant: tuple[str, ...]) -> None:
    plain, again = made(log, *variant), made(log, *variant)
    assert recompute_blocks(again) == 1
    given = batches(log)[:3]
    assert max(batch.user.items.shape[1] for batch in given) >= 150
    pairs = list(zip(trained(plain, given), trained(again, given), strict=True))
    assert len(pairs) > 50
    assert all(torch.equal(a, b) for a, b in pairs)


def kept(model: nn.Module, batch: Batch) -> int:
    """Bytes of distinct tensors that wait for the backward pass."""
    storages = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss = ClickLoss(model, ("click",))(batch)[LOSS]
    size = sum(x.untyped_storage().nbytes() for x in storages.values())
    loss.backward()
    return size


def test_less_waits_for_the_backward_pass(log: Dataset) -> None:
    batch = batches(log)[0]
    sizes = []
    for again in (False, True):
        model = made(log, "suan", "blocks=6")
        if again:
            recompute_blocks(model)
        sizes.append(kept(model, batch))
    assert sizes[1] < 0.5 * sizes[0]


def test_nothing_is_recomputed_where_no_gradient_is_asked_for(log: Dataset) -> None:
    model = made(log, "suan").eval()
    batch = batches(log)[0]
    with torch.no_grad():
        before = model(batch)
        recompute_blocks(model)
        assert torch.equal(model(batch), before)


def test_a_model_without_a_stack_has_nothing_to_recompute(log: Dataset) -> None:
    assert recompute_blocks(made(log, "din")) == 0
