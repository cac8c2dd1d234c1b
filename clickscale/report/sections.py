"""Sections of a page about models: results, latency, differences, behavior, data, commands.

They take what was measured and know nothing of folders: `clickscale.run_page` reads runs back.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clickscale.data.checks.contents import Inspection
from clickscale.evaluation.sanity import TITLES
from clickscale.evaluation.significance import Interval, PairedTest
from clickscale.report import plots
from clickscale.report.comparison import (
    DIFFERENCES,
    GAPS,
    MEASURES,
    Entrant,
    Line,
    compare,
    differences,
    gap_cells,
)
from clickscale.report.data_plots import inspection_plots
from clickscale.report.latency_plots import accuracy_against_latency
from clickscale.report.page import PageTable, Section, Tile
from clickscale.report.results import HEADERS as ACCURACY
from clickscale.report.results import REGRET_HEADERS, Result, gap_text, regret_cells, regret_sentence, verdict
from clickscale.report.results import cells as accuracy_cells

Curve = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class PageModel:
    """One model as a page shows it.

    Attributes:
        result: of one label.
        entrant: the same run as comparisons take it.
        latency: median milliseconds of a request that encodes its user, and of one whose user is cached.
        learning, validation: impressions seen and log-loss; empty for a model that was not trained in steps.
        reliability: mean prediction and share of positives in bins of equal size.
        by_behaviors, by_item_age: AUC by slice.
        gap_closed: see `clickscale.report.comparison.gap_closed`; empty for a model that nobody taught.
    """

    name: str
    result: Result
    entrant: Entrant
    latency: tuple[float, float] | None = None
    learning: Curve = ((), ())
    validation: Curve = ((), ())
    reliability: Curve = ((), ())
    by_behaviors: Mapping[str, float] = field(default_factory=dict)
    by_item_age: Mapping[str, float] = field(default_factory=dict)
    gap_closed: Mapping[str, Interval] = field(default_factory=dict)


def headers(candidates: int, gaps: bool = False) -> tuple[str, ...]:
    """Headers of a table of results with latencies, and with the gaps that taught students close."""
    closed = tuple(GAPS.values()) if gaps else ()
    return (*ACCURACY[:4], *closed, "parameters", "GFLOPs", f"ms for {candidates}", "user cached")


def meaning(candidates: int, timed: bool = True) -> str:
    """Sentences that say what the columns of `headers` are."""
    told = "Parameters are counted outside embedding tables, and GFLOPs for a request of 60 candidates."
    if not timed:
        return told
    return (
        f"{told} Milliseconds are those of a request of {candidates} candidates on one thread: once with "
        "encoding the user, once with the user's state cached."
    )


def cells(
    result: Result, latency: tuple[float, float] | None, closed: Mapping[str, Interval] | None = None
) -> tuple[str, ...]:
    """Cells of one row, in the order of `headers`.

    Args:
        closed: by measure, the share of the gap to the teacher; empty for a model that nobody taught, None in
            a table without such columns.
    """
    shown = ("-", "-") if latency is None else tuple(f"{time:.2f}" for time in latency)
    accuracy = accuracy_cells(result)[:-1]
    gaps = () if closed is None else gap_cells(closed, GAPS)
    return (*accuracy[:4], *gaps, *accuracy[4:], *shown)


GAP_MEANING = (
    "Gap closed is the share of the teacher's lead over the student alone that the distilled student has; "
    "undefined where the teacher has no lead."
)


def tiles(models: Sequence[PageModel], candidates: int) -> list[Tile]:
    """The few numbers that a reader wants first, of the model with the best AUC."""
    best = max((model for model in models), key=lambda model: model.result.auc.value)
    result = best.result
    found = [Tile("Best AUC", _short(result.auc), f"{best.name}; 95%: {_range(result.auc)}")]
    popularity = next((line for line in _simple(models) if line.name == TITLES["popularity"]), None)
    if popularity is not None:
        gain = result.auc.value - popularity.auc.value
        found.append(
            Tile("Over item popularity", f"{gain:+.4f}", f"AUC; popularity alone: {_short(popularity.auc)}")
        )
    found.append(
        Tile(
            "Predicted clicks per click",
            _short(result.pcoc, 2),
            f"PCOC; 1 is right; 95%: {_range(result.pcoc, 2)}",
        )
    )
    for model in models:
        if model.gap_closed:
            note = f"AUC, {model.name}; GAUC: {gap_text(model.gap_closed['gauc'])}"
            found.append(Tile("Gap to the teacher closed", gap_text(model.gap_closed["auc"]), note))
            break
    if best.latency is not None:
        note = f"{candidates} candidates, one thread; user cached: {best.latency[1]:.1f} ms"
        found.append(Tile("Latency", f"{best.latency[0]:.1f} ms", note))
    found.append(Tile("Measured on", f"{result.rows:,}", f"impressions of part {result.part}"))
    return found


def _short(interval: Interval, digits: int = 4) -> str:
    return "-" if math.isnan(interval.value) else f"{interval.value:.{digits}f}"


def _range(interval: Interval, digits: int = 4) -> str:
    return "-" if math.isnan(interval.low) else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _simple(models: Sequence[PageModel]) -> Sequence[Result]:
    """The constant rate and item popularity on the part; empty if the runs were measured without them."""
    return next((model.result.simple for model in models if model.result.simple), ())


def results_section(models: Sequence[PageModel], candidates: int) -> Section:
    """Accuracy and cost of every model, with the constant rate and item popularity below."""
    results = [model.result for model in models]
    latencies = {model.name: model.latency for model in models}
    simple = _simple(models)
    lines = [*results, *simple]
    gaps = {model.name: model.gap_closed for model in models}
    taught = any(gaps.values())
    rows = [
        [
            text.replace(" [", "\n[")
            for text in cells(line, latencies.get(line.name), gaps.get(line.name, {}) if taught else None)
        ]
        for line in lines
    ]
    timed = any(latency for latency in latencies.values())
    shown = headers(candidates, taught)
    if not timed:
        shown, rows = shown[:-2], [row[:-2] for row in rows]
    told = [
        "Brackets are 95% intervals over users. Candidates are scored as a server would: from the last "
        "behaviors known at the moment of the request.",
        meaning(candidates, timed),
    ]
    if taught:
        reasons = {share.reason: None for shares in gaps.values() for share in shares.values()}
        told.append(GAP_MEANING)
        told += [f"Unsure or undefined: {reason}." for reason in reasons if reason]
    if simple:
        told.append("Two lines cost nothing: the rate of the training part, and that of each item in it.")
    strong = frozenset(
        (row, column)
        for column, best in (
            (1, _best(lines, "auc")),
            (2, _best(lines, "gauc")),
            (3, _best(lines, "log_loss")),
        )
        for row in best
    )
    return Section(
        f"Results on the {results[0].part} part",
        verdict(results),
        warnings=_warnings(results),
        tables=[PageTable(shown, rows, strong)],
        plots=[plots.accuracy(results, "auc", "AUC"), plots.accuracy(results, "gauc", "GAUC")],
        note=" ".join(told),
    )


def truth_section(models: Sequence[PageModel]) -> Section:
    """Distance of every model from the true probabilities of a simulated world."""
    told = {model.name: model.result.regret for model in models if model.result.regret}
    rows = [regret_cells(name, regret) for name, regret in told.items()]
    return Section(
        "Against the truth",
        regret_sentence(next(iter(told.values()))),
        tables=[PageTable(REGRET_HEADERS, rows)],
        note="The data are a simulated world, whose click probabilities are known. Expected values are means "
        "over clicks drawn from them, so the luck of the drawn clicks is not in them.",
    )


def _best(lines: Sequence[Result], measure: str) -> list[int]:
    """Lines with the best value of a measure, as it is shown."""
    values = [round(getattr(line, measure).value, 4) for line in lines]
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return []
    best = min(known) if measure == "log_loss" else max(known)
    return [row for row, value in enumerate(values) if value == best]


def _warnings(results: Sequence[Result]) -> list[str]:
    """Warnings of all models, each once, with the models that it is about."""
    models: dict[str, list[str]] = {}
    for result in results:
        for text in dict.fromkeys(result.warnings):
            models.setdefault(text, []).append(result.name)
    return [f"Warning: {', '.join(names)}: {text}" for text, names in models.items()]


def latency_section(models: Sequence[PageModel], candidates: int, text: str) -> Section:
    """Accuracy against the time of a request."""
    latencies = {model.name: model.latency for model in models if model.latency is not None}
    picture = accuracy_against_latency(
        f"milliseconds for {candidates} candidates, one thread",
        [model.result for model in models],
        latencies,
        {model.name: gap_text(model.gap_closed["auc"]) for model in models if model.gap_closed},
    )
    return Section("Accuracy against latency", text, plots=[picture])


def comparison_section(groups: Sequence[Sequence[PageModel]], label: str, note: str) -> Section:
    """Differences from the first model of each group; groups of one model are left out."""
    tables, told = [], []
    for group in groups:
        if len(group) > 1:
            found = [line for line in compare([model.entrant for model in group]) if line.label == label]
            first, *others = found
            heading = (f"against {first.name}", *DIFFERENCES[1:])
            strong = {
                (row, column)
                for row, line in enumerate(others)
                for column, measure in enumerate(MEASURES, 2)
                if _is_real(line.against[measure])
            }
            tables.append(PageTable(heading, [differences(line) for line in others], frozenset(strong)))
            told.append(_told_apart(first.name, others))
    note = f"Bold where the interval leaves out zero. {note}"
    return Section("Are the differences real?", " ".join(told), tables=tables, note=note)


def _is_real(test: PairedTest) -> bool:
    """True if the interval of a difference leaves out zero."""
    return test.low > 0 or test.high < 0


def _told_apart(first: str, others: Sequence[Line]) -> str:
    """A sentence about the models whose AUC differs from that of the first by more than chance."""
    better = [line.name for line in others if line.against["auc"].low > 0]
    worse = [line.name for line in others if line.against["auc"].high < 0]
    if not better and not worse:
        return f"In AUC, no model can be told apart from {first} on these users."
    found = [f"better: {', '.join(better)}" if better else "", f"worse: {', '.join(worse)}" if worse else ""]
    return f"In AUC, different from {first} beyond chance: {'; '.join(filter(None, found))}."


def behavior_section(models: Sequence[PageModel], text: str) -> Section:
    """Learning curves, slices and calibration."""
    trained = [model for model in models if len(model.learning[0])]
    validated = [model for model in models if len(model.validation[0]) > 1]
    pictures = []
    if trained:
        pictures.append(plots.learning({model.name: model.learning for model in trained}))
    if validated:
        pictures.append(plots.validation({model.name: model.validation for model in validated}))
    pictures.append(plots.calibration({model.name: model.reliability for model in models}))
    for title, xlabel, slices in (
        ("AUC by visible behaviors", "behaviors that the candidate sees", "by_behaviors"),
        ("AUC by age of the item", "since it was first seen", "by_item_age"),
    ):
        values = {model.name: getattr(model, slices) for model in models}
        if len({name for by_slice in values.values() for name in by_slice}) > 1:
            pictures.append(plots.slices(title, xlabel, values))
    return Section("How the models behave", text, plots=pictures)


def data_section(inspection: Inspection) -> Section:
    """The data card: parts, rows kept and refused, label rates, histories, unknown values."""
    labels = list(next(iter(inspection.parts.values())).rates)
    parts = [
        [
            name,
            f"{part.impressions:,}",
            f"{part.users:,}",
            part.first[:16] or "-",
            part.last[:16] or "-",
            *("-" if part.rates[label] is None else f"{part.rates[label]:.4f}" for label in labels),
        ]
        for name, part in inspection.parts.items()
    ]
    rows = [
        [table, f"{inspection.rows[table]:,}", f"{sum(refused.values()):,}", _reasons(refused)]
        for table, refused in inspection.quarantined.items()
        if inspection.rows[table]
    ]
    notes = list(inspection.notes)
    if not inspection.notes and inspection.sampled_negatives:
        notes.append(f"{inspection.sampled_negatives} negatives were drawn for each positive.")
    counts = inspection.counts
    sizes = ", ".join(f"{counts[name]:,} {name}" for name in ("impressions", "behaviors", "users", "items"))
    return Section(
        "The data",
        f"{inspection.name}: {sizes}. An impression sees {inspection.visible['0.5']:g} behaviors in the "
        f"median, and {inspection.empty:.1%} see none. Dashed lines mark the start of the validation part "
        f"and of the test part. {' '.join(notes)}".strip(),
        tables=[
            PageTable(
                (
                    "part",
                    "impressions",
                    "users",
                    "first (UTC)",
                    "last (UTC)",
                    *(f"rate of {x}" for x in labels),
                ),
                parts,
            ),
            PageTable(("table", "rows read", "not used", "reasons"), rows),
        ],
        plots=inspection_plots(inspection),
    )


def _reasons(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in refused.items() if count) or "-"


def commands_section(commands: Sequence[str]) -> Section:
    """The commands that make everything on the page."""
    return Section(
        "Commands",
        "The runs come from these commands; what they do not set follows from the data.",
        code=["\n".join(commands)],
    )
