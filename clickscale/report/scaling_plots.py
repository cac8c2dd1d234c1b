"""Plots of a sweep: ladders with their laws, predictions beside results, accuracy against cost.

They take numbers and know nothing of sweeps. A model has one color in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from clickscale.arrays import Floats
from clickscale.evaluation.significance import Interval
from clickscale.report.plots import FAINT, GRID, INK, MUTED, axes_of, color_of, in_style, new_figure, svg

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class LadderLine:
    """One model along an axis.

    Attributes:
        x: (R,) places of the rungs. values: the measure by rung and seed.
        curve: (x, law, low, high) as (X,) each, from the first rung to where the law is trusted; None
            without a law.
        predicted: (x, interval) of the largest rung, as the smaller ones predict it; None without a check.
        solid: the points determine the law; a law that they do not is dashed.
    """

    model: str
    x: Floats
    values: Sequence[Sequence[float]]
    curve: tuple[Floats, Floats, Floats, Floats] | None = None
    predicted: tuple[float, Interval] | None = None
    solid: bool = True


@dataclass(frozen=True)
class CheckLine:
    """A prediction and what was measured."""

    model: str
    title: str
    predicted: Interval
    measured: float
    holds: bool


@dataclass(frozen=True)
class CostPoint:
    """Accuracy of a configuration, and what it costs.

    Attributes:
        title: short name of the configuration within its model.
        cost: where it stands on the x axis.
        measured: False for a configuration whose accuracy the joint law says.
    """

    model: str
    title: str
    auc: Interval
    cost: float
    measured: bool = True


@in_style
def ladder(
    title: str,
    xlabel: str,
    lines: Sequence[LadderLine],
    models: Sequence[str],
    *,
    ylabel: str = "AUC",
    best: float | None = None,
) -> str:
    """Rungs with their laws and bands on a logarithmic axis.

    A small dot is a run, a large one the mean of a rung; a thin line joins the rungs of a ladder without a
    law. A diamond is the largest rung as predicted from the smaller ones, with its interval.

    Args:
        models: of all plots of a page, which share their colors.
        best: the best possible value, if it is known.
    """
    figure = new_figure(1, 1, width=6.0, height=4.2)
    (axes,) = axes_of(figure)
    for line in lines:
        _draw_ladder(axes, line, color_of(line.model, models))
    if best is not None:
        axes.axhline(best, color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)))
        # Below the line: laws rise, so the corner is free, and above it may stand the title.
        axes.annotate("best possible", (0.01, best), (0, -3), xycoords=("axes fraction", "data"), va="top",
                      textcoords="offset points", color=MUTED, fontsize=8.5)  # fmt: skip
    axes.set_xscale("log")
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _decades(lines) < 2 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_locator(NullLocator())
    handles, names = axes.get_legend_handles_labels()
    if any(line.predicted for line in lines):
        handles.append(Line2D([], [], color=INK, marker="D", markerfacecolor="white", linestyle="none"))
        names.append("predicted from smaller ones")
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=9)
    return svg(figure)


def _draw_ladder(axes: Axes, line: LadderLine, color: str) -> None:
    means = [float(np.mean(rung)) for rung in line.values]
    if line.curve is not None:
        x, law, low, high = line.curve
        axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
        inside = x <= line.x[-1]
        style = "-" if line.solid else (0, (5, 2))
        axes.plot(x[inside], law[inside], color=color, linewidth=1.7, linestyle=style)
        axes.plot(x[~inside], law[~inside], color=color, linewidth=1.3, linestyle=":")
    else:
        axes.plot(line.x, means, color=color, linewidth=1.1)
    runs = [(x, value) for x, rung in zip(line.x, line.values, strict=True) for value in rung]
    axes.plot(*np.array(runs).T, ".", color=color, alpha=0.35, markersize=4)
    axes.plot(line.x, means, "o", color=color, markersize=6, label=line.model)
    if line.predicted is not None:
        place, found = line.predicted
        axes.plot([place, place], [found.low, found.high], color=color, linewidth=1.6)
        axes.plot(place, found.value, "D", color=color, markerfacecolor="white", markersize=6.5)


def _decades(lines: Sequence[LadderLine]) -> float:
    places = np.concatenate([line.x for line in lines])
    return float(np.log10(places.max() / places.min()))


@in_style
def checks(lines: Sequence[CheckLine], models: Sequence[str], bound: float) -> str:
    """Every held-out check: the interval of the prediction less what was measured, which is the zero line.

    Args:
        bound: the distance up to which a prediction is good enough, drawn as a gray band.
    """
    figure = new_figure(1, 1, width=6.0, height=1.2 + 0.34 * len(lines))
    (axes,) = axes_of(figure)
    axes.axvspan(-bound, bound, color=GRID, linewidth=0)
    axes.axvline(0.0, color=INK, linewidth=1.0)
    for height, line in enumerate(reversed(lines)):
        color = color_of(line.model, models)
        low, value, high = (
            end - line.measured for end in (line.predicted.low, line.predicted.value, line.predicted.high)
        )
        axes.plot([low, high], [height, height], color=color, linewidth=2.5, alpha=0.5, solid_capstyle="butt")
        axes.plot(
            value, height, "D", color=color, markersize=6, markerfacecolor=color if line.holds else "white"
        )
    axes.set_yticks(range(len(lines)), [line.title for line in reversed(lines)])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:+.3f}" if value else "0"))
    axes.set(title="Predictions of the largest cells", xlabel="AUC, predicted less measured")
    return svg(figure)


@in_style
def predicted_against_measured(lines: Sequence[CheckLine], models: Sequence[str]) -> str:
    """Predictions with their intervals against results; the diagonal is perfect."""
    figure = new_figure(1, 1, width=6.0, height=4.2)
    (axes,) = axes_of(figure)
    ends = [end for line in lines for end in (line.predicted.low, line.predicted.high, line.measured)]
    room = 0.08 * (max(ends) - min(ends)) + 1e-4
    limits = min(ends) - room, max(ends) + room
    axes.plot(limits, limits, color=FAINT, linewidth=1.5)
    for line in lines:
        color, found = color_of(line.model, models), line.predicted
        axes.plot([line.measured] * 2, [found.low, found.high], color=color, linewidth=2.0, alpha=0.5)
        face = color if line.holds else "white"
        axes.plot(line.measured, found.value, "D", color=color, markersize=5.5, markerfacecolor=face)
    for model in dict.fromkeys(line.model for line in lines):
        axes.plot([], [], "D", color=color_of(model, models), markersize=5.5, label=model)
    axes.set(title="Prediction against result", xlabel="measured AUC", ylabel="predicted AUC")
    axes.set(xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    axes.legend()
    return svg(figure)


@in_style
def residuals(lines: Sequence[tuple[str, str, Floats, Floats, float]], models: Sequence[str]) -> str:
    """What the laws leave over: mean of a rung less the law, in units of the noise of one run.

    Args:
        lines: (model, axis, places (R,), residuals (R,), noise) of every ladder.
    """
    figure = new_figure(1, 1, width=6.0, height=4.2)
    (axes,) = axes_of(figure)
    axes.axhspan(-1, 1, color=GRID, linewidth=0)
    axes.axhline(0.0, color=INK, linewidth=1.0)
    markers = dict(zip(dict.fromkeys(axis for _, axis, *_ in lines), ("o", "s", "^", "v"), strict=False))
    for model, axis, x, left, noise in lines:
        color = color_of(model, models)
        axes.plot(x / x[-1], left / noise, color=color, linewidth=0.8, alpha=0.5)
        axes.plot(x / x[-1], left / noise, markers[axis], color=color, markersize=5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_log_ticks(min(float(x[0] / x[-1]) for *_, x, _, _ in lines), 1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title="Residuals", xlabel="share of the largest rung", ylabel="deviations of one run")
    shapes = [Line2D([], [], color=INK, marker=marker, linestyle="none") for marker in markers.values()]
    colors = [
        Line2D([], [], color=color_of(model, models), linewidth=2.5)
        for model in dict.fromkeys(model for model, *_ in lines)
    ]
    names = [*markers, *dict.fromkeys(model for model, *_ in lines)]
    figure.legend([*shapes, *colors], names, loc="outside lower center", ncols=min(len(names), 5), fontsize=9)
    return svg(figure)


@in_style
def pareto(title: str, xlabel: str, points: Sequence[CostPoint], models: Sequence[str]) -> str:
    """AUC against a cost; the line joins what nothing cheaper beats.

    A ring is a configuration whose accuracy the joint law says, a bar the interval of one run.
    """
    figure = new_figure(1, 1, width=6.0, height=4.4)
    (axes,) = axes_of(figure)
    best = front(points)
    axes.step(
        [point.cost for point in best], [point.auc.value for point in best], where="post", color=MUTED,
        linewidth=1.2, zorder=1,
    )  # fmt: skip
    for point in points:
        color = color_of(point.model, models)
        alpha = 1.0 if point in best else 0.4
        axes.plot(
            [point.cost] * 2, [point.auc.low, point.auc.high], color=color, linewidth=2, alpha=0.3 * alpha
        )
        face = color if point.measured else "white"
        axes.plot(
            point.cost, point.auc.value, "o", color=color, markersize=5.5, alpha=alpha, markerfacecolor=face
        )
    for point in _apart(best):
        axes.annotate(
            point.title, (point.cost, point.auc.value), (-4, 5), textcoords="offset points", ha="right",
            fontsize=7.5, color=color_of(point.model, models),
        )  # fmt: skip
    for model in dict.fromkeys(point.model for point in points):
        axes.plot([], [], "o", color=color_of(model, models), label=model)
    axes.set_xscale("log")
    costs = [point.cost for point in points]
    axes.set_xlim(min(costs) / 4.0, max(costs) * 1.6)  # room for the first name
    axes.xaxis.set_major_locator(_log_ticks(min(costs), max(costs)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=title, xlabel=xlabel, ylabel="AUC")
    axes.legend(loc="lower right")
    return svg(figure)


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Points that nothing cheaper beats, the cheapest first."""
    found: list[CostPoint] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.auc.value)):
        if not found or point.auc.value > found[-1].auc.value:
            found.append(point)
    return found


def _apart(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Points that are far enough from each other to be named, the best ones first."""
    if not points:
        return []
    costs, values = [np.log(point.cost) for point in points], [point.auc.value for point in points]
    wide, high = max(np.ptp(costs), 1e-9), max(np.ptp(values), 1e-9)
    kept: list[int] = []
    for index in reversed(range(len(points))):
        if all(
            abs(costs[index] - costs[other]) / wide > 0.25
            or abs(values[index] - values[other]) / high > 0.055
            for other in kept
        ):
            kept.append(index)
    return [points[index] for index in sorted(kept)]


def _short(value: float, position: int) -> str:
    """A number such as 20M."""
    for unit, letter in _UNITS:
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _log_ticks(low: float, high: float) -> LogLocator:
    """Powers of ten, and 2 and 5 times them on an axis too short to hold enough powers."""
    return LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))
