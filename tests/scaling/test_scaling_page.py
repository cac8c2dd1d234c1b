"""The page about a sweep."""

import re
from pathlib import Path

import msgspec
import pytest

from clickscale import workflow
from clickscale.errors import DataError, RunError
from clickscale.scaling.points import Sweep, write_points
from clickscale.scaling.scaling_page import write_report
from tests.scaling.planted import NAME, planted_sweep
from tests.trained import tiny_prepared, tiny_run


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def small_sweep() -> Sweep:
    """A sweep that is fitted quickly: one model, two seeds, few lengths."""
    sweep = planted_sweep(("suan",), seeds=2)
    kept = [c for c in sweep.cells if c.length in (10, 50, 100, 200)]
    return msgspec.structs.replace(sweep, cells=kept, failed={"suan-size-9-1-1-0": "out of memory"})


def one_ladder() -> Sweep:
    """A sweep of fractions only."""
    sweep = planted_sweep(("suan",), seeds=2)
    return msgspec.structs.replace(
        sweep, cells=[c for c in sweep.cells if (c.grade, c.length) == ("size-4", 200)]
    )


@pytest.mark.wide
def test_a_page_shows_laws_predictions_costs_and_commands(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    write_points(sweep, small_sweep())
    asked = {
        "data": "prepared",
        "models": ["suan"],
        "sizes": ["size-1", "size-2"],
        "lengths": [10, 50],
        "fractions": [0.25, 1.0],
        "by": "time",
        "seeds": 2,
        "part": "test",
        "sets": ["epochs.count=2"],
    }
    (sweep / "options.json").write_bytes(msgspec.json.encode({"config": asked, "data": "0" * 64}))
    page = write_report([sweep], tmp_path / "page", command="clickscale report ...")
    html = page.read_text("utf-8")
    shown = words(html)
    for title in (
        NAME,
        "What size, length and data are worth",
        "Prediction against result",
        "One law for all three",
        "Accuracy against cost",
        "What twice as much would be worth",
        "Commands",
        "clickscale sweep --data prepared --models suan --sizes size-1,size-2 --lengths 10,50 "
        f"--fractions 0.25,1 --by time --seeds 2 --epochs 1 --part test --set epochs.count=2 --out {sweep}",
        f"clickscale laws --sweep {sweep}",
        "clickscale report ...",
        "does not hold its runs",
        "best possible",
        "size-4, L = 200",
        "1 cell failed: suan-size-9-1-1-0",
    ):
        assert title in shown, title
    assert "nan" not in shown
    assert 'src="' not in html, "nothing is loaded from elsewhere"
    svgs = {path.stem for path in page.parent.glob("*.svg")}
    assert svgs == {path.stem for path in page.parent.glob("*.png")}
    assert len(svgs) == html.count("<svg")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in page.parent.glob("*.png"))


def test_a_sweep_without_times_shows_operations_only(tmp_path: Path) -> None:
    sweep = one_ladder()
    cells = [
        msgspec.structs.replace(c, latency_ms=None, cached_ms=None, cpu_seconds=None) for c in sweep.cells
    ]
    write_points(tmp_path, msgspec.structs.replace(sweep, cells=cells, best_auc=None))
    shown = words(write_report([tmp_path], tmp_path / "page.html").read_text("utf-8"))
    assert "No latencies were measured." in shown
    assert "AUC against operations" in shown
    assert "twice as much" not in shown
    assert "best possible" not in shown
    assert "epoch." not in shown
    assert "saw its data" not in shown


@pytest.mark.wide
def test_a_page_says_how_often_runs_saw_their_data(tmp_path: Path) -> None:
    sweep = one_ladder()
    for passes, told in (((2.0,), "saw its data 2 times"), ((1.5, 2.0), "saw its data 1.5 to 2 times")):
        cells = [
            msgspec.structs.replace(cell, epochs=passes[number % len(passes)])
            for number, cell in enumerate(sweep.cells)
        ]
        write_points(tmp_path, msgspec.structs.replace(sweep, cells=cells))
        shown = words(write_report([tmp_path], tmp_path / "page.html").read_text("utf-8"))
        assert told in shown
        assert f"size-4, 200 behaviors 6 {' to '.join(f'{one:g}' for one in passes)}" in shown


@pytest.mark.wide
def test_runs_have_their_sections_behind_those_of_a_sweep(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    run = tiny_run(tmp_path, dataset, "mlp", 0)
    sweep = one_ladder()
    cells = [msgspec.structs.replace(c, run=run.name) for c in sweep.cells]
    write_points(tmp_path, msgspec.structs.replace(sweep, cells=cells))
    # Runs of a sweep that were not evaluated are left out, those that are named must be.
    shown = words(write_report([tmp_path], tmp_path / "page.html").read_text("utf-8"))
    assert "What size, length and data are worth" in shown
    assert "Calibration" not in shown
    assert "The runs of the sweep are not shown: " in shown
    with pytest.raises(RunError):
        write_report([tmp_path, run], tmp_path / "page.html")
    workflow.evaluate(run, bootstrap=20)
    for folders in ([tmp_path], [tmp_path, run]):
        page = write_report(folders, tmp_path / "page.html", candidates=0)
        shown = words(page.read_text("utf-8"))
        assert shown.index("Accuracy against cost") < shown.index("Results on the test part")
        for title in ("How the models behave", "The data", f"clickscale evaluate {run}"):
            assert title in shown, title


def test_options_that_are_none_are_refused(tmp_path: Path) -> None:
    write_points(tmp_path, one_ladder())
    (tmp_path / "options.json").write_text("{}")
    with pytest.raises(DataError, match="holds no options of a sweep"):
        write_report([tmp_path], tmp_path / "page.html")
