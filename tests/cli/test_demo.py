import json
from pathlib import Path

import pytest

from clickscale.artifact import load_artifact
from clickscale.cli import demo, main
from clickscale.demo import steps
from tests.document_data import START

pytest.importorskip("lightgbm")


def write_small_movielens(folder: Path) -> None:
    """1,200 ratings in the official layout of MovieLens-100k, some of them in the same second."""
    folder.mkdir(parents=True)
    ratings = [(u % 30 + 1, u * 7 % 40 + 1, 1 + u * u // 7 % 5, START + u // 8 * 3600) for u in range(1200)]
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
    users = [f"{u}|{18 + u}|{'MF'[u % 2]}|student|{10000 + u}\n" for u in range(1, 31)]
    (folder / "u.user").write_text("".join(users))
    flags = ["|".join("1" if genre in (i % 19, i % 7) else "0" for genre in range(19)) for i in range(1, 41)]
    items = [f"{i}|Film {i} (1990)|01-Jan-1990||http://film|{flags[i - 1]}\n" for i in range(1, 41)]
    (folder / "u.item").write_text("".join(items), encoding="latin-1")


def test_the_demo_leaves_runs_a_request_and_a_page_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "OPTIONS", ("batch_size=256", "threads=1"))
    monkeypatch.setattr(steps, "DISTILLATION", ("batch_size=256", "threads=1", "epochs.count=2"))
    monkeypatch.setattr(steps, "TEACHER", "suan:size-2:120")
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "clickscale-demo"
    write_small_movielens(out / "ml-100k")
    assert main(["demo", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = ["din", "student alone", "distilled student", "teacher", "trees"]
    assert [result["name"] for result in told["results"]] == names
    assert told["results"][1]["gflops"] == told["results"][2]["gflops"] > 0
    assert all(min(result["latency"]) > 0 for result in told["results"][:4])
    assert told["results"][4]["latency"] is None
    ranking = [line["probability"] for line in told["request"]["ranking"]]
    assert ranking == sorted(ranking, reverse=True)
    assert load_artifact(out / "runs" / "distillation" / "student" / "artifact").config.length == 100
    assert load_artifact(out / "runs" / "distillation" / "teacher" / "artifact").config.length == 120
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<svg") == 7
    for word in (
        "Best AUC",
        "trees",
        "GFLOPs",
        "user cached",
        "against student alone",
        "One request",
        "Calibration",
    ):
        assert word in page
    made = (out / "runs" / "din" / "done.json").stat().st_mtime_ns

    assert main(["demo"]) == 0
    text = capsys.readouterr().out
    assert (out / "runs" / "din" / "done.json").stat().st_mtime_ns == made
    for word in (
        "movielens-100k, test part",
        "parameters",
        "ms for 500",
        "the distilled student's ranking",
        "report: clickscale-demo/report.html",
    ):
        assert word in text

    assert main(["score", *told["request"]["command"].split()[2:], "--json"]) == 0
    served = json.loads(capsys.readouterr().out)["responses"][0]["candidates"]
    assert sorted((line["like"] for line in served), reverse=True) == pytest.approx(ranking)


def test_without_lightgbm_the_trees_are_left_out_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.boosted_trees(tmp_path / "prepared", tmp_path / "trees", 0) == {}
    assert "pip install 'clickscale[trees]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_finds_no_log_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["demo", "--source", "empty"]) == 2
    assert "u.data" in capsys.readouterr().err
    assert not (tmp_path / "clickscale-demo" / "prepared").exists()
