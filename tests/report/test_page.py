import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

from clickscale.report.page import Page, PageTable, Section, Tile, _render, write_page

PAGE = Page(
    title="A & B",
    subtitle="<i>sub</i>",
    sections=[
        Section(
            "Numbers",
            "What <they> are.",
            tables=[PageTable(("name", "AUC"), [("a<b", "0.5000\n[0.4, 0.6]"), ("c", "-")])],
            plots=["<svg id='plot'></svg>"],
            code=["clickscale score <x>"],
        ),
        Section("Empty", "Nothing."),
    ],
    footer="the end",
)


def test_everything_but_the_plots_is_escaped() -> None:
    html = _render(PAGE)
    assert "<svg id='plot'></svg>" in html
    assert "A &amp; B" in html
    assert "<i>sub</i>" not in html
    assert "clickscale score &lt;x&gt;" in html
    assert "a&lt;b" in html


def test_columns_of_numbers_stand_right_and_small_print_below() -> None:
    html = _render(PAGE)
    assert '<td class="number">0.5000<small>[0.4, 0.6]</small></td>' in html
    assert '<td class="number">-</td>' in html
    assert "<td>c</td>" in html
    assert PageTable(("a", "b"), []).right == [False, True]


def test_the_page_loads_nothing_from_elsewhere_and_closes_what_it_opens(tmp_path: Path) -> None:
    write_page(PAGE, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"(src|href)=|https?://|@import|url\(", html)
    balance = _Balance()
    balance.feed(html)
    assert balance.open == []


class _Balance(HTMLParser):
    """Tags that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_plots_take_the_colors_of_the_theme_and_broad_ones_a_row() -> None:
    plot = '<svg width="600pt"><path style="fill: #2563EB; stroke: #1f2937"/><path fill="#ffffff"/></svg>'
    small = '<svg width="432pt"></svg>'
    html = _render(dataclasses.replace(PAGE, sections=[Section("Plots", "", plots=[plot, small])]))
    assert 'style="fill: var(--c0); stroke: var(--ink)"' in html
    assert 'fill="var(--paper)"' in html
    assert html.count('<div class="broad">') == 1
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_tiles_strong_cells_and_notes_are_shown() -> None:
    table = PageTable(("name", "AUC", "why"), [("a", "0.5", "x" * 80)], frozenset({(0, 1)}))
    section = Section("Numbers", "", tables=[table], note="Small print.")
    page = dataclasses.replace(PAGE, sections=[section], tiles=[Tile("Best", "0.5", "of one")])
    html = _render(page)
    assert '<td class="number strong">0.5</td><td class="text">' in html
    assert "<span>Best</span><b>0.5</b><small>of one</small>" in html
    assert '<p class="note">Small print.</p>' in html


def test_plots_stand_above_the_tables_where_a_section_says_so() -> None:
    table = PageTable(("model",), [["din"]])
    below = Section("Plots", "", tables=[table], plots=["<svg/>"])
    html = [
        _render(dataclasses.replace(PAGE, sections=[section])).partition("<main>")[2]
        for section in (below, dataclasses.replace(below, plots_first=True))
    ]
    assert html[0].index("<table") < html[0].index("<svg")
    assert html[1].index("<svg") < html[1].index("<table")


def test_warnings_stand_below_the_sentence_escaped() -> None:
    section = Section("Results", "Best: din.", warnings=["few <steps>", "PCOC is 3"])
    html = _render(dataclasses.replace(PAGE, sections=[section]))
    assert html.count('<p class="warning">') == 2
    assert html.index("Best: din.") < html.index("few &lt;steps&gt;") < html.index("PCOC is 3")
