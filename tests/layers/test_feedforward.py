import numpy as np
import torch

from clickscale.layers.feedforward import ReLUFeedForward, SwiGLU


def test_swiglu_is_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(4, 6).double(), torch.randn(3, 4, dtype=torch.float64)
    gate, value = np.split(layer.enter.weight.detach().numpy(), 2)  # Wa, then Wb, (6, 4) each
    a = x.numpy() @ gate.T
    expected = (a / (1 + np.exp(-a)) * (x.numpy() @ value.T)) @ layer.leave.weight.detach().numpy().T
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-14)


def test_relu_is_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = ReLUFeedForward(4, 6).double(), torch.randn(2, 3, 4, dtype=torch.float64)
    enter, leave = (part.weight.detach().numpy() for part in (layer.enter, layer.leave))
    np.testing.assert_allclose(
        layer(x).detach().numpy(), np.maximum(x.numpy() @ enter.T, 0) @ leave.T, atol=1e-14
    )


def test_both_have_nine_squares_of_the_width() -> None:
    count = [sum(p.numel() for p in layer.parameters()) for layer in (SwiGLU(8, 24), ReLUFeedForward(8, 36))]
    assert count == [9 * 8 * 8, 9 * 8 * 8]
