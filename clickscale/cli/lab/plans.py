"""The verbs ``laws`` and ``plan``: what a sweep says about larger models, more data and longer histories."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson
from clickscale.errors import ConfigError

if TYPE_CHECKING:
    from clickscale.evaluation.significance import Interval
    from clickscale.scaling.laws import LadderFit, Laws
    from clickscale.scaling.plan import Choice, Doubling, Plan

_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*")

SweepFolder = Annotated[Path, typer.Option("--sweep", metavar="DIR", help="Folder of a sweep.")]
Level = Annotated[
    float, typer.Option("--level", min=0.5, max=0.99, help="Share of intervals that hold the truth.")
]


def fit_laws(sweep: SweepFolder, level: Level = 0.9, as_json: AsJson = False) -> None:
    """Fit power laws to a sweep and check each on its largest cells.

    A ladder is what differs along one axis: operations, length or data. Its largest rung is predicted from
    the smaller ones and then compared. DIR/laws.json stores all fits.
    """
    from clickscale.scaling.laws import fit_sweep, to_document, write_laws
    from clickscale.scaling.points import read_points

    points = read_points(sweep)
    laws = fit_sweep(points, sweep, level=level)
    path = write_laws(laws, sweep)
    if as_json:
        emit(to_document(laws))
        return
    _show_laws(laws)
    say(f"laws: {path}")


def plan_models(
    sweep: SweepFolder,
    latency: Annotated[
        str, typer.Option("--latency", metavar="TIME", help="Of a request at most, such as 10ms.")
    ],
    train_hours: Annotated[
        float, typer.Option("--train-hours", metavar="H", help="Of one core, for both models together.")
    ],
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Of a request.")] = 500,
    factor: Annotated[
        float, typer.Option("--more", metavar="TIMES", min=1.01, help="Growth of an axis to ask about.")
    ] = 2.0,
    level: Level = 0.9,
    as_json: AsJson = False,
) -> None:
    """Choose a teacher and a student from a sweep, and tell what more data, length or size would be worth.

    The student fits the latency, and both fit the training time, with the upper ends of their intervals.
    Nothing is promised further out than a held-out check reached.
    """
    from clickscale.scaling.laws import fit_sweep
    from clickscale.scaling.plan import Budget, make_plan
    from clickscale.scaling.points import read_points

    budget = Budget(milliseconds(latency), candidates, train_hours)
    plan = make_plan(fit_sweep(read_points(sweep), sweep, level=level), budget, factor=factor)
    if as_json:
        from dataclasses import asdict

        emit(asdict(plan))
        return
    _show_plan(plan)


def milliseconds(text: str) -> float:
    """Milliseconds of a time such as ``10ms`` or ``0.1s``.

    Raises:
        ConfigError: it is not a time.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ConfigError(f"--latency {text!r} is not a time; write 10ms or 0.1s.")
    return float(found[1]) * (1000.0 if found[2] == "s" else 1.0)


# --- laws


def _show_laws(laws: "Laws") -> None:
    from clickscale.scaling.points import epochs_told

    points = laws.sweep
    passes = f"; epochs: {told}" if (told := epochs_told(points.cells)) else ""
    title = f"{points.data}, part {points.part}, fractions by {points.by}{passes}; "
    title += f"intervals of {laws.level:.0%}"
    headers = ("model", "axis", "at", "rungs", "exponent", "ceiling", "R2", "predicted", "measured", "check")
    notes = [
        f"{fit.ladder.model}, {fit.ladder.axis}: these points do not determine it: {fit.verdict}"
        for fit in laws.ladders
        if not fit.determined
    ]
    notes += [
        f"{fit.ladder.model}, {fit.ladder.axis}: no check: {fit.unchecked}"
        for fit in laws.ladders
        if fit.check is None
    ]
    show(grid(title, headers, [_ladder_row(fit) for fit in laws.ladders], notes))
    if laws.gains:
        _show_gains(laws)
    _show_joints(laws)
    if laws.equal:
        _show_equal(laws)
    if points.failed:
        say(f"note: {len(points.failed)} cells of the sweep failed: {', '.join(points.failed)}")


def _ladder_row(fit: "LadderFit") -> Sequence[object]:
    law, check, ladder = fit.law, fit.check, fit.ladder
    told = fit.determined
    return (
        ladder.model,
        ladder.axis,
        ladder.fixed,
        len(ladder.cells),
        _interval(law.exponent, 2) if law is not None and told else None,
        _interval(law.ceiling) if law is not None and told else None,
        law.r2 if law else None,
        _interval(check.predicted) if check else None,
        check.measured if check else None,
        check.told if check else "-",
    )


def _show_gains(laws: "Laws") -> None:
    rows = [
        (
            gain.model,
            gain.reference,
            gain.unit,
            _interval(gain.law.ceiling, 2) if gain.law and not gain.law.verdict else None,
            _interval(gain.law.exponent, 2) if gain.law and not gain.law.verdict else None,
            gain.law.r2 if gain.law else None,
        )
        for gain in laws.gains
    ]
    notes = [
        f"{gain.model}, {gain.unit}: these points do not determine it: "
        f"{'; '.join(gain.law.verdict) if gain.law else gain.refusal}"
        for gain in laws.gains
        if gain.law is None or gain.law.verdict
    ]
    headers = ("model", "over", "x", "gain in GAUC at x = 1, %", "exponent", "R2")
    show(grid("Gain over a reference, E x^a", headers, rows, notes))


def _show_joints(laws: "Laws") -> None:
    rows, notes = [], []
    for fit in laws.joints:
        if fit.law is None:
            notes.append(f"{fit.model}: {fit.refusal}")
            continue
        law = fit.law
        known = {} if law.verdict else law.exponents
        exponents = (_interval(known[axis], 2) if axis in known else None for axis in _AXES)
        ceiling = None if law.verdict else _interval(law.ceiling)
        check = fit.check.told if fit.check else fit.unchecked
        rows.append((fit.model, law.cells, ceiling, *exponents, law.r2, check))
        notes += [f"{fit.model}: these points do not determine it: {why}" for why in law.verdict]
        if law.steps:
            notes += [f"{fit.model}: {axis} has two values, which is a step and no law" for axis in law.steps]
    if not rows:
        for note in notes:
            say(f"no joint law of {note}")
        return
    headers = ("model", "cells", "ceiling", *_AXES, "R2", "check on the largest")
    title = "Joint law, E - A1 / C^a - A2 / L^b - A3 / D^g; exponents by axis"
    show(grid(title, headers, rows, notes))


_AXES = ("compute", "length", "data")


def _show_equal(laws: "Laws") -> None:
    models = [name for name in laws.sweep.models if any(name in row.auc for row in laws.equal)]
    rows = [
        (f"{row.operations:.3g}", *(row.told(name) for name in models), row.lead_told) for row in laws.equal
    ]
    notes = ["between two rungs, AUC is read off a straight line over the logarithm of the operations"]
    headers = ("operations", *models, "ahead of the next by")
    show(grid("Equal operations of training: AUC by the data ladders", headers, rows, notes))


# --- plan


def _show_plan(plan: "Plan") -> None:
    budget = plan.budget
    chosen = [("student", plan.student), *([("teacher", plan.teacher)] if plan.teacher else [])]
    notes = [
        f"student: the best AUC within {budget.latency_ms:g} ms for {budget.candidates} candidates",
        f"teacher: the best AUC whose training fits into {budget.train_hours:g} core hours with the student's"
        if plan.teacher
        else "no teacher: within the training time nothing is better than the student",
        f"AUC of one new run{f', epochs: {plan.epochs}' if plan.epochs else ''}, intervals of"
        f" {plan.level:.0%}; the student's is without distillation",
        *plan.refusals,
    ]
    headers = ("role", "model", "AUC", "from", "ms", "ms, user cached", "core hours")
    show(grid("Plan", headers, [(role, *_choice_row(choice)) for role, choice in chosen], notes))
    show(
        grid(
            f"{plan.doublings[0].factor:g} times as much",
            ("of", "for", "gain in AUC", "ms", "core hours"),
            [_doubling_row(one, plan) for one in plan.doublings],
            [
                f"{one.axis} of the {_role(one, plan)}: not promised: {one.refusal}"
                for one in plan.doublings
                if one.refusal
            ],
        )
    )
    if plan.teacher is not None:
        say(f"clickscale distill --teacher {plan.teacher.name} --student {plan.student.name} --data ...")


def _choice_row(choice: "Choice") -> Sequence[object]:
    return (
        choice.name,
        _interval(choice.auc),
        "measured" if choice.measured else "joint law",
        _few_digits(choice.latency),
        _few_digits(choice.cached),
        _few_digits(choice.hours),
    )


def _doubling_row(one: "Doubling", plan: "Plan") -> Sequence[object]:
    gain = f"{one.gain.value:+.4f} [{one.gain.low:+.4f}, {one.gain.high:+.4f}]" if one.gain else None
    costs = (None if math.isnan(value) else f"{value:.3g}" for value in (one.latency, one.hours))
    return (one.axis, _role(one, plan), gain, *costs)


def _role(one: "Doubling", plan: "Plan") -> str:
    return "student" if one.choice is plan.student else "teacher"


def _interval(interval: "Interval", digits: int = 4) -> str:
    if math.isnan(interval.low):
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _few_digits(interval: "Interval") -> str:
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}]"
