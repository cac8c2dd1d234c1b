"""A page of results: one HTML file with its tables and plots inside, nothing loaded from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from clickscale.files import replace_text


@dataclass(frozen=True)
class PageTable:
    """Headers and texts (what follows a line break is small print); columns of numbers are aligned right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def right(self) -> list[bool]:
        """True for each column of numbers after the first, which is aligned to the right."""
        columns = list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.headers)
        return [index > 0 and all(_numeric(text) for text in column) for index, column in enumerate(columns)]


def _numeric(text: str) -> bool:
    return text[:1].isdigit() or text[:1] in "+-±<"


@dataclass(frozen=True)
class Section:
    """A titled box: a sentence, then tables, plots (SVG text) and preformatted texts."""

    title: str
    text: str
    tables: Sequence[PageTable] = ()
    plots: Sequence[str] = ()
    code: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """Content of a page, from top to bottom."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    footer: str


def _render(page: Page) -> str:
    """HTML of a page; everything but the plots is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickscale.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write a page to a file."""
    replace_text(path, _render(page))
