"""Every file in models/ keeps the contract; a model that is dropped in is covered by its being there."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.errors import ConfigError
from clickscale.layers.kernels import frozen
from clickscale.layers.kernels.frozen import freeze
from clickscale.models import CTRModel, model_names, score_in_chunks, stack
from clickscale.models._base import State
from clickscale.training.table_rows import tables_of
from tests.everyday import sampled
from tests.models.toy import (
    VARIANTS,
    keep_behaviors,
    pad_left,
    pick_candidates,
    pick_rows,
    toy_batch,
    toy_model,
    with_candidates,
    with_user,
)

Scores = Callable[[CTRModel[Any], Batch], Tensor]
MODELS = [*model_names(), *VARIANTS]

EVERY = pytest.mark.parametrize("name", sampled(MODELS))
CAUSAL = pytest.mark.parametrize("name", sampled(name for name in MODELS if toy_model(name).causal))


def scores(model: CTRModel[Any], batch: Batch) -> Tensor:
    """Logits without gradients."""
    with torch.no_grad():
        return model(batch)


def far(a: Tensor, b: Tensor) -> float:
    """Largest difference of two tensors, relative to logits beyond 1: sums round by their size."""
    return float((a - b).abs().max() / a.abs().max().clamp(min=1))


def permutation_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when candidates are permuted, thinned and repeated."""
    whole = scores(model, batch)
    orders = (torch.tensor([2, 0, 3, 1]), torch.tensor([1]), torch.tensor([3, 3, 0]))
    return max(far(scores(model, pick_candidates(batch, order)), whole[:, order]) for order in orders)


def row_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far a row's scores move when it is scored alone."""
    whole = scores(model, batch)
    return max(
        far(scores(model, pick_rows(batch, torch.tensor([row]))), whole[[row]]) for row in range(len(whole))
    )


def padding_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move with three more columns of padding, and those of a row without its padding."""
    padded = replace(batch, user=pad_left(batch.user, 3))
    widened = with_candidates(
        padded, visible=batch.candidates.visible + 3
    )  # the padding is inside their range
    whole, one = scores(model, batch), pick_rows(batch, torch.tensor([1]))
    held = int(one.user.mask.sum())
    bare = replace(one, user=keep_behaviors(one.user, slice(12 - held, 12)))
    bare = with_candidates(bare, visible=torch.full_like(one.candidates.visible, held))
    return max(far(scores(model, widened), whole), far(scores(model, bare), whole[[1]]))


def future_gap(model: CTRModel[Any], batch: Batch, changed: Batch) -> float:
    """How far scores move when behaviors that no candidate sees are replaced."""
    return far(scores(model, batch), scores(model, changed))


def cache_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when states are split, reordered and stacked again."""
    back = torch.arange(len(batch.rows) - 1, -1, -1)
    with torch.no_grad():
        states = model.encode_user(batch.user).split()
        cached = model.score(stack(states[::-1]), pick_rows(batch, back).candidates)
    return far(scores(model, batch), cached.flip(0))


def ragged_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when states of 3, 12 and 7 behaviors are stacked into one."""
    lengths = (3, 12, 7)
    some = pick_rows(batch, torch.arange(len(lengths)))
    whole = with_candidates(some, visible=torch.full_like(some.candidates.visible, 12))
    states, alone = [], []
    with torch.no_grad():
        for row, length in enumerate(lengths):
            one = pick_rows(batch, torch.tensor([row]))
            user = keep_behaviors(one.user, slice(12 - length, 12))
            states.append(model.encode_user(user))
            seen = with_candidates(one, visible=torch.full_like(one.candidates.visible, length))
            alone.append(model.score(states[-1], seen.candidates))
        return far(torch.cat(alone), model.score(stack(states), whole.candidates))


def kept_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when states keep only what scoring, or appending and scoring, needs."""
    gaps = []
    with torch.no_grad():
        state = model.encode_user(batch.user)
        for kept in (model.scoring_state(state), model.appendable_state(state)):
            assert kept.nbytes <= state.nbytes
            gaps.append(far(scores(model, batch), model.score(stack(kept.split()), batch.candidates)))
    return max(gaps)


def append_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when the last five of twelve behaviors are appended, one and then four."""
    with torch.no_grad():
        state = model.appendable_state(model.encode_user(keep_behaviors(batch.user, slice(0, 7))))
        for columns in (slice(7, 8), slice(8, 12)):
            state = model.extend_user(state, keep_behaviors(batch.user, columns))
        appended = model.score(state, batch.candidates)
    return far(scores(model, batch), appended)


def without_gradient(model: CTRModel[Any], batch: Batch) -> list[str]:
    """Names of the parameters that the losses of a batch do not reach: of the logits, and the model's own."""
    state = model.train().encode_user(batch.user)
    logits, own = model.score(state, batch.candidates), model.auxiliary_loss(state, batch)
    loss = functional.binary_cross_entropy_with_logits(logits, batch.labels, batch.label_mask.float())
    (loss if own is None else loss + own).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return [name for name, grad in gradients.items() if grad is None or not grad.to_dense().abs().sum() > 0]


def reload_gap(model: CTRModel[Any], other: CTRModel[Any], batch: Batch) -> float:
    """How far the scores of another model are from these once it has loaded these weights."""
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    return far(scores(model, batch), scores(other, batch))


def repeat_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores are from those of the same call before."""
    return far(scores(model, batch), scores(model, batch))


FITTED = 0.1  # log-loss of a batch that a model knows by heart


def overfit(model: CTRModel[Any], batch: Batch) -> float:
    """Log-loss on one batch once it is under FITTED, or after 120 steps."""
    model.train()
    tables = tables_of(model)
    rows = [table.weight for table in tables.values()]
    dense = [parameter for parameter in model.parameters() if all(parameter is not row for row in rows)]
    optimizers = [torch.optim.Adam(dense, lr=0.01), torch.optim.SparseAdam(rows, lr=0.3)]
    loss = torch.tensor(1.0)
    for _ in range(120):
        logits = model(batch)[batch.label_mask]
        loss = functional.binary_cross_entropy_with_logits(logits, batch.labels[batch.label_mask])
        if loss < FITTED:
            break
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return float(loss.detach())


def hidden_tail(batch: Batch) -> tuple[Batch, Batch]:
    """A batch whose candidates do not see the last three behaviors, and one where these are others."""
    length = batch.user.items.shape[1]
    blind = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, length - 3))
    items, actions = batch.user.items.clone(), batch.user.actions.clone()
    items[:, -3:] = items[:, -3:] % 20 + 3
    actions[:, -3:] = 2
    return blind, with_user(blind, items=items, actions=actions)


@EVERY
def test_a_score_does_not_depend_on_the_other_candidates(name: str) -> None:
    assert permutation_gap(toy_model(name), toy_batch(full=True)) <= 2e-6


@EVERY
def test_a_score_does_not_depend_on_the_other_rows(name: str) -> None:
    assert row_gap(toy_model(name), toy_batch()) <= 2e-6


@EVERY
def test_one_by_one_cached_and_together_agree(name: str) -> None:
    model, batch = toy_model(name), toy_batch(full=True)
    whole = scores(model, batch)
    single = torch.cat([scores(model, pick_candidates(batch, torch.tensor([c]))) for c in range(4)], dim=1)
    assert far(whole, single) <= 1e-5
    assert cache_gap(model, batch) <= 1e-5


@CAUSAL
def test_appending_behaviors_equals_encoding_the_longer_history(name: str) -> None:
    assert append_gap(toy_model(name), toy_batch(full=True)) <= 1e-5


@EVERY
def test_states_of_different_lengths_stack(name: str) -> None:
    assert ragged_gap(toy_model(name), toy_batch(full=True)) <= 1e-5


@EVERY
def test_what_is_kept_of_a_state_gives_the_same_scores(name: str) -> None:
    assert kept_gap(toy_model(name), toy_batch(full=True)) <= 1e-5
    assert kept_gap(toy_model(name), toy_batch()) <= 1e-5


@EVERY
def test_scoring_in_chunks_equals_scoring_at_once(name: str) -> None:
    model, batch = toy_model(name), toy_batch()
    whole = scores(model, batch)
    with torch.no_grad():
        state = model.encode_user(batch.user)
        for size in (1, 2, 3, 4, 9):
            assert far(whole, score_in_chunks(model, state, batch.candidates, size)) <= 2e-6, size


@EVERY
def test_a_kept_state_owns_its_memory(name: str) -> None:
    model = toy_model(name)
    with torch.no_grad():
        (kept, *_) = model.scoring_state(model.encode_user(toy_batch(full=True).user)).split()
    for tensor in kept.tensors():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


@EVERY
def test_a_state_may_be_kept_in_half_precision(name: str) -> None:
    model, batch = toy_model(name), toy_batch(full=True)
    whole = scores(model, batch)
    with torch.no_grad():
        state = model.encode_user(batch.user)
        for kept in (state, model.scoring_state(state), model.appendable_state(state)):
            for dtype, bound in ((torch.float16, 5e-3), (torch.bfloat16, 5e-2)):
                halved = model.score(kept.to(dtype=dtype), batch.candidates)
                assert 0 < far(whole, halved) <= bound, (type(kept), dtype)


@EVERY
def test_padding_changes_nothing(name: str) -> None:
    assert padding_gap(toy_model(name), toy_batch()) <= 2e-6


@EVERY
def test_an_empty_history_gives_a_finite_score(name: str) -> None:
    model, batch = toy_model(name), toy_batch()
    assert not batch.user.mask[0].any()
    assert scores(model, batch).isfinite().all()
    without = replace(batch, user=keep_behaviors(batch.user, slice(0, 0)))
    side = {
        "oldest": torch.zeros_like(batch.candidates.oldest),
        "visible": torch.zeros_like(batch.candidates.oldest),
    }
    assert far(scores(model, with_candidates(without, **side))[0], scores(model, batch)[0]) <= 2e-6


@EVERY
def test_a_behavior_that_is_not_visible_never_changes_a_score(name: str) -> None:
    assert future_gap(toy_model(name), *hidden_tail(toy_batch(full=True))) == 0


@EVERY
def test_a_visible_behavior_does_change_scores(name: str) -> None:
    batch = toy_batch(full=True)
    items = batch.user.items.clone()
    items[:, -1] = items[:, -1] % 20 + 3
    assert future_gap(toy_model(name), batch, with_user(batch, items=items)) > 1e-4


@EVERY
def test_seeing_part_of_a_window_equals_having_only_that_part(name: str) -> None:
    model, batch = toy_model(name), toy_batch(full=True)
    windowed = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 9))
    alone = replace(windowed, user=keep_behaviors(batch.user, slice(0, 9)))
    assert far(scores(model, windowed), scores(model, alone)) <= 1e-5


@EVERY
def test_every_parameter_receives_a_gradient(name: str) -> None:
    assert not without_gradient(toy_model(name), toy_batch())


@EVERY
def test_the_padding_row_receives_no_gradient(name: str) -> None:
    model, batch = toy_model(name).train(), toy_batch()
    model(batch).sum().backward()
    for table in tables_of(model).values():
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse
        assert not table.weight.grad.to_dense()[0].any()


@EVERY
def test_weights_saved_and_loaded_give_equal_scores(name: str) -> None:
    model, other, batch = toy_model(name), toy_model(name, seed=1), toy_batch()
    assert far(scores(model, batch), scores(other, batch)) > 0
    assert reload_gap(model, other, batch) == 0


@EVERY
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    assert (
        far(scores(toy_model(name, seed=3), toy_batch()), scores(toy_model(name, seed=3), toy_batch())) == 0
    )


@EVERY
def test_scoring_twice_gives_the_same_scores(name: str) -> None:
    assert repeat_gap(toy_model(name), toy_batch()) == 0


@pytest.mark.parametrize("name", sampled(model_names()))
def test_one_batch_can_be_overfitted(name: str) -> None:
    assert overfit(toy_model(name), toy_batch(rows=6, seed=2)) < FITTED


class Broken(CTRModel):
    """A model with one guard of the contract taken away."""

    def __init__(self, inner: CTRModel[Any], fault: str) -> None:
        super().__init__()
        self.inner, self.fault = inner, fault
        self.idle = nn.Parameter(torch.ones(1)) if fault == "gradient" else None
        self.unsaved = torch.randn(1) if fault == "reload" else torch.zeros(1)

    def encode_user(self, user: UserSide) -> State:
        if self.fault == "padding":  # padding becomes an item like any other
            user = replace(user, items=user.items.clamp(min=1))
        return self.inner.encode_user(user)

    def scoring_state(self, state: State) -> State:
        if self.fault == "kept":  # what is kept belongs to another row
            return stack(state.split()[::-1])
        return self.inner.scoring_state(state)

    def auxiliary_loss(self, state: State, batch: Batch) -> Tensor | None:
        return self.inner.auxiliary_loss(state, batch)

    def extend_user(self, state: State, user: UserSide) -> State:
        if self.fault == "append":  # of several new behaviors the last one counts for all
            user = keep_behaviors(user, torch.full((user.items.shape[1],), -1))
        return self.inner.extend_user(state, user)  # type: ignore[operator, no-any-return]

    def score(self, state: State, candidates: CandidateSide) -> Tensor:
        if self.fault == "future":
            candidates = replace(candidates, visible=torch.full_like(candidates.visible, 12))
        logits = self.inner.score(state, candidates) + self.unsaved
        if self.fault == "candidates":
            return logits + logits.mean(dim=1, keepdim=True)
        if self.fault == "rows":
            return logits + logits.mean(dim=0, keepdim=True)
        if self.fault == "cache":  # a state that only fits the place where it was made
            return logits + torch.arange(float(len(logits)))[:, None, None]
        if self.fault == "ragged":  # how far a state was filled up shows
            return logits + candidates.visible.max()
        if self.fault == "repeat":
            return logits + torch.randn_like(logits)
        return logits.tanh() if self.fault == "overfit" else logits  # never sure


@CAUSAL
def test_the_check_of_appending_sees_its_fault(name: str) -> None:
    assert append_gap(Broken(toy_model(name), "append").eval(), toy_batch(full=True)) > 1e-4


@EVERY
def test_each_check_sees_its_fault(name: str) -> None:
    def broken(fault: str, seed: int = 0) -> CTRModel[Any]:
        return Broken(toy_model(name, seed=seed), fault).eval()

    full, ragged = toy_batch(full=True), toy_batch()
    assert permutation_gap(broken("candidates"), full) > 1e-4
    assert row_gap(broken("rows"), ragged) > 1e-4
    assert padding_gap(broken("padding"), ragged) > 1e-4
    assert future_gap(broken("future"), *hidden_tail(full)) > 1e-4
    assert cache_gap(broken("cache"), full) > 1e-4
    assert ragged_gap(broken("ragged"), full) > 1e-4
    assert kept_gap(broken("kept"), full) > 1e-4
    assert without_gradient(broken("gradient"), ragged) == ["idle"]
    assert reload_gap(broken("reload"), broken("reload", seed=1), ragged) > 1e-4
    assert repeat_gap(broken("repeat"), ragged) > 1e-4


def test_the_check_of_learning_sees_its_fault() -> None:
    broken = Broken(toy_model("mlp"), "overfit").eval()
    assert overfit(broken, toy_batch(rows=6, seed=2)) > FITTED


# --- a model that does not learn any more


def frozen_gap(model: CTRModel[Any], batch: Batch) -> float:
    """How far scores move when the model is frozen, with and without padding among the candidates."""
    faster = copy.deepcopy(model)
    freeze(faster)
    one = pick_rows(batch, torch.tensor([0]))
    return max(far(scores(faster, made), scores(model, made)) for made in (batch, one))


@EVERY
def test_a_frozen_model_gives_the_same_scores(name: str) -> None:
    assert frozen_gap(toy_model(name).eval(), toy_batch()) <= 1e-5


@EVERY
def test_a_frozen_model_is_not_trained(name: str) -> None:
    model = toy_model(name).eval()
    freeze(model)
    with pytest.raises(ConfigError, match="build_model"):
        model.train()


def test_the_check_of_frozen_models_finds_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "served_product", lambda x, weight, bias: functional.linear(x, weight))
    assert frozen_gap(toy_model("suan").eval(), toy_batch()) > 1e-3
