"""Which trial goes on, by losses that are made up."""

import math

import pytest

from clickscale.tuning.halving import Standing, best_of, pauses, standing, to_continue


def on(number: int, *losses: float, over: bool = False) -> Standing:
    return Standing(number, losses, over)


RECIPE = on(0, 0.62, 0.61, 0.60, over=True)


@pytest.mark.parametrize(
    ("standings", "goes_on"),
    [
        ([RECIPE], None),
        ([RECIPE, on(1, 0.63)], None),  # worse than the recipe after a quarter
        ([RECIPE, on(1, 0.61)], 1),
        ([RECIPE, on(1, 0.61), on(2, 0.60)], 2),  # one of three goes on
        ([RECIPE, on(1, 0.63), on(2, 0.64), on(3, 0.65)], 1),  # two of four, the recipe among them
        ([RECIPE, on(1, 0.61, 0.605)], 1),  # to its end
        ([RECIPE, on(1, 0.61, 0.615)], None),  # worse than the recipe after a half
        ([RECIPE, on(1, 0.61, 0.605), on(2, 0.60)], 1),  # the higher rung first
        ([RECIPE, on(1, 0.61, over=True)], None),
        ([RECIPE, on(1, math.inf, math.inf, math.inf, over=True), on(2, 0.63)], None),
        ([RECIPE, on(2, 0.61), on(1, 0.61), on(3, 0.7), on(4, 0.7)], 1),  # of equals the earlier one
    ],
)
def test_the_better_half_of_a_rung_goes_on(standings: list[Standing], goes_on: int | None) -> None:
    found = to_continue(standings)
    assert (found.number if found else None) == goes_on


def test_rungs_are_a_quarter_a_half_and_the_end() -> None:
    assert pauses(4) == (1, 2, 0)
    assert pauses(11) == (2, 5, 0)
    assert pauses(1) == (1, 1, 0)


def test_a_rung_is_judged_by_the_lowest_loss_up_to_it() -> None:
    assert standing(3, [0.7, 0.6, 0.8, 0.9, 0.5], 4, over=True).losses == (0.7, 0.6, 0.5)
    assert standing(3, [0.7], 4, over=False).losses == (0.7,)
    assert standing(3, [0.7, 0.6], 8, over=False).losses == (0.6,)
    assert standing(3, [0.7, math.nan], 4, over=False).losses == (0.7, 0.7)


def test_a_trial_that_stopped_early_has_passed_every_rung() -> None:
    assert standing(1, [0.7, 0.8], 8, over=True).losses == (0.7, 0.7, 0.7)


def test_only_a_trial_that_came_to_its_end_can_win() -> None:
    assert best_of([RECIPE, on(1, 0.5), on(2, 0.6, 0.6, 0.59, over=True)]).number == 2
    assert best_of([RECIPE, on(1, 0.62, 0.61, 0.60, over=True)]).number == 0
