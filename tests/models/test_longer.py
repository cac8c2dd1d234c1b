"""LONGER against its formula in NumPy, with the whole sequence as one row of tokens."""

import numpy as np
import pytest
import torch

from clickscale.errors import ConfigError
from tests.models.restated import Array, Case, Weights, gaps, shake_statistics
from tests.models.test_field_models import gelu, softmax
from tests.models.test_history_models import gaps_of, heads_of, with_fields
from tests.models.toy import toy_batch, toy_model, with_candidates


def rms(w: Weights, name: str, x: Array) -> Array:
    """RMSNorm with eps outside the root."""
    return w[f"{name}.gain"] * x / (np.sqrt((x**2).mean(axis=-1, keepdims=True)) + 1e-6)


def within(w: Weights, x: Array) -> Array:
    """Behaviors (n, W) of one group after the block that lets all see all, with one head."""
    if not len(x):
        return x
    query, key, value = np.split(rms(w, "inner.norms.0", x) @ w["inner.qkv.weight"].T, 3, axis=1)
    seen = softmax(query @ key.T / np.sqrt(x.shape[1])) @ value
    x = x + seen @ w["inner.out.weight"].T + w["inner.out.bias"]
    hidden = gelu(rms(w, "inner.norms.1", x) @ w["inner.enter.weight"].T + w["inner.enter.bias"])
    return x + hidden @ w["inner.leave.weight"].T + w["inner.leave.bias"]


def restated(merge: int, recent: int) -> object:
    """One causal sequence: merged behaviors, profile, learned token, candidate."""

    def run(w: Weights, case: Case) -> Array:
        groups = len(w["position"])
        tokens = np.concatenate([case.behaviors, gaps_of(w, "gap.weight", case)], axis=1)
        filled = np.zeros((groups * merge, tokens.shape[1]))
        held = np.zeros(groups * merge, bool)
        if len(tokens):
            filled[-len(tokens) :], held[-len(tokens) :] = tokens, True
        for group in range(groups) if "inner.qkv.weight" in w else ():
            own_group = np.arange(groups * merge) // merge == group
            filled[own_group & held] = within(w, filled[own_group & held])
        merged = filled.reshape(groups, -1) @ w["merged.weight"].T + w["merged.bias"] + w["position"]
        there = held.reshape(groups, merge).any(axis=1)
        user = w["user.weight"] @ case.profile.ravel() + w["user.bias"]
        known = np.concatenate([case.candidate, case.context])
        own = w["candidate.weight"] @ known + w["candidate.bias"]
        x = np.concatenate([merged[there], user[None], w["learned"][None], own[None]])
        for block in range(2):
            name = f"blocks.{block}"
            parts = np.split(rms(w, f"{name}.norms.0", x) @ w[f"{name}.qkv.weight"].T, 3, axis=1)
            query, key, value = (heads_of(part, 2) for part in parts)
            scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
            order = np.arange(len(x))
            scores = np.where(order <= order[:, None], scores, -np.inf)
            seen = (softmax(scores) @ value).transpose(1, 0, 2).reshape(x.shape)
            x = x + seen @ w[f"{name}.out.weight"].T + w[f"{name}.out.bias"]
            hidden = rms(w, f"{name}.norms.1", x) @ w[f"{name}.enter.weight"].T + w[f"{name}.enter.bias"]
            x = x + gelu(hidden) @ w[f"{name}.leave.weight"].T + w[f"{name}.leave.bias"]
            if block == 0:  # those that did not ask in the first layer take no part in the next
                x = x[-(min(recent, int(there.sum())) + 3) :]
        return with_fields(case, rms(w, "last", x)[-1])

    return run


@pytest.mark.parametrize(("merge", "recent"), [(4, 16), (5, 2), (1, 4)])
@pytest.mark.parametrize("full", [False, True])
def test_against_numpy(merge: int, recent: int, full: bool) -> None:
    model = toy_model("longer", f"merge={merge}", f"recent={recent}").double()
    shake_statistics(model)
    assert gaps(model, toy_batch(full=full), restated(merge, recent))[0] <= 1e-9  # type: ignore[arg-type]


@pytest.mark.parametrize("full", [False, True])
def test_behaviors_of_a_group_see_each_other_first_against_numpy(full: bool) -> None:
    model = toy_model("longer", "inner=true", "merge=5").double()
    shake_statistics(model)
    assert gaps(model, toy_batch(full=full), restated(5, 16))[0] <= 1e-9  # type: ignore[arg-type]


def test_groups_count_from_the_newest_behavior() -> None:
    """Candidates that see different behaviors of one timeline merge them differently, and exactly."""
    model, batch = toy_model("longer").double(), toy_batch(full=True)
    windowed = with_candidates(
        batch, oldest=torch.tensor([[0, 2, 5, 11]] * 5), visible=torch.tensor([[12, 9, 5, 12]] * 5)
    )
    assert gaps(model, windowed, restated(4, 16))[0] <= 1e-9  # type: ignore[arg-type]


def test_a_width_that_heads_do_not_divide_is_named() -> None:
    with pytest.raises(ConfigError, match="width is 64, which heads=3 does not divide"):
        toy_model("longer", "heads=3")
