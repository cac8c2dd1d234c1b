"""All laws of a sweep, and their file."""

from pathlib import Path

import msgspec
import pytest

from clickscale.scaling.ladders import ladders
from clickscale.scaling.laws import LAWS, Laws, _form_of, fit_sweep, to_document, write_laws
from clickscale.sealed import read_document
from tests.scaling.planted import EXPONENTS, LENGTHS, planted_laws, planted_sweep


@pytest.fixture(scope="module")
def laws() -> Laws:
    return planted_laws()


def test_every_ladder_has_its_law_and_its_check(laws: Laws) -> None:
    told = {(fit.ladder.model, fit.ladder.axis) for fit in laws.ladders}
    assert told == {(model, axis) for model in ("din", "suan") for axis in EXPONENTS}
    for fit in laws.ladders:
        assert fit.check is not None
        assert fit.check.holds
        assert fit.reach == pytest.approx(fit.ladder.x[-1] * fit.check.factor)


def test_planted_exponents_are_inside_where_the_points_determine_them(laws: Laws) -> None:
    # The size of a ladder counts operations at its own length, the planted one those at the shortest.
    inside = [
        fit.law.exponent.low <= EXPONENTS[fit.ladder.axis] <= fit.law.exponent.high
        for fit in laws.ladders
        if fit.law is not None and fit.determined and fit.ladder.axis != "compute"
    ]
    assert len(inside) >= 3
    assert sum(inside) >= len(inside) - 1  # of intervals of 90%


def test_a_ladder_that_does_not_rise_is_told(laws: Laws) -> None:
    (flat,) = (fit for fit in laws.ladders if (fit.ladder.model, fit.ladder.axis) == ("din", "compute"))
    assert not flat.determined
    assert "does not rise" in flat.verdict


def test_gains_are_those_over_the_reference(laws: Laws) -> None:
    assert [(gain.model, gain.reference, gain.unit) for gain in laws.gains] == [
        ("suan", "din", "GFLOPs"),
        ("suan", "din", "million parameters"),
    ]


def test_the_file_holds_every_number(laws: Laws, tmp_path: Path) -> None:
    path = write_laws(laws, tmp_path)
    assert path == tmp_path / LAWS
    stored = read_document(path, "fit again")
    assert stored == msgspec.json.decode(msgspec.json.encode(to_document(laws)))
    ladder = stored["ladders"][0]
    assert len(ladder["law"]["residuals"]) == len(ladder["x"])
    low, value, high = ladder["held_out"]["predicted"]
    assert low < value < high
    assert stored["joint"][0]["law"]["cells"] == 90


@pytest.mark.wide
def test_the_same_points_have_the_same_laws() -> None:
    sweep = planted_sweep(("suan",), seeds=1)
    few = msgspec.structs.replace(sweep, cells=[cell for cell in sweep.cells if cell.length == LENGTHS[0]])
    one, other = (to_document(fit_sweep(few, Path("nowhere"))) for _ in range(2))
    assert one == other


def test_three_rungs_are_refused_a_law_and_a_check_by_name() -> None:
    sweep = planted_sweep(("suan",), seeds=1)
    kept = [c for c in sweep.cells if c.length in (50, 100, 200) and c.fraction == 1 and c.grade == "size-4"]
    found = fit_sweep(msgspec.structs.replace(sweep, cells=kept), Path("nowhere"))
    (fit,) = found.ladders
    assert fit.law is None
    assert fit.check is None
    assert "3 rungs with 3 cells" in fit.verdict
    assert fit.unchecked
    assert found.joint("suan").law is None
    assert "fewer than two axes" in found.joint("suan").refusal


def test_operations_are_subtracted_only_with_many_rungs() -> None:
    (ladder,) = (one for one in ladders(planted_sweep(("suan",), seeds=1)) if one.axis == "compute")
    assert _form_of(ladder) == "saturating"
    longer = type(ladder)(ladder.model, "compute", ladder.fixed, ladder.cells + ladder.cells[:2])
    assert _form_of(longer) == "shifted"
