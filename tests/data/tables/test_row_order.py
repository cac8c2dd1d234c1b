"""Times in the order of the rows."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.tables.row_order import RowOrder


def by_hand(users: list[str], clock: list[int]) -> list[int]:
    """Each row of a user comes after the one before, or at its own later time."""
    last: dict[str, tuple[int, int]] = {}
    refined = []
    for user, time in zip(users, clock, strict=True):
        seen, new = last.get(user, (time + 1, 0))
        refined.append(max(time, new + 1) if seen <= time else time)
        last[user] = (time, refined[-1])
    return refined


@pytest.mark.parametrize("seed", range(40))
def test_no_row_of_a_user_comes_before_the_one_above_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    clock = random.integers(0, 12, count)
    clock = np.sort(clock) if seed % 2 else clock
    users = [f"u{n}" for n in random.integers(0, 4, count)]
    cuts = [0, *np.sort(random.integers(0, count + 1, 2)).tolist(), count]
    order, found = RowOrder(), []
    for start, stop in pairwise(cuts):
        found += order(pa.array(users[start:stop], pa.string()), pa.array(clock[start:stop])).to_pylist()
    assert found == by_hand(users, clock.tolist())


def test_rows_without_a_user_or_a_time_stay_as_they_are() -> None:
    refined = RowOrder()(pa.array(["a", None, "a", "a"]), pa.array([5, 5, None, 5]))
    assert refined.to_pylist() == [5, 5, None, 6]


def test_an_absurd_time_moves_no_other_user() -> None:
    clock = [5, 5_000_000_000_000, 4_000_000_000_000_000_000, 7, 7, 9]
    refined = RowOrder()(pa.array(["a", "a", "b", "c", "c", "d"]), pa.array(clock))
    assert refined.to_pylist() == [*clock[:4], 8, 9]
