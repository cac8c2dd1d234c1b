"""Roles of columns, guessed from names, values, and whether the item or the user determines them."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.outcome_words import PLAIN_LETTERS, OutcomeName
from clickscale.data.described.drafts.role_words import CODES, DOUBTFUL, QUANTITIES, WORDS, YEARS
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.rows import as_text
from clickscale.data.tables.casts import detect_unit, seconds

Side = Literal["item", "profile", "context"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TIMES = _words(
    "timestamp time ts eventtime timems timestampms datetime unixtime unixreviewtime impressiontime "
    "clicktime createdat eventtimestamp occurredat servertime requesttime starttime date day reviewtime "
    "hour datehour"
)
CLICKS = _words("click clicked isclick clk isclicked clicks clickbool label target y")
FEEDBACK = _words(
    "like liked likes islike isliked follow isfollow share shared isshare comment iscomment forward "
    "isforward save saved cart addtocart iscart favorite favourite isfavorite purchase purchased ispurchase "
    "bookingbool booked buy bought isbuy order ordered isorder conversion converted isconversion cvr install "
    "hate ishate longview islongview finish finished subscribe subscribed profileenter isprofileenter"
)
RATINGS = _words(
    "rating ratings stars star score overall reviewscore starrating userrating ratingvalue bewertung sterne "
    "valoracion calificacion avaliacao valutazione beoordeling"
)
_ACTIONS = _words(
    "action event eventtype behaviortype behaviourtype behavior behaviour btag actiontype interaction type"
)
_ACTION_VALUES = frozenset(
    _words(
        "pv view views click clicks buy purchase purchases cart carts addtocart fav favorite like share "
        "order orders impression show collect"
    )
)

# Words inside a name that hint at when a value is known, or at its side.
_AFTERWARDS = re.compile(
    r"play_?time|watch|dwell|read_?time|(?<!of_)stay|scroll|revenue|nonclk|non_?click|completion|progress|percent_viewed"
)
_OF_ITEMS = re.compile(
    r"categ|cate_|brand|price|genre|title|author|artist|publisher|seller|merchant|tag|topic|color|size|upload|"
    r"released|video_|item_|product_|movie_|news_|article_|ad_"
)
_OF_USERS = re.compile(
    r"^age|gender|sex$|occupation|job|income|zip|postal|city|region|country|register|signup|member|user_|vip|level"
)
_SOME_YEARS = 20  # different years up to which each is learned for itself
_CODES = re.compile(
    r"(^|_)(id|ids|code|key|hash|zip\w*|postal\w*|no|idx|index|type|class|version)($|_)|(id|code)$"
)
_LINES = re.compile(r"(order|line|cart|basket|invoice|receipt)(item|product)")  # not what an order is of
_HASHED = re.compile(r"(md5|sha\d*|hash(ed)?)$")  # a cookie_md5 names what a cookie does
_BARE = _words("id key no type name value index label target y event")  # too little as the end of a path
# Ids of places and of kinds of users or items, and words that only contain one for an item.
_OF_SOMETHING_ELSE = re.compile(
    r"country|region|city|state|location|zip|postal|categor|type|segment|group|level|version|agent|quality|genre|format|"
    r"class|status|booking|tracking|newsletter|facebook|bookmark|bookkeep|filming"
)
_DAY, _DAYS = 86_400, 366  # seconds, and days: no time is below, but hours of a day and days of a year are
_SOME = 30  # different ids from which one that most rows have stands for none
_NOBODY = _words(
    "none null nan undefined unknown unidentified guest guests anonymous anon nobody na 0 0.0 -1 -1.0"
)
_SESSIONS = ("sessionid", "session")  # users where nothing else is one
_GAPS = 0.1  # share of the rows without an id from which one that all rows have is better
_MOSTLY_NONE = 0.5  # share of the rows without a moment beyond which it came of few of them
_EVERY = 0.95  # share of the rows with an id of their own from which it is none of users
_MOSTLY_ONE = 0.9  # share of the devices with one user
_FIRST_IDS = 100  # numbers up to which ids that count up from 0 begin, so 0 is one of them
_SOME_GUESTS = 0.01  # share of rows without a user below which they are faulty
_MOSTLY, _BEYOND = 0.3, 10  # share of its rows, and how often it comes for the second most frequent one
_NEIGHBORS = 4  # different values in a group of neighbors, at least
_MOST_GROUPS = 32
_CERTAIN = 3.0  # deviations from no correlation beyond which neighboring values are alike
_GROUPS = 20  # items or users with several rows that are enough for evidence from values
_BEFORE = 0.99  # share of the rows in which a moment that is known lies before the impression


@lru_cache(10_000)
def plain_name(name: str) -> str:
    """Reduce a name to the form of the lists of words: lower case, without accents and marks."""
    return re.sub(r"[\W_]", "", _without_accents(name))


def _without_accents(text: str) -> str:
    """Write a text in lower case and letters of English, as far as it has any."""
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return plain.replace("ß", "ss").translate(PLAIN_LETTERS)


@lru_cache(10_000)
def plain_ends(name: str) -> tuple[str, ...]:
    """List the plain names of what a path ends with, itself left out: of ``context.user.id``, userid.

    A single last step such as ``id`` says too little.
    """
    steps = name.split(".")
    ends = [plain_name(".".join(steps[start:])) for start in range(1, len(steps))]
    return tuple(end for end in ends if end not in _BARE)


def named(columns: Iterable[Column], names: Sequence[str]) -> Column | None:
    """Find the column with the most preferred of the names; a path counts by what it ends with as well."""
    last_first = list(columns)[::-1]
    known = {end: column for column in last_first for end in plain_ends(column.name)}
    for column in last_first:
        if (stem := _HASHED.sub("", plain_name(column.name))) != plain_name(column.name):
            known |= {f"{stem}id": column, stem: column}
    known |= {plain_name(column.name): column for column in last_first}
    return next((known[name] for name in names if name in known), None)


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
    complete = [
        c for c in columns if not _misses(c) and _names_user(c) and c.distinct < _EVERY * len(c.values)
    ]
    return next((c for c in complete if _identifies(c, found)), found)


def _has_gaps(user: Column) -> bool:
    """True for an id that many rows lack."""
    return _misses(user) >= _GAPS * len(user.values) > 0


def _identifies(user: Column, other: Column) -> bool:
    """True if rows of one user have one id of another kind, where they have any."""
    has = other.values.is_valid()
    both = [Column(each.name, each.values.filter(has)) for each in (user, other)]
    return _determines(both[0], both[1], _MOSTLY_ONE)


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
    if not (plain.endswith(("id", "no", "key", "cd")) or _HASHED.search(plain)):
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


def mentions(text: str, kind: Literal["user", "item", "kind"]) -> bool:
    """True if a name, such as that of a file, contains a word for users, for items or for their kinds."""
    return WORDS[kind].inside.search(_without_accents(text)) is not None


def is_action(column: Column) -> bool:
    """True for a column of actions, by its name or by its values."""
    if named([column], _ACTIONS) is not None:
        return True
    if not pa.types.is_string(column.values.type) or not 1 < column.distinct <= 30:
        return False
    values = column.known.unique().to_pylist()
    return 2 * sum(plain_name(value) in _ACTION_VALUES for value in values) > len(values)


def looks_rated(column: Column) -> bool:
    """True for a column of numbers such as 1 to 5 or 0.5 to 5."""
    if column.floats is None or not 3 < column.distinct <= 10:
        return False
    return 0.5 <= pc.min(column.floats).as_py() <= 1 and pc.max(column.floats).as_py() in (5.0, 10.0)


def find_time(columns: Iterable[Column]) -> Column | None:
    """Find the time of an event: a column of moments, chosen by name among several.

    What most rows lack is no time of theirs, whatever it is called. The moment of a click is missing where
    none happened, so any other one goes before it; and so does one with more values before a moment that is
    called after what lies ahead, such as a departure. Numbers of users and of items may be as large as times.
    """
    known = list(columns)
    ids = (find_id(known, "user"), find_id(known, "item"))
    found = [column for column in known if column.unit and column not in ids]
    found = [column for column in found if column.values.null_count <= _MOSTLY_NONE * len(column.values)]
    every = [c for c in found if not (c.values.null_count and OutcomeName(c.name).is_moment)]
    # What stands inside of a user or an item is when it was made.
    moments = [c for c in every if not _stands_in_either(c)] or every or found
    chosen = _with_time_of_day(named(moments, _TIMES) or (moments[0] if moments else None), moments)
    if chosen is None or plain_name(chosen.name) in _TIMES or not OutcomeName(chosen.name).is_ahead:
        return chosen
    finer = [c for c in moments if c.distinct > chosen.distinct and lies_before(c, chosen)]
    return next((c for c in finer if not OutcomeName(c.name).is_ahead), chosen)


def _with_time_of_day(day: Column | None, moments: Sequence[Column]) -> Column | None:
    """Return the moment that says when within its day each row was, if a column has days only."""
    others = [
        c for c in moments if c is not day and not (c.values.null_count or OutcomeName(c.name).is_ahead)
    ]
    if day is None or not others or ((begin := moments_beside(day, day, None)[0]) % _DAY > 0).any():
        return day
    for other in others:
        at = moments_beside(other, other, None)[0]
        if (at % _DAY > 0).any() and np.mean(np.abs(at - begin - _DAY / 2) <= _DAY) >= _BEFORE:
            return other
    return day


def _stands_in_either(column: Column) -> bool:
    """True for a value inside of a user or an item."""
    return any(mentions(step, "user") or mentions(step, "item") for step in _way(column))


def _way(column: Column) -> list[str]:
    """List the steps of a path before the last one."""
    return column.name.split(".")[:-1]


def unread_time(columns: Iterable[Column]) -> Column | None:
    """Find a column with the name of a time and values that are none, hours of the day and the like apart."""
    flat = [column for column in columns if not pa.types.is_nested(column.values.type)]
    found = named([column for column in flat if not column.unit and column.distinct > 1], _TIMES)
    small = found is not None and found.floats is not None and pc.max(found.floats).as_py() <= _DAYS
    return None if small else found


def is_afterwards(column: Column) -> bool:
    """True if the name suggests that the value is known only after the impression."""
    return _AFTERWARDS.search(column.name.lower()) is not None


def is_quantity(column: Column) -> bool:
    """True if the name suggests a measured quantity, such as a ``stay_time``; a ``price_code`` does not."""
    name = OutcomeName(column.plain).snake
    if name.startswith("id_") or CODES.search(name):
        return False
    return QUANTITIES.search(name) is not None or (
        YEARS.search(name) is not None and column.distinct > _SOME_YEARS
    )


def is_version(column: Column) -> bool:
    """True if the name says that 4.5 is a version, which no amount is."""
    return re.search(r"(^|_)(version|ver)s?(_|$)", OutcomeName(column.plain).snake) is not None


def follows_order(column: Column, values: npt.NDArray[np.float64], label: npt.NDArray[np.float64]) -> bool:
    """True if neighboring whole numbers have similar label rates, as amounts do and ids do not.

    Groups of neighbors hold equally many rows. Of the different values of a group every second one is set
    aside. Only where neighbors are alike do the rates of the two halves rise and fall together.

    Args:
        values: (N,) numbers of the column beside each label, NaN where missing.
    """
    usable = np.isfinite(values) & np.isfinite(label)
    if not column.is_whole or not usable.any() or _CODES.search(column.name.lower()):
        return False
    found, value = np.unique(values[usable], return_inverse=True)
    groups = min(_MOST_GROUPS, len(found) // _NEIGHBORS)
    if groups < _MOST_GROUPS // 2:
        return False  # few values, each of which can be learned for itself
    rank = np.cumsum(np.bincount(value))[value] - 1  # of the last row with the value
    cell = 2 * (rank * groups // len(value)) + value % 2
    rows = np.bincount(cell, minlength=2 * groups).reshape(groups, 2)
    positives = np.bincount(cell, label[usable] > 0, minlength=2 * groups).reshape(groups, 2)
    rates = (positives / np.maximum(rows, 1))[rows.min(axis=1) > 0]  # (groups that have both halves, 2)
    if len(rates) < groups // 2 or min(rates.std(axis=0)) == 0:
        return False
    alike = float(np.corrcoef(rates.T)[0, 1])
    return alike * len(rates) ** 0.5 > _CERTAIN


def is_free_text(column: Column) -> bool:
    """True for sentences, addresses and other texts that rarely repeat; moments are none."""
    is_text = pa.types.is_string(column.values.type) and column.floats is None
    if not is_text or column.separator or column.unit:
        return False
    lengths = pc.utf8_length(column.known)
    long = len(column.known) > 0 and pc.mean(lengths).as_py() > 25
    return bool(long) and column.distinct > 0.5 * len(column.known)


def side_of(column: Column, user: Column | None, item: Column | None) -> tuple[Side, str]:
    """Choose the side of a column of the impressions; return it with the reason.

    If nearly every item with several rows has one value of the column, the column is an attribute of items,
    and likewise for users. If too few ids repeat in the head, the name decides.
    """
    for side, key in (("item", item), ("profile", user)):
        if key is not None and _determines(key, column) and not _differs_in_shared(key, column):
            return side, f"each {key.name!r} has one value of it"  # type: ignore[return-value]
    name = column.name.lower()
    for side, key in (("item", item), ("profile", user)):
        way = _way(key) if key is not None else []
        if key is not None and way and _way(column)[: len(way)] == way and _repeats(key) < _GROUPS:
            return side, f"it stands beside {key.name!r}"  # type: ignore[return-value]
    if item is not None and _OF_ITEMS.search(name) and _repeats(item) < _GROUPS:
        return "item", "by its name"
    if user is not None and _OF_USERS.search(name) and _repeats(user) < _GROUPS:
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
    return Column(column.name, _comparable(column.values).filter(among)).distinct > 1


def is_moment_of(column: Column, user: Column | None, item: Column | None, time: Column | None) -> bool:
    """True for moments of users or of items, such as sign-ups, that lie before the impressions."""
    return time is not None and side_of(column, user, item)[0] != "context" and lies_before(column, time)


def lies_before(column: Column, time: Column, rows: npt.NDArray[np.int64] | None = None) -> bool:
    """True if moments lie before the impressions that they belong to.

    Args:
        rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
    """
    moments, shown = moments_beside(column, time, rows)
    known = np.isfinite(moments) & np.isfinite(shown)
    return bool(known.any() and (moments <= shown)[known].mean() > _BEFORE)


def moments_beside(
    column: Column, time: Column, rows: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return moments and the times of the impressions that they belong to, (N,) seconds, NaN for none.

    Args:
        rows: (N,) row of the column for each impression, -1 for none; None if it is a column of these.
    """
    moments, shown = (
        np.asarray(seconds(each.values, detect_unit(each.known))[0].cast(pa.float64()).fill_null(np.nan))
        for each in (column, time)
    )
    if rows is not None:
        moments = np.where(rows >= 0, moments[np.maximum(rows, 0)], np.nan)
    return moments, shown[: len(moments)]


def _repeats(key: Column) -> int:
    """Count the ids with several rows."""
    counts = pc.value_counts(key.known).field("counts").to_numpy(zero_copy_only=False)
    return int(np.sum(counts > 1))


def _determines(key: Column, column: Column, share: float = 0.98) -> bool:
    """True if nearly all of the ids with several rows have one value, and several values occur."""
    if pa.types.is_nested(key.values.type) or column.distinct < 2:
        return False
    keys, values = codes_of(key.values), codes_of(_comparable(column.values))
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    sizes = np.diff(np.r_[starts, len(keys)])
    changes = np.r_[False, (keys[1:] == keys[:-1]) & (values[1:] != values[:-1])]
    constant = np.add.reduceat(changes, starts) == 0
    several = sizes > 1
    return bool(several.sum() >= _GROUPS and constant[several].mean() >= share)


def _comparable(values: pa.Array) -> pa.Array:
    """Write lists as texts; return anything else as it stands."""
    if not pa.types.is_nested(values.type):
        return values
    return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())


def codes_of(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return (N,) numbers of the values, -1 for none."""
    coded = values.dictionary_encode()
    return np.asarray(coded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def separation(column: Column, label: npt.NDArray[np.float64]) -> float:
    """Compute the AUC, 0.5 or more, with which the values of a numeric column rank the label."""
    numbers = numbers_or_none(column)
    if numbers is None:
        return 0.5
    usable = np.isfinite(numbers) & np.isfinite(label)
    values, truth = numbers[usable], label[usable] > 0
    positives = int(truth.sum())
    if positives == 0 or positives == len(truth):
        return 0.5
    ordered = np.sort(values)
    rank = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    auc = (rank[truth].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))
    return float(max(auc, 1 - auc))


def numbers_or_none(column: Column) -> npt.NDArray[np.float64] | None:
    """Return (N,) numbers, NaN where missing, or None for a column that does not hold numbers."""
    if column.floats is None:
        return None
    full = np.full(len(column.values), np.nan)
    full[column.values.is_valid().to_numpy(zero_copy_only=False)] = column.floats.to_numpy(
        zero_copy_only=False
    )
    return full
