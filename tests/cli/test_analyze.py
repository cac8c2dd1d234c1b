"""The verb ``analyze blocks``, as a user types it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clickscale.cli import main
from tests.trained import tiny_prepared, tiny_run

FULL = (
    "grouping=request",
    "length=6",
    'model_options=["kept=3", "head.hidden=[8]"]',
)
QUICK = ("--samples", "20", "--bootstrap", "5")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of est_full."""
    folder = tmp_path_factory.mktemp("runs")
    return tiny_run(folder, tiny_prepared(folder), "est_full", 0, *FULL)


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.wide
def test_tables_plots_maps_and_json_come_out(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "analysis"
    command = ["analyze", "blocks", str(full), *QUICK, "--out", str(out)]
    assert main(command) == 0
    shown = " ".join(capsys.readouterr().out.split())  # a title may take two lines
    for word in (
        "part valid, click: AUC",
        "<N, B>",
        "<B_c, B_c>",
        "change of GAUC",
        "effective rank / share",
    ):
        assert word in shown
    kept = json.loads((out / "blocks.json").read_text("utf-8"))
    assert [cut["block"] for cut in kept["cuts"]][:5] == ["<N, N>", "<N, B>", "<B, N>", "<B, B>", "<N, B_u>"]
    assert {(each["layer"], each["block"]) for each in kept["attention"]} == {
        (1, cut["block"]) for cut in kept["cuts"]
    }
    total = len(kept["tokens"]) + kept["recent"] + kept["kept"]
    maps = load_file(out / "attention.safetensors")["maps"]
    assert maps.shape == (1, total, total)
    assert np.isfinite(maps).all()
    assert "B_u" in (out / "attention.svg").read_text("utf-8")
    assert "Effective rank" in (out / "blocks.svg").read_text("utf-8")

    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--json"]) == 0
    assert document(capsys) == kept


def test_the_whole_scores_as_evaluation_does(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(full), "--part", "test", "--json", "--bootstrap", "0"]) == 0
    expected = document(capsys)["labels"][0]["auc"]["value"]
    assert main(["analyze", "blocks", str(full), *QUICK, "--part", "test", "--json"]) == 0
    found = document(capsys)
    assert (found["part"], found["grouping"]) == ("test", "request")
    assert found["cuts"][0]["auc"]["whole"] == pytest.approx(expected)


def test_an_analysis_without_a_folder_writes_nothing(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--users", "2", "--samples", "7", "--bootstrap", "0", "--json"]
    assert main(["analyze", "blocks", str(full), "--part", "train", *given]) == 0
    found = document(capsys)
    assert (found["users"], found["samples"], found["cuts"][0]["auc"]["low"]) == (2, 7, None)
    assert list(tmp_path.iterdir()) == []


def test_other_models_and_wrong_usage_are_one_line(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = tiny_prepared(tmp_path)
    light = tiny_run(tmp_path, dataset, "est", 1, "length=6")
    other = tiny_run(tmp_path, dataset, "mlp")
    for arguments, said in (
        ([str(light)], "holds EST; only est_full"),
        ([str(other)], "holds MLP; only est_full"),
        ([str(light)], "clickscale train est_full --grouping request"),
        ([str(tmp_path)], "is not a run"),
        ([str(full), "--part", "all"], "Invalid value for '--part'"),
        ([str(full), "--samples", "0"], "Invalid value for '--samples'"),
    ):
        assert main(["analyze", "blocks", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
