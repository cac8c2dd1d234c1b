import xml.etree.ElementTree as ElementTree

import pytest

from clickscale.evaluation.significance import Interval
from clickscale.report import latency_plots
from clickscale.report.results import Result

LINE = ([1, 10, 100], [1.0, 2.0, 8.0], [1.5, 2.5, 9.0])


def words(svg: str) -> str:
    tree = ElementTree.fromstring(svg)
    assert tree.tag.endswith("svg")
    return " ".join(tree.itertext())


def test_latency_has_a_panel_per_length_and_names_every_variant_once() -> None:
    panel = {"one by one": LINE, "cached": LINE}
    text = words(latency_plots.latency("suan size-2", {"L = 50": panel, "L = 1,000*": panel}))
    for word in ("suan size-2", "L = 50", "L = 1,000*", "candidates", "milliseconds"):
        assert word in text
    assert text.count("one by one") == 1


def test_growth_has_any_number_of_panels_and_one_legend() -> None:
    lines = {"dense": ([50, 100], [1.0, 4.0], None), "r = 4": ([50, 100], [1.0, 2.0], None)}
    panels = [(f"panel {place}", "L", "seconds", lines) for place in range(4)]
    text = words(latency_plots.growth(panels))
    assert all(f"panel {place}" in text for place in range(4))
    assert text.count("dense") == 1


def test_the_same_numbers_give_the_same_bytes() -> None:
    panels = {"L = 5": {"cached": LINE}}
    assert latency_plots.latency("x", panels) == latency_plots.latency("x", panels)


def test_ticks_keep_apart_and_the_largest_is_always_there() -> None:
    assert latency_plots._apart([1, 10, 100, 500, 1000]) == [1, 10, 100, 1000]
    assert latency_plots._apart([50, 100, 200, 500, 1000, 2000, 4000]) == [50, 200, 1000, 4000]
    assert latency_plots._apart([7, 7]) == [7]


def test_accuracy_against_latency_names_every_model_and_needs_no_latency_of_trees() -> None:
    point = Interval(0.4, 0.6, 0.5)
    results = [
        Result(name, "click", "test", "request", 1, point, point, point, point)
        for name in ("din", "student", "trees")
    ]
    latencies = {"din": (5.0, 4.0), "student": (5.2, 4.1)}
    text = words(latency_plots.accuracy_against_latency("milliseconds", results, latencies))
    for word in ("AUC", "GAUC", "milliseconds", "din", "student", "trees"):
        assert word in text


def test_models_of_nearly_the_same_latency_are_moved_apart_and_others_stay() -> None:
    shifts = latency_plots._beside({"teacher": 30.0, "student": 5.1, "din": 5.0}, gap=10.0)
    assert shifts == pytest.approx({"din": -5.0, "student": 5.0, "teacher": 0.0})
