"""Tables of events: which columns of a sampled table are its user, item, time and outcomes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.computed.made_columns import parts_of_urls, with_clock
from clickscale.data.described.drafts.labels.label_search import Found, Label, find_labels
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName
from clickscale.data.described.drafts.roles.column_names import (
    CLICKS,
    FEEDBACK,
    is_action,
    is_quantity,
    named,
    plain_name,
)
from clickscale.data.described.drafts.roles.column_values import is_free_text, numbers_or_none, separation
from clickscale.data.described.drafts.roles.id_columns import find_id, shared_id
from clickscale.data.described.drafts.roles.moments import find_time, unread_time
from clickscale.data.described.drafts.roles.role_words import WORDS
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shapes import Shape
from clickscale.data.described.drafts.suspects import precedes, tells_outcome, written_after, written_with
from clickscale.data.described.drafts.toml_lines import quoted, remark
from clickscale.data.described.rows import as_text
from clickscale.data.features.values import read_labels
from clickscale.data.tables.casts import detect_unit, seconds
from clickscale.data.tables.conditions import parse_condition

_NO_ITEM = re.compile(
    r"(^|_)(country|region|city|state|location|zip|postal|segment|group|type|level|category|categ|warehouse|store|"
    r"branch|device|session|campaign|channel|plan|courier|rider|carrier|employee|staff|clerk|cashier|agent|operator|"
    r"address|payment|household)s?_?(id|no|key)?($|_)"
)
_OTHER_ID = "the other id beside the user"  # why a column is the item
_SHOWN = 40  # letters of a value in a reason
_OTHER_AD = "it tells"  # begins the reason
_BY_POSITION = "by its position, since no name helps: the user is often before the item"
_OTHER_CODES = "codes that come again with other users, as those of items do"
OTHER_USER = "another id of users, which many rows lack"  # why a column is left out
SAME_USER, SAME_ITEM = (f"each {kind} has one of its own, so it is a second id" for kind in ("user", "item"))
_VISIT = 86_400  # seconds between the first and the last row of a request or a visit, at most
_REQUESTS = 1.2  # requests of a user, at least
_OF_REQUESTS = re.compile(
    r"(^|_)(id|ids|key|token|uuid|guid|hash|nr|no)(_|$)|session|visit|request|sitzung|anfrage|sesion|sessao|seance|"
    r"peticion|requete|richiesta|sessione|sessie"
)
_NO_CODE = re.compile(
    r"(^|_)(ip|url|uri|host|domain|agent|ua|browser|os|version|referr?er|device|model|session|visit|request|query|"
    r"search|hash|token|lat|lon|geo|zip|postal|postcode|plz|country|region|city|state|segment|group|experiment|variant|"
    r"store|branch|warehouse|campaign|channel|slot|placement|position|page|date|time|hour|day)(_|$)"
)
# Where something was shown, and names such as C14, which say nothing.
_PLACE = re.compile(
    r"(^|_)(app|application|site|website|publisher|pub|domain|placement|ad_?unit|zone)_?(id|key)$"
)
_NAMELESS = re.compile(r"[A-Za-z]{1,6}_?\d+")
_TOLD = 2  # columns that say something of an ad, at least
_CODE = r"^[A-Za-z]+[-_:./]?[A-Za-z0-9]*\d+$"  # a word and a number
_MANY, _AGAIN = 30, 0.5  # different codes, at least, and as a share of the rows at most
_NOTHING = re.compile(r"(?!)")
_FEW_COLUMNS = 4  # of a table without times, whose first two may be user and item
_OWN = 0.95  # share of rows with a text of their own from which the texts say nothing of others
_SHARED = 0.2  # share of rows that follow one of their user and moment from which a clock is coarse
_TELLTALE = 0.95  # AUC of one column for the label above which the column is treated as feedback


@dataclass
class Events:
    """A table of events with its columns of user, item and time, those that it has.

    Attributes:
        unfit: columns that may hold the outcome but are no label, each with the reason.
    """

    shape: Shape
    user: Column | None
    item: Column | None
    time: Column | None
    why: str
    labels: list[Label] = field(default_factory=list)
    unfit: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """Sample of the table."""
        return self.shape.head

    @property
    def ids(self) -> set[str]:
        """Names of the columns of user, item and time, as far as there are any."""
        known = [column for column in (self.user, self.item, self.time) if column is not None]
        return {name for column in known for name in (column.parts or (column.name,))}

    def joining(self, kind: Literal["user", "item"]) -> Column | None:
        """Return the column of the ids by which tables of users or items are joined."""
        if kind == "user":
            return None if self.shape.composite else self.user
        return self.item

    @property
    def shares_moments(self) -> bool:
        """True if many rows have the user and the time of the row before."""
        if self.user is None or self.time is None:
            return False
        same = [pc.equal(column.values[1:], column.values[:-1]) for column in (self.user, self.time)]
        share = pc.mean(pc.and_(*same).cast(pa.int8())).as_py()
        return self.shape.listed is None and (share or 0.0) > _SHARED

    @property
    def is_item_by_values(self) -> bool:
        """True if the values of a column tell the item, and the name of another one the user."""
        return self.why in (_OTHER_ID, _OTHER_CODES) or self.why.startswith(_OTHER_AD)

    @property
    def is_by_position(self) -> bool:
        """True if no name and no other table tells users and items."""
        return self.why == _BY_POSITION

    @cached_property
    def truth(self) -> npt.NDArray[np.float64] | None:
        """(N,) whether the rows of the sample have the first outcome, NaN where unknown; None without one."""
        if not self.labels:
            return None
        label, condition, _ = self.labels[0]
        return _truth_of(label, condition)

    def tells_label(self, column: Column) -> str:
        """Return how a column tells the first outcome in the sample, empty if it does not."""
        if self.truth is None:
            return ""
        is_step = precedes(column, self.truth)
        if separation(column, self.truth) > _TELLTALE or (column.is_flag and is_step):
            return "it nearly determines the label, so it may be feedback"
        told = tells_outcome(column, self.truth)
        return told or ("no positive has most of its values, so it may be a step before" if is_step else "")

    def other_item(self) -> list[str]:
        """Write the comment that names another column which may be the item, if there is one."""
        ad = None if self.item is None else _ad_of_place(list(self.head.columns.values()), self.item)
        if self.item is None or ad is None:
            return []
        place, name = remark(self.item.name), ad[0].name
        return [
            f"# If {place} only says where an ad was shown, and {remark(name)} which it was:",
            f"#   item = {{ name = {quoted('item')}, column = {quoted(name)} }}",
        ]

    @property
    def rank(self) -> tuple[bool, ...]:
        """How much of an event the table tells: user and item, then a time, then a label."""
        return self.user is not None and self.item is not None, not self.shape.order, bool(self.labels)


def no_events(heads: Sequence[Head]) -> str:
    """Say why none of the tables is one of events, and the way out."""
    return (
        f"No table has columns for user, item and time together: {'; '.join(map(_roles_of, heads))}. "
        "Without a user or an item, a log needs a label: name its column with --label. If another column is "
        "there under another name, rename it or describe the log by hand; for public logs, see: clickscale "
        "data list."
    )


def _roles_of(head: Head) -> str:
    """Say which columns of a table are its user, item and time, and which of these roles no column has."""
    columns = list(head.columns.values())
    found = {"user": find_id(columns, "user"), "item": find_id(columns, "item"), "time": find_time(columns)}
    missing = [f"no {role} column" for role, column in found.items() if column is None]
    known = [f"{role} {column.name}" for role, column in found.items() if column is not None]
    has = f"{', '.join(known)}, but {' and '.join(missing)}" if known else ", ".join(missing)
    return f"{head.path.name} has {has} among {', '.join([*head.columns, *head.left_out])}"


def find_events(shape: Shape) -> Events | None:
    """Return the table as one of events, if it has a user and an item, or a label."""
    head = shape.head
    columns = [column for column in head.columns.values() if column.name not in shape.left_out]
    time = shape.time or with_clock(find_time(columns), list(head.columns.values()))
    user, item, why = _user_and_item(shape, columns, time)
    both = user is not None and item is not None
    described = [column for column in (user, item) if column is not None and not _comes_back(column)]
    if not both:  # a column with one row for each id is the key of a table of attributes
        user, item = (None if column in described else column for column in (user, item))
    rest = [column for column in columns if column not in (time, user, item)]
    found = Found(list(shape.labels)) if shape.labels else find_labels(rest, head, user, item, time)
    labels = found.labels
    if not labels and user is None and item is None and not head.named:
        labels = [(flag, "", "a column of 0 and 1 at the edge of the table") for flag in _edges(columns)[:1]]
    if not both and not labels:
        return None
    telling = bool(labels) and _tells_events(labels[0], bool(described))
    if item is None and not telling and (described or labels[0][0] not in _edges(columns)):
        return None
    if time is None and both and len(described) == 2:
        return None
    if time is None and not shape.order:
        shape = replace(shape, order="rows")
    useless_ids = _other_users(rest, user) | _requests(rest, user, time)
    useless_ids |= _second_ids(rest, user, SAME_USER) | _second_ids(rest, item, SAME_ITEM)
    unread = unread_time(rest) if time is None else None
    if unread is not None and unread.distinct > _AGAIN * len(unread.values):
        useless_ids[unread.name] = "by its name a time that moves on, and it is not read as one"
    shape = replace(shape, left_out={**useless_ids, **shape.left_out, **_never_features(rest, found)})
    return Events(shape, user, item, time, why, labels, found.unfit)


def _other_users(columns: Sequence[Column], user: Column | None) -> dict[str, str]:
    """Return the ids of users that gave way to the one of the table, which all rows have."""
    if user is None or pa.types.is_nested(user.values.type):
        return {}
    preferred = [
        column
        for column in columns
        if column is not user
        and find_id([column], "user") is column
        and named([column, user], WORDS["user"].names) is not user
    ]
    return {column.name: OTHER_USER for column in preferred if find_id([column, user], "user") is user}


def _second_ids(columns: Sequence[Column], key: Column | None, why: str) -> dict[str, str]:
    """Return the columns that say no more than an id: each id has one value, and each value one id."""
    if key is None or pa.types.is_nested(key.values.type):
        return {}
    flat = [column for column in columns if not pa.types.is_nested(column.values.type)]
    codes = [c for c in flat if c.floats is None or _OF_REQUESTS.search(OutcomeName(c.name).snake)]
    return {
        column.name: why
        for column in codes
        if min(column.distinct, key.distinct) >= _MANY
        and not (column.unit or column.is_date or column.separator or column.holds_urls)
        and side_of(column, None, key)[0] == "item"
        and side_of(key, None, column)[0] == "item"
    }


def _requests(columns: Sequence[Column], user: Column | None, time: Column | None) -> dict[str, str]:
    """Return the ids of requests or visits: several of each user, one after the other and soon over."""
    if user is None or time is None or pa.types.is_nested(user.values.type) or not time.unit:
        return {}
    moments = seconds(time.values, detect_unit(time.known))[0]
    return {
        column.name: "an id of one request or visit, which does not come back"
        for column in columns
        if not pa.types.is_nested(column.values.type)
        and (column.is_id or column.floats is None or column.is_whole)
        and not column.unit
        and column.distinct > _REQUESTS * user.distinct
        and side_of(user, None, column)[0] == "item"
        and (
            soon_over(column, moments)
            if _OF_REQUESTS.search(OutcomeName(column.name).snake)
            else _numbers_requests(column, user, moments)
        )
    }


def _numbers_requests(column: Column, user: Column, moments: pa.Array) -> bool:
    """True for codes with figures of which each request, the rows of a user and a moment, has its own.

    Plain numbers must count up with time: those that go up and down, such as balances, are amounts.
    """
    if not pc.all(pc.match_substring_regex(as_text(column.known), r"\d")).as_py():
        return False
    numbers = numbers_or_none(column) if column.is_id else None
    if numbers is not None:
        steps = np.diff(numbers[pc.sort_indices(moments)])
        if (steps > 0).sum() < _OWN * (steps != 0).sum():
            return False
    rows = pa.table({"id": column.values, "user": user.values, "at": moments}).drop_null()
    requests = rows.group_by(["user", "at"]).aggregate([("id", "count_distinct"), ("id", "count")])
    several = rows.num_rows > _REQUESTS * len(requests)
    alone = pc.mean(pc.equal(requests["id_count_distinct"], 1).cast(pa.int8())).as_py() or 0.0
    return several and alone >= _OWN and column.distinct >= _OWN * len(requests)


def soon_over(column: Column, moments: pa.Array) -> bool:
    """True if the rows of nearly each value lie within a day of each other, and all rows do not."""
    rows = pa.table({"id": column.values, "at": moments}).drop_null()
    spans = rows.group_by("id").aggregate([("at", "min"), ("at", "max")])
    lasted = pc.subtract(spans["at_max"], spans["at_min"])
    whole = pc.subtract(pc.max(rows["at"]), pc.min(rows["at"])).as_py() if rows.num_rows else 0
    return bool(whole > _VISIT and pc.mean(pc.less_equal(lasted, _VISIT).cast(pa.int8())).as_py() >= _OWN)


def _tells_events(label: Label, has_key: bool) -> bool:
    """True if the name of an outcome tells that rows are events.

    Args:
        has_key: true if each row has a user or an item of its own; then counts may be totals.
    """
    column, condition, _ = label
    if named([column], CLICKS) is not None:
        return not (has_key and condition.endswith(">= 1"))
    said = OutcomeName(column.name)
    answers = said.tells_events and "'" in condition  # such as outcome == 'ACCEPTED'
    return (said.is_plain or said.has_weak_word or column.is_label or answers) and not has_key


def _never_features(columns: Sequence[Column], found: Found) -> dict[str, str]:
    """Return the columns that came with the outcome and would not be left out, or shown later, without it."""
    later = [
        column.name
        for column in columns
        if written_after(column)
        or written_with(column, varies=True)
        or is_action(column)
        or (column.is_flag and named([column], FEEDBACK))
    ]
    return {name: why for name, why in (found.unfit | found.shown).items() if name not in later}


def _user_and_item(
    shape: Shape, columns: list[Column], time: Column | None
) -> tuple[Column | None, Column | None, str]:
    """Find the ids by their shape, names or positions, and return them with the reason."""
    every = list(shape.head.columns.values())
    user, item = shape.user or find_id(every, "user"), shape.item or find_id(every, "item")
    why = "by its name" if shape.item is None else "its lists hold items"
    if item is not None and item.role:
        why = "each of its values has a row of its own in another table"
    ad = None if item is None else _ad_of_place(columns, item)
    if item is not None and ad is not None and len(ad[1]) >= _TOLD and shared_id(item)[1]:
        place, (item, told_of) = item.name, ad
        why = f"{_OTHER_AD} {' and '.join(told_of)} as an ad does, and {place} says where it was shown"
    ids = [column for column in columns if column is not time and _may_be_id(column)]
    told = shape.head.named and any(
        column.is_flag and OutcomeName(column.name).has_word for column in columns
    )
    if shape.item is not None and user is None and not shape.head.named:
        user = next((column for column in ids if column is not item), None)
    elif user is not None and item is None and _comes_back(user):
        others = _other_users(columns, user)
        columns = [column for column in columns if column.name not in others]
        item, why = _other_id(columns, user, shape.head.unnest), _OTHER_ID
        if item is None and shape.head.named:
            item, why = _codes_of_items(columns, user), _OTHER_CODES
    elif user is None and item is None and not told and (time is not None or _begins_with_ids(columns)):
        again = [column for column in ids if _comes_back(column)]  # unlike the number of a row
        found = again if len(again) > 1 else ids
        user, rest = next(iter(found), None), found[1:]
        # The one address that a user has in all rows is no item.
        apart = [column for column in rest if side_of(column, user, None)[0] != "profile"]
        item = next(iter(apart or rest), None)
        why = _BY_POSITION
    return (None if user is item else user), item, why


def _ad_of_place(columns: Sequence[Column], item: Column) -> tuple[Column, list[str]] | None:
    """Find the column that may name the ad where the item is a place, one of several kinds of places.

    As in the log of Avazu, it has no name, and each of its values has one value of other such columns.

    Returns:
        It, and the names of these others; None if the item is no place or nothing names the ad.
    """
    places = [column for column in columns if _PLACE.search(OutcomeName(column.name).snake)]
    if item not in places or len(places) < _TOLD:
        return None
    flat = [c for c in columns if not pa.types.is_nested(c.values.type) and c.distinct > 1]
    nameless = [column for column in flat if _NAMELESS.fullmatch(column.name)]
    ids = [
        c for c in nameless if _MANY <= c.distinct < _AGAIN * len(c.known) and (c.is_id or c.floats is None)
    ]
    told = [(c, [o.name for o in nameless if o is not c and side_of(o, None, c)[0] == "item"]) for c in ids]
    ad, others = max(told, key=lambda pair: (len(pair[1]), pair[0].distinct), default=(item, []))
    return (ad, others) if others else None


def _other_id(columns: Sequence[Column], user: Column, unnest: str) -> Column | None:
    """Find the item of a table by its user: the other id, of several the one with the most values.

    In a list of events, names such as ``aid`` are ids, too.
    """
    inner = re.compile(rf"^{re.escape(unnest)}\.(\w+\.)*\w*id$") if unnest else _NOTHING
    others = [
        column
        for column in columns
        if column is not user
        and (re.search(r"_ids?$|[a-z]I[Dd]$", column.name) or inner.match(column.name))
        and not OutcomeName(column.name).matches(_NO_ITEM)
        and 1 < column.distinct < 0.9 * len(column.values)
        and side_of(user, None, column)[0] != "item"  # unlike visits, of which each has one user
    ]
    return max(others, key=lambda column: column.distinct, default=None)


def _codes_of_items(columns: Sequence[Column], user: Column) -> Column | None:
    """Find texts such as SKU-00344 that come again with many users, of several those with the most values."""
    codes = [
        column
        for column in columns
        if column is not user
        and _MANY <= column.distinct < _AGAIN * len(column.known)
        and column.floats is None
        and pa.types.is_string(column.values.type)
        and not column.unit
        and not OutcomeName(column.name).matches(_NO_CODE)
        and bool(pc.mean(pc.match_substring_regex(column.known, _CODE).cast(pa.int8())).as_py() > _OWN)
        and side_of(column, user, None)[0] == "context"
        and side_of(user, None, column)[0] == "context"
    ]
    return max(codes, key=lambda column: column.distinct, default=None)


def _begins_with_ids(columns: Sequence[Column]) -> bool:
    """True for a table without times that has little else than two ids in front."""
    return len(columns) <= _FEW_COLUMNS and len(columns) > 1 and all(map(_may_be_id, columns[:2]))


def _comes_back(key: Column) -> bool:
    """True if ids repeat, as in a table of events and not in one of attributes."""
    return key.distinct < 0.9 * len(key.values)


def _edges(columns: Sequence[Column]) -> list[Column]:
    """Return the first and the last column, those that hold 0 and 1."""
    return [column for column in (*columns[:1], *columns[-1:]) if column.is_flag]


def _may_be_id(column: Column) -> bool:
    if pa.types.is_nested(column.values.type):
        return False
    several = column.distinct > 20 or plain_name(column.name).endswith("id")
    return (
        several and not column.unit and (column.is_id or (column.floats is None and not is_free_text(column)))
    )


def useless(column: Column) -> str:
    """Return the reason why a column cannot be a feature, or an empty text."""
    if column.distinct < 2:
        either = len(column.known) and column.values.null_count
        told = f"is {str(column.known[0].as_py())[:_SHOWN]!r} or nothing" if either else "has one value"
        return f"it {told} in {len(column.values):,} sampled rows"
    if column.holds_urls:
        return (
            ""
            if parts_of_urls(column)
            else "URLs whose hosts and sections hardly differ, or never come again"
        )
    if is_free_text(column):
        return "free text"
    rows = len(column.values)
    if rows <= 20 or column.unit or column.is_date or column.separator:
        return ""
    if _is_code(column) and column.distinct >= _OWN * rows:
        return "it differs in every row" if column.distinct == rows else "it differs in nearly every row"
    return "it differs in every row" if _numbers_rows(column) and not is_quantity(column) else ""


def _is_code(column: Column) -> bool:
    """True for texts that are no numbers, or numbers with zeros in front."""
    if not pa.types.is_string(column.values.type) or column.written[0]:
        return False  # numbers that people wrote have marks beside their figures
    return column.floats is None or (
        column.is_whole and not column.is_id and pc.min(column.floats).as_py() >= 0
    )


def _numbers_rows(column: Column) -> bool:
    """True if every row has an integer of its own."""
    return column.is_id and column.distinct == len(column.values)


def _truth_of(column: Column, condition: str = "") -> npt.NDArray[np.float64]:
    """Return (N,) outcomes by a condition, or numbers, or words as 1 and 0; NaN where unknown."""
    if condition:
        outcome, _ = parse_condition(condition).evaluate(column.values)
        return np.asarray(outcome.cast(pa.float64()).to_numpy(zero_copy_only=False))
    numbers = numbers_or_none(column)
    if numbers is not None:
        return numbers
    labels, _ = read_labels(column.values)
    return np.where(labels < 0, np.nan, labels)
