"""MovieLens-100k: 100,000 ratings of 1,682 films by 943 users (GroupLens; research use, no redistribution).

Layout: ``u.data`` (tab: user, item, rating, timestamp), ``u.user`` ('|': id, age, gender, occupation, zip)
and ``u.item`` ('|', ISO-8859-1: id, title, dates, address, 19 genre flags), times in seconds.

Protocol and fields are those of `clickscale.data.adapters.movielens_1m`; ages are put into its seven groups
(under 18, 18-24, 25-34, 35-44, 45-49, 50-55, 56 and more), each named by its lowest age, 1 for the youngest.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters import _movielens as movielens
from clickscale.data.adapters._about import About, Archive
from clickscale.data.adapters._movielens import GENRES
from clickscale.data.adapters._movielens_wheel import PACKAGE, from_package_index
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import integers
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import find_file, read

CATEGORY = "genres"
RETURNING = False  # users rate their films in one sitting
_AGES = np.array([1, 18, 25, 35, 45, 50, 56])
_RATINGS = TextFormat(separator="\t", names=("user", "item", "rating", "time"), quote="")
_USERS = TextFormat(separator="|", names=("user", "age", "gender", "occupation", "zip"), quote="")
_ITEMS = TextFormat(
    separator="|",
    names=("item", "title", "released", "video_released", "address", *GENRES),
    quote="",
    encoding="latin-1",
)

ABOUT = About(
    title="100,000 ratings of 1,682 films by 943 users",
    size="5 MB",
    licence="GroupLens, research use, no redistribution",
    where="clickscale data get movielens-100k",
    archive=Archive(
        address="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        md5="0e33842e24a9c977be4e0107933c0723",
        files={
            "u.data": "",  # by its sorted rows, since copies in another order are as good
            "u.item": "c9e7f390115d79079537301d5204f3f7",
            "u.user": "1b53539edc13caad0282c8500608a319",
        },
        extras=("README", "u.genre", "u.info", "u.occupation"),
        ratings=("u.data", _RATINGS),
        histogram=(6_110, 11_370, 27_145, 34_174, 21_201),
        sha256="42bf31205dbc18ebf461e192b573be15a6ad604c628d82ff914abb69413a733d",
        mirrors={f"the package {PACKAGE}": from_package_index},
    ),
)


def source(folder: Path, *, content: Path | None = None, content_ids: Path | None = None) -> Source:
    """The log as a `Source`; the options are those of `clickscale.data.adapters.movielens_1m.source`."""
    vectors = movielens.open_content(content, content_ids)
    users, items, ratings = (find_file(folder, name) for name in ("u.user", "u.item", "u.data"))

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for chunk in read(users, format="csv", text=_USERS):
            yield "users", movielens.users_table(chunk, _age_group(chunk["age"]))
        for chunk in read(items, format="csv", text=_ITEMS):
            yield "items", movielens.items_table(chunk, _genres(chunk), vectors)
        for chunk in read(ratings, format="csv", text=_RATINGS):
            yield from movielens.rating_tables(chunk)

    return Source(schema=movielens.movielens_schema("movielens-100k", vectors), chunks=chunks)


def _age_group(values: pa.Array) -> pa.Array:
    ages = integers(values)
    if not pa.types.is_integer(ages.type):
        return values
    missing = ages.is_null().to_numpy(zero_copy_only=False)
    group = np.searchsorted(_AGES, ages.fill_null(1).to_numpy(zero_copy_only=False), side="right") - 1
    return pa.array(_AGES[np.maximum(group, 0)], mask=missing)


def _genres(chunk: Chunk) -> pa.Array:
    """Names of the flagged genres, joined by '|'."""
    nothing = pa.scalar(None, pa.string())
    flagged = [pc.if_else(pc.equal(chunk[genre], "1"), genre, nothing) for genre in GENRES]
    return pc.binary_join_element_wise(*flagged, "|", null_handling="skip")
