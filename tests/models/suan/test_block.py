import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.layers.attention import attend, attend_with_itself
from clickscale.models._suan.block import AttentionBlock, BlockConfig, _AdaptiveFusion, _Entered


def parameters_of(d: int) -> dict[str, int]:
    """Parameters of a block over five fields of width d, by part."""
    with torch.device("meta"):
        block = AttentionBlock(5 * d, 1, d, BlockConfig())
    counts: dict[str, int] = {}
    for name, parameter in block.named_parameters():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


@pytest.mark.parametrize("d", [8, 16, 32, 144])
def test_each_part_of_a_block_has_the_parameters_of_its_equations(d: int) -> None:
    width, counts = 5 * d, parameters_of(d)
    assert counts["qkv"] + counts["out"] == 4 * width**2  # eq. 2-6
    assert counts["cross_query"] + counts["cross_out"] == 2 * width**2  # eq. 7-9
    assert counts["cross_key_value"] == 2 * d * width
    assert counts["ffn"] == 9 * width**2  # eq. 16
    assert counts["norms"] == 3 * width  # a last norm stands outside the blocks


@pytest.mark.parametrize(("d", "count"), [(8, 25_960), (16, 103_600), (32, 413_920), (144, 8_374_320)])
def test_a_block_has_the_parameters_that_the_paper_counts(d: int, count: int) -> None:
    """4 D^2 + 2 D^2 + 2 d D + 3/4 D^2 + 9 D^2 and three gains."""
    assert sum(parameters_of(d).values()) == count


def test_fusion_is_a_softmax_over_two_branches() -> None:
    torch.manual_seed(0)
    fusion = _AdaptiveFusion(6).double()
    own, cross, rows = (torch.randn(2, 3, 6, dtype=torch.float64) for _ in range(3))
    mean = fusion.averaged(rows, rows)
    hidden = torch.relu(2 * rows @ fusion.shrink.weight.T)
    gates = torch.stack([hidden @ fusion.self_gate.weight.T, hidden @ fusion.cross_gate.weight.T])
    shares = gates.softmax(dim=0)
    expected = shares[0] * own + shares[1] * cross
    torch.testing.assert_close(fusion(own, cross, mean), expected, rtol=0, atol=1e-14)
    assert (expected - own).abs().max() > 0.1


def test_one_mean_may_gate_all_rows() -> None:
    fusion = _AdaptiveFusion(6)
    own, cross, mean = torch.randn(2, 3, 6), torch.randn(2, 3, 6), torch.randn(2, 1, 1)
    torch.testing.assert_close(fusion(own, cross, mean), fusion(own, cross, mean.expand(-1, 3, -1)))


def behaviors(block: AttentionBlock, x: Tensor, profile: Tensor, bias: Tensor) -> tuple[Tensor, _Entered]:
    """Rows of the block whose gate sees the row itself, and what entered."""
    entered = block.enter(x)
    seen = attend(entered.query, entered.key, entered.value, bias, block.scale)
    met = block.meet_profile(x, entered, seen, profile)
    return block.leave(met, met.averaged), entered


@pytest.mark.parametrize("residual", ["prenorm", "code", "postnorm", "literal"])
def test_a_candidate_row_is_a_behavior_row_that_nobody_follows(residual: str) -> None:
    torch.manual_seed(0)
    block = AttentionBlock(8, 2, 3, BlockConfig(residual=residual)).double()  # type: ignore[arg-type]
    x, profile = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    bias = torch.randn(2, 1, 5, 5, dtype=torch.float64).masked_fill(
        torch.ones(5, 5).triu(1).bool(), -torch.inf
    )
    bias[:, :, 4, 4] = 0.25
    rows, entered = behaviors(block, x, profile, bias)
    assert entered.key.shape == entered.value.shape == (2, 2, 5, 4)
    own = torch.full((1,), 0.25, dtype=torch.float64)
    last = block.enter(x[:, 4:])
    kept = entered.key[:, :, :4], entered.value[:, :, :4]
    seen = attend_with_itself(last.query, *kept, last.key, last.value, bias[:, :, 4:, :4], own, block.scale)
    met = block.meet_profile(x[:, 4:], last, seen, profile)
    found = block.leave(met, met.averaged)
    torch.testing.assert_close(found, rows[:, 4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("option", "absent"),
    [
        ({"fusion": "self"}, {"cross_query", "cross_key_value", "cross_out", "fusion"}),
        ({"fusion": "sum"}, {"fusion"}),
        ({"ffn": "none"}, {"ffn"}),
    ],
)
def test_what_an_ablation_leaves_out_has_no_weights(option: dict[str, str], absent: set[str]) -> None:
    def parts(config: BlockConfig) -> set[str]:
        block = AttentionBlock(6, 2, 3, config)
        return {name.partition(".")[0] for name, _ in block.named_parameters()}

    assert parts(BlockConfig()) - parts(BlockConfig(**option)) == absent  # type: ignore[arg-type]


def test_the_residual_stream_of_prenorm_is_not_normalized() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(6, 2, 3, BlockConfig(residual="prenorm", fusion="self", ffn="none"))
    with torch.no_grad():
        block.out.weight.zero_()
        x = torch.randn(1, 2, 6)
        rows, _ = behaviors(block, x, torch.zeros(1, 1, 3), torch.zeros(1, 1, 2, 2))
        # nothing is attended to, so the fusion adds the normalized stream alone
        expected = x + functional.rms_norm(x, (6,), eps=1e-12)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
