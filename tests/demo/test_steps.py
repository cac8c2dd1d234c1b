import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clickscale.artifact import load_artifact
from clickscale.cli import main
from clickscale.demo.steps import Demo, DemoStopped, _DemoOutcome
from clickscale.errors import ClickscaleError
from clickscale.training.distill.distill_config import parse_choice
from clickscale.training.run.folder import read_config
from clickscale.training.run_state import RunResult
from tests.small_movielens import write_small_movielens

NAMES = ["din", "student alone", "distilled student", "teacher", "trees"]


def ignore(stage: str, done: int, total: int | None) -> None:
    pass


def small_demo(out: Path, note: Callable[[str], None]) -> Demo:
    teacher = parse_choice("suan:size-2:120")
    return Demo(out, note, teacher=teacher, batch_size=256, epochs=1, threads=1, ladder_seeds=1)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, _DemoOutcome, list[str]]:
    """Folder, outcome and notes of a demo on a small log."""
    pytest.importorskip("lightgbm")
    out, notes = tmp_path_factory.mktemp("demo"), []
    write_small_movielens(out / "ml-100k")
    demo = small_demo(out, notes.append)
    demo.prepare(None, ignore)
    return out, demo.run(), notes


@pytest.mark.wide
def test_the_demo_trains_measures_and_ranks(first: tuple[Path, _DemoOutcome, list[str]]) -> None:
    out, outcome, notes = first
    told = outcome.to_dict()
    assert [result["name"] for result in told["results"]] == NAMES
    assert told["results"][1]["gflops"] == told["results"][2]["gflops"] > 0
    assert all(min(result["latency"]) > 0 for result in told["results"][:4])
    assert told["results"][4]["latency"] is None
    ranking = [line["probability"] for line in told["request"]["ranking"]]
    assert ranking == sorted(ranking, reverse=True)
    assert len(told["ladder"]["x"]) == 5
    assert told["ladder"]["held_out"]["measured"] == told["ladder"]["auc"][-1][0]
    assert "came out; the check" in outcome.ladder()
    pair = out / "runs" / "distillation"
    assert load_artifact(pair / "student" / "artifact").config.length == 100
    assert load_artifact(pair / "teacher" / "artifact").config.length == 120
    assert read_config(out / "runs" / "din").epochs.count == 1
    assert read_config(pair / "student").batch_size == 256
    assert set(told["gap_closed"]) == {"auc", "gauc", "log_loss"}
    headers, rows = outcome.results_table()[1:]
    closed = [row[headers.index("AUC gap closed")] for row in rows]
    assert closed[:2] == ["-", "-"]
    assert closed[2] == told["gap_closed"]["auc"]["text"]
    assert [note for note in notes if note.startswith("training")] == [
        "training din:size-2:100",
        "training lightsuan:size-2:100",
        "training suan:size-2:120, the teacher, and then lightsuan:size-2:100",
        "training boosted trees",
        "training a ladder: suan:size-1:50 on 0.0625 to 1 of the training data, 5 short runs",
    ]


@pytest.mark.wide
def test_the_student_alone_and_the_distilled_one_are_trained_alike(
    first: tuple[Path, _DemoOutcome, list[str]],
) -> None:
    runs = first[0] / "runs"
    alone, taught = runs / "student", runs / "distillation/student"
    assert read_config(alone) == read_config(taught)
    steps, samples = (
        [json.loads((run / "done.json").read_text())[name] for run in (alone, taught)]
        for name in ("step", "samples")
    )
    assert steps[0] == steps[1] > 0
    assert samples[0] == samples[1] > 0


@pytest.mark.wide
def test_the_page_shows_every_section(first: tuple[Path, _DemoOutcome, list[str]]) -> None:
    page = first[1].page.read_text("utf-8")
    assert page.count("<svg") == 10
    for words in (
        "Best AUC",
        "trees",
        "GFLOPs",
        "user cached",
        "against student alone",
        "AUC gap closed",
        "One request",
        "Calibration",
        "A small ladder",
    ):
        assert words in page


@pytest.mark.wide
def test_the_command_shows_a_finished_demo_and_trains_nothing_again(
    first: tuple[Path, _DemoOutcome, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, outcome, _ = first
    done = [out / "runs" / name / "done.json" for name in ("din", "student", "distillation")]
    before = [path.stat().st_mtime_ns for path in done]
    monkeypatch.setattr("clickscale.demo.steps.Demo", lambda folder, note, seed: small_demo(folder, note))
    monkeypatch.chdir(out.parent)
    outcomes, run = list[_DemoOutcome](), Demo.run
    monkeypatch.setattr(Demo, "run", lambda demo: outcomes.append(run(demo)) or outcomes[-1])

    assert main(["demo", "--out", out.name]) == 0
    printed = capsys.readouterr()
    for words in (
        "movielens-100k, test part",
        "parameters",
        "ms for 500",
        "the distilled student's ranking",
        f"report: {out.name}/report.html",
        f"served over HTTP: {out.name}/request.json gets",
        f"next: clickscale serve {out.name}/runs/distillation/student/artifact",
    ):
        assert words in printed.out
    assert outcome.ladder() in printed.out
    assert f"{out.name}/prepared is there" in printed.err
    assert "training" not in printed.err

    # Printed as JSON, it is the same demo.
    (shown,) = outcomes
    monkeypatch.setattr(Demo, "run", lambda demo: shown)
    assert main(["demo", "--out", out.name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in told["results"]] == NAMES
    assert told["gap_closed"] == json.loads(json.dumps(outcome.to_dict()["gap_closed"]))
    assert [path.stat().st_mtime_ns for path in done] == before
    ranking = [line["probability"] for line in told["request"]["ranking"]]
    assert main(["score", *told["request"]["command"].split()[2:], "--json"]) == 0
    served = json.loads(capsys.readouterr().out)["responses"][0]["candidates"]
    assert sorted((line["like"] for line in served), reverse=True) == pytest.approx(ranking)


def test_a_signal_in_training_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(config: object, out: Path, resume: bool) -> RunResult:
        return RunResult(out, step=3, samples=0, seconds={}, cpu_seconds=0.0, skipped=0, signal=15)

    monkeypatch.setattr("clickscale.demo.steps.train", stopped)
    notes: list[str] = []
    with pytest.raises(DemoStopped) as caught:
        small_demo(tmp_path, notes.append).run()
    assert caught.value.exit_code == 143
    assert notes == ["training din:size-2:100"]


def test_without_lightgbm_the_trees_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    notes: list[str] = []
    assert small_demo(tmp_path, notes.append).trees() == {}
    assert "pip install 'clickscale[trees]'" in notes[0]
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_the_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClickscaleError, match=r"u\.data"):
        small_demo(tmp_path / "out", [].append).prepare(tmp_path / "empty", ignore)
    assert not (tmp_path / "out" / "prepared").exists()
