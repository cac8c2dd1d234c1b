"""Progress of many jobs, for people: how many are left and for how long."""

from collections.abc import Callable, Sequence

from clickscale.benchmarking.processes import Ended

Say = Callable[[str], None]


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Progress:
    """Tells of every job that is over how much is left, by the forecast and by how wrong it was so far.

    Args:
        seconds: forecast of each job.
        jobs: how many are done at the same time.
        noun: what a job is, such as ``runs``.
    """

    def __init__(self, seconds: Sequence[float], jobs: int, say: Say, noun: str) -> None:
        self._left, self._count, self._jobs, self._say = sum(seconds), len(seconds), jobs, say
        self._noun, self._spent, self._expected = noun, 0.0, 0.0
        say(self._told(self._left / jobs))

    def count(self, ended: Ended) -> None:
        """Count a job that is over."""
        self._left, self._count = max(self._left - ended.job.seconds, 0.0), max(self._count - 1, 0)
        self._spent, self._expected = self._spent + ended.seconds, self._expected + ended.job.seconds
        left = self._left * self._spent / self._expected / self._jobs
        what = f"failed: {ended.failed}" if ended.failed else f"done in {duration(ended.seconds)}"
        self._say(f"{ended.job.name}: {what}; {self._told(left)}")

    def _told(self, seconds: float) -> str:
        return f"{self._noun} left: {self._count}, about {duration(seconds)}"
