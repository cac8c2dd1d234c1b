"""The ladder for an accelerator passes on a CPU, in miniature."""

import time
from pathlib import Path

import pytest

from benchmarks import accelerator_ladder
from clickscale.scaling.points import read_points
from tests.scaling.grids import SMALL, small_data

SETS = [word for text in SMALL for word in ("--set", text)]
GRID = ["--sizes", "size-1", "--lengths", "8", "--fractions", "1/2..1", *SETS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.mark.wide
def test_a_ladder_is_a_sweep_that_ends_in_time_and_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ladder"
    command = [str(out), "--data", str(data), *GRID]
    # The second cell would take about twice as long as the first.
    clock = iter([0.0, 0.0, 40.0, 40.0])
    with monkeypatch.context() as patch:
        patch.setattr(accelerator_ladder, "monotonic", lambda: next(clock))
        assert accelerator_ladder.main([*command, "--minutes", "1"]) == 0
    assert "suan-size-1-8-1-0 would take about 80 s, more than is left" in capsys.readouterr().out
    found = read_points(out)
    assert [cell.fraction for cell in found.cells] == [0.5]
    assert found.failed == {"suan-size-1-8-1-0": "no time was left"}
    assert accelerator_ladder.main(command) == 0
    whole = read_points(out)
    assert [cell.fraction for cell in whole.cells] == [0.5, 1.0]
    assert whole.failed == {}


@pytest.mark.wide
def test_the_budget_ends_a_cell_and_a_cell_that_fails_ends_no_other(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ladder"
    (out / "cells/suan-size-1-8-0.5-0").mkdir(parents=True)
    (out / "cells/suan-size-1-8-0.5-0/thesis.txt").write_text("years of work")
    command = [str(out), "--data", str(data), *GRID]
    (out / "cells").rename(tmp_path / "cells")
    begun = time.monotonic()
    assert accelerator_ladder.main([*command, "--minutes", "0"]) == 0
    assert time.monotonic() - begun < 20
    assert len(read_points(out).failed) == 2
    (tmp_path / "cells").rename(out / "cells")
    assert accelerator_ladder.main(command) == 1
    found = read_points(out)
    assert [cell.fraction for cell in found.cells] == [1.0]
    assert "not a run" in found.failed["suan-size-1-8-0.5-0"]


def test_a_world_is_made_by_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(accelerator_ladder.subprocess, "run", lambda words, check: asked.append(words))
    folder = accelerator_ladder._world(tmp_path / "ladder", "1e6", "easy")
    assert asked[0][2:] == [
        *("clickscale", "data", "world", "--impressions", "1e6", "--preset", "easy", "--out", str(folder))
    ]
