"""The written result of a benchmark: Markdown, JSON and a picture."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from clickscale.benchmarking.benchmark_config import BenchmarkConfig
from clickscale.benchmarking.benchmark_tables import BenchmarkLine
from clickscale.benchmarking.page_text import finite, markdown_table, number_text, with_spread
from clickscale.benchmarking.speeds import Speed
from clickscale.files import replace_text
from clickscale.report.benchmark_plots import CostPoint, accuracy_against_operations
from clickscale.report.plots import save_svg
from clickscale.report.results import with_interval
from clickscale.run_page import CANDIDATES

MARKDOWN, JSON, PICTURE = "benchmark.md", "benchmark.json", "benchmark.svg"
HEADERS = (
    "model",
    "seeds",
    "AUC",
    "GAUC",
    "log-loss",
    "RelaImpr %",
    "AUC less the best",
    "p (users)",
    "p (seeds)",
    "rate",
    "steps",
    "training TFLOPs",
    "dense parameters",
    "GFLOPs, 60 candidates",
    "samples per CPU-second",
    f"ms, {CANDIDATES} candidates",
    "ms, cached",
)


@dataclass(frozen=True)
class Benchmark:
    """Result of a benchmark.

    Attributes:
        equal: lines of the table in which all models have the same epochs.
        matched: lines of the table in which no model spends more training operations than the reference.
        losses: validation loss by model and learning rate, of the first seed.
        rates: the rate that these losses chose, by model.
        failed: by model or run, why it is missing.
        commands: by folder of a run, the commands that made it.
    """

    data: str
    config: BenchmarkConfig
    equal: list[BenchmarkLine]
    matched: list[BenchmarkLine]
    losses: Mapping[str, Mapping[str, float]]
    rates: Mapping[str, float]
    failed: Mapping[str, str]
    commands: Mapping[str, Sequence[str]]
    speeds: Mapping[str, Speed]

    @property
    def title(self) -> str:
        """What was compared on which data."""
        config = self.config
        return f"{self.data}: grade {config.grade}, L = {config.length}"


def write_benchmark(found: Benchmark, out: Path, notes: Sequence[str]) -> None:
    """Write the three files into the folder of a benchmark; ``notes`` are those of the data set."""
    save_svg(accuracy_against_operations(f"{found.title}, AUC against cost", _points(found)), out / PICTURE)
    replace_text(out / MARKDOWN, _markdown(found, notes))
    replace_text(out / JSON, json.dumps(to_document(found), indent=2, ensure_ascii=False, allow_nan=False))


def to_document(found: Benchmark) -> dict[str, Any]:
    """JSON-ready form; numbers that are not defined are null."""
    document = {
        "data": found.data,
        "options": msgspec.to_builtins(found.config),
        "equal_budget": [asdict(line) for line in found.equal],
        "compute_matched": [asdict(line) for line in found.matched],
        "validation_losses": found.losses,
        "rates": found.rates,
        "failed": found.failed,
        "speeds": {model: msgspec.to_builtins(speed) for model, speed in found.speeds.items()},
        "commands": found.commands,
    }
    cleaned: dict[str, Any] = finite(document)
    return cleaned


def _points(found: Benchmark) -> list[CostPoint]:
    matched = {line.name: line for line in found.matched}
    return [
        CostPoint(line.name, line.gflops, line.auc, _ring(line, matched.get(line.name)))
        for line in found.equal
        if line.seeds
    ]


def _ring(equal: BenchmarkLine, matched: BenchmarkLine | None) -> float | None:
    """AUC of the matched runs, unless they are those of the equal budget."""
    return None if matched is None or matched.steps == equal.steps else matched.auc.value


# --- Markdown


def _markdown(found: Benchmark, notes: Sequence[str]) -> str:
    config = found.config
    rates = ", ".join(f"{rate:g}" for rate in config.rates)
    sections = [
        f"# {found.title}",
        f"Part test, {config.seeds} seed{'s' * (config.seeds > 1)}. Equal width of embeddings and equal head."
        f" The learning rate of each model is that of {rates} whose run with seed 0 has the lowest validation"
        f" loss; the test part chose nothing. RelaImpr is (AUC - 0.5) / (AUC of {config.reference} - 0.5) - 1"
        " (Yan et al. 2014). Brackets are 95% intervals over users, ± is the deviation over seeds."
        " Differences are those of the first seeds from the best line on the same impressions; since the test"
        " part names that line, its lead is flattering. Training operations are three forward passes, counted"
        " on the first batches."
        " Samples per CPU-second are those of a few steps, latency is that of one thread.",
        " ".join(notes),
        f"![AUC against GFLOPs]({PICTURE})",
        "## Equal budget",
        "Every model passes over the data equally often.",
        _table(found.equal),
        "## Compute matched",
        f"Every model takes as many steps as cost the training operations of {config.reference}, and at most"
        " those of the equal budget: a cheaper model has the run of the table above.",
        _table(found.matched),
        "## Validation losses of the learning rates",
        _rates_table(found),
    ]
    if found.failed:
        listed = "\n".join(f"* {name}: {why}" for name, why in found.failed.items())
        sections += ["## Missing", listed]
    return "\n\n".join(filter(None, sections)) + "\n"


def _table(lines: Sequence[BenchmarkLine]) -> str:
    return markdown_table(HEADERS, [cells_of(line) for line in lines])


def _rates_table(found: Benchmark) -> str:
    rates = [f"{rate:g}" for rate in found.config.rates]
    rows = [
        (model, *(_loss(losses.get(rate), f"{found.rates[model]:g}" == rate) for rate in rates))
        for model, losses in found.losses.items()
    ]
    return markdown_table(("model", *rates), rows)


def _loss(loss: float | None, chosen: bool) -> str:
    text = "-" if loss is None or not math.isfinite(loss) else f"{loss:.4f}"
    return f"**{text}**" if chosen else text


def cells_of(line: BenchmarkLine) -> tuple[str, ...]:
    """Texts of a line, in the order of `HEADERS`."""
    return (
        line.name,
        str(line.seeds or "-"),
        with_spread(line.auc, line.spread),
        with_interval(line.gauc),
        with_interval(line.log_loss),
        number_text(line.rela_impr, "+.2f"),
        line.against_best.delta_text if line.against_best else "-",
        line.against_best.p_text if line.against_best else "-",
        line.over_seeds.p_text if line.over_seeds else "-",
        number_text(line.rate, "g"),
        number_text(line.steps, ",d"),
        number_text(line.training_tflops, ".3g"),
        number_text(line.dense, ",d"),
        number_text(line.gflops, ".4f"),
        number_text(line.cpu_rate, ",.0f"),
        number_text(line.latency, ".3g"),
        number_text(line.cached, ".3g"),
    )
