"""Quarantine of rows that cannot be used: counts by reason, and examples that say where and why.

Every row of the log is either kept or counted here under one reason:

* ids: ``null_user``, ``null_item``, ``bad_user``, ``bad_item`` (not an integer, or with leading zeros),
  ``negative_id``, ``id_overflow``;
* times: ``null_time``, ``bad_time``, ``time_out_of_bounds``, ``time_in_milliseconds`` (and the same for
  ``known_at``, which may be null), ``known_before_time``;
* values: ``bad_label``, ``bad_value`` (of an integer field), ``bad_number``, ``non_finite``, ``bad_vector``,
  ``invalid_utf8``, ``bad_object`` (a text that begins like an object and is none);
* parts and lists of a described log: ``bad_part`` (neither train, valid nor test), ``empty_list``,
  ``uneven_lists``, ``chosen_not_shown``, ``second_list_of_user``;
* repetitions: ``duplicate`` (equal to an earlier row in every column), ``duplicate_user``,
  ``duplicate_item``, ``repeated`` (an event that an earlier list of the user has);
* negatives that would tell the label (`clickscale.data.preparation.negatives`): ``first_of_item``,
  ``too_few_items``;
* the reasons that an adapter writes into its column ``problem``.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickscale.data.layout import TableReport
from clickscale.data.preparation.records import TABLES
from clickscale.data.source import PROBLEM, PROBLEM_VALUE
from clickscale.errors import DataError

EXAMPLES = 20  # rows shown for each reason of each table
LEFT_OUT = ("first_of_item", "too_few_items")  # rows that are right, and have no fair negatives
_SHOWN = 200  # characters of a value
_HINTS = {
    "time_in_milliseconds": "; divide these times by 1000",
    "time_out_of_bounds": "; check the unit of the times, or widen time_bounds",
    "bad_time": "; times are numbers since 1970, or texts such as 2024-01-31 08:29:08 UTC",
    "bad_label": "; labels are 0, 1, true, false, yes, no or empty, anything else needs a condition",
    "bad_flag": "; flags are 0, 1, true, false, yes, no or empty; make any other column a field of its own",
    "bad_condition": "; the condition compares with a number, which this is not",
    "bad_number": "; list texts that mean a missing number under nulls, give the field a notation or a unit "
    "if its numbers are written like $1,234.5, 12,99 or 5 km, or declare the field as categorical",
    "bad_object": "; a text that begins with { or [ is an object of JSON, and this one is cut off or broken",
    "bad_row": "; check separator, quote and names of the table",
    "invalid_utf8": "; if the whole file is not UTF-8, set its encoding, such as encoding = 'latin-1'",
    "bad_item": "; for ids that are not integers declare the field as dtype 'string'",
    "bad_user": "; for ids that are not integers declare the field as dtype 'string'",
    "bad_value": "; for values that are not integers declare the field as dtype 'string'; objects are named "
    "by their path, such as column = 'context.device'",
    "first_of_item": "; its item had no earlier event, so it could never be drawn as a negative",
    "too_few_items": "; set fewer negatives, or draw them from all items",
    "uneven_lists": "; lists that are read together need one value for each entry",
    "chosen_not_shown": "; an outcome of something that was not shown has no impression",
    "second_list_of_user": "; order = 'lists' takes one list of each user, order = 'rows' takes many",
    "bad_part": "; name the parts train, valid and test",
    "negative_id": "; for negative ids declare the field as dtype 'string'",
}


class RowProblems:
    """The first problem of each row of a chunk.

    Attributes:
        index: (rows,) index into ``reasons``; 0 for rows without a problem.
        reasons: reason code and column of each problem.
    """

    def __init__(self, rows: int) -> None:
        self.index = np.zeros(rows, np.int32)
        self.reasons: list[tuple[str, str]] = [("", "")]

    def mark(self, rows: npt.NDArray[np.bool_], reason: str, column: str) -> None:
        """Give rows a reason found in a column; rows that have a reason keep it."""
        new = rows & (self.index == 0)
        if new.any():
            self.reasons.append((reason, column))
            self.index[new] = len(self.reasons) - 1

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(rows,) True for rows without a problem."""
        return np.equal(self.index, 0)


class Quarantine:
    """Counts and examples of unusable rows for every table."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {}
        self._examples: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def add_chunk(self, table: str, chunk: pa.RecordBatch, problems: RowProblems) -> None:
        """Count all rows of a chunk, and its unusable ones by reason."""
        first = self.rows[table]
        self.rows[table] += chunk.num_rows
        for index in np.unique(problems.index[problems.index > 0]):
            reason, column = problems.reasons[index]
            rows = np.flatnonzero(problems.index == index)
            examples = rows[: self._count(table, reason, len(rows))]
            for row in examples:
                self._show(table, reason, int(first + row), *_evidence(chunk, column, int(row)))

    def add(
        self, table: str, reason: str, rows: npt.NDArray[np.int64], column: str, values: list[str]
    ) -> None:
        """Count rows whose problem was found after reading; ``rows`` are their numbers in the table."""
        examples = self._count(table, reason, len(rows))
        for row, value in zip(rows[:examples].tolist(), values[:examples], strict=False):
            self._show(table, reason, row, column, value)

    def _count(self, table: str, reason: str, rows: int) -> int:
        """Count rows and return how many more examples are needed."""
        self.counts.setdefault(table, Counter())[reason] += rows
        return EXAMPLES - len(self._examples.setdefault(table, {}).setdefault(reason, []))

    def _show(self, table: str, reason: str, row: int, column: str, value: str) -> None:
        self._examples[table][reason].append({"row": row, "reason": reason, "column": column, "value": value})

    def kept(self, table: str) -> int:
        """Count the rows of a table that are not in quarantine."""
        return self.rows[table] - sum(self.counts.get(table, {}).values())

    def report(self) -> dict[str, TableReport]:
        """Summarize every table for the manifest."""
        return {
            table: TableReport(
                rows=self.rows[table],
                kept=self.kept(table),
                quarantined=dict(sorted(self.counts.get(table, {}).items())),
            )
            for table in TABLES
        }

    def write(self, folder: Path) -> None:
        """Write the examples, JSON lines in the order of the log: one file per table with unusable rows."""
        for table, reasons in self._examples.items():
            folder.mkdir(parents=True, exist_ok=True)
            examples = sorted(
                (example for shown in reasons.values() for example in shown), key=lambda e: e["row"]
            )
            lines = (json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
            (folder / f"{table}.jsonl").write_text("".join(lines), encoding="utf-8")

    def check(self, most: float) -> None:
        """Refuse a log with too many unusable impressions.

        Raises:
            DataError: no impression is left, or more than the share ``most`` is in quarantine.
        """
        rows, kept = self.rows["impressions"], self.kept("impressions")
        fair = sum(self.counts.get("impressions", Counter())[reason] for reason in LEFT_OUT)
        if kept and rows - kept - fair <= most * rows:
            return
        if not rows:
            raise DataError("The log has no impressions; check the paths and the columns of its description.")
        counts = self.counts["impressions"]
        example = {reason: self._examples["impressions"][reason][0] for reason in counts}
        raise DataError(
            f"{rows - kept} of {rows} impressions cannot be used: {_reasons(counts, example)}. "
            + (f"Raise max_quarantined (now {most:g}) to accept them." if kept else "")
        )


def _reasons(counts: Counter[str], example: Mapping[str, Mapping[str, Any]]) -> str:
    """Describe the most frequent reasons, each with its first row and a way out."""
    described = []
    for reason, count in counts.most_common(3):
        first = example[reason]
        where = f"row {first['row']}, {first['column']} = {first['value']}"
        described.append(f"{reason} {count} (such as {where}{_HINTS.get(reason, '')})")
    return ", ".join(described)


def _evidence(chunk: pa.RecordBatch, column: str, row: int) -> tuple[str, str]:
    """Return the column in which a problem lies and its raw value, as the adapter kept them if it did."""
    if column == PROBLEM and PROBLEM_VALUE in chunk.schema.names:
        kept = chunk.column(PROBLEM_VALUE)[row].as_py()
        if kept is not None:
            return kept["column"], _shortened(kept["value"])
    return column, _value(chunk.column(column), row)


def _value(column: pa.Array, row: int) -> str:
    """Show a raw value as text, even one that is not valid UTF-8."""
    try:
        value = column[row].as_py()
    except UnicodeDecodeError:
        value = column.slice(row, 1).cast(pa.binary())[0].as_py()
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
