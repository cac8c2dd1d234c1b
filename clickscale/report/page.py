"""A page of results: one HTML file with its tables and plots inside, nothing loaded from elsewhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from clickscale.files import replace_text
from clickscale.report.plots import COLORS, FAINT, GRID, INK, MUTED

# Colors of plots and the names that the style of the page gives them.
_THEME = {
    **{color: f"c{index}" for index, color in enumerate(COLORS)},
    INK: "ink",
    FAINT: "axis",
    GRID: "grid",
    MUTED: "faint",
    "#ffffff": "paper",
}
_DARK = ("#7aa7ff", "#f5a35c", "#4fd1a8", "#c99bff", "#a3b0c2", "#ef8bf0")  # of `COLORS`, on a dark page
_LONG = 60  # characters of a cell that may be broken into lines
_BROAD = 500  # points of width from which a plot has a row of its own


@dataclass(frozen=True)
class PageTable:
    """Headers and texts (what follows a line break is small print); columns of numbers are aligned right.

    Attributes:
        strong: (row, column) of the cells that stand out.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()

    @property
    def right(self) -> list[bool]:
        """True for each column of numbers after the first, which is aligned to the right."""
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.headers)
        return [index > 0 and all(_numeric(text) for text in column) for index, column in enumerate(columns)]

    def classes(self, row: int, column: int) -> str:
        """Names of the styles of a cell."""
        kinds = ("number" if self.right[column] else "", "strong" if (row, column) in self.strong else "")
        long = len(self.rows[row][column]) > _LONG
        return " ".join(filter(None, (*kinds, "text" if long else "")))


def _numeric(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "+-±<"


@dataclass(frozen=True)
class Tile:
    """One number at the top of a page: its title, its value, and small print."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Section:
    """A titled box: a sentence, tables, plots (SVG text), preformatted texts, and a note in small print.

    Attributes:
        warnings: sentences that stand out below the first one.
        plots_first: the plots stand above the tables.
    """

    title: str
    text: str
    tables: Sequence[PageTable] = ()
    plots: Sequence[str] = ()
    code: Sequence[str] = ()
    note: str = ""
    plots_first: bool = False
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """Content of a page, from top to bottom."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str
    tiles: Sequence[Tile] = ()


def _themed(plot: str) -> str:
    """A plot whose colors are those of the theme of the page, marked if it is broad."""
    for color, name in _THEME.items():
        plot = re.sub(color, f"var(--{name})", plot, flags=re.IGNORECASE)
    return plot


def _is_broad(plot: str) -> bool:
    """True for a plot that needs the whole width of the page."""
    width = re.search(r'<svg[^>]* width="([0-9.]+)pt"', plot)
    return width is not None and float(width[1]) > _BROAD


def _render(page: Page) -> str:
    """HTML of a page; everything but the plots is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickscale.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["themed"] = _themed
    environment.tests["broad"] = _is_broad
    colors = [
        (f"c{index}", light, dark) for index, (light, dark) in enumerate(zip(COLORS, _DARK, strict=True))
    ]
    return environment.get_template("page.html").render(page=page, colors=colors)


def write_page(page: Page, path: Path) -> None:
    """Write a page to a file."""
    replace_text(path, _render(page))
