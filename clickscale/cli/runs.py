"""Verbs about runs: ``train``, ``trees``, ``evaluate``, ``compare``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clickscale.cli import run_flags as flags
from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson, Data, MaybeData, Seed, Sets, Statistics
from clickscale.config import LONGEST

Part = Annotated[Literal["train", "valid", "test"], typer.Option("--part", help="Part of the split.")]
Bootstrap = Annotated[
    int, typer.Option("--bootstrap", min=0, help="Resamples of the users for intervals; 0: none.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]


def train_model(
    model: Annotated[str, typer.Argument(help="Name of a model; clickscale models lists them.")],
    data: Data,
    out: flags.Out,
    grade: flags.Grade = None,
    length: flags.Length = None,
    epochs: flags.Epochs = None,
    batch_size: flags.BatchSize = None,
    learning_rate: flags.LearningRate = None,
    recipe: flags.Recipe = None,
    grouping: flags.Grouping = None,
    labels: flags.Labels = None,
    seed: flags.Seed = None,
    early_stopping: flags.EarlyStopping = None,
    validate_every: flags.ValidateEvery = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    precision: flags.Precision = None,
    warm_start: Annotated[
        str | None,
        typer.Option("--warm-start", metavar="RUN", help="Begin with the weights of an earlier run."),
    ] = None,
    file: flags.ConfigFile = None,
    sets: Sets = None,
    resume: flags.Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train a model and save its artifact.

    The folder also gets the metrics of the validation part; clickscale evaluate measures the test part.

    --set takes any option of training (optimizer.schedule.warmup) and, after "model.", any option of the
    model; clickscale options MODEL lists them. A value of --set wins over a flag, a flag over --config.
    """
    from clickscale.training.run.run_config import train_config
    from clickscale.workflow import train

    given = flags.given(
        {
            "grade": grade,
            "length": length,
            "epochs.count": epochs,
            "batch_size": batch_size,
            "optimizer.learning_rate": learning_rate,
            "recipe": recipe,
            "grouping": grouping,
            "labels": labels,
            "seed": seed,
            "early_stopping": early_stopping,
            "validate_every": validate_every,
            "device": device,
            "threads": threads,
            "precision": precision,
            "warm_start": warm_start,
        }
    )
    config = train_config(model, data, file=file, flags=given, sets=sets or [])
    result = train(config, out, resume=resume, progress=False if as_json else None)
    if not result.finished:
        return stopped(out, result, as_json)
    results = validation_results(out)
    if as_json:
        emit({"run": str(out), "finished": True, **training(result), "valid": documents(results)})
        return 0
    if results:
        show(results_grid(f"{out}, part valid", results))
        say_warnings(results)
    say(f"artifact: {out / 'artifact'}")
    say(f"next: clickscale evaluate {out}")
    return 0


def validation_results(run: Path, name: str = "") -> list[Any]:
    """Results of a run on its validation part; none if the data set has none."""
    from clickscale.workflow import run_results

    return run_results(run, "valid", name) if (run / "evaluation-valid.json").is_file() else []


def stopped(out: Path, result: Any, as_json: bool) -> int:
    """Say that a signal stopped a run and how it continues; returns the exit code of the signal."""
    say(f"stopped after step {result.step}; continue with --resume")
    if as_json:
        emit({"run": str(out), "finished": False, **training(result)})
    return int(result.exit_code)


def training(result: Any) -> dict[str, Any]:
    """Facts about a training for machines."""
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
    from clickscale.report.results import HEADERS, cells, footnotes, with_simple

    several = len({result.label for result in results}) > 1
    headers = ("label", *HEADERS) if several else HEADERS
    rows = [(r.label, *cells(r)) if several else cells(r) for r in with_simple(results)]
    return grid(title, headers, rows, footnotes(told for result in results for told in result.shown))


def say_warnings(results: Any) -> None:
    """Print the warnings of results, each once, with the name of the model if there are several."""
    several = len({result.name for result in results}) > 1
    found = [(f"{r.name}: " if several else "") + warning for r in results for warning in r.warnings]
    for warning in dict.fromkeys(found):
        say(f"warning: {warning}")


def train_trees(
    data: Data,
    out: flags.Out,
    label: Annotated[str, typer.Option("--label", help="Label to predict; the first one by default.")] = "",
    seed: Seed = 0,
    statistics: Statistics = True,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the training part to fit to.")
    ] = 1.0,
    by: Annotated[
        Literal["time", "users"],
        typer.Option("--by", help="A share of the newest impressions, or of users with all that they saw."),
    ] = "time",
    as_json: AsJson = False,
) -> None:
    """Fit gradient-boosted trees to the same data.

    They use point-in-time features only, and stand in every table of results.
    """
    from clickscale import workflow
    from clickscale.data.portion import Portion

    portion = Portion(fraction=fraction, by=by)
    facts = workflow.train_trees(data, out, label=label, seed=seed, statistics=statistics, portion=portion)
    results = workflow.run_results(out, "test")
    if as_json:
        emit({"run": str(out), **facts, "test": documents(results)})
        return
    show(results_grid(f"{out}, part test", results))
    say_warnings(results)
    say(f"features beyond the fields and the declared statistics: {', '.join(facts['beyond']) or 'nothing'}")


def evaluate_run(
    run: Run,
    data: MaybeData = None,
    part: Part = "test",
    grouping: Annotated[
        Literal["timeline", "request", "impression"],
        typer.Option("--grouping", help="How impressions are batched; request is as served."),
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

    AUC, GAUC, request AUC, log-loss and calibration, with 95% intervals, beside the constant rate and item
    popularity of the training part. Warns of what makes the numbers worth little.
    The run's folder keeps predictions-PART.safetensors and evaluation-PART.json.
    """
    from clickscale.workflow import evaluate

    report = evaluate(run, data=data, part=part, grouping=grouping, slack=slack, bootstrap=bootstrap)
    if as_json:
        emit({"run": str(run), **report.to_dict()})
        return
    show(_report_grid(f"{run}, part {part}, grouping {report.grouping}", report))
    for against in report.to_dict().get("regret", ()):
        show(_regret_grid(str(run), against))
    if slices:
        for label in report.labels:
            for name, slices_of_label in label.slices.items():
                show(_slices_grid(f"{label.label} by {name}", slices_of_label))
    for warning in report.warnings:
        say(f"warning: {warning}")
    _say_notes([run])


def _report_grid(title: str, report: Any) -> Any:
    from clickscale.evaluation.measures import METRICS
    from clickscale.evaluation.sanity import TITLES
    from clickscale.report.results import footnotes, with_interval

    headers = ("label", "impressions", "positives", *(metric.title for metric in METRICS))
    rows = []
    for label in report.labels:
        counts = label.rows, label.positives
        rows.append((label.label, *counts, *map(with_interval, label.metrics.values())))
        rows += [
            (f"{label.label}: {TITLES[name]}", *counts, *simple.metrics.values())
            for name, simple in label.simple.items()
        ]
    told = [(m.title, label.metrics[m.name]) for m in METRICS for label in report.labels]
    return grid(title, headers, rows, footnotes(told))


def _regret_grid(run: str, regret: Any) -> Any:
    from clickscale.report.results import REGRET_HEADERS, regret_cells, regret_sentence

    title = f"{regret['label']} against the true probabilities"
    return grid(title, REGRET_HEADERS, [regret_cells(run, regret)], [regret_sentence(regret)])


def _slices_grid(title: str, slices: Any) -> Any:
    from clickscale.evaluation.measures import METRICS

    headers = ("slice", "impressions", "positives", *(m.title for m in METRICS if not m.biased))
    rows = [(part.name, part.rows, part.positives, *part.metrics.values()) for part in slices]
    return grid(title, headers, rows, (f"{part.name}: {part.reason}" for part in slices if part.reason))


def _say_notes(runs: list[Path]) -> None:
    """Print the notes of the data sets of runs, each once."""
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

    All must be evaluated on the same impressions; seeds of one model are pooled. The last lines are the
    constant rate and item popularity of the training part.
    p (users) resamples users on the first shared seed; p (seeds) is a paired t-test over shared seeds.
    """
    from clickscale.report import comparison
    from clickscale.workflow import entrant

    entrants = [entrant(run, part) for run in runs]
    lines = comparison.compare(entrants, bootstrap=bootstrap)
    footnotes = [*comparison.footnotes(lines), *comparison.missing_for_gap(entrants)]
    warnings = _warnings_of(entrants)
    groupings = list(dict.fromkeys(one.predictions.grouping for one in entrants))
    if as_json:
        import msgspec

        found = {
            "models": [msgspec.to_builtins(line) for line in lines if line.seeds],
            "simple": [msgspec.to_builtins(line) for line in lines if not line.seeds],
        }
        about = {"part": part, "groupings": groupings, "base": str(runs[0])}
        emit(about | found | {"footnotes": footnotes, "warnings": warnings})
        return
    several = len({line.label for line in lines}) > 1
    headers, rows = comparison.table(lines)
    if several:
        headers = ("label", *headers)
        rows = [(line.label, *row) for line, row in zip(lines, rows, strict=True)]
    title = f"part {part}, grouping {' and '.join(groupings)}, against {lines[0].name}"
    show(grid(title, headers, rows, footnotes))
    for warning in warnings:
        say(f"warning: {warning}")
    _say_notes(runs)


def _warnings_of(entrants: Any) -> list[str]:
    """Warnings of the evaluations of all runs, and of a first run that nothing stands beside."""
    found = [
        f"{entrant.run}: {warning}"
        for entrant in entrants
        for warning in dict.fromkeys(w for result in entrant.results for w in result.warnings)
    ]
    first = entrants[0]
    if not any(result.simple for result in first.results):
        found.append(
            f"{first.run}: its evaluation lacks the constant rate and item popularity; make it again with its"
            f" data set: clickscale evaluate {first.run} --part {first.predictions.part} --data DIR"
        )
    return found
