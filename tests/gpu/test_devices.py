"""No model and no optimizer mixes devices: checked on a pretended device, so that it needs no GPU."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor

from clickscale.config_text import override
from clickscale.models import model_names, stack
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from tests.everyday import sampled
from tests.gpu.pretend import DEVICE, There, move, pretending
from tests.gpu.test_models import columns
from tests.models.toy import toy_batch, toy_model

SIZES = {"short": (12, 4), "long": (150, 40)}  # behaviors and candidates


def values(tensor: Tensor) -> Tensor:
    """Values of a tensor that has to be on the pretended device."""
    assert isinstance(tensor, There)
    return tensor.inner


@pytest.mark.parametrize("name", sampled(model_names()))
@pytest.mark.parametrize(("length", "candidates"), SIZES.values(), ids=SIZES)
def test_no_score_mixes_devices(name: str, length: int, candidates: int) -> None:
    model = toy_model(name, length=length)
    batch = toy_batch(length=length, candidates=candidates, full=True)
    with torch.no_grad():
        expected = model(batch)
        with pretending():
            moved, there = move(copy.deepcopy(model)), batch.to(DEVICE)
            state = moved.encode_user(there.user)
            assert {tensor.device for tensor in state.tensors()} == {DEVICE}
            logits = moved.score(stack(state.split()), there.candidates)
            if moved.causal:
                first = moved.appendable_state(moved.encode_user(columns(there.user, 0, 7)))
                longer = moved.extend_user(first, columns(there.user, 7, length))
                extended = moved.score(longer, there.candidates)
    torch.testing.assert_close(values(logits), expected, rtol=0, atol=1e-5)
    if model.causal:
        torch.testing.assert_close(values(extended), expected, rtol=0, atol=1e-4)


# Every model with the longer path, one with the other optimizer.
STEPS = [*product(model_names(), ["long"], ["adam"]), ("suan", "short", "adagrad")]


@pytest.mark.parametrize(
    ("name", "size", "table"),
    [
        *sampled(STEPS),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in product(model_names(), SIZES, ("adam", "adagrad"))
            if each not in STEPS
        ),
    ],
)
def test_no_step_of_training_mixes_devices(name: str, size: str, table: str) -> None:
    length, candidates = SIZES[size]
    config = override(OptimizerConfig(), [f"table={table}"])
    batch = toy_batch(length=length, candidates=candidates)
    model = toy_model(name, length=length)
    with pretending():
        moved, there = move(copy.deepcopy(model)), batch.to(DEVICE)
        objective, optimizer = ClickLoss(moved, ("click",)), build_optimizer(moved, config, 10)
        for step in range(2):
            losses = objective.train()(there)
            losses[LOSS].backward()
            assert not optimizer.step(losses[LOSS], step).skipped
            # As a checkpoint does it: tensors are read on the CPU.
            stored = {key: tensor.to("cpu") for key, tensor in optimizer.state_dict().items()}
            optimizer = build_optimizer(moved, config, 10)
            optimizer.load_state_dict(stored)
    new = dict(moved.named_parameters())
    changed = [key for key, old in model.named_parameters() if not torch.equal(values(new[key].data), old)]
    assert len(changed) > 5


# --- mutants: the pretended device refuses what a GPU refuses


def test_tensors_of_two_devices_are_refused() -> None:
    with pretending():
        there = torch.ones(3).to(DEVICE)
        assert (there + 1).device == DEVICE
        assert (there + torch.tensor(1.0)).device == DEVICE
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="two devices"):
            torch.where(there > 0, there, torch.zeros(3))


def test_no_array_is_made_without_moving_the_tensor_back() -> None:
    with pretending():
        there = torch.arange(3, device=DEVICE)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert there.cpu().numpy().tolist() == [0, 1, 2]
        assert int(there.sum()) == 3
