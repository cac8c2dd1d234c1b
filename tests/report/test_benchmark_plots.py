import math

from clickscale.evaluation.significance import Interval
from clickscale.report.benchmark_plots import CostPoint, accuracy_against_operations


def point(name: str, auc: float, gflops: float | None = 0.1, matched: float | None = None) -> CostPoint:
    return CostPoint(name, gflops, Interval(auc - 0.01, auc + 0.01, auc), matched)


def test_every_model_is_named_in_the_order_of_its_accuracy() -> None:
    points = [
        point("din", 0.71),
        point("suan", 0.72, 1.5, 0.69),
        point("trees", 0.70, None),
        CostPoint("undefined", 0.1, Interval(math.nan, math.nan, math.nan)),
    ]
    picture = accuracy_against_operations("a log", points)
    assert picture.startswith("<svg")
    assert [picture.index(f">{name}<") for name in ("trees", "din", "suan")] == sorted(
        picture.index(f">{name}<") for name in ("trees", "din", "suan")
    )
    assert "undefined" not in picture
    assert picture == accuracy_against_operations("a log", points)


def test_names_of_models_with_one_accuracy_stand_apart() -> None:
    picture = accuracy_against_operations("a log", [point(f"model-{i}", 0.7) for i in range(20)])
    heights = set()
    for i in range(20):
        before = picture[: picture.index(f">model-{i}<")]
        heights.add(before[before.rindex("<text") :])
    assert len(heights) == 20


def test_a_benchmark_of_trees_alone_has_a_picture() -> None:
    assert ">trees<" in accuracy_against_operations("a log", [point("trees", 0.7, None)])
