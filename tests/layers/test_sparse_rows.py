"""New rows against the last rows of a masked dense attention."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.layers.bias import Buckets
from clickscale.layers.class_layout import SHUT
from clickscale.layers.sparse_rows import RowPlan, attend_rows, row_plan
from tests.layers.test_sparse_attention import SCALE, Case, case


def error(made: Case, plan: RowPlan) -> float:
    """Largest error of values and gradients of the new rows, relative to the largest of each tensor."""
    new = plan.new
    fast = attend_rows(
        made.query[:, :, plan.length - new :], made.key, made.value, plan, made.time, made.position, SCALE
    )
    slow = made.dense()[:, :, plan.length - new :]
    weight = torch.randn_like(slow)
    ours = [fast, *torch.autograd.grad((fast * weight).sum(), made.leaves)]
    plain = [slow, *torch.autograd.grad((slow * weight).sum(), made.leaves)]
    assert all(x.isfinite().all() for x in ours)
    return max(
        ((mine - other).abs().max() / other.abs().max().clamp(min=1e-3)).item()
        for mine, other in zip(ours, plain, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    past=st.integers(0, 20),
    new=st.integers(1, 12),
    k=st.integers(1, 5),
    r=st.integers(1, 8),
    tables=st.sampled_from([(1, 1), (2, 2), (0, 0), (1, 2)]),
    kind=st.sampled_from(["octave", "paper"]),
    padding=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 9),
)
def test_new_rows_are_the_last_rows_of_the_whole(
    past: int, new: int, k: int, r: int, tables: tuple[int, int], kind: Buckets, padding: float, seed: int
) -> None:
    made = case(past + new, k, r, tables=tables, kind=kind, padding=padding, seed=seed)
    assert error(made, row_plan(made.times, made.mask, new, k, r, kind)) < 1e-10


def test_one_row_reads_only_the_keys_that_it_sees() -> None:
    made = case(100, 2, 8, padding=0.0)
    (group,) = row_plan(made.times, made.mask, 1, 2, 8, "octave").groups
    assert group.columns.tolist() == [*range(3, 98, 8), 98, 99]


def test_no_new_row_gives_none() -> None:
    made = case(5, 2, 2)
    none = made.query[:, :, :0]
    plan = row_plan(made.times, made.mask, 0, 2, 2, "octave")
    assert attend_rows(none, made.key, made.value, plan, made.time, made.position, SCALE).shape == none.shape


@pytest.mark.parametrize("mutant", ["bias off by one", "padding seen"])
def test_a_wrong_plan_is_caught(mutant: str) -> None:
    made = case(20, 3, 2)
    plan = row_plan(made.times, made.mask, 4, 3, 2, "octave")
    assert error(made, plan) < 1e-10

    def changed(group: object) -> dict[str, torch.Tensor]:
        if mutant == "padding seen":
            return {"ids": group.ids.masked_fill(group.ids == SHUT, 0)}  # type: ignore[attr-defined]
        return {"distance": group.distance + 1}  # type: ignore[attr-defined]

    wrong = tuple(dataclasses.replace(group, **changed(group)) for group in plan.groups)
    assert error(made, dataclasses.replace(plan, groups=wrong)) > 1e-3
