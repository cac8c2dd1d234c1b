"""Options of a distillation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from clickscale.config import Config
from clickscale.config_text import assign, build
from clickscale.data.loader import LoaderConfig
from clickscale.errors import ConfigError
from clickscale.models import model_config
from clickscale.training.objectives import check_distillation
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.run.run_config import Layers, RunConfig, TrainConfig, option_layers, taken_out

STUDENT, TEACHER = "student", "teacher"


class ModelChoice(Config, frozen=True, kw_only=True):
    """One of the two models of a distillation.

    Attributes:
        model: name of a model.
        grade: preset of model sizes.
        length: behaviors that a candidate sees at most (L).
        model_options: ``a.b=c`` changes of that preset.
    """

    model: str
    grade: str = "size-2"
    length: int = 100
    model_options: tuple[str, ...] = ()
    optimizer: OptimizerConfig = OptimizerConfig()

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"The length of {self.model!r} is {self.length}; it must be at least 1.")

    def __str__(self) -> str:
        return f"{self.model}:{self.grade}:{self.length}"


def parse_choice(text: str) -> ModelChoice:
    """Read ``MODEL:GRADE:LENGTH``, such as ``suan:size-4:200``.

    Raises:
        ConfigError: another form, an unknown model or grade, a length below 1.
    """
    parts = text.split(":")
    if len(parts) != 3 or not parts[2].isdecimal():
        raise ConfigError(
            f"{text!r} is not MODEL:GRADE:LENGTH; write a model, its size and its number of behaviors, such"
            " as suan:size-4:200."
        )
    model, grade, length = parts
    model_config(model, grade)
    return ModelChoice(model=model, grade=grade, length=int(length))


class DistillConfig(RunConfig, frozen=True, kw_only=True):
    """All options of a distillation.

    Attributes:
        student, teacher: the two models.
        teacher_run: a finished run whose model teaches instead of one that is trained (offline distillation).
        teacher_weights: hash of that model's weights; `distill` fills it in, with ``teacher``.
        temperature: divisor of both models' logits where the student learns from the teacher.
        weight: of the part of the loss in which the student learns from the teacher.
        head: the ``same`` head learns both from clicks and from the teacher, or an ``aux`` head learns from
            the teacher.
    """

    student: ModelChoice
    teacher: ModelChoice | None = None
    teacher_run: str = ""
    teacher_weights: str = ""
    temperature: float = 2.0
    weight: float = 2.0
    head: Literal["same", "aux"] = "same"

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_distillation(self.temperature, self.weight)
        if self.slack:
            raise ConfigError(
                f"slack is {self.slack}; a student and a teacher see fixed lengths, leave it out."
            )
        if self.teacher is None and not self.teacher_run:
            raise ConfigError(
                "A student needs a teacher: a model to train with it (--teacher suan:size-4:200), or the run"
                " of a model that is trained already (--teacher-run RUN)."
            )

    def loader(self) -> LoaderConfig:
        """Options of the loader that serves both: it gathers the longer history."""
        return self.loader_of(max(self.lengths))

    @property
    def lengths(self) -> tuple[int, int]:
        """Behaviors that a candidate of the student and of the teacher sees at most."""
        assert self.teacher is not None, "a teacher's run is read before its length is asked for"
        return self.student.length, self.teacher.length

    def own_run(self, name: str) -> TrainConfig:
        """Options of a run that trains only one of the two, on the same impressions."""
        choice = self.student if name == STUDENT else self.teacher
        assert choice is not None, "a teacher's run is read before its options are asked for"
        shared = {field: getattr(self, field) for field in RunConfig.__struct_fields__}
        own = {field: getattr(choice, field) for field in ModelChoice.__struct_fields__}
        return TrainConfig(**shared, **own)


def distill_config(
    student: str,
    data: Path,
    *,
    teacher: str = "",
    teacher_run: str = "",
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> DistillConfig:
    """Options of a distillation, of which later ones win: defaults, ``file``, ``flags``, ``sets``.

    Keys after ``student.`` and ``teacher.`` are options of one model: ``student.model.KEY`` changes the
    model, any other key its training. The remaining arguments are those of
    `clickscale.training.run.run_config.train_config`.

    Args:
        student, teacher: as `parse_choice` reads them; an empty ``teacher`` needs a ``teacher_run``.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or an option that would reach no model.
    """
    layers = option_layers(file, flags, sets)
    _refuse_lost(layers, teacher)
    tree: dict[str, Any] = {"data": str(data), "teacher_run": teacher_run}
    for name, choice in ((STUDENT, student), (TEACHER, teacher)):
        if choice:
            model_options = taken_out(layers, f"{name}.model.")
            tree[name] = msgspec.to_builtins(parse_choice(choice)) | {"model_options": model_options}
    return assign(build(DistillConfig, tree, "the options"), layers)


def _refuse_lost(layers: Layers, teacher: str) -> None:
    """Refuse options that would not reach any model."""
    for origin, pairs in layers:
        for key, _ in pairs:
            if key.startswith("teacher.") and not teacher:
                raise ConfigError(
                    f"The teacher of --teacher-run is not trained here; leave out {key} of {origin}."
                )
            if key.startswith(("optimizer.", "model.")):
                raise ConfigError(f"Say whose option {key} of {origin} is: student.{key} or teacher.{key}.")
