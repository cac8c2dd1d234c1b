"""Plots of full attention by blocks: maps, effective ranks, the cost of cutting a block."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from clickscale.report.plots import COLORS, INK, axes_of, in_style, new_figure, svg

_FLOOR = 1e-4  # smaller attention is shown as this much

# Name of a block or of a variant, its value, the ends of its interval (nan: none).
Change = tuple[str, float, float, float]


@in_style
def attention_maps(
    title: str, maps: npt.NDArray[np.float32], borders: Sequence[tuple[str, int]], columns: int = 3
) -> str:
    """Mean attention of every layer as a heat map, queries downwards and keys to the right.

    Args:
        maps: (layers, T, T).
        borders: the kinds in order, each with its number of tokens; kinds without tokens are left out.
    """
    kinds = [(name, count) for name, count in borders if count]
    across = min(len(maps), columns)
    down = -(-len(maps) // across)
    figure = new_figure(across, down, width=3.3 * across + 0.9, height=3.3 * down + 0.5)
    norm, colors = LogNorm(_FLOOR, max(float(maps.max()), 10 * _FLOOR)), "viridis"
    for layer, axes in enumerate(axes_of(figure)):
        if layer >= len(maps):
            axes.set_axis_off()
            continue
        # A logarithmic scale has no place for 0.
        shown = np.maximum(maps[layer], _FLOOR)
        axes.imshow(shown, cmap=colors, norm=norm, interpolation="nearest")
        _mark_kinds(axes, kinds)
        axes.set_title(f"layer {layer + 1}")
    figure.colorbar(
        ScalarMappable(norm, colors), ax=axes_of(figure), label="share of a query's attention", shrink=0.8
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return svg(figure)


def _mark_kinds(axes: Axes, kinds: Sequence[tuple[str, int]]) -> None:
    """Draw lines between the kinds, and write each name in the middle of its rows."""
    ends = np.cumsum([count for _, count in kinds])
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color="white", linewidth=1)
        axes.axvline(end - 0.5, color="white", linewidth=1)
    middles = [end - count / 2 - 0.5 for end, (_, count) in zip(ends, kinds, strict=True)]
    names = [name for name, _ in kinds]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    axes.grid(visible=False)


@in_style
def blocks(
    title: str,
    changes: Sequence[tuple[str, Sequence[Change]]],
    ranks: Sequence[tuple[str, float, Sequence[float]]],
) -> str:
    """Change of each measure when a block is cut, with 95% intervals, beside the block's effective ranks.

    Args:
        changes: measure -> its change for each block, in one order of blocks.
        ranks: block, the least that its effective rank can be, and the rank by layer; nan is left out.
    """
    count = max(len(ranks), *(len(by_block) for _, by_block in changes))
    figure = new_figure(len(changes) + 1, 1, width=3.2 * (len(changes) + 1) + 0.6, height=1.4 + 0.36 * count)
    *left, last = axes_of(figure)
    for axes, (measure, by_block) in zip(left, changes, strict=True):
        _changes(axes, measure, by_block)
    _ranks(last, ranks)
    figure.legend(*last.get_legend_handles_labels(), loc="outside lower right", ncols=4, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return svg(figure)


def _changes(axes: Axes, measure: str, by_block: Sequence[Change]) -> None:
    for height, (_, value, low, high) in enumerate(by_block):
        axes.plot([low, high], [height, height], color=COLORS[0], linewidth=2.5, alpha=0.4)
        axes.plot(value, height, "o", color=COLORS[0], markersize=6)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(title=f"{measure} without the block", xlabel="change")
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=4)
    _name_rows(axes, [name for name, *_ in by_block])


def _ranks(axes: Axes, ranks: Sequence[tuple[str, float, Sequence[float]]]) -> None:
    layers = max(len(values) for *_, values in ranks)
    thickness = 0.8 / layers
    for layer in range(layers):
        heights = np.arange(len(ranks)) - 0.4 + thickness * (layer + 0.5)
        values = [values[layer] for *_, values in ranks]
        axes.barh(heights, values, thickness, color=_shade(layer, layers), label=f"layer {layer + 1}")
    for line, (_, least, _) in enumerate(ranks):
        label = "least possible" if not line else None
        axes.plot([least, least], [line - 0.4, line + 0.4], color=COLORS[1], linewidth=2, label=label)
    axes.set_xlim(0, max([v for *_, values in ranks for v in values if v == v], default=1.0) * 1.05)
    axes.set(title="Effective rank", xlabel="share of full rank")
    _name_rows(axes, [name for name, *_ in ranks])


def _shade(layer: int, layers: int) -> Any:
    """Color of a layer, darker for deeper ones."""
    return colormaps["Blues"](0.35 + 0.6 * layer / max(layers - 1, 1))


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
