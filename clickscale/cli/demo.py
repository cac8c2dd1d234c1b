"""The verb ``demo``: from a public log to trained, compared and served models, with a page that shows it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Seed
from clickscale.cli.runs import say_warnings


def run_demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")] = Path(
        "clickscale-demo"
    ),
    source: Annotated[
        Path | None,
        typer.Option(
            "--source",
            envvar="CLICKSCALE_DEMO_SOURCE",
            help="A local folder or archive of MovieLens-100k instead of the network.",
        ),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files",
            metavar="DIR",
            help="Only write the example tables clicks.csv, items.csv and users.csv into DIR.",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Show everything on MovieLens-100k in a few minutes.

    Gets the log, prepares it, trains DIN, a student by itself, the student with its teacher, and boosted
    trees. Compares their accuracy and latency, scores a request with the distilled student as a server
    would, and writes a report page. Steps whose result is already in the folder are skipped.

    With --files nothing is trained: the small example log of the documents is written instead.
    """
    if files is not None:
        _write_tables(files, as_json)
        return
    from clickscale.demo import steps

    begun = time.monotonic()
    demo = steps.Demo(out, note=say, seed=seed)
    with Stages() as stages:  # closed before training, which shows a progress line of its own
        demo.prepare(source, progress=stages)
    try:
        outcome = demo.run()
    except steps.DemoStopped as stopped:
        raise typer.Exit(stopped.exit_code) from None
    seconds = time.monotonic() - begun
    if as_json:
        emit(outcome.to_dict() | {"seconds": seconds})
        return
    show(grid(*outcome.results_table()))
    say_warnings(outcome.results)
    typer.echo(f"{outcome.summary()}\n")
    show(grid(*outcome.ranking_table()))
    typer.echo(f"report: {outcome.page}\nseconds: {seconds:.0f}")


def _write_tables(folder: Path, as_json: bool) -> None:
    """Write the example tables and print their paths."""
    from clickscale.demo.example_log import write_example_log

    tables = write_example_log(folder)
    if as_json:
        emit({"files": [str(table) for table in tables]})
        return
    for table in tables:
        typer.echo(table)
    say(f"next: clickscale schema guess {' '.join(map(str, tables))} --out {folder / 'schema.toml'}")
