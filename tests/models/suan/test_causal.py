from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.errors import ConfigError
from clickscale.models._suan import causal
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState, CausalStack, TokenState
from clickscale.models._suan.patterns import HeadPatterns, staggered
from clickscale.models._suan.who_sees_whom import one_sequence_pays

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
    return stack.appendable(TokenState(mask, times, profile, x))


FULL, SPARSE = (staggered(2, r, "paper", 2, 2) for r in (1, 3))
STAGGERED = staggered(1, 4, "block_head", 2, 2)
PATTERNS = pytest.mark.parametrize(
    ("patterns", "reads"),
    [
        (FULL, FULL),
        (SPARSE, SPARSE),
        (SPARSE, FULL),
        (staggered(2, 3, "head", 2, 2),) * 2,
        (STAGGERED, STAGGERED),
        (STAGGERED, FULL),
    ],
)


@PATTERNS
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


@PATTERNS
def test_one_sequence_learns_what_states_and_candidates_learn(
    patterns: HeadPatterns, reads: HeadPatterns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates that see all, part or nothing, and padded ones among them."""
    stack, (profile, x, times, mask) = causal_stack(patterns, reads).train(), behaviors()
    wide = side(torch.randint(100_000, 200_000, (B, C)))
    oldest, visible = torch.tensor([[0, 3, 5], [4, 6, 0]]), torch.tensor([[9, 7, 5], [9, 8, 0]])
    some, tokens = replace(wide, oldest=oldest, visible=visible), torch.randn(B, C, D).double()

    def learned(pays: bool) -> list[Tensor]:
        monkeypatch.setattr(causal, "one_sequence_pays", lambda *shape: pays)
        inputs = [one.clone().requires_grad_() for one in (profile, x, tokens)]
        state = stack.encode(inputs[0], inputs[1], times, mask)
        rows = stack.candidates(state, inputs[2], some)
        wanted = [*inputs, *stack.parameters()]
        return [rows.detach(), *torch.autograd.grad(rows.square().sum(), wanted)]

    for found, expected in zip(learned(True), learned(False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_means_have_full_precision_where_products_have_half() -> None:
    share, x = torch.rand(B, C, L), torch.randn(B, L, D)
    with torch.autocast("cpu", torch.bfloat16):
        found = causal._mean(share, x)
    assert torch.equal(found, torch.bmm(share, x))


def test_behaviors_wait_for_candidates_in_training_only() -> None:
    stack, given = causal_stack(FULL, FULL), behaviors()
    assert isinstance(stack.encode(*given), AppendableState)
    assert isinstance(stack.train().encode(*given), TokenState)
    with torch.no_grad():
        assert isinstance(stack.encode(*given), AppendableState)


def test_few_small_rows_are_one_sequence() -> None:
    def pays(rows: int, length: int, candidates: int, patterns: HeadPatterns = FULL) -> bool:
        one = torch.ones(rows, candidates)
        return one_sequence_pays(patterns, torch.ones(rows, length).bool(), CandidateSide(*[one] * 6))

    assert pays(8, 50, 8)
    assert not pays(20, 50, 200)  # candidates would be compared with candidates
    assert not pays(1, 2000, 8)  # attention by classes takes less
    assert pays(1, 300, 8)
    assert not pays(1, 300, 8, SPARSE)  # here too


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a multiple of heads=4; change d"):
        CausalStack(6, 3, blocks=1, heads=4, block=BlockConfig(), length=5)
