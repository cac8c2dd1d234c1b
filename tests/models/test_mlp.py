"""The plain tower against its formula."""

import numpy as np
import pytest
import torch

from clickscale.models import presets
from tests.models.restated import Array, Case, Weights, gaps, shake_statistics
from tests.models.toy import toy_batch, toy_model, with_candidates


def restated(w: Weights, case: Case) -> Array:
    """Head input: mean of the visible behaviors, candidate, profile, context."""
    total = case.behaviors.sum(axis=0)
    mean = total / max(len(case.behaviors), 1)
    return np.concatenate([mean, case.candidate, case.profile.ravel(), case.context])


@pytest.mark.parametrize("full", [False, True])
def test_against_numpy(full: bool) -> None:
    model, batch = toy_model("mlp"), toy_batch(full=full)
    shake_statistics(model)
    assert max(gaps(model, batch, restated)) <= 1e-5
    inner, outer = gaps(model.double(), batch, restated)
    assert inner <= 1e-12
    assert outer <= 1e-6  # logits are 32-bit


@pytest.mark.parametrize("options", [("head.norm=none", "head.activation=relu"), ("head.logit_norm=true",)])
def test_heads_against_numpy(options: tuple[str, ...]) -> None:
    model = toy_model("mlp", *options)
    shake_statistics(model)
    assert max(gaps(model, toy_batch(), restated)) <= 1e-5


def test_candidates_average_only_what_they_see() -> None:
    model, batch = toy_model("mlp").double(), toy_batch(full=True)
    windowed = with_candidates(
        batch,
        oldest=torch.tensor([[0, 2, 5, 11]] * 5),
        visible=torch.tensor([[12, 9, 5, 12]] * 5),
    )
    assert gaps(model, windowed, restated)[0] <= 1e-12


def test_the_order_of_behaviors_does_not_matter() -> None:
    model, batch = toy_model("mlp").double(), toy_batch(full=True)
    user = batch.user
    turned = type(user)(
        user.profile,
        user.profile_numbers,
        *(part.flip(1) for part in (user.items, user.actions, user.action_numbers, user.times)),
    )
    with torch.no_grad():
        first = model(batch)
        second = model(type(batch)(turned, batch.candidates, batch.labels, batch.label_mask, batch.rows))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_grades_widen_the_embedding() -> None:
    assert [preset.d for preset in presets("mlp").values()][:5] == [8, 8, 16, 32, 144]  # type: ignore[attr-defined]
