import json
from pathlib import Path

import pytest
import torch

from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.errors import ConfigError, RunError, SchemaError
from clickscale.sealed import read_document
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.option_list import _options_of
from clickscale.training.run.environment import write_environment
from clickscale.training.run.folder import differences, load_run, open_folder, read_config, write_decided
from clickscale.training.run.model import label_rates, make_model, start_at_rates, trained_labels
from clickscale.training.run.run_config import LEFT_OPEN, TrainConfig
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


def config_of(data: Path, *changes: str) -> TrainConfig:
    return override(TrainConfig(model="mlp", data=str(data), grade="size-1", length=5), changes)


def test_a_new_folder_gets_the_options_and_the_schema(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    open_folder(out, config_of(data), open_dataset(data), resume=False)
    assert read_config(out) == config_of(data)
    facts = json.loads((out / "dataset.json").read_text())
    assert facts["schema"]["name"] == "tiny"
    assert len(facts["manifest_sha256"]) == 64


def test_what_was_left_to_the_recipe_is_kept_apart_from_what_was_chosen(data: Path, tmp_path: Path) -> None:
    given = config_of(data, "batch_size=32", "optimizer.table_l2=0.0", "early_stopping=false")
    decided = override(given, ["grouping=impression", "epochs.count=2", "optimizer.learning_rate=0.003"])
    write_decided(tmp_path, given, decided)
    assert read_document(tmp_path / "recipe.json", "") == {
        "model_options": [],
        "grouping": "impression",
        "window": 0,  # means nothing in this grouping
        "epochs.count": 2,
        "epochs.again": None,
        "validate_every": 0,
        "patience": 0,
        "optimizer.learning_rate": 0.003,
        "optimizer.table_learning_rate": None,
        "optimizer.week_rate": None,
    }


def test_every_option_that_can_be_left_open_is_so_by_default() -> None:
    options = [*_options_of(TrainConfig), *_options_of(DistillConfig)]
    defaults = {option.key: option.default.strip('"') for option in options}
    for key, value in LEFT_OPEN.items():
        value = list(value) if isinstance(value, tuple) else value
        assert defaults[key] == ("unset" if value is None else str(value))


def test_an_empty_folder_or_the_litter_of_a_killed_start_is_taken(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json.partial").mkdir()
    (tmp_path / "dataset.json").write_text("{}")
    open_folder(tmp_path, config_of(data), open_dataset(data), resume=False)
    assert read_config(tmp_path) == config_of(data)


def test_a_folder_with_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(RunError, match="not empty and not a run"):
        open_folder(tmp_path, config_of(data), open_dataset(data), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_continued_only_when_asked(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path, config_of(data), open_dataset(data), resume=False)
    open_folder(tmp_path, config_of(data), open_dataset(data), resume=True)
    with pytest.raises(RunError, match="--resume"):
        open_folder(tmp_path, config_of(data), open_dataset(data), resume=False)


def test_another_run_is_refused_by_the_names_of_what_differs(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path, config_of(data), open_dataset(data), resume=False)
    other = config_of(data, "optimizer.schedule.warmup=0.2", "seed=5")
    with pytest.raises(RunError, match=r"seed is 0, not 5; optimizer\.schedule\.warmup is 0\.05, not 0\.2"):
        open_folder(tmp_path, other, open_dataset(data), resume=True)
    several = config_of(data, 'labels=["click", "like"]', "optimizer.table_l2=0.5")
    told = ["labels is unset, not click,like", "optimizer.table_l2 is unset, not 0.5"]
    assert differences(config_of(data), several) == told


def test_options_that_change_nothing_that_is_learned_may_differ(data: Path) -> None:
    free = config_of(data, "threads=3", "prefetch=0", "checkpoint_every=7", "log_every=1", "data=elsewhere")
    assert differences(config_of(data), free) == []


def test_a_run_started_on_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path / "run", config_of(data), open_dataset(data), resume=False)
    other = tiny_dataset(tmp_path, tiny_source(seed=1))
    with pytest.raises(RunError, match="other data"):
        open_folder(tmp_path / "run", config_of(other), open_dataset(other), resume=True)


def test_data_that_only_moved_is_accepted(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path / "run", config_of(data), open_dataset(data), resume=False)
    moved = tmp_path / "moved"
    moved.symlink_to(data)
    open_folder(tmp_path / "run", config_of(moved), open_dataset(moved), resume=True)


def test_the_first_label_is_trained_unless_others_are_named(data: Path) -> None:
    dataset = open_dataset(data)
    assert trained_labels(dataset, config_of(data)) == ("click",)
    assert trained_labels(dataset, config_of(data, "labels=['like','click']")) == ("like", "click")
    with pytest.raises(SchemaError, match="did you mean 'click'"):
        trained_labels(dataset, config_of(data, "labels=['clic']"))


def test_the_model_has_a_logit_per_trained_label(data: Path) -> None:
    dataset = open_dataset(data)
    model = make_model(config_of(data, "labels=['click','like']"), dataset)
    assert [p.shape[0] for name, p in model.named_parameters() if name.startswith("head")][-1] == 2


def test_what_is_not_a_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run"):
        load_run(tmp_path)


def test_a_run_without_a_checkpoint_cannot_be_read(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path, config_of(data), open_dataset(data), resume=False)
    with pytest.raises(RunError, match="no checkpoint yet"):
        load_run(tmp_path)


def test_a_run_is_not_read_with_data_whose_indices_mean_something_else(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path / "run", config_of(data), open_dataset(data), resume=False)
    other = tiny_dataset(tmp_path, tiny_source(items=9, statistics=STATISTICS))
    with pytest.raises(RunError, match="encoder differs"):
        load_run(tmp_path / "run", other)


def test_a_run_names_the_features_that_other_data_has_or_lacks(data: Path, tmp_path: Path) -> None:
    open_folder(tmp_path / "run", config_of(data), open_dataset(data), resume=False)
    other = tiny_dataset(tmp_path, tiny_source(statistics=STATISTICS[:2]))
    with pytest.raises(RunError, match="features user_genre_rate, and a model is built"):
        load_run(tmp_path / "run", other)


def test_the_environment_says_what_ran_where(tmp_path: Path) -> None:
    write_environment(tmp_path, "2 threads per operation (as configured)", torch.device("cpu"))
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["torch"] == torch.__version__
    assert facts["threads"].startswith("2 threads")
    assert {"clickscale", "python", "numpy", "platform", "device", "revision"} <= set(facts)


@pytest.mark.parametrize("wrong", ["log_every=0", "keep=0", "checkpoint_every=-1", "validate_every=-2"])
def test_impossible_intervals_are_refused(data: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"{wrong.partition('=')[0]} is"):
        config_of(data, wrong)


def test_rates_count_known_labels_of_the_training_part_and_are_never_zero_or_one(data: Path) -> None:
    dataset = open_dataset(data)
    rows = dataset.part("train")
    expected = []
    for name in ("click", "like"):
        column = dataset.impressions[f"label.{name}"][rows]
        known = column[column >= 0]
        expected.append((known.sum() + 0.5) / (len(known) + 1))
    assert label_rates(dataset, ("click", "like")) == pytest.approx(expected)
    assert 0 < expected[1] < expected[0] < 1


def test_a_new_model_starts_at_the_rates_of_its_labels(data: Path) -> None:
    config, dataset = config_of(data, "labels=['like','click']"), open_dataset(data)
    model = make_model(config, dataset)
    start_at_rates(model, dataset, ("like", "click"))
    found = model.head.tower[-1].bias.sigmoid().tolist()  # type: ignore[union-attr, operator, index]
    assert found == pytest.approx(label_rates(dataset, ("like", "click")))


def test_the_dropout_of_embeddings_reaches_the_table(data: Path) -> None:
    model = make_model(config_of(data, "embedding_dropout=0.25"), open_dataset(data))
    assert model.inputs.table.dropout == 0.25  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="embedding_dropout is 1"):
        config_of(data, "embedding_dropout=1.0")
