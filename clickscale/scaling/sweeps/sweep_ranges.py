"""Axes of a sweep as text: lists with commas and ranges, such as ``size-1..size-4`` and ``1/64..1``."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TypeVar

from clickscale.errors import ConfigError

T = TypeVar("T")


def sizes_of(text: str) -> tuple[str, ...]:
    """Sizes of a text such as ``size-1..size-4`` or ``size-1,size-3``.

    Raises:
        ConfigError: the text holds none, or a range is not one of sizes.
    """
    return _axis("--sizes", text, str, _sizes_between, "size-1..size-4 or size-1,size-3")


def lengths_of(text: str) -> tuple[int, ...]:
    """Lengths of a text such as ``10,25,50`` or ``25..200``, whose steps double.

    Raises:
        ConfigError: a part is not a whole number of at least 1, or doubling does not lead to the end.
    """

    def value(part: str) -> int:
        if not part.isascii() or not part.isdigit() or int(part) < 1:
            raise ValueError("is not a whole number of at least 1")
        return int(part)

    def between(low: str, high: str) -> Iterator[int]:
        return (int(one) for one in _doubled(Fraction(value(low)), Fraction(value(high))))

    return _axis("--lengths", text, value, between, "10,25,50 or 25..200")


def fractions_of(text: str) -> tuple[float, ...]:
    """Fractions of a text such as ``1/64..1``, whose steps double, or ``0.1,1/2,1``.

    Raises:
        ConfigError: a part is not a number above 0 and at most 1, or doubling does not lead to the end.
    """

    def exact(part: str) -> Fraction:
        try:
            found = Fraction(part)
        except (ValueError, ZeroDivisionError):
            raise ValueError("is not a number such as 0.25 or 1/4") from None
        if not 0 < found <= 1:
            raise ValueError("is not above 0 and at most 1")
        return found

    def between(low: str, high: str) -> Iterator[float]:
        return (float(one) for one in _doubled(exact(low), exact(high)))

    return _axis("--fractions", text, lambda part: float(exact(part)), between, "1/64..1 or 0.1,0.5,1")


def _axis(
    flag: str,
    text: str,
    value: Callable[[str], T],
    between: Callable[[str, str], Iterator[T]],
    examples: str,
) -> tuple[T, ...]:
    """Values of a list of values and ranges, each once, as they are named."""
    found: list[T] = []
    for part in (piece.strip() for piece in text.split(",") if piece.strip()):
        low, dots, high = (side.strip() for side in part.partition(".."))
        try:
            found += between(low, high) if dots else [value(part)]
        except ValueError as error:
            raise ConfigError(f"{flag} is {text!r}, and {part!r} {error}; write {examples}.") from error
    if not found:
        raise ConfigError(f"{flag} is {text!r}, which names nothing; write {examples}.")
    return tuple(dict.fromkeys(found))


def _sizes_between(low: str, high: str) -> Iterator[str]:
    first, last = re.fullmatch(r"size-(\d+)", low), re.fullmatch(r"size-(\d+)", high)
    if not first or not last or int(first[1]) > int(last[1]):
        raise ValueError("is not a range from a size to a larger one")
    return (f"size-{number}" for number in range(int(first[1]), int(last[1]) + 1))


def _doubled(low: Fraction, high: Fraction) -> Iterator[Fraction]:
    """Values from ``low`` to ``high``, each twice the one before."""
    ratio = high / low
    if ratio.denominator != 1 or ratio.numerator & (ratio.numerator - 1):
        raise ValueError(f"does not end where doubling {low} leads to")
    return (low * 2**step for step in range(ratio.numerator.bit_length()))
