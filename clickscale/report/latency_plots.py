"""Plots of what scoring costs: latency against candidates, cost against a size, accuracy against latency."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from clickscale.report.plots import COLORS, axes_of, in_style, new_figure, svg

# Points of a line: x, the middle, and the upper end of its band (None: no band).
Points = tuple[Sequence[float], Sequence[float], Sequence[float] | None]


@in_style
def latency(title: str, panels: Mapping[str, Mapping[str, Points]]) -> str:
    """Milliseconds against candidates, a panel per length, a line per variant; bands reach from p50 to p99.

    Args:
        panels: title of a panel -> variant -> (candidates, p50, p99).
    """
    figure = new_figure(len(panels), 1, width=max(2.5 * len(panels) + 0.8, 5.2), height=3.7, same_y=True)
    for axes, (name, lines) in zip(axes_of(figure), panels.items(), strict=True):
        _lines(axes, lines, list(lines))
        axes.set(title=name, xlabel="candidates")
    first = axes_of(figure)[0]
    first.set_ylabel("milliseconds, p50 to p99")
    handles, names = first.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return svg(figure)


@in_style
def growth(panels: Sequence[tuple[str, str, str, Mapping[str, Points]]]) -> str:
    """Costs against sizes on two logarithmic axes, where a power is a straight line.

    Args:
        panels: (title, label of x, label of y, lines by name); lines of one name share a color.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(columns, rows, width=3.4 * columns, height=3.1 * rows + 0.4)
    names = list(dict.fromkeys(name for *_, lines in panels for name in lines))
    for axes, (title, x, y, lines) in zip(axes_of(figure), panels, strict=False):
        _lines(axes, lines, names)
        axes.set(title=title, xlabel=x, ylabel=y)
    for axes in axes_of(figure)[len(panels) :]:
        axes.set_axis_off()
    handles = {name: line for axes in axes_of(figure) for line, name in zip(*_legend(axes), strict=True)}
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names))
    return svg(figure)


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, names = axes.get_legend_handles_labels()
    return list(handles), list(names)


def _lines(axes: Axes, lines: Mapping[str, Points], names: Sequence[str]) -> None:
    """Lines with bands on logarithmic axes; a name has one color in all panels."""
    for name, (x, middle, upper) in lines.items():
        color = COLORS[names.index(name) % len(COLORS)]
        axes.plot(x, middle, "o-", color=color, label=name, markersize=4, linewidth=1.6)
        if upper is not None:
            axes.fill_between(x, middle, upper, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(apart({value for x, _, _ in lines.values() for value in x}))
    heights = [value for _, middle, _ in lines.values() for value in middle]
    few = max(heights, default=1) < 300 * min(heights, default=1)  # a tick per power of ten would be too few
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.6g}"))
        axis.set_minor_locator(NullLocator())


def apart(values: Iterable[float], factor: float = 3.5) -> list[float]:
    """The largest value and smaller ones, each at most a ``factor``-th of the one before; ascending."""
    kept: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not kept or value * factor <= kept[-1]:
            kept.append(value)
    return kept[::-1]
