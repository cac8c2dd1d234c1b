"""Rows that cannot be used: counted by reason, with examples that say where and why; nothing is lost.

Reasons: ``null_user``, ``null_item``, ``bad_user``, ``bad_item`` (no integer), ``negative_id``,
``id_overflow``; ``null_time``, ``bad_time``, ``time_out_of_bounds``, ``time_in_milliseconds`` (the same for
``known_at``, which may be null), ``known_before_time``; ``bad_label``; ``bad_value`` (an integer field),
``bad_number``, ``non_finite``, ``bad_vector``, ``invalid_utf8``; ``duplicate`` (equal to an earlier row in
everything), ``duplicate_user``, ``duplicate_item``; and what an adapter writes into its column ``problem``.
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
from clickscale.errors import DataError

EXAMPLES = 20  # rows shown for each reason of each table
_SHOWN = 200  # characters of a value
_HINTS = {
    "time_in_milliseconds": "; divide these times by 1000",
    "time_out_of_bounds": "; check the unit of the times, or widen time_bounds",
    "bad_label": "; labels are 0, 1, true, false or empty, anything else needs a condition",
    "bad_item": "; for ids that are not integers declare the field as dtype 'string'",
    "bad_user": "; for ids that are not integers declare the field as dtype 'string'",
    "bad_value": "; for values that are not integers declare the field as dtype 'string'",
    "negative_id": "; for negative ids declare the field as dtype 'string'",
}


class Verdict:
    """What is wrong with the rows of one chunk; the first complaint about a row stands."""

    def __init__(self, rows: int) -> None:
        self.reason = np.zeros(rows, np.int32)
        self.complaints: list[tuple[str, str]] = [("", "")]

    def blame(self, rows: npt.NDArray[np.bool_], reason: str, column: str) -> None:
        """Mark rows for a reason, found in a column."""
        fresh = rows & (self.reason == 0)
        if fresh.any():
            self.complaints.append((reason, column))
            self.reason[fresh] = len(self.complaints) - 1

    @property
    def fine(self) -> npt.NDArray[np.bool_]:
        """(rows,) True where nothing is wrong."""
        return np.equal(self.reason, 0)


class Quarantine:
    """Counts and examples for every table."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {}
        self._examples: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def judge(self, table: str, chunk: pa.RecordBatch, verdict: Verdict) -> None:
        """Take note of a chunk of a table, good rows and bad."""
        first = self.rows[table]
        self.rows[table] += chunk.num_rows
        for number in np.unique(verdict.reason[verdict.reason > 0]):
            reason, column = verdict.complaints[number]
            rows = np.flatnonzero(verdict.reason == number)
            wanted = rows[: self._count(table, reason, len(rows))]
            for row in wanted:
                self._show(table, reason, int(first + row), column, _value(chunk.column(column), int(row)))

    def add(
        self, table: str, reason: str, rows: npt.NDArray[np.int64], column: str, values: list[str]
    ) -> None:
        """Take note of rows that were found bad later; ``rows`` are their numbers in the table."""
        wanted = self._count(table, reason, len(rows))
        for row, value in zip(rows[:wanted].tolist(), values[:wanted], strict=False):
            self._show(table, reason, row, column, value)

    def _count(self, table: str, reason: str, rows: int) -> int:
        """Count rows; how many more examples are wanted."""
        self.counts.setdefault(table, Counter())[reason] += rows
        return EXAMPLES - len(self._examples.setdefault(table, {}).setdefault(reason, []))

    def _show(self, table: str, reason: str, row: int, column: str, value: str) -> None:
        self._examples[table][reason].append({"row": row, "reason": reason, "column": column, "value": value})

    def kept(self, table: str) -> int:
        """Rows of a table that are not in quarantine."""
        return self.rows[table] - sum(self.counts.get(table, {}).values())

    def report(self) -> dict[str, TableReport]:
        """For the manifest."""
        return {
            table: TableReport(
                rows=self.rows[table],
                kept=self.kept(table),
                quarantined=dict(sorted(self.counts.get(table, {}).items())),
            )
            for table in TABLES
        }

    def write(self, folder: Path) -> None:
        """One file per table that has bad rows: JSON lines in the order of the log."""
        for table, reasons in self._examples.items():
            folder.mkdir(parents=True, exist_ok=True)
            examples = sorted(
                (example for shown in reasons.values() for example in shown), key=lambda e: e["row"]
            )
            lines = (json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
            (folder / f"{table}.jsonl").write_text("".join(lines), encoding="utf-8")

    def check(self, most: float) -> None:
        """Refuse a log of which hardly anything can be used.

        Raises:
            DataError: no impression is left, or more than the share ``most`` is in quarantine.
        """
        rows, kept = self.rows["impressions"], self.kept("impressions")
        if kept and rows - kept <= most * rows:
            return
        if not rows:
            raise DataError("The log has no impressions; check the paths and the columns of its description.")
        counts = self.counts["impressions"]
        example = {reason: self._examples["impressions"][reason][0] for reason in counts}
        raise DataError(
            f"{rows - kept} of {rows} impressions cannot be used: {_reasons(counts, example)}. "
            + ("" if not kept else f"Allow more with max_quarantined (now {most:g}) if that is meant.")
        )


def _reasons(counts: Counter[str], example: Mapping[str, Mapping[str, Any]]) -> str:
    """The most frequent reasons, each with its first row and a way out."""
    told = []
    for reason, count in counts.most_common(3):
        first = example[reason]
        where = f"row {first['row']}, {first['column']} = {first['value']}"
        told.append(f"{reason} {count} (such as {where}{_HINTS.get(reason, '')})")
    return ", ".join(told)


def _value(column: pa.Array, row: int) -> str:
    """A raw value as text, whatever is wrong with it."""
    try:
        value = column[row].as_py()
    except UnicodeDecodeError:
        value = column.slice(row, 1).cast(pa.binary())[0].as_py()
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
