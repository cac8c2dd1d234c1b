"""One law over size, length and data."""

import msgspec
import numpy as np
import pytest

from clickscale.errors import DataError
from clickscale.scaling.joint_law import _Problem, fit_joint, place_of, sizes
from tests.scaling.planted import CEILING, EXPONENTS, FRACTIONS, GRADES, LENGTHS, planted_auc, planted_sweep


def test_planted_exponents_and_ceiling_are_found() -> None:
    law = fit_joint(planted_sweep(("suan",), noise=0.0).cells)
    assert law.ceiling.value == pytest.approx(CEILING, abs=1e-4)
    for axis, exponent in law.exponents.items():
        assert exponent.value == pytest.approx(EXPONENTS[axis], rel=0.01)
    assert law.r2 > 0.9999
    assert not law.verdict


def test_a_configuration_that_was_not_measured_is_predicted() -> None:
    cells = planted_sweep(("suan",)).cells
    law = fit_joint(cells)
    place = {"compute": sizes(cells)["size-2"], "length": 100.0, "data": 3_200_000 / 8}
    found = law.predict(place, 0)
    assert found.low <= planted_auc("suan", "size-2", 100, 1 / 8) <= found.high
    assert found.high - found.low < 0.004
    one = law.predict(place, 1)
    assert one.low < found.low
    assert one.high > found.high


def test_an_axis_without_use_is_told() -> None:
    law = fit_joint(planted_sweep(("din",)).cells)
    assert any("exponents of compute" in why for why in law.verdict)


def test_terms_that_do_not_add_are_a_misfit() -> None:
    cells = planted_sweep(("suan",)).cells
    crossed = [
        msgspec.structs.replace(c, auc=c.auc - 0.01 * ((c.grade == GRADES[0]) == (c.length == LENGTHS[0])))
        for c in cells
    ]
    assert fit_joint(crossed, replicates=10).misfit < 1e-6 < fit_joint(cells, replicates=10).misfit


def test_the_derivatives_are_those_of_the_law() -> None:
    random = np.random.default_rng(0)
    problem = _Problem(1.0 + random.random((7, 3)), np.ones(7), (True, False, True))
    theta = np.array([0.8, 0.02, 0.03, 0.04, 0.3, 0.6])
    step = 1e-6
    for index in range(len(theta)):
        ahead, behind = theta.copy(), theta.copy()
        ahead[index] += step
        behind[index] -= step
        slope = (problem.values(ahead) - problem.values(behind)) / (2 * step)
        assert problem.slopes(theta)[:, index] == pytest.approx(slope, abs=1e-8)


def test_an_axis_with_two_values_is_a_step() -> None:
    cells = [c for c in planted_sweep(("suan",)).cells if c.grade in GRADES[2:]]
    law = fit_joint(cells)
    assert law.steps == ("compute",)
    assert set(law.exponents) == {"length", "data"}


def test_one_axis_is_refused() -> None:
    cells = [c for c in planted_sweep(("suan",)).cells if c.grade == GRADES[0] and c.fraction == 1]
    with pytest.raises(DataError, match="fewer than two axes"):
        fit_joint(cells)


def test_fewer_configurations_than_parameters_are_refused() -> None:
    cells = [
        c
        for c in planted_sweep(("suan",)).cells
        if c.grade in GRADES[:2] and c.length in LENGTHS[:2] and c.fraction == 1
    ]
    with pytest.raises(DataError, match=r"\d configurations cannot hold a law of 3 parameters"):
        fit_joint(cells[:9])


def test_grades_without_a_common_length_are_refused() -> None:
    cells = [c for c in planted_sweep(("suan",)).cells if (c.grade == GRADES[0]) == (c.length == LENGTHS[0])]
    with pytest.raises(DataError, match="share no length"):
        sizes(cells)


def test_a_place_has_the_size_of_its_grade() -> None:
    cells = planted_sweep(("suan",)).cells
    size = sizes(cells)
    assert list(size.values()) == sorted(size.values())
    (cell,) = (c for c in cells if (c.grade, c.length, c.fraction, c.seed) == (GRADES[3], 50, 1.0, 0))
    assert place_of(cell, size)["compute"] == size[GRADES[3]] < cell.flops
    assert place_of(cell, size)["data"] == FRACTIONS[-1] * 3_200_000


def test_cells_that_are_all_equal_explain_nothing() -> None:
    cells = [msgspec.structs.replace(cell, auc=0.7) for cell in planted_sweep(("suan",), seeds=2).cells]
    law = fit_joint(cells, replicates=10)
    assert np.isnan(law.r2)
    assert law.verdict
    assert law.predict(place_of(cells[0], sizes(cells)), 2).value == pytest.approx(0.7, abs=1e-6)
