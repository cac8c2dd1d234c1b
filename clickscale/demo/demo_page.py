"""Latency, a served request, and the report page of the demo."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from clickscale.artifact import load_artifact
from clickscale.costs.latency import CACHED, PARALLEL, compare_latency
from clickscale.data.checks.contents import inspect_dataset
from clickscale.data.dataset import Dataset
from clickscale.evaluation.calibration import reliability_curve
from clickscale.features import column_of, label_of
from clickscale.files import replace_text
from clickscale.inference.replay import raw_value, requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.report import plots
from clickscale.report.comparison import DIFFERENCES, Entrant, compare, differences
from clickscale.report.data_plots import plot_inspection
from clickscale.report.latency_plots import accuracy_against_latency
from clickscale.report.page import Page, PageTable, Section, write_page
from clickscale.report.results import HEADERS as ACCURACY
from clickscale.report.results import Result, verdict, with_simple
from clickscale.report.results import cells as accuracy_cells
from clickscale.runtime import set_threads
from clickscale.training.run.folder import CONFIG, read_config
from clickscale.version import __version__
from clickscale.workflow import learning_curve, load_predictions, run_results, slice_auc

ALONE, TAUGHT = "student alone", "distilled student"  # names of the two runs of the student
CANDIDATES = 500  # of the request whose latency is measured
FEWEST, MOST = 6, 12  # candidates of the request that is shown
HEADERS = (*ACCURACY[:4], "parameters", "GFLOPs", f"ms for {CANDIDATES}", "user cached")
MEANING = (
    "Parameters are counted outside embedding tables, and GFLOPs for a request of 60 candidates. "
    f"Milliseconds are those of a request of {CANDIDATES} candidates on one thread: once with encoding the "
    "user, once with the user's state cached."
)
Latencies = Mapping[str, tuple[float, float]]


def measured(runs: Mapping[str, Path]) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a request by run: with encoding the user, and from a cached state.

    Measured on one thread with a full history, the models in turns. Runs without an artifact (trees) are
    left out.
    """
    loaded = {
        name: load_artifact(run / "artifact") for name, run in runs.items() if (run / "artifact").is_dir()
    }
    set_threads(1)
    models = {name: (artifact.model, artifact.config.length) for name, artifact in loaded.items()}
    features = next(iter(loaded.values())).config.features
    latencies = compare_latency(models, features, CANDIDATES)
    return {name: (times[PARALLEL].p50, times[CACHED].p50) for name, times in latencies.items()}


def cells(result: Result, latencies: Latencies) -> tuple[str, ...]:
    """Cells of one row, in the order of `HEADERS`."""
    times = latencies.get(result.name)
    shown = ("-", "-") if times is None else tuple(f"{time:.2f}" for time in times)
    return (*accuracy_cells(result)[:-1], *shown)


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
    results: Sequence[Result],
    latencies: Latencies,
    scored: dict[str, Any],
) -> Path:
    """Write ``out/report.html``."""
    notes = " ".join(dataset.manifest.notes)
    shown = len(dataset.impressions["time"])
    page = Page(
        title=f"clickscale on {dataset.schema.name}",
        subtitle=f"{shown:,} impressions, {_epochs(runs)}, one seed. {notes}".strip(),
        sections=(
            _results_section(results, latencies),
            _latency_section(out, results, latencies),
            _comparison_section(runs),
            _behavior_section(runs),
            _data_section(out, dataset),
            _request_section(scored),
        ),
        footer=f"Made by clickscale {__version__} demo; the folder {out} holds every run.",
    )
    plots.save_svg(plots.accuracy(results), out / "accuracy.svg")
    write_page(page, out / "report.html")
    return out / "report.html"


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


def _results_section(results: Sequence[Result], latencies: Latencies) -> Section:
    rows = [[c.replace(" [", "\n[") for c in cells(result, latencies)] for result in with_simple(results)]
    warnings = [f"Warning: {result.name}: {warning}" for result in results for warning in result.warnings]
    explained = (
        f"{verdict(results)} Brackets are 95% intervals over users. Candidates are scored as a server would: "
        f"from the last behaviors known at the moment of the request. {MEANING}"
    )
    return Section(
        "Results on the test part",
        " ".join([explained, *warnings]),
        tables=[PageTable(HEADERS, rows)],
        plots=[plots.accuracy(results)],
    )


def _latency_section(out: Path, results: Sequence[Result], latencies: Latencies) -> Section:
    picture = accuracy_against_latency(
        f"milliseconds for {CANDIDATES} candidates, one thread", results, latencies
    )
    plots.save_svg(picture, out / "latency.svg")
    return Section(
        "Accuracy against latency",
        "The student is served; its teacher is used in training only. A dot is the median time of a request "
        "that encodes its user, a ring that of a request whose user is cached. Bars are 95% intervals over "
        "users. The trees are a horizontal line, because computing their features is not timed.",
        plots=[picture],
    )


def _comparison_section(runs: Mapping[str, Path]) -> Section:
    """Every model against the first, and the distilled student against the student without a teacher."""
    taught = [name for name in (ALONE, TAUGHT, "teacher") if name in runs]
    bases = (list(runs), taught)
    tables = []
    for names in bases:
        first, *others = compare([_entrant(name, runs[name]) for name in names])
        headers = (f"against {first.name}", *DIFFERENCES[1:])
        tables.append(PageTable(headers, [differences(line) for line in others]))
    return Section(
        "Are the differences real?",
        "Differences on the same resamples of the users, with 95% intervals. "
        "Each model was trained with one seed, so this says nothing about other seeds.",
        tables=tables,
    )


def _entrant(name: str, run: Path) -> Entrant:
    """A run under its name in the demo."""
    options = {"model": name, "seed": 0}
    return Entrant(str(run), options, run_results(run, "test", name), load_predictions(run, "test"))


def _behavior_section(runs: Mapping[str, Path]) -> Section:
    learning = {name: learning_curve(run) for name, run in runs.items()}
    return Section(
        "How the models behave",
        f"The training loss over {_epochs(runs)}, AUC by what is known of user and item, and calibration.",
        plots=[
            plots.learning({name: curve for name, curve in learning.items() if curve[0]}),
            plots.slices(
                "AUC by visible behaviors",
                "behaviors that the candidate sees",
                {name: slice_auc(run, "behaviors") for name, run in runs.items()},
            ),
            plots.slices(
                "AUC by age of the item",
                "since it was first seen",
                {name: slice_auc(run, "item_age") for name, run in runs.items()},
            ),
            plots.calibration({name: _reliability(run) for name, run in runs.items()}),
        ],
    )


def _reliability(run: Path) -> tuple[list[float], list[float]]:
    """Mean prediction and share of positives in ten bins of equal size."""
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
        "The split is by time. Dashed lines mark the start of the validation part and of the test part.",
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
        f"The request holds {scored['behaviors']:,} known behaviors of the user and {len(rows)} candidates, "
        "as raw ids and times. The table shows the ranking; the last column is what the user did later.",
        tables=[PageTable(headers, rows)],
        code=[scored["command"]],
    )
