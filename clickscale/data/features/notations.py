"""Numbers as people write them, such as ``$1,234.50`` or ``1.234,5 %``, in one of two notations.

``1,299`` has two meanings, so a field says by its notation which of comma and point stands before the
fraction. The other one, a space or an apostrophe may stand between thousands. A currency or a percent sign
is passed over; k, M and B behind a number stand for thousands, millions and billions.
"""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.features.texts import is_placeholder
from clickscale.schema import Notation

POINT: Notation = "1,234.5"
COMMA: Notation = "1.234,5"
_CURRENCY = (
    r"(?:(?:US|CA|C|HK|R|S|NZ|AU|A)?\$|[€£¥₹₽₩₺₴₪₫฿₦]|USD|EUR|GBP|JPY|CNY|RMB|INR|RUB|BRL|CHF|CAD|AUD|NZD|SEK|"
    r"NOK|DKK|PLN|CZK|HUF|RON|TRY|UAH|KRW|MXN|ZAR|IDR|THB|VND|SGD|HKD|TWD|ILS|AED|SAR|Rs\.?|kr\.?|zł|Kč|Ft|TL|лв|руб\.?|円|元|원)"
)
_BLANK = " \N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"
_SIZES = {"3": "[kK]", "6": r"[mM]n?|Mio\.?", "9": r"[bB]n?|Mrd\.?"}  # power of ten of each letter


def _form(group: str, point: str) -> str:
    """Make the pattern of a number; both Python and Arrow read it."""
    blank, sizes = f"[{_BLANK}]?", "|".join(_SIZES.values())
    grouped = "|".join(f"[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+" for mark in (group, f"[{_BLANK}'’]"))
    return (
        f"^(?P<sign>[-+]?)(?P<before>{_CURRENCY}?){blank}(?P<inner>[-+]?)(?P<whole>{grouped}|[0-9]*)"
        f"(?P<point>{point}?)(?P<fraction>[0-9]*)(?P<exponent>(?:[eE][-+]?[0-9]+)?){blank}"
        f"(?P<size>(?:{sizes})?){blank}(?P<after>(?:{_CURRENCY}|%)?)$"
    )


_FORMS = {POINT: _form(",", r"\."), COMMA: _form(r"\.", ",")}
_PATTERNS = {notation: re.compile(form) for notation, form in _FORMS.items()}
_ROUND = {"0", "5", "00", "25", "50", "75"}  # fractions of a column in steps of halves and quarters
_GROUP = 3  # figures between the marks of thousands
_SOME = 0.01  # share of values with a mark of fractions from which they are fractions


def plain_numbers(texts: pa.Array, notation: Notation) -> pa.Array:
    """Write numbers of a notation as computers do, ``1234.5``; other texts as what is no number anywhere.

    Placeholders for missing numbers stay.
    """
    texts = pc.replace_substring(pc.utf8_trim_whitespace(texts), "\N{MINUS SIGN}", "-")
    found = pc.extract_regex(texts, _FORMS[notation])
    part = {name: pc.struct_field(found, name) for name in _PATTERNS[notation].groupindex}
    size = part["size"]
    for power, letters in _SIZES.items():
        size = pc.replace_substring_regex(size, f"^(?:{letters})$", f"e{power}")
    whole = pc.replace_substring_regex(part["whole"], "[^0-9]", "")
    point, nothing = (pa.scalar(text, texts.type) for text in (".", ""))
    number = pc.binary_join_element_wise(
        part["sign"], part["inner"], whole, point, part["fraction"], part["exponent"], size, nothing
    )
    number = pc.if_else(pc.equal(number, "."), "no number", number)  # of a currency alone
    missing = pc.or_(pc.equal(texts, ""), pa.array(is_placeholder(texts)))
    return pc.if_else(missing, texts, pc.fill_null(number, "no number"))


def in_notation(values: Sequence[Any], notation: Notation) -> list[Any]:
    """Write the numbers among texts in the notation of the texts, so that all are read alike."""
    point = "." if notation == POINT else ","
    return [
        str(value).replace(".", point) if type(value) in (int, float) and value == value else value
        for value in values
    ]


def detect_notation(texts: pa.Array) -> Notation | None:
    """Tell in which notation all of the texts are numbers; None if in neither, or if it cannot be told."""
    distinct = pc.utf8_trim_whitespace(texts.drop_null().unique())
    distinct = distinct.filter(pa.array(~is_placeholder(distinct)))
    known = [text.replace("\N{MINUS SIGN}", "-") for text in distinct.to_pylist() if text]
    fitting = {}
    for notation, pattern in _PATTERNS.items():
        found = [match for text in known if (match := pattern.match(text)) is not None]
        if known and len(found) == len(known) and _have_one_unit(found):
            fitting[notation] = found
    if not fitting:
        return None
    if len(fitting) == 2:
        return _by_groups(fitting[POINT])
    if COMMA in fitting:
        return COMMA if _are_fractions(fitting[COMMA]) else None
    return POINT if _has_mark(fitting[POINT]) or _are_thousands(fitting[POINT]) else None


def _unit(match: re.Match[str]) -> str:
    return match["before"] or match["after"]


def _have_one_unit(found: Sequence[re.Match[str]]) -> bool:
    """True if all numbers are of one unit, or of none; 0 may lack it, and amounts of money may."""
    units = {_unit(match) for match in found if (match["whole"] + match["fraction"]).strip("0")}
    return all(match["whole"] + match["fraction"] for match in found) and (
        len(units - {""}) < 2 and units != {"%", ""}
    )


def _has_mark(found: Sequence[re.Match[str]]) -> bool:
    """True if some text has what no list of ids has: a unit, a letter for thousands, a sign or a point."""
    return any(_unit(match) or match["size"] or match["sign"] or match["point"] for match in found)


def _by_groups(found: Sequence[re.Match[str]]) -> Notation | None:
    """Choose for texts that are numbers in both notations, here as they match `POINT`."""
    pointed = [match for match in found if match["point"]]
    grouped = [match for match in found if "," in match["whole"]]
    rest = [match["whole"] for match in found if not match["point"] and "," not in match["whole"]]
    is_short = all(len(whole) <= _GROUP for whole in rest)
    if pointed:
        # 1.299 € beside 899 €: a point between thousands. A column of $1.299 and $2.199 has three decimals.
        return COMMA if rest and is_short and not grouped else POINT
    if grouped:
        return POINT if is_short and (_has_mark(found) or _are_thousands(found)) else None
    return POINT if _has_mark(found) else None  # spaces alone divide the values of lists


def _are_thousands(found: Sequence[re.Match[str]]) -> bool:
    """Tell 1,299 and 12,500 from lists of ids that all have three figures, such as 123,456,789."""
    return any("," in match["whole"][:_GROUP] for match in found)


def _are_fractions(found: Sequence[re.Match[str]]) -> bool:
    """Tell fractions behind a comma from lists of two ids, such as the last two items of a user.

    In such lists no id has a zero in front, and the first ids are as long and as many as the second ones.
    """
    if any(_unit(match) or match["size"] or match["sign"] or "." in match["whole"] for match in found):
        return True
    pairs = [(match["whole"], match["fraction"]) for match in found if match["point"]]
    wholes, fractions = {whole for whole, _ in pairs}, {fraction for _, fraction in pairs}
    if any(_is_padded(whole) for whole in wholes):
        return False  # ids such as 007
    if sum(_is_padded(fraction) for _, fraction in pairs) > _SOME * len(pairs):
        return True
    alike = len(set(map(len, fractions))) == 1 and len(pairs) == len(found)
    return (
        (alike and len(set(map(len, wholes))) > 1)  # 9,50 and 12,99
        or (fractions <= _ROUND and len(wholes) > 2)
        or (wholes <= {"0", "1"} and len(fractions) > 2)
    )


def _is_padded(figures: str) -> bool:
    return len(figures) > 1 and figures.startswith("0")
