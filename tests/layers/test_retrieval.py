import numpy as np
import pytest
import torch
from torch import Tensor

from clickscale.layers.retrieval import (
    GRID,
    ContentTable,
    ItemTokens,
    SearchKind,
    SearchUnit,
    _AttributeSearch,
    _HashSearch,
    _LearnedSearch,
    _unit_grid,
    ranked,
    top_behaviors,
)


def every(similarity: Tensor) -> Tensor:
    return torch.ones(similarity.shape, dtype=torch.bool)


def test_directions_become_whole_numbers_and_zeros_stay() -> None:
    grid = _unit_grid(np.array([[3.0, 4.0], [0.0, 0.0], [-5.0, 0.0]], np.float16))
    assert grid.tolist() == [[2400, 3200], [0, 0], [-4000, 0]]
    assert _unit_grid(np.zeros((0, 3))).shape == (0, 3)


def test_the_best_behaviors_come_oldest_first_and_ties_go_to_the_newer() -> None:
    similarity = torch.tensor([[[5.0, 7.0, 5.0, -1.0, 5.0]]])
    columns, mask = top_behaviors(similarity, every(similarity), 3)
    assert columns.tolist() == [[[1, 2, 4]]]
    assert mask.all()
    equal = torch.zeros(1, 1, 6)
    assert top_behaviors(equal, every(equal), 2)[0].tolist() == [[[4, 5]]]


def test_what_is_not_allowed_is_never_taken() -> None:
    similarity = torch.tensor([[[5.0, 7.0, 6.0]]])
    allowed = torch.tensor([[[True, False, True]]])
    columns, mask = top_behaviors(similarity, allowed, 2)
    assert columns.tolist() == [[[0, 2]]]
    assert mask.all()
    columns, mask = top_behaviors(-similarity, allowed, 3)
    assert mask.tolist() == [[[False, True, True]]]
    assert columns[0, 0, 1:].tolist() == [0, 2]
    assert not top_behaviors(similarity, torch.zeros_like(allowed), 2)[1].any()
    assert top_behaviors(torch.zeros(2, 3, 0), torch.zeros(2, 1, 0, dtype=torch.bool), 4)[0].shape == (
        2,
        3,
        0,
    )


def test_the_selection_equals_sorting_every_row() -> None:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randint(-3, 4, (3, 7, 40), generator=generator).float()  # many ties
    allowed = torch.rand(3, 7, 40, generator=generator) < 0.7
    columns, mask = top_behaviors(similarity, allowed, 9)
    for row in range(3):
        for place in range(7):
            scores = [(similarity[row, place, c].item(), c) for c in range(40) if allowed[row, place, c]]
            expected = sorted(c for _, c in sorted(scores, reverse=True)[:9])
            assert columns[row, place][mask[row, place]].tolist() == expected


def test_cosines_of_equal_items_are_equal_in_any_company() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 384))
    table = ContentTable([vectors])
    behaviors = torch.arange(2, 50).repeat(30)[None]  # every item thirty times
    candidates = torch.arange(2, 19)[None]
    together = table.compare(candidates, behaviors).dots
    assert all(
        torch.equal(together[..., i::48], together[..., i : i + 1].expand(-1, -1, 30)) for i in range(48)
    )
    alone = torch.cat([table.compare(candidates[:, [i]], behaviors).dots for i in range(17)], dim=1)
    assert torch.equal(together, alone)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = together[0, :, :48].numpy() / GRID**2
    assert np.abs(found - unit[2:19] @ unit[2:].T).max() < 5e-4
    assert np.abs(_unit_grid(vectors).astype(float)).sum(axis=1).max() < 2**31


def test_the_largest_product_of_grid_vectors_is_still_exact() -> None:
    wide = _unit_grid(np.ones((1, 4096))).astype(np.int64)  # every component is rounded the same way
    assert int((wide[0] ** 2).sum()) < 2**24
    worst = GRID + 0.5 * 4096**0.5  # length of a unit vector of which every component was rounded up
    assert worst**2 < 2**24


def test_several_content_fields_weigh_alike_and_padding_has_none() -> None:
    first, second = np.array([[9.0], [1.0], [2.0]]), np.array([[9.0, 9.0], [0.0, 0.0], [0.0, 700.0]])
    table = ContentTable([first, second])
    assert table.known.tolist() == [False, True, True]
    assert table(torch.tensor(0)).tolist() == [0, 0, 0]
    assert table(torch.tensor(2)).tolist() == [2828, 0, 2828]
    assert not table.compare(torch.tensor([[1]]), torch.tensor([[0]])).known.any()


def test_an_attribute_search_counts_shared_values_and_never_matches_unknown() -> None:
    codes = np.array([[0, 0, 0], [1, 0, 0], [2, 3, 3], [3, 4, 0], [3, 2, 0], [1, 2, 0]])
    search = _AttributeSearch(codes)
    shared = search.compare(torch.tensor([[2, 1, 0]]), torch.tensor([[0, 1, 2, 3, 4, 5]]))
    assert shared.tolist() == [[[0, 0, 2, 1, 2, 1], [0] * 6, [0] * 6]]
    flat = _AttributeSearch(np.array([0, 1, 7, 7, 8]))
    assert flat.compare(torch.tensor([[2]]), torch.tensor([[2, 3, 4, 1]])).tolist() == [[[1, 1, 0, 0]]]


def test_a_hash_search_is_equal_minus_different_bits() -> None:
    search = _HashSearch(2, bits=3)
    search.directions.copy_(torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    x = torch.tensor([[[2.0, -1.0]]])  # signs + - +
    y = torch.tensor([[[1.0, 1.0], [-1.0, 0.0], [2.0, -5.0]]])  # + + +, - - -, + - -
    assert search.compare(x, y).tolist() == [[[1, -1, 1]]]
    assert "directions" in search.state_dict()


def test_a_learned_search_ranks_by_the_product_of_its_projections() -> None:
    search = _LearnedSearch(2, out=4)
    x, y = torch.randn(1, 3, 2), torch.randn(1, 5, 2)
    expected = (x @ search.candidate.weight.T) @ (y @ search.behavior.weight.T).transpose(1, 2) / 2
    assert torch.allclose(search(x, y), expected)
    assert ranked(torch.tensor([1.5 / 65536, -2.0])).tolist() == [2, -131072]


@pytest.mark.parametrize("kind", ["content", "field", "learned", "hash"])
def test_a_search_keeps_the_most_similar_of_what_is_seen(kind: SearchKind) -> None:
    torch.manual_seed(0)
    unit = SearchUnit(kind, 2, 3, np.array([0, 1, 2, 2, 3, 4]))
    table = ContentTable([np.array([[0, 0], [0, 0], [1, 0], [1, 0.1], [0, 1], [-1, 0]])])
    tokens = torch.nn.functional.one_hot(torch.arange(6), 6).float()[:, :3] + torch.eye(6)[:, 3:]
    behaviors, candidates = torch.tensor([[2, 4, 3, 5, 2]]), torch.tensor([[2, 4]])
    if unit.learned is not None:
        with torch.no_grad():
            unit.learned.candidate.weight.copy_(unit.learned.behavior.weight)
    seen = torch.tensor([[[False, True, True, True, True]]])
    cosines = table.compare(candidates, behaviors)
    found = unit(
        ItemTokens(candidates, tokens[candidates]), ItemTokens(behaviors, tokens[behaviors]), seen, cosines
    )
    assert found.columns[0, 0].tolist()[-1] == 4  # the same item, seen
    assert 0 not in found.columns[0][found.mask[0]].tolist()
    if kind in ("content", "field"):
        assert found.columns[0, 0].tolist() == [2, 4]
        assert found.columns[0, 1][found.mask[0, 1]].tolist()[0] == 1
    assert (found.relevance is not None) == (kind == "learned")
    if found.relevance is not None:
        found.relevance.sum().backward()
        assert unit.learned is not None
        assert unit.learned.candidate.weight.grad.abs().sum() > 0
