"""Amazon reviews of 2014, 2018 and 2023 (McAuley group): ratings with their times, and item attributes.

Layout, detected from the files: reviews as JSON lines (``reviewerID``, ``asin``, ``overall``,
``unixReviewTime`` in seconds; since 2023 ``user_id``, ``parent_asin``, ``rating``, ``timestamp`` in
milliseconds) or as CSV of ratings only (with a header since 2023; before, user, item, rating and seconds,
in 2018 with the item first). Attributes come from ``meta_*`` files with one object per line, in 2014 a
Python dict literal. All may be gzipped. Times before 2023 are whole days, so a behavior is visible from the
next day on.

Protocol: the label ``like`` is rating >= 4. With ``negatives`` the label is ``review`` instead, as in the
literature that follows DIN: every review is a positive, and items that existed at its time are drawn for it.
Behaviors are the user's earlier reviews with their rating. Attributes (category levels, brand, price) are
as of the day the data were collected. Impressions are split 80 / 10 / 10 by global time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from clickscale.data.adapters._about import About
from clickscale.data.source import Sampling, Source, TableName
from clickscale.data.tables.casts import Unit, integers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, line_blocks, mark
from clickscale.data.tables.conditions import parse_condition
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.json_lines import json_line, read_lines
from clickscale.data.tables.raw_tables import detect_format, read
from clickscale.errors import InputError
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

CATEGORY = "category"
RETURNING = True
_LIKE = parse_condition("rating >= 4")
_NUMBER = re.compile(r"\d+(?:[.,]\d{3})*(?:\.\d+)?")
_LEVELS = 4  # of the category path that are kept


@dataclass(frozen=True)
class _Reviews:
    """A file of reviews: the columns of user, item, rating and time, and the unit of the time."""

    path: Path
    columns: tuple[str, str, str, str]
    unit: Unit
    text: TextFormat = TextFormat()

    def chunks(self) -> Iterator[Chunk]:
        for chunk in read(self.path, self.columns, text=self.text):
            columns = [chunk[name] for name in self.columns]
            yield Chunk(
                pa.RecordBatch.from_arrays(columns, names=["user", "item", "rating", "time"]), chunk.problem
            )


ABOUT = About(
    title="product reviews of 2014, 2018 or 2023, by category",
    size="1 MB to 100 GB",
    licence="research use",
    where="https://amazon-reviews-2023.github.io and the pages of 2014 and 2018 that it links",
)


def source(
    folder: Path, *, negatives: int = 0, negatives_by: Literal["uniform", "popularity"] = "uniform"
) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds one or several files of reviews, and ``meta_*`` files if attributes are wanted.
        negatives: 0 for the label rating >= 4; otherwise items drawn for each review.
        negatives_by: how they are drawn (`clickscale.data.source.Sampling`).
    """
    files = [path for path in sorted(folder.glob("*")) if re.search(r"\.(jsonl?|csv)(\.gz)?$", path.name)]
    meta = [path for path in files if path.name.startswith("meta_")]
    reviews = [_describe(path) for path in files if path not in meta]
    if not reviews:
        raise InputError(f"{folder} does not hold reviews (*.json, *.jsonl or *.csv, plain or gzipped).")

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for path in meta:
            for chunk in read_lines(path, ["item", "category", "brand", "price"], _meta_line):
                yield "items", _items(chunk)
        for part in reviews:
            for chunk in part.chunks():
                yield from _events(chunk, part.unit, negatives)

    sampling = Sampling(by=negatives_by)
    return Source(
        schema=_schema(negatives, bool(meta)), chunks=chunks, negatives=negatives, sampling=sampling
    )


def _schema(negatives: int, has_meta: bool) -> Schema:
    attributes = (
        Field(name="category", values=_LEVELS),
        Field(name="brand", min_count=2),
        Field(name="price", kind="numeric", transform="log1p"),
    )
    like = Label(name="like", column="rating", condition="rating >= 4")
    return Schema(
        name="amazon-reviews",
        user=Field(name="user"),
        item=Field(name="item"),
        labels=(Label(name="review") if negatives else like,),
        behavior=(Field(name="rating", dtype="int"),),
        items=attributes if has_meta else (),
        sampled_negatives=negatives,
        behavior_label="review" if negatives else "",
    ).validate()


def _describe(path: Path) -> _Reviews:
    """Detect the layout of a file of reviews from its first line."""
    line = next(line_blocks(path), b"").split(b"\n")[0]
    if detect_format(path) == "csv":
        return _describe_csv(path, line.decode("utf-8", "replace").strip().split(","))
    try:
        keys = json_line(line)
    except ValueError:
        keys = {}
    if "reviewerID" in keys:
        return _Reviews(path, ("reviewerID", "asin", "overall", "unixReviewTime"), "s")
    if "parent_asin" in keys and "user_id" in keys:
        return _Reviews(path, ("user_id", "parent_asin", "rating", "timestamp"), "ms")
    raise InputError(f"{path} does not begin with a review: it has the keys {', '.join(keys) or '(none)'}.")


def _describe_csv(path: Path, first: list[str]) -> _Reviews:
    if "parent_asin" in first:
        return _Reviews(path, ("user_id", "parent_asin", "rating", "timestamp"), "ms")
    if len(first) != 4:
        raise InputError(f"{path} begins with {len(first)} fields; user, item, rating and time are needed.")
    # Item numbers have 10 characters, user numbers more: this separates 2014 from 2018.
    names = (
        ("item", "user", "rating", "time")
        if len(first[0]) == 10 < len(first[1])
        else ("user", "item", "rating", "time")
    )
    return _Reviews(path, ("user", "item", "rating", "time"), "s", TextFormat(names=names))


def _meta_line(line: bytes) -> dict[str, Any]:
    """Attributes in any of the three writings; the category path is a list of up to four levels."""
    entry = json_line(line)
    category = entry.get("categories") or entry.get("category") or []
    category = category[0] if category and isinstance(category[0], list) else category
    return {
        "item": entry.get("parent_asin") or entry.get("asin"),
        "category": [str(level) for level in category[:_LEVELS]],
        "brand": str(entry.get("brand") or entry.get("store") or "") or None,
        "price": _price(entry.get("price")),
    }


def _price(value: Any) -> float | None:
    """First number of a price such as 9.99, "$1,299.00" or "$5 - $9"; None for any other text."""
    number = _NUMBER.search(str(value)) if value is not None else None
    return float(number.group().replace(",", "")) if number else None


def _items(chunk: Chunk) -> pa.RecordBatch:
    category = chunk["category"].cast(pa.list_(pa.string()))
    brand, price = chunk["brand"].cast(pa.string()), chunk["price"].cast(pa.float64())
    return canonical(
        {"item": chunk["item"], "category": category, "brand": brand, "price": price}, chunk.problem
    )


def _events(chunk: Chunk, unit: Unit, negatives: int) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    time, unread = seconds(chunk["time"], unit)
    problem = mark(chunk.problem, unread, "bad_time")
    event = {"user": chunk["user"], "item": chunk["item"], "time": time}
    yield "behaviors", canonical({**event, "rating": integers(chunk["rating"])}, problem)
    if negatives:
        yield "impressions", canonical(event, problem)
        return
    like, unrated = _LIKE.evaluate(chunk["rating"])
    yield "impressions", canonical({**event, label_of("like"): like}, mark(problem, unrated, "bad_label"))
