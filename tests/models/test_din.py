"""DIN against its formula, with the first attention layer in one piece."""

from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch
from clickscale.models import CTRModel
from tests.models.restated import Array, Case, Weights, case_of, dice, gaps, shake_statistics, weights_of
from tests.models.toy import pick_rows, toy_batch, toy_model, with_candidates


def pairs(w: Weights, case: Case) -> Array:
    """(n, hidden) first layer of the attention network for each behavior: W [q, k, q - k, q * k] + b."""
    query = np.pad(case.candidate, (0, case.behaviors.shape[1] - len(case.candidate)))
    names = ("query", "key", "gap", "product")
    weight = np.concatenate([w[f"activation.{name}_weight"] for name in names], axis=1)
    entered = [np.concatenate([query, key, query - key, query * key]) for key in case.behaviors]
    return np.array([weight @ x + w["activation.first_bias"] for x in entered]).reshape(-1, len(weight))


def interest(w: Weights, case: Case, mean: Array, variance: Array) -> Array:
    """Head input, given the statistics of Dice inside the attention."""
    gated = dice(pairs(w, case), mean, variance, w["activation.dice.alpha"])
    weights = gated @ w["activation.second.weight"][0] + w["activation.second.bias"]
    return np.concatenate([weights @ case.behaviors, case.candidate, case.profile.ravel(), case.context])


def restated(w: Weights, case: Case) -> Array:
    """Head input in evaluation mode."""
    variance = (
        w["activation.dice.variance"]
        if "activation.dice.variance" in w
        else w["activation.dice.rate"] ** -2 - 1e-8
    )
    return interest(w, case, w["activation.dice.center"], variance)


def statistics(model: CTRModel[Any], batch: Batch) -> tuple[Array, Array]:
    """Mean and variance of the first layer over all real pairs of a batch."""
    w = weights_of(model)
    every = [
        pairs(w, case_of(w, batch, row, place)) for row, place in batch.candidates.mask.nonzero().tolist()
    ]
    joined = np.concatenate(every)
    return joined.mean(axis=0), joined.var(axis=0)


PAPER = ("dice=batch", "head.norm=batch", "head.activation=batch_dice")


def shaken(*options: str) -> CTRModel:
    """A model whose gates are not those of a new one."""
    model = toy_model("din", *options)
    shake_statistics(model)
    if not options:
        with torch.no_grad():
            model.activation.dice.center.normal_()
            model.activation.dice.rate.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("options", [(), PAPER], ids=["default", "paper"])
@pytest.mark.parametrize("full", [False, True])
def test_against_numpy(full: bool, options: tuple[str, ...]) -> None:
    model, batch = shaken(*options), toy_batch(full=full)
    assert max(gaps(model, batch, restated)) <= 1e-5
    inner, outer = gaps(model.double(), batch, restated)
    assert inner <= 1e-12
    assert outer <= 1e-6  # logits are 32-bit


def test_windows_of_a_timeline_against_numpy() -> None:
    model, batch = shaken().double(), toy_batch(full=True)
    windowed = with_candidates(
        batch, oldest=torch.tensor([[0, 2, 5, 11]] * 5), visible=torch.tensor([[12, 9, 5, 12]] * 5)
    )
    assert gaps(model, windowed, restated)[0] <= 1e-12


def test_batch_statistics_are_those_of_the_real_pairs() -> None:
    """Neither padded behaviors nor padded candidates count; one mean and one variance for all pairs."""
    model, batch = toy_model("din", *PAPER).train(), toy_batch()
    assert not batch.candidates.mask.all()
    shown = torch.where(batch.candidates.mask, batch.candidates.visible, 0)  # as loaders make padding
    batch = with_candidates(batch, visible=shown)
    assert not batch.user.mask.all()
    for key, value in (
        ("activation.dice.center", 2.0),
        ("activation.dice.variance", 2.0),
        ("activation.dice.batches", 3.0),
    ):
        model.get_buffer(key).fill_(value)
    mean, variance = statistics(model, batch)
    w = weights_of(model)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model(batch)
    for row, place in batch.candidates.mask.nonzero().tolist():
        expected = interest(w, case_of(w, batch, row, place), mean, variance)
        np.testing.assert_allclose(seen[0][row, place].numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(
        model.get_buffer("activation.dice.center").numpy(), 0.75 * 2 + 0.25 * mean, atol=1e-5
    )
    np.testing.assert_allclose(
        model.get_buffer("activation.dice.variance").numpy(), 0.75 * 2 + 0.25 * variance, atol=1e-5
    )


def test_training_and_evaluation_score_alike_by_default() -> None:
    model, batch = shaken(), toy_batch()
    torch.testing.assert_close(model.train()(batch), model.eval()(batch))


def test_a_batch_without_any_behavior_trains() -> None:
    model, batch = toy_model("din").train(), pick_rows(toy_batch(), torch.tensor([0, 0]))
    assert not batch.user.mask.any()
    loss = model(batch).sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.to_dense().isfinite().all() for p in model.parameters())
    assert all(buffer.isfinite().all() for name, buffer in model.named_buffers() if name.startswith("dice"))


def test_the_strength_of_an_interest_survives() -> None:
    """Twice the same behaviors are twice the interest: the weights are no softmax."""
    model = toy_model("din").double()
    batch = toy_batch(full=True)
    w = weights_of(model)
    case = case_of(w, batch, 0, 0)
    double = Case(
        np.concatenate([case.behaviors] * 2),
        np.concatenate([case.times] * 2),
        case.candidate,
        case.now,
        case.profile,
        case.context,
    )
    width = case.behaviors.shape[1]
    np.testing.assert_allclose(restated(w, double)[:width], 2 * restated(w, case)[:width], rtol=1e-12)
    user = batch.user
    long = type(user)(
        user.profile,
        user.profile_numbers,
        *(torch.cat([x, x], dim=1) for x in (user.items, user.actions, user.action_numbers, user.times)),
    )
    twice = with_candidates(
        Batch(long, batch.candidates, batch.labels, batch.label_mask, batch.rows),
        visible=torch.full_like(batch.candidates.visible, 24),
    )
    seen: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(batch), model(twice)
    torch.testing.assert_close(seen[1][..., :width], 2 * seen[0][..., :width], rtol=1e-9, atol=1e-12)
