"""OneTrans against its formula in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch

from clickscale.models import CTRModel
from tests.models.restated import Array, Case, Weights, case_of, head_input, shake_statistics, weights_of
from tests.models.test_field_models import gelu, softmax
from tests.models.test_history_models import heads_of, whole_sequence
from tests.models.test_longer import rms
from tests.models.toy import toy_batch, toy_model, with_candidates


def linear(w: Weights, name: str, x: Array) -> Array:
    """``x W^T + b``."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def per_token(w: Weights, name: str, x: Array) -> Array:
    """Row n by the weights of token n."""
    return np.einsum("nd,ndw->nw", x, w[f"{name}.weight"]) + w[f"{name}.bias"][:, 0]


def restated(model: CTRModel[Any], w: Weights, case: Case) -> Array:
    """Head input: the tokens of the fields after the last layer."""
    config = model.config
    rows, _ = whole_sequence(w, case)
    s = linear(w, "behavior", rows[:-1])
    user = linear(w, "user", case.profile.ravel())
    own = linear(w, "candidate", np.concatenate([rows[-1], case.context]))
    ns = np.concatenate([user, own]).reshape(6, -1)
    count = len(s)
    for block in range(2):
        window = max(12 - block * 12 // 2, 1) if config.pyramid else 1000  # type: ignore[union-attr]
        name = f"own.{block}"
        qkv = per_token(w, f"{name}.qkv", rms(w, f"{name}.norms.0", ns))
        normed = rms(w, f"shared.{block}.norm", s)
        key, value = np.split(linear(w, f"shared.{block}.key_value", normed), 2, axis=1)
        query, own_key, own_value = np.split(qkv, 3, axis=1)
        keys = heads_of(np.concatenate([key, own_key]), 2)
        values = heads_of(np.concatenate([value, own_value]), 2)
        scores = heads_of(query, 2) @ keys.transpose(0, 2, 1) / np.sqrt(24)
        for i in range(6):
            scores[:, i, count + i + 1 :] = -np.inf
            scores[:, i, : max(count - window, 0)] = -np.inf
        seen = (softmax(scores) @ values).transpose(1, 0, 2).reshape(ns.shape)
        ns = ns + per_token(w, f"{name}.out", seen)
        hidden = gelu(per_token(w, f"{name}.enter", rms(w, f"{name}.norms.1", ns)))
        ns = ns + per_token(w, f"{name}.leave", hidden)
        if block == 0 and count:
            rest = "shared.0.rest"
            scores = heads_of(linear(w, f"{rest}.query", normed), 2) @ heads_of(key, 2).transpose(0, 2, 1)
            order = np.arange(count)
            distance = order[:, None] - order
            scores = np.where((distance >= 0) & (distance < window), scores / np.sqrt(24), -np.inf)
            seen = (softmax(scores) @ heads_of(value, 2)).transpose(1, 0, 2).reshape(s.shape)
            s = s + linear(w, f"{rest}.out", seen)
            s = s + linear(w, f"{rest}.leave", gelu(linear(w, f"{rest}.enter", rms(w, f"{rest}.norm", s))))
    return rms(w, "last", ns).ravel()


@pytest.mark.parametrize("pyramid", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_against_numpy(pyramid: bool, full: bool) -> None:
    model = toy_model("onetrans", f"pyramid={pyramid}".lower()).double()
    shake_statistics(model)
    batch, w = toy_batch(full=full), weights_of(model)
    found, _ = head_input(model, batch)
    for row, place in batch.candidates.mask.nonzero().tolist():
        expected = restated(model, w, case_of(w, batch, row, place))
        np.testing.assert_allclose(found[row, place].numpy(), expected, atol=1e-9)


def test_parts_of_a_timeline_under_a_pyramid() -> None:
    """Windows count from each behavior, so a candidate in the middle needs nothing computed again."""
    model, batch = toy_model("onetrans", "pyramid=true").double(), toy_batch(full=True)
    shown = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 7))
    w = weights_of(model)
    found, _ = head_input(model, shown)
    for row, place in shown.candidates.mask.nonzero().tolist():
        expected = restated(model, w, case_of(w, shown, row, place))
        np.testing.assert_allclose(found[row, place].numpy(), expected, atol=1e-9)


def test_behaviors_need_no_more_than_keys_in_the_last_layer() -> None:
    names = weights_of(toy_model("onetrans"))
    assert "shared.0.rest.query.weight" in names
    assert "shared.1.rest.query.weight" not in names
