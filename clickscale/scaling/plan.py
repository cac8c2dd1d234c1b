"""The plan of a teacher and a student: what a sweep says about accuracy, latency and training time.

A configuration is a model, a grade and a length, trained on all of the data. The accuracy of one that was
measured is what was measured; that of a combination that was not is the joint law's, if its held-out check
holds. Nothing is promised further out than a check reached.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.significance import Interval
from clickscale.scaling.joint_law import place_of, sizes
from clickscale.scaling.ladders import AXES, Axis
from clickscale.scaling.laws import LadderFit, Laws
from clickscale.scaling.plan_costs import CostModel
from clickscale.scaling.points import Measured, epochs_told
from clickscale.scaling.power_law import deviations

_ABOUT = 1.01  # a fraction of the impressions is never exactly a half


@dataclass(frozen=True)
class Budget:
    """What a plan may cost.

    Attributes:
        latency_ms: of a request whose user is encoded, the upper end of its interval.
        candidates: of that request.
        train_hours: of one core, for teacher and student together.
    """

    latency_ms: float
    candidates: int
    train_hours: float

    def __post_init__(self) -> None:
        if min(self.latency_ms, self.candidates, self.train_hours) <= 0:
            raise ConfigError(
                f"A budget of {self.latency_ms} ms, {self.candidates} candidates, {self.train_hours} hours "
                "allows nothing; give positive numbers."
            )


@dataclass(frozen=True)
class Choice:
    """A configuration and what is expected of it.

    Attributes:
        auc: of one new run, on the users of the sweep.
        measured: False if the joint law says it.
        latency, cached: milliseconds of a request, its user encoded or cached.
        hours: of one core, to train it on all of the data.
        operations: of one impression. impressions: of the training part.
    """

    model: str
    grade: str
    length: int
    auc: Interval
    measured: bool
    latency: Interval
    cached: Interval
    hours: Interval
    operations: float
    impressions: int

    @property
    def name(self) -> str:
        """Name as `clickscale distill` takes it."""
        return f"{self.model}:{self.grade}:{self.length}"


@dataclass(frozen=True)
class Doubling:
    """What more of one axis would be worth.

    Attributes:
        factor: of the axis, 2 for one doubling.
        gain: in AUC; None if it is not promised, and ``refusal`` says why.
        latency, hours: of the larger model; nan where the sweep does not tell.
    """

    choice: Choice
    axis: Axis
    factor: float
    gain: Interval | None
    latency: float
    hours: float
    refusal: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        student: the best one within the latency; teacher: the best one whose training fits as well, None if
            nothing is better than the student.
        options: all that were considered, the best AUC first.
        refusals: what was not considered, and why.
        epochs: of the runs behind it, for people.
    """

    budget: Budget
    level: float
    student: Choice
    teacher: Choice | None
    doublings: list[Doubling]
    options: list[Choice]
    refusals: list[str]
    epochs: str


def make_plan(laws: Laws, budget: Budget, *, factor: float = 2.0) -> Plan:
    """Choose a student and a teacher.

    Args:
        factor: by how much more of an axis is asked about.

    Raises:
        DataError: the sweep has no times, or nothing fits the budget.
    """
    options, refusals = options_of(laws, budget.candidates)
    if not options:
        raise DataError(f"The sweep does not tell what a model costs: {' '.join(refusals)}")
    student = _student(options, budget)
    teacher = _teacher(options, student, budget)
    doublings = [
        doubling
        for choice in (student, *filter(None, [teacher]))
        for doubling in doublings_of(laws, choice, factor, budget.candidates)
    ]
    epochs = epochs_told(laws.sweep.cells)
    return Plan(budget, laws.level, student, teacher, doublings, options, refusals, epochs)


def _student(options: Sequence[Choice], budget: Budget) -> Choice:
    """The best option within latency and training time.

    Raises:
        DataError: there is none.
    """
    fast = [one for one in options if one.latency.high <= budget.latency_ms]
    if not fast:
        one = min(options, key=lambda one: one.latency.high)
        raise DataError(
            f"Nothing scores {budget.candidates} candidates within {budget.latency_ms:g} ms; the fastest, "
            f"{one.name}, takes up to {one.latency.high:.3g} ms. Allow more, or fewer candidates."
        )
    fitting = [one for one in fast if one.hours.high <= budget.train_hours]
    if not fitting:
        one = min(fast, key=lambda one: one.hours.high)
        raise DataError(
            f"No student can be trained within {budget.train_hours:g} hours; the cheapest, {one.name}, takes "
            f"up to {one.hours.high:.3g}. Allow more hours."
        )
    return fitting[0]


def _teacher(options: Sequence[Choice], student: Choice, budget: Budget) -> Choice | None:
    """The best option that can be trained beside the student; None if the student is as good."""
    left = budget.train_hours - student.hours.high
    better = [one for one in options if one.hours.high <= left and one.auc.value > student.auc.value]
    return better[0] if better else None


# --- options


def options_of(laws: Laws, candidates: int) -> tuple[list[Choice], list[str]]:
    """Configurations that the sweep says enough about, the best AUC first, and what was left out.

    Args:
        candidates: of the request whose latency is told.
    """
    options: list[Choice] = []
    refusals: list[str] = []
    for model in laws.sweep.models:
        try:
            found, refused = _options(laws, model, candidates)
        except DataError as error:
            refusals.append(f"{model} is left out: {error}")
            continue
        options += found
        refusals += refused
    return sorted(options, key=lambda one: -one.auc.value), refusals


def _options(laws: Laws, model: str, candidates: int) -> tuple[list[Choice], list[str]]:
    """Configurations of one model on all of the data, and what was left out."""
    cells = laws.sweep.of(model)
    costs = CostModel(cells, laws.level)
    most = max(cell.impressions for cell in cells)
    known: dict[tuple[str, int], list[Measured]] = {}
    for cell in cells:
        if cell.impressions == most:
            known.setdefault((cell.grade, cell.length), []).append(cell)
    found = [
        _choice(cell[0], cell[0].length, _of_new_run(cell, cells, laws.level), True, costs, candidates)
        for cell in known.values()
    ]
    joint = laws.joint(model)
    lengths = sorted({cell.length for cell in cells})
    missing = [
        (cell, length)
        for cell in {cell.grade: cell for cell in cells}.values()
        for length in lengths
        if (cell.grade, length) not in known
    ]
    if not missing:
        return found, []
    if joint.law is None or joint.check is None or not joint.check.holds:
        why = joint.refusal or joint.unchecked or (joint.check.told if joint.check else "")
        return found, [
            f"{model}: {len(missing)} combinations of grade and length were not measured on all of the data "
            f"and are not promised: the joint law {why}"
        ]
    size = sizes(cells)
    refused = []
    for cell, length in missing:
        place = place_of(cell, size) | {"length": float(length), "data": float(most)}
        auc = joint.law.predict(place, 1)
        try:
            found.append(_choice(cell, length, auc, False, costs, candidates, most))
        except DataError as error:
            refused.append(f"{model}: {error}")
    return found, list(dict.fromkeys(refused))


def _choice(
    cell: Measured,
    length: int,
    auc: Interval,
    measured: bool,
    costs: CostModel,
    candidates: int,
    impressions: int = 0,
) -> Choice:
    operations, data = costs.operations(cell.grade, length), impressions or cell.impressions
    return Choice(
        model=cell.model,
        grade=cell.grade,
        length=length,
        auc=auc,
        measured=measured,
        latency=costs.latency(cell.grade, length, candidates),
        cached=costs.cached(cell.grade, length, candidates),
        hours=costs.hours(cell.grade, length, data),
        operations=operations,
        impressions=data,
    )


def _of_new_run(group: Sequence[Measured], cells: Iterable[Measured], level: float) -> Interval:
    """AUC of one more run of a configuration; the noise of a seed is that of the whole model."""
    values = [cell.auc for cell in group]
    mean = math.fsum(values) / len(values)
    rungs: dict[tuple[str, int, float], list[float]] = {}
    for cell in cells:
        rungs.setdefault((cell.grade, cell.length, cell.fraction), []).append(cell.auc)
    off = deviations(rungs.values())
    freedom = len(off) - sum(len(rung) > 1 for rung in rungs.values())
    if freedom < 1:
        return Interval(math.nan, math.nan, mean, "one seed does not tell how seeds differ")
    error = float(np.sqrt(np.mean(off**2))) * math.sqrt(1.0 + 1.0 / len(values))
    reach = float(stdtrit(freedom, 0.5 + level / 2.0)) * error
    return Interval(max(mean - reach, 0.0), min(mean + reach, 1.0), mean)


# --- doublings


def doublings_of(laws: Laws, choice: Choice, factor: float, candidates: int) -> list[Doubling]:
    """What ``factor`` times as much of each axis would be worth to a choice."""
    return [_doubling(laws, choice, axis, factor, candidates) for axis in AXES]


def _doubling(laws: Laws, choice: Choice, axis: Axis, factor: float, candidates: int) -> Doubling:
    """What more of one axis would be worth to a choice."""
    costs = CostModel(laws.sweep.of(choice.model), laws.level)
    more = factor if axis == "compute" else 1.0
    data = choice.impressions * (factor if axis == "data" else 1.0)
    length = round(choice.length * (factor if axis == "length" else 1.0))
    try:
        latency = costs.latency(choice.grade, length, candidates, more).value
        hours = costs.hours(choice.grade, length, data, more).value
    except DataError:
        latency = hours = math.nan
    start = {"compute": choice.operations, "length": choice.length, "data": choice.impressions}[axis]
    fits = [fit for fit in laws.ladders if fit.ladder.model == choice.model and fit.ladder.axis == axis]
    refusal = _refusal(fits[0] if fits else None, axis, start * factor)
    gain = None if refusal or fits[0].law is None else fits[0].law.worth(start, start * factor)
    return Doubling(choice, axis, factor, gain, latency, hours, refusal)


def _refusal(fit: LadderFit | None, axis: Axis, end: float) -> str:
    """Why a law is not asked about ``end``; empty if its check supports that."""
    if fit is None:
        return f"the sweep has no ladder of {axis} with 3 rungs"
    if fit.law is None:
        return f"no law: {fit.refusal}"
    if fit.law.flat:
        return f"along {axis}, {fit.law.verdict[-1]}"
    if end <= fit.ladder.x[-1] * _ABOUT:
        return ""  # between the rungs
    if fit.check is None:
        return f"no held-out check: {fit.unchecked}"
    if not fit.check.holds:
        return f"the held-out check {fit.check.told}"
    if end > fit.reach * _ABOUT:
        return f"the held-out check supports {axis} up to {fit.reach:.4g}, and this is {end:.4g}"
    return ""
