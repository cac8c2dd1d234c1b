"""One figure of a prepared data set: label rates by day, histories, unknown values, vocabulary sizes."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from clickscale.data.checks.contents import LENGTHS, FieldSummary, Inspection
from clickscale.data.source import PARTS
from clickscale.files import replacing
from clickscale.report.plots import COLORS, FAINT, MUTED, axes_of, in_style, new_figure, save_figure, svg

_SIDES = dict(zip(("item", "behavior", "profile", "context"), COLORS, strict=False))
_MOST_POINTS = 60


@in_style
def plot_inspection(inspection: Inspection, path: Path) -> None:
    """Draw an inspection as one figure: label rates, visible behaviors, unknown shares, vocabularies.

    Args:
        path: file to write; its suffix (``.svg``, ``.png``, ``.pdf``) chooses the format.
    """
    figure = _draw(inspection)
    with replacing(path) as partial:
        save_figure(figure, partial, dpi=120)


@in_style
def inspection_plots(inspection: Inspection) -> list[str]:
    """Draw the same as four figures, as SVG text that a page can hold."""
    fields = sum(field.side != "statistic" for field in inspection.fields)
    found = []
    for plot, height in (
        (_plot_days, 3.6),
        (_plot_lengths, 3.6),
        (_plot_unknown, 1.2 + 0.24 * fields),
        (_plot_sizes, 1.2 + 0.24 * fields),
    ):
        figure = new_figure(1, 1, width=6.0, height=height)
        plot(axes_of(figure)[0], inspection)
        found.append(svg(figure))
    return found


def _draw(inspection: Inspection) -> Figure:
    fields = sum(field.side != "statistic" for field in inspection.fields)
    figure = Figure(figsize=(12, 6.4 + 0.18 * max(fields - 8, 0)), layout="constrained")
    figure.suptitle(_title(inspection), fontsize=13, x=0.01, ha="left", fontweight="bold")
    axes = figure.subplots(2, 2, height_ratios=(3, 2 + 0.25 * fields))
    _plot_days(axes[0, 0], inspection)
    _plot_lengths(axes[0, 1], inspection)
    _plot_unknown(axes[1, 0], inspection)
    _plot_sizes(axes[1, 1], inspection)
    return figure


def _title(inspection: Inspection) -> str:
    counts = inspection.counts
    numbers = ", ".join(f"{counts[name]:,} {name}" for name in ("impressions", "behaviors", "users", "items"))
    return f"{inspection.name}: {numbers}"


def _plot_days(axes: Axes, inspection: Inspection) -> None:
    """Label rates over time, impressions as a shade behind them, the parts divided by dashed lines."""
    days = np.array([np.datetime64(day.day, "D") for day in inspection.days])
    if not len(days):
        return
    width = -(-(int((days[-1] - days[0]).astype(int)) + 1) // _MOST_POINTS)  # days per point
    group = (days - days[0]).astype(int) // width
    count = np.bincount(group, [day.impressions for day in inspection.days])
    starts, held = days[0] + np.arange(len(count)) * width, count > 0
    labels = list(inspection.days[0].rates)
    for color, label in zip(itertools.cycle(COLORS), labels, strict=False):
        share = np.array(
            [day.rates[label] if day.rates[label] is not None else np.nan for day in inspection.days]
        )
        weight = np.where(np.isnan(share), 0, [day.impressions for day in inspection.days])
        clicks, known = np.bincount(group, np.nan_to_num(share) * weight), np.bincount(group, weight)
        rate = np.where(known > 0, clicks / np.maximum(known, 1), np.nan)
        axes.plot(starts[held], rate[held], color=color, lw=1.6, marker="o", ms=2.5, label=label, zorder=3)
    shade = axes.twinx()
    shade.bar(starts, count, width=width * 0.95, align="edge", color=FAINT, alpha=0.6)
    shade.set_axis_off()
    axes.set_zorder(shade.get_zorder() + 1)
    axes.patch.set_visible(False)  # the axes in front would hide the bars behind them
    for name in PARTS[1:]:
        if first := inspection.parts[name].first:
            moment = float(date2num(np.datetime64(first[:10], "D")))  # type: ignore[no-untyped-call]
            axes.axvline(moment, color=MUTED, lw=1, ls="--")
            side = "right" if name == "valid" else "left"  # the two lines may stand close together
            above = axes.get_xaxis_transform()
            axes.text(moment, 1.01, f" {name} ", transform=above, color=MUTED, fontsize=8, ha=side)
    axes.set_ylim(bottom=0)
    span = "day" if width == 1 else f"{width} days"
    axes.set_title(f"Label rate per {span} (gray: impressions)", pad=16)
    if len(labels) > 1:
        axes.legend(fontsize=8, ncols=3)
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _plot_lengths(axes: Axes, inspection: Inspection) -> None:
    """Share of impressions by number of visible behaviors."""
    lows, counts = zip(*inspection.lengths, strict=True) if inspection.lengths else ((), ())
    share = 100 * np.array(counts) / max(sum(counts), 1)
    axes.bar(range(len(lows)), share, color=COLORS[0], width=0.8)
    axes.set_xticks(range(len(lows)), [_bin_name(low) for low in lows])
    if len(lows) > 8:
        for text in axes.get_xticklabels():
            text.set(rotation=35, ha="right", rotation_mode="anchor")
    for index, value in enumerate(share):
        axes.text(index, value, _percent(value), ha="center", va="bottom", fontsize=8)
    axes.grid(axis="x", visible=False)
    median = inspection.visible["0.5"]
    axes.set_title("Visible behaviors, % of impressions")
    axes.set_xlabel(f"median {median:g}")


def _percent(value: float) -> str:
    """A percentage in two digits; a small one is told apart from none."""
    if 0 < value < 0.1:
        return "<0.1"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _bin_name(low: int) -> str:
    """Name a bin of `LENGTHS`, such as 5-9."""
    following = next((other for other in LENGTHS if other > low), None)
    if following is None:
        return f"{low}+"
    return str(low) if following == low + 1 else f"{low}-{following - 1}"


def _plot_unknown(axes: Axes, inspection: Inspection) -> None:
    """Share of unknown values of every field, colored by side; statistics are always known."""
    fields = tuple(field for field in inspection.fields[::-1] if field.side != "statistic")
    share = [100 * field.unknown for field in fields]
    _rows(axes, fields, share, [_percent(value) for value in share])
    axes.set_xlim(0, max(1.15 * max(share, default=0), 1))
    axes.set_title("Unknown values, % of rows")


def _plot_sizes(axes: Axes, inspection: Inspection) -> None:
    """Indices of every categorical field, on a logarithmic scale."""
    fields = tuple(field for field in inspection.fields[::-1] if field.kind == "categorical")
    _rows(axes, fields, [field.size for field in fields], [f"{field.size:,}" for field in fields])
    axes.set_xscale("log")
    axes.set_xlim(1, 6 * max((field.size for field in fields), default=10))
    axes.set_title("Vocabulary sizes")
    axes.set_xlabel("indices, padding and unknown included")


def _rows(
    axes: Axes, fields: tuple[FieldSummary, ...], values: Sequence[float], texts: Sequence[str]
) -> None:
    """Horizontal bars, one per field, each with its value."""
    axes.barh(range(len(fields)), values, color=[_SIDES[field.side] for field in fields], height=0.7)
    axes.set_yticks(range(len(fields)), [f"{field.name}  ({field.side})" for field in fields])
    for row, (value, text) in enumerate(zip(values, texts, strict=True)):
        axes.annotate(text, (value, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_ylim(-0.6, max(len(fields), 1) - 0.4)
    axes.grid(axis="y", visible=False)
