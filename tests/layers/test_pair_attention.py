import pytest
import torch
from torch import Tensor

from clickscale.layers.kernels import pair_attention
from clickscale.layers.kernels.pair_attention import EPS, Layers, TrainedAttention


def plain_attention(
    measured: bool, query: Tensor, own: Tensor, tokens: Tensor, seen: Tensor, *given: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula of the module, one operation after the other; weights are 0 where not seen."""
    layers = Layers(*given)
    units = torch.einsum("bcd,hd,bld->bhcl", query, layers.product, tokens)
    units = units + torch.einsum("hd,bld->bhl", layers.key, tokens)[:, :, None]
    units = (units + own.transpose(1, 2)[..., None]).flatten(2)
    share = seen / seen.sum().clamp(min=1)
    mean = torch.einsum("bhn,bn->h", units, share)
    variance = torch.einsum("bhn,bn->h", (units - mean[:, None]).square(), share)
    center, rate = (mean, (variance + EPS).rsqrt()) if measured else (layers.center, layers.rate)
    gate = ((units - center[:, None]) * rate[:, None]).sigmoid()
    dice = units * (layers.alpha[:, None] + (1 - layers.alpha[:, None]) * gate)
    return torch.einsum("bhn,h->bn", dice, layers.out) * seen, mean, variance


def numbers(dtype: torch.dtype, rows: int = 3) -> tuple[tuple[Tensor, ...], Tensor]:
    """Inputs with gradients (two candidates, four behaviors, five wide, three units), and seen."""
    torch.manual_seed(0)
    shapes = (rows, 2, 5), (rows, 2, 3), (rows, 4, 5), (3, 5), (3, 5), (3,), (3,), (3,), (3,)
    inputs = tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)
    return inputs, (torch.rand(rows, 8) < 0.7).to(dtype)


def fused(
    measured: bool, seen: Tensor, query: Tensor, own: Tensor, tokens: Tensor, *layers: Tensor
) -> Tensor:
    """Weights as a model uses them."""
    return TrainedAttention.apply(measured, query, own, tokens, seen, *layers)[0] * seen


def moving(inputs: tuple[Tensor, ...], measured: bool) -> tuple[Tensor, ...]:
    """Inputs, of which center and rate have no gradient if they are measured."""
    return (*inputs[:-2], *(part.detach() for part in inputs[-2:])) if measured else inputs


def test_weights_and_statistics_are_those_of_the_plain_formula():
    (query, own, tokens, *layers), seen = numbers(torch.float64)
    expected = plain_attention(True, query, own, tokens, seen, *layers)
    weights, mean, variance = TrainedAttention.apply(True, query, own, tokens, seen, *layers)
    torch.testing.assert_close((weights * seen, mean, variance), expected)


def test_weights_of_a_learned_gate_are_those_of_the_plain_formula():
    inputs, seen = numbers(torch.float64)
    expected = plain_attention(False, *inputs[:3], seen, *inputs[3:])[0]
    torch.testing.assert_close(fused(False, seen, *inputs), expected)


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("piece", [1, 60, 1 << 17])
def test_gradients_are_those_of_finite_differences_whatever_the_pieces(
    piece: int, measured: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pair_attention, "_PIECE", piece)
    inputs, seen = numbers(torch.float64)
    assert torch.autograd.gradcheck(lambda *given: fused(measured, seen, *given), moving(inputs, measured))


@pytest.mark.parametrize("measured", [True, False])
def test_gradients_are_those_of_the_plain_formula_in_float32(measured: bool):
    inputs, seen = numbers(torch.float32, rows=40)
    query, own, tokens, *layers = inputs
    learned = inputs[:-2] if measured else inputs
    pull = torch.randn_like(seen)
    expected = torch.autograd.grad(
        (plain_attention(measured, query, own, tokens, seen, *layers)[0] * pull).sum(), learned
    )
    found = torch.autograd.grad((fused(measured, seen, *inputs) * pull).sum(), learned)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("measured", [True, False])
def test_a_batch_without_any_real_pair_gives_zero_gradients(measured: bool):
    inputs, seen = numbers(torch.float32)
    fused(measured, torch.zeros_like(seen), *inputs).sum().backward()
    assert all(part.grad is None or float(part.grad.abs().max()) == 0 for part in inputs)


def test_padding_never_enters_the_statistics():
    query, own, tokens, *layers = numbers(torch.float32)[0]
    real = torch.ones(3, 2, 4)
    real[:, :, :2] = 0
    other = tokens.detach().clone()
    other[:, :2] = 1e3
    first, second = (
        TrainedAttention.apply(True, query, own, given, real.flatten(1), *layers)[1:]
        for given in (tokens, other)
    )
    torch.testing.assert_close(first, second)
