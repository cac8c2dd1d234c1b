"""Commands in processes of their own: one that dies, or whose memory ends, takes nothing else with it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from clickscale.runtime import MOST, available_cores

_POLL = 0.2  # seconds between two looks at a lock that somebody else holds
# Several commands in one process: to load torch takes longer than to measure a small part.
_PROGRAM = """
import json, sys
from clickscale.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    if code := main():
        sys.exit(code)
"""


@dataclass(frozen=True)
class Job:
    """Commands that run one after the other in a process; the first that fails is the last.

    Attributes:
        name: for people.
        commands: gives the words after ``clickscale`` of each command; asked right before the first, when no
            other process works on the same.
        log: file for all that they say.
        seconds: forecast.
    """

    name: str
    commands: Callable[[], Sequence[Sequence[str]]]
    log: Path
    seconds: float


@dataclass(frozen=True)
class Ended:
    """A job that is over; ``failed`` says why it failed, and is empty if it did not."""

    job: Job
    seconds: float
    failed: str


def run_jobs(
    jobs: Sequence[Job], count: int, tell: Callable[[Ended], None], *, threads: int = 0
) -> list[Ended]:
    """Run jobs, ``count`` at the same time, and tell of each when it is over.

    An exception, such as that of Ctrl-C, asks the running commands to stop, which they do after a
    checkpoint, and is raised again when they have.

    Args:
        threads: of each command; 0 gives it its share of the cores, or what OMP_NUM_THREADS says.
    """
    running = _Running(count, threads)
    ended = []
    with ThreadPoolExecutor(count) as pool:
        try:
            for future in as_completed([pool.submit(running.run, job) for job in jobs]):
                ended.append(future.result())
                tell(ended[-1])
        except BaseException:
            running.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return ended


class _Running:
    """The processes of the jobs that run now."""

    def __init__(self, count: int, threads: int) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._environment = dict(os.environ)
        # Several trainings side by side, each with a thread for every core, would wait for one another.
        share = max(min(available_cores(), MOST) // count, 1)
        self._environment.setdefault("OMP_NUM_THREADS", str(share))
        if threads:
            self._environment["OMP_NUM_THREADS"] = str(threads)

    def run(self, job: Job) -> Ended:
        """Run one job to its end."""
        begun = time.monotonic()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            self._wait_for(log)
            log.truncate(0)
            commands = [] if self._stopped.is_set() else job.commands()
            code = self._call([sys.executable, "-c", _PROGRAM, json.dumps(commands)], log) if commands else 0
        return Ended(job, time.monotonic() - begun, _reason(code, job.log))

    def stop(self) -> None:
        """Ask all processes to stop."""
        self._stopped.set()
        with self._lock:
            for process in self._processes:
                process.terminate()

    def _wait_for(self, log: IO[bytes]) -> None:
        """Lock a log.

        Its lock passes to the commands that write it and ends with the last of them. So a command that
        outlives a benchmark that was killed comes to its end before the next benchmark looks at its run.
        """
        while not self._stopped.is_set():
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_POLL)

    def _call(self, words: Sequence[str], log: IO[bytes]) -> int:
        with self._lock:
            if self._stopped.is_set():
                return -signal.SIGTERM
            # In a session of its own, Ctrl-C reaches the benchmark only, which stops its commands once.
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
            self._processes.add(process)
        code = process.wait()
        with self._lock:
            self._processes.remove(process)
        return code


def _reason(code: int, log: Path) -> str:
    """Why a command failed: its error, or the signal that ended it; empty if it did not."""
    if not code:
        return ""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = log.read_text("utf-8", "replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"exit code {code}; see {log}"
