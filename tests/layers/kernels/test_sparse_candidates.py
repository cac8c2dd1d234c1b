"""Grouped candidates against a masked dense attention, and mutants that the comparison must catch."""

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from clickscale.layers.attention import attend_with_itself
from clickscale.layers.bias import TIME_BUCKETS, Buckets, time_buckets
from clickscale.layers.kernels import residue_classes
from clickscale.layers.kernels.residue_classes import SHUT
from clickscale.layers.kernels.sparse_candidates import (
    CandidatePlan,
    attend_candidates_by_classes,
    candidate_plan,
    choose_for_candidates,
)

HEADS, WIDTH, SCALE = 2, 3, 0.7


class Case(NamedTuple):
    """Random candidates over a timeline, a pattern, and what the bias is."""

    query: Tensor
    key: Tensor
    value: Tensor
    own_key: Tensor
    own_value: Tensor
    own_bias: Tensor
    tables: tuple[Tensor | None, Tensor | None]
    times: Tensor
    mask: Tensor
    candidate_times: Tensor
    oldest: Tensor
    visible: Tensor
    k: int
    r: int
    kind: Buckets

    @property
    def leaves(self) -> list[Tensor]:
        given = (*self[:6], *self.tables)
        return [x for x in given if isinstance(x, Tensor)]

    @property
    def plan(self) -> CandidatePlan:
        shown = self.candidate_times, self.oldest, self.visible
        return candidate_plan(self.times, self.mask, *shown, self.k, self.r, self.kind)

    def grouped(self, plan: CandidatePlan) -> Tensor:
        own = self.own_key, self.own_value
        given = self.query, self.key, self.value, *own, plan, *self.tables, self.own_bias, SCALE
        return attend_candidates_by_classes(*given)

    def dense(self) -> Tensor:
        """All pairs, those not seen masked; written for reading."""
        column = torch.arange(self.times.shape[1])
        distance = self.visible[..., None] - column  # (B, C, L)
        seen = (distance > 0) & (column >= self.oldest[..., None]) & self.mask[:, None]
        seen &= (distance < self.k) | (distance % self.r == 0)
        bias = torch.zeros(1, dtype=self.query.dtype)
        time, position = self.tables
        if time is not None:
            delta = self.candidate_times[..., None] - self.times[:, None]
            bias = bias + time[:, time_buckets(delta, self.kind)].transpose(0, 1)
        if position is not None:
            bias = bias + position[:, distance.clamp(0, position.shape[1] - 1)].transpose(0, 1)
        bias = torch.where(seen[:, None], bias, -math.inf)
        own = self.own_key, self.own_value
        return attend_with_itself(self.query, self.key, self.value, *own, bias, self.own_bias, SCALE)


def case(
    length: int,
    candidates: int,
    k: int,
    r: int,
    *,
    tables: tuple[int, int] = (1, 1),
    kind: Buckets = "octave",
    padding: float = 0.3,
    together: bool = False,
    batch: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """``together``: all candidates of a row stand in one place; tables of 0 rows mean no such bias."""
    torch.manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, requires_grad=True)

    query, own_key, own_value = (leaf(batch, HEADS, candidates, WIDTH) for _ in range(3))
    key, value = leaf(batch, HEADS, length, WIDTH), leaf(batch, HEADS, length, WIDTH)
    time = leaf(tables[0], TIME_BUCKETS) if tables[0] else None
    position = leaf(tables[1], 10) if tables[1] else None
    times = torch.randint(0, 10**8, (batch, length)).sort(dim=1).values + 10**9
    when = torch.randint(0, 10**8, (batch, candidates)) + 10**9
    visible = torch.randint(0, length + 1, (batch, 1 if together else candidates)).expand(batch, candidates)
    oldest = torch.randint(0, length + 1, (batch, candidates)) // 3
    own = leaf(max(tables)) if max(tables) else torch.zeros(1, dtype=dtype, requires_grad=True)
    shown = torch.rand(batch, length) >= padding, when, oldest, visible.contiguous()
    return Case(query, key, value, own_key, own_value, own, (time, position), times, *shown, k, r, kind)


def error(got: Case, expected: Case, plan: CandidatePlan) -> float:
    """Largest error of values and gradients, relative to the largest number of each tensor."""
    fast, slow = got.grouped(plan), expected.dense()
    weight = torch.randn(slow.shape, dtype=torch.float64)
    ours = [fast, *torch.autograd.grad((fast * weight).sum(), got.leaves, materialize_grads=True)]
    plain = [slow, *torch.autograd.grad((slow * weight).sum(), expected.leaves, materialize_grads=True)]
    assert all(x.isfinite().all() for x in ours)
    return max(
        ((mine - other).abs().max() / other.abs().max().clamp(min=1e-3)).item()
        for mine, other in zip(ours, plain, strict=True)
        if other.numel()
    )


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 40),
    candidates=st.integers(1, 20),
    k=st.integers(1, 5),
    r=st.integers(1, 8),
    tables=st.sampled_from([(1, 1), (HEADS, HEADS), (1, HEADS), (HEADS, 1), (0, 0), (0, 1), (1, 0)]),
    kind=st.sampled_from(["octave", "paper"]),
    padding=st.sampled_from([0.0, 0.3, 1.0]),
    together=st.booleans(),
    seed=st.integers(0, 9),
)
@example(length=0, candidates=3, k=2, r=2, tables=(1, 1), kind="octave", padding=0.0, together=False, seed=0)
@example(length=4, candidates=9, k=9, r=3, tables=(1, 1), kind="octave", padding=0.0, together=True, seed=0)
def test_grouped_candidates_are_masked_dense_candidates(
    length: int,
    candidates: int,
    k: int,
    r: int,
    tables: tuple[int, int],
    kind: Buckets,
    padding: float,
    together: bool,
    seed: int,
) -> None:
    options = {"tables": tables, "kind": kind, "padding": padding, "together": together, "seed": seed}
    made = case(length, candidates, k, r, **options)  # type: ignore[arg-type]
    assert error(made, made, made.plan) < 1e-10


@pytest.mark.parametrize(("k", "r", "together"), [(1, 1, False), (2, 2, False), (4, 3, False), (2, 4, True)])
def test_blocks_and_pieces_change_nothing(
    k: int, r: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residue_classes, "_ROWS", 4)
    monkeypatch.setattr(residue_classes, "_PIECE", 100)
    made = case(37, 30, k, r, batch=5, tables=(HEADS, 1), together=together)
    assert len(made.plan.blocks) > 1
    assert error(made, made, made.plan) < 1e-10


def test_weights_that_are_not_kept_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clickscale.layers.kernels.sparse_candidates.KEPT", 0)
    made = case(20, 9, 3, 2)
    assert error(made, made, made.plan) < 1e-10


@pytest.mark.parametrize("r", [1, 2, 4])
def test_float32_is_exact_to_its_precision(r: int) -> None:
    exact = case(300, 100, 2, r, padding=0.1)

    def short(x: Tensor) -> Tensor:
        return x.detach().float().requires_grad_()

    time, position = exact.tables
    assert time is not None
    assert position is not None
    rounded = Case(*map(short, exact[:6]), (short(time), short(position)), *exact[7:])  # type: ignore[arg-type]
    assert error(rounded, exact, exact.plan) < 1e-5


def test_without_any_behavior_to_see_a_candidate_returns_its_own_value() -> None:
    made = case(12, 5, 2, 2)
    made.visible[0, 1] = 0
    made.visible[1, 3] = made.oldest[1, 3] = 4
    made.mask[1, :] = False
    out = made.grouped(made.plan)
    for row, candidate in ((0, 1), (1, 3), (1, 0)):
        torch.testing.assert_close(
            out[row, :, candidate], made.own_value[row, :, candidate], rtol=0, atol=1e-12
        )


def test_candidates_of_one_moment_cost_one_class() -> None:
    apart, together = case(800, 64, 2, 8), case(800, 64, 2, 8, together=True)
    assert together.plan.pairs <= 2 * 64 * 100
    assert apart.plan.pairs <= 2 * 64 * 800


def test_no_candidate_gives_none() -> None:
    made = case(5, 0, 2, 2)
    assert made.grouped(made.plan).shape == (2, HEADS, 0, WIDTH)


def test_gradients_are_not_needed_in_inference() -> None:
    made = case(30, 9, 3, 4, dtype=torch.float32)
    with torch.no_grad():
        alone = made.grouped(made.plan)
    assert not alone.requires_grad
    assert torch.equal(alone, made.grouped(made.plan))


def test_the_form_is_chosen_by_shape() -> None:
    assert choose_for_candidates(64, 100, 100, 2, 4) == "classes"
    assert choose_for_candidates(64, 20, 100, 2, 4) == "dense"  # too little work
    assert choose_for_candidates(64, 200, 200, 40, 8) == "dense"  # most pairs are seen


@pytest.mark.parametrize("mutant", ["bias off by one", "padding seen", "window too wide", "counted twice"])
def test_a_wrong_plan_is_caught(mutant: str) -> None:
    made = case(30, 9, 3, 2)
    plan = made.plan
    assert error(made, made, plan) < 1e-10
    if mutant == "window too wide":
        wrong = made._replace(k=4).plan
    elif mutant == "counted twice":  # offset 2 is in the class already
        other = made._replace(k=3, r=3).plan
        wrong = dataclasses.replace(plan, offsets=other.offsets, near=other.near, near_ids=other.near_ids)
    elif mutant == "padding seen":
        opened = [
            dataclasses.replace(b, ids=b.ids.masked_fill((b.ids % (SHUT + 1) == SHUT) & (b.steps > 0), 0))
            for b in plan.blocks
        ]
        wrong = dataclasses.replace(plan, blocks=tuple(opened))
    else:
        moved = [dataclasses.replace(b, steps=(b.steps - 1).clamp(min=0)) for b in plan.blocks]
        wrong = dataclasses.replace(plan, blocks=tuple(moved))
    assert error(made, made, wrong) > 1e-3
