"""Ratings as people write them: ``8.7/10``, ``4 out of 5 stars`` or ``★★★★☆``, for conditions on them."""

import re

import pyarrow as pa
import pyarrow.compute as pc

_BLANK = r"[ \x{a0}\x{2009}\x{202f}]*"
_GIVEN = r"(?P<given>[0-9]{1,3})(?:[.,](?P<fraction>[0-9]+))?"
_FULL, _EMPTY = "\u2605\u2b50\u272d\u272e\u2b51\U0001f31f", "\u2606\u2729\u2bea\u272b\ufe0f"
_STARS = (
    r"(?:[\x{2605}\x{2b50}]\x{fe0f}?|stars?|sterne?n?|étoiles?|etoiles?|estrellas?|estrelas?|stell[ae]|"
    r"ster(?:ren)?)"
)
_OF = rf"(?:/|(?:out of|of|von|sur|de|su|van) ){_BLANK}"
# A word may follow: 4 out of 5 stars.
_SHARE = rf"^(?i){_BLANK}{_GIVEN}{_BLANK}{_OF}[1-9][0-9]{{0,2}}(?:{_BLANK}\pL+)?{_BLANK}$"
_COUNT = rf"^(?i){_BLANK}{_GIVEN}{_BLANK}{_STARS}{_BLANK}$"
_DRAWN = re.compile(rf"\s*(?P<full>[{_FULL}\ufe0f]*)(?P<half>[½\u2bea]?)[{_EMPTY}]*\s*")


def plain_ratings(texts: pa.Array) -> pa.Array:
    """Write the ratings among texts (N,) as numbers, ``4.5`` for ``4,5 of 5``; other texts stay."""
    for pattern in (_SHARE, _COUNT):
        found = pc.extract_regex(texts, pattern)
        given, fraction = (pc.struct_field(found, name) for name in ("given", "fraction"))
        numbers = pc.binary_join_element_wise(given, pc.if_else(pc.equal(fraction, ""), "0", fraction), ".")
        texts = pc.coalesce(numbers.cast(texts.type), texts)
    drawn = [None if text is None else _drawn(text) for text in texts.to_pylist()]
    return pc.coalesce(pa.array(drawn, texts.type), texts)


def _drawn(text: str) -> str | None:
    """Count the full stars of a text that has nothing else than stars; None for another text."""
    match = _DRAWN.fullmatch(text)
    if match is None or not text.strip():
        return None
    full = len(match["full"].replace("\ufe0f", ""))
    return f"{full}.5" if match["half"] else str(full)
