"""Small sweeps on the tiny log, and a way to run their cells in the process of the test."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from clickscale.benchmarking.processes import Ended, Job
from clickscale.cli import main
from clickscale.scaling.sweep_config import SweepConfig
from tests.data.tiny import tiny_dataset, tiny_source

SMALL = ("batch_size=16", "model.head.hidden=[8]")


def small_data(folder: Path) -> Path:
    """A log of 400 impressions."""
    return tiny_dataset(folder, tiny_source(impressions=400, users=20))


def small_sweep(data: Path, **changes: Any) -> SweepConfig:
    """Two models at two fractions."""
    usual = SweepConfig(
        data=str(data),
        models=("mlp", "suan"),
        sizes=("size-1",),
        lengths=(8,),
        fractions=(0.5, 1.0),
        seeds=1,
        latency=False,
        sets=SMALL,
    )
    return replace(usual, **changes)


def jobs_here(
    jobs: Sequence[Job], count: int, tell: Callable[[Ended], None], *, threads: int = 0
) -> list[Ended]:
    """Stand-in of `run_jobs` that starts no process: to load torch takes longer than a tiny cell."""
    ended = []
    for job in jobs:
        begun = time.monotonic()
        codes = [main(list(words)) for words in job.commands()]
        ended.append(Ended(job, time.monotonic() - begun, f"exit code {max(codes)}" if any(codes) else ""))
        tell(ended[-1])
    return ended
