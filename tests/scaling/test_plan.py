"""Plans: budgets are kept, and nothing is promised further out than a check reached."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from clickscale.errors import ConfigError, DataError
from clickscale.scaling.laws import Laws, fit_sweep
from clickscale.scaling.plan import Budget, doublings_of, make_plan, options_of
from clickscale.scaling.plan_costs import CostModel
from clickscale.scaling.points import Measured
from tests.scaling.planted import CEILING, GRADES, operations, planted_auc, planted_laws, planted_sweep

BUDGET = Budget(latency_ms=20.0, candidates=500, train_hours=100.0)


@pytest.fixture(scope="module")
def laws() -> Laws:
    return planted_laws()


def test_the_student_is_the_best_within_the_latency_and_the_teacher_fits_the_rest(laws: Laws) -> None:
    plan = make_plan(laws, BUDGET)
    assert plan.student.name == "suan:size-3:200"
    assert plan.student.latency.high <= 20.0
    assert plan.teacher is not None
    assert plan.teacher.name == "suan:size-4:100"
    assert plan.teacher.hours.high + plan.student.hours.high <= 100.0
    better = [one for one in plan.options if one.auc.value > plan.student.auc.value]
    assert all(one.latency.high > 20.0 for one in better)


def test_more_candidates_take_longer(laws: Laws) -> None:
    few, many = (make_plan(laws, replace(BUDGET, candidates=count)) for count in (50, 5_000))
    assert few.student.operations > many.student.operations
    assert few.student.cached.value < few.student.latency.value


def test_without_hours_for_a_teacher_there_is_none(laws: Laws) -> None:
    plan = make_plan(laws, replace(BUDGET, train_hours=16.0))
    assert plan.teacher is None
    assert {one.choice for one in plan.doublings} == {plan.student}


def test_expected_accuracy_holds_the_truth(laws: Laws) -> None:
    held = [
        one.auc.low <= planted_auc(one.model, one.grade, one.length, 1.0) <= one.auc.high
        for one in make_plan(laws, BUDGET).options
    ]
    assert sum(held) >= 0.85 * len(held)


def test_an_expected_auc_stays_between_zero_and_one_whatever_the_noise() -> None:
    sweep = planted_sweep(("suan",), noise=0.15)
    few = [cell for cell in sweep.cells if cell.grade in GRADES[:2]]
    plan = make_plan(fit_sweep(msgspec.structs.replace(sweep, cells=few), Path("nowhere")), BUDGET)
    assert all(0 <= one.auc.low <= one.auc.high <= 1 for one in plan.options)
    assert any(one.auc.high == 1 for one in plan.options)


def test_a_doubling_is_worth_what_was_planted(laws: Laws) -> None:
    plan = make_plan(laws, BUDGET)
    gains = {one.axis: one.gain for one in plan.doublings if one.choice == plan.student}
    truth = 0.035 * ((200 / 10) ** -0.5 - (400 / 10) ** -0.5)
    assert gains["length"] is not None
    assert gains["length"].low <= truth <= gains["length"].high
    assert all(one.hours > one.choice.hours.value for one in plan.doublings)


def test_nothing_is_promised_beyond_what_a_check_reached(laws: Laws) -> None:
    plan = make_plan(laws, BUDGET, factor=8.0)
    refused = {one.axis: one.refusal for one in plan.doublings if one.choice == plan.student}
    assert "supports length up to 400, and this is 1600" in refused["length"]
    assert "supports data up to 6.4e+06" in refused["data"]
    assert not refused["compute"]
    assert all((one.gain is None) == bool(one.refusal) for one in plan.doublings)


def test_twice_as_much_is_supported_where_the_smaller_rung_is_about_a_half(laws: Laws) -> None:
    fits = []
    for fit in laws.ladders:
        assert fit.check is not None
        fits.append(replace(fit, check=replace(fit.check, factor=1.9999)))
    (best, *_), _ = options_of(laws, 500)
    assert not any(one.refusal for one in doublings_of(replace(laws, ladders=fits), best, 2.0, 500))


def test_a_check_that_fails_supports_nothing_beyond(laws: Laws) -> None:
    fits = []
    for fit in laws.ladders:
        assert fit.check is not None
        fits.append(replace(fit, check=replace(fit.check, measured=fit.check.measured + 0.1)))
    doubted = replace(laws, ladders=fits)
    (best, *_), _ = options_of(laws, 500)
    for one in doublings_of(doubted, best, 2.0, 500):
        assert one.gain is None
        assert "lies outside of the interval" in one.refusal


def test_an_axis_that_does_not_rise_promises_nothing(laws: Laws) -> None:
    choice = next(one for one in options_of(laws, 500)[0] if one.model == "din")
    (size, *_) = doublings_of(laws, choice, 2.0, 500)
    assert size.gain is None
    assert "does not rise" in size.refusal


def test_combinations_that_were_not_measured_are_the_joint_laws() -> None:
    sweep = planted_sweep(("suan",))
    kept = [c for c in sweep.cells if (c.grade, c.length) != ("size-2", 100)]
    found = fit_sweep(msgspec.structs.replace(sweep, cells=kept), Path("nowhere"))
    options, refusals = options_of(found, 500)
    (one,) = (option for option in options if (option.grade, option.length) == ("size-2", 100))
    assert not one.measured
    assert one.auc.low <= planted_auc("suan", "size-2", 100, 1.0) <= one.auc.high
    assert one.operations == pytest.approx(operations("size-2", 100), rel=1e-6)
    assert refusals == []
    doubted = replace(found, joints=[replace(found.joints[0], check=None, unchecked="has no check")])
    options, refusals = options_of(doubted, 500)
    assert all(option.measured for option in options)
    assert "1 combinations" in refusals[0]
    assert "has no check" in refusals[0]


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (replace(BUDGET, latency_ms=0.1), "Nothing scores 500 candidates within 0.1 ms"),
        (replace(BUDGET, train_hours=0.001), "No student can be trained within 0.001 hours"),
    ],
)
def test_a_budget_that_nothing_fits_names_the_cheapest(laws: Laws, budget: Budget, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        make_plan(laws, budget)
    assert "size-1" in str(caught.value)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="allows nothing"):
        Budget(0.0, 500, 1.0)


def test_a_sweep_without_times_cannot_be_planned_with(laws: Laws) -> None:
    cells = [msgspec.structs.replace(cell, latency_ms=None, cached_ms=None) for cell in laws.sweep.cells]
    untimed = replace(laws, sweep=msgspec.structs.replace(laws.sweep, cells=cells))
    with pytest.raises(DataError, match="no cell of it has the time of a request"):
        make_plan(untimed, BUDGET)


# --- costs


def suan() -> list[Measured]:
    return planted_sweep(("suan",)).cells


def test_times_are_those_that_were_measured() -> None:
    costs = CostModel(suan(), 0.9)
    found = costs.latency("size-3", 100, 500)
    cached = 500 * 1.2e6 / 6e7
    encoding = (operations("size-3", 100) - 1.2e6) / 3e7
    assert found.low <= cached + encoding <= found.high
    assert found.value == pytest.approx(cached + encoding, rel=0.08)
    assert costs.cached("size-3", 100, 50).value == pytest.approx(cached / 10, rel=0.08)
    hours = 3.0 * operations("size-3", 100) * 3_200_000 / 3e10 / 3600
    assert costs.hours("size-3", 100, 3_200_000).value == pytest.approx(hours, rel=0.08)
    assert costs.hours("size-3", 100, 6_400_000).value == pytest.approx(2 * hours, rel=0.15)


def test_seeds_that_share_one_measurement_do_not_make_it_certain() -> None:
    cells = [
        msgspec.structs.replace(cell, latency_ms=cell.flops / 1e6 + 1.0, cached_ms=1.0, cpu_seconds=1.0)
        for cell in suan()
    ]
    found = CostModel(cells, 0.9).latency("size-3", 100, 500)
    assert found.high > 1.1 * found.value > 1.2 * found.low


def test_another_length_has_the_operations_of_a_polynomial() -> None:
    costs = CostModel(suan(), 0.9)
    assert costs.operations("size-2", 400) == pytest.approx(operations("size-2", 400), rel=1e-6)
    longer, shorter = costs.latency("size-2", 400, 500), costs.latency("size-2", 200, 500)
    assert longer.value > shorter.value


def test_one_length_does_not_tell_the_cost_of_another() -> None:
    costs = CostModel([cell for cell in suan() if cell.grade != "size-2" or cell.length == 50], 0.9)
    with pytest.raises(DataError, match="measured at one length"):
        costs.operations("size-2", 100)


def test_the_ceiling_is_above_all_options(laws: Laws) -> None:
    assert all(one.auc.value < CEILING for one in options_of(laws, 500)[0])
