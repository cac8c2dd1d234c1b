"""A small ladder of the demo: one model on growing shares of the training data, and its prediction.

It is an ordinary sweep, so `clickscale sweep`, `laws` and `report` continue from its folder. All cells run in
this process: they take seconds each, and to load torch for each of them would take as long.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from clickscale.report.page import Section
from clickscale.scaling.laws import LadderFit, Laws, fit_sweep, write_laws
from clickscale.scaling.scaling_page import ladder_section
from clickscale.scaling.sweeps.sweep import sweep
from clickscale.scaling.sweeps.sweep_cell import is_finished, run_cell
from clickscale.scaling.sweeps.sweep_config import SweepConfig, claim_sweep

_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def ladder_config(data: Path, *, seeds: int = 2, batch_size: int = 0) -> SweepConfig:
    """Options of the ladder; a batch size of 0 is left to the recipe."""
    return SweepConfig(
        data=str(data),
        models=("suan",),
        sizes=("size-1",),
        lengths=(50,),
        fractions=_FRACTIONS,
        seeds=seeds,
        epochs=1,  # that of the recipe where statistics are declared, as they are here
        latency=False,
        sets=(f"batch_size={batch_size}",) if batch_size else (),
    )


def climb(config: SweepConfig, folder: Path, note: Callable[[str], None]) -> int:
    """Train and measure the rungs that are not finished; the exit code, which is 0 if all are.

    Args:
        note: called with a line if something is left to train.
    """
    claim_sweep(folder, config)
    left = [cell for cell in config.cells if not is_finished(folder, cell)]
    if left:
        shares = f"{min(config.fractions):g} to {max(config.fractions):g} of the training data"
        note(f"training a ladder: suan:size-1:50 on {shares}, {len(left)} short runs")
    return next((code for cell in left if (code := run_cell(config, cell, folder))), 0)


def fit_ladder(config: SweepConfig, folder: Path) -> Laws:
    """Collect the rungs, and fit and check their law; the points and laws stay in the folder."""
    laws = fit_sweep(sweep(config, folder), folder)
    write_laws(laws, folder)
    return laws


def told(laws: Laws) -> str:
    """Plain sentences about the ladder: the prediction of its largest rung, what came out, and the law."""
    if not laws.ladders:
        return "The ladder has too few rungs: " + "; ".join(laws.sweep.failed.values()) + "."
    (fit,) = laws.ladders
    first, last = (fit.ladder.cells[place][0].impressions for place in (0, -1))
    where = f"{fit.ladder.model}, {fit.ladder.fixed}, on {first:,} to {last:,} training impressions"
    return f"{where}: {_check_words(fit)} {_law_words(fit)}"


def ladder_on_page(laws: Laws, folder: Path) -> Section:
    """The section of the page, with the commands that go on from the ladder."""
    shown = ladder_section(laws)
    return replace(
        shown,
        title="A small ladder",
        text=told(laws),
        tables=shown.tables[:1],  # the text says why there is no law
        plots=shown.plots[:1],
        code=[f"clickscale laws --sweep {folder}\nclickscale report {folder} --out {folder / 'report'}"],
    )


def _check_words(fit: LadderFit) -> str:
    """The prediction of the largest rung beside what came out."""
    means = fit.ladder.rungs().means
    climbed = f"AUC goes from {means[0]:.4f} to {means[-1]:.4f}."
    if fit.check is None:
        return f"{climbed} The largest rung could not be predicted: {fit.unchecked}."
    found = fit.check.predicted
    return (
        f"{climbed} The smaller shares predict {found.value:.4f} [{found.low:.4f}, {found.high:.4f}] for the "
        f"largest, and {fit.check.measured:.4f} came out; the check {fit.check.told}."
    )


def _law_words(fit: LadderFit) -> str:
    """The law, or why there is none."""
    law = fit.law
    if law is None or law.verdict:
        return f"These points do not determine a law: {fit.verdict}."
    low, high = law.ceiling.low, law.ceiling.high
    return (
        f"The law through all points is AUC = E - A / x^{law.exponent.value:.2f} with a ceiling E of "
        f"{law.ceiling.value:.4f} [{low:.4f}, {high:.4f}]."
    )
