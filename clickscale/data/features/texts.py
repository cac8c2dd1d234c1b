"""Texts inside arrow arrays: check of UTF-8, conversion of any value to text, and a hash of texts.

The problem codes of raw values are defined here too, since the first of them arise here.
"""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Bytes, Ints

# Problem codes of a row, and their names in reports; FINE means no problem.
FINE, BAD_VALUE, NEGATIVE, OVERFLOW, NOT_UTF8 = range(5)
BAD_NUMBER, NOT_FINITE, BAD_LABEL, BAD_VECTOR, BAD_TIME = range(5, 10)
BRACKETS = "[]"  # as a separator: texts are lists as Python and JSON write them
_GLUED = re.compile(r"""(?<!\\)['"]\s+['"]""")  # texts without a comma, as NumPy prints them: one to Python
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_NOTHING = ("", "None", "null", "nan", "NaN")
_NAMES = ("name", "title", "label", "value", "id")  # of what an object stands for, the first one that it has
PROBLEMS = (
    "",
    "bad_value",
    "negative_id",
    "id_overflow",
    "invalid_utf8",
    "bad_number",
    "non_finite",
    "bad_label",
    "bad_vector",
    "bad_time",
)
# Texts that stand for a missing number, time or label, beside null and empty ones.
_PLACEHOLDERS = (
    r"^(?i)([-\x{2010}-\x{2015}]+|\.|\?|n/?a|n\.a\.|#n/?a|<na>|[+-]?nan|null|\\n|none|nil|missing|unknown)$"
)
_BLOCK = 1 << 14  # texts hashed at a time: the hash takes some 30 bytes of memory per byte of text


def plain(values: pa.Array) -> pa.Array:
    """Return one array without dictionary or extension type."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one (Steele, Lea and Flood 2014, the finalizer of SplitMix)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def hash_texts(texts: pa.Array) -> Ints:
    """Hash the UTF-8 bytes of texts to 63 bits, (N,) int64 >= 0; null counts as empty."""
    blocks = [_hash_block(texts.slice(at, _BLOCK)) for at in range(0, len(texts), _BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int64)


def _hash_block(texts: pa.Array) -> Ints:
    """Sum one scrambled number per (position, byte), and scramble the sum with the length."""
    ends, data = text_buffers(texts)
    length = np.diff(ends, prepend=0)
    position = np.arange(len(data)) - np.repeat(ends - length, length)
    mixed = splitmix64((position.astype(np.uint64) + np.uint64(1)) * np.uint64(256) + data)
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    with np.errstate(over="ignore"):
        hashed = splitmix64(total[ends] - total[ends - length] + length.astype(np.uint64))
    return (hashed >> np.uint64(1)).astype(np.int64)


def text_buffers(texts: pa.Array) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Take texts apart: the end of each text, and all bytes in sequence."""
    texts = texts.cast(pa.large_string()).fill_null("")
    _, offsets, data = texts.buffers()
    if not len(texts):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    cuts = np.frombuffer(offsets, np.int64, len(texts) + 1, texts.offset * 8)
    every = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return cuts[1:] - cuts[0], every[cuts[0] : cuts[-1]]


def texts_of(ends: Ints, data: npt.NDArray[np.uint8]) -> pa.Array:
    """Rebuild the texts that `text_buffers` took apart."""
    offsets = pa.py_buffer(np.concatenate([np.zeros(1, np.int64), ends]).astype(np.int64))
    return pa.LargeStringArray.from_buffers(len(ends), offsets, pa.py_buffer(np.ascontiguousarray(data)))


def is_placeholder(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """(N,) True for texts such as ``-``, ``N/A`` or ``nan``, which stand for a missing number."""
    return bools_of(pc.match_substring_regex(texts, _PLACEHOLDERS))


def whole_texts(texts: pa.Array) -> pa.Array:
    """Write texts of whole numbers as integers: 12.0, as a column of floats has it, is the id 12."""
    if not pc.any(pc.ends_with(texts, ".0")).as_py():
        return texts
    return pc.replace_substring_regex(texts, r"^(-?(?:0|[1-9][0-9]*))\.0$", r"\1")


def read_texts(values: pa.Array) -> tuple[pa.Array, Bytes]:
    """Convert values to text (the number 3.0 to "3"), null where empty or missing, with problem codes."""
    values = plain(values)
    kind = values.type
    problems = np.zeros(len(values), np.uint8)
    if is_text(kind):
        texts, problems = _valid_utf8(values)
    elif pa.types.is_floating(kind):
        texts = _float_texts(values)
    elif pa.types.is_decimal(kind):
        texts = pc.replace_substring_regex(values.cast(pa.large_string()), r"\.0+$", "")
    else:
        try:
            texts = values.cast(pa.large_string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs
            return pa.nulls(len(values), pa.large_string()), np.where(nulls(values), FINE, BAD_VALUE).astype(
                np.uint8
            )
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.large_string()), texts), problems


def _float_texts(values: pa.Array) -> pa.Array:
    """Convert floats to text: whole ones in the form of integers, NaN to null."""
    numbers = numpy_of(values.cast(pa.float64()), np.nan)
    whole = np.isfinite(numbers) & (numbers == np.trunc(numbers)) & (np.abs(numbers) < 2.0**63)
    integers = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.large_string())
    others = pa.array(numbers, mask=np.isnan(numbers)).cast(pa.large_string())
    return pc.if_else(pa.array(whole), integers, others)


def _valid_utf8(values: pa.Array) -> tuple[pa.Array, Bytes]:
    """Keep the texts that are UTF-8; the others become null and get a problem code."""
    problems = np.zeros(len(values), np.uint8)
    try:
        texts = values.cast(pa.large_binary()).cast(pa.large_string())
        return texts, problems
    except pa.ArrowInvalid:
        raw = values.cast(pa.large_binary()).to_pylist()
    problems[:] = [FINE if value is None or _is_utf8(value) else NOT_UTF8 for value in raw]
    kept = [value if code == FINE else None for value, code in zip(raw, problems, strict=True)]
    return pa.array(kept, pa.large_binary()).cast(pa.large_string()), problems


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_text(kind: pa.DataType) -> bool:
    """True for types of text, and of bytes that should be text."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def nulls(values: pa.Array) -> npt.NDArray[np.bool_]:
    """(N,) True where values are null."""
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def bools_of(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Convert truth values to numpy, nulls to False."""
    known = values.fill_null(False) if values.null_count else values
    return np.asarray(known.to_numpy(zero_copy_only=False), dtype=bool)


def numpy_of(values: pa.Array, null: float) -> npt.NDArray[Any]:
    """Convert values to numpy, nulls to ``null``; a read-only view where arrow allows it."""
    return np.asarray(
        (values.fill_null(null) if values.null_count else values).to_numpy(zero_copy_only=False)
    )


def entries_of(text: str, separator: str) -> list[str]:
    """Divide a text of several values, by a separator or as a list in brackets (`BRACKETS`).

    Lists are read as JSON or as a literal of Python, or else divided by commas, or without any by spaces.
    An object stands for its ``name`` or the like: ``[{'id': 16, 'name': 'Drama'}]`` holds Drama.
    """
    if separator != BRACKETS:
        return [entry.strip() for entry in text.split(separator)]
    for read in () if _GLUED.search(text) else (json.loads, ast.literal_eval):  # neither runs anything
        try:
            return list(_inside(read(text)))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            pass
    inner = text.strip().removeprefix("[").removesuffix("]")
    glued = [one or other for one, other in _QUOTED.findall(inner)] if _GLUED.search(text) else []
    entries = glued or inner.split("," if "," in inner else None)
    return [value for entry in entries if (value := entry.strip(" \t'\"")) not in _NOTHING]


def _inside(value: Any) -> Iterator[str]:
    """Yield the texts of what lists and objects hold."""
    if isinstance(value, list | tuple | set):
        for entry in value:
            yield from _inside(entry)
    elif isinstance(value, dict):
        plain = {str(key).lower(): held for key, held in value.items() if not isinstance(held, list | dict)}
        named = next((name for name in _NAMES if plain.get(name) is not None), None)
        for held in plain.values() if named is None else (plain[named],):
            yield from _inside(held)
    elif value is not None and value == value:
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
        text = text.encode("utf-8", "ignore").decode().strip()  # half a character is none
        if text not in _NOTHING:
            yield text
