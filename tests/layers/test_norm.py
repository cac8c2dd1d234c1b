import pytest
import torch

from clickscale.layers.norm import RMSNorm


def test_a_row_is_divided_by_its_root_mean_square_and_scaled() -> None:
    norm = RMSNorm(4, eps=0.5)
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    out = norm(torch.tensor([[3.0, -1.0, 1.0, 5.0]]))  # mean square 9
    expected = [3 / 3.5, -2 / 3.5, 3 / 3.5, 20 / 3.5]  # eps stands outside the root
    assert out[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_zero_row_stays_zero_and_its_gradient_is_a_number() -> None:
    norm = RMSNorm(3)
    x = torch.zeros(2, 3, requires_grad=True)
    out = norm(x)
    assert not out.any()
    out.sum().backward()
    assert x.grad.isfinite().all()
    assert norm.gain.grad.isfinite().all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(5).double()
    assert torch.autograd.gradcheck(norm, torch.randn(3, 5, dtype=torch.float64, requires_grad=True))


def test_a_row_may_be_scaled_without_change() -> None:
    norm, x = RMSNorm(6), torch.randn(4, 6)
    torch.testing.assert_close(norm(1000 * x), norm(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_another_type_are_normalized_in_the_wider_one(dtype: torch.dtype) -> None:
    norm, x = RMSNorm(6), torch.randn(4, 6)
    other = x.to(dtype).requires_grad_()
    out = norm(other)
    assert out.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(out.float(), norm(other.detach().float()), atol=1e-6)
    out.square().sum().backward()
    assert other.grad is not None
    assert other.grad.dtype == dtype
    assert norm.gain.grad is not None
