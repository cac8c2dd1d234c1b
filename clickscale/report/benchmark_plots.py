"""The picture of a benchmark: accuracy of every model against the operations of a request."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from clickscale.evaluation.significance import Interval
from clickscale.report.plots import COLORS, INK, axes_of, in_style, new_figure, svg

_NAME = 0.2  # inches between two names


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
    heights = _heights(points, axes.get_ylim(), figure.get_figheight())
    for index, (point, height) in enumerate(zip(points, heights, strict=True)):
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
        arrowprops={
            "arrowstyle": "-",
            "relpos": (0, 0.5),
            "color": color,
            "alpha": 0.5,
            "linewidth": 0.7,
            "shrinkB": 3,
        },
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


def _heights(points: Sequence[CostPoint], limits: tuple[float, float], inches: float) -> list[float]:
    """Height of each name in the axes, ascending: as near to its AUC as the names below and above allow."""
    low, high = limits
    gap = min(_NAME / inches, 1 / max(len(points) - 1, 1))
    wanted = [(point.auc.value - low) / (high - low) for point in points]
    # Without the gaps the heights only have to ascend: neighbors in the wrong order share their mean.
    blocks: list[list[float]] = []
    for index, height in enumerate(wanted):
        blocks.append([height - index * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    flat = [fmean(block) for block in blocks for _ in block]
    room = 1 - gap * (len(points) - 1)
    return [min(max(height, 0.0), room) + index * gap for index, height in enumerate(flat)]
