"""SUAN against its equations, and what its options promise."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import msgspec
import pytest
import torch
from torch import Tensor

from clickscale.batch import Batch
from clickscale.errors import ConfigError, InputError
from clickscale.models import CTRModel, model_config, presets, stack
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState
from clickscale.models.suan import ABLATIONS, ModelConfig
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
    *(options for options in ABLATIONS.values() if options != ("target=head",)),
    pytest.param(("target=head",)),
    ("block.residual=code",),
    ("block.residual=code", "block.norm=layer", "block.ffn=none"),
    ("block.residual=postnorm", "block.fusion=sum"),
    ("block.residual=literal",),
    ("block.residual=literal", "block.ffn=none", "block.fusion=self"),
    ("block.ffn=relu", "block.scale=paper"),
    ("bias=heads", "buckets=paper"),
    ("bias=blocks", "block.residual=code"),
    ("pooling=split",),
    ("pooling=split", "block.residual=code", "bias=blocks"),
    ("pooling=behaviors",),
    ("pooling=global",),
    ("pooling=global", "block.residual=code", "time_of_week=false", "candidate=linear"),
    ("time_of_week=false",),
    ("candidate=linear",),
    pytest.param(("target=head", "block.residual=code")),
    ("blocks=3", "heads=4"),
    ("head.norm=none", "head.activation=relu"),
]


def suan(*overrides: str, length: int = 12) -> CTRModel[Any]:
    model = toy_model("suan", *overrides, length=length)
    shake_statistics(model)
    return model


def scores(model: CTRModel[Any], batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch)


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def restatement_gaps(model: CTRModel[Any], batch: Batch) -> tuple[float, float]:
    assert isinstance(model.config, ModelConfig)
    return gaps(model, batch, partial(restated_suan, config=model.config, length=model.length))


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(options) or "default")
def test_against_numpy(options: tuple[str, ...]) -> None:
    """The batch holds an empty history, short ones, padded candidates and missing numbers."""
    model, batch = suan(*options), toy_batch(rows=4, candidates=3)
    assert max(restatement_gaps(model, batch)) <= 1e-5
    inner, outer = restatement_gaps(model.double(), batch)
    assert inner <= 1e-9
    assert outer <= 1e-6  # logits are 32-bit


def test_distances_beyond_the_length_share_an_entry() -> None:
    assert restatement_gaps(suan(length=5).double(), toy_batch(rows=3, candidates=2))[0] <= 1e-9


@pytest.mark.parametrize("options", [(), ("target=head",)], ids=["sequence", "head"])
def test_part_of_a_timeline_against_numpy(options: tuple[str, ...]) -> None:
    """A candidate in the middle of a window is the end of the sequence before it."""
    batch = toy_batch(rows=3, candidates=3, full=True)
    batch = with_candidates(batch, visible=torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]]))
    assert restatement_gaps(suan(*options).double(), batch)[0] <= 1e-9


# --- what pooling decides


def behavior_keys(model: CTRModel[Any], batch: Batch) -> list[Tensor]:
    """Keys of the behaviors in every block, as candidates meet them."""
    state = model.encode_user(batch.user)
    assert isinstance(state, AppendableState)
    return list(state.keys)


def test_with_a_causal_mean_nothing_of_the_candidate_is_in_the_state() -> None:
    model, batch = suan(), toy_batch(full=True)
    assert model.causal
    with torch.no_grad():
        whole = behavior_keys(model, batch)
        early = behavior_keys(model, replace(batch, user=keep_behaviors(batch.user, slice(0, 8))))
    assert len(whole) == 2
    for long, short in zip(whole, early, strict=True):
        assert far(long[:, :, :8], short) <= 1e-5


@pytest.mark.parametrize("pooling", ["split", "behaviors"])
def test_with_a_mean_over_all_behaviors_later_ones_change_earlier_rows(pooling: str) -> None:
    model, batch = suan(f"pooling={pooling}"), toy_batch(full=True)
    assert not model.causal
    with torch.no_grad():
        whole = behavior_keys(model, batch)
        early = behavior_keys(model, replace(batch, user=keep_behaviors(batch.user, slice(0, 8))))
    assert far(whole[0][:, :, :8], early[0]) <= 1e-5  # the first block's keys are of the input
    assert far(whole[1][:, :, :8], early[1]) > 1e-2


def behavior_rows(model: CTRModel[Any], batch: Batch) -> Tensor:
    """Rows of the behaviors after the first block while a candidate is scored: (rows, L, D)."""
    seen: list[Tensor] = []
    block = model.stack.blocks[1]  # type: ignore[index]
    hook = block.qkv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    scores(model, batch)
    hook.remove()
    return seen[0][:, : batch.user.items.shape[1]]


def test_with_the_literal_mean_the_candidate_changes_the_behaviors() -> None:
    first = pick_candidates(toy_batch(full=True), torch.tensor([0]))
    second = pick_candidates(toy_batch(full=True), torch.tensor([1]))
    literal, causal = suan("pooling=global"), suan()
    assert not literal.causal
    assert far(behavior_rows(literal, first), behavior_rows(literal, second)) > 1e-2
    assert far(behavior_rows(causal, first), behavior_rows(causal, second)) == 0


def test_in_one_block_the_candidate_row_is_that_of_the_literal_mean() -> None:
    batch = toy_batch()
    models = [suan("blocks=1", f"pooling={pooling}").double() for pooling in ("prefix", "split", "global")]
    literal = head_input(models[2], batch)[0]
    for model in models[:2]:
        assert far(head_input(model, batch)[0], literal) <= 1e-12
    two = [suan(f"pooling={pooling}").double() for pooling in ("prefix", "global")]
    assert far(head_input(two[0], batch)[0], head_input(two[1], batch)[0]) > 1e-3


# --- ablations and options


def options_of_literals() -> list[str]:
    """Every value of every option that names its values."""
    found = []
    for prefix, kind in (("", ModelConfig), ("block.", BlockConfig)):
        for field in msgspec.structs.fields(kind):
            values = [value for value in get_args(field.type) if isinstance(value, str)]
            found += [f"{prefix}{field.encode_name}={value}" for value in values]
    return found


def test_every_literal_option_is_found() -> None:
    found = options_of_literals()
    assert len(found) == 4 + 2 + 4 + 2 + 2 + 4 + 2 + 3 + 3 + 2


@pytest.mark.parametrize("option", options_of_literals())
def test_every_value_of_every_option_scores_and_differs_unless_it_is_the_default(option: str) -> None:
    batch = toy_batch()
    model, usual = suan(option), suan()
    logits = scores(model, batch)
    assert logits.isfinite().all()
    assert (far(logits, scores(usual, batch)) > 1e-4) == (model.config != usual.config)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_from_the_default(name: str) -> None:
    assert far(scores(suan(*ABLATIONS[name]), toy_batch()), scores(suan(), toy_batch())) > 1e-3


def test_ablations_are_the_seven_of_the_paper_and_no_two_are_equal() -> None:
    assert list(ABLATIONS) == list("ABCDEFG")
    made = {msgspec.json.encode(model_config("suan", overrides=options)) for options in ABLATIONS.values()}
    assert len(made | {msgspec.json.encode(model_config("suan"))}) == 8


EVERY = pytest.mark.parametrize(
    "options",
    [
        *ABLATIONS.values(),
        ("pooling=global",),
        ("pooling=split",),
        ("block.residual=code",),
        ("block.residual=literal",),
    ],
    ids="-".join,
)


@EVERY
def test_candidates_and_rows_do_not_meet(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    order = torch.tensor([2, 0, 3, 1])
    assert far(scores(model, pick_candidates(batch, order)), scores(model, batch)[:, order]) <= 1e-5
    alone = torch.cat([scores(model, pick_rows(batch, torch.tensor([row]))) for row in range(5)])
    assert far(alone, scores(model, batch)) <= 1e-5


@pytest.mark.parametrize("empty", [False, pytest.param(True)])
def test_without_the_candidate_in_the_sequence_padding_is_not_read(empty: bool) -> None:
    model, batch = suan("target=head"), toy_batch()
    assert not batch.user.mask[0].any()
    batch = batch if empty else pick_rows(batch, torch.tensor([1, 2, 3, 4]))
    later = torch.where(batch.user.mask, batch.user.times, batch.user.times - 12_345_678)
    assert far(scores(model, with_user(batch, times=later)), scores(model, batch)) <= 1e-6


@EVERY
def test_padding_and_what_it_holds_change_nothing(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    if options == ("target=head",):  # see the test above
        batch = pick_rows(batch, torch.tensor([1, 2, 3, 4]))
    padded = replace(batch, user=pad_left(batch.user, 3))
    padded = with_candidates(padded, visible=batch.candidates.visible + 3)
    assert far(scores(model, padded), scores(model, batch)) <= 1e-5
    later = torch.where(batch.user.mask, batch.user.times, batch.user.times - 12_345_678)
    assert far(scores(model, with_user(batch, times=later)), scores(model, batch)) <= 1e-6


@EVERY
def test_what_is_not_visible_changes_nothing(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch(full=True)
    if model.causal:
        blind = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 9))
        items = batch.user.items.clone()
        items[:, 9:] = items[:, 9:] % 20 + 3
        assert far(scores(model, with_user(blind, items=items)), scores(model, blind)) == 0
    else:  # such a model only ever sees whole histories
        shorter = replace(batch, user=keep_behaviors(batch.user, slice(0, 9)))
        shorter = with_candidates(shorter, visible=torch.full_like(batch.candidates.visible, 9))
        assert far(scores(model, shorter), scores(model, batch)) > 1e-4


def test_distance_and_time_both_matter() -> None:
    model, batch = suan("time_of_week=false"), toy_batch(full=True)
    slower = with_user(batch, times=batch.user.times - 30 * 86_400)
    assert far(scores(model, slower), scores(model, batch)) > 1e-3
    for name, parameter in model.named_parameters():
        if name == "stack.bias.sets.0.time":
            parameter.data.zero_()
    assert far(scores(model, slower), scores(model, batch)) == 0
    turned = with_user(
        batch,
        items=batch.user.items.flip(1),
        actions=batch.user.actions.flip(1),
        action_numbers=batch.user.action_numbers.flip(1),
    )
    assert far(scores(model, turned), scores(model, batch)) > 1e-3


# --- states


def test_appending_in_any_pieces_is_exact() -> None:
    model, batch = suan("blocks=3", "bias=blocks").double(), toy_batch(full=True)
    with torch.no_grad():
        whole = model.score(model.encode_user(batch.user), batch.candidates)
        for cuts in ((0, 12), (0, 1, 12), (0, 5, 6, 12), tuple(range(13))):
            state = model.encode_user(keep_behaviors(batch.user, slice(cuts[0], cuts[1])))
            for start, end in pairwise(cuts[1:]):
                state = model.extend_user(state, keep_behaviors(batch.user, slice(start, end)))
            assert far(model.score(state, batch.candidates), whole) <= 1e-6  # logits are 32-bit


def test_a_padded_history_can_be_appended_to() -> None:
    model, batch = suan(), pick_rows(toy_batch(), torch.tensor([1, 2, 3]))
    user = batch.user
    assert user.mask[:, -3:].all()
    with torch.no_grad():
        state = model.encode_user(keep_behaviors(user, slice(0, 9)))
        state = model.extend_user(state, keep_behaviors(user, slice(9, 12)))
        assert far(model.score(state, batch.candidates), scores(model, batch)) <= 1e-5


@pytest.mark.parametrize("options", [("pooling=global",), ("pooling=split",), ("pooling=behaviors",)])
def test_only_a_causal_model_can_append(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch(full=True)
    state = model.encode_user(batch.user)
    with pytest.raises(ConfigError, match=r"not causal.*pooling=prefix makes it causal"):
        model.extend_user(state, batch.user)


def test_rows_that_gain_differently_many_cannot_be_appended_at_once() -> None:
    model, batch = suan(), toy_batch()
    state = model.encode_user(batch.user)
    with pytest.raises(InputError, match="same number of behaviors"):
        model.extend_user(state, batch.user)


def test_half_precision_of_a_state_moves_logits_by_its_rounding() -> None:
    """Float16 keeps 11 bits: a relative 5e-4 of what is kept."""
    model, batch = suan(), toy_batch(full=True)
    exact = scores(model, batch)
    with torch.no_grad():
        halved = model.score(model.encode_user(batch.user).to(dtype=torch.float16), batch.candidates)
    assert 0 < far(halved, exact) <= 1e-3 * float(exact.abs().max())


@pytest.mark.parametrize("options", [(), ("target=head",), ("pooling=global",), ("block.fusion=self",)])
def test_states_split_and_stack(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    with torch.no_grad():
        states = model.encode_user(batch.user).split()
        assert len(states) == 5
        assert far(model.score(stack(states), batch.candidates), scores(model, batch)) <= 1e-6


# --- sizes


def test_grades_are_those_of_table_4() -> None:
    sizes = [(c.d, c.blocks, c.heads) for c in presets("suan").values() if isinstance(c, ModelConfig)]
    assert sizes == [(8, 1, 1), (8, 2, 2), (16, 4, 4), (32, 8, 8), (144, 12, 12)]


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="no multiple of heads=5"):
        toy_model("suan", "heads=5")
