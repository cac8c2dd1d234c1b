"""The log of a world as a `Source`: users live block by block, and preparation reads them like any log.

The true probabilities go past preparation, into a file of the system's temporary folder (8 bytes for each
impression), and from there beside the data set.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from clickscale.arrays import Array
from clickscale.data.source import Source, TableName
from clickscale.errors import DataError
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema, usual_statistics
from clickscale.world.click_logit import probability
from clickscale.world.lives import ACTIONS, Events, blocks_of, find_intercept, live
from clickscale.world.market import CONTENT_WIDTH, START, Market, make_market
from clickscale.world.truth import LABEL, WorldFacts, write_truth
from clickscale.world.world_config import WorldConfig

_AGES = pa.array(["18-24", "25-34", "35-44", "45-54", "55-64", "65+"])
_GENDERS = pa.array(["f", "m"])
_DELAY = 30  # seconds until a click is known; the next request comes later
_TRUTH = np.dtype([("probability", "<f4"), ("known", "<f4")])


def world_source(config: WorldConfig) -> Source:
    """The log of a world.

    Raises:
        ConfigError: its options cannot be simulated.
    """
    log = _WorldLog(config.check())
    return Source(
        schema=_schema(config),
        chunks=log.chunks,
        finish=log.finish,
        notes=(
            f"A simulated world ({config.preset}, seed {config.seed}), whose click probabilities are known.",
        ),
    )


def _schema(config: WorldConfig) -> Schema:
    return Schema(
        name=f"world-{config.preset}",
        user=Field(name="user", dtype="int"),
        item=Field(name="item", dtype="int"),
        labels=(Label(name=LABEL, column=LABEL, delay=_DELAY),),
        profile=(Field(name="age"), Field(name="gender"), Field(name="region", dtype="int")),
        behavior=(Field(name="action"),),
        items=(
            Field(name="category", dtype="int"),
            Field(name="text", kind="content", width=CONTENT_WIDTH),
            Field(name="usual_price", kind="numeric", transform="log1p"),
        ),
        context=(
            Field(name="position", dtype="int"),
            Field(name="hour", dtype="int"),
            Field(name="price", kind="numeric", transform="log1p"),
            Field(name="bid", kind="numeric", transform="log1p"),
        ),
        statistics=usual_statistics("category") if config.statistics else (),
    ).validate()


@dataclass
class _WorldLog:
    """One reading of a world: what it simulates, and the truth that it puts aside."""

    config: WorldConfig
    facts: WorldFacts | None = None
    aside: IO[bytes] | None = None

    def chunks(self) -> Iterator[tuple[TableName, pa.RecordBatch]]:
        """Yield the tables: items, then users, behaviors and impressions of every block."""
        market = make_market(self.config)
        self.facts = WorldFacts(options=self.config, intercept=find_intercept(self.config, market))
        self.aside = tempfile.TemporaryFile()  # noqa: SIM115 - it outlives the reading
        yield "items", _items(market)
        for events in _lived_ahead(self.config, market, self.facts.intercept):
            truth = np.empty(len(events.impressions["logit"]), _TRUTH)
            truth["probability"] = probability(events.impressions["logit"])
            truth["known"] = events.impressions["known"]
            self.aside.write(truth.data)
            yield from _tables(events)

    def finish(self, folder: Path) -> None:
        """Write the truth beside the data set."""
        if self.facts is None or self.aside is None:
            raise DataError(f"The world of {folder} was not read, so nothing is known of it.")
        self.aside.flush()
        truth = np.memmap(self.aside, _TRUTH, "r")
        write_truth(folder, self.facts, truth["probability"], truth["known"])
        del truth
        self.aside.close()


def _lived_ahead(config: WorldConfig, market: Market, intercept: float) -> Iterator[Events]:
    """Yield the blocks in order; a thread lives the next one while preparation reads the last."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Events] | None = None
        for block in blocks_of(config):
            following = pool.submit(live, config, market, intercept, *block)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _items(market: Market) -> pa.RecordBatch:
    content = pa.FixedSizeListArray.from_arrays(pa.array(market.content.ravel()), CONTENT_WIDTH)
    columns = {
        "item": pa.array(np.arange(len(market.category))),
        "category": pa.array(market.category),
        "text": content,
        "usual_price": pa.array(market.price),
    }
    return pa.RecordBatch.from_pydict(columns)


def _tables(events: Events) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    """Tables of a block."""
    people, done, shown = events.users, events.behaviors, events.impressions
    yield (
        "users",
        pa.RecordBatch.from_pydict(
            {
                "user": pa.array(people["user"]),
                "age": _AGES.take(pa.array(people["age"])),
                "gender": _GENDERS.take(pa.array(people["gender"])),
                "region": pa.array(people["region"]),
            }
        ),
    )
    yield "behaviors", pa.RecordBatch.from_pydict(_event(done) | {"action": _named(done["action"])})
    yield (
        "impressions",
        pa.RecordBatch.from_pydict(
            _event(shown)
            | {
                label_of(LABEL): pa.array(shown["click"].astype(np.int8)),
                "position": pa.array(shown["position"].astype(np.int64)),
                "hour": pa.array(shown["time"] // 3600 % 24),
                "price": pa.array(shown["price"]),
                "bid": pa.array(shown["bid"]),
            }
        ),
    )


def _event(columns: dict[str, Array]) -> dict[str, pa.Array]:
    return {
        "user": pa.array(columns["user"]),
        "item": pa.array(columns["item"]),
        "time": pa.array(columns["time"] + START),
    }


def _named(action: Array) -> pa.Array:
    """Names of actions, as one dictionary of three texts."""
    return pa.DictionaryArray.from_arrays(pa.array(action), ACTIONS)
