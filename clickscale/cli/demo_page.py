"""What the demo shows beside its table: a request that is served, and the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

import clickscale
from clickscale.data.dataset import Dataset
from clickscale.data.inspect import inspect_dataset, plot_inspection
from clickscale.evaluation.calibration import reliability_curve
from clickscale.inference.replay import raw_value, requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.report import plots
from clickscale.report.comparison import DIFFERENCES, compare, differences
from clickscale.report.page import Page, PageTable, Section, write_page
from clickscale.report.results import HEADERS, Result, cells, verdict
from clickscale.runs import entrant, learning_curve, load_predictions, slice_auc
from clickscale.training.run import read_config

FEWEST, MOST = 6, 12  # candidates of the request that is shown


def scored_request(dataset: Dataset, artifact: Path, out: Path) -> dict[str, Any]:
    """Score one true request of the test part; ``out/request.json`` keeps the raw request."""
    rows = _chosen(dataset)
    (request,) = requests_from_dataset(dataset, rows)
    (out / "request.json").write_text(json.dumps(request) + "\n", encoding="utf-8")
    response = Scorer(artifact).score(request)
    fields = [field for field in dataset.schema.items if field.kind == "categorical"]
    label = dataset.impressions[f"label.{response.labels[0]}"][rows]
    ranking = []
    for place in np.argsort(-response.logits[:, 0], kind="stable").tolist():
        item = int(dataset.impressions["item"][rows[place]])
        line = {"item": response.items[place], "probability": float(response.probabilities[place, 0])}
        for field in fields:
            value = raw_value(dataset.encoder, field, dataset.items[f"field.{field.name}"][item])
            line[field.name] = ", ".join(map(str, value)) if isinstance(value, list) else value
        ranking.append(line | {"happened": response.labels[0] if label[place] == 1 else "-"})
    return {
        "user": request["user"],
        "behaviors": len(request["behaviors"]),
        "attributes": [field.name for field in fields],
        "ranking": ranking,
        "command": f"clickscale score {artifact} {out / 'request.json'}",
    }


def _chosen(dataset: Dataset) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Impressions of one request of the test part: some candidates with both outcomes, a known history."""
    rows = dataset.part("test")
    user, time = dataset.impressions["user"][rows], dataset.impressions["time"][rows]
    cuts = np.flatnonzero((user[1:] != user[:-1]) | (time[1:] != time[:-1])) + 1
    label = dataset.impressions[f"label.{dataset.labels[0]}"]
    visible = dataset.impressions["visible"]
    requests = np.split(rows, cuts)
    good = [
        r for r in requests if len(r) >= FEWEST and 0 < np.mean(label[r] == 1) < 1 and visible[r[0]] >= 20
    ]
    return (good or sorted(requests, key=len, reverse=True))[0][:MOST]


def write_report(
    out: Path, dataset: Dataset, runs: Sequence[Path], results: Sequence[Result], scored: dict[str, Any]
) -> Path:
    """Write ``out/report.html``."""
    notes = " ".join(dataset.manifest.notes)
    shown = len(dataset.impressions["time"])
    page = Page(
        title=f"clickscale on {dataset.schema.name}",
        subtitle=f"{shown:,} impressions, {_epochs(runs[0])}, one seed. {notes}".strip(),
        sections=(
            _results_section(results),
            _comparison_section(runs),
            _behavior_section(runs),
            _data_section(out, dataset),
            _request_section(scored),
        ),
        footer=f"Made by clickscale {clickscale.__version__} demo; the folder {out} holds every run.",
    )
    plots.save_svg(plots.accuracy(results), out / "accuracy.svg")
    write_page(page, out / "report.html")
    return out / "report.html"


def _epochs(run: Path) -> str:
    """How often a run passed over the training part."""
    count = read_config(run).epochs.count
    return "one epoch" if count == 1 else f"{count} epochs"


def _results_section(results: Sequence[Result]) -> Section:
    return Section(
        "Results on the test part",
        f"{verdict(results)} Brackets are 95% intervals over users. Candidates are scored as served: "
        f"the last behaviors known at the moment of the request.",
        tables=[PageTable(HEADERS, [[c.replace(" [", "\n[") for c in cells(result)] for result in results])],
        plots=[plots.accuracy(results)],
    )


def _comparison_section(runs: Sequence[Path]) -> Section:
    lines = compare([entrant(run, "test") for run in runs])
    return Section(
        f"Is the difference from {lines[0].name} real?",
        f"Differences from {lines[0].name} on the same resamples of the users, with 95% intervals. "
        "There is one seed of each, so nothing is said about other seeds.",
        tables=[PageTable(DIFFERENCES, [differences(line) for line in lines[1:]])],
    )


def _behavior_section(runs: Sequence[Path]) -> Section:
    learning = {run.name: learning_curve(run) for run in runs}
    return Section(
        "How the models behave",
        f"Learning over {_epochs(runs[0])}; accuracy by what is known of user and item; calibration.",
        plots=[
            plots.learning({name: curve for name, curve in learning.items() if curve[0]}),
            plots.slices(
                "AUC by visible behaviors",
                "behaviors that the candidate sees",
                {run.name: slice_auc(run, "behaviors") for run in runs},
            ),
            plots.slices(
                "AUC by age of the item",
                "since it was first seen",
                {run.name: slice_auc(run, "item_age") for run in runs},
            ),
            plots.calibration({run.name: _reliability(run) for run in runs}),
        ],
    )


def _reliability(run: Path) -> tuple[list[float], list[float]]:
    """Mean prediction and share of positives of ten equally large bins."""
    predictions = load_predictions(run, "test")
    known = predictions.label_mask[:, 0]
    logits = predictions.logits[known, 0].astype(np.float64)
    curve = reliability_curve(predictions.labels[known, 0], expit(logits), bins=10)
    return curve.mean_probability.tolist(), curve.mean_label.tolist()


def _data_section(out: Path, dataset: Dataset) -> Section:
    plot_inspection(inspect_dataset(dataset), out / "data.svg")
    text = (out / "data.svg").read_text("utf-8")
    return Section(
        "The data",
        "Split by time: dashed lines begin the validation and the test part.",
        plots=[text[text.index("<svg") :]],
    )


def _request_section(scored: dict[str, Any]) -> Section:
    headers = ("item", *scored["attributes"], "probability", "what happened")
    names = ("item", *scored["attributes"])
    rows = [
        [*(str(line[name]) for name in names), f"{line['probability']:.4f}", line["happened"]]
        for line in scored["ranking"]
    ]
    return Section(
        f"One request, served from the saved artifact: user {scored['user']}",
        f"{scored['behaviors']:,} known behaviors of the user and {len(rows)} candidates went in as raw ids "
        "and times; the model ranked them as below, and the last column tells what the user did later.",
        tables=[PageTable(headers, rows)],
        code=[scored["command"]],
    )
