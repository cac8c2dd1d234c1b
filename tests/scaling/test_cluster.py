"""Sweeps on a Ray cluster; without Ray, only how its absence is told."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clickscale.errors import ConfigError
from clickscale.scaling import sweep as sweep_module
from clickscale.scaling.cluster import cluster_size
from clickscale.scaling.points import POINTS
from clickscale.scaling.sweep import sweep
from tests.benchmarking.jobs import jobs_here
from tests.scaling.grids import SMALL, small_data, small_sweep

HAS_RAY = importlib.util.find_spec("ray") is not None


def test_a_cluster_without_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'clickscale\[cluster\]'"):
        cluster_size("local", 1, 1)


class _RayError(Exception):
    """Stands for the errors of Ray's own."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (_RayError("UNAUTHENTICATED: the request has no valid credentials"), "refuses the token"),
        (RuntimeError("Token authentication is on, but no token was found"), "RAY_AUTH_TOKEN"),
        (ConnectionError("nothing listens there"), "No Ray cluster answers at '10.0.0.1:6379'"),
    ],
)
def test_a_refused_token_is_told_from_a_cluster_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(**options: object) -> None:
        raise error

    exceptions = SimpleNamespace(RayError=_RayError)
    ray = SimpleNamespace(is_initialized=lambda: False, init=refuse, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(ConfigError, match=told):
        cluster_size("10.0.0.1:6379", 1, 1)


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
