"""Power laws through ladders: planted ones are found, and points that hold none are told so."""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares

from clickscale.errors import ConfigError, DataError
from clickscale.scaling.law_profile import Form
from clickscale.scaling.power_law import Rungs, deviations, fit_law
from tests.scaling.planted import SEED_NOISE

X = 2.0 ** np.arange(6)


def rungs(
    x: np.ndarray = X, e: float = 0.78, a: float = 0.06, alpha: float = 0.4, *, b: float = 0.0,
    noise: float = SEED_NOISE, seeds: int = 3, seed: int = 0,
) -> Rungs:  # fmt: skip
    random = np.random.default_rng(seed)
    y = e - a * (x - b) ** -alpha
    return Rungs(
        x, tuple(tuple(float(v) for v in line + noise * random.standard_normal(seeds)) for line in y)
    )


@pytest.mark.parametrize(("form", "b", "count"), [("saturating", 0.0, 6), ("shifted", 0.4, 8)])
def test_a_law_without_noise_is_found(form: Form, b: float, count: int) -> None:
    x = 30.0 * 2.0 ** np.arange(count)
    law = fit_law(rungs(x, a=0.06 * 30**0.4, b=30 * b, noise=0.0), form)
    assert law.exponent.value == pytest.approx(0.4, rel=2e-3)
    assert law.ceiling.value == pytest.approx(0.78, abs=1e-5)
    assert law.shift == pytest.approx(30 * b, abs=0.05)
    assert law.at(x) == pytest.approx(law.rungs.means, abs=1e-5)
    assert law.r2 == pytest.approx(1.0, abs=1e-6)
    assert not law.verdict


def test_a_gain_without_noise_is_found() -> None:
    x = np.array([0.5, 2.0, 8.0, 32.0])
    law = fit_law(Rungs(x, tuple((0.61 * v**0.12, 0.61 * v**0.12) for v in x.tolist())), "gain")
    assert law.exponent.value == pytest.approx(0.12, rel=1e-3)
    assert law.ceiling.value == pytest.approx(0.61, rel=1e-3)
    # Liu et al. 2026, figure 5: 18.48 GFLOPs are worth 0.87%.
    assert float(law.at(np.array(18.48))) == pytest.approx(0.866, abs=1e-3)


def test_the_fit_is_that_of_least_squares() -> None:
    points = rungs(seed=3)
    law = fit_law(points)
    y = np.array(points.values)

    def off(theta: np.ndarray) -> np.ndarray:
        return np.asarray((theta[0] - theta[1] * X ** -theta[2])[:, None] - y).ravel()

    oracle = least_squares(off, [0.75, 0.05, 0.5], bounds=([0, 0, 0.02], [1, 1, 3]), xtol=1e-14, ftol=1e-14)
    found = [law.ceiling.value, law.scale, law.exponent.value, law.noise]
    assert found == pytest.approx([*oracle.x, math.sqrt(2 * oracle.cost / (18 - 3))], rel=1e-4)


def test_rungs_with_more_seeds_weigh_more() -> None:
    points = rungs(seed=1)
    doubled = Rungs(points.x, (points.values[0] * 4, *points.values[1:]))
    assert abs(fit_law(doubled).residuals[0]) < abs(fit_law(points).residuals[0])


def test_the_unit_of_x_changes_nothing_but_the_scale() -> None:
    points = rungs()
    one, other = fit_law(points), fit_law(Rungs(1e6 * points.x, points.values))
    assert other.exponent == one.exponent
    assert other.ceiling == one.ceiling
    assert other.scale == pytest.approx(one.scale * 1e6**one.exponent.value)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = np.array(
        [
            [law.exponent.low <= 0.4 <= law.exponent.high, law.ceiling.low <= 0.78 <= law.ceiling.high]
            for law in (fit_law(rungs(seed=seed), replicates=200) for seed in range(60))
        ]
    )
    assert (held.mean(axis=0) >= 0.8).all()
    assert held.all(axis=1).mean() < 1.0  # intervals that always hold the truth are too wide


def test_predictions_hold_new_runs_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(60):
        points = rungs(seed=seed)
        found = fit_law(points.only(slice(0, 5)), replicates=200).predict(32.0, 3)
        held.append(found.low <= points.means[5] <= found.high)
    assert 0.78 <= np.mean(held) < 1.0


def test_luck_of_the_users_widens_ceiling_and_not_predictions_on_them() -> None:
    points = rungs()
    luck = 0.004 * np.random.default_rng(0).standard_normal((200, 1)) * np.ones(6)
    alone, together = fit_law(points), fit_law(Rungs(X, points.values, luck))
    below, above = alone.ceiling.value - alone.ceiling.low, alone.ceiling.high - alone.ceiling.value
    # A normal deviate reaches 1.64 deviations with 90%.
    assert together.ceiling.low == pytest.approx(alone.ceiling.value - math.hypot(0.0066, below), abs=1e-3)
    assert together.ceiling.high == pytest.approx(alone.ceiling.value + math.hypot(0.0066, above), abs=1e-3)
    assert together.predict(64.0, 3) == alone.predict(64.0, 3)
    # Luck that all rungs share says nothing about the exponent.
    assert together.exponent.high == pytest.approx(alone.exponent.high, rel=1e-2)


def test_rungs_off_the_law_are_a_misfit_and_widen_the_intervals() -> None:
    points = rungs(noise=0.0001)
    bent = Rungs(X, tuple(tuple(v + 0.002 * (-1) ** k for v in rung) for k, rung in enumerate(points.values)))
    straight, law = fit_law(points), fit_law(bent)
    assert law.misfit < 0.01 < straight.misfit
    assert law.ceiling.high - law.ceiling.low > 5 * (straight.ceiling.high - straight.ceiling.low)


def test_worth_is_the_rise_of_the_law() -> None:
    law = fit_law(rungs())
    found = law.worth(32.0, 64.0)
    assert found.value == pytest.approx(float(law.at(np.array(64.0)) - law.at(np.array(32.0))))
    assert 0 <= found.low < found.value < found.high
    truth = 0.06 * (32.0**-0.4 - 64.0**-0.4)
    assert found.low <= truth <= found.high


def test_the_band_widens_beyond_the_rungs() -> None:
    low, high = fit_law(rungs()).band(np.array([4.0, 256.0]))
    assert high[1] - low[1] > 2 * (high[0] - low[0])


# --- points that do not determine a law


def test_flat_points_are_told() -> None:
    law = fit_law(rungs(a=0.0))
    assert law.flat
    assert law.verdict == ("the measure does not rise beyond the noise of its seeds",)


def test_equal_points_explain_nothing() -> None:
    law = fit_law(rungs(a=0.0, noise=0.0))
    assert law.flat
    assert math.isnan(law.r2)


def test_falling_points_are_flat_at_best() -> None:
    law = fit_law(rungs(a=-0.05))
    assert law.flat
    assert law.scale == 0.0


def test_a_straight_line_in_the_logarithm_has_no_ceiling() -> None:
    y = 0.70 + 0.01 * np.log2(X)
    law = fit_law(Rungs(X, tuple((v, v + 0.0007, v - 0.0007) for v in y.tolist())))
    assert any(why.startswith("ceilings from 0.9") and why.endswith("up to 1 fit") for why in law.verdict)
    assert any("the ceiling is known to" in why for why in law.verdict)


def test_a_jump_has_no_exponent() -> None:
    values = (0.70, *[0.75] * 5)
    law = fit_law(Rungs(X, tuple((v, v + 0.0007, v - 0.0007) for v in values)))
    assert any("the search ends there" in why for why in law.verdict)


def test_noise_as_large_as_the_climb_determines_nothing() -> None:
    assert fit_law(rungs(noise=0.02)).verdict


def test_three_rungs_fit_any_curve() -> None:
    points = rungs().only(slice(0, 3))
    assert "3 rungs fit any saturating curve; 4 are needed" in fit_law(points).verdict


def test_single_seeds_are_enough_with_rungs_to_spare() -> None:
    law = fit_law(rungs(2.0 ** np.arange(9), seeds=1))
    assert math.isnan(law.misfit)
    assert law.exponent.low <= 0.4 <= law.exponent.high


@pytest.mark.parametrize(("count", "seeds"), [(2, 5), (3, 1)])
def test_too_few_points_are_refused(count: int, seeds: int) -> None:
    with pytest.raises(DataError, match="cannot hold a saturating law of 3 parameters"):
        fit_law(rungs(X[:count], seeds=seeds))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, 1.0, 2.0], 0.7),
        ([2.0, 1.0, 3.0], 0.7),
        ([0.0, 1.0, 2.0], 0.7),
        ([1.0, 2.0, 3.0], math.nan),
        ([1.0, 2.0, math.inf], 0.7),
    ],
)
def test_rungs_that_are_none_are_refused(x: list[float], y: float) -> None:
    with pytest.raises(DataError, match="ascending positive x and finite values"):
        Rungs(np.array(x), ((y,), (0.7,), (0.7,)))


def test_rungs_without_values_are_refused() -> None:
    with pytest.raises(DataError, match="give one each"):
        Rungs(np.array([1.0, 2.0]), ((0.7,), ()))


def test_a_wrong_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="level is 1"):
        fit_law(rungs(), level=1.0)


def test_the_ceiling_of_auc_is_one() -> None:
    law = fit_law(rungs(e=1.02, a=0.3, alpha=0.1))
    assert law.ceiling.high <= 1.0
    assert law.ceiling.value <= 1.0


def test_deviations_are_as_large_as_those_from_the_truth() -> None:
    random = np.random.default_rng(0)
    assert deviations(random.standard_normal((4000, 2))).std() == pytest.approx(1.0, abs=0.05)
    assert deviations([[0.1], [0.2]]).size == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "a", "alpha"),
    [(X, 0.06, 0.5), (X, 0.06, 0.3), (np.array([10.0, 25, 50, 100, 200, 500]), 0.03 * 10**0.7, 0.7)],
)
def test_intervals_of_ninety_percent_cover(x: np.ndarray, a: float, alpha: float) -> None:
    laws = [fit_law(rungs(x, a=a, alpha=alpha, seed=seed)) for seed in range(200)]
    for low, high, truth in (
        ([law.exponent.low for law in laws], [law.exponent.high for law in laws], alpha),
        ([law.ceiling.low for law in laws], [law.ceiling.high for law in laws], 0.78),
    ):
        covered = np.mean((np.array(low) <= truth) & (truth <= np.array(high)))
        assert 0.85 <= covered <= 0.95
