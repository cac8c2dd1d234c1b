"""Options that verbs of several files share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from clickscale.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change an option; may be given several times."),
]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="A prepared data set.")]
MaybeData = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="A prepared data set, if not that of the run.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything that is random.")]
Statistics = Annotated[
    bool, typer.Option("--statistics/--no-statistics", help="Use the declared point-in-time statistics.")
]


def names(text: str) -> tuple[str, ...]:
    """Names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def check_folder(out: Path | None, files: Iterable[str], overwrite: bool) -> None:
    """Refuse a folder into which ``files`` cannot be written, before anything is computed.

    Raises:
        InputError: it is a file, or holds one of the files and none may be replaced.
    """
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose a folder.")
    held = [name for name in files if (out / name).exists()]
    if held and not overwrite:
        raise InputError(f"{out} holds {', '.join(held)}; choose another folder or give --overwrite.")
