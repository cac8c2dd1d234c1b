"""The structured form against a dense one that is masked; mutants that the comparison must catch."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from clickscale.layers.bias import TIME_BUCKETS, Buckets, time_buckets
from clickscale.layers.kernels import class_plans, residue_classes, sparse_behaviors
from clickscale.layers.kernels.class_plans import Block, ClassPlan, class_plan
from clickscale.layers.kernels.residue_classes import SHUT, to_classes
from clickscale.layers.kernels.sparse_behaviors import attend_by_classes, choose

HEADS, WIDTH, SCALE = 2, 3, 0.7


class Case(NamedTuple):
    """Random input, a pattern, and what the bias is."""

    query: Tensor
    key: Tensor
    value: Tensor
    times: Tensor
    mask: Tensor
    time: Tensor | None
    position: Tensor | None
    k: int
    r: int
    phases: tuple[int, ...]
    kind: Buckets

    @property
    def leaves(self) -> list[Tensor]:
        return [x for x in (self.query, self.key, self.value, self.time, self.position) if x is not None]

    @property
    def plan(self) -> ClassPlan:
        """That of all heads, which have one phase or one each."""
        phases = tuple(sorted(set(self.phases)))
        plan = class_plan(self.times, self.mask, self.k, self.r, phases, self.kind)
        return plan.of_heads(tuple(map(phases.index, self.phases)))

    def structured(self) -> Tensor:
        inputs = self.query, self.key, self.value
        return attend_by_classes(*inputs, self.plan, self.time, self.position, SCALE)

    def dense(self) -> Tensor:
        """All pairs, those not seen masked; written for reading."""
        column = torch.arange(self.times.shape[1])
        distance = column[:, None] - column
        phase = torch.tensor(self.phases)[:, None, None]
        seen = (distance < self.k) | ((distance - phase) % self.r == 0)  # (1 or H, L, L)
        seen = (distance == 0) | ((distance > 0) & seen & self.mask[:, None, None])
        logits = SCALE * self.query @ self.key.transpose(2, 3)
        if self.time is not None:
            delta = self.times[:, :, None] - self.times[:, None]
            logits = logits + self.time[:, time_buckets(delta, self.kind)].transpose(0, 1)
        if self.position is not None:
            logits = logits + self.position[:, distance.clamp(0, self.position.shape[1] - 1)]
        return logits.masked_fill(~seen, -math.inf).softmax(dim=-1) @ self.value


def case(
    length: int,
    k: int,
    r: int,
    *phases: int,
    tables: tuple[int, int] = (1, 1),
    furthest: int = 9,
    kind: Buckets = "octave",
    padding: float = 0.3,
    batch: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Tables of 0 rows mean no such bias; phases are 0, or one for each head."""
    torch.manual_seed(seed)
    query, key, value = (
        torch.randn(batch, HEADS, length, WIDTH, dtype=dtype, requires_grad=True) for _ in range(3)
    )
    times = torch.randint(0, 10**8, (batch, length)).sort(dim=1).values + 10**9
    mask = torch.rand(batch, length) >= padding
    time = torch.randn(tables[0], TIME_BUCKETS, dtype=dtype, requires_grad=True) if tables[0] else None
    position = torch.randn(tables[1], furthest + 1, dtype=dtype, requires_grad=True) if tables[1] else None
    return Case(query, key, value, times, mask, time, position, k, r, phases or (0,), kind)


def furthest_apart(got: Case, expected: Case) -> float:
    """Largest error of values and gradients, relative to the largest number of each tensor."""
    fast, slow = got.structured(), expected.dense()
    weight = torch.randn(slow.shape, dtype=torch.float64)
    ours = [fast, *torch.autograd.grad((fast * weight).sum(), got.leaves)]
    plain = [slow, *torch.autograd.grad((slow * weight).sum(), expected.leaves)]
    errors = [0.0]
    for mine, other in zip(ours, plain, strict=True):
        assert mine.isfinite().all()
        if other.numel():
            largest = other.abs().max().clamp(min=1e-3)
            errors.append(((mine - other).abs().max() / largest).item())
    return max(errors)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 40),
    k=st.integers(1, 5),
    r=st.integers(1, 8),
    phases=st.sampled_from([(), (0, 1), (1, 0), (3, 2), (7, 7)]),
    tables=st.sampled_from([(1, 1), (HEADS, HEADS), (1, HEADS), (HEADS, 1), (0, 0), (0, 1), (1, 0)]),
    furthest=st.sampled_from([0, 3, 50]),
    kind=st.sampled_from(["octave", "paper"]),
    padding=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 9),
)
@example(length=0, k=2, r=2, phases=(), tables=(1, 1), furthest=3, kind="octave", padding=0.0, seed=0)
@example(length=1, k=1, r=4, phases=(), tables=(1, 1), furthest=3, kind="paper", padding=1.0, seed=0)
@example(length=7, k=9, r=3, phases=(), tables=(1, 1), furthest=3, kind="octave", padding=0.0, seed=0)
@example(length=3, k=1, r=8, phases=(), tables=(1, 1), furthest=3, kind="octave", padding=0.0, seed=0)
@example(length=3, k=1, r=8, phases=(6, 7), tables=(1, 1), furthest=3, kind="octave", padding=1.0, seed=0)
@example(length=4, k=3, r=4, phases=(2, 3), tables=(1, 1), furthest=0, kind="octave", padding=0.0, seed=0)
@example(length=7, k=9, r=3, phases=(1, 2), tables=(1, 1), furthest=3, kind="octave", padding=0.3, seed=0)
def test_structured_attention_is_masked_dense_attention(
    length: int,
    k: int,
    r: int,
    phases: tuple[int, ...],
    tables: tuple[int, int],
    furthest: int,
    kind: Buckets,
    padding: float,
    seed: int,
) -> None:
    phases = tuple(phase % r for phase in phases)
    made = case(
        length, k, r, *phases, tables=tables, furthest=furthest, kind=kind, padding=padding, seed=seed
    )
    if length == 0:
        assert made.structured().shape == (2, HEADS, 0, WIDTH)
    else:
        assert furthest_apart(made, made) < 1e-10


@pytest.mark.parametrize("phases", [(), (0, 1), (2, 1)])
@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 1), (1, 2), (3, 2), (4, 3)])
def test_blocks_of_rows_and_pieces_of_the_batch_change_nothing(
    k: int, r: int, phases: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residue_classes, "_ROWS", 4)
    monkeypatch.setattr(residue_classes, "_PIECE", 100)
    made = case(37, k, r, *(phase % r for phase in phases), batch=5, tables=(HEADS, 1))
    assert len(made.plan.blocks) > 1
    assert furthest_apart(made, made) < 1e-10


@pytest.mark.parametrize(("r", "phases"), [(1, ()), (3, ()), (3, (1, 2))])
def test_weights_that_are_not_kept_are_computed_again(
    r: int, phases: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_behaviors, "KEPT", 0)
    made = case(20, 2, r, *phases)
    assert furthest_apart(made, made) < 1e-10


@pytest.mark.parametrize(("r", "phases"), [(1, ()), (2, ()), (4, ()), (4, (0, 3))])
def test_float32_is_exact_to_its_precision(r: int, phases: tuple[int, ...]) -> None:
    exact = case(300, 2, r, *phases, padding=0.1)

    def short(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.detach().float().requires_grad_()

    rounded = exact._replace(
        **{name: short(getattr(exact, name)) for name in ("query", "key", "value", "time", "position")}
    )
    assert furthest_apart(rounded, exact) < 1e-5


def test_attention_by_hand() -> None:
    # Row 3 sees itself, row 2 (window of 2) and row 0 (3 back); values are 1, 10, 100, 1000, weights equal
    # but for the time bias of row 0, eight seconds back: bucket 6, weight 3.
    times, mask = torch.tensor([[0, 8, 8, 8]]), torch.ones(1, 4, dtype=torch.bool)
    value = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 1, 4, 1)
    time = torch.zeros(1, TIME_BUCKETS)
    time[0, 6] = math.log(3)
    none = torch.zeros_like(value)
    plan = class_plan(times, mask, 2, 3, (0,), "octave")
    out = attend_by_classes(none, none, value, plan, time, None, 1.0)
    expected = [1, (3 + 10) / 4, 110 / 2, (3 * 1 + 100 + 1000) / 5]
    assert out.flatten().tolist() == pytest.approx(expected)


def test_phases_by_hand() -> None:
    # With a window of 1 and r = 3, row 4 sees itself and the rows 3 and 0 (first head, 1 and 4 back) or 2
    # (second head, 2 back).
    times, mask = torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool)
    value = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0]).expand(1, 2, 5)[..., None]
    none = torch.zeros(1, 2, 5, 1)
    plan = class_plan(times, mask, 1, 3, (1, 2), "octave")
    out = attend_by_classes(none, none, value, plan, None, None, 1.0)
    assert out[0, 0, :, 0].tolist() == pytest.approx([1, 11 / 2, 110 / 2, 1100 / 2, 11001 / 3])
    assert out[0, 1, :, 0].tolist() == pytest.approx([1, 10, 101 / 2, 1010 / 2, 10100 / 2])


@pytest.mark.parametrize("heads", [(0, 2), (2, 0), (2, 3), (1, 1), (3,)])
def test_a_plan_of_more_phases_serves_heads_that_have_some_of_them(heads: tuple[int, ...]) -> None:
    made = case(30, 2, 4, *heads)
    wide = class_plan(made.times, made.mask, made.k, made.r, (0, 1, 2, 3), made.kind)
    inputs = made.query, made.key, made.value
    out = attend_by_classes(*inputs, wide.of_heads(heads), made.time, made.position, SCALE)
    torch.testing.assert_close(out, made.dense(), rtol=0, atol=1e-12)


def test_without_gradients_the_result_is_the_same() -> None:
    made = case(30, 3, 4, 0, 2, dtype=torch.float32)
    with torch.no_grad():
        alone = made.structured()
    assert not alone.requires_grad
    assert torch.equal(alone, made.structured())


def test_bfloat16_is_computed_in_float32() -> None:
    made = case(30, 2, 2, 0, 1, dtype=torch.bfloat16)
    rounded = made._replace(
        **{
            name: getattr(made, name).detach().double()
            for name in ("query", "key", "value", "time", "position")
        }
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = made.structured()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), rounded.dense(), rtol=0.01, atol=0.01)
    grads = torch.autograd.grad(out.float().square().sum(), made.leaves)
    assert all(grad.isfinite().all() and grad.dtype == torch.bfloat16 for grad in grads)


@pytest.mark.parametrize("phases", [(), (0, 1)])
def test_a_behavior_that_is_padding_reaches_nobody(phases: tuple[int, ...]) -> None:
    made = case(12, 3, 2, *phases, padding=0.0)
    made.mask[0, :5] = False
    before = made.structured()
    with torch.no_grad():
        made.key[0, :, :5], made.value[0, :, :5] = 50.0, 70.0
    made.times[0, :5] = 1
    after = made.structured()
    assert torch.equal(before[0, :, 5:], after[0, :, 5:])


@pytest.mark.parametrize("phases", [(), (1, 2)])
def test_later_behaviors_change_nothing(phases: tuple[int, ...]) -> None:
    made = case(13, 2, 3, *phases, padding=0.0)
    whole = made.structured()
    shorter = made._replace(
        **{name: getattr(made, name)[:, :, :8] for name in ("query", "key", "value")},
        times=made.times[:, :8],
        mask=made.mask[:, :8],
    )
    torch.testing.assert_close(whole[:, :, :8], shorter.structured(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("span", [10**3, 10**9, 2**33])
@pytest.mark.parametrize("kind", ["octave", "paper"])
def test_a_plan_puts_pairs_into_the_buckets_of_time_buckets(span: int, kind: Buckets) -> None:
    torch.manual_seed(1)
    times = torch.randint(0, span, (2, 9)).sort(dim=1).values + 10**9
    plan = class_plan(times, torch.ones(2, 9, dtype=torch.bool), 1, 1, (0,), kind)
    expected = time_buckets(times[:, :, None] - times[:, None], kind)
    expected[:, torch.ones(9, 9, dtype=torch.bool).triu(1)] = SHUT
    assert plan.blocks[0].ids[:, 0, 0].tolist() == expected.tolist()


def test_a_plan_holds_as_many_pairs_as_are_seen() -> None:
    times, mask = torch.arange(1024).expand(2, -1), torch.ones(2, 1024, dtype=torch.bool)
    assert class_plan(times, mask, 2, 1, (0,), "octave").pairs < 0.6 * 2 * 1024**2
    plan = class_plan(times, mask, 2, 4, (0, 1, 2, 3), "octave")
    assert plan.pairs < 0.8 * 2 * 1024**2 / 4
    assert sum(block.ids.numel() for block in plan.blocks) == 4 * plan.pairs  # one byte a pair and phase


def test_the_form_is_chosen_by_shape() -> None:
    assert choose(64, 100, 2, 4) == choose(16, 200, 2, 1) == choose(1, 1000, 2, 8) == "classes"
    assert choose(1, 240, 2, 4) == choose(1, 240, 2, 2) == "classes"  # one request
    assert choose(1, 239, 2, 4) == choose(64, 50, 2, 2) == choose(1, 240, 2, 1) == "dense"  # too little work
    assert choose(64, 200, 40, 8) == "dense"  # a window so wide that most pairs are seen
    assert choose(64, 200, 40, 1) == "classes"  # the window of full attention is of no account


# --- mutants


Blocks = Callable[[Block], Block]


def _with_blocks(plan: ClassPlan, change: Blocks) -> ClassPlan:
    return dataclasses.replace(plan, blocks=tuple(map(change, plan.blocks)))


def _shifted(plan: ClassPlan) -> ClassPlan:
    """The bias of distance is off by one."""
    return _with_blocks(plan, lambda block: dataclasses.replace(block, distance=block.distance + 1))


def _padding_seen(plan: ClassPlan) -> ClassPlan:
    """Columns of padding are open to later rows."""

    def opened(block: Block) -> Block:
        ids = block.ids.masked_fill(block.ids == SHUT, 0)
        future = torch.ones(ids.shape[-2:], dtype=torch.bool).triu(
            block.first + ids.shape[-1] - block.last + 1
        )
        return dataclasses.replace(block, ids=ids.masked_fill(future, SHUT))

    return _with_blocks(plan, opened)


def _unmoved(plan: ClassPlan) -> ClassPlan:
    """Keys stay where they are, whatever the phase."""
    return dataclasses.replace(plan, phases=(0,) * len(plan.phases))


def _swapped(plan: ClassPlan) -> ClassPlan:
    """Every head has the phase of another."""
    return dataclasses.replace(plan, heads=plan.heads[::-1])


def _band_open(plan: ClassPlan) -> ClassPlan:
    """What a head has in its classes is in its band, too."""

    def opened(block: Block) -> Block:
        ids = block.ids.clone()
        ids[:, 0, ..., 0] = 0  # the offset 0 at the phase 0
        return dataclasses.replace(block, ids=ids)

    return _with_blocks(plan, opened)


@pytest.mark.parametrize("mutate", [_shifted, _padding_seen, _unmoved, _swapped, _band_open])
def test_a_wrong_plan_is_caught(
    mutate: Callable[[ClassPlan], ClassPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case(20, 2, 2, 0, 1)
    right = made.plan
    assert furthest_apart(made, made) < 1e-10
    monkeypatch.setattr(Case, "plan", mutate(right))
    assert furthest_apart(made, made) > 1e-3


def test_a_key_that_is_counted_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(20, 3, 2, padding=0.0)
    # A plan for r = 3 has the offsets 1 and 2; with two classes the second is in a class already.
    double = dataclasses.replace(class_plan(made.times, made.mask, 3, 2, (0,), "octave"), offsets=(1, 2))
    band = class_plans._band_ids(made.times, made.mask, (1, 2), "octave")
    in_classes = to_classes(band[:, None], 2)

    def widened(block: Block) -> Block:
        rows = slice(block.first, block.last)
        ids = torch.cat([in_classes[..., rows, :], block.ids[..., 1:]], dim=-1)
        far = torch.full((1, block.last - block.first, 1), 2)
        distance = torch.cat([block.distance[..., :1], far, block.distance[..., 1:]], dim=-1)
        return dataclasses.replace(block, ids=ids, distance=distance)

    monkeypatch.setattr(Case, "plan", _with_blocks(double, widened))
    assert furthest_apart(made, made) > 1e-3
