"""Online distillation as a run: a student and its teacher learn together, then each gets a folder of its own.

::

    RUN/                config, environment, log and checkpoints of the two together
    RUN/student/        an ordinary run (see `clickscale.training.run.folder`) of the student alone
    RUN/student/teacher.json    who taught it, and how
    RUN/teacher/        an ordinary run of the teacher; absent if the teacher came from another run

Both models see the same impressions in the same order, each the last L behaviors of its own grade. They share
no weight: each has its own tables, its own optimizer and its own clipping. The teacher takes the very steps
that it would take alone, and the student starts from the weights that it would have alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from clickscale.config import Config
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import LoaderConfig
from clickscale.errors import ConfigError, RunError
from clickscale.files import replace_bytes, replace_text, sha256_of
from clickscale.layers.head import BatchNorm, Head
from clickscale.models import CTRModel, model_config
from clickscale.training.loop import Learner, Plan, RunResult, run_training
from clickscale.training.objectives import LOSS, Objective, OnlineDistillation, check_distillation
from clickscale.training.optim import OptimizerConfig, build_optimizer
from clickscale.training.recipe import decided_optimizer, facts_of, resolve, traits_of
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import (
    DONE,
    ENVIRONMENT,
    RunConfig,
    TrainConfig,
    TrainedRun,
    check_grouping,
    load_run,
    make_model,
    read_config,
    start_at_rates,
    trained_labels,
    write_options,
)
from clickscale.training.run.logs import METRICS, read_metrics

STUDENT, TEACHER = "student", "teacher"
TAUGHT = "teacher.json"


class ModelChoice(Config, frozen=True, kw_only=True):
    """One of the two models; attributes as in `clickscale.training.run.folder.TrainConfig`."""

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
        shared = {field: getattr(self, field) for field in RunConfig.__struct_fields__}
        own = {field: getattr(choice, field) for field in ModelChoice.__struct_fields__}
        return TrainConfig(**shared, **own)


def distill(
    config: DistillConfig, out: Path, *, resume: bool = True, progress: bool | None = None
) -> RunResult:
    """Train a student with its teacher, or continue their run, in the folder ``out``.

    Arguments, result and errors are those of `clickscale.training.loop.train`; a finished run also has the
    folders of its models.
    """
    frozen = read_teacher(config) if config.teacher_run else None
    config = with_teacher(config, frozen) if frozen else config

    decided = config

    def plan(dataset: Dataset) -> Plan:
        nonlocal decided
        labels, longest = trained_labels(dataset, config), max(config.lengths)
        models = {STUDENT: _model(config, STUDENT, dataset)}
        models[TEACHER] = frozen.model if frozen else _model(config, TEACHER, dataset)
        decided, why = resolve(config, facts_of(dataset), traits_of(list(models.values()), longest))
        for name in (STUDENT,) if frozen else (STUDENT, TEACHER):
            choice = getattr(decided, name)
            optimizer, more = decided_optimizer(choice.optimizer, decided)
            decided = replace(decided, **{name: replace(choice, optimizer=optimizer)})
            why += [f"{name}: {text}" for text in more]

        def assemble(device: torch.device, steps: int) -> tuple[Objective, list[Learner]]:
            for model in models.values():
                model.to(device)
            moving = {name: model for name, model in models.items() if not (frozen and name == TEACHER)}
            learners = [
                Learner(name, model, build_optimizer(model, decided.alone(name).optimizer, steps))
                for name, model in moving.items()
            ]
            objective = OnlineDistillation(
                models[STUDENT],
                models[TEACHER],
                labels,
                config.temperature,
                config.weight,
                head=config.head,
                lengths=tuple(0 if length == longest else length for length in config.lengths),  # type: ignore[arg-type]
                frozen=_places(frozen, labels) if frozen else (),
            )
            return objective, learners

        return Plan(decided, why, assemble)

    result = run_training(config, plan, out, resume=resume, progress=progress)
    if result.finished:
        split(out, decided, open_dataset(config.data))
    return result


def _model(config: DistillConfig, name: str, dataset: Dataset) -> CTRModel[Any]:
    """One of the models as it would start alone."""
    torch.manual_seed(config.seed)
    model = make_model(config.alone(name), dataset)
    start_at_rates(model, dataset, trained_labels(dataset, config))
    if name == STUDENT and config.head == "aux":
        widen_head(model)
    return model


def widen_head(model: nn.Module) -> None:
    """Double the logits of a model: those that it has, unchanged, then as many for the teacher's labels.

    Raises:
        ConfigError: the model does not end in the shared `Head`.
    """
    heads = [part for part in model.modules() if isinstance(part, Head)]
    if len(heads) != 1:
        raise ConfigError("head=aux needs a student that ends in the shared head; use head=same.")
    (head,) = heads
    count, tower = head.labels, head.tower
    for place in (len(tower) - 2, len(tower) - 1):  # the last layer, or the one before the norm of the logits
        layer = tower[place]
        if isinstance(layer, nn.Linear):
            tower[place] = _with_rows(layer, nn.Linear(layer.in_features, 2 * count))
        elif isinstance(layer, BatchNorm) and place == len(tower) - 1:
            tower[place] = _with_rows(layer, BatchNorm(2 * count))
    head.labels = 2 * count


def _with_rows(layer: nn.Module, wide: nn.Module) -> nn.Module:
    """The wide layer, which does in its first rows what ``layer`` does."""
    places = wide.state_dict()
    for name, tensor in layer.state_dict().items():
        (places[name][: len(tensor)] if tensor.dim() else places[name]).copy_(tensor)
    return wide.train(layer.training)


# --- a teacher that is trained already


def read_teacher(config: DistillConfig) -> TrainedRun:
    """The finished run that teaches.

    Raises:
        RunError: it is no run, is not finished, or was trained on data with other indices.
        ConfigError: it does not predict the labels, cannot be used in this grouping, or is another model than
            the one that ``teacher`` names.
    """
    folder = Path(config.teacher_run)
    options = read_config(folder)
    if not (folder / DONE).is_file():
        raise RunError(
            f"{folder} is not finished, so it cannot teach; finish it with: clickscale train --resume"
        )
    run = load_run(folder, Path(config.data))
    if config.grouping != "auto":
        check_grouping(run.model, config.grouping)
    if config.teacher is not None and config.teacher != choice_of(options):
        raise ConfigError(f"{folder} holds {choice_of(options)} with its own options; leave --teacher out.")
    _places(run, trained_labels(run.dataset, config))
    return run


def choice_of(options: TrainConfig) -> ModelChoice:
    """The model of a run of one model."""
    return ModelChoice(**{field: getattr(options, field) for field in ModelChoice.__struct_fields__})


def with_teacher(config: DistillConfig, run: TrainedRun) -> DistillConfig:
    """The options with the model of the teacher's run written into them, so that no other one takes over."""
    facts = {"teacher": choice_of(run.config), "teacher_weights": weights_hash(run.model)}
    return msgspec.structs.replace(config, **facts)


def weights_hash(model: CTRModel[Any]) -> str:
    """Hash of every weight of a model."""

    def pieces() -> Iterator[bytes | memoryview]:
        for name, tensor in model.state_dict().items():
            yield name.encode()
            yield tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data

    return sha256_of(pieces())


def _places(run: TrainedRun, labels: tuple[str, ...]) -> tuple[int, ...]:
    """Where the labels stand among the logits of the teacher's run."""
    if missing := [label for label in labels if label not in run.labels]:
        raise ConfigError(
            f"The teacher's run predicts {', '.join(run.labels)}, not {missing[0]!r}; name labels that it has"
            " with --labels, or train a teacher for all of them."
        )
    return tuple(run.labels.index(label) for label in labels)


# --- the folders of the two models


def split(out: Path, config: DistillConfig, dataset: Dataset) -> None:
    """Write a folder for each model that a finished distillation trained."""
    checkpoint, _ = CheckpointStore(out / "checkpoints", config.keep).load()
    assert checkpoint is not None, "a finished run has a checkpoint"
    _write_part(out, STUDENT, config, dataset, checkpoint)
    facts = {name: getattr(config, name) for name in ("temperature", "weight", "head", "teacher_run")}
    replace_text(out / STUDENT / TAUGHT, json.dumps(facts | {"teacher": str(config.teacher)}, indent=2))
    if not config.teacher_run:
        _write_part(out, TEACHER, config, dataset, checkpoint)


def _write_part(
    out: Path, name: str, config: DistillConfig, dataset: Dataset, checkpoint: Checkpoint
) -> None:
    """The folder of one model; what says that it is finished comes last."""
    folder, alone = out / name, config.alone(name)
    prefix = f"{name}.model."
    stored = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
    weights = {f"model.{k}": v for k, v in served(stored, make_model(alone, dataset)).items()}
    write_options(folder, alone, dataset)
    CheckpointStore(folder / "checkpoints", keep=1).save(Checkpoint(checkpoint.step, weights, {}))
    replace_bytes(folder / ENVIRONMENT, (out / ENVIRONMENT).read_bytes())
    lines = [json.dumps(part_of_line(line, name)) for line in read_metrics(out)]
    replace_text(folder / METRICS, "".join(f"{line}\n" for line in lines))
    skipped = int(checkpoint.tensors[f"{name}.optimizer.skipped"][0])
    done = json.loads((out / DONE).read_text("utf-8")) | {"skipped": skipped}
    replace_text(folder / DONE, json.dumps(done, indent=2, sort_keys=True))


def served(stored: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights that ``model`` has: those of an auxiliary head, which come last, are left behind."""
    return {
        name: stored[name] if stored[name].shape == own.shape else stored[name][: len(own)].clone()
        for name, own in model.state_dict().items()
    }


def part_of_line(line: dict[str, Any], name: str) -> dict[str, Any]:
    """A line of the log of both as the model ``name`` would have written it alone."""
    if "valid" in line:
        return {"step": line["step"], "valid": _own_losses(line["valid"], name)}
    shared = ("step", "epoch", "samples", "samples_per_second", "seconds")
    own = {key.removeprefix(f"{name}."): value for key, value in line.items() if key.startswith(f"{name}.")}
    return {key: line[key] for key in shared} | _own_losses(line, name) | own


def _own_losses(values: dict[str, Any], name: str) -> dict[str, float]:
    """Log-loss of each label of one model, and their sum; empty if every step was skipped."""
    prefix = f"{LOSS}.{name}."
    found = {f"{LOSS}.{key.removeprefix(prefix)}": v for key, v in values.items() if key.startswith(prefix)}
    return {LOSS: sum(found.values()), **found} if found else {}
