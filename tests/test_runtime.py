import os
from pathlib import Path

import pytest
import torch

from clickscale.errors import ConfigError
from clickscale.runtime import MOST, available_cores, set_threads


@pytest.fixture(autouse=True)
def put_back() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def machine(folder: Path, siblings: dict[int, str], quota: str | None = None) -> Path:
    for cpu, text in siblings.items():
        path = folder / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n")
    if quota is not None:
        (folder / "fs/cgroup").mkdir(parents=True)
        (folder / "fs/cgroup/cpu.max").write_text(f"{quota}\n")
    return folder


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        ({0: "0", 1: "1", 2: "2", 3: "3"}, None, 4),
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, None, 2),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "max 100000", 4),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "150000 100000", 2),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "10000 100000", 1),
        ({}, None, 4),
    ],
)
def test_cores_are_counted_once_and_within_the_quota(
    tmp_path: Path, siblings: dict[int, str], quota: str | None, cores: int
) -> None:
    assert available_cores(machine(tmp_path, siblings, quota)) == cores


def test_the_configured_number_is_set_and_told() -> None:
    assert set_threads(2) == "2 threads per operation (as configured)"
    assert torch.get_num_threads() == 2


def test_the_environment_is_obeyed_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads(0) == "1 thread per operation (from OMP_NUM_THREADS)"
    assert set_threads(2).startswith("2 threads")


def test_left_alone_no_more_than_a_few_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(1000, 1064)))
    assert set_threads(0).startswith(f"{MOST} threads per operation (")
    assert torch.get_num_threads() == MOST


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads is -1"):
        set_threads(-1)
