"""The picture of a benchmark: accuracy of every model against the operations of a request."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from clickscale.evaluation.significance import Interval
from clickscale.report.plots import COLORS, FAINT, INK, axes_of, in_style, new_figure, svg

_LABEL = 0.036  # height of a name, as a share of the axes


@dataclass(frozen=True)
class CostPoint:
    """One model in the picture.

    Attributes:
        gflops: 10^9 operations of a request; None for a model that has none, such as trees.
        auc: with its interval over users.
        matched: AUC with the training operations of the reference; None if it is the same run.
    """

    name: str
    gflops: float | None
    auc: Interval
    matched: float | None = None


@in_style
def accuracy_against_operations(title: str, points: Sequence[CostPoint]) -> str:
    """AUC with 95% intervals against GFLOPs; a ring is the AUC with the reference's training operations.

    The names stand at the right in the order of AUC, each joined to its point. A model without operations is
    a horizontal line.
    """
    points = sorted((p for p in points if not math.isnan(p.auc.value)), key=lambda point: point.auc.value)
    figure = new_figure(1, 1, width=8.6, height=max(4.2, 0.9 + 0.24 * len(points)))
    (axes,) = axes_of(figure)
    axes.set_xscale("log")
    _limits(axes, points)
    for index, (point, height) in enumerate(zip(points, _heights(axes, points), strict=True)):
        _draw(axes, point, COLORS[index % len(COLORS)], height)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=title, xlabel="GFLOPs of a request of 60 candidates", ylabel="AUC, test part")
    return svg(figure)


def _draw(axes: Axes, point: CostPoint, color: str, height: float) -> None:
    """One model, and its name at ``height`` of the axes, at their right."""
    value = point.auc.value
    if point.gflops is None:
        axes.axhline(value, color=color, linewidth=1.3, linestyle="--")
        start = axes.get_xlim()[1]
    else:
        start = point.gflops
        axes.plot([start, start], [point.auc.low, point.auc.high], color=color, linewidth=2.5, alpha=0.3)
        axes.plot(start, value, "o", color=color, markersize=6)
        if point.matched is not None:
            axes.plot([start, start], [value, point.matched], ":", color=color, linewidth=1.0)
            axes.plot(start, point.matched, "o", color=color, markerfacecolor="white", markersize=5)
    axes.annotate(
        point.name,
        (start, value),
        (1.03, height),
        textcoords="axes fraction",
        va="center",
        fontsize=9,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4},
    )
    axes.plot(1.02, height, "o", color=color, markersize=4, transform=axes.transAxes, clip_on=False)


def _limits(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Room for every interval."""
    costs = [point.gflops for point in points if point.gflops is not None] or [1.0]
    axes.set_xlim(min(costs) / 1.6, max(costs) * 1.6)
    ends = [end for p in points for end in (p.auc.low, p.auc.value, p.auc.high, p.matched) if end is not None]
    ends = [end for end in ends if not math.isnan(end)] or [0.0, 1.0]
    room = 0.05 * (max(ends) - min(ends)) + 1e-6
    axes.set_ylim(min(ends) - room, max(ends) + room)


def _heights(axes: Axes, points: Sequence[CostPoint]) -> list[float]:
    """Height of each name in the axes, ascending: near its AUC, and apart from its neighbors."""
    low, high = axes.get_ylim()
    gap = min(_LABEL * 12 / max(len(points), 12) * 1.6, 1 / max(len(points) - 1, 1))
    heights = [(point.auc.value - low) / (high - low) for point in points]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    # What was pushed beyond the top pushes back.
    limit = 1.0
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], limit)
        limit = heights[index] - gap
    return heights
