import torch
from torch import Tensor

from clickscale.layers.retrieval import GRID
from clickscale.models._est.content_attention import NeighborRule, nearest_neighbors
from clickscale.models._est.cross_attention import LOW, CrossAttention, KeyValues, LightBlock

N, U, C, D, M, K = 3, 2, 4, 6, 5, 2
ALL = torch.ones(U * C, 1, dtype=torch.bool)


def sequences(layer: CrossAttention, seed: int = 0) -> tuple[Tensor, Tensor, tuple[KeyValues, KeyValues]]:
    """Rows of both sequences, and what tokens read of them; some places are masked."""
    generator = torch.Generator().manual_seed(seed)
    recent, kept = torch.randn(U, M, D, generator=generator), torch.randn(U * C, K, D, generator=generator)
    first, second = (
        torch.randn(U, 1, C, M, generator=generator),
        torch.randn(U * C, 1, 1, K, generator=generator),
    )
    first[:, :, :, 0], second[3] = LOW, LOW
    return (
        recent,
        kept,
        (KeyValues(*layer.keys_values(recent), first), KeyValues(*layer.keys_values(kept), second)),
    )


def joined(layer: CrossAttention, x: Tensor) -> Tensor:
    """Every row by itself: keys of both sequences copied and joined, one softmax."""
    recent, kept, (first, second) = sequences(layer)
    out = torch.zeros_like(x)
    for row in range(U * C):
        user, place = divmod(row, C)
        rows = torch.cat([recent[user], kept[row]])
        key, value = layer.key_value(rows).chunk(2, dim=-1)
        bias = torch.cat([first.bias[user, 0, place], second.bias[row, 0, 0]])
        for n in range(N):
            query = x[n, row] @ layer.query.weight[n]
            parts = []
            for cut in torch.arange(D).split(D // layer.heads):
                logits = key[:, cut] @ query[cut] / len(cut) ** 0.5 + bias
                parts.append(logits.softmax(0) @ value[:, cut])
            out[n, row] = torch.cat(parts) @ layer.out.weight[n]
    return out


def test_both_sequences_together_are_one_attention_over_their_union() -> None:
    for heads in (1, 3):
        torch.manual_seed(heads)
        layer, x = CrossAttention(N, D, heads), torch.randn(N, U * C, D)
        assert torch.allclose(layer(x, sequences(layer)[2], ALL), joined(layer, x), atol=1e-5)


def test_a_bias_that_all_candidates_share_is_given_once() -> None:
    layer, x = CrossAttention(N, D, 1), torch.randn(N, U * C, D)
    _recent, _, (first, second) = sequences(layer)
    shared = KeyValues(first.key, first.value, first.bias[:, :, :1])
    repeated = KeyValues(first.key, first.value, first.bias[:, :, :1].expand(-1, -1, C, -1))
    assert torch.allclose(layer(x, (shared, second), ALL), layer(x, (repeated, second), ALL))


def test_a_row_that_sees_nothing_gathers_zeros_and_has_a_gradient() -> None:
    layer, x = CrossAttention(N, D, 1), torch.randn(N, U * C, D, requires_grad=True)
    _, _, (first, _) = sequences(layer)
    blind = KeyValues(first.key, first.value, torch.full_like(first.bias, LOW))
    gathered = layer(x, (blind,), torch.zeros_like(ALL))
    assert not gathered.any()
    gathered.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    empty = KeyValues(first.key[:, :, :0], first.value[:, :, :0], first.bias[..., :0])
    assert not layer(x, (empty,), torch.zeros_like(ALL)).any()


def test_a_block_reads_its_input_in_both_sub_layers() -> None:
    block = LightBlock(N, D, 1, 4, 5)
    x, rows = torch.randn(N, U, D), torch.randn(U, M, D)
    vectors = (torch.nn.functional.normalize(torch.randn(U, M, 3), dim=-1) * GRID).round()
    neighbors = nearest_neighbors(vectors, torch.ones(U, M, dtype=torch.bool), NeighborRule(count=2))
    entered = block.row_norm(rows)
    after = block.behaviors(rows, entered, neighbors)
    weights = torch.zeros(U, M, M).scatter(2, neighbors.columns, neighbors.weights)
    inner = rows + weights @ entered
    assert torch.allclose(after, inner + block.row_ffn(block.row_ffn_norm(inner)), atol=1e-5)
    read = KeyValues(*block.attention.keys_values(entered), torch.zeros(U, 1, 1, M))
    seen = torch.ones(U, 1, dtype=torch.bool)
    inner = x + block.attention(block.token_norm(x), (read,), seen)
    expected = inner + block.token_ffn(block.token_ffn_norm(inner))
    assert torch.allclose(block.tokens(x, (read,), seen), expected, atol=1e-6)


def test_appended_rows_gather_earlier_ones() -> None:
    block, rows = LightBlock(N, D, 1, 4, 5), torch.randn(1, 8, D)
    vectors = (torch.nn.functional.normalize(torch.randn(1, 8, 3), dim=-1) * GRID).round()
    present, rule = torch.ones(1, 8, dtype=torch.bool), NeighborRule(count=3, causal=True)
    normalized = block.row_norm(rows)
    whole = block.behaviors(rows, normalized, nearest_neighbors(vectors, present, rule))
    last = block.behaviors(rows[:, 6:], normalized, nearest_neighbors(vectors, present, rule, first=6))
    assert torch.allclose(whole[:, 6:], last, atol=1e-6)
