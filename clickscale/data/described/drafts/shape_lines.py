"""Lines of a draft that describe the shape of a table: its lists, and the parts that it is divided into."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from clickscale.data.described.drafts.roles.moments import unread_time
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.shapes import Shape
from clickscale.data.described.drafts.toml_lines import quoted, remark
from clickscale.data.described.rows import Lists, Order

_CHANGES = 50  # between outcomes of neighboring rows that are enough to judge the order of the rows
_ORDERS = {
    "rows": "no column has the time, so later rows are taken to be later",
    "lists": "no column has the time; the items of a user stand in order",
}

_FIRST_PLACES = {0: "the first entry has place 0", 1: "the first entry has place 1"}

_SORTED = """\
# WARNING: positives and negatives stand together in runs, so the rows are hardly in the order of time, and
# the last rows are no fair test. Name a column with the time, or remove copies of rows and shuffle the file,
# or name the parts: [split] with kind = "column", or one file for each part with kind = "files"."""

_UNREAD = """\
# WARNING: {name} ({value}) is not read as a time,
# so the order of the rows stands for it. If it is the time, write it as 2024-01-31T22:41:27 or as seconds
# since 1970, and name it instead of the order: time = {name}"""
_OTHER_START = """\
# Seconds since another moment are read with time_unit = "s" and, above [impressions],
# time_bounds = [0, 4102444800]"""


def list_lines(lists: Lists, doubt: str = "") -> Iterator[str]:
    """Yield the keys of ``[impressions.lists]``, with what the sample leaves in doubt."""
    yield "\n[impressions.lists]  # every entry of the lists in the item column becomes a row"
    if lists.separator:
        yield f"separator = {quoted(lists.separator)}"
    for name, meaning in (
        ("parallel", "lists with one value for each item"),
        ("chosen", "lists of those items that had the outcome"),
        ("chosen_places", "places of those items that had the outcome"),
    ):
        columns = getattr(lists, name)
        if columns:
            yield f"{name} = [{', '.join(quoted(column) for column in columns)}]  # {meaning}"
    if lists.chosen_places:
        yield f"first_place = {lists.first_place}  # {_FIRST_PLACES[lists.first_place]}"
        if doubt:
            yield f"# WARNING: {doubt}"
    for name, meaning in (
        ("suffix", "the 0 or 1 at the end of each entry"),
        ("first", "the first entry of each list"),
        ("position", "the place in the list, which tells something of the outcome"),
    ):
        if getattr(lists, name):
            yield f"{name} = {quoted(getattr(lists, name))}  # {meaning}"
    if lists.gather:
        yield "\n[impressions.lists.gather]  # lists that are made of the columns of a row"
        for name, parts in lists.gather.items():
            yield f"{name} = [{', '.join(map(quoted, parts))}]"


def order_lines(
    order: Order, columns: Iterable[Column], label: npt.NDArray[np.float64] | None
) -> Iterator[str]:
    """Yield the key of a table whose rows or lists stand in order, with what speaks against it.

    Args:
        columns: of the table; one may be a time in a form that is not read.
        label: (N,) outcomes of a sample of the rows; None if they say nothing of the order.
    """
    yield f'order = "{order}"  # {_ORDERS[order]}'
    if (unread := unread_time(columns)) is not None:
        yield _UNREAD.format(name=quoted(unread.name), value=remark(str(unread.known[0])))
        if unread.floats is not None:
            yield _OTHER_START
    if order == "rows" and label is not None and _stand_together(label):
        yield _SORTED


def _stand_together(label: npt.NDArray[np.float64]) -> bool:
    """True if outcomes change from row to row less than half as often as in rows in any order."""
    known = label[np.isfinite(label)]
    rate = known.mean() if len(known) else 0.0
    expected = 2 * rate * (1 - rate) * (len(known) - 1)
    return bool(expected >= _CHANGES and np.sum(known[1:] != known[:-1]) < 0.5 * expected)


def split_lines(shape: Shape, user: Column | None) -> Iterator[str]:
    """Yield the keys of ``[split]``."""
    yield "\n[split]"
    if shape.parts:
        yield 'kind = "files"  # the parts are files'
    elif shape.part:
        yield 'kind = "column"'
        yield f"column = {quoted(shape.part)}  # it names the parts"
    elif shape.order == "lists" or (shape.order and user is not None and _is_grouped(user)):
        yield 'kind = "user_last"  # the last moment of each user is for test, the one before for valid'
        yield "valid = 1"
        yield "test = 1"
    else:
        yield 'kind = "time"  # the last 10% of the impressions are for test, the 10% before for valid'
    if shape.parts and "valid" not in shape.parts:
        yield "valid = 0.1  # no file is for valid: the last 10% of train are"


def _is_grouped(user: Column) -> bool:
    """True if the rows of each user stand together."""
    codes = user.values.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    runs = 1 + int(np.sum(codes[1:] != codes[:-1]))
    return user.distinct < 0.9 * len(codes) and runs <= 1.05 * user.distinct
