"""The literal readings of SUAN against its equations, and against SUAN."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from clickscale.batch import Batch
from clickscale.errors import InputError
from clickscale.models import CTRModel
from clickscale.models.suan_literal import ModelConfig
from tests.models.restated import gaps, head_input, shake_statistics
from tests.models.restated_suan import restated_suan
from tests.models.toy import (
    keep_behaviors,
    pad_left,
    pick_candidates,
    pick_rows,
    toy_batch,
    toy_model,
    with_candidates,
    with_user,
)

VARIANTS = [
    (),
    ("bias=blocks", "buckets=paper", "block.residual=prenorm"),
    ("block.residual=literal", "time_of_week=false", "candidate=linear"),
    ("block.fusion=sum", "block.ffn=none"),
    ("pooling=split",),
    ("pooling=split", "block.residual=postnorm", "block.norm=layer"),
    ("pooling=behaviors",),
    ("pooling=prefix",),
    ("target=head", "pooling=prefix"),
    ("target=head", "pooling=prefix", "block.residual=prenorm"),
]
EVERY = pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options) or "default")
PARTS = torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]])


def model_of(name: str, *options: str) -> CTRModel:
    model = toy_model(name, *options)
    shake_statistics(model)
    return model


def scores(model: CTRModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch)


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def restatement_gap(model: CTRModel, batch: Batch) -> float:
    assert isinstance(model.config, ModelConfig)
    return gaps(model.double(), batch, partial(restated_suan, config=model.config, length=model.length))[0]


@EVERY
def test_against_numpy(options: tuple[str, ...]) -> None:
    """The batch holds an empty history, short ones, padded candidates and missing numbers."""
    assert restatement_gap(model_of("suan_literal", *options), toy_batch(rows=4, candidates=3)) <= 1e-9


@EVERY
def test_part_of_a_timeline_against_numpy(options: tuple[str, ...]) -> None:
    batch = with_candidates(toy_batch(rows=3, candidates=3, full=True), visible=PARTS)
    assert restatement_gap(model_of("suan_literal", *options), batch) <= 1e-9


@pytest.mark.parametrize("option", ["block.residual=code", "block.residual=prenorm", "bias=heads"])
def test_with_a_prefix_mean_it_is_suan_with_the_same_initial_weights(option: str) -> None:
    literal, suan = toy_model("suan_literal", "pooling=prefix", option), toy_model("suan", option)
    weights = suan.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in literal.state_dict().items())
    timeline = with_candidates(toy_batch(rows=3, candidates=3, full=True), visible=PARTS)
    for batch in (toy_batch(), timeline):
        assert far(scores(literal, batch), scores(suan, batch)) <= 1e-5


def behavior_rows(model: CTRModel, batch: Batch) -> Tensor:
    """Rows of the behaviors after the first block while a candidate is scored: (rows, L, D)."""
    seen: list[Tensor] = []
    norm = model.stack.blocks[1].norms[0]  # type: ignore[index, union-attr]
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # there a block calls its modules
        scores(model, batch)
    hook.remove()
    return seen[0][:, : batch.user.items.shape[1]]


@pytest.mark.parametrize(("pooling", "moved"), [("global", True), ("split", False), ("prefix", False)])
def test_only_with_the_literal_mean_the_candidate_changes_the_behaviors(pooling: str, moved: bool) -> None:
    model = model_of("suan_literal", f"pooling={pooling}")
    first, second = (pick_candidates(toy_batch(full=True), torch.tensor([place])) for place in (0, 1))
    assert (far(behavior_rows(model, first), behavior_rows(model, second)) > 1e-2) == moved


@pytest.mark.parametrize(("pooling", "moved"), [("behaviors", True), ("split", True), ("prefix", False)])
def test_only_with_a_prefix_mean_later_behaviors_leave_earlier_rows_alone(pooling: str, moved: bool) -> None:
    model, batch = model_of("suan_literal", f"pooling={pooling}"), toy_batch(full=True)
    items = batch.user.items.clone()
    items[:, 8:] = items[:, 8:] % 20 + 3
    gap = far(behavior_rows(model, batch)[:, :8], behavior_rows(model, with_user(batch, items=items))[:, :8])
    assert (gap > 1e-2) == moved


def test_in_one_block_the_candidate_row_of_suan_is_that_of_the_literal_mean() -> None:
    batch = toy_batch()
    literal = head_input(model_of("suan_literal", "blocks=1").double(), batch)[0]
    for model in (model_of("suan", "blocks=1"), model_of("suan_literal", "blocks=1", "pooling=split")):
        assert far(head_input(model.double(), batch)[0], literal) <= 1e-12
    two = [model_of("suan").double(), model_of("suan_literal").double()]
    assert far(head_input(two[0], batch)[0], head_input(two[1], batch)[0]) > 1e-3


@EVERY
def test_padding_and_its_values_change_nothing(options: tuple[str, ...]) -> None:
    model, batch = model_of("suan_literal", *options), toy_batch()
    padded = replace(batch, user=pad_left(batch.user, 3))
    padded = with_candidates(padded, visible=batch.candidates.visible + 3)
    assert far(scores(model, padded), scores(model, batch)) <= 1e-5
    later = torch.where(batch.user.mask, batch.user.times, batch.user.times - 12_345_678)
    assert far(scores(model, with_user(batch, times=later)), scores(model, batch)) <= 1e-6


def test_without_the_candidate_in_the_sequence_its_item_enters_the_head_alone() -> None:
    model = model_of("suan_literal", "target=head")
    first, second = (pick_candidates(toy_batch(full=True), torch.tensor([place])) for place in (0, 1))
    inputs = [head_input(model, batch)[0] for batch in (first, second)]
    width = model.inputs.width  # type: ignore[union-attr]
    times = torch.equal(first.candidates.visible, second.candidates.visible)
    assert times
    assert far(inputs[0][..., :width], inputs[1][..., :width]) == 0
    assert far(inputs[0][..., width : 2 * width], inputs[1][..., width : 2 * width]) > 0


def test_appending_needs_rows_that_gain_equally_many() -> None:
    model, batch = model_of("suan_literal"), toy_batch()
    state = model.encode_user(keep_behaviors(batch.user, slice(0, 9)))
    with pytest.raises(InputError, match="same number of behaviors"):
        model.extend_user(state, batch.user)  # type: ignore[operator]
    some = pick_rows(batch, torch.tensor([1, 2, 3]))
    with torch.no_grad():
        state = model.encode_user(keep_behaviors(some.user, slice(0, 9)))
        state = model.extend_user(state, keep_behaviors(some.user, slice(9, 12)))  # type: ignore[operator]
        assert far(model.score(state, some.candidates), scores(model, some)) <= 1e-6


def test_without_the_candidate_in_the_sequence_the_rows_are_encoded_once_per_user() -> None:
    shared, batch = model_of("suan_literal", "target=head", "pooling=prefix"), toy_batch(full=True)
    with torch.no_grad():
        state = shared.encode_user(batch.user)
        assert state.rows.shape == state.tokens.shape
        assert model_of("suan_literal", "pooling=prefix").encode_user(batch.user).rows.shape[2] == 0
        early = shared.encode_user(keep_behaviors(batch.user, slice(0, 9)))
        longer = shared.extend_user(early, keep_behaviors(batch.user, slice(9, 12)))  # type: ignore[operator]
        assert far(longer.rows, state.rows) <= 1e-5
        assert far(shared.score(longer, batch.candidates), scores(shared, batch)) <= 1e-5
