import pytest
import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError
from clickscale.layers.attention import Pattern
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState, CausalStack

B, L, C, D = 2, 9, 3, 6
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("pattern", "distances"),
    [
        (Pattern(2, 2), {0, 1, 2, 4, 6}),  # figure 2 of the paper
        (Pattern(3, 4), {0, 1, 2, 4}),
        (Pattern(1, 3), {0, 3, 6}),
        (Pattern(5, 9), {0, 1, 2, 3, 4}),
        (Pattern(1, 1), {0, 1, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_who_is_seen_by_hand(pattern: Pattern, distances: set[int]) -> None:
    allowed = pattern.allows(torch.arange(-3, 8))
    assert {
        distance for distance, seen in zip(range(-3, 8), allowed.tolist(), strict=True) if seen
    } == distances


@pytest.mark.parametrize("length", [0, 1, 7, 20])
@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 2), (3, 5), (9, 4), (1, 30)])
def test_columns_of_a_candidate_are_those_that_its_distances_name(k: int, r: int, length: int) -> None:
    pattern = Pattern(k, r)
    expected = [column for column in range(length) if length - column < k or (length - column) % r == 0]
    assert pattern.columns(length, CPU).tolist() == expected
    stack = causal_stack(pattern)
    distances = stack._distances(len(expected), CPU)
    assert distances.tolist() == [length - column for column in expected]


def causal_stack(pattern: Pattern) -> CausalStack:
    torch.manual_seed(0)
    made = CausalStack(D, 3, blocks=2, heads=2, block=BlockConfig(), length=L, pattern=pattern)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made.double().eval()


def behaviors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Profile, tokens, times and mask; the second row is padded."""
    torch.manual_seed(1)
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[1, :4] = False
    times = torch.randint(1, 10_000, (B, L)).cumsum(1)
    return torch.randn(B, 2, 3).double(), torch.randn(B, L, D).double(), times, mask


def side(times: Tensor, visible: int = L) -> CandidateSide:
    items = torch.ones(B, C, dtype=torch.int64)
    empty = torch.zeros(B, C, 0)
    return CandidateSide(items, empty.long(), empty, times, torch.zeros_like(items), items * visible)


def encoded(stack: CausalStack) -> AppendableState:
    profile, x, times, mask = behaviors()
    return stack.advance(stack.empty(profile), x, times, mask)


@pytest.mark.parametrize("pattern", [Pattern(), Pattern(2, 3)])
def test_candidates_over_the_whole_equal_candidates_over_its_parts(pattern: Pattern) -> None:
    """The shortcut for candidates that all see everything, of one moment or of several."""
    stack = causal_stack(pattern)
    state, tokens = encoded(stack), torch.randn(B, C, D).double()
    for times in (torch.full((B, C), 200_000), torch.randint(100_000, 200_000, (B, C))):
        wide = side(times)
        torch.testing.assert_close(
            stack.candidates(state, tokens, wide), stack._over_parts(state, tokens, wide), rtol=0, atol=1e-12
        )


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a multiple of heads=4; change d"):
        CausalStack(6, 3, blocks=1, heads=4, block=BlockConfig(), length=5)
