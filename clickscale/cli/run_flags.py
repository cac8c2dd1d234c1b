"""Flags of ``train`` and ``distill``: the options of a run that people change most.

A flag that is not given is None, so that the value of ``--config`` stays. The defaults that help shows are
those of `clickscale.training.run.run_config`, which this file does not import, so that help stays instant; a
test compares the two.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clickscale.cli.options import names
from clickscale.config import LONGEST

Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in RUN.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file of options, with the keys of --set; flags and --set win."
    ),
]
Grade = Annotated[
    str | None,
    typer.Option("--grade", show_default="size-2", help="Size of the model, size-1 to size-5."),
]
Length = Annotated[
    int | None,
    typer.Option(
        "--length",
        min=1,
        max=LONGEST,
        show_default="100",
        help="Behaviors that a candidate sees at most.",
    ),
]
Recipe = Annotated[
    Literal["accurate", "fast"] | None,
    typer.Option(
        "--recipe",
        show_default="accurate",
        help="Decides all that is not set; fast trains several times faster and costs accuracy.",
    ),
]
Grouping = Annotated[
    Literal["auto", "timeline", "request", "impression"] | None,
    typer.Option(
        "--grouping", show_default="auto", help="How impressions are batched; auto leaves it to the recipe."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels", show_default="the first one", help="Labels to train, separated by commas: click,like."
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, show_default="0", help="Of everything that is random.")
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, show_default="recipe", help="Passes over the training part, at most."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, show_default="recipe", help="Impressions in a batch."),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--learning-rate", show_default="recipe", help="Learning rate of the dense weights."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option("--device", show_default="auto", help="Where to train; auto takes a GPU if there is one."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=0, show_default="0", help="Threads per operation; 0 lets clickscale choose."
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option("--precision", show_default="fp32", help="Of the forward pass; weights stay float32."),
]
EarlyStopping = Annotated[
    bool | None,
    typer.Option(
        "--early-stopping/--no-early-stopping",
        show_default="early-stopping",
        help="Stop when the validation loss no longer falls, and keep the best weights.",
    ),
]
ValidateEvery = Annotated[
    int | None,
    typer.Option(
        "--validate-every",
        min=0,
        show_default="recipe",
        help="Steps between two measurements of the validation part.",
    ),
]


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, by the key of their option."""
    given = {key: value for key, value in flags.items() if value is not None}
    return given | ({"labels": list(names(given["labels"]))} if "labels" in given else {})
