import math

import numpy as np
import pytest
from scipy.special import expit

from clickscale.evaluation import label_report, significance
from clickscale.evaluation.calibration import debiased_ece, pcoc
from clickscale.evaluation.label_report import compare_predictions, evaluate_predictions
from clickscale.evaluation.measures import METRICS, Measured, Metric, UserRows, effective_number, ratio
from clickscale.evaluation.metrics import auc, gauc, log_loss
from tests.evaluation.test_label_report import market


def rows(seed: int = 0, count: int = 400) -> UserRows:
    chance = np.random.default_rng(seed)
    logits = np.round(chance.normal(0, 1, count), 1)
    return UserRows(chance.random(count) < expit(logits), logits, chance.integers(0, 30, count))


def test_values_are_those_of_the_plain_functions() -> None:
    inside = rows()
    labels, logits, users = inside.positive, inside.logit, inside.codes
    expected = {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, users),
        "log_loss": log_loss(labels, logits),
        "pcoc": pcoc(labels, expit(logits)),
        "ece": debiased_ece(labels, expit(logits), users),
    }
    assert {metric.name: metric.value(inside) for metric in METRICS} == pytest.approx(expected, abs=1e-12)


def test_a_metric_without_rows_is_not_defined() -> None:
    nothing = UserRows([], [], [])
    assert all(math.isnan(metric.value(nothing)) for metric in METRICS)


def test_values_without_a_user_are_those_of_the_other_users_rows() -> None:
    inside = rows()
    for metric in METRICS:
        if metric.biased:
            assert metric.measure(inside).without().size == 0
            continue
        found = metric.measure(inside).without()
        for user in (0, 7, inside.users - 1):
            kept = inside.codes != user
            others = UserRows(inside.positive[kept], inside.logit[kept], inside.codes[kept])
            assert found[user] == pytest.approx(metric.value(others), abs=1e-12), metric.name


def test_the_effective_number_counts_users_of_equal_size() -> None:
    assert effective_number(np.array([3, 3, 3, 3])) == 4
    assert effective_number(np.array([100, 1, 1])) == pytest.approx(102**2 / 10_002)
    assert effective_number(np.zeros(3)) == 0


@pytest.mark.parametrize(
    ("labels", "users", "lack"),
    [
        ([], [], "no impression has a known label"),
        ([0, 0], [1, 1], "there are no positives"),
        ([1, 1], [1, 1], "there are no negatives"),
        ([0, 1], [1, 2], "no user has both a positive and a negative"),
        ([0, 1], [1, 1], ""),
    ],
)
def test_rows_tell_what_they_lack(labels: list[int], users: list[int], lack: str) -> None:
    assert UserRows(labels, np.zeros(len(labels)), np.array(users, int)).lack == lack


def test_better_values_lie_in_the_declared_direction() -> None:
    inside = rows()
    # Another model: the same logits with noise, which ranks worse and predicts too boldly.
    noise = np.random.default_rng(1).normal(1.5, 2, len(inside.logit))
    worse = UserRows(inside.positive, inside.logit + noise, inside.codes)
    for metric in METRICS:
        good, bad = metric.value(inside), metric.value(worse)
        distance = {"higher": bad - good, "lower": good - bad, "one": abs(good - 1) - abs(bad - 1)}
        assert distance[metric.better] < 0, metric.name


def test_reports_and_comparisons_pick_up_a_declared_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def click_rate(inside: UserRows) -> Measured:
        return ratio(inside.pairs.positives, inside.pairs.impressions)

    declared = (*METRICS, Metric("click_rate", "click rate", "higher", click_rate))
    monkeypatch.setattr(significance, "METRICS", declared)
    monkeypatch.setattr(label_report, "METRICS", declared)
    predictions = market()
    (label, _) = evaluate_predictions(predictions, bootstrap=20).to_dict()["labels"]
    assert label["click_rate"]["value"] == pytest.approx(label["positives"] / label["rows"])
    assert label["click_rate"]["low"] < label["click_rate"]["value"] < label["click_rate"]["high"]
    part = label["slices"]["day"][0]
    assert part["click_rate"] == pytest.approx(part["positives"] / part["rows"])
    (compared, _) = compare_predictions(predictions, predictions, bootstrap=5).labels
    assert compared.bootstrap["click_rate"].delta == 0
    assert compared.a["click_rate"] == pytest.approx(label["click_rate"]["value"])
