"""Held-out checks see the smaller cells only, and say what they support."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from clickscale.errors import DataError
from clickscale.scaling.held_out import _predict_next, hold_out, hold_out_joint
from clickscale.scaling.points import Measured
from clickscale.scaling.power_law import Rungs
from tests.scaling.planted import planted_sweep

X = 2.0 ** np.arange(6)


def rungs(seed: int = 0, largest: float = 0.0, noise: float = 0.0007) -> Rungs:
    random = np.random.default_rng(seed)
    y = 0.78 - 0.06 * X**-0.4
    y[-1] += largest
    values = (line + noise * random.standard_normal(3) for line in y)
    return Rungs(X, tuple(tuple(value.tolist()) for value in values))


def test_a_prediction_does_not_see_the_largest_rung() -> None:
    assert hold_out(rungs()).predicted == hold_out(rungs(largest=-0.1)).predicted


def test_a_law_that_holds_passes_and_says_how_far() -> None:
    check = hold_out(rungs())
    assert check.inside
    assert check.holds
    assert check.factor == 2
    assert check.told == "holds up to 2 times beyond the points"
    assert check.error == pytest.approx(check.measured - check.predicted.value)


def test_a_largest_rung_off_the_law_fails() -> None:
    check = hold_out(rungs(largest=-0.01))
    assert not check.inside
    assert not check.holds
    assert "lies outside of the interval" in check.told


def test_an_interval_that_says_nothing_supports_nothing() -> None:
    check = hold_out(rungs())
    vague = replace(check, predicted=replace(check.predicted, low=0.6, high=0.9))
    assert vague.inside
    assert not vague.holds
    assert "says nothing" in vague.told


def test_an_error_beyond_what_a_plan_can_bear_fails_inside_a_wide_interval() -> None:
    check = hold_out(rungs())
    off = replace(
        check, predicted=replace(check.predicted, low=check.measured - 0.01, value=check.measured - 0.003)
    )
    assert off.inside
    assert "off by 0.0030" in off.told


def test_only_what_lies_beyond_is_predicted() -> None:
    with pytest.raises(DataError, match="is not beyond the rungs"):
        _predict_next(rungs(), 32.0, 3)


def test_too_few_smaller_rungs_are_refused() -> None:
    with pytest.raises(DataError, match="2 rungs with 6 cells"):
        hold_out(rungs().only(slice(0, 3)))


def test_the_largest_configurations_are_predicted_from_the_others() -> None:
    cells = planted_sweep(("suan",)).cells
    check = hold_out_joint(cells)
    assert check.names[-1] == "size-4, L = 200"
    assert len(check.names) == 3
    assert check.holds
    largest = max(cell.training_flops for cell in cells)
    changed = [_lowered(cell) if cell.training_flops == largest else cell for cell in cells]
    fallen = hold_out_joint(changed)
    assert fallen.predicted == check.predicted
    assert not fallen.holds
    assert fallen.told.startswith("fails: ")


def _lowered(cell: Measured) -> Measured:
    return msgspec.structs.replace(cell, auc=cell.auc - 0.01)
