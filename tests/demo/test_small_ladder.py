from pathlib import Path

import pytest

from clickscale.demo.small_ladder import climb, ladder_config, ladder_on_page, told
from clickscale.scaling.laws import fit_sweep
from clickscale.scaling.points import Measured, Sweep
from tests.trained import tiny_prepared

IMPRESSIONS = (1_000, 2_000, 4_000, 8_000, 16_000)


def made_up(aucs: tuple[float, ...]) -> Sweep:
    """A sweep of two seeds, whose deviation is small."""
    cells = [
        Measured(
            model="suan",
            grade="size-1",
            length=50,
            fraction=impressions / IMPRESSIONS[-1],
            seed=seed,
            label="click",
            impressions=impressions,
            dense_parameters=1,
            flops=1,
            training_flops=1.0,
            auc=auc + (seed - 0.5) * 1e-4,
            gauc=None,
            log_loss=0.5,
        )
        for impressions, auc in zip(IMPRESSIONS, aucs, strict=True)
        for seed in (0, 1)
    ]
    return Sweep(data="log", manifest="0", by="time", part="test", cells=cells)


def test_a_ladder_on_a_law_is_predicted_and_told(tmp_path: Path) -> None:
    aucs = tuple(0.8 - 2.0 / impressions**0.5 for impressions in IMPRESSIONS)
    said = told(fit_sweep(made_up(aucs), tmp_path))
    assert said.startswith("suan, size-1, 50 behaviors, on 1,000 to 16,000 training impressions: AUC goes")
    assert "from 0.7368 to 0.7842." in said
    assert "0.7842 came out; the check holds up to 2 times beyond the points." in said
    assert "AUC = E - A / x^0.50 with a ceiling E of 0.8000 [" in said


def test_a_ladder_without_a_law_says_so(tmp_path: Path) -> None:
    said = told(fit_sweep(made_up((0.70, 0.71, 0.72, 0.73, 0.71)), tmp_path))
    assert "0.7100 came out; the check fails:" in said
    assert "These points do not determine a law:" in said


def test_without_rungs_the_reasons_stand_there(tmp_path: Path) -> None:
    empty = Sweep(data="log", manifest="0", by="time", part="test", cells=[], failed={"suan": "no AUC"})
    assert told(fit_sweep(empty, tmp_path)) == "The ladder has too few rungs: no AUC."


def test_a_stopped_ladder_goes_on_with_the_rungs_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder, notes = ladder_config(tiny_prepared(tmp_path).path, seeds=1), tmp_path / "ladder", []
    ran: list[float] = []
    monkeypatch.setattr(
        "clickscale.demo.small_ladder.run_cell",
        lambda config, cell, folder: ran.append(cell.fraction) or 143 * (cell.fraction == 0.25),
    )
    assert climb(config, folder, notes.append) == 143
    assert ran == [1 / 16, 1 / 8, 1 / 4]
    done = folder / "cells" / config.cells[0].name
    done.mkdir(parents=True)
    (done / "cell.json").write_text("{}")
    assert climb(config, folder, notes.append) == 143
    assert ran[3:] == [1 / 8, 1 / 4]
    assert [note.rpartition(", ")[2] for note in notes] == ["5 short runs", "4 short runs"]


def test_the_section_has_the_figure_and_the_next_commands(tmp_path: Path) -> None:
    aucs = tuple(0.8 - 2.0 / impressions**0.5 for impressions in IMPRESSIONS)
    section = ladder_on_page(fit_sweep(made_up(aucs), tmp_path), Path("demo/ladder"))
    assert len(section.plots) == len(section.tables) == 1
    assert section.code[0].splitlines()[0] == "clickscale laws --sweep demo/ladder"
