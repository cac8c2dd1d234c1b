"""All laws of a sweep with their held-out checks, and the file that stores them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clickscale.errors import DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.equal_operations import EqualOperations, at_equal_operations
from clickscale.scaling.held_out import HeldOut, JointCheck, hold_out, hold_out_joint
from clickscale.scaling.joint_law import JointLaw, fit_joint
from clickscale.scaling.ladders import CellLadder, UserLuck, ladders
from clickscale.scaling.law_profile import Form
from clickscale.scaling.points import Measured, Sweep
from clickscale.scaling.power_law import LEVEL, PowerLaw, Rungs, fit_law
from clickscale.sealed import write_document

LAWS = "laws.json"
REFERENCES = ("mlp", "din")  # models whose GAUC others are compared with, the first that a sweep has
_SHIFTED_FROM = 6  # rungs: below, a law that also subtracts operations has too many parameters


@dataclass(frozen=True)
class LadderFit:
    """A ladder, the law through it, and its check.

    Attributes:
        refusal: why there is no law. unchecked: why there is no check.
    """

    ladder: CellLadder
    law: PowerLaw | None
    check: HeldOut | None
    refusal: str = ""
    unchecked: str = ""

    @property
    def determined(self) -> bool:
        """True if the points determine a law."""
        return self.law is not None and not self.law.verdict

    @property
    def verdict(self) -> str:
        """Why the points do not determine a law; empty if they do."""
        return self.refusal if self.law is None else "; ".join(self.law.verdict)

    @property
    def reach(self) -> float:
        """The largest x that the check supports; that of the largest rung without a check that holds."""
        largest = float(self.ladder.x[-1])
        return largest * self.check.factor if self.check is not None and self.check.holds else largest


@dataclass(frozen=True)
class GainFit:
    """Gain in GAUC over a reference model, in percent, against GFLOPs or millions of dense parameters."""

    model: str
    reference: str
    unit: Literal["GFLOPs", "million parameters"]
    law: PowerLaw | None
    refusal: str = ""


@dataclass(frozen=True)
class _JointFit:
    """The joint law of a model and its check."""

    model: str
    law: JointLaw | None
    check: JointCheck | None
    refusal: str = ""
    unchecked: str = ""


@dataclass(frozen=True)
class Laws:
    """Everything that a sweep says about scaling.

    Attributes:
        equal: models beside each other at equal operations of training; empty where ladders do not overlap.
    """

    sweep: Sweep
    level: float
    ladders: list[LadderFit]
    gains: list[GainFit]
    joints: list[_JointFit]
    equal: list[EqualOperations]

    def joint(self, model: str) -> _JointFit:
        """The joint law of a model."""
        return next(fit for fit in self.joints if fit.model == model)


def fit_sweep(sweep: Sweep, folder: Path, *, level: float = LEVEL) -> Laws:
    """Fit and check all laws.

    Args:
        folder: of the sweep; the predictions below it tell the luck of the users.
    """
    luck, found = UserLuck(folder), ladders(sweep)
    return Laws(
        sweep=sweep,
        level=level,
        ladders=[_fit_ladder(ladder, luck, level) for ladder in found],
        gains=[gain for model in sweep.models for gain in _gains(sweep, model, level)],
        joints=[_fit_joint(model, sweep.of(model), level) for model in sweep.models],
        equal=at_equal_operations(found),
    )


def _form_of(ladder: CellLadder) -> Form:
    """The form of the law of a ladder: operations spent in vain take many rungs to tell."""
    return "shifted" if ladder.axis == "compute" and len(ladder.cells) >= _SHIFTED_FROM else "saturating"


def _fit_ladder(ladder: CellLadder, luck: UserLuck, level: float) -> LadderFit:
    form = _form_of(ladder)
    rungs = ladder.rungs(luck)
    check, unchecked = None, ""
    try:
        check = hold_out(rungs, form, level=level)
    except DataError as error:
        unchecked = f"without the largest rung, {error}"
    try:
        return LadderFit(ladder, fit_law(rungs, form, level=level), check, unchecked=unchecked)
    except DataError as error:
        return LadderFit(ladder, None, check, str(error), unchecked)


def _fit_joint(model: str, cells: Sequence[Measured], level: float) -> _JointFit:
    check, unchecked = None, ""
    try:
        check = hold_out_joint(cells, level=level)
    except DataError as error:
        unchecked = str(error)
    try:
        return _JointFit(model, fit_joint(cells, level=level), check, unchecked=unchecked)
    except DataError as error:
        return _JointFit(model, None, check, str(error), unchecked)


def _gains(sweep: Sweep, model: str, level: float) -> list[GainFit]:
    """Gains along the ladder of the grades."""
    reference = next((name for name in REFERENCES if name in sweep.models and name != model), None)
    ladder = next((one for one in ladders(sweep) if one.model == model and one.axis == "compute"), None)
    if reference is None or ladder is None:
        return []
    fraction = ladder.cells[0][0].fraction
    known = [cell for cell in sweep.of(reference) if cell.fraction == fraction and cell.gauc]
    if not known:
        return []
    smallest = min(cell.flops for cell in known)
    base = float(np.mean([cell.gauc for cell in known if cell.flops == smallest]))
    values = [tuple(100.0 * (c.gauc / base - 1.0) for c in rung if c.gauc) for rung in ladder.cells]
    if not all(values):
        return []
    flops = np.array([rung[0].flops / 1e9 for rung in ladder.cells])
    dense = np.array([rung[0].dense_parameters / 1e6 for rung in ladder.cells])
    return [
        _gain(GainFit(model, reference, "GFLOPs", None), flops, values, level),
        _gain(GainFit(model, reference, "million parameters", None), dense, values, level),
    ]


def _gain(fit: GainFit, x: np.ndarray[Any, Any], values: list[tuple[float, ...]], level: float) -> GainFit:
    try:
        law = fit_law(Rungs(x, tuple(values)), "gain", level=level)
    except DataError as error:
        return GainFit(fit.model, fit.reference, fit.unit, None, str(error))
    return GainFit(fit.model, fit.reference, fit.unit, law)


# --- the file


def write_laws(laws: Laws, folder: Path) -> Path:
    """Write ``laws.json`` into the folder of a sweep."""
    path = folder / LAWS
    write_document(path, to_document(laws))
    return path


def to_document(laws: Laws) -> dict[str, Any]:
    """JSON-ready form; numbers that are not defined are null."""
    return {
        "data": laws.sweep.data,
        "manifest": laws.sweep.manifest,
        "part": laws.sweep.part,
        "fractions_by": laws.sweep.by,
        "level": laws.level,
        "best_auc": laws.sweep.best_auc,
        "ladders": [_ladder_document(fit) for fit in laws.ladders],
        "gains": [_gain_document(fit) for fit in laws.gains],
        "joint": [_joint_document(fit) for fit in laws.joints],
        "equal_operations": [_equal_document(row) for row in laws.equal],
    }


def _ladder_document(fit: LadderFit) -> dict[str, Any]:
    ladder, check = fit.ladder, fit.check
    return {
        "model": ladder.model,
        "axis": ladder.axis,
        "fixed": ladder.fixed,
        "x": ladder.x.tolist(),
        "auc": [[cell.auc for cell in rung] for rung in ladder.cells],
        "law": None if fit.law is None else _law_document(fit.law),
        "determined": fit.determined,
        "verdict": fit.verdict,
        "reach": fit.reach,
        "held_out": None
        if check is None
        else {
            "x": check.x,
            "factor": check.factor,
            "seeds": check.seeds,
            "predicted": _interval(check.predicted),
            "measured": check.measured,
            "error": check.error,
            "inside": check.inside,
            "holds": check.holds,
            "told": check.told,
        },
        "unchecked": fit.unchecked,
    }


def _law_document(law: PowerLaw) -> dict[str, Any]:
    return {
        "form": law.form,
        "ceiling": _interval(law.ceiling),
        "exponent": _interval(law.exponent),
        "scale": law.scale,
        "shift": law.shift,
        "r2": _finite(law.r2),
        "noise": law.noise,
        "residuals": law.residuals.tolist(),
        "misfit_p": _finite(law.misfit),
        "verdict": list(law.verdict),
    }


def _gain_document(fit: GainFit) -> dict[str, Any]:
    return {
        "model": fit.model,
        "reference": fit.reference,
        "unit": fit.unit,
        "law": None if fit.law is None else _law_document(fit.law),
        "refusal": fit.refusal,
    }


def _joint_document(fit: _JointFit) -> dict[str, Any]:
    law, check = fit.law, fit.check
    document: dict[str, Any] = {"model": fit.model, "refusal": fit.refusal, "unchecked": fit.unchecked}
    document["law"] = (
        None
        if law is None
        else {
            "axes": list(law.axes),
            "ceiling": _interval(law.ceiling),
            "exponents": _by_axis(law.exponents),
            "scales": dict(law.scales),
            "steps": list(law.steps),
            "r2": _finite(law.r2),
            "noise": law.noise,
            "misfit_p": _finite(law.misfit),
            "cells": law.cells,
            "configurations": law.configurations,
            "verdict": list(law.verdict),
        }
    )
    document["held_out"] = (
        None
        if check is None
        else {
            "names": list(check.names),
            "predicted": [_interval(one) for one in check.predicted],
            "measured": list(check.measured),
            "factor": check.factor,
            "error": check.error,
            "inside": check.inside,
            "holds": check.holds,
        }
    )
    return document


def _equal_document(row: EqualOperations) -> dict[str, Any]:
    lead = row.lead
    return {
        "operations": row.operations,
        "auc": {model: values.tolist() for model, values in row.auc.items()},
        "ahead": row.ahead,
        "lead": None
        if lead is None
        else {"auc": _interval(Interval(lead.low, lead.high, lead.delta)), "p": _finite(lead.p_value)},
    }


def _by_axis(intervals: Mapping[Any, Interval]) -> dict[str, list[float | None]]:
    return {str(axis): _interval(interval) for axis, interval in intervals.items()}


def _interval(interval: Interval) -> list[float | None]:
    return [_finite(interval.low), _finite(interval.value), _finite(interval.high)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
