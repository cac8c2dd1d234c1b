"""A served request, and the report page of the demo."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clickscale.data.checks.contents import inspect_dataset
from clickscale.data.dataset import Dataset
from clickscale.demo.small_ladder import ladder_on_page
from clickscale.features import column_of, label_of
from clickscale.files import replace_text
from clickscale.inference.replay import raw_value, requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.report import sections
from clickscale.report.comparison import Entrant
from clickscale.report.page import Page, PageTable, Section
from clickscale.report.sections import PageModel
from clickscale.run_page import CANDIDATES, page_models, run_commands, store_page
from clickscale.scaling.laws import Laws
from clickscale.training.run.folder import CONFIG, read_config
from clickscale.version import __version__
from clickscale.workflow import entrant, run_results

ALONE, TAUGHT = "student alone", "distilled student"  # names of the two runs of the student
FEWEST, MOST = 6, 12  # candidates of the request that is shown
_LATENCY = (
    "The student is served; its teacher is used in training only. A dot is the median time of a request that "
    "encodes its user, a ring that of a request whose user is cached. Bars are 95% intervals over users. The "
    "trees are a horizontal line, because computing their features is not timed."
)
_DIFFERENCES = (
    "Differences on the same resamples of the users, with 95% intervals. Each model was trained with one "
    "seed, so this says nothing about other seeds."
)
Latencies = Mapping[str, tuple[float, float]]


def entrants(runs: Mapping[str, Path]) -> dict[str, Entrant]:
    """Runs under their names in the demo."""
    return {
        name: replace(
            entrant(run, "test"),
            options={"model": name, "seed": 0},
            results=run_results(run, "test", name),
        )
        for name, run in runs.items()
    }


def scored_request(dataset: Dataset, artifact: Path, out: Path) -> dict[str, Any]:
    """Score one real request of the test part, and keep the raw request as ``out/request.json``."""
    rows = _chosen(dataset)
    (request,) = requests_from_dataset(dataset, rows)
    replace_text(out / "request.json", json.dumps(request) + "\n")
    response = Scorer(artifact).score(request)
    fields = [field for field in dataset.schema.items if field.kind == "categorical"]
    label = dataset.impressions[label_of(response.labels[0])][rows]
    ranking = []
    for index in np.argsort(-response.logits[:, 0], kind="stable").tolist():
        item = int(dataset.impressions["item"][rows[index]])
        line = {"item": response.items[index], "probability": float(response.probabilities[index, 0])}
        for field in fields:
            value = raw_value(dataset.encoder, field, dataset.items[column_of(field.name)][item])
            line[field.name] = ", ".join(map(str, value)) if isinstance(value, list) else value
        ranking.append(line | {"happened": response.labels[0] if label[index] == 1 else "-"})
    return {
        "user": request["user"],
        "behaviors": len(request["behaviors"]),
        "attributes": [field.name for field in fields],
        "ranking": ranking,
        "command": f"clickscale score {artifact} {out / 'request.json'}",
    }


def _chosen(dataset: Dataset) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Impressions of one request of the test part: candidates with both outcomes, and a known history."""
    rows = dataset.part("test")
    user, time = dataset.impressions["user"][rows], dataset.impressions["time"][rows]
    cuts = np.flatnonzero((user[1:] != user[:-1]) | (time[1:] != time[:-1])) + 1
    label = dataset.impressions[label_of(dataset.labels[0])]
    visible = dataset.impressions["visible"]
    requests = np.split(rows, cuts)
    good = [
        r for r in requests if len(r) >= FEWEST and 0 < np.mean(label[r] == 1) < 1 and visible[r[0]] >= 20
    ]
    return (good or sorted(requests, key=len, reverse=True))[0][:MOST]


def write_report(
    out: Path,
    dataset: Dataset,
    runs: Mapping[str, Path],
    latencies: Latencies,
    scored: dict[str, Any],
    laws: Laws,
    ladder: Path,
) -> Path:
    """Write ``out/report.html``, and its plots beside it.

    Args:
        laws: of the small ladder, which is in the folder ``ladder``.
    """
    notes = " ".join(dataset.manifest.notes)
    shown = len(dataset.impressions["time"])
    label = dataset.labels[0]
    models = page_models(entrants(runs), "test", label, latencies)
    page = Page(
        title=f"clickscale on {dataset.schema.name}",
        subtitle=f"{shown:,} impressions, {_epochs(runs)}, one seed. {notes}".strip(),
        tiles=sections.tiles(models, CANDIDATES),
        sections=(
            sections.results_section(models, CANDIDATES),
            sections.latency_section(models, CANDIDATES, _LATENCY),
            sections.comparison_section(_groups(models), label, _DIFFERENCES),
            sections.behavior_section(
                models, f"Loss over {_epochs(runs)}, calibration, and AUC by what is known of user and item."
            ),
            sections.data_section(inspect_dataset(dataset)),
            ladder_on_page(laws, ladder),
            _request_section(scored),
            sections.commands_section(run_commands(list(runs.values()), "test")),
        ),
        footer=f"Made by clickscale {__version__} demo; the folder {out} holds every run.",
    )
    return store_page(page, out)


def _groups(models: Sequence[PageModel]) -> list[list[PageModel]]:
    """Every model against the first, and the distilled student against the student without a teacher."""
    taught = [model for name in (ALONE, TAUGHT, "teacher") for model in models if model.name == name]
    return [list(models), taught]


def _epochs(runs: Mapping[str, Path]) -> str:
    """Number of epochs of the runs: ``3 epochs (din, ...), 4 epochs (teacher, ...)``."""
    by_count: dict[int, list[str]] = {}
    for name, run in runs.items():
        if (run / CONFIG).is_file():
            by_count.setdefault(read_config(run).epochs.count, []).append(name)
    words = {count: "1 epoch" if count == 1 else f"{count} epochs" for count in by_count}
    if len(by_count) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{words[count]} ({', '.join(names)})" for count, names in by_count.items())


def _request_section(scored: dict[str, Any]) -> Section:
    headers = ("item", *scored["attributes"], "probability", "what happened")
    names = ("item", *scored["attributes"])
    rows = [
        [*(str(line[name]) for name in names), f"{line['probability']:.4f}", line["happened"]]
        for line in scored["ranking"]
    ]
    return Section(
        f"One request, served from the saved artifact: user {scored['user']}",
        f"The request holds {scored['behaviors']:,} known behaviors of the user and {len(rows)} candidates, "
        "as raw ids and times. The table shows the ranking; the last column is what the user did later.",
        tables=[PageTable(headers, rows)],
        code=[scored["command"]],
    )
