import pytest
import torch

from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.kernels.hidden_layer import HiddenLayer


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    shapes = (4, 3), (2, 3), (2,), (2,), (2,)
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *given: HiddenLayer.apply(*given, 1e-6), leaves)


@pytest.mark.parametrize(("rows", "dtype", "close"), [(6, torch.float64, 1e-6), (400, torch.float32, 2e-4)])
def test_a_head_by_hand_is_the_head_in_ordinary_operations(
    rows: int, dtype: torch.dtype, close: float
) -> None:
    """The larger one is large enough for products that are not torch's own."""
    torch.manual_seed(0)
    head = Head(96, 2, HeadConfig(hidden=(128, 32))).to(dtype)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = torch.randn(rows, 2, 96)
    mask = torch.rand(rows, 2) < 0.9
    found = []
    for usual in (True, False):
        head.usual = usual
        x = given.to(dtype).requires_grad_()
        logits = head(x, mask)
        loss = (logits * torch.arange(2.0, dtype=dtype)).mean() + logits.square().mean()
        found.append([logits, *torch.autograd.grad(loss, [x, *head.parameters()])])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=close, atol=close * float(plain.detach().abs().max()))
