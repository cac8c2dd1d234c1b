"""Every model computes on a GPU what it computes on the CPU.

Sums run in another order on a GPU, so values agree only within a tolerance. `CLOSE` is about a thousand
roundings of float32, far below what a wrong mask or index would change. TF32 is off by torch's default.
"""

import copy
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import Batch, UserSide
from clickscale.models import CTRModel, model_names, score_in_chunks, stack
from clickscale.models._base import State
from tests.models.toy import toy_batch, toy_model

pytestmark = pytest.mark.gpu

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
# bfloat16 has 8 bits: the logits of a toy model, of size 1 to 10, move by a few of its roundings.
HALF = {"rtol": 0.1, "atol": 0.15}
# The long histories reach the implementations of attention that short ones do not.
SHAPES = pytest.mark.parametrize(("length", "candidates"), [(12, 4), (150, 40)], ids=["short", "long"])
EVERY = pytest.mark.parametrize("name", model_names())


def pair(name: str, length: int, gpu: torch.device) -> tuple[CTRModel, CTRModel]:
    """The same model on the CPU and on the GPU."""
    model = toy_model(name, length=length)
    return model, copy.deepcopy(model).to(gpu)


def assert_close(found: Tensor, expected: Tensor, tolerance: dict[str, float] = CLOSE) -> None:
    assert found.device.type != "cpu" or expected.device.type == "cpu"
    torch.testing.assert_close(found.cpu(), expected.cpu(), **tolerance)


def assert_on(state: State, device: torch.device) -> None:
    assert {tensor.device.type for tensor in state.tensors()} == {device.type}


@EVERY
@SHAPES
def test_scores_and_states_are_those_of_the_cpu(
    name: str, length: int, candidates: int, gpu: torch.device
) -> None:
    model, moved = pair(name, length, gpu)
    batch = toy_batch(length=length, candidates=candidates)
    with torch.inference_mode():
        state, there = model.encode_user(batch.user), moved.encode_user(batch.to(gpu).user)
        assert_on(there, gpu)
        for expected, found in zip(state.tensors(), there.tensors(), strict=True):
            assert_close(found, expected)
        logits = moved.score(there, batch.to(gpu).candidates)
        assert logits.device.type == gpu.type
        assert_close(logits, model.score(state, batch.candidates))


@EVERY
@SHAPES
def test_gradients_are_those_of_the_cpu(name: str, length: int, candidates: int, gpu: torch.device) -> None:
    batch = toy_batch(length=length, candidates=candidates)
    gradients = []
    for model, here in zip(pair(name, length, gpu), (batch, batch.to(gpu)), strict=True):
        logits = model.train()(here)
        known = here.label_mask.float()
        functional.binary_cross_entropy_with_logits(logits, here.labels, known, reduction="sum").backward()
        gradients.append({key: parameter.grad for key, parameter in model.named_parameters()})
    for key, expected in gradients[0].items():
        found = gradients[1][key]
        assert (found is None) == (expected is None), key
        if expected is not None:
            # A sum of many terms is off by the size of its terms, whatever remains of it.
            size = float(expected.to_dense().abs().max())
            assert_close(found.to_dense(), expected.to_dense(), {"rtol": 1e-3, "atol": 1e-3 * max(size, 1)})


@EVERY
def test_states_are_split_stacked_moved_and_extended(name: str, gpu: torch.device) -> None:
    model, moved = pair(name, 12, gpu)
    batch = toy_batch(full=True)
    there = batch.to(gpu)
    with torch.inference_mode():
        expected = model(batch)
        state = moved.encode_user(there.user)
        joined = stack(state.split())
        assert_on(joined, gpu)
        assert_close(moved.score(joined, there.candidates), expected)
        assert_close(score_in_chunks(moved, state, there.candidates, 3), expected)
        assert_close(moved.score(moved.scoring_state(state), there.candidates), expected)
        back = state.to("cpu").to(gpu)
        assert_close(moved.score(back, there.candidates), expected)
        if moved.causal:
            first = moved.appendable_state(moved.encode_user(columns(there.user, 0, 7)))
            longer = moved.extend_user(first, columns(there.user, 7, 12))
            assert_on(longer, gpu)
            assert_close(moved.score(longer, there.candidates), expected)


def columns(user: UserSide, start: int, stop: int) -> UserSide:
    """The user with some of its behaviors."""
    cut = {
        field.name: getattr(user, field.name)[:, start:stop]
        if field.name in ("items", "actions", "action_numbers", "times")
        else getattr(user, field.name)
        for field in fields(user)
    }
    return UserSide(**cut)


@EVERY
def test_kept_states_may_be_in_half_precision(name: str, gpu: torch.device) -> None:
    _, moved = pair(name, 12, gpu)
    there = toy_batch(full=True).to(gpu)
    with torch.inference_mode():
        state = moved.encode_user(there.user)
        kept = state.to("cpu", torch.float16).to(gpu, torch.float32)
        assert_close(moved.score(kept, there.candidates), moved.score(state, there.candidates), HALF)


@EVERY
@SHAPES
def test_bfloat16_is_close_to_float32(name: str, length: int, candidates: int, gpu: torch.device) -> None:
    _, moved = pair(name, length, gpu)
    there = toy_batch(length=length, candidates=candidates).to(gpu)
    with torch.autocast(gpu.type, torch.bfloat16):
        logits = moved.train()(there)
        loss = functional.binary_cross_entropy_with_logits(
            logits.float(), there.labels, there.label_mask.float()
        )
    loss.backward()
    for key, parameter in moved.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.to_dense().isfinite().all(), key
    with torch.inference_mode():
        exact = moved.eval()(there).float()
        with torch.autocast(gpu.type, torch.bfloat16):
            rough = moved(there).float()
    assert_close(rough, exact, HALF)


def test_a_batch_moves_whole(gpu: torch.device) -> None:
    moved: Batch = toy_batch().to(gpu)
    sides = (moved.user, moved.candidates)
    every = [getattr(side, field.name) for side in sides for field in fields(side)]
    assert {tensor.device.type for tensor in [*every, moved.labels, moved.label_mask, moved.rows]} == {
        gpu.type
    }
