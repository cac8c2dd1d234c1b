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
from clickscale.benchmarking.paper_tables import TABLES
from clickscale.errors import ConfigError, InputError
from clickscale.models import CTRModel, model_config, presets, stack
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState
from clickscale.models.suan import ModelConfig
from tests.everyday import thinned
from tests.models.restated import gaps, shake_statistics
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

ABLATIONS = {
    variant.key: tuple(option.removeprefix("model.") for option in variant.options)
    for table in TABLES["suan"]
    for variant in table.others
    if variant.model == "suan"
}

VARIANTS = [
    (),
    *ABLATIONS.values(),
    ("block.residual=code",),
    ("block.residual=code", "block.norm=layer", "block.ffn=none"),
    ("block.residual=postnorm", "block.fusion=sum"),
    ("block.residual=literal",),
    ("block.residual=literal", "block.ffn=none", "block.fusion=self"),
    ("block.ffn=relu", "block.scale=paper"),
    ("bias=heads", "buckets=paper"),
    ("bias=blocks", "block.residual=code"),
    ("time_of_week=false",),
    ("candidate=linear",),
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


@thinned("options", VARIANTS, ids=lambda options: "-".join(options) or "default")
def test_against_numpy(options: tuple[str, ...]) -> None:
    """The batch holds an empty history, short ones, padded candidates and missing numbers."""
    model, batch = suan(*options), toy_batch(rows=4, candidates=3)
    assert max(restatement_gaps(model, batch)) <= 1e-5
    inner, outer = restatement_gaps(model.double(), batch)
    assert inner <= 1e-9
    assert outer <= 1e-6  # logits are 32-bit


def test_distances_beyond_the_length_share_an_entry() -> None:
    assert restatement_gaps(suan(length=5).double(), toy_batch(rows=3, candidates=2))[0] <= 1e-9


def test_part_of_a_timeline_against_numpy() -> None:
    """A candidate in the middle of a window is the end of the sequence before it."""
    batch = toy_batch(rows=3, candidates=3, full=True)
    batch = with_candidates(batch, visible=torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]]))
    assert restatement_gaps(suan().double(), batch)[0] <= 1e-9


def test_nothing_of_later_behaviors_is_in_what_is_kept_of_earlier_ones() -> None:
    model, batch = suan(), toy_batch(full=True)
    with torch.no_grad():
        whole = model.encode_user(batch.user)
        early = model.encode_user(keep_behaviors(batch.user, slice(0, 8)))
    assert isinstance(whole, AppendableState)
    assert isinstance(early, AppendableState)
    for long, short in zip(whole.keys, early.keys, strict=True):
        assert far(long[:, :, :8], short) <= 1e-5


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
    assert len(found) == 4 + 2 + 2 + 4 + 2 + 3 + 3 + 2 + 3


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


def test_ablations_are_those_of_the_paper_but_for_the_literal_one_and_no_two_are_equal() -> None:
    assert list(ABLATIONS) == list("ABCEFG")
    made = {msgspec.json.encode(model_config("suan", overrides=options)) for options in ABLATIONS.values()}
    assert len(made | {msgspec.json.encode(model_config("suan"))}) == 7


EVERY = pytest.mark.parametrize(
    "options",
    [*ABLATIONS.values(), (), ("block.residual=prenorm",), ("block.residual=literal",)],
    ids=lambda options: "-".join(options) or "default",
)


@EVERY
def test_candidates_and_rows_do_not_meet(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    order = torch.tensor([2, 0, 3, 1])
    assert far(scores(model, pick_candidates(batch, order)), scores(model, batch)[:, order]) <= 1e-5
    alone = torch.cat([scores(model, pick_rows(batch, torch.tensor([row]))) for row in range(5)])
    assert far(alone, scores(model, batch)) <= 1e-5


@EVERY
def test_padding_and_what_it_holds_change_nothing(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    padded = replace(batch, user=pad_left(batch.user, 3))
    padded = with_candidates(padded, visible=batch.candidates.visible + 3)
    assert far(scores(model, padded), scores(model, batch)) <= 1e-5
    later = torch.where(batch.user.mask, batch.user.times, batch.user.times - 12_345_678)
    assert far(scores(model, with_user(batch, times=later)), scores(model, batch)) <= 1e-6


@EVERY
def test_what_is_not_visible_changes_nothing(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch(full=True)
    blind = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 9))
    items = batch.user.items.clone()
    items[:, 9:] = items[:, 9:] % 20 + 3
    assert far(scores(model, with_user(blind, items=items)), scores(model, blind)) == 0


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


@pytest.mark.parametrize("options", [(), ("block.fusion=self",)])
def test_states_split_and_stack(options: tuple[str, ...]) -> None:
    model, batch = suan(*options), toy_batch()
    with torch.no_grad():
        states = model.encode_user(batch.user).split()
        assert len(states) == 5
        assert far(model.score(stack(states), batch.candidates), scores(model, batch)) <= 1e-6


# --- sizes


def test_grades_are_those_of_table_4() -> None:
    sizes = [(c.d, c.blocks, c.heads) for c in presets("suan").values() if isinstance(c, ModelConfig)]
    assert sizes[:5] == [(8, 1, 1), (8, 2, 2), (16, 4, 4), (32, 8, 8), (144, 12, 12)]


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a multiple of heads=5"):
        toy_model("suan", "heads=5")
