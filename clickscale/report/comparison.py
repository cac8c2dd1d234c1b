"""Several runs side by side: seeds of one model are pooled, every model is tested against the first.

The last lines of a label are the constant rate and item popularity.
"""

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clickscale.errors import DataError
from clickscale.evaluation.label_report import compare_predictions, share_closed
from clickscale.evaluation.metrics import rela_impr
from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.significance import Interval, PairedTest, seeds_t_test
from clickscale.report.results import Result, gap_text

MEASURES = ("auc", "gauc", "log_loss")


@dataclass(frozen=True)
class Entrant:
    """One run to compare.

    Attributes:
        run: its folder.
        options: all options, among them the name of the model and the seed.
        decided: dotted keys of the options that the recipe decided; they name no run, as nobody chose them.
        kind: model, grade, length and options of the model: equal for a student with and without a teacher.
        teacher_run: folder of the run that taught it; empty for a model that nobody taught.
    """

    run: str
    options: Mapping[str, Any]
    results: Sequence[Result]
    predictions: Predictions
    decided: frozenset[str] = frozenset()
    kind: str = ""
    teacher_run: str = ""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.options["seed"])


@dataclass(frozen=True)
class Line:
    """One model in a comparison, for one label.

    Attributes:
        values: by measure, the mean over seeds; its interval is the mean of the seeds' intervals over users.
        spread: standard deviation over seeds; nan with one seed.
        against: by measure, the difference from the first model on the same impressions (first shared seed),
            tested by resampling users; empty for the first model itself.
        seeds_test: the same differences tested over shared seeds; empty with fewer than two.
        rela_impr: of the mean AUC over that of the first model, in percent; nan if that is at most
            0.5.
        reasons: why values are not defined, each once.
        gap_closed: by measure, the share of the gap between the student alone and its teacher that a taught
            student closes, over the shared seeds, with its interval over users; empty for other models, and
            where one of the three is not among the runs.
    """

    name: str
    label: str
    seeds: tuple[int, ...]
    values: dict[str, Interval]
    spread: dict[str, float]
    against: dict[str, PairedTest]
    seeds_test: dict[str, PairedTest]
    rela_impr: float
    reasons: tuple[str, ...] = ()
    gap_closed: Mapping[str, Interval] = field(default_factory=dict)


def compare(entrants: Sequence[Entrant], *, bootstrap: int = 200) -> list[Line]:
    """Compare runs with the first one's model, for every label that all of them predict.

    Returns:
        For each label a line per model, the first one's first, then the constant rate and item popularity.

    Raises:
        DataError: the runs were not measured on the same impressions, have no label in common, or a seed of
            a model comes twice.
    """
    groups = _groups(entrants)
    labels = [
        result.label
        for result in entrants[0].results
        if all(result.label in {other.label for other in entrant.results} for entrant in entrants)
    ]
    # The first run's model is the base; the order on the command line decides.
    base = next(iter(groups.values()))
    if not labels:
        listed = "; ".join(f"{e.run} predicts {', '.join(r.label for r in e.results)}" for e in entrants)
        raise DataError(f"No label is predicted by all runs ({listed}); compare runs of one label.")
    lines = []
    for label in labels:
        lines += [
            replace(
                _line(name, group, base, label, bootstrap),
                gap_closed=gap_closed(list(group.values()), entrants, label, bootstrap=bootstrap),
            )
            for name, group in groups.items()
        ]
        lines += _simple_lines(base, label, lines[-len(groups)].values["auc"].value)
    return lines


def gap_closed(
    taught: Sequence[Entrant], entrants: Sequence[Entrant], label: str, *, bootstrap: int = 200
) -> dict[str, Interval]:
    """Share of the gap to their teacher that seeds of a taught student close, by measure.

    Among ``entrants``, the teacher is the run that taught it, and the student alone the same model without a
    teacher. Seeds of which one is missing are left out.

    Returns:
        Nothing if no seed has all three.
    """
    trios = [trio for one in taught if (trio := _trio(one, entrants))]
    if not trios:
        return {}
    alone, taught, teacher = ([one.predictions for one in kind] for kind in zip(*trios, strict=True))
    shares = share_closed(alone, taught, teacher, label, bootstrap=bootstrap)
    return {measure: shares[measure] for measure in MEASURES}


def _trio(taught: Entrant, entrants: Sequence[Entrant]) -> tuple[Entrant, Entrant, Entrant] | None:
    """The student alone, the taught student and its teacher, of one seed; None if one is missing."""
    alone = [e for e in entrants if not e.teacher_run and e.kind == taught.kind and e.seed == taught.seed]
    teachers = [e for e in entrants if os.path.abspath(e.run) == os.path.abspath(taught.teacher_run)]
    if not (taught.teacher_run and alone and teachers):
        return None
    return alone[0], taught, teachers[0]


def _simple_lines(base: dict[int, Entrant], label: str, base_auc: float) -> list[Line]:
    """The simple predictions, tested against the first seed of the first model when that was evaluated."""
    first = _of(next(iter(base.values())), label)
    return [
        Line(
            name=simple.name,
            label=label,
            seeds=(),
            values={measure: getattr(simple, measure) for measure in MEASURES},
            spread=dict.fromkeys(MEASURES, math.nan),
            against={measure: _turned(simple.against[measure]) for measure in MEASURES},
            seeds_test={},
            rela_impr=rela_impr(simple.auc.value, base_auc) if base_auc > 0.5 else math.nan,
        )
        for simple in first.simple
    ]


def _turned(test: PairedTest) -> PairedTest:
    """The test of b - a from that of a - b."""
    return replace(test, delta=-test.delta, low=-test.high, high=-test.low)


def _line(name: str, group: dict[int, Entrant], base: dict[int, Entrant], label: str, bootstrap: int) -> Line:
    """One model against the first."""
    mine, theirs = ({seed: _of(e, label) for seed, e in g.items()} for g in (group, base))
    # Pairs of equal seeds, as a paired test over seeds needs them.
    shared = sorted(set(group) & set(base))
    is_base = group is base
    values = {measure: _mean([getattr(r, measure) for r in mine.values()]) for measure in MEASURES}
    spread = {m: _deviation([getattr(r, m).value for r in mine.values()]) for m in MEASURES}
    pair = (
        (group[shared[0]], base[shared[0]])
        if shared
        else (next(iter(group.values())), next(iter(base.values())))
    )
    base_auc = statistics.fmean(r.auc.value for r in theirs.values())
    against = {} if is_base else _bootstrap(pair[0].predictions, pair[1].predictions, label, bootstrap)
    return Line(
        name=name,
        label=label,
        seeds=tuple(sorted(group)),
        values=values,
        spread=spread,
        against=against,
        seeds_test={} if is_base or len(shared) < 2 else _over_seeds(mine, theirs, shared),
        rela_impr=rela_impr(values["auc"].value, base_auc) if base_auc > 0.5 else math.nan,
        reasons=_reasons([*values.values(), *against.values()]),
    )


def _reasons(told: Sequence[Interval | PairedTest]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.reason for one in told if one.reason))


def _bootstrap(a: Predictions, b: Predictions, label: str, bootstrap: int) -> dict[str, PairedTest]:
    report = compare_predictions(a.select_labels([label]), b.select_labels([label]), bootstrap=bootstrap)
    return {measure: report.labels[0].bootstrap[measure] for measure in MEASURES}


def _over_seeds(
    mine: Mapping[int, Result], theirs: Mapping[int, Result], seeds: Sequence[int]
) -> dict[str, PairedTest]:
    return {
        measure: seeds_t_test(
            [getattr(mine[seed], measure).value for seed in seeds],
            [getattr(theirs[seed], measure).value for seed in seeds],
        )
        for measure in MEASURES
        # All runs have the same labels, so a measure is defined for all of them or for none.
        if not math.isnan(getattr(mine[seeds[0]], measure).value)
    }


def _of(entrant: Entrant, label: str) -> Result:
    return next(result for result in entrant.results if result.label == label)


def _mean(intervals: Sequence[Interval]) -> Interval:
    low, high, value = (
        statistics.fmean(getattr(i, end) for i in intervals) for end in ("low", "high", "value")
    )
    return Interval(low, high, value, next((i.reason for i in intervals if i.reason), ""))


def _deviation(values: Sequence[float]) -> float:
    # A measure that is not defined for some seed has no spread; stdev cannot take nan.
    return math.nan if len(values) < 2 or any(map(math.isnan, values)) else statistics.stdev(values)


def _groups(entrants: Sequence[Entrant]) -> dict[str, dict[int, Entrant]]:
    """Runs by the options that were chosen, without the seed; names list those that differ."""
    names = names_of(entrants)
    groups: dict[str, dict[int, Entrant]] = {}
    for name, entrant in zip(names, entrants, strict=True):
        group = groups.setdefault(name, {})
        if entrant.seed in group:
            raise DataError(
                f"{entrant.run} and {group[entrant.seed].run} are the same model with the same seed."
            )
        group[entrant.seed] = entrant
    return groups


_NOT_CHOICES = frozenset(
    {
        "model",
        "seed",
        "threads",
        "prefetch",
        "log_every",
        "checkpoint_every",
        "keep",
        "validate_every",
    }
)


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Options by dotted key, as text."""
    texts: dict[str, str] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            texts |= _flat(value, f"{prefix}{key}.")
        else:
            texts[prefix + key] = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return texts


def names_of(entrants: Sequence[Entrant]) -> list[str]:
    """Name of each run: its model, and the options chosen for it in which runs of that model differ."""
    options = [_flat(entrant.options) for entrant in entrants]
    names = []
    for entrant, mine in zip(entrants, options, strict=True):
        # Only models of one kind need their options to tell them apart.
        rivals = [other for other in options if other["model"] == mine["model"]]
        chosen = [key for key in mine if key not in _NOT_CHOICES | entrant.decided]
        differ = [key for key in chosen if any(other.get(key) != mine[key] for other in rivals)]
        names.append(" ".join([mine["model"], *(f"{key}={mine[key]}" for key in differ)]))
    return names


HEADERS = ("model", "seeds", "AUC", "GAUC", "log-loss", "RelaImpr %", "ΔAUC", "p (users)", "p (seeds)")
GAPS = {"auc": "AUC gap closed", "gauc": "GAUC gap closed"}


def table(lines: Sequence[Line]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Headers and rows of a comparison; if a taught student is in it, with the gap that it closes."""
    if not any(line.gap_closed for line in lines):
        return HEADERS, [_cells(line) for line in lines]
    rows = [(*_cells(line), *gap_cells(line.gap_closed, GAPS)) for line in lines]
    return (*HEADERS, *GAPS.values()), rows


def gap_cells(closed: Mapping[str, Interval], measures: Iterable[str] = MEASURES) -> tuple[str, ...]:
    """Texts of the shares that a taught student closes; ``-`` for a model without them."""
    return tuple(gap_text(closed[measure]) if closed else "-" for measure in measures)


def _cells(line: Line) -> tuple[object, ...]:
    """Texts of a line, in the order of `HEADERS`."""
    delta, seeds = line.against.get("auc"), line.seeds_test.get("auc")
    return (
        line.name,
        len(line.seeds) or "-",
        *(_with_spread(line, measure) for measure in MEASURES),
        _percent(line.rela_impr) if delta else "-",
        delta.delta_text if delta else "-",
        delta.p_text if delta else "-",
        seeds.p_text if seeds else "-",
    )


def footnotes(lines: Sequence[Line]) -> list[str]:
    """Reasons of the dashes in a table of `HEADERS`."""
    notes = list(dict.fromkeys(reason for line in lines for reason in line.reasons))
    models = [line for line in lines if line.seeds]
    if any(len(line.seeds) == 1 for line in models):
        notes.append(
            "spread and p (seeds): one seed of a model says nothing about other seeds; train a second"
        )
    elif any(line.against and not line.seeds_test for line in models):
        notes.append("p (seeds): a model and the first one share fewer than two seeds")
    if any(math.isnan(line.rela_impr) for line in models):
        notes.append(f"RelaImpr: the AUC of {lines[0].name} is not above 0.5")
    return notes + _gap_notes(lines)


def _gap_notes(lines: Sequence[Line]) -> list[str]:
    """What the gap closed is, and reasons why shares of it or their intervals are missing."""
    closed = [line.gap_closed for line in lines if line.gap_closed]
    titles: dict[str, list[str]] = {}
    for share, title in ((one[measure], title) for one in closed for measure, title in GAPS.items()):
        if share.reason and title not in titles.setdefault(share.reason, []):
            titles[share.reason].append(title)
    told = ["gap closed: share of the teacher's lead over the same student alone that the taught student has"]
    return (told if closed else []) + [f"{', '.join(of)}: {why}" for why, of in titles.items()]


def missing_for_gap(entrants: Sequence[Entrant]) -> list[str]:
    """Sentences on taught students whose gap cannot be told, as a run beside them is missing."""
    notes = []
    for one in entrants:
        if one.teacher_run and _trio(one, entrants) is None:
            notes.append(
                f"gap closed: to tell it of {one.run}, also name its teacher {one.teacher_run} and a run of"
                f" {one.kind} without a teacher, with seed {one.seed}"
            )
    return notes


DIFFERENCES = ("model", "RelaImpr %", "AUC", "GAUC", "log-loss")


def differences(line: Line) -> tuple[str, ...]:
    """Texts of a line of `DIFFERENCES`: from the first model, the interval and p-value after a line break."""
    tests = [line.against[measure] for measure in MEASURES]
    return (
        line.name,
        _percent(line.rela_impr),
        *(_difference_cell(test) for test in tests),
    )


def _difference_cell(test: PairedTest) -> str:
    text = test.delta_text.replace(" [", "\n[")
    return text if test.p_text == "-" else f"{text}, p {test.p_text}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


def _with_spread(line: Line, measure: str) -> str:
    value, spread = line.values[measure], line.spread[measure]
    if math.isnan(value.value):
        return "-"
    middle = f"{value.value:.4f}" + ("" if math.isnan(spread) else f" ±{spread:.4f}")
    return middle if math.isnan(value.low) else f"{middle} [{value.low:.4f}, {value.high:.4f}]"
