"""Tables of what `clickscale inspect` found."""

from collections.abc import Iterator

from rich.table import Table

from clickscale.cli.console import grid
from clickscale.data.checks.contents import Inspection
from clickscale.data.preparation.summary import Summary
from clickscale.data.source import PARTS

_WORDS = {"0": "least", "0.5": "median", "1": "most"}


def inspection_tables(inspection: Inspection) -> Iterator[Table]:
    """The parts of the split, histories, fields, quarantine and notes of a data set."""
    yield _counts(inspection)
    yield _parts(inspection)
    yield summary_table(inspection.summary)
    yield _histories(inspection)
    yield _fields(inspection)
    if any(inspection.quarantined.values()):
        yield _quarantine(inspection)
    if inspection.summary.warnings:
        yield grid("Warnings", ("what will go wrong",), [(line,) for line in inspection.summary.warnings])
    if inspection.notes:
        yield grid("Notes", ("every report repeats",), [(note,) for note in inspection.notes])


def _counts(inspection: Inspection) -> Table:
    rows: list[tuple[str, object]] = list(inspection.counts.items())
    rows.append(("bytes on disk", inspection.bytes))
    if inspection.sampled_negatives:
        rows.append(("sampled negatives per positive", inspection.sampled_negatives))
    return grid(f"{inspection.name} in {inspection.path}", ("what", "number"), rows)


def _parts(inspection: Inspection) -> Table:
    labels = list(next(iter(inspection.parts.values())).rates)
    headers = ("part", "impressions", "users", "first (UTC)", "last (UTC)", *(f"rate of {x}" for x in labels))
    rows = [
        (name, part.impressions, part.users, part.first, part.last, *(part.rates[label] for label in labels))
        for name, part in inspection.parts.items()
    ]
    return grid("Split", headers, rows)


def summary_table(summary: Summary) -> Table:
    """Size, label rate and cold ids of each part, and how the constant rate of train does there."""
    headers = (
        "part",
        "impressions",
        "users",
        "items",
        f"rate of {summary.label}",
        "log-loss of constant",
        "its PCOC",
        "cold users",
        "cold items",
    )
    rows = [
        (
            name,
            part.impressions,
            part.users,
            part.items,
            part.rate,
            part.log_loss,
            part.pcoc,
            f"{part.cold_users:.1%}",
            f"{part.cold_items:.1%}",
        )
        for name, part in ((name, summary.parts[name]) for name in PARTS)
    ]
    return grid("Parts: cold is not in train, constant the rate of train", headers, rows)


def _histories(inspection: Inspection) -> Table:
    headers = tuple(_WORDS.get(q, f"{float(q):.0%}") for q in inspection.visible)
    rows = [(*(int(count) for count in inspection.visible.values()), f"{inspection.empty:.1%}")]
    return grid("Behaviors that an impression sees", (*headers, "none at all"), rows)


def _fields(inspection: Inspection) -> Table:
    rows = [
        (field.name, field.side, field.kind, field.size or None, f"{field.unknown:.1%}")
        for field in inspection.fields
    ]
    return grid("Fields", ("field", "side", "kind", "vocabulary", "unknown or missing"), rows)


def _quarantine(inspection: Inspection) -> Table:
    rows = [
        (table, inspection.rows[table], reason, count)
        for table, reasons in inspection.quarantined.items()
        for reason, count in reasons.items()
    ]
    return grid("Quarantined rows", ("table", "rows read", "reason", "quarantined"), rows)
