import pytest
import torch
from torch import Tensor

from clickscale.layers.retrieval import ContentTable
from clickscale.layers.visibility import SelectedBehaviors, take_columns
from clickscale.models._est import retrieved_rows
from clickscale.models._est.content_attention import NeighborRule, Neighbors, nearest_neighbors
from clickscale.models._est.cross_attention import LOW, BehaviorSequence, KeyValues, LightBlock
from clickscale.models._est.retrieved_rows import (
    RowReader,
    neighbors_among_retrieved,
    through_blocks_each,
    through_blocks_once,
)

B, C, L, K, D, N = 2, 3, 10, 4, 6, 2
RULE = NeighborRule(count=2)


def selected() -> SelectedBehaviors:
    """Columns in ascending order; some places hold no behavior and name a column that others retrieve."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.stack([torch.randperm(L, generator=generator)[:K].sort().values for _ in range(B * C)])
    columns = columns.view(B, C, K)
    mask = torch.ones(B, C, K, dtype=torch.bool)
    mask[0, 1, :2], columns[0, 1, :2] = False, columns[0, 1, 3]
    mask[1, 2], columns[1, 2] = False, 0
    items = take_columns(timeline(), columns) * mask.flatten(0, 1)
    return SelectedBehaviors(columns, mask, items, items, items)


def timeline() -> Tensor:
    return torch.arange(1, B * L + 1).view(B, L) % 7 + 1


def table() -> ContentTable:
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(8, 3, generator=generator)
    vectors[5] = 0  # an item without content
    return ContentTable([vectors.numpy()])


def blocks(count: int = 3) -> list[LightBlock]:
    torch.manual_seed(2)
    return [LightBlock(N, D, 2, 4, 5) for _ in range(count)]


def plain(stack: list[LightBlock], x: Tensor, bias: Tensor, neighbors: Neighbors | None) -> BehaviorSequence:
    """Everything for every candidate, with a copy of its rows."""
    chosen, read = selected(), []
    own = take_columns(x, chosen.columns)
    for block in stack:
        normalized = block.row_norm(own)
        read.append(KeyValues(*block.attention.keys_values(normalized), bias))
        own = block.behaviors(own, normalized, neighbors)
    total = torch.stack([rows[real].sum(dim=0) for rows, real in zip(own, chosen.row_mask, strict=True)])
    return BehaviorSequence(tuple(read), total, chosen.row_mask.sum(dim=1, keepdim=True))


def read_by_tokens(stack: list[LightBlock], sequence: BehaviorSequence) -> Tensor:
    """Tokens after all blocks."""
    tokens = torch.randn(N, B * C, D, generator=torch.Generator().manual_seed(3))
    for block, read in zip(stack, sequence.blocks, strict=True):
        tokens = block.tokens(tokens, (read,), sequence.count > 0)
    return tokens


@pytest.mark.parametrize("dense", [0, 4])
@pytest.mark.parametrize("content", [False, True])
def test_sharing_gives_the_numbers_of_the_plain_form(
    dense: int, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieved_rows, "_DENSE", dense)
    stack, chosen, x = blocks(), selected(), torch.randn(B, L, D, requires_grad=True)
    bias = torch.randn(B * C, 1, 1, K).masked_fill(~chosen.row_mask[:, None, None], LOW)
    reader = RowReader.of(chosen, bias, L)
    assert (reader.wide is None) == (dense == 0)
    if content:
        neighbors = nearest_neighbors(table()(chosen.items), table().known[chosen.items], RULE)
        found, expected = through_blocks_each(stack, x, reader, neighbors), plain(stack, x, bias, neighbors)
    else:
        found, expected = through_blocks_once(stack, x, reader), plain(stack, x, bias, None)
    assert torch.equal(found.count, expected.count)
    assert torch.allclose(found.total, expected.total, atol=1e-5)
    tokens, plainly = read_by_tokens(stack, found), read_by_tokens(stack, expected)
    assert torch.allclose(tokens, plainly, atol=1e-5)
    (first,) = torch.autograd.grad(tokens.square().sum() + found.total.square().sum(), x)
    (second,) = torch.autograd.grad(plainly.square().sum() + expected.total.square().sum(), x)
    assert torch.allclose(first, second, rtol=1e-4, atol=1e-4)


def test_neighbors_are_those_of_each_candidate_by_itself() -> None:
    chosen, content = selected(), table()
    expected = nearest_neighbors(content(chosen.items), content.known[chosen.items], RULE)
    assert L**2 > C * K**2
    few = neighbors_among_retrieved(content, timeline(), chosen, RULE)
    # Of so many candidates, the pairs of the timeline are fewer.
    items = chosen.items.view(B, C, K).repeat(1, 5, 1).flatten(0, 1)
    repeated = SelectedBehaviors(
        chosen.columns.repeat(1, 5, 1), chosen.mask.repeat(1, 5, 1), items, items, items
    )
    many = neighbors_among_retrieved(content, timeline(), repeated, RULE)
    for found in (few, Neighbors(*(x.view(B, 5, C, K, -1)[:, 4].flatten(0, 1) for x in _parts(many)))):
        assert torch.equal(found.columns, expected.columns)
        assert torch.equal(found.weights, expected.weights)


def _parts(neighbors: Neighbors) -> tuple[Tensor, Tensor]:
    return neighbors.columns, neighbors.weights
