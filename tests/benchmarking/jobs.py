"""A stand-in of processes for the cells of benchmarks, ablations and sweeps."""

import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout

from clickscale.benchmarking.processes import Ended, Job, _reason
from clickscale.cli import main


def jobs_here(
    jobs: Sequence[Job], count: int, tell: Callable[[Ended], None], *, threads: int = 0
) -> list[Ended]:
    """Run jobs as `run_jobs` does, in this process: to load torch takes longer than a tiny cell."""
    ended = []
    for job in jobs:
        begun = time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("w") as log, redirect_stdout(log), redirect_stderr(log):
            code = next(filter(None, map(main, job.commands())), 0)  # the first that fails is the last
        ended.append(Ended(job, time.monotonic() - begun, _reason(code, job.log)))
        tell(ended[-1])
    return ended
