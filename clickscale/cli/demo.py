"""The verb ``demo``: from a public log to trained, compared and served models, with a page that shows it."""

import time
from importlib.util import find_spec
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
    trees. Compares their accuracy and latency, and scores a request with the distilled student as a server
    would. Trains a small ladder, SUAN on 1/16 to all of the data, and predicts its largest rung from the
    others. Writes a report page, and serves the student for one request over HTTP. Steps whose result is
    already in the folder are skipped.

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
    typer.echo(f"ladder: {outcome.ladder()}")
    typer.echo(f"report: {outcome.page}\nseconds: {seconds:.0f}")
    if find_spec("fastapi") is None:
        say("The server is not installed: pip install 'clickscale[serve]'")
        return
    artifact = demo.runs / "distillation" / "student" / "artifact"
    typer.echo(_served(artifact, out / "request.json"))
    typer.echo(f"next: clickscale serve {artifact}")


def _served(artifact: Path, request: Path) -> str:
    """Serve the artifact for one request over HTTP; a line about the answer."""
    import http.client
    import json

    from clickscale.serving.access import Access
    from clickscale.serving.run_server import serving_here
    from clickscale.serving.service import Service, ServiceConfig
    from clickscale.serving.versions.model_versions import Source

    service = Service(Source.of(artifact), ServiceConfig(drain_seconds=0.0), Access())
    with serving_here(service) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/v1/rank", request.read_bytes(), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
    scores = next(iter(answer["scores"].values()))
    return (
        f"served over HTTP: {request} gets {len(scores)} scores, the first {scores[0]:.4f}, from version"
        f" {answer['model']}"
    )


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
