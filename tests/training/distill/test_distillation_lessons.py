"""How a student is taught: by recipe, with a rising weight, by a teacher of a run that learns on."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from clickscale.config_text import override
from clickscale.errors import ConfigError, RunError
from clickscale.training import objectives
from clickscale.training.distill import distillation
from clickscale.training.distill.distill_config import DistillConfig, distill_config, usual_lesson
from clickscale.training.distill.distillation import _weights_hash, distill
from clickscale.training.distill.distilled_runs import teacher_run_of, told_teacher
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.run.folder import STUDENT, TEACHER, load_run, read_config
from clickscale.training.train import train
from tests.everyday import thinned
from tests.training.compared import differing, last
from tests.training.pairs import config_of, distill_in_two_calls, same, stopping, weights

DROPS = ("student.model_options=['head.hidden=[8]','head.dropout=0.3']",)
BOTH_DROP = (*DROPS, "teacher.model_options=['head.hidden=[8]','head.dropout=0.3']")
STATISTICS_OF_BATCHES = ("teacher.model_options=['head.hidden=[8]','head.norm=batch']",)


def learning(data: Path, teacher: Path, *changes: str) -> DistillConfig:
    """A student beside a teacher that starts from a run and learns on."""
    config = config_of(data)
    assert config.teacher is not None
    given = {"teacher_run": str(teacher), "teacher_learns": True}
    return override(msgspec.structs.replace(config, **given), changes)


# --- recipes


def test_a_recipe_decides_how_a_student_is_taught_and_what_is_set_stays(data: Path, tmp_path: Path) -> None:
    left = msgspec.structs.replace(config_of(data, "weight=3.0"), ramp=None, teacher_first=None)
    for recipe, first in (("accurate", True), ("fast", False), ("paper", False)):
        out = tmp_path / recipe
        distill(msgspec.structs.replace(left, recipe=recipe), out)
        facts, decided = (
            json.loads((out / path).read_text()) for path in ("student/teacher.json", "recipe.json")
        )
        usual = {**usual_lesson(recipe, trained=first), "teacher_first": first}
        assert {name: facts[name] for name in usual} == {**usual, "weight": 3.0}
        assert {name: decided[name] for name in usual if name != "weight"} == {
            name: value for name, value in usual.items() if name != "weight"
        }
        assert "weight" not in decided
        assert read_config(out / "student").recipe == ("fast" if recipe == "fast" else "accurate")
    assert told_teacher(tmp_path / "accurate/student") == "suan:size-1:8, weight 3.0"
    assert told_teacher(tmp_path / "fast/student") == "suan:size-1:8, weight 3.0, together"
    assert told_teacher(tmp_path / "paper/student") == "suan:size-1:8, recipe paper, weight 3.0, together"


def test_the_paper_teaches_with_one_weight_by_the_pass_that_learns() -> None:
    letter = {"temperature": 2.0, "weight": 2.0, "ramp": 0.0, "soft_labels": "training", "unlabelled": 0}
    for trained in (False, True):
        assert usual_lesson("paper", trained) == letter


def test_a_teacher_that_is_trained_already_teaches_from_the_first_step(data: Path, teacher: Path) -> None:
    assert usual_lesson("accurate", trained=True)["ramp"] == 0
    assert usual_lesson("accurate", trained=False)["ramp"] > 0
    config = msgspec.structs.replace(learning(data, teacher), ramp=None)
    taught, (why,) = config.lesson()
    assert taught.ramp == 0
    assert "the teacher is trained already" in why
    assert config_of(data, "recipe=paper").lesson()[0].soft_labels == "training"


def test_the_recipe_of_the_paper_is_none_of_a_single_run(data: Path) -> None:
    with pytest.raises(ConfigError, match="train takes accurate or fast"):
        override(config_of(data).own_run(STUDENT), ["recipe=paper"])


def test_long_windows_are_as_long_as_the_shorter_history(data: Path, tmp_path: Path) -> None:
    config = config_of(data, "window=0", "recipe=fast", "batch_size=0", "epochs.count=0")
    assert config.lengths == (4, 8)
    distill(config, tmp_path / "run")
    assert [read_config(tmp_path / "run" / name).window for name in (STUDENT, TEACHER)] == [4, 4]


@pytest.mark.wide
def test_a_model_is_as_wide_as_one_trained_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickscale.training.recipe.LARGE", 10)
    config = config_of(data, "teacher.grade=size-2", "student.model=lightsuan", "student.grade=size-2")
    distill(config, tmp_path / "run")
    train(config.own_run(STUDENT), tmp_path / "alone")
    assert read_config(tmp_path / "run/student").model_options[0] == "d=16"
    for name in (STUDENT, TEACHER):
        assert load_run(tmp_path / "run" / name).model.config.d == 16
    assert read_config(tmp_path / "alone") == read_config(tmp_path / "run/student")


# --- every option continues to the bit, and leaves the teacher alone


@thinned(
    "changes",
    [
        ("ramp=0.6",),
        ("ramp=0.6", "soft_labels=evaluation", *BOTH_DROP),
        ("soft_labels=evaluation", *STATISTICS_OF_BATCHES),
    ],
    ids=["ramp", "dropout", "batch statistics"],
)
def test_a_stopped_lesson_continues_to_the_bit_and_its_teacher_learns_as_alone(
    data: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    config = config_of(data, *changes)
    distill(config, tmp_path / "whole")
    distill_in_two_calls(config, tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run") == []
    train(config.own_run(TEACHER), tmp_path / "alone")
    assert same(weights(tmp_path / "run/teacher"), weights(tmp_path / "alone"))


def test_a_lesson_goes_on_as_it_was_begun_where_the_recipe_would_now_decide_otherwise(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = msgspec.structs.replace(config_of(data), weight=None, batch_size=0)
    config = msgspec.structs.replace(
        config, student=msgspec.structs.replace(config.student, optimizer=OptimizerConfig())
    )
    distill(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(1))
        assert not distill(config, tmp_path / "run").finished
    of_paper = usual_lesson("paper", trained=True)
    monkeypatch.setattr("clickscale.training.recipe.BATCHES", (16, 16))
    monkeypatch.setattr("clickscale.training.recipe.TABLE_RATE", 0.3)
    monkeypatch.setattr("clickscale.training.distill.distill_config.usual_lesson", lambda *_: of_paper)
    assert distill(config, tmp_path / "run").finished
    assert differing(tmp_path / "whole", tmp_path / "run") == []
    with pytest.raises(RunError, match="weight is"):
        distill(override(config, ["weight=0.5"]), tmp_path / "run")


@pytest.mark.wide
def test_a_lesson_that_forgets_its_step_is_seen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: a continued run that counts its steps from 0 again."""
    config = config_of(data, "ramp=1.0")
    distill(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(5))
        distill(config, tmp_path / "run")
    honest = objectives.OnlineDistillation.prepared
    monkeypatch.setattr(
        objectives.OnlineDistillation,
        "prepared",
        lambda self, batch, step: honest(self, batch, max(step - 5, 0)),
    )
    distill(config, tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run")


def test_one_stream_of_random_numbers_for_both_models_would_be_seen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: a student that takes its dropout from the stream of its teacher."""
    config = config_of(data, *BOTH_DROP)
    train(config.own_run(TEACHER), tmp_path / "alone")
    monkeypatch.setattr(objectives, "_draws", lambda model: False)
    distill(config, tmp_path / "run")
    assert not same(weights(tmp_path / "run/teacher"), weights(tmp_path / "alone"))


# --- a teacher that starts from a run and learns on


def test_a_teacher_of_a_run_learns_on_as_if_trained_alone_from_there(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    config = learning(data, teacher)
    distill(config, tmp_path / "run")
    alone = config.own_run(TEACHER)
    assert alone.warm_start == str(teacher)
    train(alone, tmp_path / "alone")
    assert same(weights(tmp_path / "run/teacher"), weights(tmp_path / "alone"))
    assert not same(weights(tmp_path / "run/teacher"), weights(teacher))
    assert read_config(tmp_path / "run/teacher") == read_config(tmp_path / "alone")
    assert told_teacher(tmp_path / "run/student") == "suan:size-1:8, from a run, learning on"
    assert teacher_run_of(tmp_path / "run/student") == str(tmp_path / "run/teacher")


def test_a_student_of_a_teacher_that_learns_on_continues_to_the_bit(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _weights_hash(load_run(teacher).model)
    distill(learning(data, teacher), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(4))
        assert not distill(learning(data, teacher), tmp_path / "run").finished
    moved = Path(shutil.copytree(teacher, tmp_path / "moved"))
    assert distill(learning(data, moved), tmp_path / "run").finished
    assert differing(tmp_path / "whole", tmp_path / "run") == []
    assert _weights_hash(load_run(teacher).model) == before
    assert any(name.startswith("teacher.optimizer.") for name in last(tmp_path / "run").tensors)


@pytest.mark.wide
def test_a_teacher_that_does_not_start_from_its_run_is_seen(
    data: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: fresh weights instead of those of the run."""
    distill(learning(data, teacher), tmp_path / "whole")
    monkeypatch.setattr(distillation, "start_from", lambda *given: "nothing")
    distill(learning(data, teacher), tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run")


def test_options_of_learning_reach_a_teacher_that_learns_on(data: Path, teacher: Path) -> None:
    def options(*sets: str, learns: bool = True) -> DistillConfig:
        flags = {"teacher_learns": True} if learns else {}
        return distill_config("din:size-1:4", data, teacher_run=str(teacher), flags=flags, sets=sets)

    config = options("teacher.optimizer.learning_rate=0.004")
    assert config.teacher is not None
    assert (str(config.teacher), config.teacher.optimizer.learning_rate) == ("suan:size-1:8", 0.004)
    assert config.teacher.model_options == ("head.hidden=[8]",)
    assert options().teacher != config.teacher
    with pytest.raises(ConfigError, match="let it learn with --teacher-learns"):
        options("teacher.optimizer.learning_rate=0.004", learns=False)
    with pytest.raises(ConfigError, match=r"stays that of its run; leave out teacher\.model\.d"):
        options("teacher.model.d=4")


def test_a_teacher_without_a_run_need_not_be_told_to_learn(data: Path) -> None:
    with pytest.raises(ConfigError, match="A teacher of --teacher always learns"):
        config_of(data, "teacher_learns=true")


def test_a_teacher_that_learns_on_is_that_of_its_run(data: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --teacher out"):
        distill(learning(data, teacher, "teacher.length=9"), tmp_path / "run")
    distill(learning(data, teacher), tmp_path / "run")
    train(config_of(data, "seed=5").own_run(TEACHER), tmp_path / "other")
    with pytest.raises(RunError, match="teacher_weights is"):
        distill(learning(data, tmp_path / "other"), tmp_path / "run")


@pytest.mark.parametrize("ramp", [-0.1, 1.5])
def test_a_ramp_is_a_share_of_the_steps(data: Path, ramp: float) -> None:
    with pytest.raises(ConfigError, match="a share of the steps, from 0 to 1"):
        config_of(data, f"ramp={ramp}")
