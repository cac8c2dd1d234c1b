"""Scripts of benchmarks keep pace with the package that they measure."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked_commands import CommandServer
from tests.trained import tiny_prepared

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_script_finds_what_it_imports(command_server: CommandServer) -> None:
    names = [path.stem for path in sorted(BENCHMARKS.glob("*.py"))]
    assert len(names) > 20
    program = f"import sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n"
    done = command_server.run_program(program + "".join(f"import {name}\n" for name in names))
    assert done.returncode == 0, done.stderr[-2000:]


def test_means_over_logs_have_intervals_from_log_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    over_logs = importlib.import_module("defaults").over_logs

    def log(trees: float, din: float) -> list[dict[str, object]]:
        rest = {"gauc": 0.6, "request_auc": 0.6, "log_loss": 0.5}
        return [{"model": "trees", "auc": trees, **rest}, {"model": "din", "auc": din, **rest}]

    head, _, trees, din = over_logs({"a": log(0.70, 0.71), "b": log(0.72, 0.75)}, ("trees", "din"))[-4:]
    assert head == "| model | mean | less trees | less din |"
    assert trees.startswith("| trees | 0.7100, 0.6000,")
    # Differences of .01 and .03: mean .02, standard error .01, and 12.706 is Student's t of one degree.
    assert "| din | 0.7300, 0.6000, 0.6000, 0.5000 | +0.0200 ± 0.1271, +0.0000 ± 0.0000" in din


@pytest.mark.slow
def test_students_teachers_and_the_gap_stand_in_a_table(tmp_path: Path) -> None:
    data, models = (
        tiny_prepared(tmp_path).path,
        ("--student", "lightsuan:size-1:4", "--teachers", "suan:size-1:8"),
    )
    options = ("--together", "--seeds", "1", "--bootstrap", "5", "--part", "valid")
    printed = run("distillation_table.py", str(data), str(tmp_path / "out"), *models, *options)
    for row in ("student alone", "teacher", "distilled student", "distilled together"):
        assert f"| {row} | 1 |" in printed
    assert "| distilled student, share of the gap closed |" in printed


@pytest.mark.slow
def test_a_strange_log_is_drawn_prepared_and_measured(tmp_path: Path) -> None:
    words = ("strange_logs.py", str(tmp_path), "--logs", "dates", "--models", "mlp", "--seeds", "1")
    header, _, row = run(*words).splitlines()[-3:]
    measured = dict(zip(header.split("|"), row.split("|"), strict=True))
    auc = {name.strip(): float(text.split(",")[0]) for name, text in measured.items() if "," in text}
    assert auc["constant"] == 0.5
    assert auc["constant"] < auc["mlp"] < auc["truth"]
    assert auc["constant"] < auc["logistic"] < auc["truth"]
    assert run(*words).splitlines()[-1] == row  # what is there is kept
