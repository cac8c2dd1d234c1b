"""States in 8 bits: how far numbers move, what stays exact, how many bytes that takes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clickscale.inference.states.int8_states import to_int8
from clickscale.state import State


@dataclass(frozen=True)
class Kept(State):
    GROWS: ClassVar = {"keys": 2, "times": 1, "sums": 1}

    keys: tuple[Tensor, ...]
    times: Tensor
    sums: Tensor
    profile: Tensor


def state(scale: float = 1.0) -> Kept:
    torch.manual_seed(0)
    keys = tuple(torch.randn(1, 4, 50, 20) * scale for _ in range(2))  # (B, H, L, D / H)
    return Kept(keys, torch.arange(50)[None], torch.randn(1, 1, 10), torch.randn(1, 3, 8))


def test_a_number_moves_by_half_a_step_of_its_row_at_most() -> None:
    before = state()
    before.keys[0][0, 1, 7] *= 1_000  # one large row of one head costs the others nothing
    kept = to_int8(before)
    assert kept is not None
    after = kept.restore()
    assert isinstance(after, Kept)
    for old, new in zip(before.keys, after.keys, strict=True):
        step = old.abs().amax(dim=-1, keepdim=True) / 127
        assert bool(((old - new).abs() <= 0.5001 * step).all())
    assert torch.equal(before.times, after.times)
    assert float((before.sums - after.sums).abs().max()) <= 2e-3  # one row: half precision
    assert float((before.profile - after.profile).abs().max()) <= 2e-3


def test_it_takes_little_more_than_a_quarter_of_the_bytes() -> None:
    before = state()
    kept = to_int8(before)
    assert kept is not None
    keys = sum(key.numel() for key in before.keys)
    assert sum(key.element_size() * key.numel() for key in kept.state.keys) == keys  # type: ignore[attr-defined]
    assert kept.nbytes < 0.35 * before.nbytes


def test_keeping_a_restored_state_again_changes_nothing() -> None:
    once = to_int8(state())
    assert once is not None
    twice = to_int8(once.restore())
    assert twice is not None
    for old, new in zip(once.state.tensors(), twice.state.tensors(), strict=True):
        assert torch.equal(old, new)


def test_a_row_of_zeros_and_numbers_that_do_not_fit() -> None:
    empty = state(scale=0.0)
    kept = to_int8(empty)
    assert kept is not None
    assert float(kept.restore().tensors()[0].abs().max()) == 0
    assert to_int8(state(scale=float("inf"))) is None
    large = state()
    large.profile[0, 0, 0] = 1e6
    assert to_int8(large) is None
