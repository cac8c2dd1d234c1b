import datetime
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.features.texts import PROBLEMS, hash_texts
from clickscale.data.features.values import (
    NO_TIME,
    _read_integers,
    read_field,
    read_labels,
    read_numbers,
    read_times,
)
from clickscale.schema import Field

NAN = float("nan")
INF = float("inf")


def named(codes: Any) -> list[str]:
    return [PROBLEMS[code] for code in codes]


@pytest.mark.parametrize(
    ("raw", "key", "problem"),
    [
        ("3", 3, ""),
        ("3.0", 3, ""),
        (" 7 ", 7, ""),
        ("007", -1, "bad_value"),
        ("12.0", 12, ""),
        ("N/A", -1, ""),
        ("+4", 4, ""),
        ("-0", 0, ""),
        ("0", 0, ""),
        ("", -1, ""),
        ("  ", -1, ""),
        (None, -1, ""),
        ("9223372036854775807", 2**63 - 1, ""),
        ("9223372036854775808", -1, "id_overflow"),
        ("99999999999999999999999", -1, "id_overflow"),
        ("9007199254740993", 2**53 + 1, ""),
        ("-5", -1, "negative_id"),
        ("3.5", -1, "bad_value"),
        ("1e3", -1, "bad_value"),
        ("abc", -1, "bad_value"),
        ("nan", -1, ""),
    ],
)
def test_an_id_written_as_text_is_an_integer_or_a_problem(raw: str | None, key: int, problem: str) -> None:
    keys, codes = _read_integers(pa.array([raw, "1"], pa.string()))
    assert keys.tolist() == [key, 1]
    assert named(codes) == [problem, ""]


@pytest.mark.parametrize(
    ("values", "keys", "problems"),
    [
        (pa.array([3.0, NAN, None, 0.0]), [3, -1, -1, 0], ["", "", "", ""]),
        (pa.array([3.5, -1.0, 1e19]), [-1, -1, -1], ["bad_value", "negative_id", "id_overflow"]),
        (pa.array([INF, -INF]), [-1, -1], ["non_finite", "non_finite"]),
        (pa.array([2**64 - 1, 5, None], pa.uint64()), [-1, 5, -1], ["id_overflow", "", ""]),
        (pa.array([-1, 2, None], pa.int8()), [-1, 2, -1], ["negative_id", "", ""]),
        (pa.array([True, False, None]), [1, 0, -1], ["", "", ""]),
        (pa.nulls(2), [-1, -1], ["", ""]),
        (pa.array(["5", "x", None]).dictionary_encode(), [5, -1, -1], ["", "bad_value", ""]),
        (pa.array([b"12", b"\xff"]), [12, -1], ["", "invalid_utf8"]),
        (pa.array([[1], [2]]), [-1, -1], ["bad_value", "bad_value"]),
        (pa.chunked_array([[1], [2]]), [1, 2], ["", ""]),
        (pa.array([9, 1, 2]).slice(1), [1, 2], ["", ""]),
        (pa.array(["9", "1", None]).slice(1), [1, -1], ["", ""]),
    ],
)
def test_ids_are_read_from_any_type(values: pa.Array, keys: list[int], problems: list[str]) -> None:
    found, codes = _read_integers(values)
    assert found.tolist() == keys
    assert named(codes) == problems


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([3, None]), ["3", None]),
        (pa.array([3.0, 2.5, None]), ["3", "2.5", None]),
        (pa.array([True]), ["true"]),
        (pa.array(["x", "", None]), ["x", None, None]),
        (pa.array([b"ok"]), ["ok"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
    ],
)
def test_the_key_of_any_value_is_the_hash_of_its_text(values: pa.Array, texts: list[str | None]) -> None:
    raw = read_field(Field(name="f"), values)
    expected = [-1 if text is None else int(hash_texts(pa.array([text]))[0]) for text in texts]
    assert raw.data.tolist() == expected
    assert not raw.problems.any()


def test_bytes_that_are_not_utf8_are_a_problem_of_their_row_alone() -> None:
    raw = read_field(Field(name="f"), pa.array([b"fine", b"\xff\xfe", None]))
    assert named(raw.problems) == ["", "invalid_utf8", ""]
    # Files declare text without checking it, so a text column may hold such bytes too.
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    assert named(read_field(Field(name="f"), text).problems) == ["", "invalid_utf8"]


def test_several_values_are_split_trimmed_cut_and_padded() -> None:
    field = Field(name="genres", dtype="int", values=2, separator="|")
    raw = read_field(field, pa.array(["1|2|3", " 4 |", "", None, "|5", "6|x"]))
    assert raw.data.tolist()[:5] == [[1, 2], [4, -1], [-1, -1], [-1, -1], [5, -1]]
    assert named(raw.problems) == ["", "", "", "", "", "bad_value"]


def test_lists_and_single_values_fit_a_field_of_several_values() -> None:
    field = Field(name="tags", dtype="int", values=2)
    lists = read_field(field, pa.array([[1, 2, 3], [], None, [None, 4]]))
    assert lists.data.tolist() == [[1, 2], [-1, -1], [-1, -1], [4, -1]]
    fixed = read_field(field, pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2)).slice(1))
    assert fixed.data.tolist() == [[3, 4]]
    assert read_field(field, pa.array([7, None])).data.tolist() == [[7, -1], [-1, -1]]


@pytest.mark.parametrize(
    ("raw", "number", "problem"),
    [
        ("1.5", 1.5, ""),
        (".5", 0.5, ""),
        ("5.", 5.0, ""),
        ("+3", 3.0, ""),
        ("-1e3", -1000.0, ""),
        (" 4 ", 4.0, ""),
        ("", NAN, ""),
        (None, NAN, ""),
        ("nan", NAN, ""),
        ("-", NAN, ""),
        ("—", NAN, ""),
        (" N/A", NAN, ""),
        (r"\N", NAN, ""),
        ("1,299.00", 1299.0, ""),
        ("1,234,567", 1234567.0, ""),
        ("1,299", NAN, "bad_number"),
        ("-Inf", NAN, "non_finite"),
        ("1e999", NAN, "non_finite"),
        ("1e39", NAN, "non_finite"),
        ("1,5", NAN, "bad_number"),
        ("x", NAN, "bad_number"),
    ],
)
def test_a_number_written_as_text_is_a_number_or_a_problem(
    raw: str | None, number: float, problem: str
) -> None:
    numbers, codes = read_numbers(pa.array([raw, "1"], pa.string()))
    np.testing.assert_equal(numbers.tolist(), [number, 1.0])
    assert named(codes) == [problem, ""]


def test_numbers_of_other_types_are_read_and_lists_refused() -> None:
    assert read_numbers(pa.array([True, False]))[0].tolist() == [1.0, 0.0]
    assert named(read_numbers(pa.array([1.0, NAN, None, INF]))[1]) == ["", "", "", "non_finite"]
    assert named(read_numbers(pa.array([[1.0]]))[1]) == ["bad_number"]
    midnight = pa.array([datetime.date(1970, 1, 2), None])
    np.testing.assert_equal(read_numbers(midnight)[0].tolist(), [86_400.0, NAN])


def test_times_are_whole_seconds_rounded_down() -> None:
    assert read_times(pa.array([1, None]))[0].tolist() == [1, NO_TIME]
    assert read_times(pa.array([1.9, -0.5]))[0].tolist() == [1, -1]
    assert read_times(pa.array(["12", None]))[0].tolist() == [12, NO_TIME]
    assert named(read_times(pa.array(["x", "nan"]))[1]) == ["bad_time", ""]
    assert named(read_times(pa.array([NAN, 1e300]))[1]) == ["", "bad_time"]
    assert read_times(pa.array([2**64 - 1], pa.uint64()))[0].tolist() == [2**63 - 1]
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert read_times(pa.array([moment]))[0].tolist() == [1_577_836_800]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 0, None, 2, -1]),
        pa.array([1.0, 0.0, NAN, 0.5, math.inf]),
        pa.array(["1", "FALSE", "", "maybe", "2"]),
        pa.array(["Y", "n", "nan", "0.5", "yesterday"]),
        pa.array(["t", "F", "-", "tr", "-1"]),
        pa.array([" true", "0.0", None, "x", "-1"]),
    ],
)
def test_labels_are_zero_one_or_unknown(values: pa.Array) -> None:
    labels, codes = read_labels(values)
    assert labels.tolist() == [1, 0, -1, -1, -1]
    assert named(codes) == ["", "", "", "bad_label", "bad_label"]


def test_truth_values_are_labels() -> None:
    assert read_labels(pa.array([True, False, None]))[0].tolist() == [1, 0, -1]


def test_vectors_must_have_the_declared_width_and_finite_numbers() -> None:
    field = Field(name="text", kind="content", width=2)
    raw = read_field(field, pa.array([[1.0, 2.0], None, [1.0], [1.0, NAN], [1e9, 2.0], [1.0, None]]))
    assert named(raw.problems) == ["", "", "bad_vector", "non_finite", "non_finite", "non_finite"]
    assert raw.data[:2].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    fixed = pa.array([[9.0, 9.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)).slice(1)
    assert read_field(field, fixed).data.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert named(read_field(field, pa.array(["x", None])).problems) == ["bad_vector", ""]
