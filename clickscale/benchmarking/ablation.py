"""The ablation: train every line of a paper's tables with several seeds, measure, test, write the tables."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from clickscale.benchmarking.ablation_config import (
    AblationCell,
    AblationConfig,
    Section,
    TrainedLine,
    claim_ablation,
    refuse_other_ablation,
)
from clickscale.benchmarking.ablation_page import Ablation, AblationLine, AblationTable, write_ablation
from clickscale.benchmarking.forecast import Forecast, Sizes, listed, open_parts
from clickscale.benchmarking.progress import Progress, Say
from clickscale.benchmarking.speeds import Speed, measure_speeds, read_speeds, write_speeds
from clickscale.benchmarking.work import work
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ConfigError, RunError
from clickscale.report.comparison import Entrant, compare
from clickscale.workflow import entrant

_RESAMPLES = 1000  # of the users in a paired test


def ablate(
    config: AblationConfig, out: str | Path, *, jobs: int = 1, say: Say = lambda text: None
) -> Ablation:
    """Train the tables of a paper; write ``ablation.md``, ``ablation.json`` and a picture into ``out``.

    The runs stay in ``out/runs`` (see `clickscale.benchmarking.ablation_config`). The same call continues an
    ablation that was stopped or killed: runs that are finished stay, and a run in between continues from its
    last checkpoint. A run that fails is named in the result and tried again by the next call.

    Args:
        jobs: runs that are trained at the same time.
        say: told how the ablation proceeds.

    Raises:
        RunError: ``out`` holds something else, or an ablation with other options.
        ConfigError: there is no validation part, or no line can be trained on the data.
    """
    out = Path(out)
    dataset, sizes = open_parts(config.data)
    claim_ablation(out, config)
    known = read_speeds(out)
    forecast = _forecast(config, dataset, sizes, known, jobs, say)
    write_speeds(out, known | forecast.speeds)
    say(forecast.told("lines"))
    failed = forecast.failed | _train(config, out, sizes, forecast, say)
    found = Ablation(
        data=dataset.schema.name,
        config=config,
        tables=[
            table for section in config.sections() if (table := _table(section, config, out)) is not None
        ],
        failed=failed,
        commands={
            str(cell.folder(out)): ["clickscale", *cell.training(config, out)]
            for cell in _cells(config, forecast.speeds)
        },
    )
    if not found.tables:
        raise RunError(f"No table of {out} has a line to compare with: {listed(failed)}")
    write_ablation(found, out, dataset.manifest.notes)
    return found


def forecast_ablation(
    config: AblationConfig, out: str | Path, *, jobs: int = 1, say: Say = lambda text: None
) -> Forecast:
    """Forecast the time of a whole ablation from a few steps of each line; nothing is written.

    Raises:
        RunError, ConfigError: `ablate` with the same arguments would raise it.
    """
    out, parts = Path(out), open_parts(config.data)
    refuse_other_ablation(out, config)
    return _forecast(config, *parts, read_speeds(out), jobs, say)


def _forecast(
    config: AblationConfig,
    dataset: Dataset,
    sizes: Sizes,
    known: Mapping[str, Speed],
    jobs: int,
    say: Say,
) -> Forecast:
    """Measure what is not known yet; a line that cannot be trained on the data is left out by name.

    So is one that would stand alone: a table needs the line that all others are compared with, and another.
    """
    with_ids = open_dataset(config.ids) if config.ids else dataset
    asked = {
        name: (config.run(line.variant, line.grade), with_ids if line.variant.needs_ids else dataset)
        for name, line in config.lines().items()
    }
    speeds, failed = measure_speeds(asked, known, say)
    there = [[str(line) for line in section.lines if str(line) in speeds] for section in config.sections()]
    bases = [str(section.lines[0]) for section in config.sections()]
    tables = [names for names, base in zip(there, bases, strict=True) if base in names and len(names) > 1]
    speeds = {name: speed for name, speed in speeds.items() if any(name in names for names in tables)}
    if not speeds:
        raise ConfigError(f"No table can be trained on {config.data}: {listed(failed)}")
    each = {name: sizes.training_seconds(speed) + sizes.test_seconds(speed) for name, speed in speeds.items()}
    seconds = {name: config.seeds * one for name, one in each.items()}
    return Forecast(seconds, dict.fromkeys(speeds, config.seeds), speeds, failed, jobs)


def _cells(config: AblationConfig, trained: Mapping[str, Speed]) -> list[AblationCell]:
    """Cells of the lines that can be trained, seed by seed: a stop leaves whole tables of fewer seeds."""
    lines = config.lines()
    return [
        AblationCell(lines[name], seed) for seed in range(config.seeds) for name in lines if name in trained
    ]


def _train(config: AblationConfig, out: Path, sizes: Sizes, forecast: Forecast, say: Say) -> dict[str, str]:
    """Finish and measure all cells; returns why some failed."""
    cells = _cells(config, forecast.speeds)

    def seconds(cell: AblationCell) -> float:
        speed = forecast.speeds[str(cell.line)]
        training = 0.0 if cell.trained(out) else sizes.training_seconds(speed)
        return training + sizes.test_seconds(speed)

    left = [seconds(cell) for cell in cells if not cell.tested(out)]
    return work(
        cells,
        out,
        tested=True,
        commands=partial(_commands, config, out),
        seconds=seconds,
        jobs=forecast.jobs,
        progress=Progress(left, forecast.jobs, say, "runs"),
    )


def _commands(config: AblationConfig, out: Path, cell: AblationCell) -> list[list[str]]:
    """Commands that a cell still needs."""
    commands = [] if cell.trained(out) else [cell.training(config, out)]
    return [*commands, *([] if cell.tested(out) else [cell.testing(out)])]


def _table(section: Section, config: AblationConfig, out: Path) -> AblationTable | None:
    """The lines of a section that have a run; None if the base has none, or no other line has one."""
    done = {line: runs for line in section.lines if (runs := _runs(line, config, out))}
    if section.lines[0] not in done or len(done) < 2:
        return None
    compared = compare([one for runs in done.values() for one in runs], bootstrap=_RESAMPLES)
    lines = [
        AblationLine(
            variant=line.variant,
            values=found.values,
            spread=found.spread,
            seeds=len(found.seeds),
            against=found.against,
            over_seeds=found.seeds_test,
            dense=runs[0].results[0].dense,
            gflops=runs[0].results[0].gflops,
        )
        # The constant rate and item popularity come last, and are no variants.
        for (line, runs), found in zip(done.items(), compared, strict=False)
    ]
    return AblationTable(section.table.number, section.title, section.grade, lines)


def _runs(line: TrainedLine, config: AblationConfig, out: Path) -> list[Entrant]:
    """The measured runs of a line; its key stands for its options, so that lines have short names."""
    cells = [AblationCell(line, seed) for seed in range(config.seeds)]
    return [
        replace(entrant(cell.folder(out), "test"), options={"model": line.variant.key, "seed": cell.seed})
        for cell in cells
        if cell.tested(out)
    ]
