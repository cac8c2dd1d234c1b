"""Raw values of a log or a request, whatever their arrow type, as plain arrays with a problem code per row.

A categorical value becomes a *key*: a non-negative int64 that stands for the value before any vocabulary
exists (``-1``: missing). The key of an integer id is the id itself, the key of a text is 63 bits of a hash of
its UTF-8 bytes that is the same on every machine. Empty text is missing, like null.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Bytes, Floats, Ints
from clickscale.data.features.texts import (
    BAD_LABEL,
    BAD_NUMBER,
    BAD_TIME,
    BAD_VALUE,
    BAD_VECTOR,
    FINE,
    NEGATIVE,
    NOT_FINITE,
    OVERFLOW,
    bools_of,
    hash_texts,
    is_text,
    nulls,
    numpy_of,
    plain,
    read_texts,
)
from clickscale.schema import Field

MISSING = -1
NO_TIME = np.iinfo(np.int64).min
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Raw:
    """What one column of raw values says.

    Attributes:
        data: (N,) or (N, values) int64 keys, (N,) float64 numbers (NaN: missing) or (N, width) float16.
        problems: (N,) uint8 problem codes; where not FINE the row's data mean nothing.
        texts: the distinct texts behind the keys, or None where keys are integers.
        text_keys: (len(texts),) int64, their keys.
    """

    data: npt.NDArray[np.generic]
    problems: Bytes
    texts: pa.Array | None = None
    text_keys: Ints | None = None


def read_field(field: Field, values: pa.Array) -> Raw:
    """Read the raw values of a field of any kind; numbers are not yet transformed or scaled."""
    values = plain(values)
    if field.kind == "categorical":
        return read_keys(values, field.dtype) if field.values == 1 else _key_rows(field, values)
    if field.kind == "content":
        return _vectors(values, field.width)
    numbers, problems = read_numbers(values)
    return Raw(numbers, problems)


# --- keys


def read_keys(values: pa.Array, dtype: str) -> Raw:
    """Keys of single values: ids for ``int``, hashes of text for ``string``."""
    if dtype == "int":
        return Raw(*read_integers(values))
    texts, problems = read_texts(values)
    coded = texts.dictionary_encode()
    distinct = hash_texts(coded.dictionary)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    keys = distinct[at] if len(distinct) else np.zeros(len(texts), np.int64)
    keys = np.where(nulls(texts), MISSING, keys)
    return Raw(keys, problems, coded.dictionary, distinct)


def _key_rows(field: Field, values: pa.Array) -> Raw:
    """(N, values) keys of a field of several values; the first ones are kept, missing ones left out."""
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _from_lists(field, values)
    if not field.separator:
        return _from_lists(field, _each_alone(values))
    texts, problems = read_texts(values)
    coded = texts.dictionary_encode()
    pieces = pc.split_pattern(coded.dictionary, field.separator)
    pieces = pa.LargeListArray.from_arrays(
        pieces.offsets.cast(pa.int64()), pc.utf8_trim_whitespace(pieces.values)
    )
    distinct = _from_lists(field, pieces)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    data = np.full((len(texts), field.values), MISSING, np.int64)
    here = ~nulls(texts)
    data[here] = distinct.data[at[here]]
    problems[here] = np.maximum(problems[here], distinct.problems[at[here]])
    return Raw(data, problems, distinct.texts, distinct.text_keys)


def _each_alone(values: pa.Array) -> pa.Array:
    """Lists of one value each."""
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(values) + 1)), values)


def _from_lists(field: Field, lists: pa.Array) -> Raw:
    """Keys of list values."""
    length = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = read_keys(plain(lists.flatten()), field.dtype)
    row = np.repeat(np.arange(len(lists)), length)
    problems = np.zeros(len(lists), np.uint8)
    np.maximum.at(problems, row, inner.problems)
    present = inner.data != MISSING
    row, keys = row[present], inner.data[present]
    first = np.searchsorted(row, row)  # where each row's values begin
    place = np.arange(len(row)) - first
    kept = place < field.values
    data = np.full((len(lists), field.values), MISSING, np.int64)
    data[row[kept], place[kept]] = keys[kept]
    return Raw(data, problems, inner.texts, inner.text_keys)


def read_integers(values: pa.Array) -> tuple[Ints, Bytes]:
    """(N,) ids and problem codes: only integers in 0 .. 2**63 - 1 are fine, written in whatever type."""
    values = plain(values)
    kind = values.type
    if is_text(kind):
        texts, problems = read_texts(values)
        coded = texts.dictionary_encode()
        return _spread(coded, *_parse_integers(coded.dictionary), problems)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _integral(numpy_of(values.cast(pa.float64()), np.nan), nulls(values))
    if pa.types.is_null(kind):
        return np.full(len(values), MISSING, np.int64), np.zeros(len(values), np.uint8)
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return np.full(len(values), MISSING, np.int64), np.full(len(values), BAD_VALUE, np.uint8)
    number = numpy_of(values.cast(pa.uint8()) if pa.types.is_boolean(kind) else values, 0)
    problems = np.zeros(len(values), np.uint8)
    if number.dtype == np.uint64:
        problems[number > _LARGEST] = OVERFLOW
    problems[number < 0] = NEGATIVE
    keys = number.astype(np.int64)
    keys[nulls(values) | (problems != FINE)] = MISSING
    return keys, problems


def _integral(number: Floats, null: npt.NDArray[np.bool_]) -> tuple[Ints, Bytes]:
    """Ids that came as floats: 3.0 is 3, 3.5 is none; NaN is how tables of floats write null."""
    missing = null | np.isnan(number)
    number = np.where(missing, 0.0, number)
    problems = np.zeros(len(number), np.uint8)
    problems[number != np.trunc(number)] = BAD_VALUE
    problems[number >= 2.0**63] = OVERFLOW
    problems[np.isinf(number)] = NOT_FINITE
    problems[(number < 0) & np.isfinite(number)] = NEGATIVE
    fine = ~missing & (problems == FINE)
    return np.where(fine, np.where(fine, number, 0.0).astype(np.int64), MISSING), problems


def _parse_integers(texts: pa.Array) -> tuple[Ints, Bytes]:
    """Ids written as text: digits, perhaps with a sign and with zeros after a point."""
    texts = pc.utf8_trim_whitespace(texts)
    looks = bools_of(pc.match_substring_regex(texts, r"^[+-]?[0-9]+(\.0*)?$"))
    digits = pc.replace_substring_regex(texts, r"^([+-]?)0*([0-9]+?)(\.0*)?$", r"\1\2")
    negative = bools_of(pc.starts_with(digits, "-")) & ~bools_of(pc.equal(digits, "-0"))
    digits = pc.replace_substring_regex(digits, r"^[+-]", "")
    long = numpy_of(pc.utf8_length(digits), 0) > 19
    readable = looks & ~negative & ~long
    number = numpy_of(pc.if_else(pa.array(readable), digits, "0").cast(pa.uint64()), 0)
    problems = np.where(looks, FINE, BAD_VALUE).astype(np.uint8)
    problems[looks & (long | (number > _LARGEST))] = OVERFLOW
    problems[looks & negative] = NEGATIVE
    problems[bools_of(pc.equal(texts, ""))] = FINE
    fine = readable & (number <= _LARGEST)
    return np.where(fine, np.where(fine, number, 0).astype(np.int64), MISSING), problems


def _spread(coded: pa.DictionaryArray, distinct: Ints, codes: Bytes, problems: Bytes) -> tuple[Ints, Bytes]:
    """Give every row what its distinct text was found to be."""
    keys = np.full(len(coded), MISSING, np.int64)
    here = ~nulls(coded.indices)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)[here]
    keys[here] = distinct[at]
    problems[here] = np.maximum(problems[here], codes[at])
    return keys, problems


# --- numbers, times, labels, vectors


def read_numbers(values: pa.Array) -> tuple[Floats, Bytes]:
    """(N,) numbers, NaN where missing, and problem codes; moments count as seconds since 1970 UTC."""
    values = plain(values)
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
        return numpy_of(values.cast(pa.float64(), safe=False), np.nan) / 1e6, np.zeros(len(values), np.uint8)
    if is_text(kind):
        texts, problems = read_texts(values)
        coded = texts.dictionary_encode()
        distinct, codes = _parse_numbers(coded.dictionary)
        here = ~nulls(coded.indices)
        at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)[here]
        numbers = np.full(len(values), np.nan)
        numbers[here] = distinct[at]
        problems[here] = np.maximum(problems[here], codes[at])
        return numbers, problems
    if pa.types.is_boolean(kind):
        values = values.cast(pa.uint8())
    try:
        numbers = numpy_of(values.cast(pa.float64(), safe=False), np.nan)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return np.full(len(values), np.nan), np.full(len(values), BAD_NUMBER, np.uint8)
    problems = np.where(_is_finite(numbers) | nulls(values), FINE, NOT_FINITE).astype(np.uint8)
    return np.where(problems == FINE, numbers, np.nan), problems


def _parse_numbers(texts: pa.Array) -> tuple[Floats, Bytes]:
    """Numbers written as text."""
    texts = pc.utf8_trim_whitespace(texts)
    special = bools_of(pc.match_substring_regex(texts, r"^(?i)[+-]?(nan|inf|infinity)$"))
    looks = bools_of(pc.match_substring_regex(texts, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"))
    safe = pc.replace_substring_regex(pc.if_else(pa.array(looks), texts, "0"), r"^\+", "")
    numbers = numpy_of(safe.cast(pa.float64()), np.nan).copy()
    problems = np.where(looks, FINE, BAD_NUMBER).astype(np.uint8)
    problems[special | ~_is_finite(numbers)] = NOT_FINITE
    problems[bools_of(pc.equal(texts, ""))] = FINE
    numbers[~looks | (problems != FINE)] = np.nan
    return numbers, problems


def _is_finite(numbers: Floats) -> npt.NDArray[np.bool_]:
    """Whether float32 can hold them."""
    return np.abs(numbers) <= np.finfo(np.float32).max  # also False for NaN


def read_times(values: pa.Array) -> tuple[Ints, Bytes]:
    """(N,) whole seconds since 1970 UTC, and problem codes; null becomes the smallest int64."""
    values = plain(values)
    if pa.types.is_integer(values.type):
        number, wrong = numpy_of(values, 0), np.zeros(len(values), np.uint8)
        number = np.minimum(number, np.uint64(_LARGEST)) if number.dtype == np.uint64 else number
        seconds = number.astype(np.int64)
        return np.where(nulls(values), NO_TIME, seconds), wrong
    numbers, problems = read_numbers(values)
    problems = np.where(problems == FINE, FINE, BAD_TIME).astype(np.uint8)
    missing = np.isnan(numbers)
    whole = np.clip(np.floor(np.where(missing, 0, numbers)), -(2.0**62), 2.0**62).astype(np.int64)
    return np.where(missing, NO_TIME, whole), problems


def read_labels(values: pa.Array) -> tuple[npt.NDArray[np.int8], Bytes]:
    """(N,) 0, 1 or -1 for unknown, and problem codes; true and false count as 1 and 0."""
    values = plain(values)
    kind = values.type
    if is_text(kind):
        texts, _ = read_texts(values)
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
        words = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", lower))
        values = words
    numbers, problems = read_numbers(values)
    fine = (problems == FINE) & (np.isnan(numbers) | (numbers == 0) | (numbers == 1))
    labels = np.where(fine & ~np.isnan(numbers), np.where(numbers == 1, 1, 0), -1).astype(np.int8)
    return labels, np.where(fine, FINE, BAD_LABEL).astype(np.uint8)


def _vectors(values: pa.Array, width: int) -> Raw:
    """(N, width) float16 vectors; zeros where null."""
    kind = values.type
    data = np.zeros((len(values), width), np.float16)
    problems = np.zeros(len(values), np.uint8)
    here = ~nulls(values)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        problems[here] = BAD_VECTOR
        return Raw(data, problems)
    length = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    problems[here & (length != width)] = BAD_VECTOR
    flat, wrong = read_numbers(values.flatten())
    right = np.repeat(problems == FINE, length)
    rows = np.flatnonzero(here & (problems == FINE))
    with np.errstate(over="ignore"):
        data[rows] = flat[right].reshape(-1, width).astype(np.float16)
    bad = ((wrong[right] != FINE) | ~np.isfinite(flat[right])).reshape(-1, width).any(axis=1)
    problems[rows[bad | ~np.isfinite(data[rows]).all(axis=1)]] = NOT_FINITE
    return Raw(data, problems)
