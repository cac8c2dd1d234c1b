"""Numbers with a unit beside them, such as ``120 m²``, ``12.2 MB``, ``1 h 30 min`` or ``8.7/10``.

A field names its unit. If that is one of time, length, mass, volume, power or data, the texts may have any
unit of its dimension and are brought to it; clocks such as ``1:02:33`` and ``PT1H2M`` are times, too. Every
other unit is the text that stands behind all numbers, also the constant of a share, ``/10``. A number without
a unit is in that of the field.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.features.notations import POINT, detect_notation, plain_numbers
from clickscale.data.features.texts import is_placeholder
from clickscale.schema import Notation

_BLANK = " \N{NO-BREAK SPACE}\N{THIN SPACE}\N{NARROW NO-BREAK SPACE}"
_FITTING = 0.995  # share of the values that must be numbers of one unit
_FEW = 2  # different values that could be numbers of one unit by chance


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(lines: str) -> dict[str, float]:
    """Read lines of a size and the names of a unit of that size, the usual one first."""
    table: dict[str, float] = {}
    for size, *names in (line.split() for line in lines.strip().splitlines()):
        table |= dict.fromkeys(names, float(size))
    return table


# Names of one letter are told apart by case: 100g is a mass, and 5G a network.
_TIME = _table("""
    1 s sec secs second seconds sek sekunde sekunden seconde secondes segundo segundos secondi
    60 min mins minute minutes minuten minuto minutos minuti m
    3600 h hr hrs hour hours std stunde stunden heure heures hora horas ora ore H
    86400 days day d tag tage tagen jour jours día días dia dias giorno giorni
    604800 weeks week wk wks woche wochen semaine semaines semana semanas
    2629800 months month mo monat monate monaten mois mes meses mesi
    31557600 years year yr yrs y jahr jahre jahren an ans année années año años anni
    0.001 ms msec millis millisecond milliseconds
""")
_DIMENSIONS = (
    _table("""
    1 m meter meters metre metres metern metros
    1000 km kilometer kilometers kilometre kilometres kilometern
    0.01 cm
    0.001 mm
    0.0254 in inch inches zoll "
    0.3048 ft foot feet
    0.9144 yd yard yards
    1609.344 mi mile miles
    """),
    _TIME,  # after lengths: m alone is a meter
    _table("""
    1 g gram grams gramm
    1000 kg kilo kilos kilogram kilograms
    0.001 mg
    1000000 t tonne tonnes
    28.349523125 oz ounce ounces
    453.59237 lb lbs pound pounds
    """),
    _table("""
    1 l liter liters litre litres L
    0.001 ml
    0.01 cl
    0.1 dl
    """),
    _table("""
    1 W watt watts
    1000 kw
    """),
    _table("""
    1 B byte bytes
    1e3 kb kilobyte kilobytes
    1e6 mb megabyte megabytes
    1e9 gb gigabyte gigabytes
    1e12 tb terabyte terabytes
    1024 kib
    1048576 mib
    1073741824 gib
    """),
)
_USUAL = {
    "kb": "KB",
    "mb": "MB",
    "gb": "GB",
    "tb": "TB",
    "kib": "KiB",
    "mib": "MiB",
    "gib": "GiB",
    "kw": "kW",
}
# Units that may stand right behind a number, as 80qm; other words that do are parts of codes.
_CLOSE = _words(
    "m² m2 qm sqm km² ha sqft ft² m³ m3 ccm km/h kmh mph kwh wh mah hz khz mhz ghz ps hp dpi px fps kcal kj "
    "mbit mbps kbps gbps mbit/s gbit/s eur usd gbp chf"
)
_NO_UNITS = _words("xs xl xxl xxxl st nd rd th am pm uhr series class edition gen generation alpha beta rc")

_NUMBER = rf"\d(?:[\d.,'’{_BLANK}]*\d)?"
_PIECE = re.compile(
    rf"(?P<number>[-+]?{_NUMBER}|[.,]\d+)[{_BLANK}]*(?P<unit>[^\W\d_]+\.?|\")?(?:[,{_BLANK}]|and|und|et)*"
)
_WITH_UNIT = re.compile(
    rf"(?P<number>\D{{0,5}}?{_NUMBER}(?:[kKmMbB](?![^\W\d_]))?)(?P<gap>[{_BLANK}]*)(?P<unit>\D.*)"
)
_CLOCK = re.compile(r"(?:(?P<hours>\d{1,3}):(?=\d\d:))?(?P<minutes>\d{1,3}):(?P<seconds>[0-5]\d(?:\.\d+)?)")
_ISO = re.compile(
    r"P(?=.)(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_LENGTHS = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
_OF_DURATIONS = re.compile(
    r"dur(ation|ée|ee|ación|acion|ata)|dauer|length|länge|laenge|runtime|running|laufzeit|longueur|elapsed"
)
_SHARE = re.compile(
    rf"(?:/|out of|of|von|sur|de|su)[{_BLANK}]*(?P<whole>[1-9]\d{{0,3}})(?:[{_BLANK}]+[^\W\d_]+)?"
)
_WORD = re.compile(r"[^\W\d_]+[²³]?\.?|(?:[ck]?m|ft)[23]|[$€£¥₹%]|°[CFK]?")
_LONGEST = 4  # words
_YEARS = range(1900, 2101)  # 3/2024 is a month
_OF_CODES = re.compile(r"(^|_)(id|ids|code|key|sku|no|version|model)($|_)|code$")


def without_units(texts: pa.Array, unit: str, notation: Notation) -> pa.Array:
    """Write numbers with a unit as computers do, in the unit of a field; other texts are no number anywhere.

    Placeholders for missing numbers stay.
    """
    texts = pc.replace_substring(pc.utf8_trim_whitespace(texts), "\N{MINUS SIGN}", "-")
    notation = notation or POINT
    if (dimension := _dimension(unit)) is None:
        return plain_numbers(_stripped(texts, unit), notation)
    measured = _measured(texts.to_pylist(), dimension, dimension[_key(unit)], notation)
    bare = plain_numbers(texts, notation).to_pylist()  # numbers without a unit, and placeholders
    made = [
        other if value is None else "no number" if value != value else f"{value:.12g}"
        for value, other in zip(measured, bare, strict=True)
    ]
    return pa.array(made, texts.type)


def find_unit(texts: pa.Array, name: str) -> tuple[Notation, str] | None:
    """Find the notation and the unit of which nearly all texts are numbers; None without one.

    Args:
        name: of the column, which may be one of codes; 03:25 is a duration only if the name says so.
    """
    texts = pc.utf8_trim_whitespace(texts.drop_null())
    counted = texts.filter(pa.array(~is_placeholder(texts))).value_counts()
    known, counts = (counted.field(part).to_pylist() for part in ("values", "counts"))
    often = {
        text.replace("\N{MINUS SIGN}", "-"): count for text, count in zip(known, counts, strict=True) if text
    }
    if len(often) <= _FEW or _OF_CODES.search(name.lower()):
        return None
    if _OF_DURATIONS.search(name.lower()) and _nearly_all(often, filter(_CLOCK.fullmatch, often)):
        return POINT, "s"
    if _nearly_all(often, filter(_ISO.fullmatch, often)):
        return POINT, "s"
    numbers = [text for text in often if _PIECE.match(text)]  # without which no dimension has them
    tables = _DIMENSIONS if _nearly_all(often, numbers) else ()
    return next(
        (found for table in tables if (found := _in_dimension(often, table))), None
    ) or _with_one_unit(often)


def _nearly_all(often: Mapping[str, int], fitting: Iterable[str]) -> bool:
    """True if nearly all rows have one of the fitting texts."""
    return sum(often[text] for text in fitting) >= _FITTING * sum(often.values())


# --- units of one dimension


def _measured(
    texts: Sequence[str | None], table: Mapping[str, float], size: float, notation: Notation
) -> list[float | None]:
    """Read texts (N,) in the unit of a size; None without a unit, NaN in another notation."""
    values = [_duration(text, size) if text and table is _TIME else None for text in texts]
    split = [_pieces(text, table) if text else None for text in texts]
    row = [at for at, pieces in enumerate(split) for _ in pieces or ()]
    if not row:
        return values
    # The numbers of all texts in one go.
    plain = plain_numbers(pa.array([n for pieces in split for n, _ in pieces or ()], pa.string()), notation)
    numbers = pc.if_else(pc.equal(plain, "no number"), "nan", plain).cast(pa.float64()).to_numpy()
    sizes = np.array([table[unit] / size for pieces in split for _, unit in pieces or ()])
    total = np.bincount(row, numbers * sizes, len(texts)).tolist()
    return [
        value if pieces is None else total[at]
        for at, (value, pieces) in enumerate(zip(values, split, strict=True))
    ]


def _duration(text: str, size: float) -> float | None:
    """Read a clock such as ``1:02:33`` or ``PT1H2M`` in units of so many seconds; None for another text."""
    found = _CLOCK.fullmatch(text) or _ISO.fullmatch(text)
    if found is None:
        return None
    parts = found.groupdict()
    return sum(float(parts.get(part) or 0) * length for part, length in _LENGTHS.items()) / size


def _key(unit: str) -> str:
    """Return the name of a unit as the tables have it."""
    plain = unit.removesuffix(".")
    return plain.casefold() if len(plain) > 1 else plain


def _dimension(unit: str) -> dict[str, float] | None:
    """Return the units of the dimension of a unit; None if it belongs to none."""
    return next((table for table in _DIMENSIONS if _key(unit) in table), None)


def _pieces(text: str, table: Mapping[str, float]) -> list[tuple[str, str]] | None:
    """Take a text such as ``1 h 30 min`` apart: each number with its unit; None if it is anything else.

    Units become smaller, and the minutes of ``1h30`` need none.
    """
    at, found = 0, list[tuple[str, str]]()
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            return None
        unit = _key(match["unit"] or "")
        if not unit and found and found[-1][1] in ("h", "H"):
            unit = "min"
        if unit not in table or (found and table[unit] >= table[found[-1][1]]):
            return None
        if found and "-" in found[0][0] + match["number"]:
            return None  # of which parts?
        found.append((match["number"], unit))
        at = match.end()
    return found or None


def _in_dimension(often: Mapping[str, int], table: dict[str, float]) -> tuple[Notation, str] | None:
    """Find the notation and the unit of texts that have units of a dimension, the most frequent one."""
    split = {text: pieces for text in often if (pieces := _pieces(text, table)) is not None}
    zeros = [text for text in often if text == "0"]
    if not split or not _nearly_all(often, [*split, *zeros]):
        return None
    uses = Counter[float]()
    for text, pieces in split.items():
        uses[table[pieces[-1][1]]] += often[text]
    size = uses.most_common(1)[0][0]
    name = next(name for name in table if table[name] == size)
    notation = _notation_of(number for pieces in split.values() for number, _ in pieces)
    return None if notation is None else (notation, _USUAL.get(name, name))


def _notation_of(numbers: Iterable[str]) -> Notation | None:
    """Tell the notation of numbers; that they have a unit is as good as a percent sign."""
    return detect_notation(pa.array([f"{number}%" for number in numbers], pa.string()))


# --- one text behind all numbers


def _with_one_unit(often: Mapping[str, int]) -> tuple[Notation, str] | None:
    """Find the notation of numbers with one text behind all of them, and this text."""
    found = {text: match for text in often if (match := _WITH_UNIT.fullmatch(text)) is not None}
    spellings = Counter[str]()
    for text, match in found.items():
        spellings[match["unit"]] += often[text]
    if not spellings:
        return None
    unit = spellings.most_common(1)[0][0]
    fitting = {text: match for text, match in found.items() if _has_unit(match, unit)}
    zeros = [text for text in often if text == "0"]
    if not _nearly_all(often, [*fitting, *zeros]) or not _is_unit(unit, list(fitting.values())):
        return None
    numbers = [match["number"] for match in fitting.values()]
    notation = _notation_of(numbers) if len(set(numbers)) > _FEW else None
    return None if notation is None else (notation, unit)


def _has_unit(match: re.Match[str], unit: str) -> bool:
    """True if a number has a unit; after 1, words may have another end, as in ``1 day`` and ``2 days``."""
    own = match["unit"].casefold()
    return own == unit.casefold() or (
        match["number"] == "1" and own[:2].isalpha() and own[:2] == unit[:2].casefold()
    )


def _is_unit(unit: str, found: Sequence[re.Match[str]]) -> bool:
    """Tell units from the ends of codes: 4.5 stars, 8.7/10 and 900 EUR/month from 3XL, 10W-40 and 24/7."""
    apart = all(match["gap"] for match in found)
    if share := _SHARE.fullmatch(unit):
        whole = int(share["whole"])
        tops = [float(match["number"].replace(",", ".")) for match in found if _is_share(match["number"])]
        fits = whole > 1 and whole not in _YEARS and len(tops) == len(found) and max(tops) <= whole
        return fits and (apart or unit.startswith("/"))
    words = [word for word in re.split(rf"[/·{_BLANK}]+", unit) if word]
    first = words[0].casefold() if words else ""
    if not 0 < len(words) <= _LONGEST or not all(map(_WORD.fullmatch, words)) or first in _NO_UNITS:
        return False
    if unit.casefold() in _CLOSE or first in _CLOSE or not unit[0].isalpha():
        return unit[0] != "/" or len(first) > 1
    return apart and len(first.rstrip(".")) > 1


def _is_share(number: str) -> bool:
    """True for a number that may be a part of a constant; 03/12 is a date."""
    return re.fullmatch(r"(0|[1-9]\d*)([.,]\d+)?", number) is not None


def _stripped(texts: pa.Array, unit: str) -> pa.Array:
    """Take the unit of a field from the end of texts; see `_has_unit`."""
    blank = f"[{_BLANK}]*"
    words = [re.escape(word) for word in re.split(rf"[{_BLANK}]+", unit.strip())]
    pattern = rf"[{_BLANK}]+".join(words).replace("/", f"{blank}/{blank}")
    plain = pc.replace_substring_regex(texts, f"(?i){blank}{pattern}$", "")
    if not unit[:2].isalpha():
        return plain
    return pc.replace_substring_regex(plain, rf"(?i)^1{blank}{re.escape(unit[:2])}[\pL ]*$", "1")
