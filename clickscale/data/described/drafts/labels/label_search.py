"""Search of the labels of a table of events: columns that separate positives from negatives.

A column that is called after an outcome is never a feature. Where its values make no label that a draft can
describe, it is left out, and the draft says so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.labels.consequences import with_consequences
from clickscale.data.described.drafts.labels.event_rows import is_stream
from clickscale.data.described.drafts.labels.outcome_words import (
    OutcomeName,
    accepted_of,
    act_of,
    positive_of,
)
from clickscale.data.described.drafts.labels.rated_labels import rated_label
from clickscale.data.described.drafts.roles.column_names import CLICKS, FEEDBACK, is_afterwards, named
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.toml_lines import remark
from clickscale.errors import InputError

Label = tuple[Column, str, str]  # column, condition, why
_OTHERS = 0.002  # share of the rows that may have another value than the two of a label
_STRAY, _OF_ONES = 0.0005, 0.05  # larger numbers, as shares of rows and of ones, up to which they are errors
_ZEROS = 0.3  # share of the rows without an outcome, at least, where the others hold counts
_MISSING = 0.01  # share of missing values from which a missing one means that nothing happened
_RARELY = 0.5  # share of missing ratings beyond which these came of another outcome, if there is one
_KINDS = 10  # kinds of events in one column, at most
_FEW = 20  # different values of a column called label, at most
_SHOWN = 5  # values in a message
_ANSWERS = 8  # kinds of answers to an offer, at most
_OF_ANSWERS = re.compile(
    r"action|outcome|response|result|decision|answer|reaction|swipe|feedback|status|(^|_)state|disposition|event"
)
_BOUGHT = re.compile(
    r"((item|product|order(ed)?|line|purchase)_)?(quantity|qty|units|menge|bestellmenge|quantite|cantidad|quantidade|"
    r"quantita|aantal)(_(sold|ordered|bought|purchased))?"
)
_EARLIER = re.compile(r"^(prev|previous|prior|last|past)_")  # what an impression before this one came to
SHOWN = "how often it was shown, counted with the outcome"  # why a column is left out
_LONE = "the only column with two values such as 0 and 1"
_UNKNOWN = pa.array(["-1", "-1.0"])


@dataclass(frozen=True)
class Found:
    """Labels of a table, and columns that are called after outcomes but make none.

    Attributes:
        unfit: why each of these columns is no label.
        shown: columns that count how often something was shown, beside a label made of counts.
    """

    labels: list[Label] = field(default_factory=list)
    unfit: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)


def find_labels(
    columns: Sequence[Column], head: Head, user: Column | None, item: Column | None, time: Column | None
) -> Found:
    """Find the labels among columns that are neither user, item nor time, the best first.

    Raises:
        InputError: a column that was named as a label has no two outcomes.
    """
    if told := [column for column in columns if column.is_label]:
        return Found([_told(column) for column in told])
    flat = [column for column in columns if not pa.types.is_nested(column.values.type)]
    fits = [label for column in flat if (label := _fit(column, flat, user, item)) is not None]
    acts = [label for column in flat if (label := _act(column, head, user, item)) is not None]
    named_so = {column.name for column, _, _ in fits}
    fits += [label for label in acts if label[0].name not in named_so]
    said = [column for column in flat if OutcomeName(column.name).has_weak_word]
    weak = _weak([column for column in said if side_of(column, user, item)[0] == "context"])
    rated = rated_label(columns, head.named or user is None, item)
    vary = [column for column in flat if side_of(column, user, item)[0] == "context"]
    said = [column for column in vary if not OutcomeName(column.name).tells_fact]
    words = [label for label in _worded(said) if act_of(label[0].known.unique().to_pylist()) == (None, False)]
    weak = weak or with_consequences([column for column in vary if _can_be_compared(column)], time)
    labels = _labels(list(columns), fits, rated, weak, words)
    taken = {column.name for column, _, _ in labels}
    unfit = {column.name: why for column in flat if column.name not in taken and (why := _unfit(column))}
    counted = any(_counts(label) for label in labels)
    shown = [column.name for column in flat if counted and OutcomeName(column.name).counts_shown]
    return Found(labels, unfit, dict.fromkeys(shown, SHOWN))


def with_unknown_labels(head: Head) -> Head:
    """Read -1 as missing in a table of texts where only a label of 1, 0 and -1 has it."""
    if head.format not in ("csv", "tsv"):
        return head
    texts = [column for column in head.columns.values() if pa.types.is_string(column.values.type)]
    holding = [column for column in texts if pc.any(pc.is_in(column.values, _UNKNOWN)).as_py()]
    if len(holding) != 1 or not _may_be_label(holding[0]) or not _has_three_signs(holding[0]):
        return head
    (column,) = holding
    unknown = pc.is_in(column.values, _UNKNOWN)
    found = column.values.filter(unknown).unique().to_pylist()
    values = pc.if_else(unknown, pa.scalar(None, column.values.type), column.values)
    text = msgspec.structs.replace(head.text, nulls=(*head.text.nulls, *found))
    return replace(head, text=text, columns={**head.columns, column.name: Column(column.name, values)})


def _labels(
    columns: list[Column], fits: list[Label], rated: Label | None, weak: list[Label], words: list[Label]
) -> list[Label]:
    """List the labels, the best first: by their names, ratings, moments, words, or the only two values.

    Args:
        rated: the label of ratings.
        weak: columns with a word that is sometimes one for an outcome, or on which others hang.
        words: columns with words for yes and no that differ between the impressions of users and of items.
    """
    flags = [column for column in columns if column.is_flag or column.is_signed_flag]
    clicks, feedback = (_called(flags, names) for names in (CLICKS, FEEDBACK))
    taken = {column.name for column, *_ in fits}
    feedback += _paired(
        [column for column in columns if named([column], FEEDBACK) and column.name not in taken]
    )
    if clicks or fits or feedback:
        return [*clicks, *([] if clicks else fits), *feedback]
    if rated is not None and not (weak and _missing(rated[0]) > _RARELY):
        return [rated]
    if moments := [label for column in columns if (label := _moment(column)) is not None]:
        return moments[:1]
    if said := _with_word(columns, flags if len(flags) > 1 else []):
        return said
    if any(map(_is_bought, columns)):
        return []  # every row is a purchase, whatever else was used or wrapped with it
    if inverted := [label for column in columns if (label := _inverted(column)) is not None]:
        return inverted[:1]
    if weak:
        return weak
    others = [c for c in columns if c not in flags and not pa.types.is_nested(c.values.type)]
    if len(flags) == 1 and not is_afterwards(flags[0]) and not any(map(_unfit, others)):
        told = OutcomeName(flags[0].name)
        return [] if told.tells_fact else [(flags[0], _is_one(flags[0]), _LONE)]
    if not flags and len(words) == 1 and not any(map(_unfit, others)):
        return [(words[0][0], words[0][1], _LONE)]
    return []


def named_labels(labels: list[Label]) -> list[Label]:
    """Return the labels, or none where nothing but its two values speaks for the only one."""
    return [] if [why for *_, why in labels] == [_LONE] else labels


def _is_bought(column: Column) -> bool:
    """True for the quantity of a purchase, which every row has; a return has one below 0."""
    if not _BOUGHT.fullmatch(OutcomeName(column.name).snake) or column.values.null_count:
        return False
    return column.is_whole and not pc.any(pc.equal(column.floats, 0)).as_py()


def _called(flags: Sequence[Column], names: Sequence[str]) -> list[Label]:
    """List the columns of two values with one of the names, in the order of the names."""
    chosen = [column for name in names if (column := named(flags, [name])) is not None]
    return [(column, _is_one(column), "its name and its two values") for column in chosen]


def _with_word(columns: Sequence[Column], flags: Sequence[Column]) -> list[Label]:
    """List the columns of two values whose name has a word for an outcome, such as ``Clicked on Ad``."""
    marked = [flag for flag in flags if OutcomeName(flag.name).has_word]
    said: list[Label] = [(flag, _is_one(flag), "a word of its name and its two values") for flag in marked]
    return [*said, *_paired([column for column in columns if OutcomeName(column.name).has_word])]


def _worded(columns: Sequence[Column]) -> list[Label]:
    """List the columns with words for yes and no."""
    known = [column for column in columns if _can_be_compared(column)]
    return [label for column in known if (label := _words(column)) is not None]


def _paired(columns: Sequence[Column]) -> list[Label]:
    """List the columns with words for yes and no, or with the values of a flag and a few others."""
    flat = [column for column in columns if not pa.types.is_nested(column.values.type)]
    known = [column for column in flat if _can_be_compared(column) and not column.is_flag]
    return [label for column in known if (label := _words(column) or _nearly_flag(column)) is not None]


def _weak(said: Sequence[Column]) -> list[Label]:
    """List the labels among columns with a word that is sometimes one for an outcome."""
    flags: list[Label] = [(c, _is_one(c), "a word of its name and its two values") for c in said if c.is_flag]
    marks = [label for column in said if (label := _presence(column)) is not None]
    return [*flags, *_paired(said), *marks]


def _told(column: Column) -> Label:
    """Make a label of a column that was named as one."""
    why = "named as the outcome"
    if column.is_flag or column.is_signed_flag:
        return column, _is_one(column), why
    found = _presence(column) or _words(column) or _nearly_flag(column) or _signs(column)
    if found is None and (rated := rated_label([column], True, None)) is not None:
        return rated
    if (
        found is None
        and column.floats is not None
        and pc.min(column.floats).as_py() >= 0
        and column.distinct > 1
    ):
        found = column, f"{column.name} >= 1", why
    if found is None or not _can_be_compared(column):
        values = _listed(column.known.unique().to_pylist()[:_SHOWN])
        raise InputError(
            f"The label {column.name!r} has values such as {values}, of which none means yes and the others "
            "no. Write the condition into the draft: labels = [{ name = ..., condition = ... }]"
        )
    return found[0], found[1], why


def _inverted(column: Column) -> Label | None:
    """Make a label of a column that says what is not wanted, such as ``noclick``."""
    if not OutcomeName(column.name).is_inverted or column.distinct != 2 or not _can_be_compared(column):
        return None
    why = "its name says what is not wanted"
    if column.is_flag:
        return column, f"{column.name} == 0", why
    values = column.known.unique().to_pylist()
    if (yes := positive_of(values)) is None:
        return None
    no = next(value for value in values if value != yes)
    return (column, f"{column.name} == '{no}'", why) if _can_be_quoted(no) else None


def _is_one(flag: Column) -> str:
    """Return the condition of a label of 1 and -1; other pairs of values are labels as they are."""
    return f"{flag.name} == 1" if flag.is_signed_flag else ""


def _may_be_label(column: Column) -> bool:
    """True if the name says nothing but an outcome, or is one that labels usually have."""
    return OutcomeName(column.name).is_plain or named([column], CLICKS) is not None


def _counts(label: Label) -> bool:
    return label[1].endswith(">= 1")


# --- columns that are called after outcomes


def _fit(column: Column, columns: Sequence[Column], user: Column | None, item: Column | None) -> Label | None:
    """Make a label of a column that is called after an outcome and holds more than two usual values."""
    if column.is_flag or column.is_signed_flag or not _can_be_compared(column):
        return None
    if not _may_be_label(column):
        return None
    beside = any(OutcomeName(other.name).counts_shown for other in columns)
    varies = side_of(column, user, item)[0] == "context"
    return (
        _presence(column)
        or _words(column)
        or (_count(column, beside) if varies else None)
        or _nearly_flag(column)
        or _signs(column)
    )


def _can_be_compared(column: Column) -> bool:
    """True if a condition can name the column."""
    return not set(column.name) & set("<>=!'\"`")


def _can_be_quoted(value: object) -> bool:
    """True if a condition can hold the text."""
    return str(value).isprintable() and "'" not in str(value)


def _listed(values: Sequence[object], between: str = ", ") -> str:
    """Write values of the log for a comment."""
    return remark(between.join(map(str, values)))


def _missing(column: Column) -> float:
    """Return the share of missing values."""
    return float(column.values.null_count / max(len(column.values), 1))


def _most_frequent(column: Column) -> tuple[Column, int]:
    """Return the two most frequent values as a column, and the number of rows with others."""
    counted = pc.value_counts(column.known)
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    order = np.argsort(-counts, kind="stable")[:2]
    return Column(column.name, counted.field("values").take(pa.array(order))), int(
        counts.sum() - counts[order].sum()
    )


def _may_be_others(column: Column) -> float:
    """Return how many rows may have another value than two: one, such as a sum, or a small share."""
    return max(1.0, _OTHERS * len(column.known))


def _presence(column: Column) -> Label | None:
    """Make a label of a column that has a value only where the outcome happened."""
    if not _MISSING <= _missing(column) < 1:
        return None
    said = column.distinct == 1 and positive_of(column.known.unique().to_pylist()) is not None
    if not said and not column.unit:
        return None
    return column, f"{column.name} != ''", "its name, and that it has a value only in some rows"


def _words(column: Column) -> Label | None:
    """Make a label of two words of which one means yes and the other no, such as ``ja`` and ``nein``."""
    if column.distinct < 2 or not pa.types.is_string(column.values.type):
        return None
    pair, others = _most_frequent(column)
    values = pair.values.to_pylist()
    yes = positive_of(values, _may_be_label(column))
    if pair.is_flag or yes is None or others > _may_be_others(column) or not _can_be_quoted(yes):
        return None
    return column, f"{column.name} == '{yes}'", f"its name and its values {_listed(values, ' and ')}"


def _count(column: Column, beside: bool) -> Label | None:
    """Make a label of counts, of which many are 0.

    Args:
        beside: true if another column counts how often something was shown.
    """
    if not OutcomeName(column.name).is_plain or not column.is_whole or column.distinct < 3:
        return None
    numbers = column.floats.to_numpy(zero_copy_only=False)  # type: ignore[union-attr]
    zeros, ones, larger = (float(np.mean(which)) for which in (numbers == 0, numbers == 1, numbers > 1))
    stray = larger <= min(_STRAY, _OF_ONES * ones) and not beside
    stray |= not (numbers == 2).any() and larger * len(numbers) <= _may_be_others(column)
    if numbers.min() < 0 or zeros < _ZEROS or stray:
        return None
    return column, f"{column.name} >= 1", f"its name, and counts up to {np.nanmax(numbers):g}"


def _nearly_flag(column: Column) -> Label | None:
    """Make a label of 0 and 1 beside a few other values, such as a sum in the last line."""
    if column.distinct < 3:
        return None
    pair, others = _most_frequent(column)
    if not pair.is_flag or others > _may_be_others(column):
        return None
    rows = f"{others} of {len(column.values):,} sampled rows"
    return column, "", f"its name and its values; {rows} with another value, which cannot be used"


def _has_three_signs(column: Column) -> bool:
    """True for the values 1, 0 and -1."""
    return column.floats is not None and set(pc.unique(column.floats).to_pylist()) == {-1.0, 0.0, 1.0}


def _signs(column: Column) -> Label | None:
    """Make a label of 1, 0 and -1."""
    if not _has_three_signs(column):
        return None
    return column, f"{column.name} == 1", f"its name; if -1 means unknown, add known = '{column.name} != -1'"


def _moment(column: Column) -> Label | None:
    """Make a label of the moment of an outcome that is missing, or 0, where none happened."""
    if not OutcomeName(column.name).is_moment or not _can_be_compared(column) or column.distinct < 2:
        return None
    if column.unit and _MISSING <= _missing(column) < 1:
        return column, f"{column.name} != ''", "its name, and that some rows have no such moment"
    if column.floats is None:
        return None
    happened = pc.greater(column.floats, 0)
    share = pc.mean(happened.cast(pa.float64())).as_py()
    if share > 1 - _MISSING or not Column(column.name, column.known.filter(happened)).unit:
        return None
    return column, f"{column.name} > 0", "its name, and that some rows have no such moment"


def _unfit(column: Column) -> str:
    """Say why a column that is called after an outcome, or holds kinds of events, is no label."""
    if _holds_streams(column):
        kinds = _listed(column.known.unique().to_pylist())
        return f"it has rows of their own for {kinds}; join them, or put each kind into a file of its own"
    name = OutcomeName(column.name)
    values = column.known.unique().to_pylist()
    if name.is_plain and column.distinct == 1 and positive_of(values) is None:
        return f"by its name an outcome, with no other value than {_listed(values)} in the sample"
    plain = name.is_plain or (name.is_inverted and column.distinct == 2)
    of_any_kind = name.is_label and (
        column.distinct <= _FEW or (column.floats is not None and not column.is_whole)
    )
    if column.distinct < 2 or not (plain or of_any_kind):
        return ""
    if column.is_flag:
        return "by its name an outcome"
    return f"by its name an outcome, with values such as {_listed(values[:3])}"


# --- columns that hold what happened


def _act(column: Column, head: Head, user: Column | None, item: Column | None) -> Label | None:
    """Make a label of ``click`` beside ``impression`` or ``ignored``, whatever the column is called."""
    if not pa.types.is_string(column.values.type) or not _can_be_compared(column):
        return None
    if not 2 <= column.distinct <= _ANSWERS or _EARLIER.match(OutcomeName(column.name).snake):
        return None
    values = column.known.unique().to_pylist()
    if answered := _answer(column, values, user, item):
        return answered
    if column.distinct > 2:
        return None
    act, shown = act_of(values)
    if act is None or side_of(column, user, item)[0] != "context" or not _can_be_quoted(act):
        return None
    if shown and (not OutcomeName(column.name).tells_events or is_stream(column, act, head, user, item)):
        return None
    why = f"its values {_listed(values, ' and ')}"
    return column, f"{column.name} == '{act}'", f"{why}, one row per impression" if shown else why


def _answer(
    column: Column, values: Sequence[object], user: Column | None, item: Column | None
) -> Label | None:
    """Make a label of what was answered to an offer: ``like`` or ``pass``, ``ACCEPTED`` or ``TIMEOUT``."""
    found = accepted_of(values) if _OF_ANSWERS.search(OutcomeName(column.name).snake) else None
    if found is None or side_of(column, user, item)[0] != "context" or not _can_be_quoted(found[0]):
        return None
    column = _without_open(column, found[2])
    sign = "==" if found[1] else "!="
    return (
        column,
        f"{column.name} {sign} '{found[0]}'",
        f"its values {_listed(values, ' and ' if len(values) == 2 else ', ')}",
    )


def _without_open(column: Column, values: Sequence[object]) -> Column:
    """Make the one value missing that says an offer is not answered yet."""
    if len(values) != 1 or not _can_be_quoted(values[0]):
        return column
    is_one = pc.equal(column.values, values[0]).fill_null(False)
    known = pc.if_else(is_one, pa.scalar(None, column.values.type), column.values)
    return replace(column, values=known, unknown=f"'{values[0]}'")


def _holds_streams(column: Column) -> bool:
    """True for a column of events among which are impressions and clicks."""
    if not pa.types.is_string(column.values.type) or not 2 <= column.distinct <= _KINDS:
        return False
    _, shown = act_of(column.known.unique().to_pylist())
    return shown and OutcomeName(column.name).tells_events
