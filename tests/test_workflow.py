import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

import clickscale
from clickscale import workflow
from clickscale.artifact import load_artifact
from clickscale.data.dataset import Dataset
from clickscale.data.portion import Portion
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Split
from clickscale.errors import RunError
from clickscale.evaluation.predictions import Predictions
from clickscale.report.comparison import compare
from clickscale.sealed import read_document, write_document
from clickscale.training.distill.distill_config import DistillConfig, ModelChoice
from clickscale.training.run.folder import read_config
from clickscale.training.run.run_config import TrainConfig
from tests.data.tiny import tiny_source
from tests.trained import GRADE, LENGTH, tiny_prepared, tiny_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs"), dataset)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_finished_run_has_its_artifact_its_cost_and_the_metrics_of_valid(run: Path) -> None:
    artifact = load_artifact(run / "artifact")
    cost = read_document(run / "cost.json", "")
    valid = read_document(run / "evaluation-valid.json", "")
    assert (artifact.config.model, artifact.config.length, artifact.config.labels) == (
        "mlp",
        LENGTH,
        ("click",),
    )
    assert artifact.metrics["cost"] == cost
    assert artifact.metrics["valid"] == valid
    assert artifact.metrics["training"]["samples"] > 0
    assert cost["candidates"] == 60
    (result,) = workflow.run_results(run, "valid")
    assert (result.dense, result.label) == (cost["dense"], "click")
    assert result.speed is not None
    assert result.speed > 0


def test_a_run_is_finished_on_data_that_moved(finished: Path, dataset: Dataset, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("artifact", "cost.json"))
    shutil.copytree(dataset.path, moved)
    options = read_document(run / "config.json", "")
    write_document(run / "config.json", options | {"data": str(tmp_path / "gone")})
    config = msgspec.convert(options | {"data": str(moved)}, TrainConfig)
    assert workflow.train(config, run, resume=True).finished
    assert load_artifact(run / "artifact").config.model == "mlp"


def test_a_run_without_a_validation_part_has_its_artifact(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(dataclasses.replace(tiny_source(), split=Split(valid=0.0, test=0.2)), data)
    config = TrainConfig(model="mlp", data=str(data), grade=GRADE, length=LENGTH, batch_size=16)
    assert workflow.train(config, tmp_path / "run").finished
    assert "valid" not in load_artifact(tmp_path / "run" / "artifact").metrics
    assert not (tmp_path / "run" / "evaluation-valid.json").exists()


def test_evaluating_writes_predictions_and_the_report_that_it_returns(run: Path, dataset: Dataset) -> None:
    report = workflow.evaluate(run, bootstrap=10)
    predictions = Predictions.load(run / "predictions-test.safetensors")
    assert read_document(run / "evaluation-test.json", "") == report.to_dict()
    assert (report.part, report.grouping, report.rows) == ("test", "request", len(dataset.part("test")))
    np.testing.assert_array_equal(predictions.row, dataset.part("test"))
    (result,) = workflow.run_results(run)
    assert result.auc.value == pytest.approx(report.labels[0].metrics["auc"].value, nan_ok=True)


def test_a_run_is_evaluated_on_data_that_has_moved(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    moved = shutil.copytree(dataset.path, tmp_path / "moved")
    config = read_document(run / "config.json", "")
    write_document(run / "config.json", config | {"data": str(tmp_path / "gone")})
    with pytest.raises(RunError, match="gone, which is not there; say where it is with --data"):
        workflow.evaluate(run)
    assert workflow.evaluate(run, data=moved, bootstrap=0).rows == len(dataset.part("test"))


def test_a_folder_that_holds_a_run_is_refused_unless_it_is_continued(run: Path, dataset: Dataset) -> None:
    config = TrainConfig(
        model="mlp", data=str(dataset.path), grade=GRADE, length=LENGTH, batch_size=32, threads=1
    )
    with pytest.raises(RunError, match="already holds a run"):
        workflow.train(config, run, progress=False)
    shutil.rmtree(run / "artifact")
    assert workflow.train(config, run, resume=True, progress=False).finished
    assert load_artifact(run / "artifact").config.model == "mlp"


@pytest.mark.parametrize("ask", [workflow.load_predictions, workflow.run_results, workflow.entrant])
def test_what_was_not_evaluated_yet_says_which_command_does_it(ask: object, run: Path) -> None:
    with pytest.raises(RunError, match=r"clickscale evaluate .* --part train"):
        ask(run, "train")  # type: ignore[operator]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        workflow.evaluate(tmp_path)
    with pytest.raises(RunError, match="is not a run"):
        workflow.run_options(tmp_path)


def test_trees_are_compared_like_a_run(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    trees = tmp_path / "trees"
    facts = workflow.train_trees(dataset.path, trees, threads=1)
    assert facts["trees"] >= 1
    assert workflow.run_options(trees) == {"model": "trees", "seed": 0, "statistics": True}
    assert workflow.evaluate(trees, bootstrap=5).grouping == "impression"
    (result,) = workflow.run_results(trees)
    assert (result.name, result.dense, result.gflops) == ("trees", None, None)
    workflow.evaluate(run, bootstrap=5)
    assert (
        workflow.entrant(trees, "test").predictions.row.tolist()
        == workflow.entrant(run, "test").predictions.row.tolist()
    )
    with pytest.raises(RunError, match="is not empty"):
        workflow.train_trees(dataset.path, trees)


def test_trees_learn_from_a_share_of_the_training_part(dataset: Dataset, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    half = Portion(fraction=0.5, by="users")
    workflow.train_trees(dataset.path, tmp_path / "whole", threads=1)
    workflow.train_trees(dataset.path, tmp_path / "half", threads=1, portion=half)
    whole, part = (workflow.load_predictions(tmp_path / name, "test") for name in ("whole", "half"))
    assert np.array_equal(whole.row, part.row)
    assert not np.array_equal(whole.logits, part.logits)
    assert workflow.run_options(tmp_path / "half")["portion"] == {"fraction": 0.5, "by": "users"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A student with an auxiliary head, and its teacher."""
    out = tmp_path_factory.mktemp("pairs") / "pair"
    assert workflow.distill(pair_config(dataset), out, progress=False).finished
    return out


def pair_config(dataset: Dataset) -> DistillConfig:
    student = ModelChoice(model="mlp", grade=GRADE, length=LENGTH)
    teacher = ModelChoice(model="suan", grade="size-2", length=2 * LENGTH)
    return DistillConfig(
        data=str(dataset.path), student=student, teacher=teacher, head="aux", batch_size=32, threads=1
    )


def test_both_models_of_a_distillation_are_runs_with_artifacts(pair: Path) -> None:
    assert workflow.distilled_runs(pair) == [pair / "student", pair / "teacher"]
    for folder, model in zip(workflow.distilled_runs(pair), ("mlp", "suan"), strict=True):
        artifact = load_artifact(folder / "artifact")
        assert artifact.config.model == model
        assert artifact.metrics["valid"] == read_document(folder / "evaluation-valid.json", "")
        assert workflow.run_results(folder, "valid")[0].gflops is not None
        seen, loss = workflow.learning_curve(folder)
        assert len(seen) == len(loss) >= 1


def test_the_artifact_of_a_student_holds_nothing_of_its_teacher(
    pair: Path, dataset: Dataset, tmp_path: Path
) -> None:
    workflow.train(pair_config(dataset).own_run("student"), tmp_path / "alone", progress=False)
    taught, alone = pair / "student" / "artifact", tmp_path / "alone" / "artifact"
    assert sorted(path.name for path in taught.iterdir()) == sorted(path.name for path in alone.iterdir())
    for name in ("config.json", "encoder.json", "encoder.safetensors", "items.safetensors"):
        assert (taught / name).read_bytes() == (alone / name).read_bytes()
    ours, theirs = load_file(taught / "weights.safetensors"), load_file(alone / "weights.safetensors")
    assert {name: (x.shape, x.dtype) for name, x in ours.items()} == {
        name: (x.shape, x.dtype) for name, x in theirs.items()
    }
    assert any((ours[name] != theirs[name]).any() for name in ours)
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (taught, alone)]
    assert sizes[0] == sizes[1]
    said = [(folder / "metrics.json").read_text().lower() for folder in (taught, alone)]
    assert json.loads(said[0]).keys() == json.loads(said[1]).keys()
    assert not any(word in said[0] for word in ("teacher", "suan", "distill", "student"))


@pytest.mark.parametrize("left_open", [False, True])
def test_a_distilled_student_is_compared_with_one_trained_alone(
    pair: Path, dataset: Dataset, tmp_path: Path, left_open: bool
) -> None:
    """Names tell what was chosen, also where the recipe decides otherwise for a model alone."""
    shared, own = read_config(pair / "student"), pair_config(dataset).own_run("student")
    workflow.train(own if left_open else shared, tmp_path / "alone", progress=False)
    assert (read_config(tmp_path / "alone") == shared) != left_open
    folders = [tmp_path / "alone", *workflow.distilled_runs(pair)]
    for folder in folders:
        workflow.evaluate(folder, bootstrap=5)
    lines = compare([workflow.entrant(folder, "test") for folder in folders], bootstrap=5)[:-2]
    assert [line.name for line in lines] == ["mlp", "mlp teacher=suan:size-2:80, head aux", "suan"]


def test_a_distillation_that_was_stopped_is_finished_later(
    pair: Path, dataset: Dataset, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(pair, tmp_path / "pair"))
    shutil.rmtree(run / "student")
    shutil.rmtree(run / "teacher" / "artifact")
    with pytest.raises(RunError, match="already holds a run"):
        workflow.distill(pair_config(dataset), run, progress=False)
    assert workflow.distill(pair_config(dataset), run, resume=True, progress=False).finished
    for name in ("student", "teacher"):
        ours, theirs = (load_artifact(folder / name / "artifact") for folder in (run, pair))
        assert ours.digest == theirs.digest


def test_the_teacher_of_another_run_stays_there(pair: Path, dataset: Dataset, tmp_path: Path) -> None:
    given = {"teacher": None, "teacher_run": str(pair / "teacher")}
    config = msgspec.structs.replace(pair_config(dataset), **given)
    assert workflow.distill(config, tmp_path / "run", progress=False).finished
    assert workflow.distilled_runs(tmp_path / "run") == [tmp_path / "run" / "student"]
    told = workflow.run_options(tmp_path / "run" / "student")["teacher"]
    assert told == "suan:size-2:80, head aux, from a run"
    with pytest.raises(RunError, match="holds a distillation"):
        workflow.evaluate(tmp_path / "run")


def test_the_learning_curve_and_the_slices_of_a_run_can_be_drawn(run: Path) -> None:
    workflow.evaluate(run, bootstrap=0)
    seen, loss = workflow.learning_curve(run)
    assert len(seen) == len(loss) >= 1
    assert all(0 < value < 5 for value in loss)
    assert workflow.learning_curve(run.parent) == ([], [])
    assert workflow.slice_auc(run, "behaviors") == {}  # 12 impressions: no slice has enough of them
    report = read_document(run / "evaluation-test.json", "")
    slices = [dict(name=str(n), rows=n, positives=p, auc=0.6) for n, p in ((50, 20), (50, 31), (30, 20))]
    report["labels"][0]["slices"]["behaviors"] = slices
    write_document(run / "evaluation-test.json", report)
    assert workflow.slice_auc(run, "behaviors", label="click") == {"50": 0.6}


def test_validation_stands_where_the_log_has_seen_as_much(run: Path) -> None:
    lines = [
        {"step": 10, "samples": 100, "loss": 0.7},
        {"step": 15, "valid": {"loss": 0.6}},
        {"step": 20, "samples": 200, "loss": 0.6},
        {"step": 20, "valid": {"loss": 0.5}},
        {"step": 25, "valid": {}},
    ]
    (run / "done.json").unlink()  # it holds the hash of the log
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    assert workflow.validation_curve(run) == ([150.0, 200.0], [0.6, 0.5])
    (run / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n", "utf-8")
    assert workflow.validation_curve(run) == ([], [])
    assert workflow.validation_curve(run.parent) == ([], [])


def test_the_whole_surface_is_reachable_from_the_package(run: Path, dataset: Dataset) -> None:
    assert clickscale.open_dataset(dataset.path).features == dataset.features
    assert clickscale.train is workflow.train
    assert clickscale.distill is workflow.distill
    assert clickscale.DistillConfig is DistillConfig
    assert clickscale.evaluate is workflow.evaluate
    assert clickscale.Scorer(run / "artifact").model.config == load_artifact(run / "artifact").model.config
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = clickscale.trian
