"""Folders of the two models of a finished distillation, each an ordinary run.

::

    RUN/                config, environment, log and checkpoints of the student, or of both if both learn
    RUN/student/        an ordinary run (see `clickscale.training.run.folder`) of the student
    RUN/student/teacher.json    the teacher, and the options of the distillation
    RUN/teacher/        an ordinary run of the teacher; absent if it came from another run and did not learn
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clickscale.data.dataset import Dataset
from clickscale.files import checksum, replace_bytes, replace_text
from clickscale.sealed import maybe_document, read_document, write_document
from clickscale.training.distill.distill_config import LESSON, DistillConfig, usual_lesson
from clickscale.training.objectives import LOSS
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore, with_prefix, without_prefix
from clickscale.training.run.environment import ENVIRONMENT
from clickscale.training.run.folder import (
    ADVICE,
    CHECKPOINTS,
    DONE,
    STUDENT,
    TEACHER,
    write_decided,
    write_options,
)
from clickscale.training.run.logs import LOG_HASH, METRICS, read_metrics
from clickscale.training.run.model import make_model

TAUGHT = "teacher.json"


def write_models(out: Path, given: DistillConfig, config: DistillConfig, dataset: Dataset) -> None:
    """Write a folder for each model that a finished distillation trained.

    Args:
        given: the options before the recipe decided what they left open.
        config: the options of the run.
    """
    checkpoint, _ = CheckpointStore(out / CHECKPOINTS, config.keep).load()
    assert checkpoint is not None, "a finished run has a checkpoint"
    _write_part(out, STUDENT, given, config, dataset, checkpoint)
    told = (*LESSON, "head", "teacher_run", "teacher_learns", "teacher_first", "recipe")
    facts = {name: getattr(config, name) for name in told}
    write_document(out / STUDENT / TAUGHT, facts | {"teacher": str(config.teacher)})
    if TEACHER in config.trained:
        _write_part(out, TEACHER, given, config, dataset, checkpoint)


def teacher_run_of(run: Path) -> str:
    """Folder of the run that taught the model of a run; empty for a model that nobody taught."""
    facts = maybe_document(run / TAUGHT, ADVICE)
    if facts is None:
        return ""
    beside = run.parent / TEACHER
    return str(beside) if (beside / DONE).is_file() else str(facts["teacher_run"])


def told_teacher(run: Path) -> str:
    """The teacher of the model of a run and what is unusual in its lesson; empty without a teacher."""
    facts = maybe_document(run / TAUGHT, ADVICE)
    if facts is None:
        return ""
    trained = bool(facts["teacher_run"]) or facts["teacher_first"]
    usual = {**usual_lesson(facts["recipe"], trained), "head": "same"}
    told = ["recipe paper"] if facts["recipe"] == "paper" else []
    told += [f"{name} {facts[name]}" for name, value in usual.items() if facts[name] != value]
    if not trained:
        told.append("together")
    if facts["teacher_run"]:
        told.append("from a run, learning on" if facts["teacher_learns"] else "from a run")
    return ", ".join([facts["teacher"], *told])


def _write_part(
    out: Path,
    name: str,
    given: DistillConfig,
    config: DistillConfig,
    dataset: Dataset,
    checkpoint: Checkpoint,
) -> None:
    """Write the folder of one model; the file that marks it as finished comes last."""
    folder, own = out / name, config.own_run(name)
    trained = without_prefix(f"{name}.model", checkpoint.tensors)
    weights = with_prefix("model", _served(trained, make_model(own, dataset)))
    write_options(folder, own, dataset)
    write_decided(folder, given.own_run(name), own)
    CheckpointStore(folder / CHECKPOINTS, keep=1).save(Checkpoint(checkpoint.step, weights, {}))
    replace_bytes(folder / ENVIRONMENT, (out / ENVIRONMENT).read_bytes())
    lines = [json.dumps(_part_of_line(line, name)) for line in read_metrics(out)]
    replace_text(folder / METRICS, "".join(f"{line}\n" for line in lines))
    skipped = int(checkpoint.tensors[f"{name}.optimizer.skipped"][0])
    done = read_document(out / DONE, ADVICE) | {"skipped": skipped, LOG_HASH: checksum(folder / METRICS)}
    write_document(folder / DONE, done)


def _served(trained: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights that ``model`` has; rows of an auxiliary head, which come last, are left out."""
    return {
        name: trained[name] if trained[name].shape == live.shape else trained[name][: len(live)].clone()
        for name, live in model.state_dict().items()
    }


def _part_of_line(line: dict[str, Any], name: str) -> dict[str, Any]:
    """A line of the common log, reduced to what a run of the model ``name`` would have written."""
    if "valid" in line:
        return {"step": line["step"], "valid": _own_losses(line["valid"], name)}
    shared = ("step", "epoch", "samples", "samples_per_second", "seconds")
    own = {key.removeprefix(f"{name}."): value for key, value in line.items() if key.startswith(f"{name}.")}
    return {key: line[key] for key in shared} | _own_losses(line, name) | own


def _own_losses(values: dict[str, Any], name: str) -> dict[str, float]:
    """Log-loss of each label of one model, and their sum; empty if every step was skipped."""
    prefix = f"{LOSS}.{name}."
    losses = {f"{LOSS}.{key.removeprefix(prefix)}": v for key, v in values.items() if key.startswith(prefix)}
    return {LOSS: sum(losses.values()), **losses} if losses else {}
