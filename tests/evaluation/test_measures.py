import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit

from clickscale.arrays import Floats
from clickscale.evaluation import label_report, significance
from clickscale.evaluation.calibration import debiased_ece, pcoc
from clickscale.evaluation.label_report import compare_predictions, evaluate_predictions
from clickscale.evaluation.measures import METRICS, Measured, Metric, UserRows, effective_number, ratio
from clickscale.evaluation.metrics import auc, gauc, log_loss
from clickscale.evaluation.significance import user_bootstrap
from tests.evaluation.test_label_report import market


def rows(seed: int = 0, count: int = 400) -> UserRows:
    chance = np.random.default_rng(seed)
    logits = np.round(chance.normal(0, 1, count), 1)
    labels, users = chance.random(count) < expit(logits), chance.integers(0, 30, count)
    return UserRows(labels, logits, users, chance.integers(1_000, 1_004, count))


def some(inside: UserRows, chosen: npt.NDArray[np.bool_], logits: Floats | None = None) -> UserRows:
    """Some of the rows, with other logits if given."""
    logits = inside.logit if logits is None else logits
    return UserRows(*(values[chosen] for values in (inside.positive, logits, inside.codes, inside.moments)))


def test_values_are_those_of_the_plain_functions() -> None:
    inside = rows()
    labels, logits, users = inside.positive, inside.logit, inside.codes
    expected = {
        "auc": auc(labels, logits),
        "gauc": gauc(labels, logits, users),
        "request_auc": gauc(labels, logits, users * 10_000 + inside.moments),
        "log_loss": log_loss(labels, logits),
        "pcoc": pcoc(labels, expit(logits)),
        "ece": debiased_ece(labels, expit(logits), users),
    }
    assert {metric.name: metric.value(inside) for metric in METRICS} == pytest.approx(expected, abs=1e-12)


def test_a_request_is_what_one_user_is_shown_at_one_moment() -> None:
    users, times = [1, 1, 1, 1, 2, 2, 2], [5, 5, 6, 6, 5, 5, 7]
    labels, logits = [1, 0, 1, 0, 1, 0, 1], [2.0, 1.0, 3.0, 4.0, 0.5, 0.5, -1.0]
    # Requests (1, 5), (1, 6), (2, 5): right, wrong, a tie; (2, 7) has no negative.
    found = user_bootstrap(labels, logits, users, moments=times, replicates=0)["request_auc"]
    assert found.value == pytest.approx((2 * 1.0 + 2 * 0.0 + 2 * 0.5) / 6)
    # A model that knows of each moment how much is clicked then gains within users, not within requests.
    moments = np.repeat(np.arange(20), 10)
    random = np.random.default_rng(0)
    clicked = random.random(200) < np.where(moments % 2, 0.8, 0.2)
    drift = user_bootstrap(clicked, moments % 2, np.zeros(200, int), moments=moments, replicates=0)
    assert drift["gauc"].value > 0.7
    assert drift["request_auc"].value == 0.5


@pytest.mark.parametrize("times", [None, [1, 2, 3, 4]])
def test_without_requests_of_both_classes_the_reason_is_told(times: list[int] | None) -> None:
    found = user_bootstrap([1, 0, 1, 0], [1.0, 0.0, 2.0, 3.0], [1, 1, 2, 2], moments=times, replicates=5)
    assert math.isnan(found["request_auc"].value)
    assert found["request_auc"].reason == "no request has both a positive and a negative"
    assert found["gauc"].value == 0.5


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
            others = some(inside, kept)
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
    worse = some(inside, np.ones(len(noise), bool), inside.logit + noise)
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
