"""Plots of the cost of scoring: latency by candidates, cost by size, accuracy by latency."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Transform, offset_copy

from clickscale.evaluation.significance import Interval
from clickscale.report.plots import COLORS, INK, axes_of, color_of, in_style, new_figure, svg
from clickscale.report.results import Result

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
    # Three panels side by side are as wide as a page.
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
    axes.set_xticks(_apart({value for x, _, _ in lines.values() for value in x}))
    heights = [value for _, middle, _ in lines.values() for value in middle]
    few = max(heights, default=1) < 300 * min(heights, default=1)  # a tick per power of ten would be too few
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
        axis.set_minor_locator(NullLocator())


def _apart(values: Iterable[float], factor: float = 3.5) -> list[float]:
    """The largest value and smaller ones, each at most a ``factor``-th of the one before; ascending."""
    kept: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not kept or value * factor <= kept[-1]:
            kept.append(value)
    return kept[::-1]


@in_style
def accuracy_against_latency(
    xlabel: str,
    results: Sequence[Result],
    latencies: Mapping[str, tuple[float, float]],
    closed: Mapping[str, str] | None = None,
) -> str:
    """AUC and GAUC with 95% intervals against the latency of a request, a color per model.

    A full point is a request that encodes its user, the ring at its left one from a cached state. Models of
    nearly the same latency stand side by side. A result without a latency is a horizontal line.

    Args:
        latencies: milliseconds by name of a result: with encoding, and from a cached state.
        closed: text of the share of the gap to its teacher (AUC), by name of a taught student.
    """
    figure = new_figure(2, 1, height=4.0)
    names = [result.name for result in results]
    shifts = _beside({name: latencies[name][0] for name in names if name in latencies})
    for axes, measure in zip(axes_of(figure), ("auc", "gauc"), strict=True):
        axes.set_xscale("log")
        for result in results:
            interval, color = getattr(result, measure), color_of(result.name, names)
            if result.name in latencies:
                moved = offset_copy(axes.transData, figure, x=shifts[result.name], units="points")
                _tradeoff(axes, interval, latencies[result.name], color, result.name, moved)
            else:
                axes.axhline(interval.value, color=color, linewidth=1.5, linestyle="--", label=result.name)
        _limits(axes, [getattr(result, measure) for result in results], list(latencies.values()))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:,.6g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(title=measure.upper(), xlabel=xlabel)
    handles, labels = _legend(axes_of(figure)[0])
    shares = closed or {}
    labels = [f"{name} (gap closed: {shares[name]})" if name in shares else name for name in labels]
    ring = Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle=":")
    figure.legend(
        [*handles, ring], [*labels, "user cached"], loc="outside lower center", ncols=len(labels) + 1
    )
    return svg(figure)


def _tradeoff(
    axes: Axes, interval: Interval, latency: tuple[float, float], color: str, name: str, moved: Transform
) -> None:
    """One model: its interval at its latency, and a ring where a cached state brings it."""
    encoded, cached = latency
    heights = [interval.value, interval.value]
    axes.plot([encoded, cached], heights, ":", color=color, linewidth=1.2, transform=moved)
    axes.plot(
        cached, interval.value, "o", color=color, markerfacecolor="white", markersize=6, transform=moved
    )
    bar = [interval.low, interval.high]
    axes.plot([encoded, encoded], bar, color=color, linewidth=2.5, alpha=0.4, transform=moved)
    axes.plot(encoded, interval.value, "o", color=color, markersize=7, label=name, transform=moved)


def _limits(axes: Axes, intervals: Sequence[Interval], latencies: Sequence[tuple[float, float]]) -> None:
    """Room for everything; matplotlib by itself counts what is moved sideways wrongly."""
    times = [time for pair in latencies for time in pair] or [1.0]
    axes.set_xlim(min(times) / 1.5, max(times) * 1.5)
    ends = [end for i in intervals for end in (i.low, i.value, i.high) if end == end] or [0.0, 1.0]
    room = 0.06 * (max(ends) - min(ends)) + 1e-6
    axes.set_ylim(min(ends) - room, max(ends) + room)


def _beside(latencies: Mapping[str, float], near: float = 1.15, gap: float = 10.0) -> dict[str, float]:
    """Points to move each model sideways, so that models of nearly the same latency can be told apart."""
    groups: list[list[str]] = []
    for name in sorted(latencies, key=lambda name: latencies[name]):
        # Against the first of the group and not the last, or a long chain of neighbors would be one group.
        if groups and latencies[name] <= near * latencies[groups[-1][0]]:
            groups[-1].append(name)
        else:
            groups.append([name])
    return {
        name: gap * (index - (len(group) - 1) / 2) for group in groups for index, name in enumerate(group)
    }
