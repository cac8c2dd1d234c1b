"""DIEN against its recurrences in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clickscale.errors import ConfigError
from tests.models.restated import Array, Case, Weights, gaps, shake_statistics, sigmoid
from tests.models.test_field_models import softmax
from tests.models.test_history_models import with_fields
from tests.models.toy import keep_behaviors, toy_batch, toy_model, with_candidates


def step(entered: Array, recurring: Array, hidden: Array, scale: float = 1.0) -> Array:
    """One step of a GRU whose update gate is the share of the new proposal."""
    reset, update, proposal = np.split(entered, 3)
    of_reset, of_update, of_proposal = np.split(recurring, 3)
    gate = scale * sigmoid(update + of_update)
    proposed = np.tanh(proposal + sigmoid(reset + of_reset) * of_proposal)
    return (1 - gate) * hidden + gate * proposed


def restated(w: Weights, case: Case) -> Array:
    """Interests, attention over them, and their evolution."""
    width = len(w["recur.bias"]) // 3
    hidden, interests = np.zeros(width), []
    for token in case.behaviors:
        entered = w["extractor.weight_ih_l0"] @ token + w["extractor.bias_ih_l0"]
        recurring = w["extractor.weight_hh_l0"] @ hidden + w["extractor.bias_hh_l0"]
        # torch's gate is the share of the old state, so its sign is turned here.
        entered[width : 2 * width] *= -1
        recurring[width : 2 * width] *= -1
        hidden = step(entered, recurring, hidden)
        interests.append(hidden)
    evolved = np.zeros(width)
    if interests:
        weights = softmax(np.array(interests) @ w["attention.weight"] @ case.candidate)
        for interest, weight in zip(interests, weights, strict=True):
            entered = w["enter.weight"] @ interest + w["enter.bias"]
            evolved = step(entered, w["recur.weight"] @ evolved + w["recur.bias"], evolved, weight)
    return with_fields(case, evolved, case.candidate)


def test_against_numpy() -> None:
    model, batch = toy_model("dien").double(), toy_batch()
    shake_statistics(model)
    assert gaps(model, batch, restated)[0] <= 1e-9
    inner, outer = gaps(toy_model("dien", "hidden=5").double(), batch, restated)
    assert inner <= 1e-9
    assert outer <= 1e-6


def test_what_is_not_visible_leaves_the_interest_as_it_was() -> None:
    model, batch = toy_model("dien"), toy_batch(full=True)
    few = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 0))
    with torch.no_grad():
        state = model.encode_user(batch.user)
        items = model.inputs.candidate_items(batch.candidates)  # type: ignore[union-attr, operator]
        assert not model._evolved(state, items, few.candidates).any()  # type: ignore[operator]


def test_the_loss_of_the_next_behavior_against_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = toy_model("dien", "auxiliary=0.5").double().train(), toy_batch()
    monkeypatch.setattr(torch, "randint", lambda high, size, device: torch.arange(*size) % high)
    with torch.no_grad():
        state = model.encode_user(batch.user)
        tokens = model.inputs.behaviors(batch.user).numpy()  # type: ignore[union-attr, operator]
        found = float(model.auxiliary_loss(state, batch))  # type: ignore[arg-type]
    present = batch.user.mask.numpy()
    every = [tokens[row, column] for row, column in zip(*present.nonzero(), strict=True)]
    right, wrong = [], []
    for row in range(len(present)):
        for column in range(1, present.shape[1]):
            if present[row, column] and present[row, column - 1]:
                interest = state.interests[row, column - 1].numpy()
                other = every[len(right) % len(every)]
                right.append(np.log(sigmoid(interest @ tokens[row, column])))
                wrong.append(np.log(1 - sigmoid(interest @ other)))
    assert found == pytest.approx(-0.5 * (np.mean(right) + np.mean(wrong)), rel=1e-6)


def test_without_two_behaviors_in_a_row_nothing_follows() -> None:
    model, batch = toy_model("dien", "auxiliary=1"), toy_batch(full=True)
    one = replace(batch, user=keep_behaviors(batch.user, slice(0, 1)))
    assert model.auxiliary_loss(model.encode_user(one.user), one) is None


def test_interests_and_behaviors_of_different_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"auxiliary=1\.0 compares interests with behaviors"):
        toy_model("dien", "auxiliary=1", "hidden=5")
