"""Sweeps from end to end, their continuation after kills, and cells that fail."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from clickscale.costs.flops import measure_cost
from clickscale.errors import ConfigError, RunError
from clickscale.locks import one_writer
from clickscale.scaling.points import POINTS, Sweep, read_points
from clickscale.scaling.sweeps import sweep as sweep_module
from clickscale.scaling.sweeps.sweep import forecast_sweep, sweep
from clickscale.sealed import read_document, write_document
from clickscale.training.run.folder import load_run
from clickscale.training.run_state import read_done
from clickscale.workflow import run_results
from tests.benchmarking.jobs import jobs_here
from tests.data.tiny import tiny_dataset, tiny_source
from tests.forked_commands import CommandServer
from tests.scaling.grids import SMALL, small_data, small_sweep


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module, "run_jobs", jobs_here)
        yield


@pytest.fixture(scope="module")
def done(data: Path, in_process: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    out = tmp_path_factory.mktemp("done") / "sweep"
    return sweep(small_sweep(data), out), out


def test_every_cell_is_a_run_and_a_point(done: tuple[Sweep, Path], data: Path) -> None:
    found, out = done
    assert read_points(out) == found
    assert (found.by, found.part, found.failed) == ("time", "test", {})
    assert [cell.name for cell in found.cells] == [
        "mlp-size-1-8-0.5-0",
        "mlp-size-1-8-1-0",
        "suan-size-1-8-0.5-0",
        "suan-size-1-8-1-0",
    ]
    for cell in found.cells:
        run = load_run(out / cell.run)
        assert (run.config.model, run.config.length, run.config.portion.fraction) == (
            cell.model,
            8,
            cell.fraction,
        )
        result = run_results(out / cell.run, "test")[0]
        assert (cell.auc, cell.log_loss) == (result.auc.value, result.log_loss.value)
        cost = measure_cost(run.model, run.dataset.features, 8)
        assert cell.epochs == 1
        assert (cell.dense_parameters, cell.flops) == (cost.dense, round(cost.user + cost.candidate))
        assert (out / cell.predictions).is_file()
        assert (cell.cpu_seconds or 0) > 0
    half, whole = found.of("suan")
    assert (half.impressions, whole.impressions) == (160, 320)
    assert half.training_flops < whole.training_flops
    # mlp shares nothing among impressions: each is three forward passes over at most a full history.
    mlp = found.of("mlp")[1]
    assert 0.3 < mlp.training_flops / (3 * 320 * mlp.flops) < 1


def test_finished_cells_stay_and_other_axes_join_them(
    done: tuple[Sweep, Path], data: Path, in_process: None, tmp_path: Path
) -> None:
    found, out = done
    before, written = (
        (out / POINTS).read_bytes(),
        {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")},
    )
    said: list[str] = []
    assert sweep(small_sweep(data), out, say=said.append) == found
    assert said[0] == "all 4 cells are finished"
    assert (out / POINTS).read_bytes() == before
    more = sweep(small_sweep(data, models=("mlp",), fractions=(0.25,), latency=True), out, say=said.append)
    assert {cell.fraction for cell in more.of("mlp")} == {0.25, 0.5, 1.0}
    assert len(more.of("suan")) == 2
    assert all((cell.latency_ms or 0) > (cell.cached_ms or 9) > 0 for cell in more.cells)
    assert any(line.startswith("mlp-size-1-8-0.25-0: done in ") for line in said)
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_cell_that_fails_stops_no_other_and_is_tried_again(
    data: Path, in_process: None, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    strange = out / "cells/mlp-size-1-8-0.5-0"
    config = small_sweep(data, models=("mlp",))
    sweep(replace(config, fractions=(1.0,)), out)
    strange.mkdir()
    (strange / "thesis.txt").write_text("years of work")
    found = sweep(replace(config, fractions=(0.5, 0.25)), out)
    assert list(found.failed) == [strange.name]
    assert [cell.fraction for cell in found.cells] == [0.25, 1.0]
    assert read_points(out).failed == found.failed
    (strange / "thesis.txt").unlink()
    again = sweep(config, out)
    assert again.failed == {}
    assert len(again.cells) == 3
    # A damaged cell is named, and the others stand.
    (strange / "cell.json").write_text("{}")
    assert str(strange / "cell.json") in sweep(config, out).failed[strange.name]


def test_two_epochs_end_early_and_the_points_say_after_how_many(
    data: Path, in_process: None, tmp_path: Path
) -> None:
    sets = (*SMALL, "validate_every=5", "patience=1", "optimizer.learning_rate=1.0")
    config = small_sweep(data, models=("mlp",), fractions=(1.0,), epochs=4, sets=sets)
    (cell,) = sweep(config, tmp_path / "sweep").cells
    (told,) = read_points(tmp_path / "sweep").cells
    run = load_run(tmp_path / "sweep" / cell.run)
    assert run.config.epochs.count == 4
    assert cell.epochs == told.epochs
    assert 0 < (cell.epochs or 0) < 4, "a learning rate of 1 gains nothing for long"
    assert (cell.epochs or 0) * cell.impressions == pytest.approx(
        read_done(tmp_path / "sweep" / cell.run).samples, abs=1
    )


def test_the_best_auc_of_a_simulated_world_stands_beside_the_points(
    data: Path, in_process: None, tmp_path: Path
) -> None:
    config, out = small_sweep(data, models=("mlp",), fractions=(0.5,)), tmp_path / "sweep"
    found = sweep(config, out)
    assert found.best_auc is None
    path = out / found.cells[0].run / "evaluation-test.json"
    truths = [{"label": "like", "drawn_auc": 0.6}, {"label": "click", "drawn_auc": 0.7}]
    write_document(path, read_document(path, "") | {"regret": truths})
    assert sweep(config, out).best_auc == 0.7
    assert read_points(out).best_auc == 0.7


def test_a_model_that_cannot_read_the_data_is_named(data: Path, in_process: None, tmp_path: Path) -> None:
    sets = ("batch_size=16", "sim.model.search=field", "sim.model.field=colour")
    found = sweep(small_sweep(data, models=("sim", "mlp"), fractions=(1.0,), sets=sets), tmp_path / "sweep")
    assert "colour" in found.failed["sim-size-1-8-1-0"]
    assert found.models == ["mlp"]


def test_a_forecast_begins_nothing(data: Path, tmp_path: Path) -> None:
    found = forecast_sweep(small_sweep(data), tmp_path / "sweep", jobs=2)
    assert len(found.seconds) == 4
    assert found.total > 0
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_without_a_part_or_in_two_processes_is_refused(data: Path, tmp_path: Path) -> None:
    from clickscale.data.source import Split

    untested = tiny_dataset(tmp_path, tiny_source(split=Split(test=0)))
    with pytest.raises(ConfigError, match="has no part 'test'"):
        sweep(small_sweep(untested), tmp_path / "sweep")
    program = (
        "import sys, pathlib\nfrom clickscale.locks import one_writer\n"
        "from clickscale.errors import RunError\n"
        f"with one_writer(pathlib.Path({str(tmp_path / 'busy')!r}), RunError):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="is being written by process"):
            sweep(small_sweep(data), tmp_path / "busy")
        other.communicate("")


# --- kills

# A process with everything loaded is forked again and again; each child dies at its n-th rename.
_KILLED = """
import os, sys, pathlib
from clickscale.scaling.sweeps import sweep as module
from tests.benchmarking.jobs import jobs_here
from tests.scaling.grids import small_sweep
module.run_jobs = jobs_here
data, out = map(pathlib.Path, sys.argv[1:3])
config = small_sweep(data)
module.sweep(config, out / "straight")
for last in [*map(int, sys.argv[3:]), 0]:
    if os.fork() == 0:
        calls, replace = [0], os.replace
        def deadly(*names):
            calls[0] += 1
            if calls[0] == last:
                os._exit(9)
            replace(*names)
        os.replace = deadly
        module.sweep(config, out / "killed")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    print(code, len(list((out / "killed/cells").glob("*/cell.json"))), flush=True)
"""


@pytest.mark.wide
def test_a_sweep_that_was_killed_gives_the_same_bytes(
    data: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    done = command_server.run_program(_KILLED, str(data), str(tmp_path), "12", "25", "30")
    assert done.returncode == 0, done.stderr
    codes, finished = zip(*(map(int, line.split()) for line in done.stdout.splitlines()[-4:]), strict=True)
    assert codes == (9, 9, 9, 0)
    assert finished[0] < finished[2] < finished[3] == 4
    assert (tmp_path / "killed" / POINTS).read_bytes() == (tmp_path / "straight" / POINTS).read_bytes()


def processes_of(out: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(out).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def start_sweep(data: Path, out: Path, jobs: int) -> "subprocess.Popen[bytes]":
    """Ten cells of each of three models, in processes."""
    command = ["sweep", "--data", str(data), "--out", str(out), "--jobs", str(jobs), "--no-latency"]
    command += ["--models", "mlp,suan,din", "--sizes", "size-1", "--lengths", "8", "--seeds", "2"]
    command += ["--fractions", "1/16..1", *(word for text in SMALL for word in ("--set", text))]
    return subprocess.Popen([sys.executable, "-m", "clickscale", *command], stderr=subprocess.DEVNULL)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thirty_cells_killed_five_times_give_the_bytes_of_one_process(
    data: Path, in_process: None, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    for finished in (2, 7, 13, 18, 24):
        running = start_sweep(data, out, 2)
        while len(list(out.glob("cells/*/cell.json"))) < finished:
            time.sleep(0.05)
            assert running.poll() is None
        for process in processes_of(out):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        running.wait()
        with one_writer(out, RunError):  # the killed process left no lock
            pass
    assert start_sweep(data, out, 2).wait() == 0
    config = small_sweep(
        data, models=("mlp", "suan", "din"), fractions=(1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0), seeds=2
    )
    straight = sweep(config, tmp_path / "straight")
    assert len(straight.cells) == 30
    assert (out / POINTS).read_bytes() == (tmp_path / "straight" / POINTS).read_bytes()
    assert json.loads((out / "speeds.json").read_bytes()).keys() > {cell.name for cell in straight.cells}


@pytest.mark.benchmark
@pytest.mark.timeout(3000)
def test_two_workers_take_little_more_than_half_the_time(data: Path, tmp_path: Path) -> None:
    seconds = {}
    for jobs in (2, 1):
        begun = time.monotonic()
        assert start_sweep(data, tmp_path / str(jobs), jobs).wait() == 0
        seconds[jobs] = time.monotonic() - begun
    print(f"30 cells: one worker {seconds[1]:.0f} s, two workers {seconds[2] / seconds[1]:.2f} of it")
    assert seconds[2] <= 0.6 * seconds[1]
