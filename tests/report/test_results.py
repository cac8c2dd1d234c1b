import math

import pytest

from clickscale.evaluation.significance import Interval
from clickscale.report.results import (
    HEADERS,
    Result,
    cells,
    footnotes,
    results_of,
    to_dict,
    verdict,
    with_interval,
    with_simple,
)


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


def test_the_verdict_is_silent_where_nothing_is_defined() -> None:
    assert (
        verdict([result("suan", math.nan, 0.7), result("din", 0.6, 0.6)]) == "Best AUC: din; best GAUC: suan."
    )
    assert verdict([result("suan", 0.7, math.nan)]) == "Best AUC: suan; best GAUC: -."


def simple(against: bool = True) -> dict[str, object]:
    test = {"delta": 0.1, "low": None, "high": None, "p_value": None, "reason": "one user", "resamples": 0}
    values = {"auc": 0.5, "gauc": None, "log_loss": 0.6, "pcoc": 1.0, "reason": "no user has both"}
    return values | {"against": {"auc": test} if against else {}}


def test_simple_predictions_and_warnings_come_with_a_result() -> None:
    label = EVALUATION["labels"][0] | {"simple": {"constant": simple(), "popularity": simple(False)}}  # type: ignore[index, operator]
    (found,) = results_of("din", EVALUATION | {"labels": [label], "warnings": ["PCOC is 3."]})
    assert found.warnings == ("PCOC is 3.",)
    constant, popularity = found.simple
    assert (constant.name, popularity.name) == ("the constant rate", "item popularity")
    assert cells(constant) == ("the constant rate", "0.5000", "-", "0.6000", "-", "-", "-")
    assert constant.gauc.reason == "no user has both"
    assert constant.against["auc"].reason == "one user"
    assert math.isnan(constant.against["auc"].low)
    document = to_dict(found)
    assert document["warnings"] == ("PCOC is 3.",)
    assert document["simple"][0]["auc"][1] == 0.5
    assert document["simple"][0]["reasons"]["gauc"] == "no user has both"


def test_the_simple_lines_stand_once_behind_the_models_of_a_label() -> None:
    twice = EVALUATION | {
        "labels": [label | {"simple": {"constant": simple()}} for label in EVALUATION["labels"]]  # type: ignore[attr-defined, operator]
    }
    lines = with_simple([*results_of("din", twice), *results_of("suan", twice)])
    assert [(line.label, line.name) for line in lines] == [
        ("click", "din"),
        ("click", "suan"),
        ("click", "the constant rate"),
        ("like", "din"),
        ("like", "suan"),
        ("like", "the constant rate"),
    ]


def test_footnotes_name_the_columns_of_a_reason_once() -> None:
    none = Interval(math.nan, math.nan, math.nan, "there are no positives")
    told = [("AUC", none), ("GAUC", none), ("AUC", none), ("log-loss", Interval(0, 1, 0.5))]
    assert footnotes(told) == ["AUC, GAUC: there are no positives"]
