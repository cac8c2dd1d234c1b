import math

import pytest

from clickscale.evaluation.significance import Interval
from clickscale.report.results import HEADERS, Result, cells, results_of, to_dict, verdict, with_interval


def interval(
    value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


EVALUATION = {
    "part": "test",
    "grouping": "request",
    "labels": [
        {
            "label": name,
            "rows": 10,
            "auc": interval(0.8, 0.7, 0.9),
            "gauc": interval(None),
            "log_loss": interval(0.5),
            "pcoc": interval(1.0, 0.9, 1.1),
        }
        for name in ("click", "like")
    ],
}


def test_an_evaluation_becomes_one_result_per_label() -> None:
    first, second = results_of("din", EVALUATION, {"dense": 1234, "gflops": 0.5}, 9876.5)
    assert (first.label, second.label, first.rows, first.grouping) == ("click", "like", 10, "request")
    assert first.auc == Interval(0.7, 0.9, 0.8)
    assert math.isnan(first.gauc.value)
    assert (first.dense, first.gflops, first.speed) == (1234, 0.5, 9876.5)


def test_a_line_shows_what_there_is_and_a_dash_for_what_is_not() -> None:
    (line, _) = (cells(result) for result in results_of("trees", EVALUATION))
    assert line == ("trees", "0.8000 [0.7000, 0.9000]", "-", "0.5000", "-", "-", "-")
    assert len(line) == len(HEADERS)
    (line, _) = (
        cells(result) for result in results_of("din", EVALUATION, {"dense": 12345, "gflops": 0.02}, 9876.5)
    )
    assert line[4:] == ("12,345", "0.0200", "9,876")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Interval(math.nan, math.nan, math.nan), "-"),
        (Interval(math.nan, math.nan, 0.5), "0.5000"),
        (Interval(0.4, 0.6, 0.5), "0.5000 [0.4000, 0.6000]"),
    ],
)
def test_an_interval_is_told_as_far_as_it_is_known(given: Interval, text: str) -> None:
    assert with_interval(given) == text


def result(name: str, auc: float, gauc: float) -> Result:
    point = Interval(0, 1, 0.5)
    return Result(
        name, "click", "test", "request", 1, Interval(0, 1, auc), Interval(0, 1, gauc), point, point
    )


def test_the_verdict_names_the_best_whoever_it_is() -> None:
    assert verdict([result("suan", 0.7, 0.7), result("trees", 0.8, 0.8)]) == "Best AUC and best GAUC: trees."
    assert (
        verdict([result("suan", 0.7, 0.9), result("trees", 0.8, 0.8)]) == "Best AUC: trees; best GAUC: suan."
    )


def test_a_result_as_plain_values_keeps_its_intervals() -> None:
    document = to_dict(result("suan", 0.7, 0.9))
    assert document["auc"] == [0, 0.7, 1]
    assert (document["name"], document["dense"]) == ("suan", None)
