"""The verb ``benchmark``: train many models under one budget and write the table of the papers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson, Data, Sets, names
from clickscale.errors import ConfigError

_SHOWN = 9  # columns of a benchmark's table that a terminal shows: accuracy; the page has all


def benchmark_models(
    data: Data,
    models: Annotated[
        str,
        typer.Option("--models", metavar="M,M,...", help="Models, trees among them; all takes every one."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the benchmark.")],
    length: Annotated[
        int, typer.Option("--length", min=1, help="Behaviors that a candidate sees at most.")
    ] = 100,
    grade: Annotated[str, typer.Option("--grade", help="Size of the models, size-1 to size-5.")] = "size-2",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each model.")] = 3,
    rates: Annotated[
        str, typer.Option("--rates", metavar="R,R,...", help="Learning rates to choose from.")
    ] = "0.001,0.003",
    reference: Annotated[
        str, typer.Option("--reference", metavar="M", help="Model that the others are measured against.")
    ] = "din",
    label: Annotated[str, typer.Option("--label", help="Label to predict; the first one by default.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at the same time.")] = 1,
    sets: Sets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast the time only.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train models under one budget and write the table of the papers.

    All get the same width of embeddings, the same head and the same epochs; the learning rate of each is the
    best of a small grid by the validation part. A second table gives each the training operations of the
    reference. DIR holds benchmark.md, benchmark.json, benchmark.svg and an ordinary run for every cell. The
    same command continues a benchmark that was stopped or killed, and adds models or seeds to one.

    --set KEY=VALUE changes an option of all runs, --set MODEL.KEY=VALUE that of one model's.
    """
    from clickscale.benchmarking.benchmark import benchmark, forecast_benchmark
    from clickscale.benchmarking.benchmark_config import BenchmarkConfig

    config = BenchmarkConfig(
        data=str(data),
        models=names(models),
        reference=reference,
        grade=grade,
        length=length,
        label=label,
        seeds=seeds,
        rates=_rates(rates),
        sets=tuple(sets or ()),
    )
    if dry_run:
        return show_forecast(forecast_benchmark(config, out, jobs=jobs, say=say), as_json)
    found = benchmark(config, out, jobs=jobs, say=say)
    if as_json:
        from clickscale.benchmarking.benchmark_page import to_document

        emit(to_document(found))
    else:
        from clickscale.benchmarking.benchmark_page import HEADERS, cells_of

        for title, lines in (("equal budget", found.equal), ("compute matched", found.matched)):
            rows = [cells_of(line)[:_SHOWN] for line in lines]
            show(grid(f"{found.title}, {title}", HEADERS[:_SHOWN], rows))
    for name, why in found.failed.items():
        say(f"missing: {name}: {why}")
    say(f"{out / 'benchmark.md'}")
    return 1 if found.failed else 0


def _rates(text: str) -> tuple[float, ...]:
    """Learning rates of a comma-separated list.

    Raises:
        ConfigError: a part is not a number.
    """
    try:
        return tuple(float(part) for part in names(text))
    except ValueError:
        raise ConfigError(f"--rates is {text!r}; give numbers with commas, such as 0.001,0.003.") from None


def show_forecast(forecast: Any, as_json: bool, noun: str = "model") -> int:
    """Print a forecast line by line, each that of a ``noun``."""
    from clickscale.benchmarking.progress import duration

    if as_json:
        emit({"seconds": forecast.total, f"{noun}s": forecast.seconds, "runs": forecast.cells})
        return 0
    headers = (noun, "runs", "time, one at a time", "steps", "samples per CPU-second")
    rows = [
        (
            name,
            forecast.cells[name],
            duration(seconds),
            speed.steps if (speed := forecast.speeds.get(name)) else None,
            f"{1 / speed.cpu:,.0f}" if speed else None,
        )
        for name, seconds in forecast.seconds.items()
    ]
    show(grid(forecast.told(f"{noun}s"), headers, rows))
    return 0
