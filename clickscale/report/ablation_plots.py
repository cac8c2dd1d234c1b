"""The picture of an ablation: how far each variant is from the model that it was taken from."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from clickscale.report.block_plots import Change
from clickscale.report.plots import COLORS, INK, axes_of, in_style, new_figure, svg


@in_style
def differences(title: str, groups: Sequence[tuple[str, Sequence[Change]]]) -> str:
    """Differences by table with 95% intervals over users, one table below the other, around a line at 0."""
    count = sum(len(points) for _, points in groups)
    figure = new_figure(1, len(groups), width=7.2, height=0.8 + 0.75 * len(groups) + 0.34 * count)
    for (name, points), axes in zip(groups, axes_of(figure), strict=True):
        _draw(axes, name, points)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return svg(figure)


def _draw(axes: Axes, name: str, points: Sequence[Change]) -> None:
    """One table, its first variant on top."""
    drawn = [point for point in points if not math.isnan(point[1])]
    axes.axvline(0.0, color=INK, linewidth=0.8)
    for place, (_, value, low, high) in enumerate(drawn):
        color = COLORS[place % len(COLORS)]
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=color, linewidth=2.5, alpha=0.45)
        axes.plot(value, place, "o", color=color, markersize=6)
    axes.set_yticks(range(len(drawn)), [variant for variant, *_ in drawn])
    axes.set_ylim(max(len(drawn), 1) - 0.4, -0.6)
    axes.set_title(name, fontsize=9)
    axes.grid(axis="y", visible=False)
