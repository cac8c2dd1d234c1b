"""Results that are worth little say so, on logs that lack something."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale import workflow
from clickscale.cli import main
from clickscale.data.dataset import open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Split
from clickscale.training.run.logs import read_metrics
from tests.data.tiny import source_of, tiny_schema, tiny_tables

SMALL = ("--grade", "size-1", "--length", "8", "--set", "threads=1")
Row = dict[str, Any]


def prepared(out: Path, change: Callable[[Row, str], None]) -> Path:
    """A tiny log whose impressions are changed by row and part."""
    tables = tiny_tables(impressions=600, users=30)
    shown = sorted(tables["impressions"], key=lambda row: row["time"])
    for index, row in enumerate(shown):
        change(row, "train" if index < 400 else "valid" if index < 500 else "test")
    prepare(source_of(tiny_schema(), tables, split=Split(valid=1 / 6, test=1 / 6)), out)
    return out


def told(data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, Row]:
    """What train and evaluate print (stdout, stderr), and the evaluation."""
    run = data.parent / "run"
    assert main(["train", "mlp", "--data", str(data), "--out", str(run), *SMALL]) == 0
    assert main(["evaluate", str(run), "--slices"]) == 0
    assert main(["compare", str(run)]) == 0
    shown = capsys.readouterr()
    return shown.out, shown.err, json.loads((run / "evaluation-test.json").read_text())


def without_nan(text: str) -> bool:
    """True if no cell of a table is nan."""
    return not {"nan", "[nan,", "nan]", "+nan", "inf"} & set(text.lower().split())


def test_every_table_has_two_lines_that_cost_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err, evaluation = told(prepared(tmp_path / "data", lambda row, part: None), capsys)
    lines = [line.strip() for line in out.splitlines()]
    for name in ("the constant rate", "item popularity"):
        assert sum(line.startswith(name) for line in lines) == 2  # train and compare
        assert sum(line.startswith(f"click: {name}") for line in lines) == 1  # evaluate
    assert "warning: The model was trained for" in err
    assert evaluation["warnings"]
    assert set(evaluation["labels"][0]["simple"]) == {"constant", "popularity"}
    assert "one seed of a model says nothing about other seeds" in out


def test_the_documents_of_train_and_compare_hold_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = prepared(tmp_path / "data", lambda row, part: None), str(tmp_path / "run")
    assert main(["train", "mlp", "--data", str(data), "--out", run, *SMALL, "--json"]) == 0
    (valid,) = json.loads(capsys.readouterr().out)["valid"]
    assert [line["name"] for line in valid["simple"]] == ["the constant rate", "item popularity"]
    assert any("fewer than 100" in warning for warning in valid["warnings"])
    assert main(["evaluate", run, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert any("fewer than 100" in warning for warning in evaluated["warnings"])
    assert main(["compare", run, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert [line["name"] for line in compared["models"]] == ["mlp"]
    assert [line["name"] for line in compared["simple"]] == ["the constant rate", "item popularity"]
    assert compared["warnings"] == [f"{run}: {warning}" for warning in evaluated["warnings"]]
    assert compared["footnotes"]
    warm = str(tmp_path / "warm")
    assert (
        main(["train", "mlp", "--data", str(data), "--out", warm, "--warm-start", run, *SMALL, "--json"]) == 0
    )
    (valid,) = json.loads(capsys.readouterr().out)["valid"]
    assert not any("fewer than 100" in warning for warning in valid["warnings"])


def test_a_test_part_of_one_class_is_told_without_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(row: Row, part: str) -> None:
        row["label.click"] = 0 if part == "test" else row["label.click"]

    out, err, evaluation = told(prepared(tmp_path / "data", change), capsys)
    assert without_nan(out), out
    assert "AUC, GAUC, request AUC, PCOC: there are no positives" in out
    assert "warning: click: part test has 0 positives, fewer than 20" in err
    assert evaluation["labels"][0]["auc"] == {
        "low": None,
        "high": None,
        "value": None,
        "reason": "there are no positives",
    }


def test_a_label_that_is_unknown_outside_of_training_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(row: Row, part: str) -> None:
        row["label.click"] = row["label.click"] if part == "train" else None

    out, err, _ = told(prepared(tmp_path / "data", change), capsys)
    assert without_nan(out), out
    assert "no validation and no early stopping: no label is known in the validation part" in err
    assert "no impression has a known label" in out
    assert not [line for line in read_metrics(tmp_path / "run") if "valid" in line]


def test_a_label_that_is_never_positive_in_training_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(row: Row, part: str) -> None:
        row["label.click"] = 0 if part == "train" else row["label.click"]

    out, err, _ = told(prepared(tmp_path / "data", change), capsys)
    assert without_nan(out), out
    assert "part train has 0 positives, fewer than 20, so a model can learn nothing from it" in err
    assert "PCOC is" in err


def test_one_user_and_one_item_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(row: Row, part: str) -> None:
        row["user"], row["item"] = 1, 1

    out, _, evaluation = told(prepared(tmp_path / "data", change), capsys)
    assert without_nan(out), out
    assert "intervals are over users, and there is 1 user" in out
    assert evaluation["labels"][0]["log_loss"]["low"] is None


def test_scores_that_are_no_numbers_are_refused_with_label_and_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(tmp_path / "data", lambda row, part: None)
    workflow.train_trees(data, tmp_path / "trees", threads=1)
    found = workflow.load_predictions(tmp_path / "trees", "test")
    found.logits[3] = np.inf
    found.save(tmp_path / "trees" / "predictions-test.safetensors")
    assert main(["evaluate", str(tmp_path / "trees")]) == 2
    row = open_dataset(data).part("test")[3]
    assert f"Label 'click', impression row {row} of part test: the logit is inf" in capsys.readouterr().err


def test_trees_without_their_data_set_say_that_nothing_stands_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepared(tmp_path / "data", lambda row, part: None)
    workflow.train_trees(data, tmp_path / "trees", threads=1)
    data.rename(tmp_path / "moved")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "trees")]) == 0
    assert "is not there, so nothing stands beside its numbers; say where it is with --data" in (
        capsys.readouterr().err
    )
    assert main(["compare", str(tmp_path / "trees")]) == 0
    assert "its evaluation lacks the constant rate and item popularity" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "trees"), "--data", str(tmp_path / "moved")]) == 0
    assert "click: item popularity" in capsys.readouterr().out
