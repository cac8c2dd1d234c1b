"""Plots of results as SVG text that a page can hold, in one clean style.

Every function takes numbers and returns ``<svg ...>``; `save_svg` writes one to a file instead.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from clickscale.files import replace_text
from clickscale.report.results import Result

COLORS = ("#2563eb", "#dc6803", "#0f9d76", "#9333ea", "#64748b", "#c026d3")
INK, FAINT, GRID, MUTED = "#1f2937", "#d1d5db", "#eef0f3", "#8a8f98"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "clickscale",
}
_DOTS = 200  # per inch of a PNG
# Fonts for names in other scripts, of Linux, Windows and macOS, as far as a machine has them.
_WIDE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Microsoft YaHei", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans GB", "Apple SD Gothic Neo", "Noto Sans Devanagari", "Noto Sans Arabic"),
    "Arial Unicode MS",
)
in_style = matplotlib.rc_context(_STYLE)


@in_style
def accuracy(results: Sequence[Result], measure: str, title: str) -> str:
    """A measure of every model with its 95% interval, best AUC on top.

    Args:
        measure: ``auc`` or ``gauc``.
    """
    results = sorted(results, key=lambda result: result.auc.value)
    figure = new_figure(1, 1, width=6.0, height=0.9 + 0.42 * len(results))
    (axes,) = axes_of(figure)
    for height, result in enumerate(results):
        interval = getattr(result, measure)
        if np.isnan(interval.value):
            continue  # nothing to draw, and no "nan" to write
        color = color_of(result.name, [r.name for r in results])
        axes.plot([interval.low, interval.high], [height, height], color=color, linewidth=2.5, alpha=0.45)
        axes.plot(interval.value, height, "o", color=color, markersize=7)
        axes.annotate(
            f"{interval.value:.4f}",
            (interval.value, height),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(results)), [result.name for result in results])
    axes.set_ylim(-0.6, len(results) - 0.3)
    axes.set_title(title)
    axes.grid(axis="y", visible=False)
    return svg(figure)


@in_style
def calibration(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Share of positives against mean prediction, a point per equally large bin; the diagonal is perfect."""
    figure = new_figure(1, 1, width=6.0, height=4.0)
    (axes,) = axes_of(figure)
    top = max((max([*x, *y]) for x, y in curves.values()), default=1.0)
    axes.plot([0, top], [0, top], color=FAINT, linewidth=1.5)
    for name, (predicted, observed) in curves.items():
        axes.plot(
            predicted, observed, "o-", color=color_of(name, curves), label=name, markersize=4, linewidth=1.5
        )
    axes.set(
        title="Calibration",
        xlabel="mean predicted probability (tenths of the impressions)",
        ylabel="share of positives",
    )
    axes.legend()
    return svg(figure)


@in_style
def slices(title: str, xlabel: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """AUC per slice, one line per model; slices without both classes are left out."""
    figure = new_figure(1, 1, width=6.0, height=4.0)
    (axes,) = axes_of(figure)
    names = list(dict.fromkeys(name for slice_of in values.values() for name in slice_of))
    for model, by_slice in values.items():
        heights = [by_slice.get(name, float("nan")) for name in names]
        axes.plot(range(len(names)), heights, "o-", color=color_of(model, values), label=model, markersize=5)
    axes.set_xticks(range(len(names)), names)
    axes.set(title=title, xlabel=xlabel, ylabel="AUC")
    axes.legend()
    return svg(figure)


@in_style
def learning(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Training loss against impressions seen, smoothed over a twentieth of the run."""
    figure = new_figure(1, 1, width=6.0, height=4.0)
    (axes,) = axes_of(figure)
    for name, (seen, loss) in curves.items():
        axes.plot(seen, _smooth(np.asarray(loss)), color=color_of(name, curves), label=name, linewidth=1.8)
    axes.set(title="Training loss", xlabel="impressions seen", ylabel="log-loss, running mean")
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.legend()
    return svg(figure)


@in_style
def validation(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """Log-loss of the validation part against impressions seen, a point per measurement."""
    figure = new_figure(1, 1, width=6.0, height=4.0)
    (axes,) = axes_of(figure)
    for name, (seen, loss) in curves.items():
        axes.plot(seen, loss, "o-", color=color_of(name, curves), label=name, linewidth=1.5, markersize=4)
    axes.set(title="Validation loss", xlabel="impressions seen", ylabel="log-loss of the validation part")
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.legend()
    return svg(figure)


def _smooth(values: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Mean of the last twentieth of the run at every point."""
    # Running sums instead of a convolution: the first points average what there is.
    span = max(len(values) // 20, 1)
    total = np.cumsum(np.insert(values, 0, 0.0))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - span, 0)
    return np.asarray((total[end] - total[start]) / (end - start))


def save_svg(text: str, path: Path) -> None:
    """Write one plot to a file."""
    replace_text(path, text)


def color_of(name: str, names: Mapping[str, Any] | Sequence[str]) -> str:
    """Color of a model: the same in every plot that shows the same models."""
    return COLORS[sorted(names).index(name) % len(COLORS)]


def new_figure(
    columns: int, rows: int, width: float = 9.6, height: float = 4.2, same_y: bool = False
) -> Figure:
    """A figure of ``columns * rows`` axes, in inches; ``same_y``: all show the same range of y."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.subplots(rows, columns, squeeze=False, sharey=same_y)
    return figure


def axes_of(figure: Figure) -> list[Axes]:
    """Axes of a figure, row by row."""
    return list(figure.axes)


class Drawing(str):
    """SVG text of a figure, which can also be drawn as PNG.

    Attributes:
        figure: the figure that the text shows.
    """

    figure: Figure

    def png(self) -> bytes:
        """The figure as PNG on white."""
        stream = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            save_figure(self.figure, stream, dpi=_DOTS)
        return stream.getvalue()


def save_figure(figure: Figure, to: Path | io.BytesIO, dpi: int) -> None:
    """Draw a figure with the fonts of this machine, those of other scripts included.

    Args:
        to: file, whose suffix (``.svg``, ``.png``, ``.pdf``) chooses the format; a stream gets a PNG.
    """
    here = fontManager.get_font_names()
    fonts = ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in here)]
    for text in figure.findobj(Text):
        text.set_fontfamily(fonts)
    with _quiet_fonts():
        if isinstance(to, Path):
            figure.savefig(to, dpi=dpi, facecolor="white")
        else:
            figure.set_dpi(dpi)
            FigureCanvasAgg(figure).print_png(to, metadata={"Software": None})  # type: ignore[no-untyped-call]


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Let signs pass that no font here has, in bold or at all: an SVG is shown by the fonts of its reader."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
            yield
    finally:
        log.setLevel(level)


def svg(figure: Figure) -> str:
    """SVG text without the XML header, deterministic; a `Drawing`."""
    stream = io.StringIO()
    # No metadata: their namespaces look like addresses on the web.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _quiet_fonts():
        # Figure.savefig draws everything twice, as if one drawing could not find the place of each part.
        FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)  # type: ignore[no-untyped-call]
    text = stream.getvalue()
    drawing = Drawing(text[text.index("<svg") :])
    drawing.figure = figure
    return drawing
