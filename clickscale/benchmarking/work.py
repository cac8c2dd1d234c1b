"""Cells as work: what is left of each is a job; every job that is over corrects the time that is left."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from clickscale.benchmarking.processes import Job, run_jobs
from clickscale.benchmarking.progress import Progress

_TESTED = "evaluation-test.json"


class RunCell(ABC):
    """One run in a folder of its own; its text is a name for people."""

    @abstractmethod
    def folder(self, out: Path) -> Path:
        """Folder of the run in the folder ``out`` of all runs."""

    def trained(self, out: Path) -> bool:
        """True if the run is finished; the artifact is written last."""
        return (self.folder(out) / "artifact").exists()

    def tested(self, out: Path) -> bool:
        """True if the run is finished and its test part is measured."""
        return self.trained(out) and (self.folder(out) / _TESTED).is_file()

    def testing(self, out: Path) -> list[str]:
        """Words after ``clickscale`` that measure the test part of the run."""
        return ["evaluate", str(self.folder(out)), "--part", "test"]


C = TypeVar("C", bound=RunCell)


def work(
    cells: Sequence[C],
    out: Path,
    *,
    tested: bool,
    commands: Callable[[C], Sequence[Sequence[str]]],
    seconds: Callable[[C], float],
    jobs: int,
    progress: Progress,
) -> dict[str, str]:
    """Finish cells, and measure their test part if ``tested``; what is done is left alone.

    Args:
        commands: gives the words after ``clickscale`` of the commands that a cell still needs.
        seconds: forecast of a cell.
        jobs: cells at the same time.

    Returns:
        Why cells failed, by name.
    """
    left = [
        Job(
            name=str(cell),
            commands=partial(commands, cell),
            log=_log(cell.folder(out)),
            seconds=seconds(cell),
        )
        for cell in cells
        if not (cell.tested(out) if tested else cell.trained(out))
    ]
    return {ended.job.name: ended.failed for ended in run_jobs(left, jobs, progress.count) if ended.failed}


def _log(folder: Path) -> Path:
    """File beside the folder of a run for what its commands say."""
    return folder.with_name(f"{folder.name}.log")
