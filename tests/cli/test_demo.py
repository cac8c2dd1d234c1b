import json
from functools import partial
from pathlib import Path

import pytest

from clickscale.cli import main
from clickscale.demo import steps
from clickscale.training.distill.distill_config import parse_choice
from tests.small_movielens import write_small_movielens


def test_demo_prints_its_results_and_its_request_can_be_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps.Demo, "trees", lambda demo: {})  # they are tested with the steps
    din, student, teacher = (parse_choice(f"{name}:size-1:20") for name in ("din", "lightsuan", "suan"))
    sizes = {"din": din, "student": student, "teacher": teacher}
    demo = partial(steps.Demo, batch_size=256, epochs=1, threads=1, **sizes)
    monkeypatch.setattr(steps, "Demo", demo)
    monkeypatch.chdir(tmp_path)
    write_small_movielens(tmp_path / "clickscale-demo" / "ml-100k")

    assert main(["demo"]) == 0
    printed = capsys.readouterr()
    for words in (
        "movielens-100k, test part",
        "parameters",
        "ms for 500",
        "the distilled student's ranking",
        "report: clickscale-demo/report.html",
        "served over HTTP: clickscale-demo/request.json gets",
        "next: clickscale serve clickscale-demo/runs/distillation/student/artifact",
    ):
        assert words in printed.out
    assert "training din:size-1:20" in printed.err

    assert main(["demo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in told["results"]] == [
        "din",
        "student alone",
        "distilled student",
        "teacher",
    ]
    ranking = [line["probability"] for line in told["request"]["ranking"]]
    assert main(["score", *told["request"]["command"].split()[2:], "--json"]) == 0
    served = json.loads(capsys.readouterr().out)["responses"][0]["candidates"]
    assert sorted((line["like"] for line in served), reverse=True) == pytest.approx(ranking)


def test_a_demo_that_is_stopped_hands_on_the_exit_code_of_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(demo: steps.Demo) -> None:
        raise steps.DemoStopped(143)

    monkeypatch.setattr(steps.Demo, "prepare", lambda demo, source, progress: None)
    monkeypatch.setattr(steps.Demo, "run", stop)
    assert main(["demo", "--out", str(tmp_path)]) == 143


def test_demo_files_writes_the_example_tables_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--files", "shop"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == ["shop/clicks.csv", "shop/items.csv", "shop/users.csv"]
    assert "next: clickscale schema guess shop/clicks.csv" in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]
    assert main(["demo", "--files", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": printed.out.split()}


def test_a_demo_that_finds_no_log_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["demo", "--source", "empty"]) == 2
    assert "u.data" in capsys.readouterr().err
    assert not (tmp_path / "clickscale-demo" / "prepared").exists()
