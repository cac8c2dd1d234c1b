"""The verb ``demo``: from a public log to trained, compared and served models, with a page that shows it."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Seed
from clickscale.demo import steps
from clickscale.demo.steps import ALONE, CANDIDATES, DIN, LOG, STUDENT, TAUGHT

if TYPE_CHECKING:
    from clickscale.data.dataset import Dataset
    from clickscale.report.results import Result
    from clickscale.training.run_state import RunResult


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

    Gets the log, prepares it, trains DIN, a student alone, the student with its teacher, and boosted trees,
    compares them in accuracy and latency, scores a request with the distilled student as it is served, and
    writes a report page. What is already in the folder is not done again.
    """
    begun = time.monotonic()
    data = prepared(out, source)
    runs = trained(out, data, seed)
    from clickscale.data.dataset import open_dataset
    from clickscale.demo.demo_page import HEADERS, MEANING, cells, measured, scored_request, write_report
    from clickscale.report.results import to_dict, verdict
    from clickscale.workflow import run_results

    results: list[Result] = [
        result for name, run in runs.items() for result in run_results(run, "test", name)
    ]
    dataset = open_dataset(data)
    say(f"measuring the latency of {CANDIDATES} candidates")
    latencies = measured(runs)
    say(f"scoring a request with the saved artifact of the {TAUGHT}")
    scored = scored_request(dataset, runs[TAUGHT] / "artifact", out)
    page = write_report(out, dataset, runs, results, latencies, scored)
    if as_json:
        document: dict[str, Any] = {
            "results": [to_dict(result) | {"latency": latencies.get(result.name)} for result in results],
            "request": scored,
        }
        emit(document | {"report": str(page), "seconds": time.monotonic() - begun})
        return
    show(grid(_title(dataset), HEADERS, [cells(result, latencies) for result in results]))
    typer.echo(f"{verdict(results)} {MEANING}\n")
    show(grid(f"User {scored['user']}: the {TAUGHT}'s ranking of one request", *_ranking(scored)))
    typer.echo(f"report: {page}\nseconds: {time.monotonic() - begun:.0f}")


def prepared(out: Path, source: Path | None) -> Path:
    """The prepared log below ``out``, made if it is not there."""
    from clickscale.data.adapters import open_source
    from clickscale.data.preparation.prepare import prepare

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


def trained(out: Path, data: Path, seed: int) -> dict[str, Path]:
    """Folders of all evaluated runs by name; a run that was stopped is continued."""
    together = out / "runs" / "distillation"
    runs = {"din": out / "runs" / "din", ALONE: out / "runs" / "student"}
    runs |= {TAUGHT: together / "student", "teacher": together / "teacher"}
    _train(DIN, data, runs["din"], seed)
    _train(STUDENT, data, runs[ALONE], seed)
    _distill(data, together, seed)
    _evaluate(runs)
    return runs | boosted_trees(data, out / "runs" / "trees", seed)


def boosted_trees(data: Path, run: Path, seed: int) -> dict[str, Path]:
    """The evaluated trees by name, made if they are not there; nothing without LightGBM, which is said."""
    if importlib.util.find_spec("lightgbm") is None:
        say("LightGBM is not installed, so the trees are left out: pip install 'clickscale[trees]'")
        return {}
    if not (run / "evaluation-test.json").is_file():
        from clickscale.workflow import train_trees

        say("training boosted trees")
        train_trees(data, run, seed=seed)
    return {"trees": run}


def _train(model: str, data: Path, run: Path, seed: int) -> None:
    """Train one model, unless that is done."""
    from clickscale.training.run.config import train_config
    from clickscale.workflow import train

    if (run / "artifact").is_dir():
        return
    say(f"training {model}")
    name, grade, length = model.split(":")
    flags = {"grade": grade, "length": int(length), "seed": seed}
    config = train_config(name, data, flags=flags, sets=steps.OPTIONS)
    _finished(train(config, run, resume=True))


def _distill(data: Path, run: Path, seed: int) -> None:
    """Train the student with its teacher, unless that is done."""
    from clickscale.training.distill_config import distill_config
    from clickscale.workflow import distill

    if (run / "teacher" / "artifact").is_dir():
        return
    say(f"training {STUDENT} together with its teacher {steps.TEACHER}")
    flags = {"seed": seed}
    config = distill_config(STUDENT, data, teacher=steps.TEACHER, flags=flags, sets=steps.DISTILLATION)
    _finished(distill(config, run, resume=True))


def _finished(result: "RunResult") -> None:
    """End the demo where a signal ended the training."""
    if not result.finished:
        raise typer.Exit(result.exit_code)


def _evaluate(runs: Mapping[str, Path]) -> None:
    """Measure runs on the test part, unless that is done."""
    from clickscale.workflow import evaluate

    for run in runs.values():
        if not (run / "evaluation-test.json").is_file():
            evaluate(run)


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
