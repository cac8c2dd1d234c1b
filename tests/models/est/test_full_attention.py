import torch

from clickscale.models._est.full_attention import FullBlock, FullStack, _visible_pairs

N, R, M, D = 2, 3, 4, 6
SEEN = torch.tensor([[True, True, True, True], [False, True, True, True], [False] * 4])


def test_everybody_sees_what_is_there_and_itself() -> None:
    assert _visible_pairs(N, SEEN, ()).shape == (R, 1, 1, N + M)
    assert _visible_pairs(N, SEEN, ())[1, 0, 0].tolist() == [True, True, False, True, True, True]
    cut = _visible_pairs(N, SEEN, ("NB", "NN"))
    assert cut[0, 0, 0].tolist() == [True, False, False, False, False, False]
    assert cut[0, 0, 2].tolist() == [True] * 6
    other = _visible_pairs(N, SEEN, ("BB", "BN"))
    assert other[0, 0, 1].tolist() == [True] * 6
    assert other[1, 0, 2].tolist() == [False, False, True, False, False, False]  # itself, though padding


def test_a_block_is_attention_over_the_whole_sequence() -> None:
    for heads in (1, 2):
        torch.manual_seed(heads)
        block = FullBlock(N, D, heads, 4, 5)
        tokens, rows = torch.randn(N, R, D), torch.randn(R, M, D)
        pairs = _visible_pairs(N, SEEN, ("BN",))
        found, after = block(tokens, rows, block.project(rows), pairs)
        for row in range(R):
            entered = torch.cat([block.token_norm(tokens[:, row]), block.row_norm(rows[row])])
            queries = [entered[n] @ block.token_query.weight[n] for n in range(N)]
            query = torch.cat([torch.stack(queries), block.row_query(entered[N:])])
            key, value = block.key_value(entered).chunk(2, dim=-1)
            parts = []
            for cut in torch.arange(D).split(D // heads):
                logits = query[:, cut] @ key[:, cut].T / len(cut) ** 0.5
                logits = logits.masked_fill(~pairs[row, 0], -torch.inf)
                parts.append(logits.softmax(-1) @ value[:, cut])
            gathered = torch.cat(parts, dim=1)
            inner = tokens[:, row] + torch.stack([gathered[n] @ block.token_out.weight[n] for n in range(N)])
            expected = inner + block.token_ffn(block.token_ffn_norm(inner)[:, None])[:, 0]
            assert torch.allclose(found[:, row], expected, atol=1e-5)
            below = rows[row] + block.row_out(gathered[N:])
            assert torch.allclose(after[row], below + block.row_ffn(block.row_ffn_norm(below)), atol=1e-5)


def test_the_mean_is_over_what_is_there() -> None:
    stack = FullStack(N, D, 1, 2, (4, 5), ())
    tokens, rows = torch.randn(N, R, D), torch.randn(R, M, D)
    whole, mean = stack(tokens, rows, stack.project(rows), SEEN)
    assert not mean[2].any()
    assert whole.isfinite().all()
    shorter = rows[1:2, 1:]
    alone, short = stack(tokens[:, 1:2], shorter, stack.project(shorter), SEEN[1:2, 1:])
    assert torch.allclose(mean[1], short[0], atol=1e-6)
    assert torch.allclose(whole[:, 1], alone[:, 0], atol=1e-5)
