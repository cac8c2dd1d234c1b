"""Options of a distillation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from clickscale.config import Config
from clickscale.config_text import assign, build
from clickscale.data.loader import LoaderConfig
from clickscale.errors import ConfigError
from clickscale.models import model_config
from clickscale.training.objectives import check_distillation
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.run.folder import STUDENT, TEACHER, read_config
from clickscale.training.run.run_config import Layers, RunConfig, TrainConfig, option_layers, taken_out

# How a student is taught where that is not set: by the letter of the paper, by a teacher that was trained
# before, or by one that begins to learn with its student. `docs/distillation.md` has the measurements.
_PAPER = {"temperature": 2.0, "weight": 2.0, "ramp": 0.0, "soft_labels": "training", "unlabelled": 0}
_TRAINED = _PAPER | {"soft_labels": "evaluation", "weight": 8.0}
_LEARNING = _PAPER | {"soft_labels": "evaluation", "ramp": 1.0}
LESSON = tuple(_PAPER)


def usual_lesson(recipe: str, trained: bool) -> Mapping[str, Any]:
    """How a recipe lets a student be taught; ``trained``: by a teacher that starts from a finished run."""
    if recipe == "paper":
        return _PAPER
    return _TRAINED if trained else _LEARNING


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
        teacher_learns: the model of ``teacher_run`` goes on learning beside its student.
        teacher_first: ``teacher`` is trained to its end before its student begins, and then teaches without
            learning; false trains both together, null leaves it to the recipe.
        teacher_weights: hash of that model's weights; `distill` fills it in, with ``teacher``.
        temperature: divisor of both models' logits where the student learns from the teacher; null leaves it
            to the recipe.
        weight: of the part of the loss in which the student learns from the teacher; null leaves it to the
            recipe.
        ramp: share of the steps over which that weight rises from 0 in a straight line, 0 for a constant
            one; null leaves it to the recipe.
        soft_labels: of the teacher in ``evaluation`` mode, or of the pass in ``training`` mode from which it
            learns; null leaves it to the recipe.
        unlabelled: candidates that nobody labelled, drawn for each request, whose soft labels the student
            learns too; null leaves it to the recipe.
        head: the ``same`` head learns both from clicks and from the teacher, or an ``aux`` head learns from
            the teacher.
    """

    student: ModelChoice
    teacher: ModelChoice | None = None
    teacher_run: str = ""
    teacher_learns: bool = False
    teacher_first: bool | None = None
    teacher_weights: str = ""
    temperature: float | None = None
    weight: float | None = None
    ramp: float | None = None
    soft_labels: Literal["evaluation", "training"] | None = None
    unlabelled: int | None = None
    head: Literal["same", "aux"] = "same"

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        check_distillation(*(2.0 if given is None else given for given in (self.temperature, self.weight)))
        if not 0 <= (self.ramp or 0) <= 1:
            raise ConfigError(f"ramp is {self.ramp}; it must be a share of the steps, from 0 to 1.")
        if (self.unlabelled or 0) < 0:
            raise ConfigError(
                f"unlabelled is {self.unlabelled}; it must be a number of candidates, at least 0."
            )
        if self.teacher_learns and not self.teacher_run:
            raise ConfigError(
                "A teacher of --teacher always learns; --teacher-learns is for one that starts from a run"
                " (--teacher-run RUN)."
            )
        if self.teacher_first and self.teacher_run:
            raise ConfigError(
                f"The teacher of {self.teacher_run} is trained already; leave teacher_first out, or name a"
                " model to train (--teacher suan:size-4:200)."
            )
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
        if self.recipe == "paper":  # it decides how a student is taught, and nothing of a single run
            shared["recipe"] = "accurate"
        if name == TEACHER and self.teacher_learns:
            own["warm_start"] = self.teacher_run
        return TrainConfig(**shared, **own)

    @property
    def in_turn(self) -> bool:
        """Whether the teacher is trained here before its student, as the recipe ``accurate`` has it."""
        if self.teacher_run or self.teacher_first is not None:
            return bool(self.teacher_first)
        return self.recipe == "accurate"

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the models that learn in the steps of the student."""
        knows = self.in_turn or (self.teacher_run and not self.teacher_learns)
        return (STUDENT,) if knows else (STUDENT, TEACHER)

    def lesson(self) -> tuple["DistillConfig", list[str]]:
        """Decide how the student is taught where that is left to the recipe; say why."""
        usual = usual_lesson(self.recipe, bool(self.teacher_run) or self.in_turn)
        left = {name: value for name, value in usual.items() if getattr(self, name) is None}
        notes = []
        if self.teacher_first is None and self.in_turn:
            notes.append(
                "the teacher is trained to its end before its student: a teacher that knows nothing yet"
                " teaches nothing; --together trains both in one pass"
            )
        if left:
            listed = ", ".join(f"{name} {value}" for name, value in left.items())
            notes.append(f"{listed}: {_why(usual)}")
        return replace(self, teacher_first=self.in_turn, **left), notes


def _why(lesson: Mapping[str, Any]) -> str:
    if lesson is _PAPER:
        return "by the letter of the paper"
    if lesson is _TRAINED:
        return "the teacher is trained already, and knows from the first step"
    return "the teacher begins to learn with its student, and knows little at first"


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
    learns = _learns(layers)
    _refuse_lost(layers, teacher, learns)
    tree: dict[str, Any] = {"data": str(data), "teacher_run": teacher_run}
    for name, choice in ((STUDENT, student), (TEACHER, teacher)):
        if choice:
            model_options = taken_out(layers, f"{name}.model.")
            tree[name] = msgspec.to_builtins(parse_choice(choice)) | {"model_options": model_options}
    if teacher_run and learns and not teacher:
        tree |= {TEACHER: msgspec.to_builtins(choice_of_run(read_config(Path(teacher_run)), learns=True))}
        tree["teacher_learns"] = True
    return assign(build(DistillConfig, tree, "the options"), layers)


def choice_of_run(options: TrainConfig, *, learns: bool) -> ModelChoice:
    """The model of a run as a teacher; one that ``learns`` begins with options of learning of its own."""
    choice = ModelChoice(**{field: getattr(options, field) for field in ModelChoice.__struct_fields__})
    return replace(choice, optimizer=OptimizerConfig()) if learns else choice


def _learns(layers: Layers) -> bool:
    """The last value of ``teacher_learns``."""
    values = [value for _, pairs in layers for key, value in pairs if key == "teacher_learns"]
    return bool(values and values[-1] in (True, "true"))


def _refuse_lost(layers: Layers, teacher: str, learns: bool) -> None:
    """Refuse options that would not reach any model."""
    for origin, pairs in layers:
        for key, _ in pairs:
            if key.startswith("teacher.model.") and not teacher:
                raise ConfigError(
                    f"The model of --teacher-run stays that of its run; leave out {key} of {origin}."
                )
            if key.startswith("teacher.") and not (teacher or learns):
                raise ConfigError(
                    f"The teacher of --teacher-run is not trained here; leave out {key} of {origin}, or"
                    " let it learn with --teacher-learns."
                )
            if key.startswith(("optimizer.", "model.")):
                raise ConfigError(f"Say whose option {key} of {origin} is: student.{key} or teacher.{key}.")
