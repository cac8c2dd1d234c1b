import math

import pytest
import torch
from torch import Tensor

from clickscale.layers.attention import (
    attend,
    attend_to_few,
    attend_with_itself,
    merge_heads,
    plain_attend,
    plain_attend_with_itself,
    split_heads,
)

B, H, C, L, W = 3, 2, 4, 5, 3


def test_heads_are_consecutive_slices_of_the_width() -> None:
    x = torch.arange(24.0).view(1, 2, 12)
    heads = split_heads(x, 3)
    assert heads.shape == (1, 3, 2, 4)
    assert heads[0, 1, 0].tolist() == [4, 5, 6, 7]
    assert torch.equal(merge_heads(heads), x)


def test_attention_by_hand() -> None:
    query = torch.tensor([[[[2.0]]]])
    key = torch.tensor([[[[0.0], [math.log(3)], [5.0]]]])
    value = torch.tensor([[[[8.0], [4.0], [99.0]]]])
    masked = torch.tensor([[[[0.0, 0.0, -math.inf]]]])
    assert attend(query, key, value, masked, 0.5).item() == pytest.approx((8 + 3 * 4) / 4)
    biased = torch.tensor([[[[math.log(3), 0.0, -math.inf]]]])
    assert attend(query, key, value, biased, 0.5).item() == pytest.approx(6.0)


def test_attention_without_bias_sees_everything() -> None:
    x = torch.randn(B, H, L, W)
    expected = torch.nn.functional.scaled_dot_product_attention(x, x, x, scale=0.3)
    torch.testing.assert_close(plain_attend(x, x, x, None, 0.3), expected)


def dense(
    query: Tensor, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor, bias: Tensor, own: Tensor
) -> Tensor:
    """Each candidate alone over the sequence [behaviors; itself]."""
    out = torch.zeros_like(query)
    for b in range(B):
        for h in range(H):
            for c in range(C):
                keys = torch.cat([key[b, h], own_key[b, h, c : c + 1]])
                values = torch.cat([value[b, h], own_value[b, h, c : c + 1]])
                added = torch.cat([bias[b, h % bias.shape[1], c], own[h % len(own)][None]])
                weights = (keys @ query[b, h, c] * 0.7 + added).softmax(dim=0)
                out[b, h, c] = weights @ values
    return out


@pytest.mark.parametrize("tables", [1, H])
def test_a_candidate_attends_to_behaviors_and_itself_as_in_one_dense_sequence(tables: int) -> None:
    torch.manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    query, own_key, own_value = leaf(B, H, C, W), leaf(B, H, C, W), leaf(B, H, C, W)
    key, value, bias, own = leaf(B, H, L, W), leaf(B, H, L, W), leaf(B, tables, C, L), leaf(tables)
    shut = torch.rand(B, 1, C, L) < 0.4
    shut[0] = True  # nothing but itself
    masked = bias.masked_fill(shut, -math.inf)
    leaves = [query, key, value, own_key, own_value, bias, own]
    fast = attend_with_itself(query, key, value, own_key, own_value, masked, own, 0.7)
    slow = dense(query, key, value, own_key, own_value, masked, own)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)
    torch.testing.assert_close(fast[0], own_value[0], rtol=0, atol=1e-13)
    weight = torch.randn_like(fast)
    ours = torch.autograd.grad((fast * weight).sum(), leaves, retain_graph=True)
    plain = torch.autograd.grad((slow * weight).sum(), leaves)
    for mine, other in zip(ours, plain, strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_without_any_behavior_a_candidate_returns_its_own_value() -> None:
    query, value = torch.randn(B, H, C, W), torch.randn(B, H, C, W)
    none = torch.zeros(B, H, 0, W)
    out = attend_with_itself(query, none, none, query, value, torch.zeros(B, 1, C, 0), torch.zeros(1), 1.0)
    torch.testing.assert_close(out, value)


@pytest.mark.parametrize(("tables", "queries"), [(1, C), (H, C), (1, 1)])
def test_hand_written_gradients_are_those_of_ordinary_operations(tables: int, queries: int) -> None:
    torch.manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    query, own_key, own_value = leaf(B, H, C, W), leaf(B, H, C, W), leaf(B, H, C, W)
    key, value, bias, own = leaf(B, H, L, W), leaf(B, H, L, W), leaf(B, tables, queries, L), leaf(tables)
    weight = torch.randn(B, H, C, W, dtype=torch.float64)
    for fast, plain, leaves in (
        (attend, plain_attend, [query, key, value, bias]),
        (attend_with_itself, plain_attend_with_itself, [query, key, value, own_key, own_value, bias, own]),
    ):
        out, expected = fast(*leaves, 0.7), plain(*leaves, 0.7)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
        ours = torch.autograd.grad((out * weight).sum(), leaves)
        theirs = torch.autograd.grad((expected * weight).sum(), leaves)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_many_queries_over_few_keys_attend_as_any_others() -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 3, 7, 4)
    key, value = torch.randn(2, 2, 3, 5, 4).unbind()
    expected = plain_attend(query, key, value, None, 0.3)
    torch.testing.assert_close(attend_to_few(query, key, value, 0.3), expected)
