"""The verb ``distill``, as a user types it."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from clickscale.batch import Batch
from clickscale.cli import main
from clickscale.training.distill import distillation
from clickscale.training.run.folder import read_config
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

SMALL = ("--set", "batch_size=32", "--set", "threads=1")
BOTH = ("--teacher", "suan:size-2:12", "--student", "din:size-1:5")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    return str(tiny_dataset(folder, tiny_source(impressions=160, statistics=STATISTICS)))


@pytest.fixture(scope="module")
def pair(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pair") / "run"
    assert main(["distill", *BOTH, "--data", data, "--out", str(out), *SMALL]) == 0
    return out


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_both_models_are_shown_and_can_be_evaluated_and_compared(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["distill", *BOTH, "--data", data, "--out", str(out), *SMALL]) == 0
    printed = capsys.readouterr()
    assert "student din" in printed.out
    assert "teacher suan" in printed.out
    assert f"next: clickscale evaluate {out / 'student'}" in printed.err
    for name in ("student", "teacher"):
        assert main(["evaluate", str(out / name), "--bootstrap", "5", "--json"]) == 0
    capsys.readouterr()
    assert main(["compare", str(out / "student"), str(out / "teacher"), "--bootstrap", "5", "--json"]) == 0
    assert [model["name"] for model in document(capsys)["models"]] == ["din", "suan"]


def test_options_reach_the_model_that_they_name(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [
        "epochs.count=2",
        "student.optimizer.learning_rate=0.01",
        "student.model.d=4",
        "teacher.model.block.ffn=none",
    ]
    given = [word for text in sets for word in ("--set", text)]
    options = [
        "--temperature",
        "3",
        "--weight",
        "1.5",
        "--head",
        "aux",
        "--labels",
        "click,like",
        "--seed",
        "7",
    ]
    out = str(tmp_path / "run")
    assert main(["distill", *BOTH, "--data", data, "--out", out, *SMALL, *given, *options, "--json"]) == 0
    told = document(capsys)
    assert (told["finished"], sorted(told["valid"])) == (True, ["student", "teacher"])
    assert len(told["valid"]["student"]) == 2
    both = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (both["temperature"], both["weight"], both["head"], both["seed"]) == (3.0, 1.5, "aux", 7)
    student, teacher = (read_config(tmp_path / "run" / name) for name in ("student", "teacher"))
    assert (student.model_options, teacher.model_options) == (("d=4",), ("block.ffn=none",))
    assert (student.optimizer.learning_rate, teacher.optimizer.learning_rate) == (0.01, 0.001)
    assert (student.epochs.count, teacher.epochs.count, student.length, teacher.length) == (2, 2, 5, 12)


def test_a_finished_run_teaches_too(
    data: str, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["distill", "--teacher-run", str(pair / "teacher"), "--student", "mlp:size-1:5", "--data", data]
    assert main([*given, "--out", str(tmp_path / "run"), *SMALL, "--json"]) == 0
    assert list(document(capsys)["valid"]) == ["student"]
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_signal_saves_and_the_same_command_continues(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(distillation.OnlineDistillation):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            signal.raise_signal(signal.SIGTERM)
            return super().forward(batch)

    command = ["distill", *BOTH, "--data", data, "--out", str(tmp_path / "run"), *SMALL, "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", Stopping)
        assert main(command) == 143
    printed = capsys.readouterr()
    assert json.loads(printed.out)["finished"] is False
    assert "stopped after step 1; continue with --resume" in printed.err
    assert main(command) == 2
    assert "already holds a run; continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert document(capsys)["step"] > 1


STUDENT = ("--student", "din:size-1:5")
BAD = {
    "grade": (["--teacher", "suan:size-9:200", *STUDENT], "Unknown grade 'size-9'; did you mean"),
    "form": (["--teacher", "suan:200", *STUDENT], "'suan:200' is not MODEL:GRADE:LENGTH"),
    "model": (["--teacher", "suam:size-1:9", *STUDENT], "did you mean 'suan'"),
    "length": ([*BOTH[:2], "--student", "din:size-1:0"], "must be at least 1"),
    "no teacher": ([*STUDENT], "A student needs a teacher"),
    "no student": ([*BOTH[:2]], "Missing option '--student'"),
    "temperature": ([*BOTH, "--temperature", "0"], "temperature is 0"),
    "head": ([*BOTH, "--head", "both"], "Invalid value for '--head'"),
    "whose optimizer": ([*BOTH, "--set", "optimizer.learning_rate=1"], "student.optimizer"),
    "option of a model": ([*BOTH, "--set", "student.model.hiden=1"], "did you mean 'hidden'"),
    "option of one": (
        [*BOTH, "--set", "teacher.optimizr.learning_rate=1"],
        "did you mean 'teacher.optimizer'",
    ),
    "no run": (["--teacher-run", "nowhere", *STUDENT], "nowhere is not a run"),
    "a model without its run": (
        ["--teacher-run", "r", *STUDENT, "--set", "teacher.model.d=4"],
        "stays that of its run",
    ),
    "slack": ([*BOTH, "--set", "slack=5"], "slack is 5"),
}


@pytest.mark.parametrize(("arguments", "problem"), BAD.values(), ids=BAD.keys())
def test_wrong_usage_is_one_line_and_nothing_is_written(
    data: str,
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *arguments, "--data", data, "--out", "run", *SMALL]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_two_models_says_where_they_are(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(pair)]) == 2
    assert f"its models are {pair / 'student'} and {pair / 'teacher'}" in capsys.readouterr().err


def test_the_gap_to_the_teacher_is_told_beside_a_run_of_the_student_alone(
    data: str, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, out = str(tmp_path / "alone"), str(tmp_path / "run")
    assert (
        main(["train", "din", "--grade", "size-1", "--length", "5", "--data", data, "--out", alone, *SMALL])
        == 0
    )
    given = ["distill", "--student", "din:size-1:5", "--data", data, *SMALL]
    assert (
        main([*given, "--teacher", "suan:size-2:12", "--recipe", "paper", "--out", out, "--alone", alone])
        == 0
    )
    assert "gap to the teacher closed, label click: auc " in capsys.readouterr().err
    facts = json.loads((tmp_path / "run/student/teacher.json").read_text())
    assert (facts["recipe"], facts["ramp"], facts["soft_labels"]) == ("paper", 0.0, "training")
    learning = [
        "--teacher-run",
        str(pair / "teacher"),
        "--teacher-learns",
        "--ramp",
        "0.3",
        "--learning-rate",
        "0.002",
    ]
    out = str(tmp_path / "learning")
    assert main([*given, *learning, "--out", out, "--alone", alone, "--json"]) == 0
    told = document(capsys)
    assert sorted(told["valid"]) == ["student", "teacher"]
    share = told["gap_closed"]["click"]["auc"]
    assert (share["value"] is None) == (share["text"] == "undefined")
    assert read_config(tmp_path / "learning/teacher").optimizer.learning_rate == 0.002
    runs = [alone, f"{out}/student", f"{out}/teacher"]
    assert main(["compare", *runs, "--part", "valid", "--bootstrap", "20", "--json"]) == 0
    models = document(capsys)["models"]
    assert [bool(model["gap_closed"]) for model in models] == [False, True, False]
    assert main(["compare", *runs[:2], "--part", "valid", "--bootstrap", "20"]) == 0
    assert f"also name its teacher {out}/teacher" in " ".join(capsys.readouterr().out.split())


def test_a_run_of_the_student_alone_that_is_none_is_refused_before_training(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        main(["distill", *BOTH, "--data", data, "--out", str(out), "--alone", str(tmp_path / "no"), *SMALL])
        == 2
    )
    assert not out.exists()
