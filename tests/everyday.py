"""Choose the cases that a test tries every day; the others are ``wide``, and CI runs them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

# One of each way to keep and to read a history: recurrent, by attention to the candidate, by transformer
# blocks, by search.
SAMPLE = ("dien", "din", "est", "lightsuan", "sim", "suan")


def sampled(cases: Iterable[str | Sequence[Any]]) -> list[Any]:
    """Parameters of a test, each a model or a tuple that begins with one; the sample is everyday."""
    rows = [(case,) if isinstance(case, str) else tuple(case) for case in cases]
    return [pytest.param(*row, marks=[] if row[0] in SAMPLE else pytest.mark.wide) for row in rows]


def thinned(
    names: str | Sequence[str],
    cases: Iterable[Any],
    every: int = 3,
    ids: Callable[[Any], str] | Sequence[str] | None = None,
) -> pytest.MarkDecorator:
    """Do what `pytest.mark.parametrize` does; the first of so many cases is everyday."""
    alone = isinstance(names, str) and "," not in names
    parameters = [
        pytest.param(*((case,) if alone else case), marks=pytest.mark.wide if number % every else [])
        for number, case in enumerate(cases)
    ]
    return pytest.mark.parametrize(names, parameters, ids=ids)
