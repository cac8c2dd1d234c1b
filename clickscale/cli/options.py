"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change an option; may be given several times."),
]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="A prepared data set.")]
MaybeData = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="A prepared data set, if not that of the run.")
]
Grade = Annotated[str, typer.Option("--grade", help="Size of the model, size-1 to size-5.")]
Length = Annotated[int, typer.Option("--length", min=1, help="Behaviors that a candidate sees at most (L).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything that is random.")]
Statistics = Annotated[
    bool, typer.Option("--statistics/--no-statistics", help="Use the declared point-in-time statistics.")
]


def names(text: str) -> tuple[str, ...]:
    """Names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
