import json
from pathlib import Path
from typing import Any

import pytest

from clickscale.cli import main
from clickscale.scaling.points import read_points
from clickscale.scaling.sweeps import sweep as sweep_module
from tests.benchmarking.jobs import jobs_here
from tests.scaling.grids import SMALL, small_data

SETS = [word for text in SMALL for word in ("--set", text)]
GRID = ["--models", "mlp", "--sizes", "size-1", "--lengths", "8", "--fractions", "1/2..1", *SETS]
ONE = ["--seeds", "1", "--no-latency"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


def test_a_sweep_is_forecast_run_cell_by_cell_and_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_module, "run_jobs", jobs_here)
    out, begin = tmp_path / "sweep", ["sweep", "--data", str(data), *GRID, *ONE]
    begin += ["--out", str(out)]

    def told(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*begin, *words]) == code
        return capsys.readouterr()

    assert (
        "suan-size-1-8 is left out: Unknown label 'buy'"
        in told("--models", "suan", "--label", "buy", "--dry-run", code=1).err
    )
    forecast = json.loads(told("--dry-run", "--json").out)
    assert list(forecast["cells"]) == ["mlp-size-1-8-0.5-0", "mlp-size-1-8-1-0"]
    assert forecast["seconds"] == pytest.approx(sum(forecast["cells"].values()))
    assert min(forecast["core_hours"], forecast["tflop"]) > 0
    assert set(forecast["epochs"].values()) == {1}
    assert "each has 2 epochs, less if it stops early" in " ".join(
        told("--dry-run", "--epochs", "2").out.split()
    )
    assert not out.exists()
    out.write_text("years of work")
    assert "sweep is a file" in told("--dry-run", code=2).err
    out.unlink()
    assert "core-hours" in told("--dry-run").out
    shown = told()
    assert [line.split()[:6] for line in shown.out.splitlines() if line.strip().startswith("mlp")] == [
        ["mlp", "size-1", "8", "160", "1", "1"],
        ["mlp", "size-1", "8", "320", "1", "1"],
    ]
    assert "cells left: 0, about 0 s" in shown.err
    assert "all 2 cells are finished" in told("--dry-run").out
    assert "by is 'time', not 'users'" in told("--dry-run", "--by", "users", code=2).err
    assert "epochs is 1, not 2" in told("--epochs", "2", code=2).err
    # Without --models the sweep goes on as it was asked for; a scheduler of one's own runs cell by cell.
    begin = ["sweep", "--out", str(out)]
    assert len(json.loads(told("--json").out)["cells"]) == 2
    told("--cell", "mlp-size-1-8-1-0")
    assert "Unknown cell 'mlp-size-1-8-2-0'" in told("--cell", "mlp-size-1-8-2-0", code=2).err
    (out / "cells/mlp-size-1-8-1-0/cell.json").unlink()
    moved = data.rename(tmp_path / "moved")
    told("--cell", "mlp-size-1-8-1-0", "--data", str(moved))
    moved.rename(data)
    assert len(read_points(out).cells) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models", "mlp"], "name it with --data"),
        (["--data", "x", "--models", "mlp", "--sizes", "tiny"], "Unknown size 'tiny'"),
        (["--data", "x", "--models", "mlp", "--fractions", "3"], "--fractions is '3'"),
        ([], "holds no sweep"),
        (["--cell", "a"], "holds no sweep"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--out", str(tmp_path / "sweep"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
