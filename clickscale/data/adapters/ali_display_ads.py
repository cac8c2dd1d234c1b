"""Ali_Display_Ad_Click (Tianchi 56, "Taobao" in the DIN, DMR and SUAN papers): 26.6 million ad
impressions.

Layout: four CSV files with headers, times in seconds. ``raw_sample.csv`` (user, time_stamp, adgroup_id,
pid, nonclk, clk), ``ad_feature.csv``, ``user_profile.csv`` (its last header name ends in a space) and
``behavior_log.csv`` (723 million events: user, time_stamp, btag, cate, brand). ``NULL`` and empty mean
missing.

Protocol: the label click is ``clk``. The behavior log names no items, only category and brand, so the
item table has two kinds of rows: an ad is ``a:ADGROUP``, and the pair of a behavior is ``b:CATEGORY:BRAND``
with these two attributes and no others, so that behaviors and ads meet in the embeddings of category and
brand. Impressions are split by day: the last one is for test, the one before it for valid.

Memory grows with the number of pairs of category and brand, not with the log.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._about import About
from clickscale.data.source import Source, Split, TableName
from clickscale.data.tables.casts import integers, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

CATEGORY = "category"
RETURNING = True
_PROFILE = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
_ATTRIBUTES = {"category": "cate_id", "brand": "brand", "campaign": "campaign_id", "customer": "customer"}
_DAYS = (1_491_004_800, 1_496_275_199)  # April and May of 2017; the log covers 22 days of them

ABOUT = About(
    title="26.6 million ad impressions of 8 days, 723 million behaviors",
    size="26 GB",
    licence="Alibaba Tianchi, academic use",
    where="https://tianchi.aliyun.com/dataset/56 (free account)",
)


def source(folder: Path) -> Source:
    """The log as a `Source`; ``folder`` holds the four files."""
    names = ("raw_sample.csv", "ad_feature.csv", "user_profile.csv", "behavior_log.csv")
    samples, ads, profiles, log = (find_file(folder, name) for name in names)

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for chunk in read(profiles, ["userid", *_PROFILE]):
            columns = {"user": integers(chunk["userid"]), **{name: chunk[name] for name in _PROFILE}}
            yield "users", canonical(columns, chunk.problem)
        for chunk in read(ads, ["adgroup_id", *_ATTRIBUTES.values(), "price"]):
            yield "items", _ads(chunk)
        pairs = FirstRows()
        for chunk in read(log, ["user", "time_stamp", "btag", "cate", "brand"]):
            yield from _behaviors(chunk, pairs)
        for chunk in read(samples, ["user", "time_stamp", "adgroup_id", "pid", "clk"]):
            yield "impressions", _impressions(chunk)

    return Source(
        schema=_schema(), chunks=chunks, split=Split(kind="day", valid=1, test=1), time_bounds=_DAYS
    )


def _schema() -> Schema:
    return Schema(
        name="ali-display-ads",
        user=Field(name="user", dtype="int"),
        item=Field(name="item"),
        labels=(Label(name="click", column="clk"),),
        profile=tuple(Field(name=name) for name in _PROFILE),
        behavior=(Field(name="action", column="btag"),),
        items=(
            *(Field(name=name, column=column, dtype="int") for name, column in _ATTRIBUTES.items()),
            Field(name="price", kind="numeric", transform="log1p"),
        ),
        context=(Field(name="position", column="pid"),),
        has_own_behaviors=True,
    ).validate()


def _ads(chunk: Chunk) -> pa.RecordBatch:
    columns = {"item": _key("a", chunk["adgroup_id"])}
    columns |= {name: integers(chunk[column]) for name, column in _ATTRIBUTES.items()}
    return canonical({**columns, "price": numbers(chunk["price"])}, chunk.problem)


def _key(kind: str, *parts: pa.Array) -> pa.Array:
    """Build ids such as ``a:17``: null if the first part is null; other missing parts are empty."""
    first, *rest = parts
    return pc.binary_join_element_wise(kind, first, *(part.fill_null("") for part in rest), ":")


def _behaviors(chunk: Chunk, pairs: FirstRows) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    pair = _key("b", chunk["cate"], chunk["brand"])
    rows = pa.RecordBatch.from_arrays(
        [pair, chunk["cate"], chunk["brand"]], names=["item", "category", "brand"]
    )
    fresh = pairs.rows(Chunk(rows, chunk.problem), "item")
    nothing = pa.nulls(len(fresh), pa.int64())
    columns = {
        "item": fresh["item"],
        "category": integers(fresh["category"]),
        "brand": integers(fresh["brand"]),
    }
    columns |= {"campaign": nothing, "customer": nothing, "price": nothing.cast(pa.float64())}
    yield "items", canonical(columns, fresh.problem)
    time, unread = seconds(chunk["time_stamp"], "s")
    event = {"user": integers(chunk["user"]), "item": pair, "time": time, "action": chunk["btag"]}
    yield "behaviors", canonical(event, mark(chunk.problem, unread, "bad_time"))


def _impressions(chunk: Chunk) -> pa.RecordBatch:
    time, unread = seconds(chunk["time_stamp"], "s")
    columns = {
        "user": integers(chunk["user"]),
        "item": _key("a", chunk["adgroup_id"]),
        "time": time,
        "position": chunk["pid"],
        label_of("click"): integers(chunk["clk"]),
    }
    return canonical(columns, mark(chunk.problem, unread, "bad_time"))
