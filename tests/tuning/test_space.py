"""What a search may draw, and what stays."""

from pathlib import Path

import pytest

from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.source import Split
from clickscale.errors import ConfigError
from clickscale.training.recipe import BARE_L2
from clickscale.training.run.run_config import TrainConfig
from clickscale.tuning.space import FACTORS, RATE, TABLE_L2, TABLE_RATE, Space
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

DRAWS = range(1, 41)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160)))


def space_of(dataset: Dataset, *changes: str, model: str = "suan") -> Space:
    config = TrainConfig(model=model, data=str(dataset.path), grade="size-1", length=8)
    return Space(override(config, changes), dataset)


def test_the_first_trial_is_the_recipe(dataset: Dataset) -> None:
    recipe = space_of(dataset).candidate(0)
    assert recipe.changes == {}
    assert (recipe.config.batch_size, recipe.config.window, recipe.config.grouping) == (64, 1, "timeline")
    assert recipe.config.optimizer.learning_rate == 1e-3
    assert recipe.config.model_options == ()


def test_draws_stay_near_the_recipe_and_say_what_they_change(dataset: Dataset) -> None:
    space = space_of(dataset, "batch_size=64", "window=0", "epochs.count=2")
    recipe = space.candidate(0).config
    seen: set[str] = set()
    for number in DRAWS:
        candidate = space.candidate(number)
        config, optimizer = candidate.config, candidate.config.optimizer
        values = {
            RATE: (optimizer.learning_rate, recipe.optimizer.learning_rate),
            TABLE_RATE: (optimizer.table_learning_rate, recipe.optimizer.table_learning_rate),
            TABLE_L2: (optimizer.table_l2, recipe.optimizer.table_l2),
        }
        for key, (value, usual) in values.items():
            assert value is not None
            assert usual
            assert usual / FACTORS[key] * 0.99 <= value <= usual * FACTORS[key] * 1.01
            assert candidate.changes.get(key, usual) == value
        assert config.embedding_dropout == candidate.changes.get("embedding_dropout", 0.0)
        assert bool(config.model_options) == ("model.head.dropout" in candidate.changes)
        assert candidate.changes
        seen |= candidate.changes.keys()
    assert seen == space.keys == {*values, "window", "embedding_dropout", "model.head.dropout"}


def test_numbers_that_follow_from_the_batch_follow_a_drawn_batch(dataset: Dataset) -> None:
    space = space_of(dataset, "epochs.count=2")
    drawn = [space.candidate(number) for number in DRAWS]
    assert {one.config.batch_size for one in drawn} == {32, 64, 128}
    still = [one.config for one in drawn if TABLE_L2 not in one.changes]
    assert {config.batch_size * (config.optimizer.table_l2 or 0) for config in still} == {BARE_L2}


def test_where_the_recipe_takes_no_l2_draws_try_some(tmp_path: Path) -> None:
    told = open_dataset(tiny_dataset(tmp_path, tiny_source(statistics=STATISTICS)))
    space = space_of(told, "epochs.count=1")
    assert space.candidate(0).config.optimizer.table_l2 == 0
    assert {(one.config.optimizer.table_l2 or 0) > 0 for one in map(space.candidate, DRAWS)} == {True, False}


def test_a_draw_depends_on_the_seed_and_its_number_only(dataset: Dataset) -> None:
    one, again, other = space_of(dataset), space_of(dataset), space_of(dataset, "seed=1")
    assert [again.candidate(n) for n in reversed(DRAWS)] == [one.candidate(n) for n in reversed(DRAWS)]
    assert one.candidate(3).changes != other.candidate(3).changes
    # An option that is set by hand shifts no other.
    fixed = space_of(dataset, "embedding_dropout=0.3")
    for number in DRAWS:
        expected = {k: v for k, v in one.candidate(number).changes.items() if k != "embedding_dropout"}
        assert not expected or fixed.candidate(number).changes == expected


BY_HAND = (
    "optimizer.learning_rate=0.01",
    "optimizer.table_learning_rate=0.01",
    "optimizer.table_l2=0.01",
    "batch_size=16",
    "window=2",
    "embedding_dropout=0.3",
    "model_options=['head.dropout=0.4']",
)


@pytest.mark.parametrize("key", range(len(BY_HAND)))
def test_an_option_that_is_set_by_hand_stays(dataset: Dataset, key: int) -> None:
    free = space_of(dataset, *BY_HAND[:key], *BY_HAND[key + 1 :])
    assert len(free.keys) == 1
    assert len({str(free.candidate(number).config) for number in DRAWS}) > 1
    with pytest.raises(ConfigError, match="set by hand"):
        space_of(dataset, *BY_HAND)


def test_a_window_is_searched_only_where_there_are_windows(dataset: Dataset) -> None:
    assert "window" in space_of(dataset).keys
    assert "window" not in space_of(dataset, model="din").keys


def test_a_run_is_validated_four_times_with_the_same_patience_in_steps(dataset: Dataset) -> None:
    steps = -(-len(dataset.part("train")) // 8)
    recipe = space_of(dataset, "batch_size=8", "epochs.count=1").candidate(0)
    assert recipe.config.validate_every == steps // 4
    assert recipe.validations >= 4
    assert recipe.config.patience * recipe.config.validate_every >= 2 * steps
    often = space_of(dataset, "batch_size=8", "epochs.count=1", "validate_every=1", "patience=3").candidate(0)
    assert (often.config.validate_every, often.config.patience, often.validations) == (1, 3, steps)


def test_nothing_is_tuned_without_a_validation_loss(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="early_stopping is off"):
        space_of(dataset, "early_stopping=false")
    bare = open_dataset(tiny_dataset(tmp_path, tiny_source(split=Split(valid=0.0))))
    with pytest.raises(ConfigError, match="no validation part"):
        space_of(bare)
