"""Encoding of a text file by the bytes of its lines, for files that are older than UTF-8.

Each rule asks whether the text would look like one of its language: letters of a script stand beside each
other, and a sign such as ³ stands in no word.
"""

import re
from collections import Counter
from collections.abc import Sequence

from clickscale.data.tables.delimited import Encoding

_LONGEST = 2  # bytes of a sign
_LINES = 2_000  # lines beyond ASCII that are looked at
_BROKEN = 0.005  # share of the lines that may have bytes of no letter
_MOSTLY, _MANY, _SOME = 0.9, 0.5, 0.05
_IDEOGRAPH = r"[々\u3400-\u9fff\uac00-\ud7a3\u3041-\u30ff]"
_BESIDE = re.compile(rf"{_IDEOGRAPH}(?={_IDEOGRAPH})|(?<={_IDEOGRAPH}){_IDEOGRAPH}")
_IN_A_WORD = re.compile(rf"[A-Za-z]{_IDEOGRAPH}(?!{_IDEOGRAPH})|(?<!{_IDEOGRAPH}){_IDEOGRAPH}[A-Za-z]")
_ANY = re.compile(_IDEOGRAPH)
_KANA = re.compile(r"[\u3041-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_LETTER = r"[^\W\d_]"
# Letters of Polish, Czech and Hungarian, which Western text has as signs or not at all.
_CENTRAL = re.compile(
    r"[\u0104-\u0107\u0118-\u011b\u0139-\u0148\u0150-\u015b\u0164\u0165\u016e-\u0171\u0179-\u017c]"
)
_SIGN_IN_WORD = re.compile(
    rf"(?<={_LETTER})[¹³¿¯£¥\ufffd](?={_LETTER})|[¹³](?={_LETTER})|(?<={_LETTER})[¹³¿]|(?<!\d)£(?={_LETTER}{_LETTER})|"
    r"(?<=[a-zß-ÿ])[ŸŒ]"
)
# Letters of Slavic languages and of Hungarian, then those that a text of no Western language has together.
_ALPHABETS = (
    ("áéíýúóčšžěřůňďťäľôĺŕćđ", "šž", "čěřůňďťľćđ"),
    ("áéíóöúüőű", "őű"),
)
_TURKISH = re.compile(r"[\u011e\u011f\u0130\u0131\u015e\u015f]")
_ICELANDIC = re.compile(r"[ÁÍÚáíúÆæ]")


def detect_encoding(block: bytes) -> Encoding:
    """Detect the encoding by the lines beyond ASCII; a broken line or two still leave UTF-8."""
    lines = [line for line in block.split(b"\n") if not line.isascii()][:_LINES]
    broken = sum(not _decodes(line, "utf-8") for line in lines)
    if 2 * broken <= len(lines):
        return "utf-8"
    return _asian(lines) or _cyrillic(lines) or _turkish(lines) or _central_european(lines) or "latin-1"


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _asian(lines: Sequence[bytes]) -> Encoding | None:
    """Return the encoding in which nearly all lines hold common signs of China, Japan or Korea."""
    for encoding in ("euc_jp", "cp949", "cp932", "gb18030", "big5"):
        whole = [line for line in lines if _decodes(line, encoding)]
        if len(lines) - len(whole) > _BROKEN * len(lines):
            continue
        letters = [letter for line in whole for letter in line.decode(encoding) if not letter.isascii()]
        text = "\n".join(line.decode(encoding) for line in whole)
        beside, alone = (len(found.findall(text)) for found in (_BESIDE, _IN_A_WORD))
        common = sum(map(_COMMON[encoding], letters))
        if (
            beside > _SOME * len(letters) > 0
            and alone < _SOME * len(letters)
            and common > _MOSTLY * len(letters)
            and _fits(encoding, text)
        ):
            return _NAMES[encoding]
    return None


def _fits(encoding: str, text: str) -> bool:
    """True if a text has the signs without which none is Japanese, or Korean; Chinese has the same bytes."""
    signs, kana, hangul = (len(found.findall(text)) for found in (_ANY, _KANA, _HANGUL))
    if encoding == "euc_jp":
        return kana > _SOME * signs
    return hangul > _MOSTLY * signs if encoding == "cp949" else True


def _is_in(encoding: str, first: int, last: int, letter: str) -> bool:
    """True for a sign whose first byte in an encoding lies between two bytes."""
    try:
        encoded = letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    # EUC-KR writes rare syllables in four signs, each of a common first byte.
    return len(encoded) <= _LONGEST and first <= encoded[0] <= last


_COMMON = {
    "euc_jp": lambda letter: _is_in("euc_jp", 0xA1, 0xCF, letter),
    "cp949": lambda letter: _is_in("euc_kr", 0xA1, 0xC8, letter),
    "cp932": lambda letter: _is_in("cp932", 0x81, 0x97, letter),
    "gb18030": lambda letter: _is_in("gb2312", 0xA1, 0xD7, letter),
    "big5": lambda letter: _is_in("big5", 0xA1, 0xC6, letter),
}
_NAMES: dict[str, Encoding] = {
    "euc_jp": "euc-jp",
    "cp949": "cp949",
    "cp932": "cp932",
    "gb18030": "gb18030",
    "big5": "big5",
}


def _cyrillic(lines: Sequence[bytes]) -> Encoding | None:
    """Return cp1251 for words of its letters only; Western words have letters of ASCII among others."""
    words = re.findall(rf"{_LETTER}+", _text(lines, "cp1251"))
    beyond = [word for word in words if not word.isascii()]
    letters = Counter(letter.isascii() for word in beyond for letter in word)
    small = sum("а" <= letter <= "я" for word in beyond for letter in word)
    whole = sum(len(word) > 1 for word in beyond)
    found = letters[False] > _MOSTLY * letters.total() and whole > _MANY * len(beyond)
    return "cp1251" if beyond and found and small > _MANY * letters[False] else None


def _turkish(lines: Sequence[bytes]) -> Encoding | None:
    text = _text(lines, "cp1254")
    beyond = sum(not letter.isascii() for letter in text)
    found = len(_TURKISH.findall(text)) > 0.3 * beyond and "ı" in text
    return "cp1254" if found and len(_ICELANDIC.findall(text)) < _SOME * beyond else None


def _central_european(lines: Sequence[bytes]) -> Encoding | None:
    """Return cp1250 for an alphabet of it, or where Western text would have signs inside of words."""
    signs = len(_SIGN_IN_WORD.findall(_text(lines, "cp1252")))
    text = _text(lines, "cp1250")
    beyond = [letter for letter in text.lower() if not letter.isascii()]
    if signs > _SOME * len(beyond) and len(_CENTRAL.findall(text)) > _MANY * len(beyond):
        return "cp1250"
    shares = [[sum(map(part.__contains__, beyond)) for part in parts] for parts in _ALPHABETS]
    fits = (
        whole > _MOSTLY * len(beyond) and min(own) > _SOME * len(beyond)
        for whole, *own in shares  # of no letters, none is more
    )
    return "cp1250" if any(fits) else None


def _text(lines: Sequence[bytes], encoding: str) -> str:
    return b"\n".join(lines).decode(encoding, "replace")
