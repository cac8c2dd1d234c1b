import numpy as np

from clickscale.data.checks.leaks import leak_check
from clickscale.data.checks.telltales import _own_auc, suspicious_features
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


def test_columns_that_hold_the_outcome_are_suspicious(tmp_path):
    folder = tmp_path / "leaky"
    prepare(source_of(tiny_schema(), leaky_tables()), folder)
    report = leak_check(folder)
    messages = " ".join(finding.message for finding in report.findings)
    assert report.ok  # a suspicion is no proof
    assert {finding.severity for finding in report.findings} == {"warning"}
    assert "context field 'hour' predicts label 'click' with AUC 1.000" in messages
    assert "behavior field 'action' of the newest visible behavior with the same item" in messages
    assert "position" not in messages


def test_own_auc_is_measured_on_rows_that_did_not_teach_it():
    random = np.random.default_rng(0)
    positive = random.random(4000) < 0.3
    memory = np.arange(4000)[:, None] // 2  # 2000 groups of two rows: a memory of the outcome would score 1
    assert 0.45 < _own_auc(memory, random.permutation(positive)) < 0.55
    assert _own_auc(positive[:, None].astype(np.int64), positive) == 1.0
    assert np.isnan(_own_auc(memory[:20], positive[:20]))


def test_a_number_that_is_missing_for_the_clicked_is_suspicious(tmp_path):
    tables = tiny_tables(impressions=600)
    for row in tables["impressions"]:
        row["hour"] = None if row["label.click"] else row["hour"]
    prepare(source_of(tiny_schema(), tables), tmp_path / "out")
    (found,) = suspicious_features(open_dataset(tmp_path / "out"))
    assert found[0].startswith("context field 'hour' predicts label 'click'")


def test_an_honest_log_raises_no_suspicion(tmp_path):
    prepare(source_of(tiny_schema(), tiny_tables(impressions=600)), tmp_path / "out")
    assert suspicious_features(open_dataset(tmp_path / "out")) == []
