"""Ranges and bounds as people write them: ``€400 – €800``, ``1.000 bis 2.000``, ``65+`` or ``under 25``.

A range is worth its middle and a bound the number that it names, so all are in order: ``55-64`` comes before
``65+``. Both ends are read as any other number of the field, in its notation and its unit, and the unit may
stand behind the second one alone. Fields of numbers as people write them, which have a notation or a unit,
read ranges as well.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Bytes, Floats
from clickscale.data.features.notations import COMMA, POINT, detect_notation, plain_numbers
from clickscale.data.features.texts import BAD_NUMBER, FINE, is_placeholder
from clickscale.data.features.units import find_unit, without_units
from clickscale.schema import Notation

_BLANK = " \N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"
_DASH = "\\-\N{HYPHEN}-\N{HORIZONTAL BAR}\N{MINUS SIGN}"
_NUMBER = rf"\d(?:[\d.,'’{_BLANK}]*\d)?"
_PADDED = re.compile(r"0\d")  # 01-05 are parts of a date or of a code

# In English, German, French, Spanish, Portuguese, Italian and Dutch.
_FROM = r"from|between|von|zwischen|de|entre|dal?|tra|fra|van|tussen"
_TO = r"to|bis|à|a|al?|até|ate|tot"
_BETWEEN = r"between|zwischen|entre|tra|fra|tussen"
_AND = r"and|und|et|y|e|en"
_COMMA_WORDS = re.compile(r"\b(bis|von|zwischen|à|a|até|tot|van|tussen|dal?|tra|fra)\b")
_BOUNDS = (
    r"[<>≤≥]=?|[~≈]|under|below|over|above|(?:less|more|fewer)\s+than|up\s+to|at\s+(?:least|most)|from|until|about|"
    r"around|approx\.?|circa|c(?:irc)?a\.?|max(?:\.|imum|imal)?|min(?:\.|imum|destens)?|unter|über|ueber|ab|bis(?:\s+zu)?|"
    r"(?:mehr|weniger)\s+als|höchstens|etwa|moins\s+de|plus\s+de|jusqu['’](?:à|a)|[aà]\s+part[ie]r\s+d[ei]|environ|"
    r"hasta|desde|m[eé]nos\s+de|m[aá]s\s+de|até|ate|mais\s+de|abaixo\s+de|acima\s+de|fino\s+a|meno\s+di|pi[uù]\s+di|"
    r"oltre|tot|vanaf|(?:minder|meer)\s+dan|onder|boven"
)
_OR_MORE = (
    r"\+|plus|(?:and|or|und|oder|et|ou|y|o|e|en|of)\s+(?:more|over|above|older|up|mehr|älter|darüber|plus|m[aá]s|"
    r"pi[uù]|mais|meer|less|under|below|younger|weniger|jünger|moins|menos|meno|minder)"
)


def _end(name: str, longest: int) -> str:
    """Make the pattern of one end: a currency, a number, and a unit of so many letters."""
    head, tail = rf"[^\d{_DASH}<>+]{{0,5}}?", rf"[^\d{_DASH}<>+]{{0,{longest}}}?"
    return rf"(?P<{name}>{head}(?P<{name}_number>{_NUMBER})(?P<{name}_tail>{tail}))"


_MARK = rf"[{_BLANK}]*(?:[{_DASH}~]|\.\.\.?|…)[{_BLANK}]*"
_UP_TO = rf"(?:{_MARK}|[{_BLANK}]+(?:{_TO})[{_BLANK}]+)"
_RANGES = (
    re.compile(
        rf"(?:(?:{_FROM})[{_BLANK}]+)?{_end('low', 12)}{_UP_TO}{_end('high', 30)}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?:{_BETWEEN})[{_BLANK}]+{_end('low', 12)}[{_BLANK}]+(?:{_AND})[{_BLANK}]+{_end('high', 30)}",
        re.IGNORECASE,
    ),
)
_BOUND = re.compile(rf"(?:{_BOUNDS})[{_BLANK}]*(?P<end>[^\d{_DASH}<>+]{{0,5}}?{_NUMBER}\D*)", re.IGNORECASE)
_OPEN = re.compile(
    rf"(?P<end>\D{{0,5}}?{_NUMBER}[^\d+]{{0,12}}?)[{_BLANK}]*(?:{_OR_MORE})(?P<unit>[^\d+]{{0,30}})",
    re.IGNORECASE,
)
_LONGEST = 60  # letters of a range
_BEHIND = re.compile(
    rf"(?P<number>\D{{0,5}}?{_NUMBER}[{_BLANK}]?(?:[kKmM](?![^\W\d_]))?)[{_BLANK}]*(?P<unit>\D{{0,30}})"
)
_MANY = 30  # different values up to which each is learned better as a category
_SOME = 0.05  # share of ranges from which a column is one of them
_WORDS = 0.3  # share of texts without a figure, such as "negotiable", up to which the others are numbers
_RISING = 0.99  # share of the ranges whose second end is the larger one
_TOGETHER = 0.5  # correlation of the two ends of ranges; the parts of codes have none
_OF_CODES = re.compile(r"(^|_)(id|ids|code|key|sku|no|version|model|phone|tel|zip|isbn)($|_)|code$")


def read_ranges(texts: pa.Array, parse: Callable[[pa.Array], tuple[Floats, Bytes]]) -> tuple[Floats, Bytes]:
    """Read texts (N,) that a person wrote as numbers, NaN where missing, and problem codes.

    A text without a figure, such as "negotiable", is a missing number.

    Args:
        parse: reads the numbers of the field, and so the ends of its ranges.
    """
    values, problems = parse(texts)
    odd = np.flatnonzero(problems == BAD_NUMBER).tolist()
    written = [str(text) for text in texts.take(pa.array(odd, pa.int64())).to_pylist()]
    problems[[row for row, text in zip(odd, written, strict=True) if not _has_figure(text)]] = FINE
    ranges = {row: ends for row, text in zip(odd, written, strict=True) if (ends := ends_of(text))}
    if not ranges:
        return values, problems
    both = pa.array([end for ends in ranges.values() for end in ends], texts.type)
    numbers, bad = (each.reshape(-1, 2) for each in parse(both))  # (ranges, 2)
    rows = np.array(list(ranges))
    usable = (bad == FINE).all(axis=1) & (numbers[:, 0] <= numbers[:, 1])
    values[rows[usable]] = numbers[usable].mean(axis=1)
    problems[rows[usable]] = FINE
    return values, problems


def ends_of(text: str) -> tuple[str, str] | None:
    """Return the ends of a range, each with its unit, or those of a bound, which are alike; else None."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    for pattern in _RANGES:
        if match := pattern.fullmatch(text):
            low, high = match["low_number"], match["high_number"]
            if _PADDED.match(low) or _PADDED.match(high):
                return None
            behind = "" if match["low_tail"].strip() else match["high_tail"]
            return (match["low"].rstrip() if behind else match["low"]) + behind, match["high"]
    if match := _BOUND.fullmatch(text):
        end = match["end"]
    elif match := _OPEN.fullmatch(text):
        end = match["end"] + match["unit"]
    else:
        return None
    return end, end


def find_ranges(texts: pa.Array, name: str) -> tuple[Notation, str] | None:
    """Find the notation and the unit of numbers of which many are ranges or bounds; None for other texts.

    Args:
        name: of the column, which may be one of codes.
    """
    distinct = pc.utf8_trim_whitespace(texts.drop_null())
    counted = distinct.filter(pa.array(~is_placeholder(distinct))).value_counts()
    known, counts = (counted.field(part).to_pylist() for part in ("values", "counts"))
    often = {text: count for text, count in zip(known, counts, strict=True) if _has_figure(text)}
    rows = sum(often.values())
    if len(often) <= _MANY or _tells_codes(name) or sum(counts) - rows > _WORDS * sum(counts):
        return None
    ranges = {text: ends for text in often if (ends := ends_of(text))}
    if sum(often[text] for text in ranges) < _SOME * rows:
        return None
    singles = [text for text in often if text not in ranges]
    parts = pa.array([*singles, *(end for ends in ranges.values() for end in ends)], pa.string())
    found = _of_ends(parts, name, any(_COMMA_WORDS.search(text.lower()) for text in ranges))
    return found if found and _are_ordered(list(ranges.values()), *found) else None


def _tells_codes(name: str) -> bool:
    """True for names such as ``seat_no`` and ``productId``."""
    return _OF_CODES.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()) is not None


def _has_figure(text: str) -> bool:
    return any(letter.isdecimal() for letter in text)


def _of_ends(parts: pa.Array, name: str, with_comma: bool) -> tuple[Notation, str] | None:
    """Find the notation and the unit of the ends; that they make ranges is as good as a percent sign.

    Args:
        with_comma: the words between them are of a language that writes a comma before the fraction.
    """
    if notation := _notation_of(parts, with_comma):
        return notation, ""
    if found := find_unit(parts, name):
        return found
    # A unit behind some of them, such as "per year", is that of all.
    split = [match for text in parts.to_pylist() if (match := _BEHIND.fullmatch(text)) is not None]
    units = {match["unit"] for match in split} - {""}
    apart = all(re.search(rf"\d\D?[{_BLANK}]+\D*$|/\D*$", match[0]) for match in split if match["unit"])
    if len(split) < len(parts) or len(units) != 1 or not apart:
        return None
    notation = _notation_of(pa.array([match["number"] for match in split], pa.string()), with_comma)
    return (notation, units.pop()) if notation else None


def _notation_of(numbers: pa.Array, with_comma: bool) -> Notation | None:
    """Tell the notation of the ends of ranges; see `_of_ends`."""
    percent = pc.binary_join_element_wise(numbers, "%", "")
    notation = detect_notation(numbers) or detect_notation(percent)
    if notation and with_comma and "no number" not in plain_numbers(numbers, COMMA).to_pylist():
        return COMMA
    return notation


def _are_ordered(ranges: list[tuple[str, str]], notation: Notation, unit: str) -> bool:
    """Tell ranges from codes of two numbers: the second end is larger, and both rise together."""
    both = pa.array([end for ends in ranges for end in ends], pa.string())
    plain = without_units(both, unit, notation) if unit else plain_numbers(both, notation or POINT)
    ends = np.array(list(_floats(plain))).reshape(-1, 2)  # (ranges, 2)
    ends = ends[np.isfinite(ends).all(axis=1)]
    if not len(ends) or np.mean(ends[:, 0] <= ends[:, 1]) < _RISING:
        return False
    apart = np.log1p(np.abs(ends[ends[:, 0] < ends[:, 1]]))
    if len(apart) <= _MANY:
        return True
    # Codes such as 1-17 and 1-42 begin alike, and so have no correlation at all.
    return bool(np.ptp(apart, axis=0).all() and np.corrcoef(apart.T)[0, 1] > _TOGETHER)


def _floats(texts: pa.Array) -> Iterator[float]:
    """Yield numbers of texts as computers write them, NaN for anything else."""
    for text in texts.to_pylist():
        try:
            yield float(text)
        except (TypeError, ValueError):
            yield float("nan")
