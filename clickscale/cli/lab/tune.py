"""The verb ``tune``: search the options of one model."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from clickscale.cli import run_flags as flags
from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson, Data, Sets
from clickscale.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600}


def tune_model(
    data: Data,
    model: Annotated[str, typer.Option("--model", metavar="M", help="Name of a model.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the search.")],
    budget: Annotated[
        str, typer.Option("--budget", metavar="TIME", help="Wall time of the search: 90s, 10m, 2h.")
    ] = "10m",
    trials: Annotated[
        int, typer.Option("--trials", min=0, help="Draws at most; 0 sets no bound but the budget.")
    ] = 0,
    grade: flags.Grade = None,
    length: flags.Length = None,
    labels: flags.Labels = None,
    seed: flags.Seed = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    file: flags.ConfigFile = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> int:
    """Search better learning rates, L2, dropout, batch size and window than the recipe's.

    The first trial is the recipe. Others draw around it; each pauses after a quarter and a half of its run,
    and the better half goes on. Only the validation part decides. DIR/tuned.toml holds the result for
    clickscale train --config. The same command continues a search that was stopped, or whose budget was
    raised. An option that is set stays as it is set.
    """
    from clickscale.training.run.run_config import train_config
    from clickscale.tuning.search import tune

    seconds = seconds_of(budget)
    given = flags.given(
        {
            "grade": grade,
            "length": length,
            "labels": labels,
            "seed": seed,
            "device": device,
            "threads": threads,
        }
    )
    config = train_config(model, data, file=file, flags=given, sets=sets or [])
    progress = False if as_json else None
    outcome = tune(config, out, budget=seconds, trials=trials, say=say, progress=progress)
    if as_json:
        from dataclasses import asdict

        emit({"model": model, **asdict(outcome)})
    else:
        show(_trials_grid(f"{out}, {model}, part valid", outcome.trials))
    for note in outcome.notes:
        say(note)
    if outcome.file is None:
        return 128 + int(outcome.signal)
    say(f"next: clickscale train {model} --data {data} --out RUN --config {outcome.file}")
    return 0


def seconds_of(budget: str) -> float:
    """Seconds of a time such as ``90s``, ``10m``, ``2h`` or ``1.5h``.

    Raises:
        ConfigError: it is not a positive number followed by a unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", budget.strip())
    if not found:
        raise ConfigError(f"Budget {budget!r} is not a time; write a number and a unit: 90s, 10m, 2h.")
    number, unit = found.groups()
    if unit not in _UNITS:
        wrong = f"has the unit {unit!r}" if unit else "has no unit"
        raise ConfigError(f"Budget {budget!r} {wrong}; write s, m or h after the number: 90s, 10m, 2h.")
    if not float(number):
        raise ConfigError(f"Budget {budget!r} is no time at all; write at least 1s.")
    return float(number) * _UNITS[unit]


def _trials_grid(title: str, trials: Any) -> Any:
    from clickscale.tuning.outcome import describe

    headers = ("trial", "seed", "validations", "log-loss", "AUC", "GAUC", "seconds", "changes")
    rows = [
        (
            line.trial,
            line.seed,
            line.validations,
            line.loss,
            line.auc,
            line.gauc,
            f"{line.seconds:.1f}",
            line.failed or describe(line.changes) or "the recipe",
        )
        for line in trials
    ]
    return grid(title, headers, rows)
