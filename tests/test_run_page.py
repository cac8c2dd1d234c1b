import re
import shutil
from pathlib import Path

import pytest

from clickscale import workflow
from clickscale.data.dataset import Dataset
from clickscale.errors import DataError, RunError
from clickscale.run_page import run_commands, write_run_page
from clickscale.sealed import read_document, write_document
from clickscale.training.distill.distill_config import distill_config
from tests.trained import tiny_prepared, tiny_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    """Two seeds of a model, another model and trees on one data set, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = tiny_prepared(folder)
    for model, seed in (("mlp", 0), ("mlp", 1), ("din", 0)):
        workflow.evaluate(tiny_run(folder, dataset, model, seed), bootstrap=20)
    pytest.importorskip("lightgbm")
    workflow.train_trees(dataset.path, folder / "trees", threads=1)
    return folder, dataset


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


@pytest.mark.wide
def test_a_page_shows_results_baselines_curves_data_and_commands(
    made: tuple[Path, Dataset], tmp_path: Path
) -> None:
    folder, dataset = made
    runs = [folder / name for name in ("mlp-0", "mlp-1", "din-0", "trees")]
    page = write_run_page(runs, tmp_path / "page", candidates=20, command="clickscale report ...")
    assert page == tmp_path / "page/report.html"
    html = page.read_text("utf-8")
    shown = words(html)
    for title in (
        "Results on the test part",
        "Are the differences real?",
        "How the models behave",
        "The data",
        "Commands",
    ):
        assert title in shown
    for name in (
        "mlp seed=0",
        "mlp seed=1",
        "din",
        "trees",
        "constant",
        "popularity",
        "Latency",
        "user cached",
    ):
        assert name in shown
    for picture in ("Training loss", "Calibration", "milliseconds for 20 candidates", "Label rate per day"):
        assert picture in shown
    assert f"{len(dataset.impressions['time'])} impressions" in shown
    assert f"clickscale train din --data {dataset.path}" in shown
    assert "clickscale report ..." in shown
    assert not re.search(r"(src|href)=\"(?!#)|https?://(?!www\.w3\.org)|@import|url\((?!#)", html)
    assert {path.suffix for path in page.parent.iterdir()} == {".html", ".svg", ".png"}


def test_a_page_of_one_run_is_a_file_and_needs_no_latency(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, _ = made
    page = write_run_page([folder / "mlp-0"], tmp_path / "new/mlp.html", candidates=0)
    shown = words(page.read_text("utf-8"))
    assert list(page.parent.iterdir()) == [page]
    assert "Are the differences real?" not in shown
    assert "Milliseconds" not in shown


def test_a_data_set_that_is_gone_is_said_and_can_be_named(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = made
    run = tmp_path / "mlp-0"
    shutil.copytree(folder / "mlp-0", run)
    config = read_document(run / "config.json", "")
    write_document(run / "config.json", config | {"data": "gone"})
    shown = words(write_run_page([run], tmp_path / "a.html", candidates=0).read_text("utf-8"))
    assert "The data set was not at gone, so the data card is left out" in shown
    assert "rows read" not in shown
    page = write_run_page([run], tmp_path / "b.html", candidates=0, data=dataset.path)
    assert "rows read" in words(page.read_text("utf-8"))


def test_runs_that_do_not_belong_together_are_refused(made: tuple[Path, Dataset], tmp_path: Path) -> None:
    folder, dataset = made
    with pytest.raises(DataError, match="are the same model with the same seed"):
        write_run_page([folder / "mlp-0", folder / "mlp-0"], tmp_path / "page", candidates=0)
    with pytest.raises(DataError, match="did you mean 'click'"):
        write_run_page([folder / "mlp-0"], tmp_path / "page", label="clik", candidates=0)
    fresh = tiny_run(tmp_path, dataset)
    with pytest.raises(RunError, match=r"has no report of 'test'; make it: clickscale evaluate"):
        write_run_page([folder / "mlp-0", fresh], tmp_path / "page")
    with pytest.raises(RunError, match="is not a run"):
        write_run_page([tmp_path], tmp_path / "page")
    (tmp_path / "other").mkdir()
    other = tiny_run(tmp_path / "other", tiny_prepared(tmp_path / "other", known_at=True), "din")
    workflow.evaluate(other, part="valid", bootstrap=0)
    for name in ("predictions-{}.safetensors", "evaluation-{}.json"):
        shutil.copy(other / name.format("valid"), other / name.format("test"))
    with pytest.raises(DataError, match=r"cannot stand beside .*mlp-0 on a page: .*on the same data"):
        write_run_page([folder / "mlp-0", other], tmp_path / "page", candidates=0)
    assert not (tmp_path / "page").exists()


def test_commands_name_what_was_chosen_and_leave_the_rest_to_the_recipe(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    run = tiny_run(tmp_path, dataset, "mlp", 3, "model_options=['d=4']", "labels=['like']")
    (command, evaluation) = run_commands([run], "valid")
    assert command == (
        f"clickscale train mlp --data {dataset.path} --out {run} --set model.d=4 --set batch_size=32 "
        "--labels like --seed 3 --set threads=1 --grade size-1 --length 40"
    )
    assert evaluation == f"clickscale evaluate {run} --part valid"
    pair = distill_config(
        "mlp:size-1:20", dataset.path, teacher="din:size-1:20", sets=["temperature=3.0", "student.model.d=4"]
    )
    workflow.distill(pair, tmp_path / "pair", progress=False)
    both = run_commands([tmp_path / "pair/student", tmp_path / "pair/teacher"], "test")
    assert both[0] == (
        f"clickscale distill --data {dataset.path} --out {tmp_path / 'pair'} --student mlp:size-1:20 "
        "--teacher din:size-1:20 --set student.model.d=4 --set temperature=3.0"
    )
    assert len(both) == 3
