"""A student of a teacher that is trained already; options of distillations that cannot be."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from clickscale.config_text import override
from clickscale.errors import ConfigError, RunError
from clickscale.models.suan import SUAN
from clickscale.training.distill import distillation
from clickscale.training.distill.distill_config import DistillConfig, parse_choice
from clickscale.training.distill.distillation import _weights_hash, distill
from clickscale.training.run.folder import STUDENT, TEACHER, load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.train import train
from tests.training.compared import differing, last
from tests.training.pairs import config_of, same, stopping, weights


def offline(data: Path, teacher: Path, *changes: str) -> DistillConfig:
    config = msgspec.structs.replace(config_of(data), teacher=None, teacher_run=str(teacher))
    return override(config, changes)


def test_a_frozen_teacher_does_not_move_and_its_student_learns(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    before = _weights_hash(load_run(teacher).model)
    result = distill(offline(data, teacher), tmp_path / "run")
    assert result.finished
    assert _weights_hash(load_run(teacher).model) == before
    assert not (tmp_path / "run" / "teacher").exists()
    assert not any(name.startswith("teacher.") for name in last(tmp_path / "run").tensors)
    line = read_metrics(tmp_path / "run")[0]
    assert line["loss"] == pytest.approx(
        sum(line[f"loss.student.{x}"] + 8 * line[f"loss.distill.{x}"] for x in ("click", "like"))
    )
    facts = json.loads((tmp_path / "run/student/teacher.json").read_text())
    assert (facts["teacher"], facts["teacher_run"]) == ("suan:size-1:8", str(teacher))
    train(config_of(data).own_run(STUDENT), tmp_path / "alone")
    assert not same(weights(tmp_path / "run/student"), weights(tmp_path / "alone"))


def test_a_student_of_a_frozen_teacher_continues_to_the_bit(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(teacher, tmp_path / "moved"))
    distill(offline(data, teacher), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(4))
        assert not distill(offline(data, teacher), tmp_path / "run").finished
    assert distill(offline(data, moved), tmp_path / "run").finished
    assert differing(tmp_path / "whole", tmp_path / "run") == []


def test_a_run_does_not_continue_with_another_teacher(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config_of(data, "seed=5").own_run(TEACHER), tmp_path / "other")
    monkeypatch.setattr(distillation, "OnlineDistillation", stopping(4))
    distill(offline(data, teacher), tmp_path / "run")
    with pytest.raises(RunError, match="teacher_weights is"):
        distill(offline(data, tmp_path / "other"), tmp_path / "run")


def test_a_teacher_of_more_labels_teaches_those_that_are_asked_for(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    config = offline(data, teacher, "labels=['like']")
    distill(config, tmp_path / "run")
    assert load_run(tmp_path / "run/student").labels == ("like",)
    teacher = load_run(teacher)
    both = [line["loss.teacher.like"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert all(0.3 < loss < 1.5 for loss in both)
    assert teacher.labels == ("click", "like")


def test_a_teacher_that_cannot_teach_says_why(data: Path, teacher: Path, tmp_path: Path) -> None:
    train(config_of(data, "labels=['like']").own_run(TEACHER), tmp_path / "like")
    with pytest.raises(ConfigError, match="predicts like, not 'click'; name labels that it has"):
        distill(offline(data, tmp_path / "like"), tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SUAN, "causal", False)
        with pytest.raises(ConfigError, match="is not causal"):
            distill(offline(data, teacher), tmp_path / "run")
    (tmp_path / "like/done.json").unlink()
    with pytest.raises(RunError, match="is not finished, so it cannot teach"):
        distill(offline(data, tmp_path / "like"), tmp_path / "run")
    named = msgspec.structs.replace(config_of(data, "teacher.length=9"), teacher_run=str(teacher))
    with pytest.raises(ConfigError, match=r"holds suan:size-1:8 .* leave --teacher out"):
        distill(named, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- options


def test_a_model_is_chosen_by_its_name_its_size_and_its_length() -> None:
    choice = parse_choice("suan:size-4:200")
    assert (choice.model, choice.grade, choice.length) == ("suan", "size-4", 200)
    assert str(choice) == "suan:size-4:200"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("suan:200", "not MODEL:GRADE:LENGTH"),
        ("suan", "such as suan:size-4:200"),
        ("suan:size-4:long", "not MODEL:GRADE:LENGTH"),
        ("suan:size-4:-1", "not MODEL:GRADE:LENGTH"),
        ("suan:size-4:0", "must be at least 1"),
        ("suan:size-9:200", "Unknown grade 'size-9'; did you mean"),
        ("suam:size-4:200", "did you mean 'suan'"),
    ],
)
def test_a_choice_that_cannot_be_read_says_why(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_choice(text)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (("temperature=0.0",), "the first must be > 0"),
        (("slack=3",), "slack is 3"),
        (("teacher.model_options=['bias=head']",), "bias"),
        (("labels=['clik']",), "did you mean 'click'"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, changes: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        distill(config_of(data, *changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_student_needs_a_teacher(data: Path) -> None:
    with pytest.raises(ConfigError, match="needs a teacher"):
        DistillConfig(data=str(data), student=parse_choice("din:size-1:4"))
