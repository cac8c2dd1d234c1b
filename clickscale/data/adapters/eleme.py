"""Eleme (Tianchi 131047): impressions of a food delivery service with the last 50 behaviors in each row.

Layout: ``D1_0.csv`` and so on, 39 columns without a header; the columns named ``*_list`` hold one value per
behavior, separated by ';'. In ``gender`` -99 and in ``city_id`` -1 mean unknown.

Protocol: the label click is the first column. A behavior happened ``timediff`` before the ``times`` of its
row. The unit of both is not documented: that of ``times`` is detected from its size; ``timediff`` is taken as
seconds (inferred; see the option). The rows of one user repeat each other's behaviors: repetitions within a
chunk are left out here, those between chunks go to quarantine as ``duplicate``. Attributes of the user that
change from row to row (mean price, 30-day counts) are context, and so are the ranks of the item.
Impressions are split 80 / 10 / 10 by global time.

The files are read twice, since the rows describe the shown items more fully than the behaviors do. Memory
grows with the number of users and items.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._about import About
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import integers, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, empty_problems, mark
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.first_rows import FirstRows
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

_COLUMNS = (
    "label user_id gender visit_city avg_price is_super_vip ctr_30 ord_30 total_amt_30 shop_id item_id "
    "city_id district_id shop_aoi_id shop_geohash_6 shop_geohash_12 brand_id category_1_id "
    "merge_standard_food_id rank_7 rank_30 rank_90 shop_id_list item_id_list category_1_id_list "
    "merge_standard_food_id_list brand_id_list price_list shop_aoi_id_list shop_geohash_6_list "
    "timediff_list hours_list time_type_list weekdays_list times hours time_type weekdays geohash12"
)
_ROWS = TextFormat(separator=",", names=tuple(_COLUMNS.split()))
CATEGORY = "category_1_id"
RETURNING = True
_PROFILE = ("gender", "visit_city", "is_super_vip")
_LISTED = (
    "shop_id",
    "category_1_id",
    "merge_standard_food_id",
    "brand_id",
    "shop_aoi_id",
    "shop_geohash_6",
)  # attributes of items that behaviors carry too
_ITEM_ONLY = ("city_id", "district_id", "shop_geohash_12")
_MOMENT = ("hours", "time_type", "weekdays")
_NUMBERS = ("avg_price", "ctr_30", "ord_30", "total_amt_30", "rank_7", "rank_30", "rank_90")

ABOUT = About(
    title="impressions of a food delivery service with 50 behaviors each",
    size="tens of GB",
    licence="Alibaba Tianchi, academic use",
    where="https://tianchi.aliyun.com/dataset/131047 (free account)",
)


def source(folder: Path, *, timediff_seconds: int = 1) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds the files ``D*_*.csv``.
        timediff_seconds: seconds in one unit of ``timediff_list``.
    """
    first = find_file(folder, "D1_0.csv")
    files = sorted(path for path in first.parent.glob("D*_*.csv*") if path.suffix in (".csv", ".gz"))

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        users, items = FirstRows(), FirstRows()
        for path in files:
            for chunk in read(path, ["user_id", *_PROFILE], text=_ROWS):
                yield "users", _users(users.rows(chunk, "user_id"))
            for chunk in read(path, ["item_id", *_LISTED, *_ITEM_ONLY], text=_ROWS):
                yield "items", _items(items.rows(_plain_ids(chunk), "item_id"))
        for path in files:
            for chunk in read(path, text=_ROWS):
                time, unread = seconds(chunk["times"])
                problem = mark(chunk.problem, unread, "bad_time")
                yield from _behaviors(chunk, time, problem, timediff_seconds, items)
                yield "impressions", _impressions(chunk, time, problem)

    return Source(schema=_schema(), chunks=chunks)


def _schema() -> Schema:
    return Schema(
        name="eleme",
        user=Field(name="user", column="user_id"),
        item=Field(name="item", column="item_id"),
        labels=(Label(name="click", column="label"),),
        profile=tuple(Field(name=name) for name in _PROFILE),
        behavior=(
            *(Field(name=f"past_{name}", column=f"{name}_list", shares=name) for name in _MOMENT),
            Field(name="past_price", column="price_list", kind="numeric", transform="log1p"),
        ),
        items=tuple(Field(name=name) for name in (*_LISTED, *_ITEM_ONLY)),
        context=(
            *(Field(name=name) for name in _MOMENT),
            Field(name="geohash12", vocabulary="hash", buckets=1 << 16),
            *(Field(name=name, kind="numeric", transform="log1p") for name in _NUMBERS),
        ),
    ).validate()


def _id(values: pa.Array) -> pa.Array:
    """Write ids as text in one form: 17.0 and 17 are the same."""
    return integers(values).cast(pa.string())


def _plain_ids(chunk: Chunk) -> Chunk:
    columns = [_id(column) for column in chunk.rows.columns]
    return Chunk(pa.RecordBatch.from_arrays(columns, names=chunk.rows.schema.names), chunk.problem)


def _known(values: pa.Array, unknown: str) -> pa.Array:
    return pc.if_else(pc.equal(values, unknown), pa.scalar(None, pa.string()), values)


def _users(chunk: Chunk) -> pa.RecordBatch:
    columns = {"user": _id(chunk["user_id"]), **{name: _id(chunk[name]) for name in _PROFILE}}
    return canonical(columns | {"gender": _known(columns["gender"], "-99")}, chunk.problem)


def _items(chunk: Chunk) -> pa.RecordBatch:
    columns = {"item": chunk["item_id"], **{name: chunk[name] for name in (*_LISTED, *_ITEM_ONLY)}}
    return canonical(columns | {"city_id": _known(columns["city_id"], "-1")}, chunk.problem)


def _impressions(chunk: Chunk, time: pa.Array, problem: pa.Array) -> pa.RecordBatch:
    columns = {"user": _id(chunk["user_id"]), "item": _id(chunk["item_id"]), "time": time}
    columns |= {name: _id(chunk[name]) for name in _MOMENT} | {"geohash12": chunk["geohash12"]}
    columns |= {name: numbers(chunk[name]) for name in _NUMBERS}
    return canonical({**columns, label_of("click"): integers(chunk["label"])}, problem)


def _behaviors(
    chunk: Chunk, time: pa.Array, problem: pa.Array, unit: int, items: FirstRows
) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    """Turn the lists of the rows into behaviors, and into the items that only behaviors name."""
    names = ("item_id", "timediff", "price", *_LISTED, *_MOMENT)
    lists = {name: pc.split_pattern(chunk[f"{name}_list"], ";") for name in names}
    lengths = np.stack([_lengths(values) for values in lists.values()])
    uneven = (lengths != lengths[0]).any(axis=0)
    problem = mark(problem, uneven, "uneven_lists")
    if uneven.any():
        yield "behaviors", _unusable(chunk, problem, uneven)
    usable = pa.array((lengths[0] > 0) & problem.is_null().to_numpy(zero_copy_only=False))
    row = pc.list_parent_indices(lists["item_id"].filter(usable))
    flat = {name: values.filter(usable).flatten() for name, values in lists.items()}
    flat = {name: pc.if_else(pc.equal(v, ""), pa.scalar(None, pa.string()), v) for name, v in flat.items()}
    user, moment = (values.filter(usable).take(row) for values in (_id(chunk["user_id"]), time))
    event = {"user": user, "item": _id(flat["item_id"])}
    event["time"], event_problem = _moments(moment, flat["timediff"], unit)
    event |= {f"past_{name}": _id(flat[name]) for name in _MOMENT} | {"past_price": numbers(flat["price"])}
    once = _first_rows(event["user"], event["item"], event["time"])
    attributes = pa.RecordBatch.from_arrays(
        [event["item"], *(_id(flat[name]) for name in _LISTED)], names=["item_id", *_LISTED]
    )
    fresh = items.rows(Chunk(attributes, empty_problems(len(row))), "item_id")
    columns = {"item": fresh["item_id"], **{name: fresh[name] for name in _LISTED}}
    columns |= dict.fromkeys(_ITEM_ONLY, pa.nulls(len(fresh), pa.string()))
    yield "items", canonical(columns, fresh.problem)
    yield "behaviors", canonical(event, event_problem).take(pa.array(once))


def _lengths(lists: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    counts = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(counts, np.int64)


def _unusable(
    chunk: Chunk, problem: pa.Array, where: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> pa.RecordBatch:
    """Make a row without an item for each row whose lists have different lengths."""
    rows = pa.array(where)
    nothing = pa.nulls(int(where.sum()), pa.string())
    columns = {"user": _id(chunk["user_id"]).filter(rows), "item": nothing, "time": nothing.cast(pa.int64())}
    columns |= {f"past_{name}": nothing for name in _MOMENT} | {"past_price": nothing.cast(pa.float64())}
    return canonical(columns, problem.filter(rows))


def _moments(time: pa.Array, difference: pa.Array, unit: int) -> tuple[pa.Array, pa.Array]:
    """Compute seconds of behaviors, and mark those whose difference is unreadable."""
    before, unread = seconds(difference, "s")
    problem = mark(empty_problems(len(time)), unread, "bad_time")
    return pc.subtract(time, pc.multiply(before, unit)), problem


def _first_rows(user: pa.Array, item: pa.Array, time: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows with a (user, item, time) that no earlier row has, in order."""
    codes = [_codes(user), _codes(item), _codes(time)]
    _, first = np.unique(np.stack(codes, axis=1), axis=0, return_index=True)
    return np.sort(first)


def _codes(values: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    indices = values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(indices, np.int64)
