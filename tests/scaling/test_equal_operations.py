"""Models at equal operations of training."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from clickscale.scaling.equal_operations import at_equal_operations
from clickscale.scaling.ladders import CellLadder, ladders
from clickscale.scaling.laws import fit_sweep, to_document
from clickscale.scaling.points import Sweep
from tests.scaling.planted import planted_sweep


def costlier(times: float, *, seeds: int = 3) -> Sweep:
    """A planted sweep in which every run of SUAN takes ``times`` the operations of DIN's."""
    sweep = planted_sweep(seeds=seeds)
    cells = [
        msgspec.structs.replace(cell, training_flops=cell.training_flops * times)
        if cell.model == "suan"
        else cell
        for cell in sweep.cells
    ]
    return msgspec.structs.replace(sweep, cells=cells)


def data_ladder(sweep: Sweep, model: str) -> CellLadder:
    (found,) = (one for one in ladders(sweep) if (one.model, one.axis) == (model, "data"))
    return found


def test_a_model_of_four_times_the_operations_is_read_two_doublings_earlier() -> None:
    sweep = costlier(4.0)
    suan, din = data_ladder(sweep, "suan"), data_ladder(sweep, "din")
    rows = at_equal_operations(ladders(sweep))
    assert [row.operations for row in rows] == pytest.approx(din.operations[2:])
    for number, row in enumerate(rows):
        np.testing.assert_allclose(row.auc["suan"], [cell.auc for cell in suan.cells[number]])
        np.testing.assert_allclose(row.auc["din"], [cell.auc for cell in din.cells[number + 2]])


def test_between_two_rungs_auc_is_on_the_line_over_the_logarithm() -> None:
    sweep = costlier(3.0)
    suan = data_ladder(sweep, "suan").rungs().values
    (row, *_) = at_equal_operations(ladders(sweep))
    share = np.log2(4 / 3)  # of the way from the first rung of SUAN to its second
    expected = [low * (1 - share) + high * share for low, high in zip(*suan[:2], strict=True)]
    np.testing.assert_allclose(row.auc["suan"], expected)


def test_a_rung_of_more_data_may_cost_less() -> None:
    sweep = costlier(1.0)
    cells = [
        msgspec.structs.replace(c, training_flops=c.training_flops * (0.4 if c.fraction == 1 else 1.0))
        for c in sweep.cells
    ]
    ladder = data_ladder(sweep, "suan")
    (*_, row) = at_equal_operations(ladders(msgspec.structs.replace(sweep, cells=cells)))
    assert row.operations == pytest.approx(ladder.operations[-2])
    np.testing.assert_allclose(row.auc["suan"], [cell.auc for cell in ladder.cells[-2]])


def test_the_lead_is_of_the_best_over_the_next_by_seeds() -> None:
    (*_, row) = at_equal_operations(ladders(costlier(1.0)))
    assert row.ahead == "suan"
    assert row.lead is not None
    assert row.lead.delta == pytest.approx(row.auc["suan"].mean() - row.auc["din"].mean())
    assert row.lead.p_value < 0.05
    assert "suan +0." in row.lead_told
    assert row.told("suan") == f"{row.auc['suan'].mean():.4f} ±{row.auc['suan'].std(ddof=1):.4f}"
    assert row.told("est") == "-"


def test_one_seed_has_no_test_and_ladders_apart_have_no_row() -> None:
    (*_, row) = at_equal_operations(ladders(costlier(1.0, seeds=1)))
    assert row.lead is None
    assert row.lead_told == "suan"
    assert at_equal_operations(ladders(costlier(1e6))) == []
    assert at_equal_operations(ladders(planted_sweep(("suan",)))) == []


def test_a_seed_that_a_rung_lacks_is_left_out() -> None:
    sweep = costlier(1.0)
    kept = [c for c in sweep.cells if (c.model, c.fraction, c.seed) != ("din", 0.5, 1)]
    (*_, row) = at_equal_operations(ladders(msgspec.structs.replace(sweep, cells=kept)))
    assert (len(row.auc["din"]), len(row.auc["suan"])) == (2, 3)
    assert row.lead is not None
    assert row.lead.delta == pytest.approx(np.mean(row.auc["suan"][[0, 2]] - row.auc["din"]))


def test_the_file_of_laws_holds_them() -> None:
    sweep = costlier(4.0)
    kept = [cell for cell in sweep.cells if (cell.grade, cell.length) == ("size-4", 200)]
    found = fit_sweep(msgspec.structs.replace(sweep, cells=kept), Path("nowhere"))
    rows = to_document(found)["equal_operations"]
    assert [row["ahead"] for row in rows] == ["suan"] * 4
    assert set(rows[0]["auc"]) == {"suan", "din"}
    assert len(rows[0]["lead"]["auc"]) == 3
