"""The verb ``demo``: from a public log to trained, compared and served models, with a page that shows it."""

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Seed

if TYPE_CHECKING:
    from clickscale.data.dataset import Dataset
    from clickscale.report.results import Result

LOG = "movielens-100k"
MODELS = ("din", "suan")
# The log is so small that one epoch is 80 default steps. Chosen by the log-loss of the validation part.
OPTIONS = ("samples=512", "epochs.count=3")


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
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Show everything on MovieLens-100k in a few minutes.

    Gets the log, prepares it, trains DIN, SUAN and the yardstick, compares them, scores a request with the
    saved artifact and writes a report page. What is already in the folder is not done again.
    """
    begun = time.monotonic()
    data = prepared(out, source)
    runs = trained(out, data, seed)
    from clickscale.cli.demo_page import scored_request, write_report
    from clickscale.data.dataset import open_dataset
    from clickscale.report.results import HEADERS, cells, to_dict, verdict
    from clickscale.runs import run_results

    results: list[Result] = [result for run in runs for result in run_results(run)]
    dataset = open_dataset(data)
    say("scoring a request with the saved artifact of suan")
    scored = scored_request(dataset, out / "runs" / "suan" / "artifact", out)
    page = write_report(out, dataset, runs, results, scored)
    if as_json:
        document: dict[str, Any] = {"results": [to_dict(result) for result in results], "request": scored}
        emit(document | {"report": str(page), "seconds": time.monotonic() - begun})
        return
    show(grid(_title(dataset), HEADERS, [cells(result) for result in results]))
    typer.echo(verdict(results) + "\n")
    show(grid(f"User {scored['user']}: suan's ranking of one request", *_ranking(scored)))
    typer.echo(f"report: {page}\nseconds: {time.monotonic() - begun:.0f}")


def prepared(out: Path, source: Path | None) -> Path:
    """The prepared log below ``out``, made if it is not there."""
    from clickscale.data.adapters import open_source
    from clickscale.data.prepare import prepare

    data = out / "prepared"
    if (data / "manifest.json").is_file():
        say(f"{data} is there")
        return data
    raw = out / "ml-100k"
    if not raw.is_dir():
        from clickscale.data.fetch import get

        say(f"getting {LOG}")
        get(LOG, raw, source)
    with Stages() as stages:
        prepare(open_source(LOG, raw), data, progress=stages)
    return data


def trained(out: Path, data: Path, seed: int) -> list[Path]:
    """Folders of all evaluated runs; a run that was stopped is continued."""
    from clickscale.cli.runs import train_config
    from clickscale.runs import evaluate, train, train_yardstick

    runs = [out / "runs" / name for name in MODELS]
    for name, run in zip(MODELS, runs, strict=True):
        if not (run / "evaluation-test.json").is_file():
            say(f"training {name}")
            result = train(
                train_config(name, data, "size-2", 100, "timeline", "", seed, list(OPTIONS)), run, resume=True
            )
            if not result.finished:
                raise typer.Exit(result.exit_code)
            evaluate(run)
    trees = out / "runs" / "trees"
    if importlib.util.find_spec("lightgbm") is None:
        say("LightGBM is not installed, so the trees are left out: pip install 'clickscale[yardstick]'")
        return runs
    if not (trees / "evaluation-test.json").is_file():
        say("training the yardstick (trees)")
        train_yardstick(data, trees, seed=seed)
    return [*runs, trees]


def _title(dataset: "Dataset") -> str:
    test = len(dataset.part("test"))
    return f"{LOG}, test part: {test:,} impressions after all of training; intervals over users (95%)"


def _ranking(scored: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Headers and lines of a scored request."""
    headers = ("item", *scored["attributes"], "probability", "what happened")
    rows = [
        (
            str(line["item"]),
            *(str(line[name]) for name in scored["attributes"]),
            line["probability"],
            line["happened"],
        )
        for line in scored["ranking"]
    ]
    return headers, rows
