"""Options of a distillation."""

from typing import Literal

from clickscale.config import Config
from clickscale.data.loader import LoaderConfig
from clickscale.errors import ConfigError
from clickscale.models import model_config
from clickscale.training.objectives import check_distillation
from clickscale.training.optim import OptimizerConfig
from clickscale.training.run.config import RunConfig, TrainConfig

STUDENT, TEACHER = "student", "teacher"


class ModelChoice(Config, frozen=True, kw_only=True):
    """One of the two models; attributes as in `clickscale.training.run.config.TrainConfig`."""

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
        temperature: both models' logits are divided by it where the student learns from the teacher.
        weight: of that part of the loss.
        head: ``same`` head learns both from clicks and from the teacher, or an ``aux`` head from the teacher.
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

    def alone(self, name: str) -> TrainConfig:
        """Options of a run that trains one of the two alone, on the same impressions."""
        choice = self.student if name == STUDENT else self.teacher
        assert choice is not None, "a teacher's run is read before its options are asked for"
        window = self.window or max(self.lengths)
        shared = {field: getattr(self, field) for field in RunConfig.__struct_fields__ if field != "window"}
        own = {field: getattr(choice, field) for field in ModelChoice.__struct_fields__}
        return TrainConfig(**shared, **own, window=0 if window == choice.length else window)
