"""Plots of a sweep."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from clickscale.evaluation.significance import Interval
from clickscale.report import scaling_plots
from clickscale.report.plots import Drawing
from clickscale.report.scaling_plots import CheckLine, CostPoint, LadderLine, front

MODELS = ("din", "suan")
X = np.array([10.0, 100.0, 1000.0])


def ladder_line(model: str) -> LadderLine:
    curve = np.geomspace(10, 2000, 5)
    law = 0.8 - 0.1 * curve**-0.3
    return LadderLine(
        model, X, [(0.74, 0.75), (0.77,), (0.78, 0.781)], (curve, law, law - 0.01, law + 0.01),
        (1000.0, Interval(0.77, 0.79, 0.78)),
    )  # fmt: skip


def text_of(plot: str) -> str:
    return " ".join(ElementTree.fromstring(plot).itertext())


def test_a_ladder_names_its_models_and_the_best_possible() -> None:
    plot = scaling_plots.ladder("Length", "behaviors", [ladder_line("suan")], MODELS, best=0.81)
    for word in ("suan", "Length", "behaviors", "best possible", "predicted from smaller ones", "100"):
        assert word in text_of(plot)
    bare = LadderLine("suan", X, [(0.7,), (0.7,), (0.7,)])
    assert "predicted" not in text_of(scaling_plots.ladder("Length", "x", [bare], MODELS))


def test_a_plot_can_be_drawn_as_png() -> None:
    plot = scaling_plots.ladder("Length", "behaviors", [ladder_line("suan")], MODELS)
    assert isinstance(plot, Drawing)
    assert plot.png().startswith(b"\x89PNG")


def test_a_model_has_one_color_in_all_plots() -> None:
    line = CheckLine("suan", "suan, data", Interval(0.7, 0.72, 0.71), 0.711, True)
    plots = [
        scaling_plots.checks([line], MODELS, 0.002),
        scaling_plots.predicted_against_measured([line], MODELS),
        scaling_plots.ladder("Data", "x", [ladder_line("suan")], MODELS),
        scaling_plots.residuals([("suan", "data", X, np.array([1e-4, -1e-4, 0.0]), 7e-4)], MODELS),
        scaling_plots.pareto("Costs", "ms", [CostPoint("suan", "s", line.predicted, 2.0)], MODELS),
    ]
    for plot in plots:
        assert "#dc6803" in plot
        assert "#2563eb" not in plot, "the color of din, which is not shown"


def test_the_front_holds_what_nothing_cheaper_beats() -> None:
    def point(auc: float, cost: float) -> CostPoint:
        return CostPoint("suan", f"{cost}", Interval(auc, auc, auc), cost)

    points = [point(0.75, 3.0), point(0.70, 1.0), point(0.72, 2.0), point(0.71, 2.5), point(0.75, 4.0)]
    assert [one.cost for one in front(points)] == [1.0, 2.0, 3.0]
    assert front([]) == []
