import pytest
import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState, CausalStack
from clickscale.models._suan.patterns import HeadPatterns, staggered

B, L, C, D = 2, 9, 3, 6


def causal_stack(patterns: HeadPatterns, reads: HeadPatterns) -> CausalStack:
    torch.manual_seed(0)
    made = CausalStack(D, 3, blocks=2, heads=2, block=BlockConfig(), length=L, patterns=patterns, reads=reads)
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


FULL, SPARSE = (staggered(2, r, "paper", 2, 2) for r in (1, 3))


@pytest.mark.parametrize(
    ("patterns", "reads"),
    [
        (FULL, FULL),
        (SPARSE, SPARSE),
        (SPARSE, FULL),
        (staggered(2, 3, "head", 2, 2),) * 2,
        (staggered(1, 4, "block_head", 2, 2),) * 2,
    ],
)
def test_candidates_over_the_whole_equal_candidates_over_its_parts(
    patterns: HeadPatterns, reads: HeadPatterns
) -> None:
    """The shortcut for candidates that all see everything, of one moment or of several."""
    stack = causal_stack(patterns, reads)
    state, tokens = encoded(stack), torch.randn(B, C, D).double()
    for times in (torch.full((B, C), 200_000), torch.randint(100_000, 200_000, (B, C))):
        wide = side(times)
        torch.testing.assert_close(
            stack.candidates(state, tokens, wide), stack._over_parts(state, tokens, wide), rtol=0, atol=1e-12
        )


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a multiple of heads=4; change d"):
        CausalStack(6, 3, blocks=1, heads=4, block=BlockConfig(), length=5)
