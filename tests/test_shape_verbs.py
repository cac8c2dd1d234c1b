"""Every verb that reads a data set or a run, on a small log of every shape: it works, or says why not."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.cli import DONE, WRONG, main
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.inference.replay import requests_from_dataset
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run.run_config import TrainConfig
from clickscale.workflow import evaluate, train
from tests.shape_logs import SHAPE_LOGS

Verb = Callable[..., Any]


def write_contexts(folder: Path) -> None:
    """Write a log without users and items whose statistics go by a field of the context."""
    draw = np.random.default_rng(8)
    lines = ["time,site,clicked"]
    for n in range(900):
        site = int(draw.integers(12))
        lines.append(f"{1_700_000_000 + 60 * n},s{site},{int(draw.random() < 0.1 + 0.06 * site)}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "schema.toml").write_text(
        'name = "contexts"\nlabels = [{ name = "click", column = "clicked" }]\n'
        '[impressions]\nfiles = "log.csv"\ntime = "time"\nfields = [{ name = "site" }]\n'
        '[[statistics]]\nname = "site_rate"\nby = ["site"]\n'
        '[[statistics]]\nname = "site_lift"\nby = ["site"]\nof = "lift"\nwindow = 20000\n'
    )


# Samples of TorchEasyRec become timelines as those of EB-NeRD do.
LOGS = {name: write for name, write in SHAPE_LOGS.items() if name != "torcheasyrec"}
LOGS["contexts"] = write_contexts
# Logs of requests with lists, and without users. Those of order without times and of plain rows are wide, the
# others slow.
EVERYDAY, WIDE = ("contexts", "mind"), ("criteo", "reviews", "slates", "wide")
MARKS = {name: pytest.mark.slow for name in LOGS} | {name: pytest.mark.wide for name in WIDE}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in EVERYDAY else MARKS[name]) for name in LOGS],
)
def shape(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name of a log and a folder with its data set ``data`` and its evaluated runs ``run`` and ``other``."""
    folder = tmp_path_factory.mktemp(request.param)
    log = folder / "log"
    log.mkdir()
    LOGS[request.param](log)
    if not (log / "schema.toml").exists():
        (log / "schema.toml").write_text(guess(sorted(log.iterdir()), log))
    prepare(load_log(log / "schema.toml"), folder / "data")
    for seed, run in enumerate(("run", "other")):
        config = TrainConfig(
            model="mlp",
            data=str(folder / "data"),
            grade="size-1",
            length=10,
            epochs=Epochs(count=1),
            seed=seed,
            threads=1,
        )
        train(config, folder / run, progress=False)
        evaluate(folder / run, bootstrap=10)
    return request.param, folder


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb that ends well; what it printed as JSON."""

    def run(*words: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == DONE
        return json.loads(capsys.readouterr().out)

    return run


def in_order_of_the_log(dataset: Dataset, part: str = "test") -> np.ndarray:
    rows = dataset.part(part)
    return rows[np.argsort(dataset.impressions["row"][rows], kind="stable")]


def write_candidates(dataset: Dataset, rows: np.ndarray, path: Path, left_out: Sequence[str] = ()) -> None:
    """Write impressions as a table of candidates; ids of several columns stand in these columns."""
    lines = []
    for number, request in enumerate(requests_from_dataset(dataset, rows)):
        ids: dict[str, Any] = {"user": request["user"]} if "user" in request else {}
        column = dataset.schema.user.column
        if isinstance(column, tuple):
            ids = dict(zip(column, request["user"].split("|"), strict=True))
        shared = {**ids, "request": number, "time": request["time"]}
        for candidate in request["candidates"]:
            fields = {name: value for name, value in candidate.items() if name not in left_out}
            lines.append(shared | fields)
    names = dict.fromkeys(name for line in lines for name in line)
    pq.write_table(pa.table({name: [line.get(name) for line in lines] for name in names}), path)


def test_predictions_and_scores_of_a_table_agree(shape: tuple[str, Path], tmp_path: Path, verb: Verb) -> None:
    _, folder = shape
    dataset = open_dataset(folder / "data")
    artifact, label = folder / "run/artifact", f"score.{dataset.labels[0]}"
    assert verb("predict", folder / "run", "--out", tmp_path / "run.parquet")["rows"] > 50
    verb("predict", artifact, "--data", folder / "data", "--out", tmp_path / "artifact.csv")
    predicted = pq.read_table(tmp_path / "run.parquet")
    lines = (tmp_path / "artifact.csv").read_text().splitlines()
    assert lines[0].replace('"', "").split(",") == predicted.column_names
    assert len(lines) == len(predicted) + 1
    rows = in_order_of_the_log(dataset)
    write_candidates(dataset, rows, tmp_path / "candidates.parquet")
    out = tmp_path / "scores.parquet"
    told = verb("score", artifact, tmp_path / "candidates.parquet", "--data", folder / "data", "--out", out)
    assert (told["rows"], told["missing"]) == (len(rows), {})
    scored = pq.read_table(out)
    np.testing.assert_allclose(scored[label].to_numpy(), predicted[label].to_numpy(), atol=1e-5, rtol=0)
    ids = [field.name for field in (dataset.schema.user, dataset.schema.item)]
    ids = [name for name in ids if name not in dataset.schema.absent]
    assert scored.select([*ids, "time"]) == predicted.select([*ids, "time"]).cast(
        scored.select([*ids, "time"]).schema
    )
    for role in dataset.schema.absent:
        assert role not in [*predicted.column_names, *scored.column_names]


def test_exported_statistics_fill_in_what_preparation_counted(
    shape: tuple[str, Path], tmp_path: Path, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    name, folder = shape
    dataset = open_dataset(folder / "data")
    counters, artifact = tmp_path / "counters.parquet", folder / "run/artifact"
    export = ["statistics", "export", str(folder / "data"), "--out", str(counters)]
    if not dataset.schema.statistics:
        assert main(export) == WRONG
        assert "declares no statistics, so there is nothing to continue" in capsys.readouterr().err
        return
    if name in ("parts", "sequences"):
        assert main([*export, "--before", "test"]) == WRONG
        assert "has no moment at which test begins for all; give seconds" in capsys.readouterr().err
    else:
        assert verb(*export, "--before", "test")["moment"] == dataset.boundaries[1]
    rows, time = in_order_of_the_log(dataset), dataset.impressions["time"]
    rows = rows[time[rows] == time[rows].min()]
    verb(*export, "--before", time[rows[0]], "--overwrite")
    statistics = [statistic.name for statistic in dataset.schema.statistics]
    write_candidates(dataset, rows, tmp_path / "full.parquet")
    write_candidates(dataset, rows, tmp_path / "bare.parquet", statistics)
    full = verb("score", artifact, tmp_path / "full.parquet", "--data", folder / "data")
    bare = ["score", artifact, tmp_path / "bare.parquet", "--data", folder / "data"]
    assert set(verb(*bare)["missing"]) == set(statistics)
    filled = verb(*bare, "--counters", counters)
    assert filled["missing"] == {}
    label = f"score.{dataset.labels[0]}"
    np.testing.assert_allclose(
        [row[label] for row in filled["rows"]], [row[label] for row in full["rows"]], atol=1e-5, rtol=0
    )


def test_data_and_results_are_reported(shape: tuple[str, Path], tmp_path: Path, verb: Verb) -> None:
    _, folder = shape
    absent = open_dataset(folder / "data").schema.absent
    found = verb("inspect", folder / "data", "--plot", tmp_path / "data.svg")
    assert not {field["name"] for field in found["fields"]} & set(absent)
    assert ("user" in absent) != ("user" in {field["name"] for field in found["fields"]})
    assert "--split user_time" not in " ".join(found["summary"]["warnings"])
    assert not verb("leak-check", folder / "data")["findings"]
    evaluated = verb("evaluate", folder / "run", "--bootstrap", 10)
    (label,) = evaluated["labels"]
    assert (label["gauc"]["value"] is None) == ("user" in absent)
    assert list(label["simple"]) == (["constant"] if "item" in absent else ["constant", "popularity"])
    compared = verb("compare", folder / "run", folder / "other")
    assert len(compared["simple"]) == len(label["simple"])
    verb("report", folder / "run", "--out", tmp_path / "run.html", "--candidates", 0)
    page = (tmp_path / "run.html").read_text("utf-8")
    assert ("popularity" in page) == ("item" not in absent)
    assert "AUC by age of the item" not in page or "item" not in absent
