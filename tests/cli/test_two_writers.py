"""Two processes and one folder: the second is refused by the name of the first, and no metric is lost."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clickscale.locks import holder
from clickscale.training.run.logs import read_metrics
from tests.forked_commands import CommandServer, ForkedCommand
from tests.trained import tiny_prepared

Start = Callable[..., ForkedCommand]
LONG = ("--set", "epochs.count=30000", "--set", "log_every=1", "--set", "early_stopping=false")
OFTEN = ("--set", "checkpoint_every=50")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_prepared(tmp_path_factory.mktemp("data")).path


@pytest.fixture
def start(tmp_path: Path, command_server: CommandServer) -> Iterator[Start]:
    """Start verbs in processes of their own, which end with the test."""
    processes = []

    def verb(*arguments: str) -> ForkedCommand:
        processes.append(command_server.start(*arguments, folder=tmp_path))
        return processes[-1]

    yield verb
    for process in processes:
        process.kill()


def wait_until(happened: Callable[[], bool], process: ForkedCommand) -> None:
    until = time.monotonic() + 60
    while not happened() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def is_written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def test_two_resumes_of_one_run_lose_no_metric(data: Path, tmp_path: Path, start: Start) -> None:
    run = tmp_path / "run"
    given = [
        "train",
        "mlp",
        "--grade",
        "size-1",
        "--out",
        "run",
        "--data",
        str(data),
        "--resume",
        *LONG,
        *OFTEN,
    ]
    first = start(*given)
    wait_until(lambda: is_written(run / "metrics.jsonl"), first)
    second = start(*given)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2, said
    assert f"run is being written by process {first.pid} on " in said.splitlines()[-1]
    first.send_signal(signal.SIGKILL)  # its lock goes with it, and what it left stops nobody
    first.wait()
    third = start(*given)
    wait_until(lambda: f"process {third.pid} " in holder(run), third)
    wait_until(lambda: is_written(run / "checkpoints" / "latest"), third)
    third.send_signal(signal.SIGTERM)
    _, said = third.communicate(timeout=60)
    assert third.returncode == 143, said
    assert not (run / ".writer").exists()
    steps = [line["step"] for line in read_metrics(run) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))


def test_two_searches_in_one_folder_are_refused_the_same_way(
    data: Path, tmp_path: Path, start: Start
) -> None:
    given = ["tune", "--data", str(data), "--model", "mlp", "--out", "tuned", "--budget", "10m"]
    first = start(*given)
    wait_until(lambda: is_written(tmp_path / "tuned" / "tuning.jsonl"), first)
    second = start(*given)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2, said
    assert f"tuned is being written by process {first.pid} on " in said.splitlines()[-1]
