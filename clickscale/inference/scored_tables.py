"""Scores of a table of candidates, as a table of the same rows."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from clickscale.errors import InputError
from clickscale.files import replacing
from clickscale.inference.prediction_tables import table_writer
from clickscale.inference.request_tables import RequestTable, TableRequest
from clickscale.inference.scorer import Response, Scorer
from clickscale.inference.statistic_counters import StatisticCounters

_BATCH = 64  # requests that are scored at once


@dataclass
class ScoredTable:
    """Scores of a table, piece by piece.

    Attributes:
        lacking: requests that lacked each declared statistic, by name; filled while the pieces are made.
        requests: requests scored so far.
    """

    scorer: Scorer
    table: RequestTable
    counters: StatisticCounters | None = None
    lacking: dict[str, int] = field(default_factory=dict)
    requests: int = 0

    @property
    def schema(self) -> pa.Schema:
        """Columns: the request if the table names it, ids and time, whether the item is known, scores.

        A user or an item that the log does not have leaves its columns out.
        """
        schema = self.scorer.artifact.encoder.schema
        columns: list[tuple[str, pa.DataType]] = (
            [("request", pa.string())] if self.table.names_requests else []
        )
        columns += [] if "user" in schema.absent else [(schema.user.name, pa.string())]
        columns += [] if "item" in schema.absent else [(schema.item.name, pa.string())]
        columns += [("time", pa.int64())]
        columns += [] if "item" in schema.absent else [("known", pa.bool_())]
        labels = self.scorer.artifact.config.labels
        return pa.schema(columns + [(f"score.{label}", pa.float64()) for label in labels])

    def write(self, out: Path) -> int:
        """Write a Parquet or CSV file, whole or not at all; the number of rows."""
        rows = 0
        with replacing(out) as partial, table_writer(partial, self.schema) as writer:
            for piece in self.pieces():
                writer.write_batch(piece)
                rows += piece.num_rows
        return rows

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the table in its order."""
        requests = self.table.requests()
        while batch := list(itertools.islice(requests, _BATCH)):
            responses = self._scored(batch)
            rows = [
                row for one, answer in zip(batch, responses, strict=True) for row in self._rows(one, answer)
            ]
            columns = zip(*rows, strict=True)
            arrays = [pa.array(c, kind.type) for c, kind in zip(columns, self.schema, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _scored(self, batch: list[TableRequest]) -> list[Response]:
        """Score some requests; an error names the first row of its request."""
        try:
            responses = self.scorer.score_many([self._completed(one) for one in batch])
        except InputError:
            responses = [self._alone(one) for one in batch]
        for response in responses:
            for name in response.missing:
                self.lacking[name] = self.lacking.get(name, 0) + 1
        self.requests += len(batch)
        return responses

    def _completed(self, one: TableRequest) -> Any:
        return one.request if self.counters is None else self.counters.complete(one.request)

    def _alone(self, one: TableRequest) -> Response:
        try:
            return self.scorer.score(self._completed(one))
        except InputError as error:
            raise InputError(f"{self.table.path} row {one.row}: {error}") from error

    def _rows(self, one: TableRequest, response: Response) -> Iterator[tuple[Any, ...]]:
        """Cells of the candidates of one request."""
        absent = self.scorer.artifact.encoder.schema.absent
        head = [None if one.name is None else str(one.name)] if self.table.names_requests else []
        head += [] if "user" in absent else [str(one.request["user"])]
        time = int(one.request["time"])
        for item, known, scores in zip(
            response.items, response.known, response.probabilities.tolist(), strict=True
        ):
            if "item" in absent:
                yield *head, time, *scores
            else:
                yield *head, str(item), time, known, *scores
