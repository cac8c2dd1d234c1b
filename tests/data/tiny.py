"""Tiny logs made of Python lists: a schema with a field of every kind, a source, a prepared data set."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.data.source import Source, Split, TableName
from clickscale.schema import Field, Label, Schema, Statistic

START = 1_600_000_000  # 2020-09-13, a Sunday
DAY = 86_400
Rows = Sequence[Mapping[str, Any]]

STATISTICS = (
    Statistic(name="item_rate", by=("item",), of="rate", window=3 * DAY),
    Statistic(name="item_count", by=("item",), of="count"),
    Statistic(name="user_genre_rate", by=("user", "genre"), of="rate", prior=2.0),
)


def tiny_schema(*, dtype: str = "int", statistics: Sequence[Statistic] = ()) -> Schema:
    """Two labels and a field of every kind; ``dtype`` is that of the user and item ids."""
    return Schema(
        name="tiny",
        user=Field(name="user_id", column="user", dtype=dtype),  # type: ignore[arg-type]
        item=Field(name="item_id", column="item", dtype=dtype),  # type: ignore[arg-type]
        labels=(Label(name="click", column="click"), Label(name="like", column="like")),
        profile=(Field(name="gender"), Field(name="age", kind="numeric")),
        behavior=(Field(name="action"), Field(name="dwell", kind="numeric", transform="log1p")),
        items=(
            Field(name="genre", values=3, separator="|"),
            Field(name="price", kind="numeric", transform="log1p"),
            Field(name="released", kind="timestamp"),
            Field(name="text", kind="content", width=4),
        ),
        context=(Field(name="position", dtype="int"), Field(name="hour", kind="numeric")),
        statistics=tuple(statistics),
    ).validate()


def source_of(
    schema: Schema,
    tables: Mapping[TableName, Rows | pa.Table],
    *,
    chunk_rows: int = 17,
    split: Split | None = None,
    negatives: int = 0,
    time_bounds: tuple[int, int] = (START - 3650 * DAY, START + 3650 * DAY),
) -> Source:
    """Source over tables held in memory, in the order given."""
    held = {
        name: rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
        for name, rows in tables.items()
    }

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for name, table in held.items():
            for batch in table.combine_chunks().to_batches(max_chunksize=chunk_rows):
                yield name, batch

    return Source(
        schema=schema, chunks=chunks, split=split or Split(), negatives=negatives, time_bounds=time_bounds
    )


def tiny_tables(
    *,
    users: int = 8,
    items: int = 12,
    behaviors: int = 90,
    impressions: int = 120,
    seed: int = 0,
    known_at: bool = False,
    string_ids: bool = False,
) -> dict[TableName, list[dict[str, Any]]]:
    """Rows of a log in which clicks lean on the item and on the user's taste.

    User 0 has no behaviors, the last user no profile row, the last item no item row, some likes are unknown.
    Users have ids 100, 101, ..., items 10, 20, ... ("u100", "i10" with ``string_ids``).
    """
    random = np.random.default_rng(seed)
    user_ids: list[Any] = [f"u{100 + u}" if string_ids else 100 + u for u in range(users)]
    item_ids: list[Any] = [f"i{10 * (i + 1)}" if string_ids else 10 * (i + 1) for i in range(items)]
    genres = ["drama", "comedy", "war", "drama|war", "comedy|drama|war", ""]
    profile = [
        {"user": user_ids[u], "gender": "fm"[u % 2], "age": None if u == 1 else 20.0 + 3 * u}
        for u in range(users - 1)
    ]
    catalog = [
        {
            "item": item_ids[i],
            "genre": genres[i % len(genres)],
            "price": 1.5 * i if i % 5 else None,
            "released": START - 1000 * DAY + 100 * DAY * i,
            "text": None if i == 2 else [float(i), 1.0, -0.5, 0.25],
        }
        for i in range(items - 1)
    ]
    past = []
    for when in np.sort(random.integers(0, 30 * DAY, behaviors)):
        row = {
            "user": user_ids[int(random.integers(1, users))],
            "item": item_ids[int(random.integers(items))],
            "time": START + int(when),
            "action": ["view", "cart", "buy"][int(random.integers(3))],
            "dwell": float(random.integers(1, 100)),
        }
        past.append(row | {"known_at": row["time"] + int(random.integers(0, DAY))} if known_at else row)
    shown = []
    for when in np.sort(random.integers(0, 30 * DAY, impressions)):
        u, i = int(random.integers(users)), int(random.integers(items))
        click = int(random.random() < (0.8 if (u + i) % 3 == 0 else 0.2))
        shown.append(
            {
                "user": user_ids[u],
                "item": item_ids[i],
                "time": START + int(when),
                "label.click": click,
                "label.like": None if random.random() < 0.2 else int(click and random.random() < 0.5),
                "position": int(random.integers(4)),
                "hour": float(when // 3600 % 24),
            }
        )
    return {"users": profile, "items": catalog, "behaviors": past, "impressions": shown}


def tiny_source(
    *,
    users: int = 8,
    items: int = 12,
    behaviors: int = 90,
    impressions: int = 120,
    seed: int = 0,
    known_at: bool = False,
    string_ids: bool = False,
    statistics: Sequence[Statistic] = (),
    chunk_rows: int = 17,
    split: Split | None = None,
) -> Source:
    """Source over `tiny_tables`."""
    tables = tiny_tables(
        users=users,
        items=items,
        behaviors=behaviors,
        impressions=impressions,
        seed=seed,
        known_at=known_at,
        string_ids=string_ids,
    )
    schema = tiny_schema(dtype="string" if string_ids else "int", statistics=statistics)
    return source_of(schema, tables, chunk_rows=chunk_rows, split=split)


def tiny_dataset(folder: Path, source: Source | None = None) -> Path:
    """Prepare a tiny log (with statistics unless a source is given) below ``folder``; the data set's path."""
    from clickscale.data.preparation.prepare import (
        prepare,  # here, so that the rest serves tests of what stands above it
    )

    out = folder / "tiny"
    prepare(source or tiny_source(statistics=STATISTICS), out)
    return out
