"""Sides of columns: whether the item or the user determines them, by their values or their names."""

import re
from typing import Literal

import pyarrow.compute as pc

from clickscale.data.described.drafts.roles.column_names import steps_before
from clickscale.data.described.drafts.roles.column_values import SOME_GROUPS, comparable, determines, repeats
from clickscale.data.described.drafts.roles.id_columns import guests_of, shared_id
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.rows import as_text

Side = Literal["item", "profile", "context"]
_OF_ITEMS = re.compile(
    r"categ|cate_|brand|price|genre|title|author|artist|publisher|seller|merchant|tag|topic|color|size|upload|"
    r"released|video_|item_|product_|movie_|news_|article_|ad_"
)
_OF_USERS = re.compile(
    r"^age|gender|sex$|occupation|job|income|zip|postal|city|region|country|register|signup|member|user_|vip|level"
)


def side_of(column: Column, user: Column | None, item: Column | None) -> tuple[Side, str]:
    """Choose the side of a column of the impressions; return it with the reason.

    If nearly every item with several rows has one value of the column, the column is an attribute of items,
    and likewise for users. If too few ids repeat in the head, the name decides.
    """
    for side, key in (("item", item), ("profile", user)):
        if key is not None and determines(key, column) and not _differs_in_shared(key, column):
            return side, f"each {key.name!r} has one value of it"  # type: ignore[return-value]
    name = column.name.lower()
    for side, key in (("item", item), ("profile", user)):
        way = steps_before(key) if key is not None else []
        if key is not None and way and steps_before(column)[: len(way)] == way and repeats(key) < SOME_GROUPS:
            return side, f"it stands beside {key.name!r}"  # type: ignore[return-value]
    if item is not None and _OF_ITEMS.search(name) and repeats(item) < SOME_GROUPS:
        return "item", "by its name"
    if user is not None and _OF_USERS.search(name) and repeats(user) < SOME_GROUPS:
        return "profile", "by its name"
    if user is None and item is None:
        return "context", "it is in the impressions"
    return "context", "it varies between the impressions of one item and of one user"


def _differs_in_shared(key: Column, column: Column) -> bool:
    """True if a column has several values in the rows of an id that stands for all that are unknown.

    Where such rows are users of their own, each has its value.
    """
    value, share = shared_id(key)
    if not share or str(value) in guests_of(key):
        return False
    among = pc.equal(as_text(key.values), str(value)).fill_null(False)
    return Column(column.name, comparable(column.values).filter(among)).distinct > 1
