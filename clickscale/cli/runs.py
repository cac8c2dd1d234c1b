"""Verbs about runs: ``train``, ``trees``, ``evaluate``, ``compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import (
    AsJson,
    Data,
    Grade,
    Length,
    MaybeData,
    Seed,
    Sets,
    Statistics,
    names,
)
from clickscale.config import LONGEST, build, override

if TYPE_CHECKING:
    from clickscale.training.run.folder import TrainConfig

Grouping = Literal["timeline", "request", "impression"]
Part = Annotated[Literal["train", "valid", "test"], typer.Option("--part", help="Part of the split.")]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", min=0, help="Resamples of the users for intervals; 0: none.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")]
Batched = Annotated[
    Literal["auto", "timeline", "request", "impression"],
    typer.Option("--grouping", help="How impressions are batched; auto lets the recipe choose."),
]
Recipe = Annotated[
    Literal["accurate", "fast"],
    typer.Option("--recipe", help="What decides all that is not set; fast costs accuracy."),
]
Labels = Annotated[str, typer.Option("--labels", help="Labels to train, such as click,like; one by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in RUN.")]


def train_config(given: dict[str, Any], labels: str, sets: list[str]) -> "TrainConfig":
    """Options of a run; ``model.KEY=VALUE`` changes the model, any other ``KEY=VALUE`` the training."""
    from clickscale.training.run.folder import TrainConfig

    given = given | {"labels": names(labels)}
    given["model_options"] = [text.removeprefix("model.") for text in sets if text.startswith("model.")]
    return override(build(TrainConfig, given, "the options"), [t for t in sets if not t.startswith("model.")])


def train_model(
    model: Annotated[str, typer.Argument(help="Name of a model; clickscale models lists them.")],
    data: Data,
    out: Out,
    grade: Grade = "size-2",
    length: Length = 100,
    recipe: Recipe = "accurate",
    grouping: Batched = "auto",
    labels: Labels = "",
    seed: Seed = 0,
    sets: Sets = None,
    warm_start: Annotated[
        str, typer.Option("--warm-start", metavar="RUN", help="Begin with the weights of an earlier run.")
    ] = "",
    resume: Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train a model and save its artifact.

    The folder also gets the metrics of the validation part; clickscale evaluate measures the test part.

    --set takes any option of training (optimizer.learning_rate, epochs.count) and, after "model.", any option
    of the model.
    """
    from msgspec.structs import replace

    from clickscale.workflow import run_results, train

    given = {"model": model, "data": str(data), "grade": grade, "length": length, "seed": seed}
    config = train_config(given | {"recipe": recipe, "grouping": grouping}, labels, sets or [])
    config = replace(config, warm_start=warm_start or config.warm_start)
    result = train(config, out, resume=resume, progress=False if as_json else None)
    if not result.finished:
        return stopped(out, result, as_json)
    results = run_results(out, "valid") if (out / "evaluation-valid.json").is_file() else []
    if as_json:
        emit({"run": str(out), "finished": True, **training(result), "valid": documents(results)})
        return 0
    if results:
        show(results_grid(f"{out}, part valid", results))
    say(f"artifact: {out / 'artifact'}")
    say(f"next: clickscale evaluate {out}")
    return 0


def stopped(out: Path, result: Any, as_json: bool) -> int:
    """Say that a signal stopped a run and how it goes on; the exit code that belongs to the signal."""
    say(f"stopped after step {result.step}; continue with --resume")
    if as_json:
        emit({"run": str(out), "finished": False, **training(result)})
    return int(result.exit_code)


def training(result: Any) -> dict[str, Any]:
    """What training did, for machines."""
    return {
        "step": result.step,
        "samples": result.samples,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "samples_per_second": result.samples_per_second,
        "skipped": result.skipped,
    }


def documents(results: Any) -> list[dict[str, Any]]:
    """Results for machines."""
    from clickscale.report.results import to_dict

    return [to_dict(result) for result in results]


def results_grid(title: str, results: Any) -> Any:
    """A table of results, with their label where there are several."""
    from clickscale.report.results import HEADERS, cells

    several = len({result.label for result in results}) > 1
    headers = ("label", *HEADERS) if several else HEADERS
    return grid(title, headers, [(r.label, *cells(r)) if several else cells(r) for r in results])


def train_trees(
    data: Data,
    out: Out,
    label: Annotated[str, typer.Option("--label", help="Label to predict; the first one by default.")] = "",
    seed: Seed = 0,
    statistics: Statistics = True,
    as_json: AsJson = False,
) -> None:
    """Fit gradient-boosted trees to the same data.

    They use point-in-time features only, and stand in every table of results.
    """
    from clickscale import workflow

    facts = workflow.train_trees(data, out, label=label, seed=seed, statistics=statistics)
    results = workflow.run_results(out, "test")
    if as_json:
        emit({"run": str(out), **facts, "test": documents(results)})
        return
    show(results_grid(f"{out}, part test", results))
    say(f"made beyond the fields and the declared statistics: {', '.join(facts['beyond']) or 'nothing'}")


def evaluate_run(
    run: Run,
    data: MaybeData = None,
    part: Part = "test",
    grouping: Annotated[
        Grouping, typer.Option("--grouping", help="How impressions are batched; request is as served.")
    ] = "request",
    slack: Annotated[
        int,
        typer.Option(
            "--slack",
            min=0,
            max=LONGEST,
            help="Replay a server that appends so many behaviors to states.",
        ),
    ] = 0,
    bootstrap: Bootstrap = 200,
    slices: Annotated[bool, typer.Option("--slices", help="Also show every slice.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a run on a part of its data.

    AUC, GAUC, log-loss and calibration, with 95% intervals over users.
    The run's folder keeps predictions-PART.safetensors and evaluation-PART.json.
    """
    from clickscale.workflow import evaluate

    report = evaluate(run, data=data, part=part, grouping=grouping, slack=slack, bootstrap=bootstrap)
    if as_json:
        emit({"run": str(run), **report.to_dict()})
        return
    show(_report_grid(f"{run}, part {part}, grouping {report.grouping}", report))
    if slices:
        for label in report.labels:
            for name, found in label.slices.items():
                show(_slices_grid(f"{label.label} by {name}", found))
    _say_notes([run])


def _report_grid(title: str, report: Any) -> Any:
    from clickscale.report.results import with_interval

    headers = ("label", "impressions", "positives", "AUC", "GAUC", "log-loss", "PCOC", "ECE")
    rows = [
        (x.label, x.rows, x.positives, *map(with_interval, (x.auc, x.gauc, x.log_loss, x.pcoc, x.ece)))
        for x in report.labels
    ]
    return grid(title, headers, rows)


def _slices_grid(title: str, found: Any) -> Any:
    headers = ("slice", "impressions", "positives", "AUC", "GAUC", "log-loss", "PCOC")
    return grid(
        title, headers, [(x.name, x.rows, x.positives, x.auc, x.gauc, x.log_loss, x.pcoc) for x in found]
    )


def _say_notes(runs: list[Path]) -> None:
    """Repeat what every report of results on this data has to say, once."""
    from clickscale.workflow import run_notes

    for note in dict.fromkeys(note for run in runs for note in run_notes(run)):
        say(f"note: {note}")


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs; the first is the base.")],
    part: Part = "test",
    bootstrap: Bootstrap = 200,
    as_json: AsJson = False,
) -> None:
    """Test runs against the first one.

    All must be evaluated on the same impressions; seeds of one model are pooled.
    p (users) resamples users on the first shared seed; p (seeds) is a paired t-test over shared seeds.
    """
    from clickscale.report import comparison
    from clickscale.workflow import entrant

    entrants = [entrant(run, part) for run in runs]
    lines = comparison.compare(entrants, bootstrap=bootstrap)
    groupings = list(dict.fromkeys(each.predictions.grouping for each in entrants))
    if as_json:
        import msgspec

        models = [msgspec.to_builtins(line) for line in lines]
        emit({"part": part, "groupings": groupings, "base": str(runs[0]), "models": models})
        return
    several = len({line.label for line in lines}) > 1
    headers = ("label", *comparison.HEADERS) if several else comparison.HEADERS
    rows = [(line.label, *comparison.cells(line)) if several else comparison.cells(line) for line in lines]
    title = f"part {part}, grouping {' and '.join(groupings)}, against {lines[0].name}"
    show(grid(title, headers, rows))
    _say_notes(runs)
