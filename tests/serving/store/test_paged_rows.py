"""Rows in pages are the rows of one sorted list, in whatever order they come."""

import random
from functools import partial

import pytest

from clickscale.serving.store.paged_rows import PagedRows, Row, filled


class Pages:
    """Pages by their number."""

    def __init__(self) -> None:
        self.held: dict[int, list[Row]] = {}

    def load(self, number: int) -> list[Row]:
        return list(self.held[number])

    def save(self, number: int, rows: list[Row] | None) -> None:
        if rows is None:
            del self.held[number]
        else:
            self.held[number] = rows


def everything(rows: PagedRows, pages: Pages) -> list[Row]:
    return list(rows.between(-(10**9), 10**9, pages.load))


@pytest.mark.parametrize("spread", [3, 400, 100_000])
@pytest.mark.parametrize("late", [0.0, 0.2, 1.0])
def test_rows_are_those_of_a_sorted_list(spread: int, late: float) -> None:
    chance, rows, pages = random.Random(0), PagedRows([], [], 0), Pages()
    expected: list[Row] = []
    for number in range(3000):
        at = chance.randrange(spread) if chance.random() < late else spread * number // 3000
        row = [at, chance.randrange(3), number]
        rows.insert(row, pages.load, pages.save)
        expected.append(row)
    expected.sort(key=lambda row: (row[0], row[1]))  # stable: equal ones in the order of their arrival
    assert everything(rows, pages) == expected
    assert len(rows) == 3000
    assert len(rows.at_hand) + len(rows.pages) < 400  # what every append writes
    low, high = spread // 4, spread // 2
    between = [row for row in expected if low <= row[0] < high]
    assert list(rows.between(low, high, pages.load)) == between
    dropped = rows.forget_beyond(1000, pages.save)
    assert everything(rows, pages) == expected[dropped:]
    assert 1000 <= len(rows) < 2000
    rows.forget_before(high, pages.save)
    assert [row for row in everything(rows, pages) if row[0] >= high] == [
        row for row in expected[dropped:] if row[0] >= high
    ]


def test_filled_rows_are_those_that_were_inserted() -> None:
    for count in (0, 1, 64, 65, 5000):
        pages = Pages()
        rows = filled([[n, 0] for n in range(count)], pages.save)
        assert everything(rows, pages) == [[n, 0] for n in range(count)]
        rows.insert([count, 0], pages.load, pages.save)
        rows.insert([-1, 0], pages.load, pages.save)
        assert everything(rows, pages) == [[n, 0] for n in range(-1, count + 1)]


def counted_up(number: int, row: Row | None) -> Row:
    return [number, 0, 1 if row is None else row[2] + 1]


def test_a_row_is_changed_where_it_lies() -> None:
    rows, pages = PagedRows([], [], 0), Pages()
    for _ in range(3):
        for number in random.Random(1).sample(range(1000), 1000):
            rows.change(number, partial(counted_up, number), pages.load, pages.save)
    assert everything(rows, pages) == [[n, 0, 3] for n in range(1000)]
