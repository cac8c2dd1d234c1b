"""Texts that the pages of experiments share: tables, numbers, and documents without numbers like nan."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clickscale.evaluation.significance import Interval
from clickscale.report.results import with_interval


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [headers, ["---", *["--:"] * (len(headers) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_spread(interval: Interval, spread: float) -> str:
    """A value, its deviation over seeds and its interval, as far as they are defined."""
    value, *ends = with_interval(interval).split(" ", 1)
    return " ".join([value, *([] if math.isnan(spread) else [f"±{spread:.4f}"]), *ends])


def number_text(value: float | None, form: str) -> str:
    """A number by its format, a dash if it is not defined."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def finite(value: Any) -> Any:
    """A document with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
