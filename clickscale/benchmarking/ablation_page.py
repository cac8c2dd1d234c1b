"""The written result of an ablation: Markdown, JSON and a picture."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from clickscale.benchmarking.ablation_config import AblationConfig
from clickscale.benchmarking.page_text import finite, markdown_table, number_text, with_spread
from clickscale.benchmarking.paper_tables import Variant
from clickscale.evaluation.significance import Interval, PairedTest
from clickscale.files import replace_text
from clickscale.report.ablation_plots import differences
from clickscale.report.block_plots import Change
from clickscale.report.plots import save_svg

MARKDOWN, JSON, PICTURE = "ablation.md", "ablation.json", "ablation.svg"
_COSTS = ("dense parameters", "GFLOPs, 60 candidates")
HEADERS = (
    "",
    "seeds",
    "AUC",
    "GAUC",
    "log-loss",
    "AUC less the first",
    "p (users)",
    "p (seeds)",
    "GAUC less the first",
    "p (users)",
    "p (seeds)",
    *_COSTS,
)
_NAMES = {"suan": "SUAN, Lai et al. 2025", "est": "EST, Liu et al. 2026"}


@dataclass(frozen=True)
class AblationLine:
    """One variant in a table.

    Attributes:
        values: by measure, the mean over seeds, with the mean of the seeds' intervals over users.
        spread: by measure, the standard deviation over seeds; nan with one.
        seeds: runs.
        against: by measure, the difference from the first line, tested over users with the first seed;
            empty for the first line.
        over_seeds: the same tested over seeds; empty with fewer than two.
        dense: parameters outside embedding tables.
        gflops: 10^9 operations of a request of 60 candidates.
    """

    variant: Variant
    values: Mapping[str, Interval]
    spread: Mapping[str, float]
    seeds: int
    against: Mapping[str, PairedTest]
    over_seeds: Mapping[str, PairedTest]
    dense: int | None
    gflops: float | None

    @property
    def name(self) -> str:
        """Key, and what differs."""
        return f"{self.variant.key}: {self.variant.about}"

    def delta(self, measure: str) -> float | None:
        """Mean difference from the first line: over seeds if they tell, else that of the first seed."""
        test = self.over_seeds.get(measure) or self.against.get(measure)
        return test.delta if test else None


@dataclass(frozen=True)
class AblationTable:
    """A table of the paper at one grade; the other lines are tested against the first one."""

    number: str
    title: str
    grade: str
    lines: list[AblationLine]


@dataclass(frozen=True)
class Ablation:
    """Result of an ablation.

    Attributes:
        failed: by line or run, why it is missing.
        commands: by folder of a run, the command that made it.
    """

    data: str
    config: AblationConfig
    tables: list[AblationTable]
    failed: Mapping[str, str]
    commands: Mapping[str, Sequence[str]]

    @property
    def title(self) -> str:
        """What was taken apart on which data."""
        return f"{_NAMES[self.config.paper]}: ablations on {self.data}, L = {self.config.length}"


def write_ablation(found: Ablation, out: Path, notes: Sequence[str]) -> None:
    """Write the three files into the folder of an ablation; ``notes`` are those of the data set."""
    groups = [(table.title, _points(table)) for table in found.tables]
    save_svg(differences(f"{found.title}: AUC less that of the first line", groups), out / PICTURE)
    replace_text(out / MARKDOWN, _markdown(found, notes))
    replace_text(out / JSON, json.dumps(to_document(found), indent=2, ensure_ascii=False, allow_nan=False))


def to_document(found: Ablation) -> dict[str, Any]:
    """JSON-ready form; numbers that are not defined are null."""
    document: dict[str, Any] = finite(
        {
            "data": found.data,
            "options": msgspec.to_builtins(found.config),
            "tables": [asdict(table) for table in found.tables],
            "failed": found.failed,
            "commands": found.commands,
        }
    )
    return document


def _points(table: AblationTable) -> list[Change]:
    """AUC of every other line less that of the first, with the interval over users."""
    return [
        (line.variant.key, test.delta, test.low, test.high)
        for line in table.lines
        if (test := line.against.get("auc"))
    ]


def _markdown(found: Ablation, notes: Sequence[str]) -> str:
    seeds = found.config.seeds
    sections = [
        f"# {found.title}",
        f"Part test, {seeds} seed{'s' * (seeds > 1)}. Every line is trained from the start, on the same"
        " batches and with the options of the recipe. Values are means over seeds with 95% intervals over"
        " users, ± is the deviation over seeds. Differences are from the first line of a table on the same"
        " impressions: the mean over seeds, p over users with the first seed, p over seeds by a paired"
        " t-test.",
        " ".join(notes),
        f"![AUC less that of the first line]({PICTURE})",
    ]
    for table in found.tables:
        sections += [f"## {table.title}", markdown_table(HEADERS, [cells_of(line) for line in table.lines])]
    if found.failed:
        sections += ["## Missing", "\n".join(f"* {name}: {why}" for name, why in found.failed.items())]
    return "\n\n".join(filter(None, sections)) + "\n"


def cells_of(line: AblationLine) -> tuple[str, ...]:
    """Texts of a line, in the order of `HEADERS`."""
    return (
        line.name,
        str(line.seeds),
        *(with_spread(line.values[measure], line.spread[measure]) for measure in ("auc", "gauc", "log_loss")),
        *(text for measure in ("auc", "gauc") for text in _against(line, measure)),
        number_text(line.dense, ",d"),
        number_text(line.gflops, ".4f"),
    )


def _against(line: AblationLine, measure: str) -> tuple[str, str, str]:
    """Difference from the first line, and both p-values."""
    users, seeds = line.against.get(measure), line.over_seeds.get(measure)
    return (
        number_text(line.delta(measure), "+.4f"),
        users.p_text if users else "-",
        seeds.p_text if seeds else "-",
    )
