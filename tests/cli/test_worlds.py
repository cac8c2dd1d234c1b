"""The verbs of simulated worlds, and what evaluating and reporting say of the truth."""

import json
from pathlib import Path

import pytest

from clickscale.cli import main
from tests.trained import tiny_prepared

SMALL = ["--set", "requests=4", "--set", "visits=8", "--set", "browsed=4", "--set", "items=60"]
SMALL += ["--set", "categories=6", "--set", "days=20", "--set", "quiet_days=5"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "world"
    assert main(["data", "world", "--impressions", "3e3", "--out", str(out), "--preset", "easy", *SMALL]) == 0
    return out


def printed_truth(capsys: pytest.CaptureFixture[str], world: Path, *options: str) -> list[dict[str, float]]:
    capsys.readouterr()
    assert main(["data", "truth", str(world), "--json", *options]) == 0
    lines: list[dict[str, float]] = json.loads(capsys.readouterr().out)["lines"]
    return lines


def test_a_world_has_the_impressions_that_were_asked_for(world: Path) -> None:
    assert json.loads((world / "manifest.json").read_text())["counts"]["impressions"] == 3_000
    assert json.loads((world / "truth/world.json").read_text())["options"]["preset"] == "easy"


def test_the_truth_is_told_with_oracles(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = printed_truth(capsys, world)
    assert only["knows"] == "the truth"
    lines = printed_truth(capsys, world, "--lengths", "10")
    assert [line["knows"] for line in lines] == ["no behavior", "the last 10 behaviors", "the truth"]
    assert lines[-1] == only
    assert lines[-1]["auc"] > lines[0]["auc"]


def test_the_truth_is_drawn(world: Path, tmp_path: Path) -> None:
    assert main(["data", "truth", str(world), "--plot", str(tmp_path / "world.svg")]) == 0
    assert "the truth" in (tmp_path / "world.svg").read_text("utf-8")


@pytest.mark.wide
def test_evaluating_a_run_tells_its_regret_and_a_report_shows_it(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "din"
    short = ["--grade", "size-1", "--length", "10", "--epochs", "1", "--recipe", "fast"]
    assert main(["train", "din", "--data", str(world), "--out", str(run), *short]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--bootstrap", "0", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["regret"]
    assert found["label"] == "click"
    assert found["auc"] == pytest.approx(found["best"]["auc"] - found["expected"]["auc"])
    assert found["auc"] > 0
    assert found["log_loss"] > 0
    assert abs(found["drawn_auc"] - found["best"]["auc"]) < 4 * found["drawn_error"]
    assert main(["evaluate", str(run), "--bootstrap", "0"]) == 0
    assert "against the true probabilities" in capsys.readouterr().out
    assert main(["report", str(run), "--out", str(tmp_path / "page.html"), "--candidates", "0"]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Against the truth" in page
    assert f"{found['expected']['auc']:.4f}" in page


@pytest.mark.parametrize("text", ["many", "1.5", "nan", "inf"])
def test_a_number_of_impressions_is_whole(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "world", "--impressions", text, "--out", str(tmp_path / "w")]) == 2
    assert f"--impressions {text!r} is not a whole number" in capsys.readouterr().err


def test_an_option_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "world", "--impressions", "10", "--out", str(tmp_path / "w")]
    assert main([*command, "--set", "strengths.ned=1"]) == 2
    assert "strengths.need" in capsys.readouterr().err


def test_lengths_are_numbers(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "truth", str(world), "--lengths", "10,all"]) == 2
    assert "'all' is not a number of behaviors" in capsys.readouterr().err


def test_the_truth_of_another_log_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tiny_prepared(tmp_path)
    assert main(["data", "truth", str(dataset.path)]) == 2
    assert "is not a simulated world" in capsys.readouterr().err
