import json
import math
from pathlib import Path

import msgspec

from clickscale.benchmarking.benchmark_config import BenchmarkConfig
from clickscale.benchmarking.cells import Cell, chosen_rate, grid, seeds

CONFIG = BenchmarkConfig(data="log", models=("suan",), rates=(0.001, 0.003, 0.01), seeds=2, label="click")


def finish(cell: Cell, out: Path, valid: float | None, test: float) -> None:
    """Files of a finished run with these losses."""
    folder = cell.folder(out)
    (folder / "artifact").mkdir(parents=True)
    for part, loss in (("valid", valid), ("test", test)):
        document = {"labels": [{"log_loss": {"value": loss}}]}
        (folder / f"evaluation-{part}.json").write_text(json.dumps(document))


def test_the_validation_part_alone_chooses_the_learning_rate(tmp_path: Path) -> None:
    assert chosen_rate(CONFIG, "suan", tmp_path) is None
    first, second, third = grid(CONFIG, "suan")
    finish(first, tmp_path, valid=0.6, test=0.1)
    assert chosen_rate(CONFIG, "suan", tmp_path) == 0.001
    finish(second, tmp_path, valid=0.5, test=0.9)
    finish(third, tmp_path, valid=None, test=0.0)  # a loss that is not a number
    assert chosen_rate(CONFIG, "suan", tmp_path) == 0.003
    for test in (0.0, 9.0):
        for cell in (first, second):
            (cell.folder(tmp_path) / "evaluation-test.json").write_text(str(test))
        assert chosen_rate(CONFIG, "suan", tmp_path) == 0.003


def test_a_run_without_an_artifact_has_no_loss(tmp_path: Path) -> None:
    (cell,) = grid(BenchmarkConfig(data="log", models=("din",), rates=(0.001,)), "din")
    finish(cell, tmp_path, valid=0.6, test=0.6)
    assert cell.tested(tmp_path)
    (cell.folder(tmp_path) / "artifact").rmdir()
    assert not cell.trained(tmp_path)
    assert not cell.tested(tmp_path)
    assert cell.validation_loss(tmp_path) == math.inf


def test_a_cell_is_a_command(tmp_path: Path) -> None:
    words = Cell("suan", 0.003, 1, steps=90).training(CONFIG, tmp_path)
    assert words[:2] == ["train", "suan"]
    for flag, value in {"--seed": "1", "--learning-rate": "0.003", "--labels": "click"}.items():
        assert words[words.index(flag) + 1] == value
    assert words[-2:] == ["--set", "epochs.steps=90"]
    folder = str(tmp_path / "runs/suan/rate-0.003-seed-1-steps-90")
    assert words[words.index("--out") + 1] == folder
    assert Cell("trees", 0.0, 1).training(CONFIG, tmp_path)[-2:] == ["--label", "click"]


def test_trees_learn_from_the_share_of_the_data_that_models_learn_from(tmp_path: Path) -> None:
    sets = ("portion.fraction=0.25", "portion.by='users'", "din.portion.fraction=0.5", "log_every=5")
    config = msgspec.structs.replace(CONFIG, sets=sets)
    words = Cell("trees", 0.0, 0).training(config, tmp_path)
    assert words[-4:] == ["--fraction", "0.25", "--by", "users"]


def test_trees_have_one_cell_in_the_grid_and_all_seeds() -> None:
    assert grid(CONFIG, "trees") == [Cell("trees", 0.0, 0)]
    assert [str(cell) for cell in seeds(CONFIG, "trees", 0.0)] == ["trees, seed 0", "trees, seed 1"]
    assert [str(cell) for cell in seeds(CONFIG, "suan", 0.01, 7)][1] == "suan, rate 0.01, seed 1, 7 steps"
