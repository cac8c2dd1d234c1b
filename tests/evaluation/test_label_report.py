import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.calibration import debiased_ece, pcoc
from clickscale.evaluation.label_report import DAY, _slice_rows, compare_predictions, evaluate_predictions
from clickscale.evaluation.metrics import auc, gauc, log_loss, rela_impr
from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.significance import delong, paired_user_bootstrap, user_bootstrap

NOON = 19_000 * DAY + DAY // 2  # 2022-01-08, 12:00 UTC


def market(rows: int = 400, seed: int = 0, noise: float = 0.0, **changes: Any) -> Predictions:
    """Predictions for a small market; `noise` spoils the logits and nothing else."""
    random = np.random.default_rng(seed)
    user = random.integers(0, 30, rows)
    logits = random.normal(-0.5, 1.5, (rows, 2))
    facts: dict[str, Any] = {
        "row": random.permutation(rows).astype(np.int64),
        "user": user,
        "time": NOON + random.integers(0, 3 * DAY, rows),
        "labels": (random.random((rows, 2)) < expit(logits)).astype(np.float32),
        "label_mask": np.column_stack((np.ones(rows, bool), random.random(rows) < 0.5)),
        "logits": (logits + noise * random.normal(size=(rows, 2))).astype(np.float32),
        "behaviors": random.integers(0, 300, rows).astype(np.int32),
        "item_age": random.integers(-1, 120 * DAY, rows),
        "user_activity": (user * 2).astype(np.int32),
        "label_names": ("click", "buy"),
        "part": "test",
        "grouping": "request",
    }
    return Predictions(**(facts | changes))


def of_facts(**facts: list[Any]) -> Predictions:
    """Predictions of one label with the given facts; zeros elsewhere."""
    rows = len(next(iter(facts.values())))
    types = {"behaviors": np.int32, "user_activity": np.int32}
    arrays = {
        name: np.array(facts.get(name, [0] * rows), types.get(name, np.int64))
        for name in ("user", "time", "behaviors", "item_age", "user_activity")
    }
    return Predictions(
        row=np.arange(rows),
        **arrays,
        labels=(np.arange(rows)[:, None] % 2).astype(np.float32),
        label_mask=np.ones((rows, 1), bool),
        logits=np.zeros((rows, 1), np.float32),
        label_names=("click",),
        part="test",
        grouping="impression",
    )


def slice_names(predictions: Predictions, partition: str) -> list[str]:
    found = _slice_rows(predictions)[partition]
    return [found.names[code] for code in found.codes]


def test_each_label_is_measured_on_the_rows_where_it_is_known() -> None:
    whole = market()
    report = evaluate_predictions(whole, bootstrap=20)
    assert [each.label for each in report.labels] == ["click", "buy"]
    for column, found in enumerate(report.labels):
        known = whole.label_mask[:, column]
        labels, logits, users = whole.labels[known, column], whole.logits[known, column], whole.user[known]
        assert (found.rows, found.positives) == (known.sum(), labels.sum())
        assert found.metrics["auc"].value == pytest.approx(roc_auc_score(labels, logits))
        assert found.metrics["gauc"].value == pytest.approx(gauc(labels, logits, users))
        assert found.metrics["log_loss"].value == pytest.approx(log_loss(labels, logits))
        assert found.metrics["pcoc"].value == pytest.approx(pcoc(labels, expit(logits)))
        assert found.metrics["ece"].value == pytest.approx(
            debiased_ece(labels, expit(logits.astype(np.float64)), users)
        )
        assert found.metrics["auc"] == user_bootstrap(labels, logits, users, 20)["auc"]
        assert found.rela_impr is None


def test_users_whose_rows_are_all_of_one_class_are_counted_but_not_ranked() -> None:
    report = evaluate_predictions(of_facts(user=[1, 1, 2, 3]), bootstrap=0).labels[0]
    assert (report.users, report.ranked_users) == (3, 1)  # labels 0 1 | 0 | 1


def test_every_partition_covers_every_known_row_once() -> None:
    whole = market()
    for column, found in enumerate(evaluate_predictions(whole, bootstrap=0).labels):
        assert set(found.slices) == {"behaviors", "user_activity", "item_age", "day"}
        for slices in found.slices.values():
            assert sum(each.rows for each in slices) == whole.label_mask[:, column].sum()
            assert sum(each.positives for each in slices) == found.positives
            assert all(each.rows > 0 for each in slices)


def test_a_slice_is_measured_on_its_own_rows() -> None:
    whole = market()
    known = whole.label_mask[:, 1] & (whole.behaviors >= 20) & (whole.behaviors < 50)
    slices = evaluate_predictions(whole, bootstrap=0).labels[1].slices["behaviors"]
    found = next(each for each in slices if each.name == "20-49")
    labels, logits = whole.labels[known, 1], whole.logits[known, 1]
    assert (found.rows, found.positives) == (known.sum(), labels.sum())
    assert found.metrics["auc"] == auc(labels, logits)
    assert found.metrics["gauc"] == gauc(labels, logits, whole.user[known])
    assert found.metrics["log_loss"] == pytest.approx(log_loss(labels, logits))
    assert found.metrics["pcoc"] == pytest.approx(pcoc(labels, expit(logits)))


def test_behavior_slices_end_where_they_say() -> None:
    counts = [0, 1, 4, 5, 19, 20, 49, 50, 99, 100, 199, 200, 5000]
    names = ["0", "1-4", "1-4", "5-19", "5-19", "20-49", "20-49", "50-99", "50-99", "100-199", "100-199"]
    assert slice_names(of_facts(behaviors=counts), "behaviors") == [*names, "200+", "200+"]


def test_item_age_slices_end_where_they_say() -> None:
    ages = [-1, 0, DAY - 1, DAY, 7 * DAY - 1, 7 * DAY, 30 * DAY - 1, 30 * DAY, 90 * DAY - 1, 90 * DAY]
    names = ["unknown", "under 1 day", "under 1 day", "1-6 days", "1-6 days", "7-29 days", "7-29 days"]
    assert slice_names(of_facts(item_age=ages), "item_age") == [
        *names,
        "30-89 days",
        "30-89 days",
        "90+ days",
    ]


def test_day_slices_are_utc_days_in_order() -> None:
    times = [NOON + DAY, NOON, NOON + DAY // 2 - 1, NOON + DAY // 2, -1]
    names = ["2022-01-09", "2022-01-08", "2022-01-08", "2022-01-09", "1969-12-31"]
    assert slice_names(of_facts(time=times), "day") == names
    slices = evaluate_predictions(of_facts(time=times), bootstrap=0).labels[0].slices["day"]
    assert [each.name for each in slices] == ["1969-12-31", "2022-01-08", "2022-01-09"]


def test_activity_quartiles_are_of_users_not_of_rows() -> None:
    # User 4 has most of the rows and is still one user of four.
    users, activity = [1, 2, 3, 4, 4, 4, 4, 4], [0, 3, 8, 90, 90, 90, 90, 90]
    names = slice_names(of_facts(user=users, user_activity=activity), "user_activity")
    assert names == ["q1 (0-0)", "q2 (3-3)", "q3 (8-8)", *["q4 (90-90)"] * 5]


def test_users_of_equal_activity_share_a_quartile() -> None:
    names = slice_names(of_facts(user=[1, 2, 3, 4], user_activity=[0, 0, 0, 7]), "user_activity")
    assert names == ["q2 (0-0)", "q2 (0-0)", "q2 (0-0)", "q4 (7-7)"]


def test_rela_impr_follows_the_auc_and_its_interval() -> None:
    report = evaluate_predictions(market(), bootstrap=20, base_auc={"click": 0.7}).labels
    found = report[0].rela_impr
    assert found is not None
    assert found.value == pytest.approx(rela_impr(report[0].metrics["auc"].value, 0.7))
    assert found.low == pytest.approx(rela_impr(report[0].metrics["auc"].low, 0.7))
    assert report[1].rela_impr is None
    below = evaluate_predictions(market(), bootstrap=20, base_auc={"click": 0.3}).labels[0].rela_impr
    assert below is not None
    assert below.low < below.value < below.high


def test_one_base_auc_is_for_one_label() -> None:
    whole = market()
    single = evaluate_predictions(whole.select_labels(["click"]), bootstrap=0, base_auc=0.7).labels[0]
    assert single.rela_impr is not None
    with pytest.raises(ConfigError, match="give one by label name"):
        evaluate_predictions(whole, base_auc=0.7)
    with pytest.raises(ConfigError, match="Unknown label 'clik'; did you mean 'click'"):
        evaluate_predictions(whole, base_auc={"clik": 0.7})


def test_a_report_is_json_with_null_for_what_cannot_be_told() -> None:
    lonely = evaluate_predictions(of_facts(user=[1, 2]), bootstrap=5)
    assert math.isnan(lonely.labels[0].metrics["gauc"].value)
    found = json.loads(json.dumps(lonely.to_dict(), allow_nan=False))
    reason = "no user has both a positive and a negative"
    assert found["labels"][0]["gauc"] == {"low": None, "high": None, "value": None, "reason": reason}
    assert found["labels"][0]["slices"]["behaviors"][0]["reason"] == reason
    assert found["labels"][0]["slices"]["behaviors"][0]["name"] == "0"
    assert (found["part"], found["grouping"], found["bootstrap"], found["level"]) == (
        "test",
        "impression",
        5,
        0.95,
    )


@pytest.mark.parametrize("rows", [0, 5])
def test_a_label_without_known_rows_is_reported_as_such(rows: int) -> None:
    whole = market(rows, label_mask=np.zeros((rows, 2), bool))
    for found in evaluate_predictions(whole).labels:
        assert (found.rows, found.positives, found.users) == (0, 0, 0)
        assert math.isnan(found.metrics["auc"].value)
        assert all(slices == () for slices in found.slices.values())


def test_a_logit_that_is_no_number_is_an_error_only_where_the_label_is_known() -> None:
    whole = market(10)
    logits = whole.logits.copy()
    logits[~whole.label_mask] = np.nan
    evaluate_predictions(market(10, logits=logits), bootstrap=2)
    logits[0, 0] = np.nan
    named = "Label 'click', impression row [0-9]+ of part test: the logit is nan; 1 of 10 are not finite"
    with pytest.raises(DataError, match=named):
        evaluate_predictions(market(10, logits=logits), bootstrap=2)


def test_two_runs_are_compared_on_the_rows_they_share() -> None:
    good, bad = market(), market(noise=2.0)
    order = np.random.default_rng(1).permutation(len(bad))
    report = compare_predictions(good, bad.take(order), bootstrap=30)
    assert (report.rows, report.rows_a, report.rows_b) == (400, 400, 400)
    by_row = np.argsort(good.row)
    for column, found in enumerate(report.labels):
        known = by_row[good.label_mask[by_row, column]]
        labels, users = good.labels[known, column], good.user[known]
        a, b = good.logits[known, column], bad.logits[known, column]
        assert found.a["auc"] == pytest.approx(auc(labels, a))
        assert found.b["log_loss"] == pytest.approx(log_loss(labels, b))
        assert found.rela_impr == pytest.approx(rela_impr(auc(labels, a), auc(labels, b)))
        assert found.delong == delong(labels, a, b, groups=users)
        assert found.bootstrap == paired_user_bootstrap(labels, a, b, users, 30)
    click = report.labels[0]
    assert click.bootstrap["auc"].low > 0
    assert click.bootstrap["log_loss"].high < 0
    assert click.delong.p_value < 0.01
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["labels"][0]["a"]["auc"] == click.a["auc"]
    )


def test_runs_on_different_rows_are_compared_only_on_request() -> None:
    whole = market()
    fewer = whole.take(whole.row < 300)
    with pytest.raises(DataError, match="300 shared, 100 only in the first, 0 only in the second"):
        compare_predictions(whole, fewer)
    report = compare_predictions(whole, fewer, bootstrap=5, allow_missing=True)
    assert (report.rows, report.rows_a, report.rows_b) == (300, 400, 300)
    assert report.labels[0].delong.p_value == 1.0


def simple(whole: Predictions) -> dict[str, np.ndarray]:
    """Logits of a constant, and of a prediction that knows the labels."""
    constant = np.full(whole.logits.shape, -0.5, np.float32)
    return {"constant": constant, "popularity": (4 * whole.labels - 2).astype(np.float32)}


def test_simple_predictions_stand_beside_the_model_and_are_tested() -> None:
    whole = market()
    report = evaluate_predictions(whole, bootstrap=39, simple=simple(whole))
    for column, label in enumerate(report.labels):
        known = whole.label_mask[:, column]
        labels, users, times = whole.labels[known, column], whole.user[known], whole.time[known]
        for name, logits in simple(whole).items():
            found = label.simple[name]
            assert found.metrics["log_loss"] == pytest.approx(log_loss(labels, logits[known, column]))
            tests = paired_user_bootstrap(
                labels, whole.logits[known, column], logits[known, column], users, 39, moments=times
            )
            compared = ("auc", "gauc", "request_auc", "log_loss")
            assert found.against == {key: tests[key] for key in compared}
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["labels"][0]["simple"]["constant"]["auc"] == 0.5
    assert document["warnings"] == list(report.warnings)


def test_a_model_that_is_worse_than_a_simple_prediction_says_so() -> None:
    whole = market()
    warnings = evaluate_predictions(whole, bootstrap=200, simple=simple(whole)).warnings
    assert len(warnings) == 2  # one for each label
    assert warnings[0].startswith("click: the model is worse than item popularity in AUC (0.")
    assert " and GAUC (0." in warnings[0]
    assert " and log-loss (0.5" in warnings[0]
    assert "against 1.0000, p <= 0.005 (200 resamples)" in warnings[0]
    assert "clickscale tune" in warnings[0]
    turned = market(logits=-whole.logits)
    (first, *_) = evaluate_predictions(turned, simple=simple(turned)).warnings
    assert first.startswith("click: the model is worse than the constant rate in AUC (0.")


def test_a_part_with_few_positives_or_negatives_and_a_bad_pcoc_say_so() -> None:
    few = market(60, seed=3).select_labels(["click"])
    positives, negatives = int(few.labels.sum()), int(60 - few.labels.sum())
    assert positives >= 20 <= negatives
    assert evaluate_predictions(few).warnings == ()
    fewer = few.take(np.flatnonzero((few.labels[:, 0] == 0) | (np.cumsum(few.labels[:, 0]) <= 19)))
    (warning,) = evaluate_predictions(fewer).warnings
    assert warning.startswith("click: part test has 19 positives, fewer than 20")
    assert "--test" in warning
    none = of_facts(user=[1, 2, 3, 4])
    assert [each[:35] for each in evaluate_predictions(none).warnings] == [
        "click: part test has 2 positives, f",
        "click: part test has 2 negatives, f",
    ]
    bold = market(400, logits=market().logits + 4).select_labels(["click"])
    (warning,) = evaluate_predictions(bold).warnings
    assert warning.startswith("click: PCOC is 2.")
    assert "outside of [0.5, 2]" in warning


def test_one_class_one_user_and_equal_scores_are_reports_without_nan() -> None:
    for facts in (
        {"labels": np.zeros((400, 2), np.float32)},
        {"labels": np.ones((400, 2), np.float32)},
        {"user": np.zeros(400, np.int64)},
        {"logits": np.zeros((400, 2), np.float32)},
        {"label_mask": np.zeros((400, 2), bool)},
    ):
        whole = market(**facts)
        report = evaluate_predictions(whole, simple=simple(whole))
        text = json.dumps(report.to_dict(), allow_nan=False)
        for label in json.loads(text)["labels"]:
            for name in ("auc", "gauc", "log_loss", "pcoc", "ece"):
                told = label[name]
                assert all(told[end] is not None for end in ("low", "high", "value")) or told["reason"], name
        compared = compare_predictions(whole, whole, bootstrap=20)
        json.dumps(compared.to_dict(), allow_nan=False)
