"""The log of a world goes through ordinary preparation, and its truth stands apart."""

from pathlib import Path

import numpy as np
import pytest

from clickscale import workflow
from clickscale.data.checks.leaks import leak_check
from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.world.truth import true_probability
from clickscale.world.world_log import world_source
from tests.world.small_world import small_config, small_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_world(tmp_path_factory.mktemp("world") / "data")


def test_the_same_options_give_the_same_bytes_whatever_the_chunks(world: Dataset, tmp_path: Path) -> None:
    again = small_world(tmp_path / "again", chunk_rows=777)
    assert again.manifest.files == world.manifest.files


def test_every_row_is_kept_and_the_truth_is_in_the_manifest(world: Dataset) -> None:
    assert all(table.kept == table.rows for table in world.manifest.report.values())
    assert {"truth/probability.npy", "truth/known.npy", "truth/world.json"} <= set(world.manifest.files)
    world.verify()


def test_no_column_that_models_read_is_the_truth(world: Dataset) -> None:
    told = world.features
    features = (*told.profile, *told.behavior, *told.item, *told.context)
    assert {feature.name for feature in features} == {
        *("user", "age", "gender", "region", "action", "item", "category", "text", "usual_price"),
        *("position", "hour", "price", "bid"),
    }  # fmt: skip
    assert not [name for name in world.impressions if "prob" in name or "known" in name]


def test_no_leak_is_found(world: Dataset) -> None:
    assert not leak_check(world.path).findings


def test_the_usual_statistics_can_be_declared() -> None:
    schema = world_source(small_config(statistics=True)).schema
    assert "user_category_lift" in {statistic.name for statistic in schema.statistics}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"impressions": 10}, "impressions is 10; at least 1000"),
        ({"items": 5}, "5 items cannot fill 12 categories"),
        ({"quiet_days": 30}, "quiet_days is 30 and days is 30"),
        ({"rate": 0.9}, "rate is 0.9"),
        ({"period": (3.0, 1.0)}, "period is"),
        ({"minutes": 0.0}, "minutes is 0.0"),
        ({"targeted": 1.5}, "targeted is 1.5"),
    ],
)
def test_options_that_cannot_be_simulated_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        world_source(small_config(**{"impressions": 1_000, **options}))


def test_probabilities_stand_by_row_of_the_data_set(world: Dataset) -> None:
    rows = np.arange(world.manifest.counts["impressions"])
    p = true_probability(world, rows).astype(np.float64)
    clicks = np.asarray(world.impressions["label.click"]) == 1
    # A shuffled truth would rank the clicks no better than chance.
    assert p[clicks].mean() > 2 * p[~clicks].mean()
    assert abs(clicks.sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_trees_on_all_features_do_not_beat_the_truth(seed: int, tmp_path: Path) -> None:
    small_world(tmp_path / "data", small_config(40_000, seed=seed))
    workflow.train_trees(tmp_path / "data", tmp_path / "trees", threads=1)
    (label,) = workflow.evaluate(tmp_path / "trees", bootstrap=0).labels
    (found,) = workflow.evaluate(tmp_path / "trees", bootstrap=0).regret
    assert label.metrics["auc"].value < found.drawn_auc
    assert found.auc > 0.005
    assert found.gauc > 0.005
    assert found.log_loss > 0.001
