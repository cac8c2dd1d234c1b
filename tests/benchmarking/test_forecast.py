import pytest
from msgspec.structs import replace

from clickscale.benchmarking.benchmark_config import BenchmarkConfig
from clickscale.benchmarking.cells import Cell
from clickscale.benchmarking.forecast import (
    FINISH,
    START,
    Sizes,
    make_forecast,
    matched_steps,
    run_seconds,
    scoring_seconds,
    shown_cells,
    training_seconds,
)
from clickscale.benchmarking.speeds import Speed

SIZES = Sizes(train=1000, valid=100, test=200)
CONFIG = BenchmarkConfig(data="", models=("suan", "mlp", "trees"), rates=(0.001, 0.003), seeds=3)


def speed(operations: float) -> Speed:
    return Speed(
        steps=100, samples=1000, validations=4, training=0.02, scoring=0.01, cpu=1.0, operations=operations
    )


SPEEDS = {"din": speed(10), "suan": speed(40), "mlp": speed(2)}


def test_every_model_gets_the_training_operations_of_the_reference() -> None:
    assert matched_steps(CONFIG, "suan", SPEEDS) == 25  # four times as expensive
    assert matched_steps(CONFIG, "mlp", SPEEDS) == 0  # cheaper: all of its epochs
    assert matched_steps(CONFIG, "din", SPEEDS) == 0
    assert matched_steps(CONFIG, "trees", SPEEDS) == 0


def test_a_run_that_both_tables_show_is_trained_once() -> None:
    assert len(shown_cells(CONFIG, "mlp", 0.001, SPEEDS)) == 3
    assert [cell.steps for cell in shown_cells(CONFIG, "suan", 0.001, SPEEDS)] == [0, 0, 0, 25, 25, 25]


def test_seconds_of_a_cell_by_hand() -> None:
    # 1,000 impressions of training at 20 ms; the validation part of 100 at 10 ms, four times and once more.
    assert training_seconds(Cell("suan", 0.1, 0), SPEEDS, SIZES) == pytest.approx(START + FINISH + 20 + 5)
    assert training_seconds(Cell("suan", 0.1, 0, 25), SPEEDS, SIZES) == pytest.approx(START + FINISH + 5 + 2)
    assert scoring_seconds(Cell("suan", 0.1, 0), SPEEDS, SIZES) == pytest.approx(START + FINISH + 2)
    assert scoring_seconds(Cell("trees", 0.0, 0), SPEEDS, SIZES) == 0


def test_a_run_without_early_stopping_measures_the_validation_part_once() -> None:
    never = replace(speed(10), validations=0)
    assert run_seconds(never, 100) == pytest.approx(START + FINISH + 20 + 1)
    assert run_seconds(never, 100, 0.25) == pytest.approx(START + FINISH + 5 + 1)


def test_the_forecast_adds_all_cells_and_shares_them_among_jobs() -> None:
    found = make_forecast(CONFIG, SPEEDS, {"mlp": "no"}, SIZES, jobs=2)
    # two rates, two more seeds; for suan three matched runs as well
    assert found.cells == {"din": 4, "suan": 7, "trees": 3}
    each, test, matched = START + FINISH + 25, START + FINISH + 2, START + FINISH + 7
    assert found.seconds["din"] == pytest.approx(4 * each + 3 * test)
    assert found.seconds["suan"] == pytest.approx(4 * each + 3 * matched + 6 * test)
    assert found.total == pytest.approx(sum(found.seconds.values()) / 2)
