import numpy as np
import pytest

from clickscale.benchmarking.benchmark_tables import BenchmarkLine, _lines_of
from clickscale.benchmarking.cells import Cell
from clickscale.benchmarking.speeds import Speed
from clickscale.evaluation.label_report import evaluate_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.report.comparison import Entrant
from clickscale.report.results import results_of

SPEED = Speed(steps=100, samples=1000, validations=1, training=1.0, scoring=1.0, cpu=0.001, operations=3e9)


def entrant(model: str, seed: int, logits: list[float]) -> Entrant:
    """A run on eight impressions of four users, each of whom clicks the first of two."""
    made = Predictions(
        row=np.arange(8),
        user=np.arange(8) // 2,
        time=np.arange(8) + 1_600_000_000,
        labels=np.array([[1], [0]] * 4, np.float32),
        label_mask=np.ones((8, 1), bool),
        logits=np.array(logits, np.float32)[:, None],
        behaviors=np.zeros(8, np.int32),
        item_age=np.zeros(8, np.int64),
        user_activity=np.ones(8, np.int32),
        label_names=("click",),
        part="test",
        grouping="request",
    )
    report = evaluate_predictions(made, bootstrap=20).to_dict()
    cost = {"dense": 12, "gflops": 0.5}
    return Entrant(model, {"model": model, "seed": seed}, results_of(model, report, cost), made)


# Of the 16 pairs of a clicked and another impression, these order 12, 14 and 15 rightly.
TWELVE = [4, 1.2, 3, 2, 3, 2, 1, 2.5]
FOURTEEN = [4, 1, 3, 2, 3, 2, 1.5, 1]
FIFTEEN = [4, 1, 3, 2, 3, 2, 2.5, 2.75]


def auc(logits: list[float]) -> float:
    """Share of pairs that are ordered rightly."""
    return sum(a > b for a in logits[::2] for b in logits[1::2]) / 16


def by_name(lines: list[BenchmarkLine]) -> dict[str, BenchmarkLine]:
    return {line.name: line for line in lines}


def test_improvement_over_the_reference_by_hand() -> None:
    assert [auc(logits) for logits in (TWELVE, FOURTEEN, FIFTEEN)] == [12 / 16, 14 / 16, 15 / 16]
    runs = {
        Cell("din", 0.001, 0): entrant("din", 0, TWELVE),
        Cell("suan", 0.003, 0): entrant("suan", 0, FOURTEEN),
        Cell("suan", 0.003, 1): entrant("suan", 1, FIFTEEN),
        Cell("mlp", 0.003, 0): entrant("mlp", 0, FIFTEEN),
    }
    lines = _lines_of(runs, "din", {}, {})
    assert [line.name for line in lines] == ["mlp", "suan", "din"]
    found = by_name(lines)
    assert found["din"].rela_impr == 0
    assert found["mlp"].rela_impr == pytest.approx(75)  # 7/16 over 4/16
    assert found["suan"].rela_impr == pytest.approx(62.5)  # the mean AUC is 14.5/16
    assert (found["suan"].seeds, found["suan"].rate) == (2, 0.003)
    assert found["mlp"].against_best is None
    assert found["din"].against_best is not None
    assert found["din"].against_best.delta == pytest.approx(-3 / 16)


def test_costs_of_a_line_by_hand() -> None:
    runs = {
        Cell("din", 0.001, 0, steps=25): entrant("din", 0, TWELVE),
        Cell("trees", 0.0, 0): entrant("trees", 0, FOURTEEN),
    }
    found = by_name(_lines_of(runs, "din", {"din": SPEED}, {"din": (4.0, 2.0)}))
    din, trees = found["din"], found["trees"]
    assert (din.dense, din.gflops, din.steps, din.latency, din.cached) == (12, 0.5, 25, 4.0, 2.0)
    assert din.training_tflops == pytest.approx(0.75)  # a quarter of 1,000 impressions at 3 GFLOPs
    assert din.cpu_rate == pytest.approx(1000)
    assert (trees.rate, trees.steps, trees.cpu_rate, trees.latency) == (None, None, None, None)


def test_no_run_is_no_line() -> None:
    assert _lines_of({}, "din", {}, {}) == []
