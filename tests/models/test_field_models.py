"""Models of field tokens against their formulas in NumPy, with the marks of faults that others have made."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.features import Feature, Features
from clickscale.models import CTRModel, build_model
from tests.everyday import thinned
from tests.models.restated import (
    Array,
    Case,
    Weights,
    case_of,
    dice,
    head_input,
    shake_statistics,
    tower,
    weights_of,
)
from tests.models.toy import features, item_columns, toy_batch, toy_model

Restated = Callable[[CTRModel[Any], Weights, Array], tuple[Array, Array]]


def pooled(w: Weights, case: Case, sequence: str) -> Array:
    """(D,) the history as one behavior."""
    if sequence == "mean":
        return case.behaviors.sum(axis=0) / max(len(case.behaviors), 1)
    parts = ("query", "key", "gap", "product")
    weight = np.concatenate([w[f"inputs.activation.{part}_weight"] for part in parts], axis=1)
    query = np.pad(case.candidate, (0, case.behaviors.shape[1] - len(case.candidate)))
    total = np.zeros(case.behaviors.shape[1])
    dices = {part: w[f"inputs.activation.dice.{part}"] for part in ("alpha", "center", "rate")}
    for key in case.behaviors:
        units = weight @ np.concatenate([query, key, query - key, query * key])
        units = units + w["inputs.activation.first_bias"]
        bent = dice(units, dices["center"], dices["rate"] ** -2 - 1e-8, dices["alpha"])
        total += key * (w["inputs.activation.second.weight"][0] @ bent + w["inputs.activation.second.bias"])
    return total


def tokens_of(w: Weights, case: Case, sequence: str) -> Array:
    """(n, d) all fields of one impression."""
    parts = (case.profile.ravel(), case.candidate, case.context, pooled(w, case, sequence))
    return np.concatenate(parts).reshape(-1, case.profile.shape[1])


def softmax(x: Array) -> Array:
    """Over the last axis."""
    grown = np.exp(x - x.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def layer_norm(w: Weights, name: str, x: Array) -> Array:
    """Over the last axis, with gain and shift."""
    centered = x - x.mean(axis=-1, keepdims=True)
    scaled = centered / np.sqrt(np.square(centered).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Array) -> Array:
    """``x`` times the normal distribution function."""
    return x * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy()) / 2


def deepfm(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """Tower input, and the factorization machine pair by pair."""
    weights, vectors = x[:, 0], x[:, 1:]
    pairs = [vectors[i] @ vectors[j] for i in range(len(x)) for j in range(i)]
    return vectors.ravel(), np.array([weights.sum() + sum(pairs)])


def autoint(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """Attention without a root; the residual is always projected."""
    attended = x
    for layer in range(3):
        name = f"layers.{layer}"
        query, key, value = (attended @ w[f"{name}.{part}.weight"].T for part in ("query", "key", "value"))
        heads = []
        for head in range(2):
            part = slice(32 * head, 32 * (head + 1))
            heads.append(softmax(query[:, part] @ key[:, part].T) @ value[:, part])
        attended = np.maximum(np.concatenate(heads, axis=1) + attended @ w[f"{name}.residual.weight"].T, 0)
    if "attended.weight" not in w:
        return attended.ravel(), np.zeros(1)
    return x.ravel(), w["attended.weight"] @ attended.ravel()


def dcnv2(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """Crosses with a full matrix, or a mixture with gates of its own in every layer."""
    first = crossed = x.ravel()
    for layer in range(3):
        name = f"layers.{layer}"
        if f"{name}.map.weight" in w:
            mixed = w[f"{name}.map.weight"] @ crossed + w[f"{name}.map.bias"]
        else:
            gates = softmax(w[f"{name}.gate.weight"] @ crossed)
            mixed = np.zeros(len(first))
            for expert, gate in enumerate(gates):
                rank = w[f"{name}.inner"].shape[1]
                down = w[f"{name}.enter.weight"][expert * rank : (expert + 1) * rank]
                low = np.tanh(np.tanh(down @ crossed) @ w[f"{name}.inner"][expert])
                mixed = mixed + gate * (low @ w[f"{name}.leave"][expert] + w[f"{name}.bias"][expert])
        crossed = first * mixed + crossed
    if "beside.weight" in w:
        return first, w["beside.weight"] @ crossed
    return crossed, np.zeros(1)


def wukong(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """Compressed products of all pairs, beside combinations of tokens."""
    for layer in range(2):
        name = f"layers.{layer}"
        products = layer_norm(w, f"{name}.products", (x @ x.T @ w[f"{name}.compress"]).ravel())
        hidden = np.maximum(w[f"{name}.mlp.0.weight"] @ products + w[f"{name}.mlp.0.bias"], 0)
        made = w[f"{name}.mlp.2.weight"] @ hidden + w[f"{name}.mlp.2.bias"]
        combined = w[f"{name}.linear.weight"] @ x
        kept = w[f"{name}.residual.weight"] @ x if f"{name}.residual.weight" in w else x
        joined = np.concatenate([made.reshape(-1, x.shape[1]), combined]) + kept
        x = layer_norm(w, f"{name}.norm", joined)
    return x.ravel(), np.zeros(1)


def rankmixer(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """Token t gets slice t of every token; then each has a network of its own."""
    count, slice_width, _ = w["enter.weight"].shape
    slices = np.pad(x.ravel(), (0, count * slice_width - x.size)).reshape(count, -1)
    tokens = np.einsum("ts,tsd->td", slices, w["enter.weight"]) + w["enter.bias"][:, 0]
    for block in range(2):
        name = f"blocks.{block}"
        part = tokens.shape[1] // count
        mixed = [np.concatenate([y[t * part : (t + 1) * part] for y in tokens]) for t in range(count)]
        tokens = layer_norm(w, f"{name}.norms.0", np.array(mixed) + tokens)
        fed = [
            experts_of(w, f"{name}.experts", tokens[t], t)
            if f"{name}.experts.enter.weight" in w
            else expert(w, name, tokens[t], t)
            for t in range(count)
        ]
        tokens = layer_norm(w, f"{name}.norms.1", np.array(fed) + tokens)
    config: Any = model.config
    return tokens.ravel() if config.pool == "tokens" else tokens.mean(axis=0), np.zeros(1)


def expert(w: Weights, name: str, x: Array, place: int) -> Array:
    """Network ``place`` for a token (D,)."""
    hidden = gelu(x @ w[f"{name}.enter.weight"][place] + w[f"{name}.enter.bias"][place, 0])
    return hidden @ w[f"{name}.leave.weight"][place] + w[f"{name}.leave.bias"][place, 0]


def experts_of(w: Weights, name: str, x: Array, token: int, router: int = 1) -> Array:
    """Sum of a token's experts by gates without a softmax, as they serve."""
    weight, bias = w[f"{name}.routers.{router}.weight"][token], w[f"{name}.routers.{router}.bias"][token, 0]
    gates = np.maximum(x @ weight + bias, 0)
    made = [gate * expert(w, name, x, token * len(gates) + n) for n, gate in enumerate(gates)]
    return np.sum(made, axis=0)


def hiformer(model: CTRModel[Any], w: Weights, x: Array) -> tuple[Array, Array]:
    """One layer: every field has its own maps, or all share a low-rank one."""
    tokens = np.einsum("nd,ndw->nw", x, w["enter.weight"]) + w["enter.bias"][:, 0]
    if "task" in w:
        tokens = np.concatenate([tokens, w["task"][None]])
    name = "layers.0"

    def projected(part: str) -> Array:
        if f"{name}.{part}.weight" in w:
            weight = w[f"{name}.{part}.weight"]
            return np.einsum("nd,ndw->nw", tokens[-len(weight) :], weight)
        low = w[f"{name}.{part}.enter.weight"] @ tokens.ravel()
        return (w[f"{name}.{part}.leave.weight"] @ low).reshape(tokens.shape)

    query, key, value = (projected(part) for part in ("query", "key", "value"))
    computed = len(w[f"{name}.out.weight"])
    heads = []
    for part in (slice(0, 16), slice(16, 32)):
        scores = query[-computed:, part] @ key[:, part].T / 4
        heads.append(softmax(scores) @ value[:, part])
    attended = np.einsum("nd,ndw->nw", np.concatenate(heads, axis=1), w[f"{name}.out.weight"])
    own = layer_norm(w, f"{name}.norms.0", attended + tokens[-computed:])
    hidden = np.einsum("nd,ndw->nw", own, w[f"{name}.enter.weight"]) + w[f"{name}.enter.bias"][:, 0]
    fed = np.einsum("nd,ndw->nw", gelu(hidden), w[f"{name}.leave.weight"]) + w[f"{name}.leave.bias"][:, 0]
    return layer_norm(w, f"{name}.norms.1", fed + own).ravel(), np.zeros(1)


CASES: list[tuple[Restated, tuple[str, ...]]] = [
    (deepfm, ()),
    (deepfm, ("inputs.sequence=mean",)),
    (autoint, ()),
    (autoint, ("deep=false",)),
    (dcnv2, ()),
    (dcnv2, ("cross=mixture", "rank=5", "structure=stacked")),
    (wukong, ()),
    (wukong, ("machine_tokens=9", "linear_tokens=9")),  # as many as the toy's fields: no residual map
    (rankmixer, ()),
    (rankmixer, ("experts=3",)),
    (rankmixer, ("experts=2", "pool=tokens", "tokens=4")),
    (hiformer, ()),
    (hiformer, ("projection=composite", "rank=7")),
    (hiformer, ("pool=fields", "inputs.sequence=mean")),
]


@pytest.mark.parametrize(
    ("restate", "options"), CASES, ids=[",".join((case[0].__name__, *case[1])) for case in CASES]
)
@thinned("full", [False, True])
def test_against_numpy(restate: Restated, options: tuple[str, ...], full: bool) -> None:
    model = toy_model(restate.__name__, *options).double()
    shake_statistics(model)
    batch, w = toy_batch(full=full), weights_of(model)
    found, logits = head_input(model, batch)
    sequence = model.config.inputs.sequence  # type: ignore[union-attr]
    for row, place in batch.candidates.mask.nonzero().tolist():
        tokens = tokens_of(w, case_of(w, batch, row, place), sequence)
        read, beside = restate(model, w, tokens)
        np.testing.assert_allclose(found[row, place].numpy(), read, atol=1e-9)
        expected = tower(model, w, read) + beside
        np.testing.assert_allclose(logits[row, place].numpy(), expected, rtol=1e-6, atol=1e-6)


def with_simtier(dtype: type[np.generic] = np.float16) -> tuple[Features, dict[str, Array]]:
    """The toy's features and items; items 5 and 6 have no content."""
    columns = dict(item_columns())
    columns["field.text"] = np.array(columns["field.text"], dtype)
    columns["field.text"][5:7] = 0
    return features(), columns


def test_a_histogram_of_cosines_is_a_token() -> None:
    made, columns = with_simtier()
    torch.manual_seed(0)
    model = build_model("autoint", made, columns, length=12, overrides=["inputs.simtier=true"]).eval()
    seen: list[torch.Tensor] = []
    model.inputs.histogram.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    batch = toy_batch()
    with torch.no_grad():
        model(batch)
    vectors = np.asarray(columns["field.text"], np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    for row, place in batch.candidates.mask.nonzero().tolist():
        candidate, counts = int(batch.candidates.items[row, place]), np.zeros(20)
        for item in batch.user.items[row].tolist():
            if item and lengths[item] and lengths[candidate]:
                cosine = vectors[item] @ vectors[candidate] / lengths[item] / lengths[candidate]
                counts[min(int((cosine + 1) * 10), 19)] += 1
        # Vectors are kept on a grid, so a cosine at a border may fall to its neighbor.
        assert abs(seen[0][row, place].expm1().numpy() - counts).sum() <= 2
        assert np.isclose(seen[0][row, place].expm1().sum(), counts.sum())


def test_a_histogram_needs_content() -> None:
    made = features()
    made = Features(
        made.profile,
        made.behavior,
        tuple(field for field in made.item if field.kind != "content"),
        made.context,
        made.items,
        made.labels,
    )
    with pytest.raises(ConfigError, match=r"inputs\.simtier=true needs content vectors of items"):
        build_model("deepfm", made, item_columns(), overrides=["inputs.simtier=true"])


@pytest.mark.parametrize(
    ("name", "option", "complaint"),
    [
        ("rankmixer", "tokens=7", "width is 64 and tokens is 7: mixing needs a width that is a multiple"),
        ("hiformer", "heads=3", "width is 32, which heads=3 does not divide"),
        ("wukong", "compressed=0", "compressed is 0; at least 1 is needed"),
        ("dcnv2", "structure=sideways", "Unknown structure 'sideways'. Known: parallel, stacked"),
    ],
)
def test_a_wrong_option_is_named(name: str, option: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        toy_model(name, option)


def test_each_layer_of_a_mixture_has_gates_of_its_own() -> None:
    """Public implementations share one gate among all layers."""
    names = weights_of(toy_model("dcnv2", "cross=mixture"))
    assert {f"layers.{layer}.gate.weight" for layer in range(3)} <= set(names)


def test_one_impression_alone_keeps_its_dimensions() -> None:
    """A squeeze of the last dimension, as in public cross networks, would drop a batch of one."""
    for name in ("dcnv2", "autoint", "wukong"):
        assert toy_model(name)(toy_batch(rows=1, candidates=1)).shape == (1, 1, 1)


def test_categorical_fields_of_several_values_are_one_token() -> None:
    """The toy's tags have three values and count once among the fields."""
    made = features()
    assert any(isinstance(field, Feature) and field.values == 3 for field in made.item)
    assert toy_model("deepfm").inputs.count == 2 + 4 + 2 + 6  # type: ignore[union-attr]


# --- experts of RankMixer


def own_loss(model: CTRModel[Any], batch: Batch) -> torch.Tensor:
    """The loss that training adds."""
    found = model.auxiliary_loss(model.encode_user(batch.user), batch)
    assert found is not None
    return found


def test_dense_and_sparse_sums_of_experts_are_equal() -> None:
    """Serving leaves out what training multiplies by a gate of 0."""
    model, batch = toy_model("rankmixer", "experts=3"), toy_batch(full=True)
    with torch.no_grad():
        served = model(batch)
        state = model.encode_user(batch.user)
        for block in model.blocks:  # type: ignore[union-attr]
            block.experts.training = True  # type: ignore[union-attr]
        dense, gates = model._scored(state, batch.candidates, dense=False)  # type: ignore[operator]
    assert all(0 < (gate == 0).float().mean() < 1 for gate in gates)
    torch.testing.assert_close(served, dense, rtol=0, atol=2e-6)


def test_training_and_serving_have_a_router_each_that_learns_from_clicks() -> None:
    model, batch = toy_model("rankmixer", "experts=3"), toy_batch(full=True)
    with torch.no_grad():
        served, trained = model(batch), model.train()(batch)
    assert (served - trained).abs().max() > 1e-3
    model.strength.fill_(-30.0)  # type: ignore[union-attr, operator]  # hardly a penalty: what is left are the clicks
    own_loss(model, batch).backward()
    routers = model.blocks[0].experts.routers  # type: ignore[union-attr, index]
    assert routers[0].weight.grad is None
    assert routers[1].weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize(("active", "sign"), [(0.05, 1), (1.0, -1)])
def test_the_penalty_on_gates_follows_the_share_that_is_to_be_open(active: float, sign: int) -> None:
    model, batch = toy_model("rankmixer", "experts=3", f"active={active}").train(), toy_batch()
    before = float(model.strength)  # type: ignore[arg-type]
    own_loss(model, batch)
    assert (float(model.strength) - before) * sign > 0  # type: ignore[arg-type]


def test_padded_candidates_open_no_gate() -> None:
    """What stands where no candidate is must not move the penalty."""
    model, batch = toy_model("rankmixer", "experts=3").train(), toy_batch()
    changed = batch.candidates.context.clone()
    changed[~batch.candidates.mask] = 3
    moved = replace(batch, candidates=replace(batch.candidates, context=changed))
    with torch.no_grad():
        strength = model.strength.clone()  # type: ignore[union-attr, operator]
        first = own_loss(model, batch)
        model.strength.copy_(strength)  # type: ignore[union-attr, operator]
        assert torch.equal(first, own_loss(model, moved))


@pytest.mark.parametrize(
    ("option", "complaint"),
    [("active=0", "active is 0.0; it must be a share"), ("experts=-1", "experts is -1; at least 0")],
)
def test_a_wrong_option_of_experts_is_named(option: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        toy_model("rankmixer", option)
