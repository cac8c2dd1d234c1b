import pytest
import torch
from torch import Tensor

from clickscale.layers.kernels.unified_block import Enter, Leave, MeetProfile
from clickscale.models._suan.block import AttentionBlock, BlockConfig

B, N, D, H, FIELDS, DIM = 2, 3, 4, 2, 3, 2


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    checked = torch.autograd.gradcheck
    x, gain = leaf(B, N, D), leaf(D)
    assert checked(lambda *given: Enter.apply(*given, H, 1e-6), (x, gain, leaf(3 * D, D)))
    seen, profile = leaf(B, H, N, D // H), leaf(B, FIELDS, DIM)
    weights = leaf(D, D), leaf(D, D), leaf(2 * D, DIM), leaf(D, D), leaf(1, D)
    meet = (x, seen, profile, gain, *weights)
    assert checked(lambda *given: MeetProfile.apply(*given, 0.7, 1e-6), meet)
    leave = (leaf(B, N, D), leaf(B, N, D), leaf(B, N, 1), leaf(D, 1), gain, leaf(6 * D, D), leaf(D, 3 * D))
    assert checked(lambda *given: Leave.apply(*given, 1e-6), leave)


@pytest.mark.parametrize(("count", "dtype", "close"), [(5, torch.float64, 1e-10), (700, torch.float32, 2e-4)])
def test_a_block_by_hand_is_the_block_in_ordinary_operations(
    count: int, dtype: torch.dtype, close: float
) -> None:
    """The larger one is large enough for products that are not torch's own."""
    torch.manual_seed(0)
    block = AttentionBlock(64, 2, 8, BlockConfig(scale="paper")).to(dtype)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = torch.randn(3, count, 64), torch.randn(3, 2, count, 32), torch.randn(3, 5, 8)
    weight = torch.randn(3, count, 64, dtype=dtype)
    found = []
    for usual in (True, False):
        block.usual = usual
        x, seen, profile = (given.to(dtype).requires_grad_() for given in inputs)
        entered = block.enter(x)
        met = block.meet_profile(x, entered, seen + entered.query, profile)
        rows = block.leave(met, met.averaged.cumsum(dim=1) / count)
        rest = sum(
            (part.square().mean() for part in (entered.key, entered.value)), torch.zeros((), dtype=dtype)
        )
        loss = (rows * weight).mean() + rest
        found.append([rows, *torch.autograd.grad(loss, [x, seen, profile, *block.parameters()])])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=close, atol=close * float(plain.detach().abs().max()))


@pytest.mark.parametrize(("count", "fields"), [(0, 3), (3, 0)])
def test_no_rows_and_no_profile_are_no_special_case(count: int, fields: int) -> None:
    block = AttentionBlock(8, 2, 4, BlockConfig())
    x, seen, profile = torch.randn(2, count, 8), torch.randn(2, 2, count, 4), torch.randn(2, fields, 4)
    found = []
    for usual in (True, False):
        block.usual = usual
        met = block.meet_profile(x, block.enter(x), seen, profile)
        rows = block.leave(met, met.averaged)
        found.append([rows, *torch.autograd.grad(rows.sum(), [block.norms[2].gain, block.norms[0].gain])])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)
