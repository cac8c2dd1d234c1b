"""Taobao UserBehavior (Tianchi 649): 100,150,807 views, purchases, carts and favorites of nine days
(academic use).

Layout: ``UserBehavior.csv`` without a header: user, item, category, behavior type (pv, buy, cart, fav),
seconds. The log covers 2017-11-25 to 2017-12-03 in Beijing; the rows with times outside go to quarantine.

Protocol: the log has no impressions, only behaviors. Every event of the type ``positive`` counts as
a click; preparation draws ``negatives`` items for each from those that the log shows before that moment.
A positive whose item the log has not shown before is left out, since such an item is never drawn. Behaviors
are all earlier events with their type. Such figures are not comparable with figures on negatives that users
saw. Impressions are split 80 / 10 / 10 by global time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._about import About
from clickscale.data.source import Sampling, Source, TableName
from clickscale.data.tables.casts import integers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.schema import Field, Label, Schema

CATEGORY = "category"
RETURNING = True
_EVENTS = TextFormat(separator=",", names=("user", "item", "category", "action", "time"), quote="")
_DAYS = (1_511_539_200, 1_512_316_799)  # 2017-11-25 00:00 to 2017-12-03 23:59:59, Beijing

ABOUT = About(
    title="100 million views, carts, favorites and purchases of 9 days",
    size="3.7 GB",
    licence="Alibaba Tianchi, academic use",
    where="https://tianchi.aliyun.com/dataset/649 (free account)",
)


def source(
    folder: Path,
    *,
    positive: Literal["pv", "buy", "cart", "fav"] = "pv",
    negatives: int = 4,
    negatives_by: Literal["uniform", "popularity"] = "uniform",
    negatives_within: Literal["", "category"] = "",
) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds ``UserBehavior.csv``.
        positive: type of the events that count as positive impressions.
        negatives: items drawn for each of them.
        negatives_by: how they are drawn (`clickscale.data.source.Sampling`).
        negatives_within: ``category`` draws them from the category of the positive.
    """
    path = find_file(folder, "UserBehavior.csv")
    schema = Schema(
        name="taobao-userbehavior",
        user=Field(name="user", dtype="int"),
        item=Field(name="item", dtype="int"),
        labels=(Label(name="click", condition=f"action == {positive}"),),
        behavior=(Field(name="action"),),
        items=(Field(name="category", dtype="int"),),
        sampled_negatives=negatives,
        behavior_label="click",
    ).validate()

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        items = FirstRows()
        for chunk in read(path, format="csv", text=_EVENTS):
            fresh = items.rows(chunk, "item")
            columns = {"item": integers(fresh["item"]), "category": integers(fresh["category"])}
            yield "items", canonical(columns, fresh.problem)
            yield from _events(chunk, positive)

    sampling = Sampling(by=negatives_by, within=negatives_within)
    return Source(schema=schema, chunks=chunks, negatives=negatives, sampling=sampling, time_bounds=_DAYS)


def _events(chunk: Chunk, positive: str) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    time, unread = seconds(chunk["time"], "s")
    problem = mark(chunk.problem, unread, "bad_time")
    who = {"user": integers(chunk["user"]), "item": integers(chunk["item"]), "time": time}
    yield "behaviors", canonical({**who, "action": chunk["action"]}, problem)
    chosen = pc.equal(chunk["action"], positive).fill_null(False).to_numpy(zero_copy_only=False)
    broken = problem.is_valid().to_numpy(
        zero_copy_only=False
    )  # unreadable rows are kept, so that they are counted
    yield "impressions", canonical(who, problem).filter(pa.array(np.logical_or(chosen, broken)))
