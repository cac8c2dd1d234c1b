from collections.abc import Callable
from typing import Any

import pytest

from clickscale.errors import ConfigError
from clickscale.scaling.sweeps.sweep_ranges import fractions_of, lengths_of, sizes_of


def test_sizes_are_ranges_and_lists() -> None:
    assert sizes_of("size-1..size-4") == ("size-1", "size-2", "size-3", "size-4")
    assert sizes_of(" size-3, size-1..size-2,size-1 ") == ("size-3", "size-1", "size-2")


def test_lengths_and_fractions_double() -> None:
    assert lengths_of("25..200") == (25, 50, 100, 200)
    assert lengths_of("10, 25,500") == (10, 25, 500)
    assert fractions_of("1/64..1") == (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    assert fractions_of("0.1,1/2..1") == (0.1, 0.5, 1.0)
    assert fractions_of("0.25..1") == (0.25, 0.5, 1.0)
    assert lengths_of("7..7") == (7,)


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (
            sizes_of,
            "size-4..size-1",
            "--sizes is 'size-4..size-1', and .* a larger one; write size-1..size-4",
        ),
        (sizes_of, "size-1..big", "'size-1..big' is not a range"),
        (sizes_of, ",", "names nothing"),
        (lengths_of, "10,x", "'x' is not a whole number of at least 1; write 10,25,50 or 25..200"),
        (lengths_of, "0", "'0' is not a whole number"),
        (lengths_of, "10..50", "'10..50' does not end where doubling 10 leads to"),
        (lengths_of, "50..25", "'50..25' does not end where doubling 50"),
        (lengths_of, "10..", "'10..' is not a whole number"),
        (fractions_of, "2", "'2' is not above 0 and at most 1; write 1/64..1"),
        (fractions_of, "0", "not above 0"),
        (fractions_of, "1/0", "'1/0' is not a number such as 0.25 or 1/4"),
        (fractions_of, "1/3..1", "does not end where doubling 1/3"),
        (fractions_of, "nan", "'nan' is not a number"),
    ],
)
def test_what_is_no_axis_is_refused(read: Callable[[str], Any], text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(text)
