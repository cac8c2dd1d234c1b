import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.calibration import (
    debiased_ece,
    ece,
    equal_mass_bins,
    pcoc,
    rectify,
    reliability_curve,
)


def test_pcoc_is_predicted_over_observed_clicks() -> None:
    assert pcoc([1, 0, 0, 1], [0.5, 0.25, 0.25, 0.5]) == 0.75
    assert math.isnan(pcoc([0, 0], [0.5, 0.5]))


def test_ece_adds_the_gaps_of_equally_large_bins() -> None:
    # Two bins of two rows: |0.15 - 0.5| and |0.75 - 1.0|, each half of the rows.
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.2, 0.7, 0.8]
    assert ece(labels, probabilities, bins=2) == pytest.approx(0.5 * 0.35 + 0.5 * 0.25)
    # Bins of equal width would be the same here, but not where probabilities crowd near 0:
    assert ece([0, 1, 0, 0], [0.01, 0.02, 0.03, 0.9], bins=2) == pytest.approx(0.5 * 0.485 + 0.5 * 0.465)


def test_ece_of_a_constant_is_its_distance_from_the_click_rate() -> None:
    assert ece([1, 0, 0, 0], np.full(4, 0.3)) == pytest.approx(0.05)
    assert math.isnan(ece([], []))


def test_noise_is_taken_out_of_the_ece() -> None:
    # A calibrated model, and one that predicts half of what is true: gaps of p / 2, whose mean is 0.125.
    found = {"calibrated": [], "measured": [], "halved": []}
    for seed in range(30):
        random = np.random.default_rng(seed)
        users, probability = np.repeat(np.arange(100), 10), random.random(1000) / 2
        labels = random.random(1000) < probability
        found["calibrated"].append(debiased_ece(labels, probability, users))
        found["measured"].append(ece(labels, probability))
        found["halved"].append(debiased_ece(labels, probability / 2, users))
        assert found["calibrated"][-1] <= found["measured"][-1]
    assert np.mean(found["measured"]) > 0.04
    assert np.mean(found["calibrated"]) < 0.02
    assert np.mean(found["halved"]) == pytest.approx(0.125, abs=0.006)


def test_rows_that_are_alike_bring_more_noise_than_independent_ones() -> None:
    random = np.random.default_rng(0)
    once, probability = np.arange(400), random.random(400) / 2
    labels = random.random(400) < probability
    copies = np.tile(labels, 9), np.tile(probability, 9)
    assert debiased_ece(*copies, np.tile(once, 9)) == pytest.approx(debiased_ece(labels, probability, once))
    assert debiased_ece(*copies, np.arange(3600)) > debiased_ece(labels, probability, once)


def test_a_debiased_ece_without_noise_is_the_ece_and_with_one_user_none() -> None:
    # Every user has the same rows, so nothing varies over users.
    labels, probabilities = [0, 1, 1, 1], [0.1, 0.2, 0.7, 0.8]
    many = np.tile(labels, 50), np.tile(probabilities, 50)
    assert debiased_ece(*many, np.repeat(np.arange(50), 4), bins=2) == pytest.approx(ece(*many, bins=2))
    assert math.isnan(debiased_ece(labels, probabilities, [7, 7, 7, 7]))
    assert debiased_ece(*many, np.repeat(np.arange(50), 4), bins=300) > 0  # most bins are empty


def test_the_reliability_curve_leaves_empty_bins_out() -> None:
    curve = reliability_curve([0, 1, 1, 1], [0.2, 0.2, 0.2, 0.9], bins=4)
    np.testing.assert_allclose(curve.mean_probability, [0.2, 0.9])
    np.testing.assert_allclose(curve.mean_label, [2 / 3, 1.0])
    np.testing.assert_array_equal(curve.rows, [3, 1])


def test_distinct_probabilities_fill_bins_equally() -> None:
    probabilities = np.random.default_rng(0).permutation(100) / 100
    np.testing.assert_array_equal(np.bincount(equal_mass_bins(probabilities, 20)), np.full(20, 5))


@given(st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.5, 1.0]), min_size=1, max_size=30), st.integers(1, 6))
def test_bins_do_not_depend_on_the_order_of_rows_and_rise_with_probability(
    values: list[float], bins: int
) -> None:
    probabilities = np.array(values)
    places = equal_mass_bins(probabilities, bins)
    order = np.argsort(probabilities, kind="stable")
    assert (np.diff(places[order]) >= 0).all()
    assert places.min() >= 0
    assert places.max() < bins
    np.testing.assert_array_equal(equal_mass_bins(probabilities[::-1], bins), places[::-1])


def test_rectifying_undoes_negative_sampling() -> None:
    # 1 click in 101 impressions; every tenth negative kept gives 1 in 11, which must come back as 1 in 101.
    assert rectify([1 / 11], 0.1)[0] == pytest.approx(1 / 101, abs=1e-15)
    np.testing.assert_array_equal(rectify([0.0, 0.3, 1.0], 1.0), [0.0, 0.3, 1.0])
    np.testing.assert_array_equal(rectify([0.0, 1.0], 0.01), [0.0, 1.0])


@given(st.floats(-15, 15), st.floats(1e-4, 1.0))
def test_rectifying_is_a_shift_of_the_logit_by_the_log_of_the_rate(logit: float, keep_rate: float) -> None:
    shifted = 1 / (1 + math.exp(-(logit + math.log(keep_rate))))
    assert rectify([1 / (1 + math.exp(-logit))], keep_rate)[0] == pytest.approx(shifted, rel=1e-9)


def test_rectified_probabilities_are_calibrated_on_the_full_log() -> None:
    random = np.random.default_rng(1)
    full = random.random(200_000) * 0.05
    labels = random.random(200_000) < full
    keep_rate = 0.1
    trained = full / (full + (1 - full) * keep_rate)  # what a perfect model learns on the down-sampled log
    assert pcoc(labels, trained) > 5
    assert pcoc(labels, rectify(trained, keep_rate)) == pytest.approx(1.0, abs=0.03)


def test_values_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(DataError, match=r"probabilities\[1\] is 1.5; .*sigmoid"):
        pcoc([0, 1], [0.5, 1.5])
    with pytest.raises(DataError, match=r"probabilities\[0\] is nan"):
        ece([0, 1], [math.nan, 0.5])
    with pytest.raises(DataError, match="labels has 1"):
        ece([0], [0.5, 0.5])
    with pytest.raises(ConfigError, match="bins is 0"):
        ece([0, 1], [0.5, 0.5], bins=0)
    for keep_rate in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="keep_rate"):
            rectify([0.5], keep_rate)
