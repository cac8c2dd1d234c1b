"""Conditions such as ``rating >= 4`` or ``action == buy``, which make a label from a column."""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Bytes, Floats
from clickscale.data.features.ratings import plain_ratings
from clickscale.data.features.texts import FINE, is_text, read_texts
from clickscale.data.features.values import read_numbers, truth_numbers
from clickscale.data.tables.casts import numbers
from clickscale.data.tables.paths import is_list
from clickscale.errors import InputError, SchemaError

_FORM = re.compile(r"\s*(?P<column>[^<>=!]+?)\s*(?P<sign>==|!=|>=|<=|=|>|<)\s*(?P<literal>[^<>=!\s].*?)\s*\Z")
_SHOWN = 3  # values of a column in a message
_LONGEST = 80  # letters of a list in a message
_FEW_ROWS = 20  # so few may all fail a condition by chance
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
    """A column compared with a number or a text, by value.

    Texts such as ``True``, ``yes`` and ``t`` are 1 where the literal is a number, ``true`` or ``false``, and
    of ratings such as ``4 of 5`` or ``★★★★☆`` what was given counts (`plain_ratings`). A
    quoted literal, or one that is not a number, compares with texts as it stands, with ``==`` or ``!=`` only.
    The empty text ``''`` is every missing value, so ``click_time != ''`` holds where there is one.
    """

    column: str
    sign: str
    literal: float | str

    def evaluate(self, values: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Return an int8 array of 0 and 1 (null for a missing value), and a mask of unreadable values.

        Raises:
            InputError: the values are lists or objects, which compare with ``''`` only.
        """
        literal: float | str = self.literal
        if pa.types.is_nested(values.type) and literal != "":
            raise InputError(self._of_lists(values))
        if isinstance(literal, str) and not is_text(values.type):
            literal = _literal(literal)  # a column of numbers or truth values has no texts to compare with
        if literal == "":
            missing = (values if pa.types.is_nested(values.type) else read_texts(values)[0]).is_null()
            return (pc.invert(missing) if self.sign == "!=" else missing).cast(pa.int8()), np.zeros(
                len(values), bool
            )
        if isinstance(literal, str):
            outcome = pc.equal(read_texts(values)[0], literal)
            outcome = outcome if self.sign != "!=" else pc.invert(outcome)
            return outcome.cast(pa.int8()), np.zeros(len(values), bool)
        known, problems = _numbers(values)
        outcome = _SIGNS[self.sign](known, literal).astype(np.int8)
        return pa.array(outcome, mask=np.isnan(known)), problems != FINE

    def _of_lists(self, values: pa.Array) -> str:
        shown = next((repr(value) for value in values.slice(0, 1 << 10).to_pylist() if value), "none")
        if len(shown) > _LONGEST:
            shown = f"{shown[:_LONGEST]} ..."
        way = "name the value inside, such as context.device"
        if is_list(values.type):
            way = "unnest = 'events' makes a row of each object in the lists of such a column"
        said = f"Condition {str(self)!r}: column {self.column!r} has no single values, but such as"
        return f"{said} {shown}; {way}."

    def __str__(self) -> str:
        literal = repr(self.literal) if isinstance(self.literal, str) else f"{self.literal:g}"
        return f"{self.column} {self.sign} {literal}"


def _numbers(values: pa.Array) -> tuple[Floats, Bytes]:
    """Read numbers, ratings and words for true and false; return NaN where missing, and problem codes."""
    known = numbers(values)
    if is_text(known.type):
        coded = known.dictionary_encode()
        known = plain_ratings(truth_numbers(coded.dictionary)).take(coded.indices)
    return read_numbers(known)


@dataclass
class Tally:
    """Count of the rows that fulfill a condition, to notice one that hardly any row does.

    Attributes:
        where: place of the condition in the description of the log.
        what: how messages call the table.
    """

    where: str
    what: str
    condition: Condition
    _rows: int = 0
    _kept: int = 0
    _seen: dict[str, None] = field(default_factory=dict)

    def evaluate(self, values: pa.Array) -> tuple[pa.Array, np.ndarray[Any, Any]]:
        """Evaluate the condition on the rows of a chunk (see `Condition.evaluate`), and count them."""
        outcome, bad = self.condition.evaluate(values)
        self._add(outcome, values)
        return outcome, bad

    def _add(self, outcome: pa.Array, values: pa.Array) -> None:
        self._rows += len(outcome)
        self._kept += pc.sum(outcome).as_py() or 0
        if len(self._seen) < _SHOWN:
            few = values.slice(0, 1 << 10).drop_null()
            distinct = few if pa.types.is_nested(few.type) else few.unique()  # Arrow compares no lists
            self._seen.update(dict.fromkeys(repr(value) for value in distinct.to_pylist()))

    def findings(self) -> Iterator[str]:
        """Say that hardly any row fulfills the condition.

        Raises:
            InputError: no row does.
        """
        if self._rows < _FEW_ROWS or 100 * self._kept >= self._rows:
            return
        values = ", ".join(list(self._seen)[:_SHOWN]) or "no value at all"
        counts = f"{self._kept:,} of {self._rows:,} rows of {self.what}"
        said = f'{self.where} "{self.condition}" holds for {counts}'
        if not self._kept:
            raise InputError(
                f"{said}: column {self.condition.column!r} has {values}. Compare with a value that it has."
            )
        yield f"WARNING: {said}; column {self.condition.column!r} has {values}."


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
