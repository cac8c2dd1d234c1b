"""Verbs of the command line as functions: train and save, distill, evaluate, compare.

Besides what training writes (see `clickscale.training.run.folder`), the folder of a run then holds::

    artifact/                       what is served (see `clickscale.artifact`)
    cost.json                       parameters, operations of one request of 60 candidates
    predictions-PART.safetensors    logits and labels of a part
    evaluation-PART.json            metrics with intervals and slices

A folder of trees holds ``trees.json`` and ``trees.txt`` instead of the files of training. A distillation's
folder holds one such folder for each of its models (see `clickscale.training.distill.distillation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from clickscale.artifact import save_artifact
from clickscale.baselines.simple import simple_logits
from clickscale.costs.flops import Cost, measure_cost, paper_request, reference_features, reference_items
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Grouping
from clickscale.data.portion import WHOLE, Portion
from clickscale.errors import RunError
from clickscale.evaluation.evaluate import predict
from clickscale.evaluation.label_report import EvaluationReport, evaluate_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.regret import Regret, regret
from clickscale.evaluation.sanity import few_warnings, steps_warning
from clickscale.features import label_of
from clickscale.files import heal, replace_text, sha256_text
from clickscale.inference.prediction_tables import TREES as _TREES
from clickscale.inference.prediction_tables import TREES_TEXT
from clickscale.locks import is_empty, one_writer
from clickscale.models import build_model
from clickscale.report.comparison import Entrant, gap_closed
from clickscale.report.results import Result, gap_document, results_of
from clickscale.runtime import MOST, available_cores
from clickscale.sealed import maybe_document, read_document, write_document
from clickscale.training.distill import distillation
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.distill.distilled_runs import teacher_run_of, told_teacher
from clickscale.training.run.folder import (
    ADVICE,
    CONFIG,
    DATASET,
    DONE,
    RECIPE,
    TrainedRun,
    encoder_hashes,
    load_run,
    read_config,
)
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.run_state import RunResult, read_done
from clickscale.training.train import train as train_model
from clickscale.world.truth import LABEL as TRUE_LABEL
from clickscale.world.truth import is_world, true_probability

_FEWEST = 20  # positives and negatives of a slice whose AUC says something
CANDIDATES = 60  # of the request whose operations every table shows, as in EST
_DATA = "say where it is with --data, to compare with the constant rate and item popularity."


def train(
    config: TrainConfig, out: str | Path, *, resume: bool = False, progress: bool | None = None
) -> RunResult:
    """Train a model into the folder ``out``, measure it on the validation part (if any), save its artifact.

    Args:
        resume: continue the run in ``out``; without it a folder that holds a run is refused.
        progress: show a progress line; None does so on a terminal.

    Returns:
        A result whose ``finished`` is false if a signal stopped the run; then there is no artifact yet.

    Raises:
        RunError: ``out`` holds something else or is written by another process, or the disk is full.
        ConfigError: unknown model, grade, option or label.
    """
    out = Path(out)
    with one_writer(out, RunError):
        result = train_model(config, out, resume=resume, progress=progress)
        if result.finished:
            _finish(out, Path(config.data))
    return result


def distill(
    config: DistillConfig, out: str | Path, *, resume: bool = False, progress: bool | None = None
) -> RunResult:
    """Train a student and its teacher into the folder ``out``; finish each as `train` finishes a model.

    ``out/student`` and ``out/teacher`` are then runs like any other; a teacher that came from another run
    (``teacher_run``) stays there. Arguments, result and errors are those of `train`.
    """
    out = Path(out)
    with one_writer(out, RunError):
        result = distillation.distill(config, out, resume=resume, progress=progress)
        for folder in distilled_runs(out) if result.finished else ():
            _finish(folder, Path(config.data))
    return result


def distilled_runs(out: Path) -> list[Path]:
    """Folders of the models of a finished distillation, the student first."""
    return [out / name for name in ("student", "teacher") if (out / name / DONE).is_file()]


def _finish(out: Path, data: Path) -> None:
    """Write the cost of a finished run, its metrics of the validation part, if any, and its artifact."""
    run, result = load_run(out, data), read_done(out)
    cost = measure_cost(run.model, run.dataset.features, run.config.length, CANDIDATES).to_dict()
    write_document(out / "cost.json", cost)
    training = {"step": run.step, "samples": result.samples, "samples_per_second": result.samples_per_second}
    metrics: dict[str, Any] = {"cost": cost, "training": training}
    if len(run.dataset.part("valid")):
        metrics["valid"] = _evaluate(run, out, "valid", "request", run.config.slack, 200).to_dict()
    save_artifact(
        out / "artifact",
        run.model,
        run.dataset.encoder,
        run.dataset.item_columns(),
        model_name=run.config.model,
        grade=run.config.grade,
        length=run.config.length,
        labels=run.labels,
        metrics=metrics,
        notes=run.dataset.manifest.notes,
        overwrite=True,
    )


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    part: str = "test",
    grouping: Grouping = "request",
    slack: int = 0,
    bootstrap: int = 200,
) -> EvaluationReport:
    """Measure a run on a part; its folder keeps the predictions and the report.

    Args:
        data: prepared data set with the same features, if not the run's own.
        part: ``train``, ``valid`` or ``test``.
        grouping: ``request`` is how a server scores.
        slack: replay a server that appends to states; see `clickscale.evaluation.evaluate.predict`.
        bootstrap: resamples of the users for the intervals; 0 leaves them out.

    Raises:
        RunError: the folder is not a run, or has no weights yet.
    """
    out = Path(run)
    if (out / _TREES).is_file():
        where = Path(data or read_document(out / _TREES, ADVICE)["data"])
        heal(where)
        dataset = open_dataset(where) if data or where.is_dir() else None
        return _report(out, load_predictions(out, part), bootstrap, dataset)
    where = Path(data or read_config(out).data)
    heal(where)
    if not data and not where.is_dir():
        raise RunError(f"{out} was trained on {where}, which is not there; say where it is with --data.")
    return _evaluate(load_run(out, where), out, part, grouping, slack, bootstrap)


def _evaluate(
    run: TrainedRun, out: Path, part: str, grouping: Grouping, slack: int, bootstrap: int
) -> EvaluationReport:
    gpu = run.config.device != "cpu" and torch.cuda.is_available()
    predictions = predict(
        run.model.to("cuda" if gpu else "cpu"),
        run.dataset,
        part,
        length=run.config.length,
        grouping=grouping,
        slack=slack,
        labels=run.labels,
    )
    run.model.cpu()  # what is saved and served lies there
    predictions.save(_predictions_path(out, part))
    # A run that began with the weights of another one has learned more than its own steps.
    warnings = [] if run.config.warm_start else steps_warning(run.step)
    return _report(out, predictions, bootstrap, run.dataset, warnings)


def _report(
    out: Path,
    predictions: Predictions,
    bootstrap: int,
    dataset: Dataset | None,
    warnings: Sequence[str] = (),
) -> EvaluationReport:
    """Measure predictions beside those that cost nothing; write the report, with warnings of the run."""
    simple = simple_logits(dataset, predictions.row, predictions.label_names) if dataset else None
    report = evaluate_predictions(predictions, bootstrap=bootstrap, simple=simple)
    if dataset is not None and predictions.part != "train":
        warnings = [*_training_warnings(dataset, predictions.label_names), *warnings]
    if dataset is None:
        warnings = [
            *warnings,
            f"The data set of {out} is not there, so nothing stands beside its numbers; {_DATA}",
        ]
    report = replace(
        report, warnings=(*report.warnings, *warnings), regret=_against_truth(dataset, predictions)
    )
    write_document(out / f"evaluation-{predictions.part}.json", report.to_dict())
    return report


def _against_truth(dataset: Dataset | None, predictions: Predictions) -> tuple[Regret, ...]:
    """Measure predictions of a simulated world against its true probabilities; nothing for other logs."""
    if dataset is None or not is_world(dataset) or TRUE_LABEL not in predictions.label_names:
        return ()
    told = predictions.select_labels([TRUE_LABEL])
    truth = true_probability(dataset, told.row)
    return (regret(TRUE_LABEL, told.labels[:, 0] == 1, told.logits[:, 0], truth, told.user),)


def _training_warnings(dataset: Dataset, labels: Sequence[str]) -> list[str]:
    """Warn of a training part with too few positives or negatives."""
    rows, found = dataset.part("train"), []
    for label in labels:
        outcome = np.asarray(dataset.impressions[label_of(label)])[rows]
        found += few_warnings(label, "train", (int((outcome == 1).sum()), int((outcome == 0).sum())))
    return found


def train_trees(
    data: str | Path,
    out: str | Path,
    *,
    label: str = "",
    seed: int = 0,
    statistics: bool = True,
    threads: int = 0,
    portion: Portion = WHOLE,
) -> dict[str, Any]:
    """Fit gradient-boosted trees to the same data; ``out`` can be evaluated and compared like a run.

    Args:
        portion: share of the training part that they learn from.

    Returns:
        Facts about the trees and the time they took, as ``trees.json`` keeps them.

    Raises:
        RunError: ``out`` is not empty, or is written by another process.
        ConfigError: LightGBM is not installed.
    """
    with one_writer(Path(out), RunError):
        return _train_trees(data, Path(out), label, seed, statistics, threads, portion)


def _train_trees(
    data: str | Path, out: Path, label: str, seed: int, statistics: bool, threads: int, portion: Portion
) -> dict[str, Any]:
    from clickscale.baselines import trees

    if not is_empty(out):
        raise RunError(f"{out} is not empty; choose another folder.")
    dataset = open_dataset(data, portion=portion)
    fitted = trees.train_trees(
        dataset,
        label=label,
        seed=seed,
        statistics=statistics,
        threads=threads or min(available_cores(), MOST),
    )
    for part, predictions in fitted.predictions.items():
        predictions.save(_predictions_path(out, part))
        _report(out, predictions, 200, dataset)
    facts = fitted.to_dict() | {
        "data": str(data),
        "seed": seed,
        "portion": msgspec.to_builtins(portion),
        "notes": list(dataset.manifest.notes),
        "samples_per_second": len(dataset.part("train")) / sum(fitted.seconds),
        "encoder_sha256": encoder_hashes(dataset),
        "trees_sha256": sha256_text(fitted.text),
    }
    replace_text(out / TREES_TEXT, fitted.text)
    write_document(out / _TREES, facts)
    return facts


def model_cost(
    model: str,
    *,
    grade: str = "size-2",
    length: int | None = None,
    candidates: int = CANDIDATES,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Cost, int]:
    """Count the parameters of a model and the operations of a request, on a data set or a made-up one.

    Args:
        length: behaviors of the history; None takes 100, or what the paper of the grade counts on.
        data: prepared data set whose features the model embeds; None takes those of a made-up one.
        overrides: ``a.b=c`` changes of the grade.

    Returns:
        The cost, and the length that it is for.
    """
    request = paper_request(model, grade)
    length = length or request.length
    if data:
        dataset = open_dataset(data)
        features, items = dataset.features, dataset.item_columns()
    else:
        features = reference_features(request=request)
        items = reference_items(features)
    built = build_model(model, features, items, grade=grade, length=length, overrides=overrides)
    return measure_cost(built, features, length, candidates), length


# --- reading runs back


def _predictions_path(run: Path, part: str) -> Path:
    """File in which a run keeps the predictions of a part."""
    return run / f"predictions-{part}.safetensors"


def load_predictions(run: Path, part: str) -> Predictions:
    """Saved predictions of a run; an error says how to make them."""
    path = _predictions_path(run, part)
    if not path.is_file():
        raise RunError(
            f"{run} has no predictions of {part!r}; make them: clickscale evaluate {run} --part {part}"
        )
    return Predictions.load(path)


def run_options(run: Path) -> dict[str, Any]:
    """Options of a run or of trees as plain values; ``model`` and ``seed`` are always there.

    Raises:
        RunError: the folder is neither.
    """
    if (run / _TREES).is_file():
        facts = read_document(run / _TREES, ADVICE)
        learned = {} if facts["portion"]["fraction"] == 1 else {"portion": facts["portion"]}
        return {name: facts[name] for name in ("model", "seed", "statistics")} | learned
    options: dict[str, Any] = msgspec.to_builtins(read_config(run))
    teacher = told_teacher(run)
    return options | ({"teacher": teacher} if teacher else {})


def run_notes(run: Path) -> list[str]:
    """Sentences about the data that every report of its results repeats."""
    path = run / (_TREES if (run / _TREES).is_file() else DATASET)
    facts = maybe_document(path, ADVICE) or {}
    return list(facts.get("notes", ()))


def entrant(run: Path, part: str) -> Entrant:
    """A run as `clickscale.report.comparison.compare` takes it.

    Raises:
        RunError: the folder is not a run, or the part was not evaluated yet.
    """
    decided = frozenset(maybe_document(run / RECIPE, ADVICE) or ())  # trees leave nothing to the recipe
    options = run_options(run)
    return Entrant(
        str(run),
        options,
        run_results(run, part),
        load_predictions(run, part),
        decided,
        kind=" ".join(map(str, (options["model"], *_kind(options)))),
        teacher_run=teacher_run_of(run),
    )


def _kind(options: Mapping[str, Any]) -> list[str]:
    """Grade, length and options of the model of a run; nothing for trees."""
    if "grade" not in options:
        return []
    return [f"{options['grade']}:{options['length']}", *sorted(options["model_options"])]


def gaps_of(student: Path, alone: Path, part: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Share of the gap to its teacher that a taught student closes, by label and measure.

    Args:
        student: run of a taught student, whose teacher's run is where it was.
        alone: run of the same student without a teacher.

    Returns:
        For each measure the share with its interval, a text, and the reason why something is missing.

    Raises:
        RunError: the part was not evaluated, or ``alone`` is another model or was trained with another seed.
    """
    taught, lone = entrant(student, part), entrant(alone, part)
    teacher = entrant(Path(taught.teacher_run), part)
    gaps = {}
    for label in (result.label for result in taught.results):
        shares = gap_closed([taught], [lone, teacher], label)
        if not shares:
            raise RunError(
                f"{alone} holds {lone.kind}, seed {lone.seed}, and {student} {taught.kind}, seed"
                f" {taught.seed}; name a run of the same model and seed that nobody taught."
            )
        gaps[label] = {measure: gap_document(share) for measure, share in shares.items()}
    return gaps


def run_results(run: Path, part: str = "test", name: str = "") -> list[Result]:
    """Results of an evaluated run, one per label.

    Raises:
        RunError: the part was not evaluated yet.
    """
    path = run / f"evaluation-{part}.json"
    if not path.is_file():
        raise RunError(f"{run} has no report of {part!r}; make it: clickscale evaluate {run} --part {part}")
    evaluation = read_document(path, _evaluate_again(run, part))
    cost = maybe_document(run / "cost.json", ADVICE)
    done = maybe_document(run / DONE, ADVICE) or maybe_document(run / _TREES, ADVICE)
    speed = done.get("samples_per_second") if done else None
    return results_of(name or run_options(run)["model"], evaluation, cost, speed)


def learning_curve(run: Path) -> tuple[list[float], list[float]]:
    """Impressions seen and training loss at every line of the log of a run; empty for trees."""
    if not (run / CONFIG).is_file():
        return [], []
    lines = [line for line in read_metrics(run) if line.get("loss") is not None]
    return [line["samples"] for line in lines], [line["loss"] for line in lines]


def validation_curve(run: Path) -> tuple[list[float], list[float]]:
    """Impressions seen and validation loss at every measurement of a run; empty for trees."""
    if not (run / CONFIG).is_file():
        return [], []
    lines = read_metrics(run)
    logged = [line for line in lines if "samples" in line]
    found = [line for line in lines if line.get("valid", {}).get("loss") is not None]
    if not logged or not found:
        return [], []
    # Validation has steps of its own; between two lines of the log, batches are alike.
    steps, samples = [line["step"] for line in logged], [line["samples"] for line in logged]
    seen = np.interp([line["step"] for line in found], [0, *steps], [0, *samples])
    return seen.tolist(), [line["valid"]["loss"] for line in found]


def slice_auc(run: Path, slices: str, part: str = "test", label: str = "") -> dict[str, float]:
    """AUC of a label by slice (``behaviors``, ``user_activity``, ``item_age``, ``day``).

    Slices with fewer than `_FEWEST` positives or negatives are left out: their AUC is noise.

    Args:
        label: the first one if empty.
    """
    labels = read_document(run / f"evaluation-{part}.json", _evaluate_again(run, part))["labels"]
    found = next(one for one in labels if label in ("", one["label"]))
    return {
        entry["name"]: entry["auc"]
        for entry in found["slices"][slices]
        if min(entry["positives"], entry["rows"] - entry["positives"]) >= _FEWEST
    }


def _evaluate_again(run: Path, part: str) -> str:
    """Way out where a report is damaged."""
    return f"make it again: clickscale evaluate {run} --part {part}"
