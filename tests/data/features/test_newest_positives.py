from pathlib import Path

import numpy as np
import pytest

from clickscale.data.features.newest_positives import Positives, write_newest_positives

DELAY = 5


def written(path: Path, memory_rows: int, delay: int, rows: list[tuple[int, int, int, int]]) -> list[int]:
    user, time, item, label = (np.array(column) for column in zip(*rows, strict=True))
    write_newest_positives(path, user, time, Positives(user, time, item, label, delay), memory_rows)
    return np.load(path).tolist()


def test_the_newest_positive_was_known_before_and_has_the_largest_id_of_its_second(tmp_path: Path) -> None:
    rows = [
        (0, 10, 7, 1),
        (0, 10, 4, 1),
        (0, 12, 9, 1),
        (0, 12, 3, 0),
        (0, 20, 5, -1),
        (1, 20, 6, 0),
        (1, 30, 8, 1),
        (1, 35, 2, 0),
        (1, 36, 2, 0),
    ]
    assert written(tmp_path / "a.npy", 100, 0, rows) == [0, 0, 7, 7, 9, 0, 0, 8, 8]
    assert written(tmp_path / "b.npy", 100, DELAY, rows) == [0, 0, 0, 0, 9, 0, 0, 0, 8]
    assert written(tmp_path / "c.npy", 100, 8, rows) == [0, 0, 0, 0, 7, 0, 0, 0, 0]


@pytest.mark.parametrize("memory_rows", [1, 2, 7])
@pytest.mark.parametrize("delay", [0, DELAY])
def test_memory_changes_nothing(memory_rows: int, delay: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    user, time = random.integers(0, 4, 60), random.integers(-20, 20, 60)
    order = np.lexsort((time, user))
    rows = list(
        zip(user[order], time[order], random.integers(2, 9, 60), random.integers(-1, 2, 60), strict=True)
    )
    whole = written(tmp_path / "whole.npy", 1000, delay, rows)
    assert written(tmp_path / "pieces.npy", memory_rows, delay, rows) == whole
    expected = []
    for who, when, *_ in rows:
        known = [(t, i) for u, t, i, label in rows if u == who and t + delay < when and label == 1]
        expected.append(max(known, default=(0, 0))[1])
    assert whole == expected
