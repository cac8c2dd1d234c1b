"""OneTrans against its formula in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.models import CTRModel, build_model
from tests.models.restated import (
    COLUMNS,
    Array,
    Case,
    Weights,
    case_of,
    head_input,
    shake_statistics,
    weights_of,
)
from tests.models.test_field_models import gelu, softmax
from tests.models.test_history_models import heads_of, weighted, whole_sequence
from tests.models.test_longer import rms
from tests.models.toy import features, item_columns, toy_batch, toy_model, with_candidates


def linear(w: Weights, name: str, x: Array) -> Array:
    """``x W^T + b``."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def per_token(w: Weights, name: str, x: Array) -> Array:
    """Row n by the weights of token n."""
    return np.einsum("nd,ndw->nw", x, w[f"{name}.weight"]) + w[f"{name}.bias"][:, 0]


def retrieved(batch: Batch, row: int, place: int, kept: int) -> list[int]:
    """Places, among the visible behaviors, of those nearest in content; of equal ones the newest."""
    vectors = np.asarray(COLUMNS["field.text"], np.float64)
    grid = np.rint(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * 4000)
    own = grid[int(batch.candidates.items[row, place])]
    seen = slice(int(batch.candidates.oldest[row, place]), int(batch.candidates.visible[row, place]))
    items = [item for item in batch.user.items[row, seen].tolist() if item]
    order = sorted(range(len(items)), key=lambda n: (grid[items[n]] @ own, n), reverse=True)
    return sorted(order[:kept])


def attended(query: Array, keys: Array, values: Array, hidden: Array) -> Array:
    """Rows (n, D) of what each query reads with two heads; ``hidden`` (n, N) pairs are masked."""
    scores = heads_of(query, 2) @ heads_of(keys, 2).transpose(0, 2, 1) / np.sqrt(query.shape[1] // 2)
    weights = softmax(np.where(hidden, -np.inf, scores))
    return (weights @ heads_of(values, 2)).transpose(1, 0, 2).reshape(query.shape)


def later(rows: int, columns: int) -> Array:
    """True where the column is behind the row, both counted from the end."""
    return np.arange(columns) > np.arange(rows)[:, None] + columns - rows


def restated(model: CTRModel[Any], w: Weights, case: Case, found: list[int] | None = None) -> Array:
    """Head input: the tokens of the fields after the last layer."""
    config: Any = model.config
    rows, _ = whole_sequence(w, case)
    s = linear(w, "behavior", rows[:-1])
    made = [linear(w, "user", case.profile.ravel())]
    picked = rows[:-1][found] if found else np.zeros((0, rows.shape[1]))
    if config.retrieved == "mean":
        made.append(linear(w, "pooled", picked.sum(axis=0) / max(len(picked), 1)))
    elif config.retrieved == "din":
        made.append(linear(w, "pooled", weighted(w, "activation", rows[-1], picked)))
    made.append(linear(w, "candidate", np.concatenate([rows[-1], case.context])))
    ns = np.concatenate(made).reshape(-1, 48)
    c = linear(w, "behavior", picked) if config.retrieved == "all" else s[:0]
    for block in range(2):
        window = max(12 - block * 12 // 2, 1) if config.pyramid else 1000
        name = f"own.{block}"
        order = np.arange(len(s))
        of_s = (order > order[:, None]) | (order <= order[:, None] - window)
        near = np.tile(order < len(s) - window, (len(ns), 1))  # too old for candidate and retrieved ones

        def keys_of(x: Array, block: int = block) -> tuple[Array, Array]:
            normed = rms(w, f"shared.{block}.norm", x)
            key, value = np.split(linear(w, f"shared.{block}.key_value", normed), 2, axis=1)
            return key, value

        (key, value), (c_key, c_value) = keys_of(s), keys_of(c)
        query, own_key, own_value = np.split(
            per_token(w, f"{name}.qkv", rms(w, f"{name}.norms.0", ns)), 3, axis=1
        )
        hidden = [near, np.zeros((len(ns), len(c)), bool), later(len(ns), len(ns))]
        keys, values = np.concatenate([key, c_key, own_key]), np.concatenate([value, c_value, own_value])
        ns = ns + per_token(w, f"{name}.out", attended(query, keys, values, np.concatenate(hidden, axis=1)))
        inner = gelu(per_token(w, f"{name}.enter", rms(w, f"{name}.norms.1", ns)))
        ns = ns + per_token(w, f"{name}.leave", inner)
        if block == 0:
            rest = "shared.0.rest"

            def finished(x: Array, keys: Array, values: Array, hidden: Array, rest: str = rest) -> Array:
                if not len(x):
                    return x
                query = linear(w, f"{rest}.query", rms(w, "shared.0.norm", x))
                x = x + linear(w, f"{rest}.out", attended(query, keys, values, hidden))
                return x + linear(
                    w, f"{rest}.leave", gelu(linear(w, f"{rest}.enter", rms(w, f"{rest}.norm", x)))
                )

            hidden_c = np.concatenate([near[: len(c)], later(len(c), len(c))], axis=1) if len(c) else near[:0]
            c = finished(c, np.concatenate([key, c_key]), np.concatenate([value, c_value]), hidden_c)
            s = finished(s, key, value, of_s)
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


@pytest.mark.parametrize("how", ["mean", "din", "all"])
@pytest.mark.parametrize("pyramid", [False, True])
def test_retrieved_behaviors_against_numpy(how: str, pyramid: bool) -> None:
    options = f"retrieved={how}", "kept=5", "search=content", f"pyramid={pyramid}".lower()
    model = toy_model("onetrans", *options).double()
    shake_statistics(model)
    for batch in (toy_batch(), toy_batch(full=True)):
        w = weights_of(model)
        found, _ = head_input(model, batch)
        for row, place in batch.candidates.mask.nonzero().tolist():
            places = retrieved(batch, row, place, 5)
            expected = restated(model, w, case_of(w, batch, row, place), places)
            np.testing.assert_allclose(found[row, place].numpy(), expected, atol=1e-9)


def test_the_search_names_what_the_log_lacks() -> None:
    made = features()
    item = tuple(feature for feature in made.item if feature.kind != "content")
    bare = Features(made.profile, made.behavior, item, made.context, made.items, made.labels)
    with pytest.raises(ConfigError, match="search=content needs content vectors of items"):
        build_model("onetrans", bare, item_columns(), overrides=["retrieved=all", "search=content"])


def test_behaviors_need_no_more_than_keys_in_the_last_layer() -> None:
    names = weights_of(toy_model("onetrans"))
    assert "shared.0.rest.query.weight" in names
    assert "shared.1.rest.query.weight" not in names
