"""Outcomes in tables of their own, such as clicks by ids of impressions, as columns of the impressions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Ints
from clickscale.data.described.joined_tables import Joins
from clickscale.data.described.keys import row_keys, with_lists
from clickscale.data.described.log_config import LogConfig
from clickscale.data.described.rows import Joined, RowShape
from clickscale.data.described.table_files import TableFiles
from clickscale.data.described.table_options import Outcome
from clickscale.data.features.values import MISSING
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.conditions import Tally, parse_condition
from clickscale.schema import joined_name


class Outcomes:
    """Adds a column of 1 and 0 to the impressions for each table of outcomes.

    Keys of outcomes are kept in memory: 16 bytes for each.

    Raises:
        InputError: a table or a column is missing, or a condition holds for no row.
    """

    def __init__(self, config: LogConfig, base: Path, joins: Joins) -> None:
        self._shown, self._config, zone = config.impressions, config.outcomes, config.time_zone
        self._tables = [
            TableFiles("outcomes", outcome, base, _columns(outcome), zone, _shape(outcome), joins=joins)
            for outcome in config.outcomes
        ]
        self._known: list[_Known] = []

    @property
    def made(self) -> set[str]:
        """Names of the columns."""
        return {outcome.name for outcome in self._config}

    @property
    def keys(self) -> list[str]:
        """Columns of the impressions by which outcomes are found."""
        return [name for outcome in self._config for name in outcome.shown_key or outcome.key]

    def read(self) -> None:
        """Read the tables from the start."""
        self._known = [_read(*pair) for pair in zip(self._config, self._tables, strict=True)]

    def add(self, table: TableFiles, chunk: Chunk) -> Chunk:
        """Add the columns to a chunk of the impressions; null where the key is missing."""
        for outcome, known in zip(self._config, self._known, strict=True):
            times: Ints | None = None
            if outcome.within:
                read, chunk = table.time(chunk, joined_name(self._shown.time), self._shown.time_unit)
                times = read.fill_null(0).to_numpy(zero_copy_only=False)
            keys = row_keys("Outcomes", chunk, outcome.shown_key or outcome.key)
            flags = pa.array(known.found(keys, times, outcome.within).astype(np.int8), mask=keys == MISSING)
            rows = chunk.rows.append_column(outcome.name, flags)
            chunk = Chunk(rows, chunk.problem, chunk.evidence)
        return chunk

    def findings(self) -> list[str]:
        """Say how many outcomes have no readable time, and how many keys no impression had."""
        timeless = [
            f"{known.lost:,} outcomes {outcome.name!r} have no readable time and do not count."
            for outcome, known in zip(self._config, self._known, strict=True)
            if known.lost
        ]
        rare = [finding for known in self._known for finding in known.findings]
        joined = [finding for table in self._tables for finding in table.findings()]
        return [*joined, *rare, *timeless] + [
            f"{lost:,} of {len(known.keys):,} keys of the outcome {outcome.name!r} belong to no impression."
            for outcome, known in zip(self._config, self._known, strict=True)
            if (lost := int((~known.is_used).sum()))
        ]


@dataclass
class _Known:
    """Keys and times of the outcomes of one table.

    Attributes:
        keys: (K,) distinct ones, ascending.
        is_used: (K,) an impression had the key, and the time.
        lost: outcomes without a readable time.
        findings: what was noticed when the table was read.
        moments: (N,) of each outcome, ascending: the place of its key times ``span``, plus seconds since
            ``first``. Empty if times do not matter.
    """

    keys: Ints
    is_used: npt.NDArray[np.bool_]
    moments: Ints
    first: int
    span: int
    lost: int
    findings: tuple[str, ...]

    def found(self, keys: Ints, times: Ints | None, within: int) -> npt.NDArray[np.bool_]:
        """Find the impressions (N,) that have an outcome; with times, one 0 to ``within`` seconds later."""
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        has = self.keys[place] == keys
        if times is not None:
            start = times - self.first
            earliest = place * self.span + np.clip(start, 0, self.span - 1)
            latest = place * self.span + np.clip(start + within, 0, self.span - 1)
            following = np.minimum(np.searchsorted(self.moments, earliest), len(self.moments) - 1)
            has &= (self.moments[following] >= earliest) & (self.moments[following] <= latest)
            has &= (start + within >= 0) & (start < self.span)
        self.is_used[place[has]] = True
        return has


def _columns(outcome: Outcome) -> list[str]:
    where = [parse_condition(outcome.where).column] if outcome.where else []
    return [*outcome.key, *([joined_name(outcome.time)] if outcome.within else []), *where]


def _shape(outcome: Outcome) -> RowShape:
    time = outcome.time
    return RowShape(joined={} if isinstance(time, str) else {joined_name(time): Joined(time, "moment")})


def _read(outcome: Outcome, table: TableFiles) -> _Known:
    """Read the keys of a table, and their times if they matter; rows without them say nothing."""
    keys, times, lost = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    tally = _tally(outcome)
    for path, chunk in table.chunks():
        rows = table.events(path, chunk)
        if tally is not None:
            holds, _ = tally.evaluate(rows[tally.condition.column])
            rows = rows.kept(pc.equal(holds, 1).fill_null(False))
        rows = with_lists(rows, outcome.key)
        found = row_keys("Outcomes", rows, outcome.key)
        usable = found != MISSING
        if outcome.within:
            read, _ = table.time(rows, joined_name(outcome.time), outcome.time_unit)
            lost += int((usable & read.is_null().to_numpy(zero_copy_only=False)).sum())
            usable &= read.is_valid().to_numpy(zero_copy_only=False)
            times.append(read.fill_null(0).to_numpy(zero_copy_only=False)[usable])
        keys.append(found[usable])
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    moments = np.concatenate(times)
    first = int(moments.min()) if len(moments) else 0
    span = int(moments.max()) - first + 1 if len(moments) else 1
    packed = np.sort(place * span + moments - first) if len(moments) else moments
    findings = () if tally is None else tuple(tally.findings())
    return _Known(distinct, np.zeros(len(distinct), bool), packed, first, span, lost, findings)


def _tally(outcome: Outcome) -> Tally | None:
    """Make the count of the rows that are outcomes, if not all are."""
    if not outcome.where:
        return None
    files = ", ".join(name for _, name in outcome.patterns())
    return Tally(f"outcome {outcome.name!r}: where", files, parse_condition(outcome.where))
