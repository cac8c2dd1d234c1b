import pytest
import torch

from clickscale.layers.kernels import products
from clickscale.layers.kernels.products import (
    first_rows,
    input_gradient,
    product,
    rows_with_room,
    weight_gradient,
    with_room,
)


@pytest.mark.parametrize(("rows", "inner", "outer"), [(5, 3, 2), (1500, 64, 96), (1501, 96, 64)])
def test_products_are_those_of_torch_at_every_size(rows: int, inner: int, outer: int) -> None:
    torch.manual_seed(0)
    x, weight, grad = torch.randn(rows, inner), torch.randn(outer, inner), torch.randn(rows, outer)
    work = weight.numel()
    padded, padded_grad = with_room(x, work), with_room(grad, work)
    assert torch.equal(first_rows(padded, rows), x)
    assert not padded[rows:].any()
    made = first_rows(product(padded, weight), rows)
    torch.testing.assert_close(made, x @ weight.t(), rtol=1e-4, atol=1e-4)
    back = first_rows(input_gradient(padded_grad, weight), rows)
    torch.testing.assert_close(back, grad @ weight, rtol=1e-4, atol=1e-4)
    of_weight = weight_gradient(padded_grad, padded)
    torch.testing.assert_close(of_weight, grad.t() @ x, rtol=1e-4, atol=1e-3)


def test_matrices_of_one_count_and_work_have_equally_many_rows_of_few_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "_BY_ONEDNN", True)
    like = torch.zeros(1)
    counts = range(2000, 4000, 7)
    made = {count: len(rows_with_room(like, count, 2, 1 << 12)) for count in counts}
    assert all(count <= rows <= count * 1.13 for count, rows in made.items())
    assert len(set(made.values())) <= 17
    assert all(len(rows_with_room(like, count, 3, 1 << 12)) == rows for count, rows in made.items())
    assert len(rows_with_room(like, 2001, 2, 1)) == 2001  # too small to pay
    assert len(rows_with_room(like.double(), 2001, 2, 1 << 12)) == 2001
