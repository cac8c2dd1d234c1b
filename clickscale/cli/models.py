"""Verbs about models without data: ``models``, ``options``, ``cost``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from clickscale.cli.console import emit, grid, show
from clickscale.cli.options import AsJson, Sets
from clickscale.config import LONGEST

MaybeLength = Annotated[
    int | None,
    typer.Option(
        "--length",
        min=1,
        max=LONGEST,
        help="Behaviors of the history; 100, or what the grade's paper counts on.",
    ),
]


def list_models(as_json: AsJson = False) -> None:
    """List the models, their grades and ideas."""
    from clickscale.models import describe, model_names, presets

    models = [
        {"name": name, "grades": sorted(presets(name)), "about": describe(name)} for name in model_names()
    ]
    if as_json:
        emit(models)
        return
    rows = [(model["name"], _grades(model["grades"]), model["about"]) for model in models]
    show(grid("Models", ("name", "grades", "about"), rows))


def _grades(names: Sequence[str]) -> str:
    """First and last of the sizes, then the grades with names of their own."""
    sizes = [name for name in names if name.startswith("size-")]
    return ", ".join([f"{sizes[0]} .. {sizes[-1]}", *(name for name in names if name not in sizes)])


def list_options(
    model: Annotated[str, typer.Argument(help="Also list the options of this model.")] = "",
    grade: Annotated[
        str, typer.Option("--grade", help="Size of the model whose defaults are shown.")
    ] = "size-2",
    as_json: AsJson = False,
) -> None:
    """List every option of training, its type, default and meaning.

    Each is a key of --set and of the TOML file of --config. With a model, its own options follow after
    "model."; without one, the options that only distill has.
    """
    from dataclasses import asdict

    from clickscale.training.option_list import distill_options, train_options

    options = train_options(model, grade) if model else [*train_options(), *distill_options()]
    if as_json:
        emit([asdict(option) for option in options])
        return
    rows = [(option.key, option.type, option.default, option.meaning) for option in options]
    show(grid("Options", ("key", "type", "default", "meaning"), rows))


def show_cost(
    model: Annotated[str, typer.Argument(help="Name of a model; clickscale models lists them.")],
    grade: Annotated[
        str, typer.Option("--grade", "--preset", help="Size of the model, or a model of its paper.")
    ] = "size-2",
    length: MaybeLength = None,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Items scored per request.")] = 60,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Use the fields of this prepared data set.")
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Count parameters and operations of a model.

    The operations are those of one request, two per multiply-add; look-ups and norms count nothing.
    Without --data, a made-up data set stands in: 5 profile fields, 5 fields per behavior, 2 context fields;
    for the grades paper, est-paper and est-blocks of EST, the features and the length of their paper.
    """
    from clickscale.workflow import model_cost

    overrides = [assignment.removeprefix("model.") for assignment in sets or ()]
    cost, length = model_cost(
        model, grade=grade, length=length, candidates=candidates, data=data, overrides=overrides
    )
    if as_json:
        emit({"model": model, "grade": grade, **cost.to_dict()})
        return
    rows = [
        ("dense parameters", cost.dense),
        ("embedding parameters", cost.embedding),
        ("user side, once per request", f"{cost.user / 1e6:,.3f} MFLOPs"),
        ("each candidate", f"{cost.candidate / 1e6:,.3f} MFLOPs"),
        (f"request of {candidates} candidates", f"{cost.total / 1e6:,.3f} MFLOPs"),
    ]
    show(grid(f"{model} {grade}, {length} behaviors", ("what", "amount"), rows))
