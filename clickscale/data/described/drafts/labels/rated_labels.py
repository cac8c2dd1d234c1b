"""Labels of ratings: a condition on the stars, points or marks that users gave."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.roles.column_names import RATINGS, named
from clickscale.data.described.drafts.roles.column_values import looks_rated, numbers_or_none
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column
from clickscale.data.features.ratings import plain_ratings

_FEW = 20  # different ratings, at most
_TENTHS = 101  # the same of ratings such as 8.7/10


def rated_label(
    columns: Sequence[Column], are_named: bool, item: Column | None
) -> tuple[Column, str, str] | None:
    """Make a label of ratings: four stars of five, or as much of the most that was given.

    Args:
        are_named: whether the columns have names that a log gave them.
        item: the column of items, if it is known.

    Returns:
        The column, the condition and the reason; None without ratings that vary.
    """
    found = named(columns, RATINGS) or next((c for c in columns if not are_named and looks_rated(c)), None)
    if found is None:
        return None
    rating = _without_unrated(found)
    given = _as_given(rating)
    is_written = not given.values.equals(rating.values)  # 8.7/10, 4 of 5 or stars, which only ratings are
    if side_of(rating, None, item)[0] == "item":
        return None  # what all think of it, or the stars of a hotel
    # A condition compares numbers of computers, of no other notation.
    if (
        given.floats is None
        or given.written[0]
        or not 2 < given.distinct <= (_TENTHS if is_written else _FEW)
    ):
        return None
    high = 4.0 if (most := pc.max(given.floats).as_py()) <= 5 else float(np.ceil(0.8 * most))
    without = f"; {rating.unknown} means not rated" if rating.unknown else ""
    return rating, f"{rating.name} >= {high:g}", f"ratings go up to {most:g}{without}"


def _as_given(rating: Column) -> Column:
    """Write ratings such as ``4 of 5`` as the numbers that were given."""
    is_text = pa.types.is_string(rating.values.type)
    return Column(rating.name, plain_ratings(rating.values)) if is_text else rating


def _without_unrated(rating: Column) -> Column:
    """Make -1 missing in a column of ratings, where it is the only number below 0: none was given."""
    given = _as_given(rating)
    numbers = numbers_or_none(given)
    if numbers is None or given.written[0]:
        return rating
    below = np.unique(numbers[numbers < 0])
    if below.tolist() != [-1.0] or rating.distinct <= 3:
        return rating  # of the thumbs -1, 0 and 1, the first one is an outcome
    values = pc.if_else(pa.array(numbers == -1), pa.scalar(None, rating.values.type), rating.values)
    return replace(rating, values=values, unknown="-1")
