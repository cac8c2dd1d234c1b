"""A teacher that is trained to its end before its student, inside the folder of both."""

import importlib
import signal
from pathlib import Path

import msgspec
import pytest
from torch import Tensor

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.errors import ConfigError, RunError
from clickscale.models.suan import SUAN
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.distill.distillation import distill
from clickscale.training.distill.distilled_runs import teacher_run_of
from clickscale.training.objectives import ClickLoss
from clickscale.training.run.folder import STUDENT, TEACHER
from clickscale.training.train import train
from tests.training.compared import differing, last
from tests.training.pairs import config_of, distill_in_two_calls, same, weights

training = importlib.import_module("clickscale.training.train")


def in_turn(data: Path, *changes: str) -> DistillConfig:
    return override(msgspec.structs.replace(config_of(data), teacher_first=None, ramp=None), changes)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("in-turn") / "run"
    assert distill(in_turn(data), out).finished
    return out


def test_it_is_a_training_of_the_teacher_and_then_one_of_a_student_of_its_run(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    train(in_turn(data).own_run(TEACHER), tmp_path / "teacher")
    assert differing(finished / TEACHER, tmp_path / "teacher") == []
    later = msgspec.structs.replace(
        in_turn(data), teacher=None, teacher_run=str(tmp_path / "teacher"), ramp=None
    )
    distill(later, tmp_path / "later")
    assert same(weights(finished / STUDENT), weights(tmp_path / "later" / STUDENT))
    assert not any(name.startswith("teacher.") for name in last(finished).tensors)
    assert teacher_run_of(finished / STUDENT) == str(finished / TEACHER)


def test_a_signal_while_the_teacher_learns_costs_nothing(
    data: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stopping(ClickLoss):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += self.training
            if self.training and self.batches == 5:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(batch)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", "clickscale"):
        patch.setattr(training, "ClickLoss", Stopping)
        assert not distill(in_turn(data), tmp_path / "run").finished
    assert not (tmp_path / "run" / STUDENT).exists()
    assert caplog.messages
    assert [note for note in caplog.messages if not note.startswith("teacher: ")] == []
    with pytest.raises(RunError, match="already holds a run; continue it with --resume"):
        distill(in_turn(data), tmp_path / "run", resume=False)
    with pytest.raises(RunError, match="holds another run"):
        distill(in_turn(data, "teacher.length=7"), tmp_path / "run")
    assert distill(in_turn(data), tmp_path / "run").finished
    assert differing(tmp_path / "run", finished) == []
    assert differing(tmp_path / "run" / TEACHER, finished / TEACHER) == []


def test_a_signal_while_the_student_learns_costs_nothing(data: Path, finished: Path, tmp_path: Path) -> None:
    distill_in_two_calls(in_turn(data), tmp_path / "run")
    assert differing(tmp_path / "run", finished) == []
    assert differing(tmp_path / "run" / TEACHER, finished / TEACHER) == []


def test_nothing_that_is_wrong_costs_the_training_of_a_teacher(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a run"):
        distill(in_turn(data), tmp_path / "other")
    train(in_turn(data).own_run(STUDENT), tmp_path / "single")
    with pytest.raises(RunError, match="holds the run of one model"):
        distill(in_turn(data), tmp_path / "single")
    assert not (tmp_path / "single" / TEACHER).exists()
    with pytest.raises(ConfigError, match="Unknown option"):
        distill(in_turn(data, "student.model_options=['widht=3']"), tmp_path / "typo")
    monkeypatch.setattr(SUAN, "causal", False)
    with pytest.raises(ConfigError, match="candidates cannot share a timeline"):
        distill(in_turn(data, "student.model=suan"), tmp_path / "shared")
    assert not (tmp_path / "typo").exists()
    assert not (tmp_path / "shared").exists()


def test_a_finished_run_stays_as_it_is(data: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted((finished / TEACHER).rglob("*.*"))}
    assert distill(in_turn(data), finished).finished
    assert {path: path.stat().st_mtime_ns for path in sorted((finished / TEACHER).rglob("*.*"))} == before
    with pytest.raises(RunError, match="already holds a run"):
        distill(in_turn(data), finished, resume=False)


def test_a_teacher_of_a_run_is_not_trained_first(data: Path, finished: Path) -> None:
    with pytest.raises(ConfigError, match="is trained already; leave teacher_first out"):
        DistillConfig(
            data=str(data),
            student=config_of(data).student,
            teacher_run=str(finished / TEACHER),
            teacher_first=True,
        )
