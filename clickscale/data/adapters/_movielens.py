"""Protocol, schema and tables that the MovieLens logs share."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.source import TableName
from clickscale.data.tables.casts import integers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.conditions import parse_condition
from clickscale.data.tables.matrices import ContentVectors, load_content
from clickscale.data.tables.row_order import RowOrder
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

# fmt: off
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)
# fmt: on

LIKE = parse_condition("rating >= 4")


def movielens_schema(name: str, content: ContentVectors | None) -> Schema:
    """Fields of a MovieLens log; content vectors are optional."""
    vectors = () if content is None else (Field(name="text", kind="content", width=content.width),)
    return Schema(
        name=name,
        user=Field(name="user", dtype="int"),
        item=Field(name="item", dtype="int"),
        labels=(Label(name="like", column="rating", condition="rating >= 4"),),
        profile=(
            Field(name="gender"),
            Field(name="age", dtype="int"),
            Field(name="occupation"),
            Field(name="region"),
        ),
        behavior=(Field(name="rating", dtype="int"),),
        items=(Field(name="genres", values=6, separator="|"), Field(name="year", dtype="int"), *vectors),
    ).validate()


def open_content(content: Path | None, content_ids: Path | None) -> ContentVectors | None:
    """Open the optional vectors; their ids are beside them under ``item_text_emb_ids.npy`` unless named."""
    if content is None:
        return None
    return load_content(content, content_ids or content.with_name("item_text_emb_ids.npy"))


def users_table(chunk: Chunk, age: pa.Array) -> pa.RecordBatch:
    """Profiles; ``region`` is the first character of the postal code."""
    columns = {
        "user": integers(chunk["user"]),
        "gender": chunk["gender"],
        "age": age,
        "occupation": chunk["occupation"],
        "region": pc.utf8_slice_codeunits(chunk["zip"], 0, 1),
    }
    return canonical(columns, chunk.problem)


def items_table(chunk: Chunk, genres: pa.Array, content: ContentVectors | None) -> pa.RecordBatch:
    """Items; the year of release is in parentheses at the end of the title."""
    year = pc.struct_field(pc.extract_regex(chunk["title"], r"\((?P<year>\d{4})\)\s*$"), "year")
    item = integers(chunk["item"])
    columns = {"item": item, "genres": genres, "year": integers(year)}
    if content is not None:
        columns["text"] = content.column(item)
    return canonical(columns, chunk.problem)


def rating_tables(chunk: Chunk, order: RowOrder | None = None) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    """Turn each rating into an impression with the label ``like`` and into a behavior."""
    time, unread = seconds(chunk["time"], "s")
    if order is not None:
        time = order(chunk["user"], time)
    like, unrated = LIKE.evaluate(chunk["rating"])
    problem = mark(chunk.problem, unread, "bad_time")
    event = {"user": integers(chunk["user"]), "item": integers(chunk["item"]), "time": time}
    yield "behaviors", canonical({**event, "rating": integers(chunk["rating"])}, problem)
    yield "impressions", canonical({**event, label_of("like"): like}, mark(problem, unrated, "bad_label"))
