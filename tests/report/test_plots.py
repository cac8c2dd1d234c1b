import math
import xml.etree.ElementTree as ElementTree

import numpy as np

from clickscale.evaluation.significance import Interval
from clickscale.report import plots
from clickscale.report.results import Result
from tests.everyday import thinned


def results() -> list[Result]:
    point = Interval(0.4, 0.6, 0.5)
    return [
        Result(name, "click", "test", "request", 1, Interval(v - 0.01, v + 0.01, v), point, point, point)
        for name, v in (("din", 0.7), ("suan", 0.8), ("trees", 0.75))
    ]


def drawn() -> dict[str, str]:
    line = ([0.1, 0.5, 0.9], [0.2, 0.4, 0.95])
    return {
        "accuracy": plots.accuracy(results(), "auc", "AUC"),
        "calibration": plots.calibration({"din": line, "suan": line}),
        "slices": plots.slices(
            "AUC by something", "something", {"din": {"0": 0.5, "1-4": 0.7}, "suan": {"1-4": 0.8}}
        ),
        "learning": plots.learning({"din": ([1000.0, 2000.0], [0.7, 0.6])}),
    }


@thinned("name", ["accuracy", "calibration", "slices", "learning"], every=2)
def test_a_plot_is_a_whole_svg_with_its_words_as_text(name: str) -> None:
    tree = ElementTree.fromstring(drawn()[name])
    words = "".join(tree.itertext())
    assert tree.tag.endswith("svg")
    assert "din" in words
    if name == "accuracy":
        assert "0.8000" in words
        assert words.index("din") < words.index("trees") < words.index("suan"), "the best stands on top"


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_smoothing_is_a_running_mean_over_a_twentieth() -> None:
    np.testing.assert_allclose(plots._smooth(np.array([1.0, 2.0, 6.0])), [1.0, 2.0, 6.0])
    values = np.arange(40.0)
    np.testing.assert_allclose(plots._smooth(values)[:4], [0.0, 0.5, 1.5, 2.5])


def test_a_model_without_an_interval_is_drawn_as_a_point() -> None:
    point = Interval(math.nan, math.nan, 0.7)
    lone = Result("din", "click", "test", "request", 1, point, point, point, point)
    assert "0.7000" in plots.accuracy([lone], "auc", "AUC")


def test_names_in_any_script_are_drawn_without_a_warning() -> None:
    point = Interval(0.4, 0.6, 0.5)
    named = Result("类目 ভাষা", "click", "test", "request", 1, point, point, point, point)
    drawing = plots.accuracy([named], "auc", "AUC")
    assert "类目 ভাষা" in "".join(ElementTree.fromstring(drawing).itertext())
    assert isinstance(drawing, plots.Drawing)
    assert drawing.png().startswith(b"\x89PNG")
