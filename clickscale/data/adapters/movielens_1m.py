"""MovieLens-1M: 1,000,209 ratings of 3,706 films by 6,040 users (GroupLens; research use, no redistribution).

Layout: ``ratings.dat`` (UserID::MovieID::Rating::Timestamp), ``users.dat``
(UserID::Gender::Age::Occupation::Zip) and ``movies.dat`` (MovieID::Title (Year)::Genre|Genre, ISO-8859-1),
times in seconds.

Protocol: the label ``like`` is rating >= 4; behaviors are the user's earlier ratings with the rating as an
attribute; impressions are split 80 / 10 / 10 by global time.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from clickscale.data.adapters import _movielens as movielens
from clickscale.data.adapters._about import About, Archive
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import integers
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.data.tables.row_order import RowOrder

CATEGORY = "genres"
RETURNING = False  # users rate their films in one sitting
_RATINGS = TextFormat(separator="::", names=("user", "item", "rating", "time"), quote="")
_USERS = TextFormat(separator="::", names=("user", "gender", "age", "occupation", "zip"), quote="")
_MOVIES = TextFormat(separator="::", names=("item", "title", "genres"), quote="", encoding="latin-1")

ABOUT = About(
    title="1,000,209 ratings of 3,706 films by 6,040 users",
    size="6 MB",
    licence="GroupLens, research use, no redistribution",
    where="clickscale data get movielens-1m",
    archive=Archive(
        address="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        md5="c4d9eecfca2ab87c1945afe126590906",
        files={"ratings.dat": "", "users.dat": "", "movies.dat": ""},
        extras=("README",),
        ratings=("ratings.dat", _RATINGS),
        histogram=(56_174, 107_557, 261_197, 348_971, 226_310),
    ),
)


def source(
    folder: Path,
    *,
    ordered: bool = False,
    content: Path | None = None,
    content_ids: Path | None = None,
) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds the three files, or one folder with them.
        ordered: rows of equal user and time are in their true order, so the earlier ones are known to the
            later ones; each row gets a time one second after the row before. Correct for a copy whose
            times are rounded; in the official file, where a page of ratings shares one second, it is a guess.
        content: ``.npy`` matrix of item vectors; becomes the content field ``text``.
        content_ids: ``.npy`` of the MovieID of each row; ``item_text_emb_ids.npy`` beside the matrix if None.
    """
    vectors = movielens.open_content(content, content_ids)
    users, movies, ratings = (find_file(folder, name) for name in ("users.dat", "movies.dat", "ratings.dat"))

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for chunk in read(users, text=_USERS):
            yield "users", movielens.users_table(chunk, integers(chunk["age"]))
        for chunk in read(movies, text=_MOVIES):
            yield "items", movielens.items_table(chunk, chunk["genres"], vectors)
        order = RowOrder() if ordered else None
        for chunk in read(ratings, text=_RATINGS):
            yield from movielens.rating_tables(chunk, order)

    return Source(schema=movielens.movielens_schema("movielens-1m", vectors), chunks=chunks)
