"""The page about a sweep: its ladders and laws, held-out checks, accuracy against cost, and what comes next.

`clickscale.run_page` makes the page about runs; here its sections follow those of the sweep.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clickscale.arrays import Floats
from clickscale.errors import ClickscaleError
from clickscale.evaluation.significance import Interval
from clickscale.report import scaling_plots
from clickscale.report.page import Page, PageTable, Section, Tile
from clickscale.report.results import with_interval
from clickscale.report.scaling_plots import CheckLine, CostPoint, LadderLine
from clickscale.run_page import CANDIDATES, make_run_page, store_page, write_run_page
from clickscale.scaling.equal_operations_page import equal_operations_section
from clickscale.scaling.held_out import MOST_ERROR
from clickscale.scaling.ladders import AXES, UNITS, Axis
from clickscale.scaling.laws import GainFit, LadderFit, Laws, fit_sweep
from clickscale.scaling.plan import Choice, Doubling, doublings_of, options_of
from clickscale.scaling.points import CANDIDATES as TIMED
from clickscale.scaling.points import epochs_told, is_sweep, read_points
from clickscale.scaling.power_law import PowerLaw
from clickscale.scaling.sweeps.sweep_config import sweep_commands
from clickscale.training.run.folder import CONFIG
from clickscale.version import __version__

_COMMANDS = "Commands"
_FRACTIONS = {"time": "its newest impressions", "users": "samples of its users"}
_CURVE = 80  # points of a drawn law
_TITLES: dict[Axis, str] = {"compute": "Size", "length": "Length of the history", "data": "Training data"}
_WORDS: dict[Axis, str] = {"compute": "size", "length": "length", "data": "data"}


def write_report(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    part: str = "test",
    label: str = "",
    data: str | Path | None = None,
    candidates: int = CANDIDATES,
    command: str = "",
) -> Path:
    """Write a page about sweeps and runs, with the arguments of `write_run_page`.

    Raises:
        RunError: a folder is neither a sweep nor an evaluated run.
        DataError: the runs were measured on different impressions.
    """
    sweeps = [Path(folder) for folder in folders if is_sweep(Path(folder))]
    runs = [folder for folder in folders if Path(folder) not in sweeps]
    if not sweeps:
        return write_run_page(
            runs, out, part=part, label=label, data=data, candidates=candidates, command=command
        )
    fitted = {folder: fit_sweep(read_points(folder), folder) for folder in sweeps}
    about, why = None, ""
    if runs:
        about = make_run_page(runs, part=part, label=label, data=data, candidates=candidates, command=command)
    else:
        about, why = _largest_runs(*next(iter(fitted.items())), label, data, command)
    found = [
        section
        for folder, laws in fitted.items()
        for section in _sections(laws, folder, several=len(sweeps) > 1)
    ]
    commands = [line for folder in fitted for line in sweep_commands(folder)]
    shown = [section for section in about.sections if section.title == _COMMANDS] if about else []
    commands += [code for section in shown for code in section.code] or [command]
    text = "The numbers of this page come from these commands."
    last = Section(_COMMANDS, text, code=["\n".join(filter(None, commands))], note=why)
    return store_page(_page(fitted, found, about, last), out)


def _largest_runs(
    folder: Path, laws: Laws, label: str, data: str | Path | None, command: str
) -> tuple[Page | None, str]:
    """A page about the largest run of each model of a sweep, or None and the reason."""
    cells = [
        max(laws.sweep.of(model), key=lambda cell: (cell.impressions, cell.flops, -cell.seed))
        for model in laws.sweep.models
    ]
    runs = [folder / cell.run for cell in cells if cell.run and (folder / cell.run / CONFIG).is_file()]
    if not runs:
        return None, "The folder of the sweep does not hold its runs, so the page shows none of them."
    part = laws.sweep.part
    try:
        page = make_run_page(runs, part=part, label=label, data=data, candidates=0, command=command)
    except ClickscaleError as error:
        return None, f"The runs of the sweep are not shown: {error}"
    return page, ""


def _page(fitted: Mapping[Path, Laws], found: list[Section], about: Page | None, last: Section) -> Page:
    """The page, the sections about runs behind those of the sweeps, the commands at the end."""
    laws = next(iter(fitted.values()))
    first = laws.sweep
    shown = [section for section in about.sections if section.title != _COMMANDS] if about else []
    cells = sum(len(one.sweep.cells) for one in fitted.values())
    return Page(
        title=f"{first.data}: what the next size is worth",
        subtitle=f"{_count(cells, 'run')} of {', '.join(first.models)}, measured on part {first.part}. "
        f"Fractions of the data are {_FRACTIONS[first.by]}.{_passes(fitted.values())} Intervals are those of"
        f" {laws.level:.0%}.",
        tiles=_tiles(laws),
        sections=[*found, *shown, last],
        footer=f"Made by clickscale {__version__}.",
    )


def _passes(fitted: Iterable[Laws]) -> str:
    """How often runs saw their data, where it is known."""
    told = epochs_told(cell for laws in fitted for cell in laws.sweep.cells)
    return f" Each run saw its data {told} times." if told and told != "1" else " One epoch." * (told == "1")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


# --- sections


def _sections(laws: Laws, folder: Path, *, several: bool) -> list[Section]:
    """Sections about one sweep."""
    found = [ladder_section(laws), _check_section(laws)]
    if any(fit.law for fit in laws.joints):
        found.append(_joint_section(laws))
    if any(gain.law for gain in laws.gains):
        found.append(_gain_section(laws))
    if laws.equal:
        found.append(equal_operations_section(laws))
    choices = options_of(laws, TIMED)[0]
    found.append(_cost_section(laws, choices))
    if choices:
        found.append(_next_section(laws, choices))
    if several:
        return [replace(one, title=f"{one.title}, {folder.name}") for one in found]
    return found


def _tiles(laws: Laws) -> list[Tile]:
    """The few numbers that a reader wants first."""
    sweep = laws.sweep
    best = max(sweep.cells, key=lambda cell: cell.auc)
    found = [Tile("Best AUC", f"{best.auc:.4f}", f"{best.model} {best.grade}, L = {best.length}")]
    checks = [fit.check for fit in laws.ladders if fit.check is not None]
    if checks:
        held = sum(check.holds for check in checks)
        worst = max(abs(check.error) for check in checks)
        found.append(
            Tile(
                "Predictions that held",
                f"{held} of {len(checks)}",
                f"largest cells; off by {worst:.4f} at most",
            )
        )
    ceilings = {fit.model: fit.law.ceiling for fit in laws.joints if fit.law and not fit.law.verdict}
    if ceilings:
        model, top = max(ceilings.items(), key=lambda one: one[1].value)
        ends = f"{top.low:.4f} to {top.high:.4f}"
        found.append(Tile("Ceiling of the laws", f"{top.value:.4f}", f"{model}; {ends}"))
    if sweep.best_auc is not None:
        found.append(Tile("Best possible AUC", f"{sweep.best_auc:.4f}", "known of simulated data"))
    found.append(
        Tile("Runs", f"{len(sweep.cells)}", f"{_count(len(sweep.models), 'model')}, part {sweep.part}")
    )
    return found


def ladder_section(laws: Laws) -> Section:
    """Ladders with fits and bands, what is left over, and the numbers."""
    models, plots = laws.sweep.models, []
    for axis in AXES:
        fits = [fit for fit in laws.ladders if fit.ladder.axis == axis]
        if fits:
            places = dict.fromkeys(fit.ladder.fixed for fit in fits)
            title = f"{_TITLES[axis]} ({'; '.join(places)})" if len(places) == 1 else _TITLES[axis]
            lines = [_line(fit) for fit in fits]
            plots.append(scaling_plots.ladder(title, UNITS[axis], lines, models, best=laws.sweep.best_auc))
    left = [
        (fit.ladder.model, _TITLES[fit.ladder.axis].lower(), fit.ladder.x, fit.law.residuals, fit.law.noise)
        for fit in laws.ladders
        if fit.law is not None
    ]
    if left:
        plots.append(scaling_plots.residuals(left, models))
    told = [fit for fit in laws.ladders if fit.determined]
    headers = ("model", "along", "rungs", "epochs", "exponent", "ceiling", "R2", "noise of a run", "misfit p")
    strong = frozenset(
        (row, column) for row, fit in enumerate(laws.ladders) if fit.determined for column in (4, 5)
    )
    tables = [PageTable(headers, [_ladder_cells(fit) for fit in laws.ladders], strong)]
    if unclear := [fit for fit in laws.ladders if not fit.determined]:
        why = [[fit.ladder.model, _WORDS[fit.ladder.axis], fit.verdict] for fit in unclear]
        tables.append(PageTable(("model", "along", "why these points do not determine a law"), why))
    failed = laws.sweep.failed
    return Section(
        "What size, length and data are worth",
        f"{len(told)} of {len(laws.ladders)} ladders determine a power law, AUC = E - A / x^a: an exponent a "
        "and a ceiling E. Where the points do not determine a law, it may still predict the next rung.",
        warnings=[f"{_count(len(failed), 'cell')} failed: {', '.join(failed)}."] if failed else [],
        tables=tables,
        plots=plots,
        plots_first=True,
        note="A ladder is what differs along one axis only. A small dot is one run, a large one the mean "
        "over its seeds. The line is the law, dotted beyond the rungs as far as its check supports, dashed "
        "where the points do not determine it; the band is its interval. A diamond is the largest rung as "
        "predicted from the smaller ones. Misfit p is the chance of rungs so far off an exact law.",
    )


def _line(fit: LadderFit) -> LadderLine:
    ladder, law, check = fit.ladder, fit.law, fit.check
    return LadderLine(
        model=ladder.model,
        x=ladder.x,
        values=[[cell.auc for cell in rung] for rung in ladder.cells],
        curve=None if law is None else _curve(law, fit.reach),
        predicted=None if check is None else (check.x, check.predicted),
        solid=fit.determined,
    )


def _curve(law: PowerLaw, end: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Places from the first rung to an end, the law there, and its band."""
    x = np.geomspace(law.rungs.x[0], end, _CURVE)
    return x, law.at(x), *law.band(x)


def _ladder_cells(fit: LadderFit) -> list[str]:
    law, ladder = fit.law, fit.ladder
    known = fit.determined
    return [
        ladder.model,
        f"{_WORDS[ladder.axis]}\n{ladder.fixed}",
        str(len(ladder.cells)),
        epochs_told(cell for rung in ladder.cells for cell in rung) or "-",
        _broken(law.exponent, 2) if law is not None and known else "not determined",
        _broken(law.ceiling) if law is not None and known else "not determined",
        _number(law.r2 if law else math.nan, "z.3f"),
        _number(law.noise if law else math.nan, ".5f"),
        _number(law.misfit if law else math.nan, ".2f"),
    ]


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _broken(interval: Interval, digits: int = 4) -> str:
    """A value with its interval as small print."""
    if math.isnan(interval.low):
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f}\n[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _check_section(laws: Laws) -> Section:
    """Predictions beside results."""
    checked = [(fit.ladder, fit.check) for fit in laws.ladders if fit.check is not None]
    lines = [
        CheckLine(
            ladder.model,
            f"{ladder.model}, {_WORDS[ladder.axis]}",
            check.predicted,
            check.measured,
            check.holds,
        )
        for ladder, check in checked
    ]
    joint = [(fit.model, fit.check) for fit in laws.joints if fit.check is not None]
    lines += [
        CheckLine(model, f"{model}: {name}", predicted, measured, check.holds)
        for model, check in joint
        for name, predicted, measured in zip(check.names, check.predicted, check.measured, strict=True)
    ]
    rows = [
        [
            ladder.model,
            _WORDS[ladder.axis],
            f"{check.factor:.3g} times",
            _broken(check.predicted),
            f"{check.measured:.4f}",
            f"{check.error:+.4f}",
            check.told,
        ]
        for ladder, check in checked
    ]
    missing = [
        f"No check of {fit.ladder.model} along {_WORDS[fit.ladder.axis]}: {fit.unchecked}"
        for fit in laws.ladders
        if fit.check is None
    ]
    inside = sum(line.predicted.low <= line.measured <= line.predicted.high for line in lines)
    headers = ("model", "along", "beyond the points", "predicted", "measured", "error", "the check")
    models, plots = laws.sweep.models, []
    if lines:
        plots = [
            scaling_plots.predicted_against_measured(lines, models),
            scaling_plots.checks(lines, models, MOST_ERROR),
        ]
    return Section(
        "Prediction against result",
        f"The largest cells were predicted from the smaller ones, without a look at them. {inside} of "
        f"{len(lines)} intervals hold what was then measured.",
        warnings=missing,
        tables=[PageTable(headers, rows)] if rows else [],
        plots=plots,
        plots_first=True,
        note=f"A check holds if the interval holds the result, the prediction is within {MOST_ERROR} AUC "
        "(the gray band), and the interval is no wider than the climb of the smaller rungs. Open diamonds "
        "are checks that fail. Predictions and results share the evaluation users, so that these intervals "
        "leave out the luck of the users.",
    )


def _joint_section(laws: Laws) -> Section:
    """One law over all axes, and the best possible AUC beside its ceiling."""
    rows, told, doubts = [], [], []
    for fit in laws.joints:
        law = fit.law
        if law is None:
            doubts.append(f"{fit.model}: {fit.refusal}")
            continue
        known = not law.verdict
        ceiling = _broken(law.ceiling) if known else "not determined"
        exponents = [
            _broken(law.exponents[axis], 2) if known and axis in law.exponents else "-" for axis in AXES
        ]
        told_fit = _number(law.r2, "z.3f"), _number(law.misfit, ".2g")
        check = fit.check.told.replace(": ", "\n") if fit.check is not None else fit.unchecked
        rows.append([fit.model, str(law.cells), ceiling, *exponents, *told_fit, check])
        doubts += [f"{fit.model}: these points do not determine it: {why}." for why in law.verdict]
        told += [_against_best(fit.model, law.ceiling, laws.sweep.best_auc)] if known else []
    headers = ("model", "cells", "ceiling", *(_WORDS[axis] for axis in AXES), "R2", "misfit p", "the check")
    return Section(
        "One law for all three",
        "AUC = E - A1 / C^a - A2 / L^b - A3 / D^g, fitted to all cells of a model. "
        + " ".join(filter(None, told)),
        warnings=doubts,
        tables=[PageTable(headers, rows)],
        note="C is the size: operations at the shortest length that all sizes share. Columns between ceiling "
        "and R2 are the exponents. A small misfit p says that the terms do not simply add.",
    )


def _against_best(model: str, ceiling: Interval, best: float | None) -> str:
    """Whether a ceiling's interval holds the best possible AUC."""
    if best is None:
        return ""
    if ceiling.low <= best <= ceiling.high:
        return f"The ceiling of {model} and the best possible AUC, {best:.4f}, agree."
    if ceiling.high < best:
        return (
            f"The ceiling of {model} stays {best - ceiling.high:.4f} below the best possible AUC, "
            f"{best:.4f}: more of the same does not reach what its inputs or its form leave out."
        )
    return (
        f"The ceiling of {model} lies above the best possible AUC, {best:.4f}: so far out, the law is wrong."
    )


def _gain_section(laws: Laws) -> Section:
    """Gain over a reference model."""
    rows = []
    for gain in laws.gains:
        law = gain.law
        known = law is not None and not law.verdict
        rows.append(
            [
                gain.model,
                gain.reference,
                gain.unit,
                _broken(law.ceiling, 2) if law is not None and known else "not determined",
                _broken(law.exponent, 2) if law is not None and known else "not determined",
                _number(law.r2 if law else math.nan, "z.3f"),
            ]
        )
    plots = []
    for unit in dict.fromkeys(gain.unit for gain in laws.gains):
        lines = [_gain_line(gain) for gain in laws.gains if gain.unit == unit and gain.law is not None]
        if lines:
            title, models = f"Gain in GAUC against {unit}", laws.sweep.models
            plots.append(scaling_plots.ladder(title, unit, lines, models, ylabel="gain in GAUC, %"))
    headers = ("model", "over", "x", "gain at x = 1, %", "exponent", "R2")
    return Section(
        "Gain over a reference model",
        "Gain in GAUC = E x^a, in percent of the reference's.",
        tables=[PageTable(headers, rows)],
        plots=plots,
    )


def _gain_line(gain: GainFit) -> LadderLine:
    law = gain.law
    assert law is not None, "only fitted laws are drawn"
    x = law.rungs.x
    return LadderLine(gain.model, x, law.rungs.values, _curve(law, float(x[-1])), solid=not law.verdict)


def _cost_section(laws: Laws, choices: Sequence[Choice]) -> Section:
    """Fronts of AUC against operations and latency."""
    title, models = "Accuracy against cost", laws.sweep.models
    by_operations = ("AUC against operations", "GFLOPs of one impression")
    if not choices:
        most = max(cell.fraction for cell in laws.sweep.cells)
        points = [
            CostPoint(one.model, f"{one.grade}, L = {one.length}", _alone(one.auc), one.flops / 1e9)
            for one in laws.sweep.cells
            if one.fraction == most
        ]
        plots = [scaling_plots.pareto(*by_operations, points, models)]
        return Section(title, "No latencies were measured.", plots=plots)
    timed = [_cost_point(one, one.latency.value) for one in choices]
    named = dict(zip(timed, choices, strict=True))
    costs = ("GFLOPs", f"ms for {TIMED}", "user cached", "core hours")
    headers = ("model", "size", "length", "AUC of one run", "from", *costs)
    return Section(
        title,
        "All configurations on all of the data. The line joins what nothing cheaper beats; the table lists "
        "it by latency.",
        tables=[PageTable(headers, [_choice_cells(named[point]) for point in scaling_plots.front(timed)])],
        plots=[
            scaling_plots.pareto(
                *by_operations, [_cost_point(o, o.operations / 1e9) for o in choices], models
            ),
            scaling_plots.pareto(
                "AUC against latency", f"milliseconds for {TIMED} candidates, one thread", timed, models
            ),
        ],
        plots_first=True,
        note="A ring is a combination that was not trained, whose AUC the joint law says. Milliseconds are "
        "those of a request that encodes its user.",
    )


def _choice_cells(one: Choice) -> list[str]:
    source, operations = "measured" if one.measured else "joint law", f"{one.operations / 1e9:.4g}"
    times = [_times(time) for time in (one.latency, one.cached, one.hours)]
    return [one.model, one.grade, str(one.length), _broken(one.auc), source, operations, *times]


def _alone(value: float) -> Interval:
    return Interval(value, value, value)


def _cost_point(one: Choice, cost: float) -> CostPoint:
    interval = _alone(one.auc.value) if math.isnan(one.auc.low) else one.auc
    return CostPoint(one.model, f"{one.grade}, L = {one.length}", interval, cost, measured=one.measured)


def _times(interval: Interval) -> str:
    return f"{interval.value:.3g}\n[{interval.low:.3g}, {interval.high:.3g}]"


def _next_section(laws: Laws, choices: Sequence[Choice]) -> Section:
    """What twice as much would be worth to the best configuration of each model."""
    best = {one.model: one for one in reversed(choices)}  # the choices come with the best AUC first
    rows = [
        _doubling_cells(found)
        for model in laws.sweep.models
        if model in best
        for found in doublings_of(laws, best[model], 2.0, TIMED)
    ]
    headers = ("the best of", "twice as much", "AUC now", f"ms for {TIMED}", "core hours", "gain in AUC")
    return Section(
        "What twice as much would be worth",
        "Each law says what a doubling would add to the best configuration of its model, and the costs say "
        "what it would take. Nothing is promised further out than a held-out check reached.",
        tables=[PageTable(headers, rows)],
        note="clickscale plan chooses a teacher and a student within a latency and a training time.",
    )


def _doubling_cells(found: Doubling) -> list[str]:
    best = found.choice
    gain = f"not promised\n{found.refusal}"
    if found.gain is not None:
        gain = f"{found.gain.value:+.4f}\n[{found.gain.low:+.4f}, {found.gain.high:+.4f}]"
    costs = ["-" if math.isnan(cost) else f"{cost:.3g}" for cost in (found.latency, found.hours)]
    name = f"{best.model}\n{best.grade}, L = {best.length}"
    return [name, _WORDS[found.axis], with_interval(best.auc).partition(" ")[0], *costs, gain]
