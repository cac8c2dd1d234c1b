"""The verb ``distill``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clickscale.cli.console import emit, say, show
from clickscale.cli.options import AsJson, Data, Seed, Sets, names
from clickscale.cli.runs import (
    Batched,
    Labels,
    Out,
    Recipe,
    Resume,
    documents,
    results_grid,
    stopped,
    training,
)

if TYPE_CHECKING:
    from clickscale.training.distillation import DistillConfig


def distill_config(given: dict[str, Any], student: str, teacher: str, sets: list[str]) -> "DistillConfig":
    """Options of a distillation; ``student.`` and ``teacher.`` lead to those of one model.

    After them, ``model.KEY=VALUE`` changes the model and any other ``KEY=VALUE`` its training.
    """
    import msgspec

    from clickscale.config import build, override
    from clickscale.training.distillation import DistillConfig, parse_choice

    _refuse_lost(teacher, sets)
    tree = dict(given)
    for name, text in (("student", student), ("teacher", teacher)):
        if text:
            start = f"{name}.model."
            options = [each.removeprefix(start) for each in sets if each.startswith(start)]
            tree[name] = msgspec.to_builtins(parse_choice(text)) | {"model_options": options}
    rest = [each for each in sets if not each.startswith(("student.model.", "teacher.model."))]
    return override(build(DistillConfig, tree, "the options"), rest)


def _refuse_lost(teacher: str, sets: list[str]) -> None:
    """Refuse options that would not reach any model."""
    from clickscale.errors import ConfigError

    for text in sets:
        if text.startswith("teacher.") and not teacher:
            raise ConfigError(f"The teacher of --teacher-run is not trained here; leave out --set {text}.")
        if text.startswith(("optimizer.", "model.")):
            raise ConfigError(f"Say whose option {text} is: --set student.{text} or --set teacher.{text}.")


def distill_models(
    data: Data,
    out: Out,
    student: Annotated[
        str, typer.Option("--student", metavar="MODEL:GRADE:LENGTH", help="Such as lightsuan:size-2:100.")
    ],
    teacher: Annotated[
        str,
        typer.Option("--teacher", metavar="MODEL:GRADE:LENGTH", help="Trained together with the student."),
    ] = "",
    teacher_run: Annotated[
        str,
        typer.Option("--teacher-run", metavar="RUN", help="A finished run that teaches instead, unchanged."),
    ] = "",
    temperature: Annotated[
        float, typer.Option("--temperature", help="Divides both logits where the student learns.")
    ] = 2.0,
    weight: Annotated[
        float, typer.Option("--weight", help="Of what the student learns from the teacher.")
    ] = 2.0,
    head: Annotated[
        Literal["same", "aux"],
        typer.Option("--head", help="aux: a second head learns from the teacher, and is not served."),
    ] = "same",
    recipe: Recipe = "accurate",
    grouping: Batched = "auto",
    labels: Labels = "",
    seed: Seed = 0,
    sets: Sets = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train a student together with its teacher, and save both.

    RUN/student and RUN/teacher are then runs like any other; what is served of the student holds nothing of
    the teacher.

    --set takes any option of the training of both (batch_size, epochs.count); after "student." or "teacher."
    an option of that model's training (student.optimizer.learning_rate), and after "student.model." an option
    of the model itself.
    """
    from clickscale import workflow

    given: dict[str, Any] = {"data": str(data), "grouping": grouping, "labels": names(labels), "seed": seed}
    given |= {
        "recipe": recipe,
        "temperature": temperature,
        "weight": weight,
        "head": head,
        "teacher_run": teacher_run,
    }
    config = distill_config(given, student, teacher, sets or [])
    result = workflow.distill(config, out, resume=resume, progress=False if as_json else None)
    if not result.finished:
        return stopped(out, result, as_json)
    folders = workflow.distilled_runs(out)
    found = {
        folder.name: workflow.run_results(
            folder, "valid", f"{folder.name} {workflow.run_options(folder)['model']}"
        )
        for folder in folders
        if (folder / "evaluation-valid.json").is_file()
    }
    if as_json:
        valid = {name: documents(results) for name, results in found.items()}
        emit({"run": str(out), "finished": True, **training(result), "valid": valid})
        return 0
    if found:
        show(results_grid(f"{out}, part valid", [each for results in found.values() for each in results]))
    say(f"artifact: {folders[0] / 'artifact'}")
    say(f"next: clickscale evaluate {folders[0]}")
    return 0
