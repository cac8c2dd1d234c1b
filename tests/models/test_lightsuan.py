"""LightSUAN against its equations, and what sparsity promises."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from clickscale.batch import Batch
from clickscale.errors import ConfigError, InputError
from clickscale.models import CTRModel, stack
from clickscale.models._suan.causal import AppendableState, ScoringState
from clickscale.models.lightsuan import ModelConfig
from tests.everyday import thinned
from tests.models.restated import gaps, shake_statistics
from tests.models.restated_suan import restated_suan
from tests.models.toy import keep_behaviors, toy_batch, toy_model, with_candidates, with_user

OPTIONS = [
    (),
    ("k=1", "r=3"),
    ("k=3", "r=4"),
    ("k=4", "r=3", "blocks=3"),
    ("k=1", "r=30"),
    ("k=30", "r=2"),
    ("r=1",),
    ("bias=blocks", "buckets=paper", "r=3"),
    ("bias=none", "r=4"),
    ("block.residual=prenorm", "candidate=linear", "time_of_week=false"),
    ("phase=paper",),
    ("phase=head", "k=1", "r=3"),
    ("phase=block_head", "k=3", "r=4", "bias=blocks"),
    ("phase=block_head", "heads=4", "r=3", "blocks=3", "bias=heads"),
    ("phase=block_head", "heads=1", "r=4"),
    ("phase=head", "k=1", "r=30", "bias=none"),
    ("candidates_read=all", "r=4"),
    ("candidates_read=all", "phase=block_head", "k=3", "r=4"),
]


def lightsuan(*overrides: str, length: int = 12) -> CTRModel[Any]:
    """A toy model whose candidates read the pattern, unless ``overrides`` say otherwise."""
    model = toy_model("lightsuan", "candidates_read=pattern", *overrides, length=length)
    shake_statistics(model)
    return model


def scores(model: CTRModel[Any], batch: Batch) -> Tensor:
    with torch.no_grad():
        return model(batch)


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def restatement_gap(model: CTRModel[Any], batch: Batch) -> float:
    assert isinstance(model.config, ModelConfig)
    return gaps(model.double(), batch, partial(restated_suan, config=model.config, length=model.length))[0]


@thinned("options", OPTIONS, ids=lambda options: "-".join(options) or "default")
def test_against_numpy(options: tuple[str, ...]) -> None:
    """The batch holds an empty history, short ones, padded candidates and missing numbers."""
    assert restatement_gap(lightsuan(*options), toy_batch(rows=4, candidates=3)) <= 1e-9


@thinned("options", OPTIONS, ids=lambda options: "-".join(options) or "default")
def test_part_of_a_timeline_against_numpy(options: tuple[str, ...]) -> None:
    batch = toy_batch(rows=3, candidates=3, full=True)
    batch = with_candidates(batch, visible=torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]]))
    assert restatement_gap(lightsuan(*options), batch) <= 1e-9


def test_without_dilation_it_is_suan() -> None:
    light, full = toy_model("lightsuan", "r=1"), toy_model("suan")
    full.load_state_dict(light.state_dict())
    batch = toy_batch()
    assert far(scores(light, batch), scores(full, batch)) <= 1e-6
    sparse = lightsuan("r=3")
    sparse.load_state_dict(light.state_dict())
    assert far(scores(sparse, batch), scores(full, batch)) > 1e-3


@pytest.mark.parametrize(
    ("options", "distances"),
    [
        (("phase=paper",), {1, 3, 6, 9, 12}),
        (("phase=head",), {1, 3, 4, 6, 7, 9, 10, 12}),  # phases 0 and 1
        (("phase=head", "heads=3"), set(range(1, 13))),
        (("phase=paper", "candidates_read=all"), set(range(1, 13))),
    ],
)
def test_a_behavior_outside_the_pattern_reaches_a_candidate_of_one_block_through_the_mean_alone(
    options: tuple[str, ...], distances: set[int]
) -> None:
    model = lightsuan("blocks=1", "k=2", "r=3", "block.fusion=self", *options)
    batch = toy_batch(full=True)
    moved = {}
    for column in range(12):
        items = batch.user.items.clone()
        items[:, column] = items[:, column] % 20 + 3
        moved[12 - column] = far(scores(model, batch), scores(model, with_user(batch, items=items)))
    assert {distance for distance, gap in moved.items() if gap > 0} == distances


@pytest.mark.parametrize(
    ("options", "patterns", "rows"),
    [
        (("k=2", "r=2", "phase=paper"), 1, 7),
        (("k=2", "r=4", "phase=paper"), 1, 4),
        (("k=3", "r=4", "phase=paper"), 1, 5),
        (("k=1", "r=5", "phase=paper"), 1, 2),
        (("k=2", "r=1", "phase=head"), 1, 12),
        (("k=2", "r=2", "phase=head"), 2, 7),  # of the second head 6, and a column of padding
        (("k=2", "r=4", "phase=head"), 2, 4),
        (("k=3", "r=4", "phase=block_head"), 4, 5),
        (("k=1", "r=5", "phase=block_head"), 4, 3),
        (("k=2", "r=4", "phase=block_head", "candidates_read=all"), 1, 12),
    ],
)
def test_a_scoring_state_keeps_what_candidates_read(
    options: tuple[str, ...], patterns: int, rows: int
) -> None:
    model, batch = lightsuan(*options), toy_batch(full=True)
    with torch.no_grad():
        state = model.encode_user(batch.user)
        kept = model.scoring_state(state)
    assert isinstance(state, AppendableState)
    assert isinstance(kept, ScoringState)
    assert kept.mask.shape == (5, patterns, rows)
    assert all(key.shape[2] == rows for key in kept.keys)
    width = kept.keys[0].shape[1] * kept.keys[0].shape[3]
    assert kept.sums[0].shape == (5, width // 4)
    assert kept.nbytes < state.nbytes


@pytest.mark.parametrize(
    "options", [("phase=paper",), ("phase=head",), ("phase=block_head",), ("candidates_read=all",)]
)
@pytest.mark.parametrize("k", [1, 3])
def test_scoring_states_of_different_lengths_stack(k: int, options: tuple[str, ...]) -> None:
    model, batch = lightsuan(f"k={k}", "r=4", *options), toy_batch(full=True)
    users = [keep_behaviors(batch.user, slice(12 - length, 12)) for length in (5, 12, 8, 1, 0)]
    with torch.no_grad():
        kept = [model.scoring_state(model.encode_user(user)).split()[row] for row, user in enumerate(users)]
        together = model.score(stack(kept), batch.candidates)
        for row, user in enumerate(users):
            seen = with_candidates(
                batch, visible=torch.full_like(batch.candidates.visible, user.items.shape[1])
            )
            alone = model.score(model.encode_user(user), seen.candidates)
            assert far(together[row], alone[row]) <= 1e-5


def test_what_is_kept_for_less_refuses_more() -> None:
    model, batch = lightsuan("r=4"), toy_batch(full=True)
    state = model.encode_user(batch.user)
    one = keep_behaviors(batch.user, slice(0, 1))
    with pytest.raises(InputError, match="kept for scoring; encode the user again"):
        model.extend_user(model.scoring_state(state), one)
    partly = with_candidates(batch, visible=torch.full_like(batch.candidates.visible, 5))
    with pytest.raises(InputError, match="candidates that see all of it"):
        model.score(model.appendable_state(state), partly.candidates)


@pytest.mark.parametrize("option", ["k=0", "r=0"])
def test_a_pattern_that_sees_nothing_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option[0]} is 0; at least 1"):
        toy_model("lightsuan", option)
