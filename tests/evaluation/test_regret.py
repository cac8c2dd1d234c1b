"""Expected measures against brute force and against drawn clicks; no logits beat the truth."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit

from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.regret import expected, regret


def drawn(seed: int = 0, count: int = 300, users: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, true probabilities, users."""
    chance = np.random.default_rng(seed)
    score = np.round(chance.normal(-1, 1, count), 1)
    return score, expit(score + chance.normal(0, 1, count)), chance.integers(0, users, count)


def test_expected_auc_counts_every_pair_by_its_probability() -> None:
    score, truth, users = drawn(count=60)
    weight = truth[:, None] * (1 - truth)
    np.fill_diagonal(weight, 0)
    won = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    assert expected(score, truth, users).auc == pytest.approx((weight * won).sum() / weight.sum(), abs=1e-12)


def test_expected_measures_are_the_means_over_draws_of_clicks() -> None:
    score, truth, users = drawn(count=4_000, users=40)
    chance = np.random.default_rng(1)
    found = []
    for _ in range(200):
        clicks = chance.random(len(truth)) < truth
        found.append((auc(clicks, score), gauc(clicks, score, users), log_loss(clicks, score)))
    told = expected(score, truth, users)
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    for value, center, width in zip((told.auc, told.gauc, told.log_loss), mean, error, strict=True):
        assert abs(value - center) < 4 * width + 1e-4


def test_nothing_beats_the_truth() -> None:
    score, truth, users = drawn()
    clicks = np.random.default_rng(2).random(len(truth)) < truth
    for logits in (score, 3 * score, -score, logit(truth) + 0.1, logit(truth) ** 3):
        found = regret("click", clicks, logits, truth, users)
        assert min(found.auc, found.gauc, found.log_loss) >= -1e-12
    exact = regret("click", clicks, logit(truth), truth, users)
    assert exact.auc == pytest.approx(0, abs=1e-9)
    assert exact.log_loss == pytest.approx(0, abs=1e-9)
    assert exact.calibration_error == pytest.approx(0, abs=1e-9)
    assert exact.expected.calibration == pytest.approx(1)


def test_log_loss_of_the_truth_is_its_entropy() -> None:
    _, truth, users = drawn()
    entropy = -(truth * np.log(truth) + (1 - truth) * np.log1p(-truth)).mean()
    assert expected(logit(truth), truth, users).log_loss == pytest.approx(entropy)


def test_the_auc_of_drawn_clicks_agrees_with_the_expected_one_within_its_error() -> None:
    off = []
    for seed in range(30):
        score, truth, users = drawn(seed, count=2_000)
        clicks = np.random.default_rng(100 + seed).random(len(truth)) < truth
        found = regret("click", clicks, score, truth, users)
        off.append((found.drawn_auc - found.best.auc) / found.drawn_error)
    assert max(map(abs, off)) < 4
    assert 0.6 < np.std(off) < 1.4


def test_true_calibration_tells_a_constant_factor() -> None:
    _, truth, users = drawn(count=5_000)
    found = regret("click", truth > 0.5, logit(0.5 * truth), truth, users)
    assert found.expected.calibration == pytest.approx(0.5)
    assert found.calibration_error == pytest.approx(0.5 * truth.mean(), rel=1e-6)


def test_nothing_is_defined_without_rows() -> None:
    found = expected([], [], np.zeros(0, np.int64))
    assert all(math.isnan(value) for value in (found.auc, found.gauc, found.log_loss, found.calibration))
