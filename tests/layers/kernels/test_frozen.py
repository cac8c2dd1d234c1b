import pytest
import torch
from torch import nn

from clickscale.layers.kernels import products
from clickscale.layers.kernels.frozen import freeze
from clickscale.layers.kernels.products import served_product

SIZES = [(500, 64, 48), (3, 64, 48)]  # by oneDNN, and too small for it


def drawn(rows: int, width: int, out: int) -> tuple[torch.Tensor, nn.Linear]:
    torch.manual_seed(0)
    return torch.randn(2, rows, width), nn.Linear(width, out)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_a_linear_layer(size: tuple[int, int, int], transposed: bool) -> None:
    x, layer = drawn(*size)
    weight = layer.weight.T.contiguous().T if transposed else layer.weight
    with torch.no_grad():
        torch.testing.assert_close(served_product(x, weight, layer.bias), layer(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            served_product(x, weight, None), layer(x) - layer.bias, rtol=1e-5, atol=1e-5
        )


@pytest.mark.skipif(not torch._C._has_mkldnn, reason="this torch has no oneDNN")
def test_large_products_of_frozen_layers_are_those_of_one_dnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_BY_ONEDNN", True)  # on processors of every kind
    x, layer = drawn(500, 64, 48)
    model = nn.Sequential(layer)
    freeze(model)
    with torch.no_grad(), torch.profiler.profile() as profiler:
        model(x)
        model(x[:, :3])
    names = [event.name for event in profiler.events()]
    assert names.count("mkldnn::_linear_pointwise") == 1
    assert names.count("aten::linear") == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_with_torch(dtype: torch.dtype) -> None:
    x, layer = drawn(500, 64, 48)
    layer, x = layer.to(dtype), x.to(dtype)
    with torch.no_grad():
        assert torch.equal(served_product(x, layer.weight, layer.bias), layer(x))


def test_autocast_keeps_choosing_the_precision() -> None:
    x, layer = drawn(500, 64, 48)
    freeze(nn.Sequential(layer))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_gradients_pass_through_frozen_layers() -> None:
    x, layer = drawn(500, 64, 48)
    freeze(nn.Sequential(layer))
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((48,), 1000.0))
