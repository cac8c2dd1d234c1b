"""Conditions such as ``rating >= 4`` or ``action == buy``, which make a label from a column."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.tables.casts import numbers, readable_numbers
from clickscale.errors import SchemaError

_FORM = re.compile(r"\s*(?P<column>[^<>=!]+?)\s*(?P<sign>==|!=|>=|<=|=|>|<)\s*(?P<literal>[^<>=!\s].*?)\s*\Z")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Condition:
    """A column compared with a number or a text.

    A quoted literal, or one that is not a number, compares as text, with ``==`` or ``!=`` only.
    """

    column: str
    sign: str
    literal: float | str

    def evaluate(self, values: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Return an int8 array of 0 and 1 (null for a missing value), and a mask of unreadable values."""
        compare = _SIGNS[self.sign]
        if isinstance(self.literal, str):
            known = values.cast(pa.string())
            outcome = pc.equal(known, self.literal)
            return (outcome if self.sign != "!=" else pc.invert(outcome)).cast(pa.int8()), np.zeros(
                len(values), bool
            )
        known = numbers(values)
        known = known if pa.types.is_floating(known.type) else readable_numbers(values)
        outcome = compare(known.to_numpy(zero_copy_only=False), self.literal).astype(np.int8)
        missing = pc.or_kleene(pc.is_null(known), pc.is_nan(known).fill_null(True)).to_numpy(
            zero_copy_only=False
        )
        bad = missing & values.is_valid().to_numpy(zero_copy_only=False)
        return pa.array(outcome, mask=missing), bad


def parse_condition(text: str) -> Condition:
    """Parse ``column sign literal``.

    Raises:
        SchemaError: the text has another form, or orders a text.
    """
    match = _FORM.match(text)
    if match is None:
        raise SchemaError(
            f"Cannot read the condition {text!r}; write it as 'rating >= 4' or 'action == buy'."
        )
    literal = _literal(match["literal"])
    sign = match["sign"]
    if isinstance(literal, str) and sign not in ("==", "=", "!="):
        raise SchemaError(
            f"Condition {text!r} orders the text {literal!r}; texts compare with == or != only."
        )
    return Condition(match["column"].strip("'\"`"), sign, literal)


def _literal(text: str) -> float | str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return text
