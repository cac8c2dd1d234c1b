import pytest
import torch

from clickscale.models._suan.patterns import HeadPatterns, Pattern, Phase, staggered

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("pattern", "distances"),
    [
        (Pattern(2, 2), {0, 1, 2, 4, 6}),  # figure 2 of the paper
        (Pattern(3, 4), {0, 1, 2, 4}),
        (Pattern(1, 3), {0, 3, 6}),
        (Pattern(5, 9), {0, 1, 2, 3, 4}),
        (Pattern(1, 1), {0, 1, 2, 3, 4, 5, 6, 7}),
        (Pattern(2, 2, 1), {0, 1, 3, 5, 7}),
        (Pattern(1, 3, 2), {0, 2, 5}),
        (Pattern(3, 4, 3), {0, 1, 2, 3, 7}),
    ],
)
def test_distances_that_are_seen_by_hand(pattern: Pattern, distances: set[int]) -> None:
    allowed = pattern.allows(torch.arange(-3, 8))
    assert {
        distance for distance, seen in zip(range(-3, 8), allowed.tolist(), strict=True) if seen
    } == distances


@pytest.mark.parametrize("length", [0, 1, 7, 20])
@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 2), (3, 5), (9, 4), (1, 30)])
@pytest.mark.parametrize("phase", [0, 1, 4])
def test_columns_of_a_candidate_are_those_that_its_distances_name(
    k: int, r: int, phase: int, length: int
) -> None:
    pattern = Pattern(k, r, phase % r)
    expected = [
        column for column in range(length) if length - column < k or (length - column - phase) % r == 0
    ]
    assert pattern.columns(length, CPU).tolist() == expected
    distances = pattern.distances(len(expected), CPU)
    assert distances.tolist() == [length - column for column in expected]


@pytest.mark.parametrize(
    ("phase", "heads", "phases"),
    [
        ("paper", 2, [[0, 0], [0, 0], [0, 0]]),
        ("head", 2, [[0, 1], [0, 1], [0, 1]]),
        ("block_head", 2, [[0, 1], [2, 3], [0, 1]]),
        ("block_head", 1, [[0], [1], [2]]),
        ("head", 6, [[0, 1, 2, 3, 0, 1]] * 3),
        ("block_head", 3, [[0, 1, 2], [3, 0, 1], [2, 3, 0]]),
    ],
)
def test_phases_of_heads_by_hand(phase: Phase, heads: int, phases: list[list[int]]) -> None:
    patterns = staggered(2, 4, phase, 3, heads)
    assert [
        [patterns.distinct[block[head % len(block)]].phase for head in range(heads)]
        for block in patterns.heads
    ] == phases


def test_full_attention_has_no_phases() -> None:
    assert staggered(3, 1, "head", 2, 2) == HeadPatterns((Pattern(3, 1),), ((0,), (0,)))
    assert staggered(3, 1, "head", 2, 2).full
    assert not staggered(3, 2, "head", 2, 2).full


@pytest.mark.parametrize("length", [0, 1, 2, 11])
def test_columns_of_several_patterns_are_aligned_to_the_right(length: int) -> None:
    patterns = staggered(1, 4, "head", 1, 4)
    columns, real = patterns.columns(length, CPU)
    distances = patterns.distances(columns.shape[1], CPU)
    for place, pattern in enumerate(patterns.distinct):
        assert columns[place][real[place]].tolist() == pattern.columns(length, CPU).tolist()
        held = length - columns[place][real[place]]
        assert torch.equal(distances[place][real[place]], held)


def test_a_pattern_of_the_paper_has_one_entry_for_all_heads() -> None:
    assert staggered(2, 4, "paper", 2, 4) == HeadPatterns((Pattern(2, 4),), ((0,), (0,)))
