import torch
from torch.nn import functional

from clickscale.layers.per_token import FieldTokens, PerTokenLinear, PerTokenSwiGLU, token_names
from tests.models.toy import features


def test_every_token_has_weights_of_its_own() -> None:
    layer, x = PerTokenLinear(3, 4, 2, bias=True), torch.randn(3, 5, 4)
    assert layer.bias is not None
    for n in range(3):
        assert torch.allclose(layer(x)[n], x[n] @ layer.weight[n] + layer.bias[n], atol=1e-6)
    assert torch.allclose(layer(x[1:], first=1), layer(x)[1:])
    plain = PerTokenLinear(3, 4, 2)
    assert torch.allclose(plain(x)[2], x[2] @ plain.weight[2], atol=1e-6)
    assert plain.weight.abs().max() <= 0.5


def test_a_feed_forward_per_token_is_a_swiglu_of_each() -> None:
    layer, x = PerTokenSwiGLU(2, 4, 3), torch.randn(2, 5, 4)
    for n in range(2):
        gate, value = (x[n] @ layer.enter.weight[n]).chunk(2, dim=-1)
        assert torch.allclose(layer(x)[n], functional.silu(gate) * value @ layer.leave.weight[n], atol=1e-6)


def test_names_stand_in_the_order_of_the_tokens() -> None:
    made = features()
    assert token_names(made.profile, made.item) == ("user", "age", "item", "tags", "price", "text")
    assert token_names() == ()


def test_tokens_of_a_candidate_are_profile_fields_and_histograms() -> None:
    layer = FieldTokens(("user", "slot", "item"), ("counts",), 4, 6, 5)
    assert layer.names == ("user", "slot", "item", "counts")
    profile, fields, counts = torch.randn(2, 1, 4), torch.randn(2, 3, 2, 4), torch.randn(2, 3, 6)
    made = layer(layer.profile(profile), fields, [counts])
    assert made.shape == (4, 6, 5)
    row = 1 * 3 + 2  # user 1, candidate 2
    assert layer.fields.bias is not None
    assert layer.histograms.bias is not None
    inputs = [profile[1, 0], fields[1, 2, 0], fields[1, 2, 1]]
    for n, x in enumerate(inputs):
        assert torch.allclose(made[n, row], x @ layer.fields.weight[n] + layer.fields.bias[n, 0], atol=1e-6)
    expected = counts[1, 2] @ layer.histograms.weight[0] + layer.histograms.bias[0, 0]
    assert torch.allclose(made[3, row], expected, atol=1e-6)
    bare = FieldTokens(("user", "item"), (), 4, 6, 5)
    assert bare(bare.profile(profile), fields[:, :, :1], []).shape == (2, 6, 5)
