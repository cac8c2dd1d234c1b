"""A benchmark from end to end, its continuation after a real kill, and runs that fail."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from clickscale.benchmarking import work
from clickscale.benchmarking.benchmark import benchmark, forecast_benchmark
from clickscale.benchmarking.benchmark_config import BenchmarkConfig
from clickscale.benchmarking.benchmark_page import Benchmark
from clickscale.benchmarking.progress import duration
from clickscale.errors import ConfigError
from tests.benchmarking.jobs import jobs_here
from tests.data.tiny import tiny_dataset, tiny_source

SMALL = ("batch_size=8", "model.head.hidden=[8]", "threads=1")


def config_for(data: Path, *models: str, **changes: Any) -> BenchmarkConfig:
    usual = BenchmarkConfig(
        data=str(data), models=models, grade="size-1", length=8, seeds=1, rates=(0.001,), sets=SMALL
    )
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=400, users=20))


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmark, Path]:
    """A benchmark of two models: din joins as the reference."""
    out = tmp_path_factory.mktemp("done") / "bench"
    config = config_for(data, "suan", rates=(0.001, 0.003))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "run_jobs", jobs_here)
        return benchmark(config, out, jobs=2), out


def stamps(out: Path) -> dict[str, int]:
    """When each file of the runs was written, but logs, which every call begins again."""
    files = [path for path in (out / "runs").rglob("*") if path.is_file() and path.suffix != ".log"]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_two_models_end_in_two_tables(done: tuple[Benchmark, Path]) -> None:
    found, out = done
    assert found.failed == {}
    for lines in (found.equal, found.matched):
        assert sorted(line.name for line in lines if line.seeds) == ["din", "suan"]
        best = max((line for line in lines if line.seeds), key=lambda line: line.auc.value)
        assert [line.name for line in lines if line.against_best is None] == [best.name]
        assert lines[0] == best
        for line in (line for line in lines if line.seeds):
            assert line.dense is not None
            assert line.dense > 0
            assert min(line.gflops or 0, line.cpu_rate or 0, line.latency or 0, line.cached or 0) > 0
    document = json.loads((out / "benchmark.json").read_text("utf-8"))
    assert [line["name"] for line in document["equal_budget"]] == [line.name for line in found.equal]
    markdown = (out / "benchmark.md").read_text("utf-8")
    assert markdown.count("| suan | 1 |") == markdown.count("| din | 1 |") == 2
    assert ">suan<" in (out / "benchmark.svg").read_text("utf-8")


def test_the_rate_of_the_lowest_validation_loss_is_shown_and_only_it_is_tested(
    done: tuple[Benchmark, Path],
) -> None:
    found, out = done
    for model, losses in found.losses.items():
        best = min(losses, key=lambda rate: losses[rate])
        assert found.rates[model] == float(best)
        for rate in losses:
            run = out / f"runs/{model}/rate-{rate}-seed-0"
            stored = json.loads((run / "evaluation-valid.json").read_text("utf-8"))
            assert losses[rate] == stored["labels"][0]["log_loss"]["value"]
            assert (run / "evaluation-test.json").is_file() == (rate == best)
            assert (run / "checkpoints").is_dir() == (rate == best)


def test_matched_runs_take_the_steps_that_the_reference_pays_for(done: tuple[Benchmark, Path]) -> None:
    found, out = done
    equal, matched = (
        {line.name: line for line in lines if line.seeds} for lines in (found.equal, found.matched)
    )
    assert matched["din"] == replace_test(equal["din"], matched["din"])
    speeds, suan = found.speeds, matched["suan"]
    budget = speeds["din"].operations * speeds["din"].samples
    each = speeds["suan"].operations * speeds["suan"].samples / speeds["suan"].steps
    assert suan.steps == int(budget / each) < (equal["suan"].steps or 0)
    facts = out / f"runs/suan/rate-{suan.rate:g}-seed-0-steps-{suan.steps}/done.json"
    assert json.loads(facts.read_text("utf-8"))["step"] == suan.steps
    assert (suan.training_tflops or 0) <= (equal["din"].training_tflops or 0)


def replace_test(line: Any, other: Any) -> Any:
    """The line with the tests of another, which depend on the other lines of a table."""
    from dataclasses import replace as changed

    return changed(line, against_best=other.against_best, over_seeds=other.over_seeds)


def test_finished_runs_stay_and_a_failed_one_is_named(
    done: tuple[Benchmark, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = done
    monkeypatch.setattr(work, "run_jobs", jobs_here)
    before = stamps(out)
    strange = out / "runs/suan/rate-0.01-seed-0"
    strange.mkdir()
    (strange / "thesis.txt").write_text("years of work")
    said: list[str] = []
    more = replace(found.config, rates=(*found.config.rates, 0.01))
    again = benchmark(more, out, jobs=2, say=said.append)
    assert list(again.failed) == ["suan, rate 0.01, seed 0"]
    assert str(strange) in again.failed["suan, rate 0.01, seed 0"]
    assert any(line.startswith("suan, rate 0.01, seed 0: failed: ") for line in said)
    assert any(line.startswith("trainings or tests left: ") for line in said)
    assert "suan, rate 0.01, seed 0" in (out / "benchmark.md").read_text("utf-8")
    assert set(again.losses["din"]) == {"0.001", "0.003", "0.01"}
    assert {line.name for line in again.equal if line.seeds} == {"din", "suan"}
    after = stamps(out)
    assert {path: after[path] for path in before} == before


def test_a_forecast_writes_nothing(data: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    found = forecast_benchmark(config_for(data, "suan", "trees"), tmp_path / "bench", jobs=2)
    assert not (tmp_path / "bench").exists()
    assert found.cells == {"din": 1, "suan": 2, "trees": 1}
    assert found.total == pytest.approx(sum(found.seconds.values()) / 2)
    assert found.total > 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_a_model_that_cannot_read_the_data_is_named_and_the_reference_is_not(
    data: Path, tmp_path: Path
) -> None:
    config = config_for(data, "sim", sets=(*SMALL, "sim.model.search=field", "sim.model.field=colour"))
    assert "colour" in forecast_benchmark(config, tmp_path / "bench").failed["sim"]
    with pytest.raises(ConfigError, match="colour"):
        forecast_benchmark(replace(config, reference="sim"), tmp_path / "bench")


def test_durations_are_told_in_a_fitting_unit() -> None:
    assert [duration(seconds) for seconds in (40, 720, 12_600)] == ["40 s", "12 min", "3.5 h"]


# --- a real kill


def processes_of(out: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(out).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def wait_for(path: Path) -> None:
    """Wait until a file exists that a pattern names."""
    for _ in range(1200):
        if list(path.parent.glob(path.name)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
@pytest.mark.slow
def test_a_killed_benchmark_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    # Enough steps after the first checkpoint for the kill to come in between.
    long = ("bst.epochs.count=6", "bst.early_stopping=false", "bst.validate_every=0", "checkpoint_every=20")
    config = config_for(data, "bst", reference="mlp", sets=(*SMALL, *long))
    options = ["--grade", "size-1", "--length", "8", "--seeds", "1", "--rates", "0.001", "--reference", "mlp"]
    options += [word for text in config.sets for word in ("--set", text)]
    command = ["benchmark", "--data", str(data), "--models", "bst", "--out", str(out), *options]
    running = subprocess.Popen([sys.executable, "-m", "clickscale", *command], stderr=subprocess.DEVNULL)
    cell = out / "runs/bst/rate-0.001-seed-0"
    wait_for(cell / "checkpoints/step-*")
    for process in processes_of(out):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    running.wait()
    assert not (cell / "done.json").exists()
    before = stamps(out)
    found = benchmark(config, out)
    assert found.failed == {}
    assert {line.name for line in found.equal if line.seeds} == {"mlp", "bst"}
    after = stamps(out)
    untouched = [path for path in before if "runs/mlp" in path]
    assert untouched
    assert [after[path] for path in untouched] == [before[path] for path in untouched]
    assert json.loads((cell / "done.json").read_text("utf-8"))["step"] == found.speeds["bst"].steps
