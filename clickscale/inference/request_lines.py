"""Lines of requests as bytes from anywhere: bounded, parsed one by one, and refused one by one.

A line that is too long, nested too deeply, or not JSON in UTF-8 costs nothing but itself. Nothing of a line
beyond its limit is kept, so the memory that a stranger can ask for is bounded.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from clickscale.config import Config, check_least
from clickscale.errors import InputError

_PIECE = 1 << 16  # bytes that are read at once of the rest of a line that is refused
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = np.zeros(256, np.int8)  # of the depth, by byte
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


class RequestLimits(Config, frozen=True):
    """What a request may ask for.

    Attributes:
        candidates, behaviors: in one request.
        line_bytes: of one request as a line of JSON.
        depth: of lists and objects inside each other; a request that means something has 4.
    """

    candidates: int = 10_000
    behaviors: int = 100_000
    line_bytes: int = 16 * 1024 * 1024
    depth: int = 16

    def __post_init__(self) -> None:
        check_least(self, 1, "candidates", "behaviors", "line_bytes", "depth")


def numbered_lines(stream: IO[bytes], limits: RequestLimits) -> Iterator[tuple[int, bytes | InputError]]:
    """Number and bytes of each line that is not empty; an error instead of the bytes of one too long."""
    number = 0
    while line := stream.readline(limits.line_bytes + 1):
        number += 1
        if len(line) > limits.line_bytes and not line.endswith(b"\n"):
            _skip_line(stream)
            yield (
                number,
                InputError(
                    f"the line is longer than {limits.line_bytes:,} bytes; send fewer candidates or"
                    " behaviors, or raise the limit."
                ),
            )
        elif line.strip():
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _skip_line(stream: IO[bytes]) -> None:
    """Read to the end of a line and keep nothing of it."""
    while (piece := stream.readline(_PIECE)) and not piece.endswith(b"\n"):
        pass


def parse_line(line: bytes, limits: RequestLimits) -> Any:
    """Value of a line of JSON.

    Raises:
        InputError: it is not JSON in UTF-8, is nested too deeply, or holds an integer of thousands of digits.
    """
    if (depth := _depth(line, limits.depth)) > limits.depth:
        raise InputError(
            f"the line nests {depth} lists and objects inside each other, more than {limits.depth}."
        )
    try:
        # The parser passes over the end of a line, and would tell a column of the line after it.
        return json.loads(line.decode("utf-8").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise InputError(f"the line is not UTF-8 text (byte {error.start + 1}).") from error
    except json.JSONDecodeError as error:
        raise InputError(f"the line is not JSON: {error.msg} at column {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # more digits or a deeper nesting than Python takes
        raise InputError(f"the line cannot be read: {error}.") from error


def _depth(line: bytes, enough: int) -> int:
    """Deepest nesting of a line; any number up to ``enough`` may be given as 0, which is cheaper."""
    if line.count(b"[") + line.count(b"{") <= enough:
        return 0
    # Texts may hold brackets. Without escaped quotes, every second piece between quotes is a text, and most
    # texts are empty once everything but brackets and quotes is gone.
    plain = line.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in line else line
    kept = plain.translate(None, _OTHERS).replace(b'""', b"")
    marks = np.frombuffer(b"".join(kept.split(b'"')[::2]), np.uint8)
    return int(np.cumsum(_STEPS[marks], dtype=np.int64).max(initial=0))
