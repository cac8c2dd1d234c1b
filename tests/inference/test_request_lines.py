import io
import sys

import pytest

from clickscale.errors import ConfigError, InputError
from clickscale.inference.request_lines import RequestLimits, _depth, numbered_lines, parse_line

SMALL = RequestLimits(line_bytes=20, depth=3)


def lines_of(data: bytes, limits: RequestLimits = SMALL) -> list[tuple[int, bytes | str]]:
    found = numbered_lines(io.BytesIO(data), limits)
    return [(number, str(line) if isinstance(line, InputError) else line) for number, line in found]


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert lines_of(b"\xef\xbb\xbf{}\n\n \r\n[1]\r\n\xff\n{}") == [
        (1, b"{}\n"),
        (4, b"[1]\r\n"),
        (5, b"\xff\n"),
        (6, b"{}"),
    ]
    assert lines_of(b"") == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\n{}"])
def test_a_line_beyond_the_limit_is_skipped_and_costs_no_other(end: bytes) -> None:
    first, *others = lines_of(b"x" * 200_000 + end)
    assert first == (
        1,
        "the line is longer than 20 bytes; send fewer candidates or behaviors, or raise the limit.",
    )
    assert others == ([(2, b"{}")] if end == b"\n{}" else [])
    assert lines_of(b"x" * 20 + b"\n") == [(1, b"x" * 20 + b"\n")]


class Counting(io.BytesIO):
    """A stream that knows how much was asked of it at once."""

    most = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, sys.maxsize if size is None or size < 0 else size)
        return super().readline(size)


def test_a_line_beyond_the_limit_is_never_in_memory_as_a_whole() -> None:
    stream = Counting(b"x" * 1_000_000 + b"\n{}")
    assert [number for number, _ in numbered_lines(stream, SMALL)] == [1, 2]
    assert stream.most <= 1 << 16


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "is not JSON: Expecting value at column 1"),
        (b'{"a": 1,}', "is not JSON: "),
        (b'{"a": 17\r\n', "is not JSON: Expecting ',' delimiter at column 9"),
        (b'{"a": "\xe9"}', r"is not UTF-8 text \(byte 8\)"),
        ("{}".encode("utf-16"), "is not UTF-8 text"),
        (b"9" * 5000, "cannot be read: .*4300 digits"),
        (b"[[[[1]]]]", "nests 4 lists and objects inside each other, more than 3"),
        (b"[" * 100_000, "nests 100000 lists"),
    ],
)
def test_a_line_that_is_no_request_is_refused_in_a_sentence(line: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=f"the line {problem}"):
        parse_line(line, SMALL)


def test_deep_nesting_is_refused_by_the_parser_where_the_limit_allows_it() -> None:
    with pytest.raises(InputError, match=r"the line cannot be read: .*recursion"):
        parse_line(b"[" * 100_000 + b"]" * 100_000, RequestLimits(depth=10**6))


@pytest.mark.parametrize(
    ("line", "depth"),
    [
        (b"[]", 1),
        (b'{"a": [{"b": []}], "c": [[]]}', 4),
        (b'{"[[[[": "{{{{"}', 1),
        (b'["\\"[[[", [1]]', 2),
        (b'["\\\\", [[2]]]', 3),
        (b"]]]][[", 0),
    ],
)
def test_depth_counts_brackets_outside_of_texts(line: bytes, depth: int) -> None:
    assert _depth(line, 0) == depth
    assert _depth(line, 100) == 0  # not looked at: so few brackets cannot nest deeper


def test_brackets_in_texts_refuse_nothing() -> None:
    assert parse_line(b'{"a": "[[[[[[[[[["}', SMALL) == {"a": "[" * 10}


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="candidates is 0"):
        RequestLimits(candidates=0)
