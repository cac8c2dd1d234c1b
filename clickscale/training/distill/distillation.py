"""Distillation: a student learns from the clicks and from what its teacher says of them.

The teacher is trained before its student (in the same folder, or in an earlier run), or both learn together
(online distillation). Then both see the same impressions in the same order, each the last L behaviors of its
own grade. They share no weight: each has its own tables, its own optimizer and its own clipping. The teacher
takes the same steps that it would take without a student, and the student starts from the weights that it
would have without a teacher. A finished run also has a folder for each model; see
`clickscale.training.distill.distilled_runs`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader
from clickscale.errors import ConfigError, RunError
from clickscale.files import sha256_of
from clickscale.layers.head import Head
from clickscale.locks import one_writer
from clickscale.models import CTRModel
from clickscale.training.distill.distill_config import DistillConfig, choice_of_run
from clickscale.training.distill.distilled_runs import write_models
from clickscale.training.distill.unlabelled import UnlabelledCandidates
from clickscale.training.learner import Learner, Plan
from clickscale.training.objectives import Objective, OnlineDistillation
from clickscale.training.optimizers.optim import build_optimizer
from clickscale.training.recipe import Facts, decided_optimizer, facts_of, resolve, shaped, traits_of
from clickscale.training.run.folder import (
    DONE,
    STUDENT,
    TEACHER,
    TrainedRun,
    as_begun,
    load_run,
    read_config,
    stored_options,
)
from clickscale.training.run.model import check_grouping, make_model, start_at_rates, trained_labels
from clickscale.training.run_state import RunResult
from clickscale.training.train import run_training, train
from clickscale.training.warm_start import start_from


def distill(
    config: DistillConfig, out: Path, *, resume: bool = True, progress: bool | None = None
) -> RunResult:
    """Train a student and its teacher, or continue their run, in the folder ``out``.

    Arguments, result and errors are those of `clickscale.training.train.train`; a finished run also has the
    folders of its models.
    """
    if config.in_turn:
        result = _train_teacher(config, out, resume, progress)
        if not result.finished:
            return result
        resume = True
        earlier: TrainedRun | None = load_run(out / TEACHER, Path(config.data))
    elif config.teacher_run:
        earlier = _read_teacher(config)
        config = _with_teacher(config, earlier)
    else:
        earlier = None
    frozen = None if config.teacher_learns else earlier
    decided = config

    def plan(dataset: Dataset) -> Plan:
        nonlocal decided
        labels, facts = trained_labels(dataset, config), facts_of(dataset)
        decided, notes = as_begun(config, out).lesson()
        for name in config.trained:
            decided, wide = _widened(decided, name, facts)
            notes += [f"{name}: {text}" for text in wide]
        models = {STUDENT: _model(decided, STUDENT, dataset)}
        models[TEACHER] = frozen.model if frozen else _model(decided, TEACHER, dataset)
        traits = traits_of(list(models.values()), min(config.lengths))
        decided, reasons = resolve(decided, facts, traits)
        notes += reasons
        for name in config.trained:
            choice = getattr(decided, name)
            optimizer, reasons = decided_optimizer(choice.optimizer, decided, facts, type(models[name]))
            decided = replace(decided, **{name: replace(choice, optimizer=optimizer)})
            notes += [f"{name}: {text}" for text in reasons]

        def assemble(device: torch.device, steps: int) -> tuple[Objective, list[Learner]]:
            begun: dict[str, tuple[str, ...]] = {}
            if earlier and not frozen:  # a continued run overwrites the weights with its own
                begun[TEACHER] = (f"teacher: {start_from(models[TEACHER], dataset, labels, earlier)}",)
            for model in models.values():
                model.to(device)
            learners = [
                Learner(
                    name,
                    models[name],
                    build_optimizer(models[name], decided.own_run(name).optimizer, steps),
                    begun.get(name, ()),
                )
                for name in config.trained
            ]
            more = None
            if decided.unlabelled:
                more = UnlabelledCandidates(dataset, decided.unlabelled, decided.seed)
            return _objective(decided, models, labels, frozen, steps, more), learners

        # A student cuts the history that it is given, so only what neither model cuts can be shared.
        shared = min(config.lengths) if traits.causal and traits.shares else 0
        return Plan(decided, notes, assemble, shared)

    result = run_training(config, plan, out, resume=resume, progress=progress)
    if result.finished:
        write_models(out, config, decided, open_dataset(config.data, portion=config.portion))
    return result


def _widened(config: DistillConfig, name: str, facts: Facts) -> tuple[DistillConfig, list[str]]:
    """Decide the width of one of the models, as for a run of its own."""
    own = config.own_run(name)
    earlier = read_config(Path(own.warm_start)) if own.warm_start else None
    own, notes = shaped(own, facts, earlier)
    choice = replace(getattr(config, name), model_options=own.model_options)
    return replace(config, **{name: choice}), notes


def _objective(
    config: DistillConfig,
    models: Mapping[str, CTRModel[Any]],
    labels: tuple[str, ...],
    frozen: TrainedRun | None,
    steps: int,
    more: UnlabelledCandidates | None,
) -> OnlineDistillation:
    """The loss of a run of ``steps`` steps whose options are decided."""
    assert config.temperature is not None, "the recipe decides it before a loss is made"
    assert config.weight is not None, "the recipe decides it before a loss is made"
    assert config.ramp is not None, "the recipe decides it before a loss is made"
    assert config.soft_labels is not None, "the recipe decides it before a loss is made"
    return OnlineDistillation(
        models[STUDENT],
        models[TEACHER],
        labels,
        config.temperature,
        config.weight,
        ramp=round(config.ramp * steps),
        soft_labels=config.soft_labels,
        head=config.head,
        lengths=_cut_lengths(config),
        frozen=_label_columns(frozen, labels) if frozen else (),
        seed=config.seed,
        more=more,
    )


def _model(config: DistillConfig, name: str, dataset: Dataset) -> CTRModel[Any]:
    """One of the models as a run of its own would start it."""
    torch.manual_seed(config.seed)
    model = make_model(config.own_run(name), dataset)
    start_at_rates(model, dataset, trained_labels(dataset, config))
    if name == STUDENT and config.head == "aux":
        _add_teacher_labels(model)
    return model


def _add_teacher_labels(model: nn.Module) -> None:
    """Give a student logits for the teacher's labels, after those that it has.

    Raises:
        ConfigError: the model does not end in the shared `Head`.
    """
    heads = [part for part in model.modules() if isinstance(part, Head)]
    if len(heads) != 1:
        raise ConfigError("head=aux needs a student that ends in the shared head; use head=same.")
    heads[0].double_labels()


def _cut_lengths(config: DistillConfig) -> tuple[int, int]:
    """Histories of student and teacher, cut from the batch; 0 for a model that sees all of it."""
    student, teacher = config.lengths
    longest = max(student, teacher)  # the length of the batch
    return 0 if student == longest else student, 0 if teacher == longest else teacher


# --- a teacher that is trained before its student


def _train_teacher(config: DistillConfig, out: Path, resume: bool, progress: bool | None) -> RunResult:
    """Train the teacher to its end in a run of its own, or continue it, inside the folder of both.

    The student and its batches are made before, so that what is wrong with them is found now.
    """
    dataset = open_dataset(config.data, portion=config.portion)
    student = _model(config, STUDENT, dataset)
    own = config.own_run(STUDENT)
    own, _ = resolve(own, facts_of(dataset), traits_of([student], own.length))
    Loader(dataset, "train", own.loader())
    with one_writer(out, RunError):
        stored_options(out, DistillConfig, resume)
        own = config.own_run(TEACHER)
        return train(own, out / TEACHER, resume=resume, progress=progress, whose=TEACHER)


# --- a teacher of another run


def _read_teacher(config: DistillConfig) -> TrainedRun:
    """The finished run that teaches.

    Raises:
        RunError: it is not a run, is not finished, or was trained on data with other indices.
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
    own, named = choice_of_run(options, learns=config.teacher_learns), config.teacher
    if named is not None and replace(named, optimizer=own.optimizer) != own:
        raise ConfigError(f"{folder} holds {own} with its own options; leave --teacher out.")
    _label_columns(run, trained_labels(run.dataset, config))
    return run


def _with_teacher(config: DistillConfig, run: TrainedRun) -> DistillConfig:
    """Options that name the model of the teacher's run, so that a continued run refuses another teacher."""
    teacher = choice_of_run(run.config, learns=config.teacher_learns)
    if config.teacher_learns and config.teacher is not None:
        teacher = config.teacher  # with the options of learning that were set
    return replace(config, teacher=teacher, teacher_weights=_weights_hash(run.model))


def _weights_hash(model: CTRModel[Any]) -> str:
    """Hash of every weight of a model."""

    def pieces() -> Iterator[bytes | memoryview]:
        for name, tensor in model.state_dict().items():
            yield name.encode()
            yield tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data

    return sha256_of(pieces())


def _label_columns(run: TrainedRun, labels: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the labels among the logits of the teacher's run."""
    if missing := [label for label in labels if label not in run.labels]:
        raise ConfigError(
            f"The teacher's run predicts {', '.join(run.labels)}, not {missing[0]!r}; name labels that it has"
            " with --labels, or train a teacher for all of them."
        )
    return tuple(run.labels.index(label) for label in labels)
