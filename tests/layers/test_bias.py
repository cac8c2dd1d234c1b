import math

import pytest
import torch
from torch import Tensor, nn

from clickscale.layers.bias import TIME_BUCKETS, AttentionBias, _pair_buckets, _RelativeBias, time_buckets

DAY, YEAR = 86_400, 31_557_600


def naive(bias: _RelativeBias, delta: Tensor, distance: Tensor, allowed: Tensor) -> Tensor:
    """The bias of every pair, one at a time."""
    batch, queries, keys = delta.shape
    rows = []
    for b in range(batch):
        for q in range(queries):
            for k in range(keys):
                if not allowed[b, q, k]:
                    rows.append(torch.full((bias.time.shape[0],), -math.inf, dtype=bias.time.dtype))
                    continue
                far = int(distance[q, k] if distance.dim() == 2 else distance[b, q, k])
                far = min(max(far, 0), bias.length)
                bucket = int(time_buckets(delta[b, q, k][None]))
                rows.append(bias.time[:, bucket] + bias.position[:, far])
    return torch.stack(rows).view(batch, queries, keys, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("seconds", "octave", "paper"),
    [
        (0, 0, 0),
        (1, 0, 0),
        (2, 2, 2),
        (3, 3, 3),
        (4, 4, 4),
        (-4, 4, 4),
        (6, 5, 5),
        (3600, 23, 27),
        (DAY, 32, 37),
        (YEAR, 49, 57),
        (100 * YEAR, 62, 72),
        (2**62, 124, 128),
    ],
)
def test_buckets_of_time_by_hand(seconds: int, octave: int, paper: int) -> None:
    delta = torch.tensor([seconds])
    assert time_buckets(delta).item() == octave
    assert time_buckets(delta, "paper").item() == paper


def test_an_octave_is_two_buckets_that_meet_at_one_and_a_half() -> None:
    delta = torch.arange(1, 100_000)
    power = (delta.double().log2() + 1e-12).floor().long()
    upper = 2 * delta >= 3 * 2**power
    assert torch.equal(time_buckets(delta), 2 * power + upper)


@pytest.mark.parametrize("kind", ["octave", "paper"])
def test_buckets_grow_with_time_and_stay_in_the_table(kind: str) -> None:
    delta = (2.0 ** torch.linspace(0, 62.9, 3000, dtype=torch.float64)).long()
    found = time_buckets(delta, kind)  # type: ignore[arg-type]
    assert (found.diff() >= 0).all()
    assert found.min() == 0
    assert found.max() <= TIME_BUCKETS - 1
    assert torch.equal(found, time_buckets(-delta, kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("tables", [1, 3])
@pytest.mark.parametrize("per_row", [False, True])
def test_the_bias_and_its_gradient_are_those_of_plain_look_ups(tables: int, per_row: bool) -> None:
    torch.manual_seed(0)
    bias = _RelativeBias(length=4, tables=tables).double()
    delta = torch.randint(0, 10 * DAY, (2, 3, 6))
    distance = torch.randint(-2, 9, (2, 3, 6) if per_row else (3, 6))
    allowed = torch.rand(2, 3, 6) < 0.7
    weight = torch.randn(2, tables, 3, 6, dtype=torch.float64)

    def gradients(made: Tensor) -> list[Tensor]:
        loss = (made.masked_fill(~allowed[:, None], 0) * weight).sum()
        return list(torch.autograd.grad(loss, [bias.time, bias.position]))

    fast = bias(_pair_buckets(delta, allowed), distance)
    slow = naive(bias, delta, distance, allowed)
    assert fast.shape == (2, tables, 3, 6)
    assert torch.equal(fast.isneginf(), ~allowed[:, None].expand(-1, tables, -1, -1))
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-15)
    for ours, plain in zip(gradients(fast), gradients(slow), strict=True):
        assert plain.abs().sum() > 0
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-14)


def test_the_gradient_through_a_softmax_is_finite_where_pairs_are_masked() -> None:
    bias = _RelativeBias(length=4)
    allowed = torch.tensor([[[True, False, False], [True, True, False]]])
    buckets = _pair_buckets(torch.ones(1, 2, 3, dtype=torch.int64), allowed)
    made = bias(buckets, torch.zeros(2, 3, dtype=torch.int64))
    (made.softmax(-1) * torch.randn(2, 3)).sum().backward()
    assert bias.time.grad.isfinite().all()
    assert bias.position.grad.isfinite().all()


def test_an_event_is_at_no_distance_in_no_time_from_itself() -> None:
    bias = _RelativeBias(length=4, tables=3)
    assert torch.equal(bias.itself(), bias.time[:, 0] + bias.position[:, 0])


@pytest.mark.parametrize(
    ("sharing", "sets", "tables"), [("shared", 1, 1), ("heads", 1, 4), ("blocks", 3, 4), ("none", 0, 0)]
)
def test_tables_are_shared_as_named(sharing: str, sets: int, tables: int) -> None:
    bias = AttentionBias(sharing, blocks=3, heads=4, length=5, buckets="octave")  # type: ignore[arg-type]
    assert sum(p.numel() for p in bias.parameters()) == sets * tables * (TIME_BUCKETS + 6)
    delta, distance = torch.randint(0, DAY, (2, 3, 3)), torch.arange(3)[:, None] - torch.arange(3)
    allowed = (distance >= 0).expand(2, 3, 3)
    made = bias(delta, distance, allowed)
    assert len(made) == 3
    assert all(block.shape == (2, max(tables, 1), 3, 3) for block in made)
    assert torch.equal(made[0], made[1]) == (sharing != "blocks")
    for number, block in enumerate(made):
        assert torch.equal(block.isneginf(), ~allowed[:, None].expand_as(block))
        held = [module for module in bias.modules() if isinstance(module, _RelativeBias)]
        own = held[number % sets].itself() if sets else torch.zeros(1)
        assert torch.equal(bias.own(number, own.device), own)


def test_without_tables_pairs_are_only_masked() -> None:
    bias = AttentionBias("none", blocks=2, heads=2, length=5, buckets="octave")
    allowed = torch.tensor([[[True, False]]])
    made = bias(torch.ones(1, 1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64), allowed)
    assert made[0].tolist() == [[[[0.0, -math.inf]]]]
    assert not list(bias.parameters())


def test_paper_buckets_reach_the_tables() -> None:
    bias = AttentionBias("shared", blocks=1, heads=1, length=2, buckets="paper")
    with torch.no_grad():
        for parameter in bias.parameters():
            parameter.zero_()
        (held,) = (module for module in bias.modules() if isinstance(module, _RelativeBias))
        held.time[0, 37] = 1.0
    allowed = torch.ones(1, 1, 1, dtype=torch.bool)
    made = bias(torch.full((1, 1, 1), DAY), torch.zeros(1, 1, dtype=torch.int64), allowed)
    assert made[0].item() == 1.0
    assert isinstance(held.time, nn.Parameter)
