import numpy as np

from clickscale.data.checks.leaks import leak_check
from clickscale.data.checks.telltales import sample_of_train, suspicious_features
from clickscale.data.dataset import open_dataset
from clickscale.data.preparation.prepare import prepare
from tests.data.tiny import source_of, tiny_schema, tiny_tables


def leaky_tables(rows: int = 600):
    """A context number that holds the outcome, and behaviors that report it one second too early."""
    tables = tiny_tables(impressions=rows)
    events = []
    for row in tables["impressions"]:
        row["hour"] = row["label.click"] * 10.0 + row["position"]
        events.append(
            {"user": row["user"], "item": row["item"], "time": row["time"] - 1, "dwell": 1.0}
            | {"action": "buy" if row["label.click"] else "view"}
        )
    tables["behaviors"] = events
    return tables


def suspicions(folder, tables):
    prepare(source_of(tiny_schema(), tables), folder)
    data = open_dataset(folder)
    return list(suspicious_features(data, sample_of_train(data, 0)))


def test_columns_that_hold_the_outcome_fail_the_check(tmp_path):
    prepare(source_of(tiny_schema(), leaky_tables()), tmp_path / "leaky")
    report = leak_check(tmp_path / "leaky")
    messages = " ".join(finding.message for finding in report.findings)
    assert not report.ok
    assert "context field 'hour' tells label 'click' with AUC 1.000" in messages
    assert "in the newest visible behavior with the same item, behavior field 'action'" in messages
    assert "position" not in messages


def test_a_value_that_a_person_accepts_is_a_warning(tmp_path):
    tables = tiny_tables(impressions=600)
    for row in tables["impressions"]:
        row["hour"] = row["label.click"] * 10.0
    prepare(source_of(tiny_schema(), tables), tmp_path / "out")
    assert not leak_check(tmp_path / "out", accept=["position"]).ok
    report = leak_check(tmp_path / "out", accept=["hour"])
    assert report.ok
    assert {(finding.name, finding.severity) for finding in report.findings} == {("hour", "warning")}


def test_a_number_that_is_missing_for_the_clicked_is_suspicious(tmp_path):
    tables = tiny_tables(impressions=600)
    for row in tables["impressions"]:
        row["hour"] = None if row["label.click"] else row["hour"]
    (suspicion,) = suspicions(tmp_path / "out", tables)
    assert suspicion.message.startswith("context field 'hour' tells label 'click'")


def test_a_feature_with_two_telling_forms_is_named_once(tmp_path):
    tables = tiny_tables(impressions=600)
    for row in tables["impressions"]:
        row["hour"] = float(row["label.click"])
    names = [suspicion.name for suspicion in suspicions(tmp_path / "out", tables)]
    assert names == ["hour"]


def test_an_honest_log_raises_no_suspicion(tmp_path):
    assert suspicions(tmp_path / "out", tiny_tables(impressions=600)) == []


def test_the_sample_is_of_the_training_part(tmp_path):
    prepare(source_of(tiny_schema(), tiny_tables()), tmp_path / "out")
    data = open_dataset(tmp_path / "out")
    assert np.array_equal(sample_of_train(data, 0), data.part("train"))
