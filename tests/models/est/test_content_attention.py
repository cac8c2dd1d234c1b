from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clickscale.layers.retrieval import GRID
from clickscale.models._est import content_attention
from clickscale.models._est.content_attention import (
    NeighborRule,
    Neighbors,
    gather_neighbors,
    nearest_neighbors,
)

# Directions of 0, 60, 90, 180 degrees and again 0.
VECTORS = (torch.tensor([[1.0, 0.0], [0.5, 0.866], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]) * GRID).round()[None]
HERE = torch.ones(1, 5, dtype=torch.bool)


def dense(neighbors: Neighbors, length: int) -> Tensor:
    """(R, n, L) weight of each row in what a row gathers."""
    weights = torch.zeros(*neighbors.columns.shape[:2], length)
    return weights.scatter_add(2, neighbors.columns, neighbors.weights)


def random_grid(rows: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    few = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator), dim=1)
    return (few * GRID).round()[torch.randint(0, 6, (rows, length), generator=generator)]


def restated(vectors: Tensor, present: Tensor, rule: NeighborRule) -> Tensor:
    """Algorithm 1, row by row in lists."""
    rows, length, _ = vectors.shape
    weights = torch.zeros(rows, length, length, dtype=torch.float64)
    for row in range(rows):
        for i in range(length):
            scores = []
            for j in range(length):
                near = not rule.causal or 0 <= i - j < rule.window
                if present[row, i] and present[row, j] and near:
                    scores.append(((vectors[row, i] * vectors[row, j]).sum().item() / GRID**2, j))
            best = sorted(scores, reverse=True)[: rule.count]
            for score, j in best:
                weights[row, i, j] = score
            if best and rule.weighting == "softmax":
                chosen = [j for _, j in best]
                weights[row, i, chosen] = weights[row, i, chosen].softmax(0)
            if rule.weighting == "l1":
                weights[row, i] /= weights[row, i].abs().sum().clamp(min=1e-9)
    return weights


def test_a_row_gathers_itself_and_the_nearest_with_their_cosines() -> None:
    weights = dense(nearest_neighbors(VECTORS, HERE, NeighborRule(count=3)), 5)[0]
    assert torch.allclose(weights[0], torch.tensor([1.0, 0.5, 0.0, 0.0, 1.0]), atol=1e-3)
    assert torch.allclose(
        weights[1], torch.tensor([0.0, 1.0, 0.866, 0.0, 0.5]), atol=1e-3
    )  # of a tie the newer
    assert weights[3].tolist() == [
        0.0,
        -0.5,
        0.0,
        1.0,
        0.0,
    ]  # two zeros tie: the newer is taken, and weighs 0


def test_causal_rows_gather_earlier_ones_within_the_window() -> None:
    weights = dense(nearest_neighbors(VECTORS, HERE, NeighborRule(count=2, causal=True)), 5)[0]
    assert weights.triu(1).count_nonzero() == 0
    assert weights[0].tolist() == [1, 0, 0, 0, 0]
    assert weights[4].tolist() == [1, 0, 0, 0, 1]
    near = dense(nearest_neighbors(VECTORS, HERE, NeighborRule(count=2, causal=True, window=2)), 5)[0]
    assert near[4].tolist() == [0, 0, 0, -1, 1]


def test_padding_and_missing_content_gather_nothing_and_are_gathered_by_nobody() -> None:
    present = torch.tensor([[True, False, True, True, False]])
    neighbors = nearest_neighbors(VECTORS, present, NeighborRule(count=5))
    weights = dense(neighbors, 5)[0]
    assert not weights[1].any()
    assert not weights[4].any()
    assert not weights[:, [1, 4]].any()
    assert weights[0].tolist() == [1, 0, 0, -1, 0]
    assert gather_neighbors(torch.randn(1, 5, 3), neighbors)[0, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("weighting", ["none", "l1", "softmax"])
@pytest.mark.parametrize("causal", [False, True])
def test_neighbors_equal_sorting_every_row(
    weighting: content_attention.Weighting, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_attention, "_ROWS", 7)  # several pieces
    vectors, present = random_grid(3, 20), torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) < 0.8
    rule = NeighborRule(count=4, causal=causal, window=6, weighting=weighting)
    found = dense(nearest_neighbors(vectors, present, rule), 20)
    assert (found - restated(vectors, present, rule)).abs().max() < 1e-6


def test_the_last_rows_alone_find_the_same_neighbors() -> None:
    vectors, present = random_grid(2, 15), torch.ones(2, 15, dtype=torch.bool)
    rule = NeighborRule(count=3, causal=True, window=8)
    whole, last = (
        nearest_neighbors(vectors, present, rule),
        nearest_neighbors(vectors, present, rule, first=11),
    )
    assert torch.equal(whole.columns[:, 11:], last.columns)
    assert torch.equal(whole.weights[:, 11:], last.weights)
    assert nearest_neighbors(vectors, present, rule, first=15).columns.shape == (2, 0, 3)
    assert nearest_neighbors(vectors[:, :0], present[:, :0], rule).columns.shape == (2, 0, 0)
    short = nearest_neighbors(vectors, present, replace(rule, count=5, window=2))
    assert short.columns.shape == (2, 15, 2)


@pytest.mark.parametrize("short", [0, 128])
def test_gathering_is_a_weighted_sum_of_rows_with_its_gradient(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_attention, "_SHORT", short)
    rows = torch.randn(2, 15, 4, dtype=torch.float64, requires_grad=True)
    neighbors = nearest_neighbors(
        random_grid(2, 15), torch.ones(2, 15, dtype=torch.bool), NeighborRule(count=3)
    )
    found, expected = gather_neighbors(rows, neighbors), dense(neighbors, 15).double() @ rows
    assert torch.allclose(found, expected)
    (first,) = torch.autograd.grad(found.square().sum(), rows)
    (second,) = torch.autograd.grad(expected.square().sum(), rows)
    assert torch.allclose(first, second)
