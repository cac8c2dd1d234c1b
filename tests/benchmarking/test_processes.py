import fcntl
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clickscale.benchmarking import processes
from clickscale.benchmarking.processes import Ended, Job, run_jobs
from tests.forked_commands import JOB, CommandServer


def job(folder: Path, name: str, *commands: Sequence[str]) -> Job:
    return Job(name, lambda: commands, folder / f"{name}.log", 1.0)


@pytest.fixture(params=["forks", pytest.param("programs", marks=pytest.mark.wide)])
def commands_run(
    request: pytest.FixtureRequest, command_server: CommandServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands are forks of a process that has loaded torch, or the programs that users get."""
    if request.param == "forks":
        script = str(command_server.folder / "clickscale")
        monkeypatch.setattr(processes, "_PROGRAM", JOB.format(script=script))


@pytest.mark.usefixtures("commands_run")
def test_a_job_that_fails_is_told_and_stops_no_other(tmp_path: Path) -> None:
    told: list[str] = []
    jobs = [
        job(tmp_path, "bad", ["train", "dim", "--data", "x", "--out", "y"], ["--version"]),
        job(tmp_path, "good", ["--version"], ["--version"]),
        job(tmp_path, "nothing left"),
    ]
    ended = {one.job.name: one for one in run_jobs(jobs, 2, lambda one: told.append(one.job.name))}
    assert sorted(told) == ["bad", "good", "nothing left"]
    assert ended["good"].failed == ended["nothing left"].failed == ""
    assert "x" in ended["bad"].failed
    assert "error:" not in ended["bad"].failed
    assert len((tmp_path / "good.log").read_text().split()) == 2
    assert "error: " in (tmp_path / "bad.log").read_text()  # and the second command did not run


def test_every_command_has_the_threads_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    class Started:
        """A process that was not started."""

        def __init__(self, words: Sequence[str], **options: Any) -> None:
            given.append(options["env"]["OMP_NUM_THREADS"])

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(processes.subprocess, "Popen", Started)
    for threads in (3, 0):
        run_jobs([job(tmp_path, "a", ["--version"])], 1, lambda one: None, threads=threads)
    assert given == ["3", os.environ["OMP_NUM_THREADS"]]


def test_a_run_that_another_process_works_on_is_waited_for(tmp_path: Path) -> None:
    asked = threading.Event()

    def commands() -> list[list[str]]:
        asked.set()
        return []

    with (tmp_path / "a.log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        one = Job("a", commands, tmp_path / "a.log", 1.0)
        thread = threading.Thread(target=run_jobs, args=([one], 1, lambda ended: None))
        thread.start()
        assert not asked.wait(0.6)
        fcntl.flock(log, fcntl.LOCK_UN)
    thread.join(10)
    assert asked.is_set()


def test_an_interruption_stops_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    begun: list[str] = []

    def sleepy(name: str) -> Job:
        def commands() -> list[list[str]]:
            begun.append(name)
            return [["demo", "--files", str(tmp_path / name)]] * 50  # minutes

        return Job(name, commands, tmp_path / f"{name}.log", 1.0)

    def interrupt(ended: Ended) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(tmp_path, "quick"), sleepy("slow"), sleepy("later")], 1, interrupt)
    assert time.monotonic() - started < 30
    assert "later" not in begun
