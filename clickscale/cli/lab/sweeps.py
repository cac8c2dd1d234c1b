"""The verb ``sweep``: train a grid of runs, from which scaling laws are fitted."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson, Sets, names
from clickscale.errors import ConfigError


def sweep_grid(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the sweep.")],
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="A prepared data set.")] = None,
    models: Annotated[str, typer.Option("--models", metavar="M,M,...", help="Names of models.")] = "",
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="RANGE", help="Sizes: size-1..size-4, or a list.")
    ] = "size-1..size-2",
    lengths: Annotated[
        str,
        typer.Option(
            "--lengths",
            metavar="RANGE",
            help="Behaviors that a candidate sees: 10,25,50; 25..200 doubles.",
        ),
    ] = "50",
    fractions: Annotated[
        str,
        typer.Option("--fractions", metavar="RANGE", help="Shares of the training data; 1/64..1 doubles."),
    ] = "1",
    by: Annotated[
        Literal["time", "users"],
        typer.Option("--by", help="A fraction is the newest impressions, or a sample of users."),
    ] = "time",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each combination.")] = 3,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            show_default="recipe, for all of the data",
            help="Passes of every run over its data, at most.",
        ),
    ] = None,
    part: Annotated[
        Literal["valid", "test"], typer.Option("--part", help="Part on which runs are measured.")
    ] = "test",
    label: Annotated[str, typer.Option("--label", help="Label to predict; the first one by default.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cells at the same time.")] = 1,
    cluster: Annotated[
        str,
        typer.Option("--cluster", metavar="ADDRESS", help="Run cells on a Ray cluster; local starts one."),
    ] = "",
    latency: Annotated[
        bool, typer.Option("--latency/--no-latency", help="Measure latencies when all cells are done.")
    ] = True,
    sets: Sets = None,
    cell: Annotated[
        str,
        typer.Option("--cell", metavar="NAME", help="Run one cell of the sweep in DIR, no other."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast time and cost only.")] = False,
    as_json: AsJson = False,
) -> int:
    """Train a grid of models, sizes, lengths, fractions of the data and seeds.

    Every cell is an ordinary run in DIR/cells; DIR/scaling.json holds the points. The same command continues
    a sweep that was stopped or killed, and other axes add cells to it. Without --models, the sweep in DIR
    continues as it was asked for.

    All cells take the same number of epochs: what the recipe takes on all of the data, unless --epochs says
    so. --set KEY=VALUE changes an option of all runs, --set MODEL.KEY=VALUE that of one model's.
    """
    from msgspec.structs import replace

    from clickscale.scaling.sweeps import sweep_ranges as ranges
    from clickscale.scaling.sweeps.sweep import forecast_sweep, sweep
    from clickscale.scaling.sweeps.sweep_cell import run_cell
    from clickscale.scaling.sweeps.sweep_config import SweepConfig, read_sweep

    if cell or not models:
        config = read_sweep(out)
        config = replace(config, data=str(data)) if data else config
    elif data is None:
        raise ConfigError("--models needs the prepared data set that they learn from; name it with --data.")
    else:
        config = SweepConfig(
            data=str(data),
            models=names(models),
            sizes=ranges.sizes_of(sizes),
            lengths=ranges.lengths_of(lengths),
            fractions=ranges.fractions_of(fractions),
            by=by,
            seeds=seeds,
            epochs=epochs or 0,
            part=part,
            label=label,
            latency=latency,
            sets=tuple(sets or ()),
        )
    if cell:
        return run_cell(config, config.cell(cell), out)
    if dry_run:
        return _show_forecast(forecast_sweep(config, out, jobs=jobs, cluster=cluster, say=say), as_json)
    found = sweep(config, out, jobs=jobs, cluster=cluster, say=say)
    if as_json:
        import msgspec

        emit(msgspec.to_builtins(found))
    else:
        show(_points_grid(f"{found.data}, part {found.part}", found))
    for name, why in found.failed.items():
        say(f"missing: {name}: {why}")
    say(f"{out / 'scaling.json'}")
    return 1 if found.failed else 0


def _points_grid(title: str, found: Any) -> Any:
    """Mean over seeds of every combination."""
    from statistics import fmean, stdev

    from clickscale.scaling.points import epochs_told

    groups: dict[tuple[Any, ...], list[Any]] = {}
    for one in found.cells:
        groups.setdefault((one.model, one.grade, one.length, one.impressions), []).append(one)
    told = ("model", "size", "length", "impressions", "epochs", "seeds")
    headers = (*told, "AUC", "±", "log-loss", "MFLOP", "CPU-s")
    rows = [
        (
            *key,
            epochs_told(same) or None,
            len(same),
            fmean(one.auc for one in same),
            stdev(one.auc for one in same) if len(same) > 1 else None,
            fmean(one.log_loss for one in same),
            f"{same[0].flops / 1e6:,.3g}",
            f"{fmean(one.cpu_seconds or 0 for one in same):.1f}",
        )
        for key, same in groups.items()
    ]
    return grid(title, headers, rows)


def _show_forecast(forecast: Any, as_json: bool) -> int:
    """Print the forecast by model and size; exit code 1 if some cells cannot be trained."""
    from clickscale.benchmarking.progress import duration

    if as_json:
        emit(
            {
                "seconds": forecast.total,
                "core_hours": forecast.core_hours,
                "tflop": forecast.tflop,
                "finished": forecast.finished,
                "cells": {cell.name: seconds for cell, seconds in forecast.seconds.items()},
                "epochs": {cell.name: forecast.epochs[cell] for cell in forecast.seconds},
                "failed": {cell.name: why for cell, why in forecast.failed.items()},
            }
        )
        return int(bool(forecast.failed))
    if not forecast.seconds:
        typer.echo(str(forecast))
        return int(bool(forecast.failed))
    groups: dict[tuple[str, str], list[Any]] = {}
    for cell in forecast.seconds:
        groups.setdefault((cell.model, cell.grade), []).append(cell)
    rows = [
        (
            model,
            size,
            len(cells),
            " or ".join(sorted({str(forecast.epochs[cell] or "recipe") for cell in cells})),
            duration(sum(forecast.seconds[cell] for cell in cells)),
            f"{sum(forecast.operations[cell] for cell in cells) / 1e12:,.3g}",
        )
        for (model, size), cells in sorted(groups.items())
    ]
    headers = ("model", "size", "cells", "epochs", "time, one at a time", "TFLOP")
    show(grid(str(forecast), headers, rows))
    return int(bool(forecast.failed))
