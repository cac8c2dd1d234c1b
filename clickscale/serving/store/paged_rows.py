"""Rows in the order of a number, most of which come at the end: the newest at hand, the others in pages.

One record holds the newest rows and a list of the pages; each page is a record of its own. So an append
rewrites the newest rows only, however many there are, and a read of the newest touches one record or two.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

Row = list[Any]  # the number by which rows are ordered comes first
Load = Callable[[int], list[Row]]
Save = Callable[[int, list[Row] | None], None]

_AT_HAND = 128  # rows; half of them become a page when there are more
_PAGE = 256  # rows of a page, which is divided when there are more


class Page(msgspec.Struct, array_like=True):
    """One page of older rows.

    Attributes:
        first, last: smallest and largest number of its rows.
    """

    first: int
    last: int
    number: int
    count: int


class PagedRows(msgspec.Struct, array_like=True):
    """Rows in order: those of the pages, then those at hand.

    Attributes:
        next: number of the next page; numbers are not used twice.
    """

    at_hand: list[Row] = []
    pages: list[Page] = []
    next: int = 0

    def __len__(self) -> int:
        return len(self.at_hand) + sum(page.count for page in self.pages)

    @property
    def oldest(self) -> int | None:
        """Smallest number."""
        if self.pages:
            return self.pages[0].first
        return _number(self.at_hand[0]) if self.at_hand else None

    def insert(self, row: Row, load: Load, save: Save) -> None:
        """Place a row after those of the same number."""
        if self._is_older(row[0]):
            self._insert_in_page(row, load, save)
            return
        self.at_hand.insert(bisect_right(self.at_hand, row[0], key=_number), row)
        if len(self.at_hand) > _AT_HAND:
            self._spill(save)

    def change(self, number: int, update: Callable[[Row | None], Row], load: Load, save: Save) -> None:
        """Replace the row of a number, or make it if it is not there; of rows with distinct numbers."""
        held = next(iter(self.between(number, number + 1, load)), None)
        row = update(held)
        if held is None:
            self.insert(row, load, save)
        elif self.at_hand and number >= self.at_hand[0][0]:
            self.at_hand[bisect_left(self.at_hand, number, key=_number)] = row
        else:
            page = next(page for page in self.pages if page.first <= number <= page.last)
            rows = load(page.number)
            rows[bisect_left(rows, number, key=_number)] = row
            save(page.number, rows)

    def between(self, low: int, high: int, load: Load) -> Iterator[Row]:
        """Yield the rows with low <= number < high, in order."""
        for page in self.pages_between(low, high):
            rows = load(page.number)
            yield from rows[bisect_left(rows, low, key=_number) : bisect_left(rows, high, key=_number)]
        rows = self.at_hand
        if rows and rows[0][0] < high and low <= rows[-1][0]:
            yield from rows[bisect_left(rows, low, key=_number) : bisect_left(rows, high, key=_number)]

    def pages_between(self, low: int, high: int) -> list[Page]:
        """List the pages that may have rows with low <= number < high."""
        return [page for page in self.pages if page.first < high and low <= page.last]

    def forget_before(self, number: int, save: Save) -> None:
        """Drop rows before a number; those of a page only when all of them are."""
        while self.pages and self.pages[0].last < number:
            save(self.pages.pop(0).number, None)
        if not self.pages and self.at_hand and self.at_hand[0][0] < number:
            del self.at_hand[: bisect_left(self.at_hand, number, key=_number)]

    def forget_beyond(self, most: int, save: Save) -> int:
        """Drop the oldest pages of rows that exceed the newest ``most``; the number of rows dropped."""
        dropped, held = 0, len(self) if self.pages else 0
        while self.pages and held - dropped - self.pages[0].count >= most:
            page = self.pages.pop(0)
            save(page.number, None)
            dropped += page.count
        return dropped

    def _is_older(self, number: int) -> bool:
        return bool(self.pages) and number < self.pages[-1].last

    def _spill(self, save: Save) -> None:
        """Make a page of the older half of the rows at hand."""
        half = _AT_HAND // 2
        self._add_page(len(self.pages), self.at_hand[:half], save)
        del self.at_hand[:half]

    def _add_page(self, position: int, rows: list[Row], save: Save) -> None:
        self.pages.insert(position, Page(rows[0][0], rows[-1][0], self.next, len(rows)))
        save(self.next, rows)
        self.next += 1

    def _insert_in_page(self, row: Row, load: Load, save: Save) -> None:
        at = max(bisect_right(self.pages, row[0], key=lambda page: page.first) - 1, 0)
        page = self.pages[at]
        rows = load(page.number)
        rows.insert(bisect_right(rows, row[0], key=_number), row)
        if len(rows) > _PAGE:
            self._add_page(at + 1, rows[_PAGE // 2 :], save)
            rows = rows[: _PAGE // 2]
        save(page.number, rows)
        self.pages[at] = Page(rows[0][0], rows[-1][0], page.number, len(rows))


def filled(rows: list[Row], save: Save) -> PagedRows:
    """Rows that are in order already, such as those of a data set."""
    paged, split = PagedRows([], [], 0), max(len(rows) - _AT_HAND // 2, 0)
    for start in range(0, split, _PAGE // 2):
        paged._add_page(len(paged.pages), rows[start : min(start + _PAGE // 2, split)], save)
    paged.at_hand = rows[split:]
    return paged


def _number(row: Row) -> int:
    return int(row[0])
