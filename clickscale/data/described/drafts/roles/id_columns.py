"""Ids of users and of items among the columns of a table, and the values that stand for none."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.roles.column_names import mentions, named, plain_ends, plain_name
from clickscale.data.described.drafts.roles.column_values import determines
from clickscale.data.described.drafts.roles.role_words import DOUBTFUL, HASHED, WORDS, words
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.rows import as_text

_LINES = re.compile(
    r"(order|line|cart|basket|invoice|receipt)(item|product)"
)  # a row of an order, not what it is of
# Ids of places and of kinds of users or items, and words that only contain one for an item.
_OF_SOMETHING_ELSE = re.compile(
    r"country|region|city|state|location|zip|postal|categor|type|segment|group|level|version|agent|quality|genre|format|"
    r"class|status|booking|tracking|newsletter|facebook|bookmark|bookkeep|filming"
)
_SOME = 30  # different ids from which one that most rows have stands for none
_NOBODY = words(
    "none null nan undefined unknown unidentified guest guests anonymous anon nobody na 0 0.0 -1 -1.0"
)
_SESSIONS = ("sessionid", "session")  # users where nothing else is one
_GAPS = 0.1  # share of the rows without an id from which one that all rows have is better
_EVERY = 0.95  # share of the rows with an id of their own from which it is none of users
_MOSTLY_ONE = 0.9  # share of the devices with one user
_FIRST_IDS = 100  # numbers up to which ids that count up from 0 begin, so 0 is one of them
_SOME_GUESTS = 0.01  # share of rows without a user below which they are faulty
_MOSTLY, _BEYOND = 0.3, 10  # share of its rows, and how often it comes for the second most frequent one


def find_id(columns: Sequence[Column], kind: Literal["user", "item"]) -> Column | None:
    """Find the user or item id by its name: a known name, or one that ends in "id" and has a fitting word.

    Another table may tell it before (`Column.role`). A user id that many rows lack gives way to one of the
    same users that all rows have.
    """
    told = next((column for column in columns if column.role == kind), None)
    if told is not None:
        return told
    known = named([c for c in columns if _may_be(c, kind)], WORDS[kind].names)
    found = known or next((c for c in columns if _is_similar(c, kind) and _may_be(c, kind)), None)
    if kind == "item" or found is None or not _has_gaps(found):
        return found
    others = [c for c in columns if c is not found and not _misses(c) and _names_user(c)]
    complete = [c for c in others if c.distinct < _EVERY * len(c.values)]
    return next((c for c in complete if _identifies(c, found)), found)


def _has_gaps(user: Column) -> bool:
    """True for an id that many rows lack, or have a word for nobody instead."""
    if pa.types.is_nested(user.values.type):
        return False
    return int(np.sum(_is_nobody(user))) >= _GAPS * len(user.values) > 0


def _identifies(user: Column, other: Column) -> bool:
    """True if rows of one user have one id of another kind, where they have any."""
    has = pa.array(~_is_nobody(other))
    both = [Column(each.name, each.values.filter(has)) for each in (user, other)]
    return determines(both[0], both[1], _MOSTLY_ONE)


def _is_nobody(user: Column) -> npt.NDArray[np.bool_]:
    """Tell which rows (N,) have no user, or a value that stands for none."""
    named = pc.is_in(as_text(user.values), value_set=pa.array(guests_of(user), pa.string()))
    return np.asarray(pc.or_(named, user.values.is_null()))


def _misses(column: Column) -> int:
    """Count the rows without a value; lists are of no single one."""
    return 0 if pa.types.is_nested(column.values.type) else int(column.values.null_count)


def _names_user(column: Column) -> bool:
    """True for the name of an id of users, one of visits apart."""
    if pa.types.is_nested(column.values.type) or not _may_be(column, "user"):
        return False
    names = (*plain_ends(column.name), plain_name(column.name))
    if any(name.endswith(_SESSIONS) for name in names):
        return False
    return named([column], WORDS["user"].names) is not None or _is_similar(column, "user")


def _is_similar(column: Column, kind: Literal["user", "item"]) -> bool:
    """True for a name that ends in "id" and has a word for users or items; in other scripts for the word."""
    name = column.name.lower()
    if WORDS[kind].foreign.search(unicodedata.normalize("NFC", name)):
        return True
    plain = plain_name(name)
    if not (plain.endswith(("id", "no", "key", "cd")) or HASHED.search(plain)):
        return False
    return mentions(name, kind) and not _OF_SOMETHING_ELSE.search(name) and not _LINES.search(plain)


def _may_be(column: Column, kind: Literal["user", "item"]) -> bool:
    """True for an id that has enough values for its name; of one item no rows differ."""
    if kind == "item" and column.distinct == 1 and len(column.values) > _SOME:
        return False
    names = (plain_name(column.name), *plain_ends(column.name))
    return DOUBTFUL.isdisjoint(names) or _has_many(column)


def _has_many(column: Column) -> bool:
    """True for a column of enough values to be ids; lists are."""
    return pa.types.is_nested(column.values.type) or column.distinct >= _SOME


def shared_id(column: Column) -> tuple[object, float]:
    """Return the value that seems to stand for all unknown ids, and its share of the rows; 0 without one.

    In many logs most rows name the same device, which is none.
    """
    if pa.types.is_nested(column.values.type) or column.distinct < _SOME:
        return None, 0.0
    counted = pc.value_counts(column.known)
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    second, first = np.partition(counts, -2)[-2:].tolist()
    share = first / len(column.values)
    if share < _MOSTLY or first < _BEYOND * second:
        return None, 0.0
    return counted.field("values")[int(np.argmax(counts))].as_py(), share


def guests_of(user: Column) -> list[str]:
    """List the values that stand for visitors without an id, an empty one for a missing id."""
    if pa.types.is_nested(user.values.type):
        return []
    value, share = shared_id(user)
    texts = {str(value)} if share and str(value).strip().lower() in _NOBODY else _nobodies(user)
    zeros = pc.filter(user.known, pc.match_substring_regex(as_text(user.known), r"^[0-]{6,}$"))
    if len(zeros) > _SOME_GUESTS * len(user.values):  # such as an advertising id that its owner has forbidden
        texts |= set(as_text(zeros).to_pylist())
    return sorted(texts) + [""] * (user.values.null_count > _SOME_GUESTS * len(user.values))


def _nobodies(user: Column) -> set[str]:
    """Return the words for nobody that some rows have; a number is one if it is far below all ids."""
    counted = pc.value_counts(as_text(user.known)).to_pylist()
    some = {each["values"] for each in counted if each["counts"] > _SOME_GUESTS * len(user.values)}
    words = {text for text in some if text.strip().lower() in _NOBODY}
    if user.floats is None:
        return words
    others = user.floats.filter(pc.greater(user.floats, 0))
    return words if len(others) and pc.min(others).as_py() > _FIRST_IDS else set()
