"""Mistakes of public implementations that no other test of a model, layer or search would see."""

import numpy as np
import pytest
import torch

from clickscale.layers.head import BatchDice, Dice
from clickscale.layers.local_activation import LocalActivation
from clickscale.layers.retrieval import ContentTable, ItemTokens, SearchUnit
from tests.models.test_contract import FITTED, far, overfit, padding_gap, scores
from tests.models.toy import pick_candidates, pick_rows, toy_batch, toy_model


def test_dice_begins_as_a_gated_relu_and_its_normalization_has_no_weights() -> None:
    """Some begin with a slope of -0.25, some normalize with a gain and a shift."""
    for dice in (BatchDice(3), Dice(3)):
        assert [name for name, _ in dice.named_parameters()] == ["alpha"]
        assert not dice.alpha.detach().any()
    for kind in ("learned", "batch"):
        activation = LocalActivation(4, hidden=3, dice=kind)
        assert not activation.dice.alpha.detach().any()
    assert dict(activation.dice.named_parameters()).keys() == {"alpha"}


def test_padding_adds_nothing_to_small_networks_with_biases() -> None:
    """A network with a bias makes something of a zero, so padding is left out behind it, not before."""
    model = toy_model("can", "widths=[4,4,4]", "bias=true")
    assert padding_gap(model, toy_batch()) <= 2e-6


def test_small_networks_are_looked_up_for_candidates_alone() -> None:
    """One network per candidate; one per behavior would fill the memory."""
    model, batch = toy_model("can"), toy_batch()
    asked: list[torch.Size] = []
    model.weights.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1].shape))  # type: ignore[operator, union-attr]
    scores(model, batch)
    assert asked == [batch.candidates.items.shape]


def test_a_behavior_of_negative_relevance_is_found_before_padding() -> None:
    """A mask that multiplies relevance gives padding a zero, which is more than a negative number."""
    torch.manual_seed(0)
    unit = SearchUnit("learned", 2, 3)
    assert unit.learned is not None
    with torch.no_grad():
        unit.learned.candidate.weight.copy_(-unit.learned.behavior.weight)
    tokens = torch.rand(1, 1, 3)
    behaviors = torch.cat([torch.zeros(1, 3, 3), tokens, 2 * tokens], dim=1)  # the first three are padding
    seen = torch.tensor([[[False, False, False, True, True]]])
    items = torch.tensor([[0, 0, 0, 2, 3]])
    found = unit(ItemTokens(torch.tensor([[2]]), tokens), ItemTokens(items, behaviors), seen, None)
    assert found.columns.tolist() == [[[3, 4]]]
    assert found.mask.all()
    assert found.relevance is not None
    assert (found.relevance < 0).all()


def test_a_behavior_with_a_cosine_of_zero_is_found() -> None:
    """Zero is a cosine like any other, and no sign of padding or of missing content."""
    table = ContentTable([np.array([[0, 0], [0, 0], [1, 0], [0, 1], [0, 0]])])
    unit = SearchUnit("content", 5, 2)
    candidates, behaviors = torch.tensor([[2]]), torch.tensor([[0, 3, 4, 2]])  # padding, orthogonal, unknown
    seen = torch.tensor([[[False, True, True, True]]])
    tokens = torch.zeros(1, 4, 2)
    found = unit(
        ItemTokens(candidates, tokens[:, :1]),
        ItemTokens(behaviors, tokens),
        seen,
        table.compare(candidates, behaviors),
    )
    assert found.columns[found.mask].tolist() == [1, 3]


def test_content_vectors_are_frozen() -> None:
    table = ContentTable([np.ones((3, 2))])
    assert not list(table.parameters())
    assert not table(torch.tensor([1])).requires_grad


def test_the_planes_of_a_hash_are_drawn_once() -> None:
    """Drawn at every call, or learned, they would hash differently in training and in serving."""
    model, batch = toy_model("eta"), toy_batch(rows=6, seed=2)
    planes = model.interests.search.hash.directions  # type: ignore[union-attr]
    before = planes.clone()
    assert all(parameter is not planes for parameter in model.parameters())
    assert overfit(model, batch) < FITTED
    assert torch.equal(planes, before)
    other = toy_model("eta", seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.interests.search.hash.directions, before)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options", [("cross=mixture",), ("head.hidden=[]",), ("structure=stacked", "head.hidden=[]")]
)
def test_crosses_take_one_row_and_need_no_tower(options: tuple[str, ...]) -> None:
    """A squeeze would drop the only row of a batch, and no hidden layer leaves the crosses alone."""
    model, batch = toy_model("dcnv2", *options), toy_batch(full=True)
    one = pick_candidates(pick_rows(batch, torch.tensor([2])), torch.tensor([1]))
    assert scores(model, one).shape == (1, 1, 1)
    assert far(scores(model, one), scores(model, batch)[2:3, 1:2]) <= 2e-6
