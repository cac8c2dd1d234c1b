import pytest
from msgspec.structs import replace

from clickscale.benchmarking.forecast import FINISH, START
from clickscale.benchmarking.speeds import Speed
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.scaling.points import Cell
from clickscale.scaling.sweeps.sweep_config import SweepConfig
from clickscale.scaling.sweeps.sweep_forecast import SweepForecast, make_forecast
from tests.data.tiny import tiny_dataset

GRID = SweepConfig(
    data="", models=("suan", "mlp"), sizes=("size-1",), lengths=(8,), fractions=(0.5, 1.0), seeds=2, epochs=1
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data")))


def speed(training: float) -> Speed:
    return Speed(
        steps=10, samples=100, validations=0, training=training, scoring=0.5, cpu=1.0, operations=7e9
    )


def forecast_of(dataset: Dataset, config: SweepConfig, finished: tuple[Cell, ...] = ()) -> SweepForecast:
    speeds = {"suan-size-1-8": speed(2.0), "mlp-size-1-8": speed(1.0)}
    return make_forecast(config, dataset, speeds, {"est-size-1-8": "no room"}, finished.__contains__, 2)


def test_seconds_and_cost_by_hand(dataset: Dataset) -> None:
    found = forecast_of(dataset, GRID)
    valid, test = (len(dataset.part(part)) for part in ("valid", "test"))
    # Half of 100 impressions at 2 seconds, and both parts once at half a second an impression.
    expected = START + FINISH + 0.5 * 100 * 2 + 0.5 * valid + FINISH + 0.5 * test
    assert found.seconds[Cell("suan", "size-1", 8, 0.5, 1)] == pytest.approx(expected)
    without = forecast_of(dataset, replace(GRID, part="valid"))
    assert without.seconds[Cell("suan", "size-1", 8, 0.5, 1)] == pytest.approx(expected - FINISH - 0.5 * test)
    assert found.total == pytest.approx(sum(found.seconds.values()) / 2)
    # A processor second for every impression instead of one or two on the clock.
    saved = 2 * (0.5 + 1) * 100 * (2 - 1)
    assert found.core_hours == pytest.approx((sum(found.seconds.values()) - saved) / 3600)
    assert found.tflop == pytest.approx(2 * 2 * 1.5 * 100 * 7e9 / 1e12)
    assert "8 cells are left, about" in str(found)
    assert "a fraction is the newest impressions" in str(found)
    assert "a sample of users" in str(forecast_of(dataset, replace(GRID, by="users")))


def test_a_forecast_says_how_many_epochs_each_cell_has(dataset: Dataset) -> None:
    found = forecast_of(dataset, replace(GRID, sets=("suan.epochs.count=2",)))
    assert {(cell.model, passes) for cell, passes in found.epochs.items()} == {("suan", 2), ("mlp", 1)}
    assert "each has 1 to 2 epochs, less if it stops early, and" in str(found)
    assert "each has 1 epoch, and" in str(forecast_of(dataset, GRID))
    assert "each has 3 epochs, less" in str(forecast_of(dataset, replace(GRID, epochs=3)))
    own = forecast_of(dataset, replace(GRID, sets=("epochs.count=0",)))
    assert "each has the epochs of the recipe for its fraction" in str(own)


def test_cheap_cells_of_the_first_seed_come_first(dataset: Dataset) -> None:
    order = [(cell.seed, cell.model, cell.fraction) for cell in forecast_of(dataset, GRID).seconds]
    one_seed = [("mlp", 0.5), ("mlp", 1.0), ("suan", 0.5), ("suan", 1.0)]
    assert order == [(seed, *cell) for seed in (0, 1) for cell in one_seed]


def test_finished_cells_cost_nothing_and_impossible_ones_are_named(dataset: Dataset) -> None:
    config = replace(GRID, models=("mlp", "est"), seeds=1)
    found = forecast_of(dataset, config, (Cell("mlp", "size-1", 8, 1.0, 0),))
    assert list(found.seconds) == [Cell("mlp", "size-1", 8, 0.5, 0)]
    assert found.finished == 1
    assert {cell.fraction: why for cell, why in found.failed.items()} == {0.5: "no room", 1.0: "no room"}
    every = forecast_of(dataset, replace(GRID, seeds=1), tuple(replace(GRID, seeds=1).cells))
    assert str(every) == "all 4 cells are finished"
