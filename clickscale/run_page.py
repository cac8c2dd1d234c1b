"""A page about runs, read back from their folders: what was measured, on which data, by which commands.

The page is one HTML file, ``report.html`` in a folder, with its plots beside it as SVG.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.special import expit

from clickscale.artifact import load_artifact
from clickscale.costs.latency import CACHED, PARALLEL, compare_latency
from clickscale.data.checks.contents import inspect_dataset
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import DataError, unknown
from clickscale.evaluation.calibration import reliability_curve
from clickscale.evaluation.predictions import Predictions, common_rows
from clickscale.files import heal, replace_bytes, replace_text
from clickscale.inference.prediction_tables import TREES
from clickscale.report import sections
from clickscale.report.comparison import Entrant, gap_closed, names_of
from clickscale.report.page import Page, Section, write_page
from clickscale.report.plots import Drawing
from clickscale.report.sections import PageModel
from clickscale.runtime import set_threads
from clickscale.sealed import maybe_document, read_document
from clickscale.training.distill.distill_config import DistillConfig, parse_choice
from clickscale.training.distill.distilled_runs import TAUGHT
from clickscale.training.run.folder import ADVICE, CONFIG, RECIPE, STUDENT, TEACHER, read_config
from clickscale.training.run.run_config import TrainConfig
from clickscale.version import __version__
from clickscale.workflow import entrant, learning_curve, run_notes, slice_auc, validation_curve

CANDIDATES = 500  # of the request whose latency is measured
PAGE = "report.html"
_BINS = 10  # of the calibration curve


def write_run_page(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    part: str = "test",
    label: str = "",
    data: str | Path | None = None,
    candidates: int = CANDIDATES,
    command: str = "",
) -> Path:
    """Write a page about evaluated runs of one data set; a distillation's folder is its student and teacher.

    Args:
        out: a folder for ``report.html`` and its plots, or a file that ends in ``.html``.
        label: the label that the page is about; the first one that all runs predict if empty.
        data: prepared data set, if it is not where the first run was trained.
        candidates: of the request whose latency is measured; 0 measures none.
        command: the command that makes the page, to be shown on it.

    Returns:
        The path of the page.

    Raises:
        RunError: a folder is not a run, or the part was not evaluated yet.
        DataError: the runs were measured on different impressions, or predict no label in common.
    """
    page = make_run_page(runs, part=part, label=label, data=data, candidates=candidates, command=command)
    return store_page(page, out)


def make_run_page(
    runs: Sequence[str | Path],
    *,
    part: str = "test",
    label: str = "",
    data: str | Path | None = None,
    candidates: int = CANDIDATES,
    command: str = "",
) -> Page:
    """The page of `write_run_page`, unwritten."""
    folders = [run for folder in runs for run in _runs_of(Path(folder))]
    entrants = [entrant(folder, part) for folder in folders]
    label = _common_label(entrants, label)
    _check_same_rows(entrants)
    named = dict(zip(_distinct_names(entrants), entrants, strict=True))
    dataset, absence = _dataset_of(folders[0], data)
    latencies = measured_latencies(named, candidates) if candidates else {}
    models = page_models(named, part, label, latencies)
    if dataset is not None and "item" in dataset.schema.absent:
        models = [replace(model, by_item_age={}) for model in models]
    found = _model_sections(models, candidates, label)
    if dataset is not None:
        found.append(sections.data_section(inspect_dataset(dataset)))
    found.append(sections.commands_section([*run_commands(folders, part), *filter(None, [command])]))
    return Page(
        title=_title(models, dataset),
        subtitle=_subtitle(models, folders, absence),
        tiles=sections.tiles(models, candidates),
        sections=found,
        footer=f"Made by clickscale {__version__}.",
    )


def _runs_of(folder: Path) -> list[Path]:
    """Student and teacher in the folder of a distillation; any other folder is one run."""
    if not (folder / STUDENT / CONFIG).is_file():
        return [folder]
    return [folder / name for name in (STUDENT, TEACHER) if (folder / name / CONFIG).is_file()]


def _model_sections(models: Sequence[PageModel], candidates: int, label: str) -> list[Section]:
    """Results, latency, differences and behavior; those that do not apply are left out."""
    found = [sections.results_section(models, candidates)]
    if any(model.result.regret for model in models):
        found.append(sections.truth_section(models))
    if any(model.latency for model in models):
        text = (
            "A dot is the median time of a request that encodes its user, a ring that of a request whose "
            "user is cached. Bars are 95% intervals over users. A model without a measured time, such as "
            "trees, is a horizontal line. The times are those of the machine that made this page."
        )
        found.append(sections.latency_section(models, candidates, text))
    if len(models) > 1:
        text = "Differences on the same resamples of the users, with 95% intervals; seeds are pooled."
        if len({model.entrant.seed for model in models}) == 1:
            text += " Each model was trained with one seed, so this says nothing about other seeds."
        found.append(sections.comparison_section([models], label, text))
    text = "Loss while training, calibration, and AUC by what is known of user and item."
    return [*found, sections.behavior_section(models, text)]


def _title(models: Sequence[PageModel], dataset: Dataset | None) -> str:
    names = [model.name for model in models]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return listed if dataset is None else f"{dataset.schema.name}: {listed}"


def _subtitle(models: Sequence[PageModel], folders: Sequence[Path], absence: str) -> str:
    """The label and part that the page is about, how they were measured, and the notes of the data."""
    result = models[0].result
    groupings = " and ".join(dict.fromkeys(model.entrant.predictions.grouping for model in models))
    notes = dict.fromkeys(note for folder in folders for note in run_notes(folder))
    told = [
        f"Label {result.label}, part {result.part}, {result.rows:,} impressions, grouping {groupings}.",
        *notes,
        absence,
    ]
    return " ".join(filter(None, told))


def _common_label(entrants: Sequence[Entrant], wanted: str) -> str:
    """The label of the page.

    Raises:
        DataError: a run does not predict it, or the runs have no label in common.
    """
    predicted = [[result.label for result in entrant.results] for entrant in entrants]
    common = [label for label in predicted[0] if all(label in labels for labels in predicted)]
    if wanted and wanted not in common:
        raise DataError(unknown("label", wanted, common))
    if not common:
        told = "; ".join(f"{e.run}: {', '.join(names)}" for e, names in zip(entrants, predicted, strict=True))
        raise DataError(f"The runs predict no label in common ({told}); make a page of each.")
    return wanted or common[0]


def _check_same_rows(entrants: Sequence[Entrant]) -> None:
    """Refuse runs that were measured on other impressions than the first."""
    first, *others = entrants
    for other in others:
        try:
            common_rows(first.predictions, other.predictions)
        except DataError as error:
            raise DataError(f"{other.run} cannot stand beside {first.run} on a page: {error}") from error


def _distinct_names(entrants: Sequence[Entrant]) -> list[str]:
    """Names of runs; those of several seeds carry the seed.

    Raises:
        DataError: a run is given twice.
    """
    names = names_of(entrants)
    found = [
        f"{name} seed={one.seed}" if names.count(name) > 1 else name
        for name, one in zip(names, entrants, strict=True)
    ]
    for name in found:
        if found.count(name) > 1:
            same = [one.run for one, other in zip(entrants, found, strict=True) if other == name]
            raise DataError(f"{' and '.join(same)} are the same model with the same seed; give one of them.")
    return found


def _dataset_of(run: Path, data: str | Path | None) -> tuple[Dataset | None, str]:
    """The data set of a run, or None and a sentence about its absence."""
    where = Path(data or _data_of(run))
    heal(where)
    if data is None and not where.is_dir():
        return None, (f"The data set was not at {where}, so the data card is left out; --data names it.")
    return open_dataset(where), ""


def _data_of(run: Path) -> str:
    """Where the data set of a run was."""
    if (run / TREES).is_file():
        return str(read_document(run / TREES, ADVICE)["data"])
    return read_config(run).data


def store_page(page: Page, out: str | Path) -> Path:
    """Write a page into a folder, its plots beside it as SVG and PNG, or into a file that ends in .html."""
    where = Path(out)
    path = where if where.suffix.lower() in (".html", ".htm") else where / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, path)
    if path != where:
        for section in page.sections:
            for number, plot in enumerate(section.plots, 1):
                name = "-".join(section.title.lower().replace("?", "").replace(",", "").split())
                replace_text(where / f"{name}-{number}.svg", plot)
                if isinstance(plot, Drawing):
                    replace_bytes(where / f"{name}-{number}.png", plot.png())
    return path


# --- what a page shows


def page_models(
    entrants: Mapping[str, Entrant], part: str, label: str, latencies: Mapping[str, tuple[float, float]]
) -> list[PageModel]:
    """Everything that a page shows of evaluated runs, by their names on it."""
    models = []
    for name, one in entrants.items():
        run = Path(one.run)
        (result,) = (result for result in one.results if result.label == label)
        models.append(
            PageModel(
                name=name,
                result=replace(result, name=name),
                entrant=one,
                latency=latencies.get(name),
                learning=learning_curve(run),
                validation=validation_curve(run),
                reliability=_reliability(one.predictions, label),
                by_behaviors=slice_auc(run, "behaviors", part, label),
                by_item_age=slice_auc(run, "item_age", part, label),
                gap_closed=gap_closed([one], list(entrants.values()), label),
            )
        )
    return models


def _reliability(predictions: Predictions, label: str) -> tuple[list[float], list[float]]:
    """Mean prediction and share of positives in bins of equal size."""
    column = predictions.label_names.index(label)
    known = predictions.label_mask[:, column]
    logits = predictions.logits[known, column].astype(np.float64)
    curve = reliability_curve(predictions.labels[known, column], expit(logits), bins=_BINS)
    return curve.mean_probability.tolist(), curve.mean_label.tolist()


def measured_latencies(entrants: Mapping[str, Entrant], candidates: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a request by run: with encoding the user, and from a cached state.

    Measured on one thread with a full history, the models in turns. Runs without an artifact (trees) are
    left out.
    """
    artifacts = {name: Path(one.run) / "artifact" for name, one in entrants.items()}
    loaded = {name: load_artifact(path) for name, path in artifacts.items() if path.is_dir()}
    if not loaded:
        return {}
    set_threads(1)
    models = {name: (artifact.model, artifact.config.length) for name, artifact in loaded.items()}
    features = next(iter(loaded.values())).config.features
    latencies = compare_latency(models, features, candidates)
    return {name: (times[PARALLEL].p50, times[CACHED].p50) for name, times in latencies.items()}


# --- commands


def run_commands(runs: Sequence[Path], part: str) -> list[str]:
    """Commands that train and evaluate runs; two models of one distillation share one."""
    commands = []
    for run in runs:
        commands.append(_training_command(run))
        if not (run / TREES).is_file():
            commands.append(shlex.join(["clickscale", "evaluate", str(run), *_flag("part", part, "test")]))
    return list(dict.fromkeys(commands))


def _training_command(run: Path) -> str:
    if (run / TREES).is_file():
        facts = read_document(run / TREES, ADVICE)
        words = ["trees", "--data", facts["data"], "--out", str(run), *_flag("seed", facts["seed"], 0)]
        words += _flag("fraction", facts["portion"]["fraction"], 1.0) + _flag(
            "by", facts["portion"]["by"], "time"
        )
        return shlex.join(["clickscale", *words, *([] if facts["statistics"] else ["--no-statistics"])])
    if any((run.parent / name / TAUGHT).is_file() for name in (run.name, STUDENT)) and _is_distilled(run):
        return _distillation_command(run.parent)
    config = read_config(run)
    usual = TrainConfig(model=config.model, data=config.data, model_options=config.model_options)
    words = ["train", config.model, "--data", config.data, "--out", str(run)]
    words += [word for option in config.model_options for word in ("--set", f"model.{option}")]
    return shlex.join(["clickscale", *words, *_changed(config, usual, _decided(run))])


def _is_distilled(run: Path) -> bool:
    """True for the folder of a model that a distillation trained."""
    path = run.parent / CONFIG
    return path.is_file() and STUDENT in read_document(path, ADVICE)


def _distillation_command(out: Path) -> str:
    tree = read_document(out / CONFIG, ADVICE)
    config = msgspec.convert(tree, DistillConfig)
    words = ["distill", "--data", config.data, "--out", str(out), "--student", str(config.student)]
    teacher = None if config.teacher_run else config.teacher
    words += ["--teacher-run", config.teacher_run] if teacher is None else ["--teacher", str(teacher)]
    usual = DistillConfig(
        data=config.data,
        student=parse_choice(str(config.student)),
        teacher=None if config.teacher is None else parse_choice(str(config.teacher)),
        teacher_run=config.teacher_run,
        teacher_weights=config.teacher_weights,
    )
    decided = _decided(out)
    if teacher is None:  # read from its run; only how it goes on learning was set
        own = {key for key in _flat(msgspec.to_builtins(config)) if key.startswith(f"{TEACHER}.")}
        decided |= {key for key in own if not (config.teacher_learns and ".optimizer." in key)}
    return shlex.join(["clickscale", *words, *_changed(config, usual, decided)])


def _decided(run: Path) -> set[str]:
    """Options that the recipe decided."""
    path = run / RECIPE
    return set(maybe_document(path, ADVICE) or ())


def _changed(config: msgspec.Struct, usual: msgspec.Struct, decided: set[str]) -> list[str]:
    """Flags for the options that differ from the usual ones and that no recipe decided."""
    now, then = _flat(msgspec.to_builtins(config)), _flat(msgspec.to_builtins(usual))
    words = []
    for key, value in now.items():
        if value == then.get(key) or key in decided:
            continue
        if key == "labels":
            words += ["--labels", ",".join(value)]
        elif key in ("grade", "length", "seed"):
            words += [f"--{key}", str(value)]
        elif key.endswith(".model_options"):
            owner = key.removesuffix("_options")
            words += [word for option in value for word in ("--set", f"{owner}.{option}")]
        else:
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _flag(name: str, value: object, usual: object) -> list[str]:
    return [] if value == usual else [f"--{name}", str(value)]
