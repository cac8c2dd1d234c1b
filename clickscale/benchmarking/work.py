"""Cells as work: what is left of each is a job; every job that is over corrects the time that is left."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from clickscale.benchmarking.processes import Ended, Job, run_jobs

Say = Callable[[str], None]
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


class Progress:
    """Tells of every job that is over how much is left, by the forecast and by how wrong it was so far."""

    def __init__(self, seconds: Sequence[float], jobs: int, say: Say) -> None:
        self._left, self._count, self._jobs, self._say = sum(seconds), len(seconds), jobs, say
        self._spent = self._expected = 0.0
        say(f"left: {self._count}, about {duration(self._left / jobs)}")

    def count(self, ended: Ended) -> None:
        """Count a job that is over."""
        self._left, self._count = max(self._left - ended.job.seconds, 0.0), max(self._count - 1, 0)
        self._spent, self._expected = self._spent + ended.seconds, self._expected + ended.job.seconds
        left = self._left * self._spent / self._expected / self._jobs
        what = f"failed: {ended.failed}" if ended.failed else f"done in {duration(ended.seconds)}"
        self._say(f"{ended.job.name}: {what}; left: {self._count}, about {duration(left)}")


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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
            commands=_bound(commands, cell),
            log=_log(cell.folder(out)),
            seconds=seconds(cell),
        )
        for cell in cells
        if not (cell.tested(out) if tested else cell.trained(out))
    ]
    return {ended.job.name: ended.failed for ended in run_jobs(left, jobs, progress.count) if ended.failed}


def _bound(
    commands: Callable[[C], Sequence[Sequence[str]]], cell: C
) -> Callable[[], Sequence[Sequence[str]]]:
    return lambda: commands(cell)


def _log(folder: Path) -> Path:
    """File beside the folder of a run for what its commands say."""
    return folder.with_name(f"{folder.name}.log")
