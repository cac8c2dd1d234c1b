"""Tables of what `clickscale inspect` found."""

from collections.abc import Iterator

from rich.table import Table

from clickscale.cli.console import grid
from clickscale.data.checks.contents import Inspection

_WORDS = {"0": "least", "0.5": "median", "1": "most"}


def inspection_tables(inspection: Inspection) -> Iterator[Table]:
    """The parts of the split, histories, fields, quarantine and notes of a data set."""
    yield _counts(inspection)
    yield _parts(inspection)
    yield _histories(inspection)
    yield _fields(inspection)
    if any(inspection.quarantined.values()):
        yield _quarantine(inspection)
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
