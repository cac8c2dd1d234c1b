"""Sweeps on a Ray cluster; without Ray, only how its absence is told."""

import dataclasses
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clickscale.benchmarking.processes import Job
from clickscale.errors import ConfigError
from clickscale.files import checksum
from clickscale.scaling.points import POINTS
from clickscale.scaling.sweeps import cluster
from clickscale.scaling.sweeps import sweep as sweep_module
from clickscale.scaling.sweeps.cluster import Shared, cluster_size, shared_by_all
from clickscale.scaling.sweeps.sweep import sweep
from tests.benchmarking.jobs import jobs_here
from tests.scaling.grids import SMALL, small_data, small_sweep

HAS_RAY = importlib.util.find_spec("ray") is not None


def test_a_cluster_without_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'clickscale\[cluster\]'"):
        cluster_size("local", 1, 1)


class _RayError(Exception):
    """Stands for the errors of Ray's own."""


class _GetTimeoutError(_RayError):
    """Stands for the error of an answer that does not come."""


def _stand_in(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    """Put something into the place of Ray; it cannot be installed everywhere."""
    exceptions = SimpleNamespace(RayError=_RayError, GetTimeoutError=_GetTimeoutError)
    ray = SimpleNamespace(exceptions=exceptions, __version__="2.50", **names)
    monkeypatch.setitem(sys.modules, "ray", ray)


def _refusing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(**options: object) -> None:
        raise error

    _stand_in(monkeypatch, is_initialized=lambda: False, init=refuse)


def test_a_cluster_that_refuses_is_told_from_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    # A token that is refused comes as a lost connection; the token is only in the log of Ray.
    _refusing(monkeypatch, ConnectionError("Failed to connect to Ray cluster"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(ConfigError, match=r"refuses this process .*RAY_AUTH_TOKEN.* here, 2\.50"):
                cluster_size(address, 1, 1)
    with pytest.raises(ConfigError, match=f"No Ray cluster answers at '127.0.0.1:{port}'.*--port {port}"):
        cluster_size(f"127.0.0.1:{port}", 1, 1)
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at '127\.0\.0\.1:99999'"):
        cluster_size("127.0.0.1:99999", 1, 1)
    with pytest.raises(ConfigError, match="at 'auto' refuses"):
        cluster_size("auto", 1, 1)
    _refusing(monkeypatch, RuntimeError("no room"))
    with pytest.raises(ConfigError, match="cannot start a cluster on this machine: no room"):
        cluster_size("local", 1, 1)


def test_a_cluster_has_as_many_workers_as_processors_and_gpus_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"CPU": 8.0, "GPU": 1.0}
    _stand_in(monkeypatch, is_initialized=lambda: True, cluster_resources=lambda: found)
    assert cluster_size("there:1", 1, 2) == 4
    assert cluster_size("there:1", 1, 2, gpu=True) == 1
    with pytest.raises(ConfigError, match="there:1 has no 9 processors"):
        cluster_size("there:1", 1, 9)
    del found["GPU"]
    with pytest.raises(ConfigError, match="has no GPU; add one, or leave out --set device=cuda"):
        cluster_size("there:1", 1, 2, gpu=True)


# --- what machines share


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """What a machine sees that shares all."""
    data, out = tmp_path / "data", tmp_path / "out"
    for folder in (data, out):
        folder.mkdir()
    (data / "manifest.json").write_text("{}")
    (out / "cluster.txt").write_text("abc")
    return Shared(out, data, checksum(data / "manifest.json"), "abc")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"version": "0.0.1"}, "clickscale "),
        ({"out": "elsewhere"}, "no folder elsewhere"),
        ({"token": "that of now"}, "another folder at .*out, perhaps a copy"),
        ({"data": "elsewhere"}, "no data set at elsewhere"),
        ({"manifest": "0" * 64}, "another data set at .*data"),
    ],
)
def test_a_machine_says_what_it_does_not_share(shared: Shared, changes: dict[str, str], told: str) -> None:
    paths = {key: Path(value) if key in ("out", "data") else value for key, value in changes.items()}
    other = dataclasses.replace(shared, **paths)  # type: ignore[arg-type]
    assert re.match(told, other.problem(0.0))
    assert bool(other.problem(0.0)) == bool(told)


def test_a_machine_waits_for_what_another_one_wrote(shared: Shared) -> None:
    sign = shared.out / "cluster.txt"
    sign.unlink()
    assert "perhaps a copy" in shared.problem(0.0)
    late = threading.Timer(0.2, sign.write_text, ["abc"])
    late.start()
    assert shared.problem(30.0) == ""
    late.join()


def _machines(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str | Exception]) -> list[Shared]:
    """Let machines answer as they are told; what each was asked."""
    asked: list[Shared] = []

    def remote(**options: Any) -> Any:
        def call(shared: Shared) -> str:
            asked.append(shared)
            assert (shared.out / "cluster.txt").read_text() == shared.token
            return str(options["scheduling_strategy"])

        return lambda function: SimpleNamespace(remote=call)

    def get(name: str, timeout: float) -> str:
        if isinstance(answer := answers[name], Exception):
            raise answer
        return answer

    def node(name: str, **changes: Any) -> dict[str, Any]:
        usual = {"Alive": True, "Resources": {"CPU": 2.0}}
        return (
            {"NodeID": name, "NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"} | usual | changes
        )

    nodes = [*map(node, answers), node("gone", Alive=False), node("head", Resources={})]
    place = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda name, soft: name)
    util = SimpleNamespace(scheduling_strategies=place)
    _stand_in(monkeypatch, nodes=lambda: nodes, remote=remote, get=get, util=util)
    return asked


def test_machines_are_asked_before_they_work(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _machines(monkeypatch, {"a": "", "b": ""})
    with shared_by_all("there:1", 1, shared.out, shared.data, shared.manifest) as found:
        assert asked == [found, found]
    assert not list(shared.out.iterdir())
    lost = _RayError("a long tale\nModuleNotFoundError: No module named 'clickscale'")
    _machines(monkeypatch, {"a": "", "b": "no folder out", "c": lost, "d": _GetTimeoutError()})
    with (
        pytest.raises(ConfigError) as error,
        shared_by_all("there:1", 1, shared.out, shared.data, shared.manifest),
    ):
        pass
    told = str(error.value)
    assert "b (10.0.0.1): no folder out; c (10.0.0.1): ModuleNotFoundError: No module named" in told
    assert "d (10.0.0.1): no answer in 300 s. Every machine needs clickscale" in told
    assert f"see {shared.out} and {shared.data} under these paths" in told
    assert not {"a", "gone", "head"} & {word.partition(" ")[0] for word in told.split("; ")}
    assert not list(shared.out.iterdir())


def test_a_machine_that_joins_later_and_shares_nothing_trains_nothing(shared: Shared) -> None:
    job = Job("one", lambda: [["sweep"]], shared.out / "cells" / "one.log", 1.0)
    ended = cluster._work(job, dataclasses.replace(shared, data=Path("elsewhere")), 1)
    assert ended.failed.endswith(": no data set at elsewhere")
    assert not job.log.parent.exists()


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_workers_of_a_cluster_give_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = small_data(tmp_path), tmp_path / "cluster"
    strange = out / "cells/suan-size-1-8-1-0"
    command = ["sweep", "--data", str(data), "--out", str(out), "--cluster", "local", "--jobs", "2"]
    command += ["--models", "mlp,suan", "--sizes", "size-1", "--lengths", "8", "--seeds", "1", "--json"]
    command += [
        "--no-latency",
        "--fractions",
        "1/2..1",
        *(word for text in SMALL for word in ("--set", text)),
    ]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}

    def run(expected: int) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "clickscale", *command]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
        return done

    # A cell that fails is named by the worker that ran it.
    out.mkdir()
    assert "with 2 at the same time" in run(0).stderr
    for path in sorted(strange.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (strange / "thesis.txt").write_text("years of work")
    failed = json.loads(run(1).stdout)["failed"]
    assert list(failed) == [strange.name]
    assert "not a run" in failed[strange.name]
    (strange / "thesis.txt").unlink()
    run(0)
    monkeypatch.setattr(sweep_module, "run_jobs", jobs_here)
    sweep(small_sweep(data), tmp_path / "straight")
    assert (out / POINTS).read_bytes() == (tmp_path / "straight" / POINTS).read_bytes()
