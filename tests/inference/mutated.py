"""Requests that are wrong in every way that a client, a network or an attacker can think of."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

# Pieces of JSON text, most of them JSON: what any value of a request may turn into.
VALUES = (
    "null",
    "true",
    "false",
    "0",
    "-1",
    "-0.0",
    "1e-400",
    "1e308",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "9" * 310,
    "-" + "9" * 310,
    "9" * 5_000,
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "0.1" + "0" * 400,
    "1600000100000",
    '""',
    '" "',
    '"\\ud800"',
    '"\\udc00\\ud800x"',
    '"\\u0000"',
    '"\\u202e\\ufeff"',
    '"nan"',
    '"-"',
    '"1e999"',
    '"' + "9" * 310 + '"',
    '"' + "x" * 70_000 + '"',
    '"\\"[{\\\\"',
    "[]",
    "{}",
    "[[]]",
    '[{"item": 10}]',
    '{"item": {"item": 10}}',
    "[null, 1, true, 2.5]",
    "[" * 30 + "]" * 30,
    "[" * 60_000 + "]" * 60_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    "[" + ", ".join(["1"] * 3_000) + "]",
    "[" + ", ".join(['{"item": 10}'] * 10_001) + "]",
    "nul",
    "'x'",
    "0x10",
    "01",
)
KEYS = ("item", "time", "known_at", "user", "candidates", "behaviors", "profile", "x" * 5_000, "\ud800", "")
_MARK = "@@value@@"


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of every value below a request."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from paths_of(value, (*path, key))


def mutated(request: dict[str, Any], random: np.random.Generator) -> bytes:
    """A line that was a sound request; it holds no line break and is not empty."""
    line = _of_values(request, random) if random.random() < 0.7 else json.dumps(request).encode()
    if random.random() < 0.4:
        line = _of_bytes(line, random)
    return line.replace(b"\n", b" ").replace(b"\r", b" ").strip() or b"{"


def _of_values(request: dict[str, Any], random: np.random.Generator) -> bytes:
    """Replace, drop, rename, double or add a value or two."""
    tree = copy.deepcopy(request)
    texts = []
    for _ in range(int(random.integers(1, 3))):
        paths = list(paths_of(tree))
        if not paths:
            break
        *above, last = paths[int(random.integers(len(paths)))]
        parent = tree
        for key in above:
            parent = parent[key]
        kind = random.integers(8)
        if kind == 0:
            del parent[last]
        elif kind == 1 and isinstance(parent, dict):
            parent[KEYS[int(random.integers(len(KEYS)))]] = parent.pop(last)
        elif kind == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        else:
            texts.append(VALUES[int(random.integers(len(VALUES)))])
            parent[last] = f"{_MARK}{len(texts) - 1}"
    line = json.dumps(tree, ensure_ascii=bool(random.integers(2)))
    for place, text in enumerate(texts):
        line = line.replace(f'"{_MARK}{place}"', text)
    return line.encode("utf-8", "surrogatepass")


def _of_bytes(line: bytes, random: np.random.Generator) -> bytes:
    """Cut, flip, insert, double, or write in another encoding."""
    start, stop = sorted(random.integers(0, len(line) + 1, 2).tolist())
    noise = random.integers(0, 256, 5).astype(np.uint8).tobytes()
    changed = bytearray(line)
    if line:
        changed[start % len(line)] ^= 1 << int(random.integers(8))
    ways = (
        line[:start],
        line[:start] + line[stop:],
        line[:stop] + line[start:],
        line[:start] + noise + line[start:],
        bytes(changed),
        b"\xef\xbb\xbf" + line,
        line.decode("utf-8", "replace").encode("utf-16"),
        line.decode("utf-8", "replace").encode("latin-1", "replace") + b"\xe9",
        line + line,
        line + b"," + line,
    )
    return ways[int(random.integers(len(ways)))]
