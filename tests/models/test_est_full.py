import pytest
import torch

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.models.est import PRESETS as LIGHT
from clickscale.models.est_full import PRESETS, ESTFull
from tests.models.test_contract import (
    cache_gap,
    far,
    future_gap,
    hidden_tail,
    padding_gap,
    permutation_gap,
    ragged_gap,
    row_gap,
    scores,
    without_gradient,
)
from tests.models.toy import keep_behaviors, pick_candidates, toy_batch, toy_model, with_candidates

VARIANTS = [
    ("kept=3", "recent=4"),
    ('mask_blocks=["NN","BB"]', "recent=4", "kept=0"),
    ("search=hash", "content=both", "heads=4"),
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_variant_keeps_the_contract(options: tuple[str, ...]) -> None:
    model, full, ragged = toy_model("est_full", *options), toy_batch(full=True), toy_batch()
    assert not model.causal
    assert permutation_gap(model, full) <= 2e-6
    assert row_gap(model, ragged) <= 2e-6
    assert padding_gap(model, ragged) <= 2e-6
    assert cache_gap(model, full) <= 1e-5
    assert ragged_gap(model, full) <= 1e-5
    assert future_gap(model, *hidden_tail(full)) == 0
    assert not without_gradient(model, ragged)


def test_a_timeline_gives_each_candidate_what_it_gets_alone() -> None:
    model = toy_model("est_full", "kept=3", "recent=5")
    batch = with_candidates(
        toy_batch(rows=3, candidates=3, full=True),
        visible=torch.tensor([[12, 7, 1], [0, 3, 12], [5, 5, 6]]),
    )
    for row, place in torch.cartesian_prod(torch.arange(3), torch.arange(3)).tolist():
        visible = int(batch.candidates.visible[row, place])
        one = pick_candidates(batch, torch.tensor([place]))
        alone = with_candidates(one, visible=torch.full((3, 1), visible))
        user = keep_behaviors(one.user, slice(0, visible))
        cut = Batch(user, alone.candidates, one.labels, one.label_mask, one.rows)
        assert far(scores(model, batch)[row, place], scores(model, cut)[row, 0]) <= 1e-5


def test_a_cut_pair_of_kinds_changes_scores() -> None:
    whole, batch = scores(toy_model("est_full"), toy_batch()), toy_batch()
    for kind in ("NN", "NB", "BN", "BB"):
        assert far(scores(toy_model("est_full", f'mask_blocks=["{kind}"]'), batch), whole) > 1e-5


def test_bfloat16_changes_scores_little() -> None:
    model, batch = toy_model("est_full"), toy_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = scores(model, batch)
    assert rounded.dtype == torch.float32
    assert 0 < far(rounded, scores(model, batch)) <= 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not without_gradient(model, batch)


def test_grades_have_the_sizes_of_the_model_that_they_are_compared_with() -> None:
    for name, config in PRESETS.items():
        light = LIGHT[name]
        assert (config.d, config.width, config.blocks) == (light.d, light.width, light.blocks)
        assert (config.hidden, config.head) == (light.hidden, light.head)


def test_the_model_says_what_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match="'NC'"):
        toy_model("est_full", 'mask_blocks=["NC"]')
    with pytest.raises(ConfigError, match="search=learned is trained by"):
        toy_model("est_full", "search=learned")
    with pytest.raises(ConfigError, match="csa"):
        toy_model("est_full", "csa=paper")
    assert isinstance(toy_model("est_full"), ESTFull)
