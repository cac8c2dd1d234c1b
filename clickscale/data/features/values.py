"""Raw values of a log or a request, of any arrow type, as plain arrays with a problem code per row.

A categorical value becomes a *key*: a non-negative int64 that stands for the value before any vocabulary
exists (``-1``: missing). The key of an integer id is the id itself, the key of a text is 63 bits of a hash of
its UTF-8 bytes that is the same on every machine. Empty text is missing, like null.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.arrays import Bytes, Floats, Ints
from clickscale.data.features.notations import plain_numbers
from clickscale.data.features.ranges import read_ranges
from clickscale.data.features.texts import (
    BAD_LABEL,
    BAD_NUMBER,
    BAD_TIME,
    BAD_VALUE,
    BAD_VECTOR,
    BRACKETS,
    FINE,
    NEGATIVE,
    NOT_FINITE,
    OVERFLOW,
    bools_of,
    entries_of,
    hash_texts,
    is_placeholder,
    is_text,
    nulls,
    numpy_of,
    plain,
    read_texts,
    whole_texts,
)
from clickscale.data.features.units import without_units
from clickscale.data.features.urls import url_parts
from clickscale.schema import Field, Notation

MISSING = -1
NO_TIME = np.iinfo(np.int64).min
_LARGEST = np.iinfo(np.int64).max
# 1,299.00 and 1,234,567 have one meaning; 1,299 has two, as some write a comma for the decimal point.
_GROUPED = r"^[+-]?[0-9]{1,3}(,[0-9]{3})*,[0-9]{3}(\.[0-9]+|,[0-9]{3})$"
_YES, _NO = r"^(?i)(true|t|yes|y)$", r"^(?i)(false|f|no|n)$"


@dataclass(frozen=True)
class Raw:
    """Content of one column of raw values.

    Attributes:
        data: (N,) or (N, values) int64 keys, (N,) float64 numbers (NaN: missing) or (N, width) float16.
        problems: (N,) uint8 problem codes; the data of a row mean nothing unless its code is FINE.
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
    if field.url:
        return _url_keys(field, values)
    if field.kind == "categorical":
        single = field.values == 1 and not _is_list(values.type)
        return read_keys(values, field.dtype) if single else _key_rows(field, values)
    if field.kind == "content":
        return _vectors(values, field.width)
    numbers, problems = read_numbers(values, field.notation, field.unit)
    return Raw(numbers, problems)


# --- keys


def read_keys(values: pa.Array, dtype: str) -> Raw:
    """Read keys of single values: ids for ``int``, hashes of text for ``string``."""
    if dtype == "int":
        return Raw(*_read_integers(values))
    texts, problems = read_texts(values)
    coded = texts.dictionary_encode()
    values = whole_texts(coded.dictionary)
    distinct = hash_texts(values)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    keys = distinct[at] if len(distinct) else np.zeros(len(texts), np.int64)
    keys = np.where(nulls(texts), MISSING, keys)
    return Raw(keys, problems, values, distinct)


def _url_keys(field: Field, values: pa.Array) -> Raw:
    """Read keys of a part of URLs."""
    texts, problems = read_texts(values)
    raw = read_keys(url_parts(texts, field.url), field.dtype)
    return Raw(raw.data, np.maximum(problems, raw.problems), raw.texts, raw.text_keys)


def _key_rows(field: Field, values: pa.Array) -> Raw:
    """Read (N, values) keys of lists, or (N,) for one value; keep the first ones, leave missing ones out."""
    if field.values == 1:
        first = _from_lists(field, values)
        return Raw(first.data[:, 0], first.problems, first.texts, first.text_keys)
    if _is_list(values.type):
        return _from_lists(field, values)
    if not field.separator:
        return _from_lists(field, _single_lists(values))
    texts, problems = read_texts(values)
    coded = texts.dictionary_encode()
    if field.separator == BRACKETS:
        entries = [entries_of(text, BRACKETS) for text in coded.dictionary.to_pylist()]
        pieces = pa.array(entries, pa.large_list(pa.string()))
    else:
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


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _single_lists(values: pa.Array) -> pa.Array:
    """Wrap each value into a list."""
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(values) + 1)), values)


def _from_lists(field: Field, lists: pa.Array) -> Raw:
    """Read the keys of lists."""
    length = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = read_keys(plain(lists.flatten()), field.dtype)
    row = np.repeat(np.arange(len(lists)), length)
    problems = np.zeros(len(lists), np.uint8)
    np.maximum.at(problems, row, inner.problems)
    present = inner.data != MISSING
    row, keys = row[present], inner.data[present]
    first = np.searchsorted(row, row)  # index of each row's first value
    position = np.arange(len(row)) - first
    kept = position < field.values
    data = np.full((len(lists), field.values), MISSING, np.int64)
    data[row[kept], position[kept]] = keys[kept]
    return Raw(data, problems, inner.texts, inner.text_keys)


def _read_integers(values: pa.Array) -> tuple[Ints, Bytes]:
    """Read (N,) ids of any type and problem codes; an id is an integer in 0 .. 2**63 - 1."""
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
    numbers = numpy_of(values.cast(pa.uint8()) if pa.types.is_boolean(kind) else values, 0)
    problems = np.zeros(len(values), np.uint8)
    if numbers.dtype == np.uint64:
        problems[numbers > _LARGEST] = OVERFLOW
    problems[numbers < 0] = NEGATIVE
    keys = numbers.astype(np.int64)
    keys[nulls(values) | (problems != FINE)] = MISSING
    return keys, problems


def _integral(numbers: Floats, null: npt.NDArray[np.bool_]) -> tuple[Ints, Bytes]:
    """Read ids from floats: 3.0 is 3, 3.5 is not an id, and NaN is null."""
    missing = null | np.isnan(numbers)
    numbers = np.where(missing, 0.0, numbers)
    problems = np.zeros(len(numbers), np.uint8)
    problems[numbers != np.trunc(numbers)] = BAD_VALUE
    problems[numbers >= 2.0**63] = OVERFLOW
    problems[np.isinf(numbers)] = NOT_FINITE
    problems[(numbers < 0) & np.isfinite(numbers)] = NEGATIVE
    usable = ~missing & (problems == FINE)
    return np.where(usable, np.where(usable, numbers, 0.0).astype(np.int64), MISSING), problems


def _parse_integers(texts: pa.Array) -> tuple[Ints, Bytes]:
    """Read ids from text: digits, with an optional sign and zeros after a point.

    Leading zeros belong to an id, and 007 is not the id 7: such ids are texts.
    """
    texts = pc.utf8_trim_whitespace(texts)
    looks = bools_of(pc.match_substring_regex(texts, r"^[+-]?(0|[1-9][0-9]*)(\.0*)?$"))
    digits = pc.replace_substring_regex(texts, r"\.0*$", "")
    negative = bools_of(pc.starts_with(digits, "-")) & ~bools_of(pc.equal(digits, "-0"))
    digits = pc.replace_substring_regex(digits, r"^[+-]", "")
    long = numpy_of(pc.utf8_length(digits), 0) > 19
    readable = looks & ~negative & ~long
    numbers = numpy_of(pc.if_else(pa.array(readable), digits, "0").cast(pa.uint64()), 0)
    problems = np.where(looks, FINE, BAD_VALUE).astype(np.uint8)
    problems[looks & (long | (numbers > _LARGEST))] = OVERFLOW
    problems[looks & negative] = NEGATIVE
    problems[bools_of(pc.equal(texts, "")) | is_placeholder(texts)] = FINE
    usable = readable & (numbers <= _LARGEST)
    return np.where(usable, np.where(usable, numbers, 0).astype(np.int64), MISSING), problems


def _spread(coded: pa.DictionaryArray, distinct: Ints, codes: Bytes, problems: Bytes) -> tuple[Ints, Bytes]:
    """Give every row the key and the problem code of its distinct text."""
    keys = np.full(len(coded), MISSING, np.int64)
    here = ~nulls(coded.indices)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)[here]
    keys[here] = distinct[at]
    problems[here] = np.maximum(problems[here], codes[at])
    return keys, problems


# --- numbers, times, labels, vectors


def read_numbers(values: pa.Array, notation: Notation = "", unit: str = "") -> tuple[Floats, Bytes]:
    """Read (N,) numbers, NaN where missing, and problem codes; moments become seconds since 1970 UTC.

    Args:
        notation: of texts; values of other types are numbers as they are.
        unit: beside the numbers of texts; other numbers are in this unit.
    """
    values = plain(values)
    kind = values.type
    if pa.types.is_temporal(kind):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
        return numpy_of(values.cast(pa.float64(), safe=False), np.nan) / 1e6, np.zeros(len(values), np.uint8)
    if is_text(kind) and unit:
        return _read_ranges(values, lambda texts: without_units(texts, unit, notation))
    if is_text(kind) and notation:
        return _read_ranges(values, lambda texts: plain_numbers(texts, notation))
    if is_text(kind):
        return _read_number_texts(values, _parse_numbers)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.uint8())
    try:
        numbers = numpy_of(values.cast(pa.float64(), safe=False), np.nan)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs
        return np.full(len(values), np.nan), np.full(len(values), BAD_NUMBER, np.uint8)
    problems = np.where(_is_finite(numbers) | np.isnan(numbers), FINE, NOT_FINITE).astype(np.uint8)
    return np.where(problems == FINE, numbers, np.nan), problems


def _read_ranges(values: pa.Array, plain_form: Callable[[pa.Array], pa.Array]) -> tuple[Floats, Bytes]:
    """Read texts that people wrote, ranges among them.

    Args:
        plain_form: writes numbers as computers do.
    """
    return _read_number_texts(
        values, lambda texts: read_ranges(texts, lambda ends: _parse_numbers(plain_form(ends)))
    )


def _read_number_texts(
    values: pa.Array, parse: Callable[[pa.Array], tuple[Floats, Bytes]]
) -> tuple[Floats, Bytes]:
    """Read texts; each distinct one is parsed once."""
    texts, problems = read_texts(values)
    coded = texts.dictionary_encode()
    distinct, codes = parse(coded.dictionary)
    here = ~nulls(coded.indices)
    at = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)[here]
    numbers = np.full(len(values), np.nan)
    numbers[here] = distinct[at]
    problems[here] = np.maximum(problems[here], codes[at])
    return numbers, problems


def _parse_numbers(texts: pa.Array) -> tuple[Floats, Bytes]:
    """Read numbers from text; a placeholder for a missing one, such as ``-`` or ``N/A``, gives NaN."""
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.match_substring_regex(texts, _GROUPED), pc.replace_substring(texts, ",", ""), texts)
    infinite = bools_of(pc.match_substring_regex(texts, r"^(?i)[+-]?(inf|infinity)$"))
    looks = bools_of(pc.match_substring_regex(texts, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"))
    safe = pc.replace_substring_regex(pc.if_else(pa.array(looks), texts, "0"), r"^\+", "")
    numbers = numpy_of(safe.cast(pa.float64()), np.nan).copy()
    problems = np.where(looks, FINE, BAD_NUMBER).astype(np.uint8)
    problems[infinite | ~_is_finite(numbers)] = NOT_FINITE
    problems[bools_of(pc.equal(texts, "")) | is_placeholder(texts)] = FINE
    numbers[~looks | (problems != FINE)] = np.nan
    return numbers, problems


def _is_finite(numbers: Floats) -> npt.NDArray[np.bool_]:
    """(N,) True for numbers that float32 can hold."""
    return np.abs(numbers) <= np.finfo(np.float32).max  # also False for NaN


def read_times(values: pa.Array) -> tuple[Ints, Bytes]:
    """Read (N,) whole seconds since 1970 UTC, and problem codes; null becomes `NO_TIME`."""
    values = plain(values)
    if pa.types.is_integer(values.type):
        integers, wrong = numpy_of(values, 0), np.zeros(len(values), np.uint8)
        integers = np.minimum(integers, np.uint64(_LARGEST)) if integers.dtype == np.uint64 else integers
        seconds = integers.astype(np.int64)
        return np.where(nulls(values), NO_TIME, seconds), wrong
    numbers, problems = read_numbers(values)
    problems = np.where(problems == FINE, FINE, BAD_TIME).astype(np.uint8)
    missing = np.isnan(numbers)
    whole = np.clip(np.floor(np.where(missing, 0, numbers)), -(2.0**62), 2.0**62).astype(np.int64)
    return np.where(missing, NO_TIME, whole), problems


def read_labels(values: pa.Array) -> tuple[npt.NDArray[np.int8], Bytes]:
    """Read (N,) labels, 0, 1 or -1 for unknown, and problem codes; true, t, yes and y count as 1."""
    values = plain(values)
    if is_text(values.type):
        numbers, problems = _read_number_texts(values, lambda texts: _parse_numbers(truth_numbers(texts)))
    else:
        numbers, problems = read_numbers(values)
    usable = (problems == FINE) & (np.isnan(numbers) | (numbers == 0) | (numbers == 1))
    labels = np.where(usable & ~np.isnan(numbers), np.where(numbers == 1, 1, 0), -1).astype(np.int8)
    return labels, np.where(usable, FINE, BAD_LABEL).astype(np.uint8)


def names_of_flags(
    flags: Mapping[str, pa.Array],
) -> tuple[pa.Array, dict[str, npt.NDArray[np.bool_]]]:
    """List the names of the columns that are 1 in each row (N,); null where all are missing.

    Returns:
        The lists, and the rows (N,) by column that hold neither 0 nor 1.
    """
    read = {name: read_labels(column) for name, column in flags.items()}
    is_set = np.stack([labels for labels, _ in read.values()], axis=1)  # (N, F); -1 where missing
    row, column = np.nonzero(is_set == 1)
    offsets = np.searchsorted(row, np.arange(len(is_set) + 1)).astype(np.int32)
    unknown = pa.array((is_set < 0).all(axis=1))
    names = pa.array(list(flags), pa.string()).take(pa.array(column))
    lists = pa.ListArray.from_arrays(pa.array(offsets), names, mask=unknown)
    return lists, {name: problems != FINE for name, (_, problems) in read.items()}


def truth_numbers(texts: pa.Array) -> pa.Array:
    """Write words for true and false as 1 and 0; other texts stay."""
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.match_substring_regex(texts, _YES), "1", texts)
    return pc.if_else(pc.match_substring_regex(texts, _NO), "0", texts)


def _vectors(values: pa.Array, width: int) -> Raw:
    """Read (N, width) float16 vectors; zeros where null."""
    kind = values.type
    data = np.zeros((len(values), width), np.float16)
    problems = np.zeros(len(values), np.uint8)
    here = ~nulls(values)
    if not _is_list(kind):
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
