"""The verb ``distill``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from clickscale.cli import run_flags as flags
from clickscale.cli.console import emit, say, show
from clickscale.cli.options import AsJson, Data, Sets
from clickscale.cli.runs import (
    documents,
    results_grid,
    say_warnings,
    stopped,
    training,
    validation_results,
)


def distill_models(
    data: Data,
    out: flags.Out,
    student: Annotated[
        str, typer.Option("--student", metavar="MODEL:GRADE:LENGTH", help="Such as lightsuan:size-2:100.")
    ],
    teacher: Annotated[
        str,
        typer.Option("--teacher", metavar="MODEL:GRADE:LENGTH", help="Trained here, before its student."),
    ] = "",
    teacher_run: Annotated[
        str,
        typer.Option("--teacher-run", metavar="RUN", help="A finished run that teaches instead, unchanged."),
    ] = "",
    teacher_learns: Annotated[
        bool, typer.Option("--teacher-learns", help="The model of --teacher-run goes on learning.")
    ] = False,
    together: Annotated[
        bool | None,
        typer.Option(
            "--together/--teacher-first",
            show_default="recipe",
            help="Train both in one pass, as the paper does, or the teacher to its end before its student.",
        ),
    ] = None,
    alone: Annotated[
        Path | None,
        typer.Option(
            "--alone",
            metavar="RUN",
            help="Run of the same student without a teacher: also show the gap that distillation closes.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", show_default="recipe", help="Divides both logits where the student learns."
        ),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option("--weight", show_default="recipe", help="Of what the student learns from the teacher."),
    ] = None,
    ramp: Annotated[
        float | None,
        typer.Option(
            "--ramp",
            min=0,
            max=1,
            show_default="recipe",
            help="Share of the steps over which the weight rises from 0; 0: it is constant.",
        ),
    ] = None,
    soft_labels: Annotated[
        Literal["evaluation", "training"] | None,
        typer.Option(
            "--soft-labels", show_default="recipe", help="Mode of the teacher that the student learns from."
        ),
    ] = None,
    unlabelled: Annotated[
        int | None,
        typer.Option(
            "--unlabelled",
            min=0,
            show_default="recipe",
            help="Candidates without a label, drawn for each request, that the teacher labels too.",
        ),
    ] = None,
    head: Annotated[
        Literal["same", "aux"] | None,
        typer.Option(
            "--head",
            show_default="same",
            help="aux: a second head learns from the teacher, and is not served.",
        ),
    ] = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    learning_rate: flags.LearningRate = None,
    recipe: Annotated[
        Literal["accurate", "fast", "paper"] | None,
        typer.Option(
            "--recipe",
            show_default="accurate",
            help="Decides all that is not set; fast costs accuracy, paper teaches by the letter.",
        ),
    ] = None,
    grouping: flags.Grouping = None,
    labels: flags.Labels = None,
    seed: flags.Seed = None,
    early_stopping: flags.EarlyStopping = None,
    validate_every: flags.ValidateEvery = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    precision: flags.Precision = None,
    file: flags.ConfigFile = None,
    sets: Sets = None,
    resume: flags.Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train a teacher and the student that it teaches, and save both.

    RUN/student and RUN/teacher are then runs like any other; what is served of the student holds nothing of
    the teacher.

    --set takes any option of the training of both (log_every, epochs.reset); after "student." or "teacher."
    an option of that model's training (student.optimizer.eps), and after "student.model." an option of the
    model itself; clickscale options MODEL lists them. A value of --set wins over a flag, a flag over
    --config. --learning-rate is that of both models.
    """
    from clickscale import workflow
    from clickscale.training.distill.distill_config import distill_config

    given = flags.given(
        {
            "temperature": temperature,
            "weight": weight,
            "ramp": ramp,
            "soft_labels": soft_labels,
            "unlabelled": unlabelled,
            "teacher_learns": teacher_learns or None,
            "teacher_first": None if together is None else not together,
            "head": head,
            "epochs.count": epochs,
            "batch_size": batch_size,
            "student.optimizer.learning_rate": learning_rate,
            "teacher.optimizer.learning_rate": learning_rate if teacher or teacher_learns else None,
            "recipe": recipe,
            "grouping": grouping,
            "labels": labels,
            "seed": seed,
            "early_stopping": early_stopping,
            "validate_every": validate_every,
            "device": device,
            "threads": threads,
            "precision": precision,
        }
    )
    config = distill_config(
        student, data, teacher=teacher, teacher_run=teacher_run, file=file, flags=given, sets=sets or []
    )
    if alone:
        workflow.run_options(alone)  # a wrong folder is refused before hours of training
    result = workflow.distill(config, out, resume=resume, progress=False if as_json else None)
    if not result.finished:
        return stopped(out, result, as_json)
    folders = workflow.distilled_runs(out)
    results = {
        folder.name: validation_results(folder, f"{folder.name} {workflow.run_options(folder)['model']}")
        for folder in folders
    }
    rows = [result for of_model in results.values() for result in of_model]
    closed = workflow.gaps_of(folders[0], alone, "valid") if alone and rows else {}
    if as_json:
        valid = {name: documents(of_model) for name, of_model in results.items() if of_model}
        gap = {"gap_closed": closed} if closed else {}
        emit({"run": str(out), "finished": True, **training(result), "valid": valid, **gap})
        return 0
    if rows:
        show(results_grid(f"{out}, part valid", rows))
        say_warnings(rows)
    for label, shares in closed.items():
        told = "; ".join(f"{measure} {share['text']}" for measure, share in shares.items())
        say(f"gap to the teacher closed, label {label}: {told}")
    if rows and not closed:
        say("gap to the teacher closed: name a run of the same student alone with --alone")
    say(f"artifact: {folders[0] / 'artifact'}")
    say(f"next: clickscale evaluate {folders[0]}")
    return 0
