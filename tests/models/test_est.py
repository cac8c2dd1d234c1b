from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from clickscale.batch import Batch
from clickscale.costs.flops import measure_cost, paper_request, reference_features, reference_items
from clickscale.errors import ConfigError, InputError
from clickscale.models import CTRModel, build_model, score_in_chunks, stack
from clickscale.models.est import EST, PRESETS, ModelConfig, _resolve
from tests.everyday import thinned
from tests.models.restated import head_input, shake_statistics, tower, weights_of
from tests.models.restated_est import Restated
from tests.models.test_contract import (
    append_gap,
    cache_gap,
    far,
    future_gap,
    hidden_tail,
    padding_gap,
    permutation_gap,
    row_gap,
    scores,
    without_gradient,
)
from tests.models.toy import (
    features,
    item_columns,
    keep_behaviors,
    pick_candidates,
    pick_rows,
    toy_batch,
    toy_model,
    with_candidates,
    with_user,
)

VARIANTS = [
    (),
    ("csa=paper",),
    ("csa=none",),
    ("kept=0",),
    ("kept=3",),
    ("recent=4",),
    ("recent=4", "csa=paper"),
    ("search=field", "kept=4"),
    ("search=hash", "kept=4"),
    ("content=both",),
    ("content=none", "csa=none"),
    ("heads=4", "csa=paper"),
    ("weighting=softmax",),
    ("weighting=l1", "csa=paper"),
    ("time=none",),
]
BEYOND = [
    ("search=learned", "kept=4"),
    ("search=learned", "csa=none", "kept=2"),
]


def timeline() -> Batch:
    """Candidates that see different parts of one row."""
    return with_candidates(
        toy_batch(rows=3, candidates=3, full=True),
        visible=torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]]),
        oldest=torch.tensor([[2, 0, 0], [0, 1, 4], [5, 0, 0]]),
    )


@thinned("options", VARIANTS, ids=str)
def test_every_variant_agrees_with_its_restatement(options: tuple[str, ...]) -> None:
    model = toy_model("est", *options)
    shake_statistics(model)
    w = weights_of(model)
    for batch in (toy_batch(rows=3, seed=3), timeline()):
        found, logits = head_input(model, batch)
        restated = Restated(model, w, batch)
        for row, place in batch.candidates.mask.nonzero().tolist():
            expected = restated.head_input(row, place)
            assert np.abs(found[row, place].double().numpy() - expected).max() <= 1e-5
            assert np.abs(logits[row, place].double().numpy() - tower(model, w, expected)).max() <= 1e-5


@thinned("options", VARIANTS[1:] + BEYOND, ids=str, every=4)
def test_every_variant_keeps_the_contract(options: tuple[str, ...]) -> None:
    model, full, ragged = toy_model("est", *options), toy_batch(full=True), toy_batch()
    assert model.causal == ("csa=paper" not in options)
    assert permutation_gap(model, full) <= 1e-6
    assert row_gap(model, ragged) <= 2e-6
    assert padding_gap(model, ragged) <= 2e-6
    assert cache_gap(model, full) <= 1e-5
    assert future_gap(model, *hidden_tail(full)) == 0
    if model.causal:
        assert append_gap(model, full) <= 1e-5
    else:
        with pytest.raises(InputError, match="causal"):
            model.extend_user(model.encode_user(full.user), full.user)
    assert not without_gradient(model, ragged)


@pytest.mark.parametrize("options", [(), ("csa=paper",)], ids=str)
def test_a_timeline_gives_each_candidate_what_it_gets_alone(options: tuple[str, ...]) -> None:
    model, batch = toy_model("est", *options), timeline()
    batch = with_candidates(batch, oldest=torch.zeros_like(batch.candidates.oldest))
    for row in range(3):
        for place in range(3):
            visible = int(batch.candidates.visible[row, place])
            one = pick_candidates(batch, torch.tensor([place]))
            alone = with_candidates(one, visible=torch.full((3, 1), visible))
            cut = Batch(
                keep_behaviors(one.user, slice(0, visible)),
                alone.candidates,
                one.labels,
                one.label_mask,
                one.rows,
            )
            assert far(scores(model, batch)[row, place], scores(model, cut)[row, 0]) <= 1e-5


@pytest.mark.parametrize("options", [("kept=4",), ("kept=4", "csa=paper")], ids=str)
def test_a_request_in_pieces_and_from_a_kept_state_gives_the_same_scores(options: tuple[str, ...]) -> None:
    model, batch = toy_model("est", "recent=5", *options), toy_batch(full=True)
    whole = scores(model, batch)
    with torch.no_grad():
        state = model.encode_user(batch.user)
        assert far(score_in_chunks(model, state, batch.candidates, 3), whole) <= 1e-5
        kept = model.scoring_state(state)
        assert far(model.score(stack(kept.split()), batch.candidates), whole) <= 1e-5
    assert kept.keys[0].shape[2] == 5  # type: ignore[attr-defined]
    assert kept.nbytes <= state.nbytes


def test_a_state_that_was_kept_for_scoring_refuses_more() -> None:
    model, batch = toy_model("est", "recent=5"), toy_batch(full=True)
    state = model.scoring_state(model.encode_user(batch.user))
    with pytest.raises(InputError, match="scoring_state has cut"):
        model.extend_user(state, batch.user)
    with pytest.raises(InputError, match="encode the user again"):
        model.score(state, hidden_tail(batch)[0].candidates)


def test_appending_to_a_padded_row_is_refused() -> None:
    model, batch = toy_model("est"), toy_batch()
    with pytest.raises(InputError, match="as many behaviors"):
        model.extend_user(model.encode_user(batch.user), batch.user)


def test_lifelong_behaviors_matter_through_the_search_alone() -> None:
    batch = toy_batch(full=True)
    items = batch.user.items.clone()
    items[:, 0] = items[:, 0] % 20 + 3  # old: beyond the last four
    changed = with_user(batch, items=items)
    without = toy_model("est", "recent=4", "kept=0", "csa=paper")
    assert far(scores(without, batch), scores(without, changed)) == 0
    with_search = toy_model("est", "recent=4", "kept=12", "csa=paper")
    assert far(scores(with_search, batch), scores(with_search, changed)) > 1e-4


def test_without_content_every_choice_that_needs_it_is_left_out() -> None:
    made = features()
    bare = replace(made, item=made.item[:-1])
    config = _resolve(ModelConfig(), bare)
    assert (config.search, config.field, config.content, config.csa) == ("field", "tags", "none", "none")
    config = _resolve(ModelConfig(), made)
    assert (config.search, config.content, config.csa) == ("content", "simtier", "causal")
    columns = {name: column for name, column in item_columns().items() if name != "field.text"}
    assert build_model("est", bare, columns).causal
    for option in ("search=content", "content=simtier", "content=side", "csa=causal", "csa=paper"):
        with pytest.raises(ConfigError, match=f"{option} needs content vectors"):
            build_model("est", bare, columns, overrides=(option,))


@pytest.mark.parametrize("options", [(), ("search=learned",), ("csa=none",)], ids=str)
def test_bfloat16_changes_scores_little(options: tuple[str, ...]) -> None:
    model, batch = toy_model("est", *options), toy_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = scores(model, batch)
    assert rounded.dtype == torch.float32
    assert 0 < far(rounded, scores(model, batch)) <= 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not without_gradient(model, batch)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("field=tagz", "did you mean 'tags'"),
        ("heads=5", "width=32 is not a multiple of heads=5"),
        ("recent=0", "recent is 0; at least 1"),
        ("tiers=65", "tiers is 65; at most 64"),
        ("csa=future", "Unknown csa 'future'"),
    ],
)
def test_options_that_cannot_be_are_refused(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_model("est", option)


def paper_cost(name: str, *overrides: str, grade: str = "est-paper") -> tuple[CTRModel[Any], float, float]:
    """The model, millions of dense parameters, and 10^9 operations of a request of 60 candidates."""
    request = paper_request("est", grade)
    made = reference_features(request=request)
    model = build_model(
        name, made, reference_items(made), grade=grade, length=request.length, overrides=overrides
    )
    cost = measure_cost(model, made, request.length, candidates=60)
    return model, cost.dense / 1e6, cost.gflops


def saved(per_behavior: int) -> float:
    """10^9 operations of 50 behaviors of each candidate, less those of the 300 behaviors of the user.

    Args:
        per_behavior: multiplications and additions, each pair counted once.
    """
    return 2 * (60 * 50 - 300) * per_behavior / 1e9


KEYS_VALUES, FEED_FORWARD = 2 * 128**2, 3 * 128 * 85
PAIRS = 2 * 128 * (60 * 50**2 - 300**2) / 1e9  # cosines of retrieved behaviors, likewise


@pytest.mark.wide
def test_the_paper_grade_costs_what_the_paper_prints() -> None:
    model, parameters, operations = paper_cost("est")
    assert isinstance(model, EST)
    assert len(model.inputs.names) == 52
    assert parameters == pytest.approx(103.97, rel=0.005)
    assert operations + saved(KEYS_VALUES) + PAIRS == pytest.approx(18.51, rel=0.005)
    model.light.rule = None
    made = reference_features(request=paper_request("est", "est-paper"))
    without = measure_cost(model, made, 300, 60).gflops
    assert without + 6 * saved(KEYS_VALUES + FEED_FORWARD) == pytest.approx(18.42, rel=0.005)


@pytest.mark.wide
def test_full_attention_of_the_paper_grade_costs_what_the_paper_prints() -> None:
    small = "head.hidden=[64]"  # the tower costs the same in both
    full = paper_cost("est_full", small)[2] + saved(3 * 128**2)
    light = paper_cost("est", small)[2] + saved(KEYS_VALUES) + PAIRS
    assert full - light == pytest.approx(66.5 - 18.51, rel=0.005)


@pytest.mark.wide
def test_the_other_reading_of_the_paper_costs_the_same() -> None:
    _, parameters, operations = paper_cost("est", grade="est-blocks")
    assert parameters == pytest.approx(104.51, rel=0.005)
    assert operations + saved(KEYS_VALUES) + PAIRS == pytest.approx(18.58, rel=0.005)


def test_grades_grow_in_depth_and_width() -> None:
    sizes = [(c.width, c.blocks) for name, c in sorted(PRESETS.items()) if name.startswith("size")]
    assert sizes == sorted(sizes)
    assert len(sizes) == 5


def test_kept_states_of_different_lengths_stack() -> None:
    for options in ((), ("csa=paper",)):
        model, batch = toy_model("est", "recent=5", "kept=4", *options), toy_batch(full=True)
        states, alone = [], []
        for row, length in enumerate((3, 12, 5, 8, 1)):
            one = pick_rows(batch, torch.tensor([row]))
            user = keep_behaviors(one.user, slice(12 - length, 12))
            side = with_candidates(one, visible=torch.full_like(one.candidates.visible, length)).candidates
            with torch.no_grad():
                states.append(model.scoring_state(model.encode_user(user)))
                alone.append(model.score(model.encode_user(user), side))
        with torch.no_grad():
            together = model.score(stack(states), batch.candidates)
        assert far(together, torch.cat(alone)) <= 1e-5
