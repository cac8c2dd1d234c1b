"""Rows in the order of their first two numbers: the newest at hand, the others in pages.

One record holds the newest rows and a list of the pages; each page is a record of its own. So an append
rewrites the newest rows only, however many there are, and a read of the newest touches one record or two.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import msgspec

Row = list[Any]  # begins with the number by which rows are ordered, and a second one for equal numbers
Load = Callable[[int], list[Row]]
Save = Callable[[int, list[Row] | None], None]

_number, _place = itemgetter(0), itemgetter(0, 1)
_HALF = 64  # rows at hand that become a page, once there are twice as many; more if there are many pages


class Page(msgspec.Struct, array_like=True):
    """One page of older rows.

    Attributes:
        first, last: numbers of its first and its last row.
    """

    first: tuple[int, int]
    last: tuple[int, int]
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
            return self.pages[0].first[0]
        return int(self.at_hand[0][0]) if self.at_hand else None

    def insert(self, row: Row, load: Load, save: Save) -> None:
        """Place a row after those of the same numbers."""
        if self.pages and _place(row) < self.pages[-1].last:
            self._insert_in_page(row, load, save)
            return
        self.at_hand.insert(bisect_right(self.at_hand, _place(row), key=_place), row)
        # Pages of sqrt(n) rows: the list of pages and the rows at hand, both rewritten, stay short.
        half = max(_HALF, len(self.pages))
        if len(self.at_hand) > 2 * half:
            self._add_page(len(self.pages), self.at_hand[:half], save)
            del self.at_hand[:half]

    def change(self, number: int, update: Callable[[Row | None], Row], load: Load, save: Save) -> None:
        """Replace the row of a number, or make it if it is not there; where first numbers differ."""
        held = next(iter(self.between(number, number + 1, load)), None)
        row = update(held)
        if held is None:
            self.insert(row, load, save)
        elif self.at_hand and number >= self.at_hand[0][0]:
            self.at_hand[bisect_left(self.at_hand, number, key=_number)] = row
        else:
            page = next(page for page in self.pages if page.first[0] <= number <= page.last[0])
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
        return [page for page in self.pages if page.first[0] < high and low <= page.last[0]]

    def forget_before(self, number: int, save: Save) -> None:
        """Drop rows before a number; those of a page only when all of them are."""
        while self.pages and self.pages[0].last[0] < number:
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

    def _add_page(self, position: int, rows: list[Row], save: Save) -> None:
        self.pages.insert(position, Page(_place(rows[0]), _place(rows[-1]), self.next, len(rows)))
        save(self.next, rows)
        self.next += 1

    def _insert_in_page(self, row: Row, load: Load, save: Save) -> None:
        at = max(bisect_right(self.pages, _place(row), key=lambda page: page.first) - 1, 0)
        page = self.pages[at]
        rows = load(page.number)
        rows.insert(bisect_right(rows, _place(row), key=_place), row)
        if len(rows) > 4 * max(_HALF, len(self.pages)):
            half = len(rows) // 2
            self._add_page(at + 1, rows[half:], save)
            rows = rows[:half]
        save(page.number, rows)
        self.pages[at] = Page(_place(rows[0]), _place(rows[-1]), page.number, len(rows))


def filled(rows: list[Row], save: Save) -> PagedRows:
    """Rows that are in order already, such as those of a data set."""
    paged, split = PagedRows([], [], 0), max(len(rows) - _HALF, 0)
    together = max(_HALF, int(split**0.5))
    for start in range(0, split, together):
        paged._add_page(len(paged.pages), rows[start : min(start + together, split)], save)
    paged.at_hand = rows[split:]
    return paged
