"""Meanings of names of columns: what they are called after, and what such a name says."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

import pyarrow as pa

from clickscale.data.described.drafts.labels.outcome_words import PLAIN_LETTERS, OutcomeName
from clickscale.data.described.drafts.roles.role_words import CODES, HASHED, QUANTITIES, WORDS, YEARS, words
from clickscale.data.described.drafts.samples import Column

CLICKS = words("click clicked isclick clk isclicked clicks clickbool label target y")
FEEDBACK = words(
    "like liked likes islike isliked follow isfollow share shared isshare comment iscomment forward "
    "isforward save saved cart addtocart iscart favorite favourite isfavorite purchase purchased ispurchase "
    "bookingbool booked buy bought isbuy order ordered isorder conversion converted isconversion cvr install "
    "hate ishate longview islongview finish finished subscribe subscribed profileenter isprofileenter"
)
RATINGS = words(
    "rating ratings stars star score overall reviewscore starrating userrating ratingvalue bewertung sterne "
    "valoracion calificacion avaliacao valutazione beoordeling"
)
_ACTIONS = words(
    "action event eventtype behaviortype behaviourtype behavior behaviour btag actiontype interaction type"
)
_ACTION_VALUES = frozenset(
    words(
        "pv view views click clicks buy purchase purchases cart carts addtocart fav favorite like share "
        "order orders impression show collect"
    )
)
# Words inside a name that hint at when a value is known, or at its side.
_AFTERWARDS = re.compile(
    r"play_?time|watch|dwell|read_?time|(?<!of_)stay|scroll|revenue|nonclk|non_?click|completion|progress|percent_viewed"
)
_SOME_YEARS = 20  # different years up to which each is learned for itself
_BARE = words("id key no type name value index label target y event")  # too little as the end of a path


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
        if (stem := HASHED.sub("", plain_name(column.name))) != plain_name(column.name):
            known |= {f"{stem}id": column, stem: column}
    known |= {plain_name(column.name): column for column in last_first}
    return next((known[name] for name in names if name in known), None)


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


def steps_before(column: Column) -> list[str]:
    """List the steps of a path before the last one."""
    return column.name.split(".")[:-1]


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
