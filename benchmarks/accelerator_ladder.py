"""Train a ladder of sizes and fractions of the data on one accelerator, within a budget of minutes.

    python benchmarks/accelerator_ladder.py OUT --minutes 8
    python benchmarks/accelerator_ladder.py OUT --data PREPARED --sizes size-1..size-2 --fractions 1/4..1

Without ``--data`` it first makes a simulated world in OUT-world; the minutes begin after that. OUT is then
the folder of a sweep: every cell is an ordinary run, and scaling.json and speeds.json are written after each.
Cells run in this process, the cheapest first, and the ladder ends where the next one would not fit into the
rest of the budget. The same command continues it with a new budget, and ``clickscale sweep --out OUT``
finishes it.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clickscale.scaling.points import Cell
    from clickscale.scaling.sweeps.sweep_config import SweepConfig


class TimeUp(Exception):
    """The budget is spent in the middle of a cell, which has its last checkpoint."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data, train the ladder, and return 1 if a cell failed."""
    from clickscale.data.dataset import open_dataset
    from clickscale.errors import RunError
    from clickscale.locks import one_writer
    from clickscale.scaling.sweeps.sweep import Points
    from clickscale.scaling.sweeps.sweep_cell import is_finished
    from clickscale.scaling.sweeps.sweep_config import claim_sweep, settled

    options = _options(arguments)
    data = options.data or _world(options.out, options.impressions, options.preset)
    dataset = open_dataset(data)
    config = settled(_config(options, data), options.out, dataset)
    with one_writer(options.out, RunError):
        points = Points(config, options.out, dataset, claim_sweep(options.out, config))
        left = [cell for cell in config.cells if not is_finished(options.out, cell)]
        points.failed |= {cell.name: "no time was left" for cell in left}
        points.write()
        failed = _climb(config, left, options.out, points, 60 * options.minutes)
        if config.latency:
            points.measure_latencies(print)
        found = points.write()
    print(f"{len(found.cells)} cells measured, {len(found.failed)} missing: {options.out / 'scaling.json'}")
    return 1 if failed else 0


def _climb(config: "SweepConfig", cells: list["Cell"], out: Path, points: Any, seconds: float) -> bool:
    """Run cells until the time is up; true if one of them failed."""
    work, failed = _work(config, cells), False
    end, rate = monotonic() + seconds, 0.0
    before = signal.signal(signal.SIGALRM, _time_up)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        for cell in sorted(cells, key=lambda cell: (cell.seed, work[cell])):
            begun = monotonic()
            # Small cells keep an accelerator less busy than large ones, so this rather stops too early.
            if begun + rate * work[cell] > end:
                print(f"{cell.name} would take about {rate * work[cell]:.0f} s, more than is left")
                break
            why = _run(config, cell, out)
            took = monotonic() - begun
            rate, failed = took / work[cell] if not why else rate, failed or bool(why)
            points.add(cell.name, why)
            points.write()
            print(f"{cell.name}: {why or f'{took:.1f} s'}", flush=True)
    except TimeUp:
        print("the time is up; the cell in between has its last checkpoint")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return failed


def _run(config: "SweepConfig", cell: "Cell", out: Path) -> str:
    """Run a cell; why it failed, and nothing if it did not."""
    from clickscale.scaling.sweeps.sweep_cell import run_cell

    try:
        code = run_cell(config, cell, out, progress=False)
    except TimeUp:
        raise
    except Exception as error:  # a cell that does not fit into memory stops no other
        return f"{type(error).__name__}: {error}"
    return f"exit code {code}" if code else ""


def _time_up(number: int, frame: FrameType | None) -> None:
    raise TimeUp


def _work(config: "SweepConfig", cells: list["Cell"]) -> dict["Cell", float]:
    """Operations of the impressions of every cell, about."""
    from clickscale.workflow import model_cost

    costs: dict[tuple[str, str, int], float] = {}
    for cell in cells:
        key = cell.model, cell.grade, cell.length
        if key not in costs:
            run = config.run(cell)
            cost, _ = model_cost(
                cell.model,
                grade=cell.grade,
                length=cell.length,
                data=config.data,
                overrides=run.model_options,
            )
            costs[key] = cost.user + cost.candidate
    return {cell: cell.fraction * costs[cell.model, cell.grade, cell.length] for cell in cells}


def _world(out: Path, impressions: str, preset: str) -> Path:
    """Make a simulated world, unless it is there."""
    folder = out.with_name(f"{out.name}-world")
    if not folder.is_dir():
        begun = monotonic()
        words = ["data", "world", "--impressions", impressions, "--preset", preset, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "clickscale", *words], check=True)
        print(f"world of {impressions} impressions: {monotonic() - begun:.0f} s", flush=True)
    return folder


def _config(options: argparse.Namespace, data: Path) -> "SweepConfig":
    from clickscale.scaling.sweeps import sweep_ranges as ranges
    from clickscale.scaling.sweeps.sweep_config import SweepConfig

    return SweepConfig(
        data=str(data),
        models=tuple(options.models.split(",")),
        sizes=ranges.sizes_of(options.sizes),
        lengths=ranges.lengths_of(options.lengths),
        fractions=ranges.fractions_of(options.fractions),
        seeds=options.seeds,
        epochs=options.epochs,
        part=options.part,
        latency=options.latency,
        sets=tuple(options.set),
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the sweep")
    parser.add_argument("--data", type=Path, help="prepared data set; a world is made without it")
    parser.add_argument("--impressions", default="1e7", help="of the world")
    parser.add_argument("--preset", default="market", help="of the world")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training and measuring")
    parser.add_argument("--models", default="suan")
    parser.add_argument("--sizes", default="size-1..size-5")
    parser.add_argument("--lengths", default="100")
    parser.add_argument("--fractions", default="1/64..1")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=0, help="of every cell; 0 asks the recipe")
    parser.add_argument("--part", default="test", choices=("valid", "test"))
    parser.add_argument("--latency", action="store_true", help="also measure latencies, on the CPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="option of all runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    from clickscale.runtime import configure_process

    configure_process()  # before torch is imported
    sys.exit(main())
