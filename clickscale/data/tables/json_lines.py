"""Files with a JSON object (or Python dict literal) per line, in chunks; a broken line loses only itself.

A file that is one JSON array of objects is read whole.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from clickscale.data.tables.chunks import (
    Chunk,
    checked,
    line_blocks,
    mark,
    missing_column,
    objects_at,
    pieces,
)
from clickscale.data.tables.object_texts import array_of, as_json_text, object_of
from clickscale.data.tables.paths import base_of, object_at, steps_below
from clickscale.errors import InputError

_ARRAY = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*\{")
_LARGEST = 1 << 30  # bytes of an array, which is read whole
_ENTRIES = 1 << 13  # objects of an array in a chunk


def read_lines(
    path: Path, columns: Sequence[str] | None, parse: Callable[[bytes], dict[str, Any]], lists: str = ""
) -> Iterator[Chunk]:
    """Stream a file with one object per line, or one array of objects.

    ``parse`` turns the text of an object into a dict or raises ValueError.

    Values of one column without a common Arrow type become text. A value inside of objects is named by its
    path, such as ``context.device``.

    Args:
        lists: a column of lists; a line that has something else there gets the problem ``bad_row``.

    Raises:
        InputError: none of the first lines is an object, or a column is missing.
    """
    names = None if columns is None else list(columns)
    compared = listed = False
    for lines in _array_entries(path) if holds_array(path) else map(_lines, line_blocks(path)):
        objects, problem = _parse_objects(lines, parse)
        known = list(dict.fromkeys(name for entry in objects for name in entry))
        # Half a character names nothing.
        names = names or [name for name in known if as_json_text(name) == name]
        if objects and not names:
            raise InputError(
                f"{path}: none of its first {len(objects)} lines is a JSON object with a key; write one "
                "object per line, or one array of objects."
            )
        for name in names if not compared and known else ():
            if base_of(name, known) is None:
                raise missing_column(path, name, known)
        compared = compared or bool(known)
        if lists:
            held = [_list_at(entry, lists) for entry in objects]
            listed = listed or any(isinstance(value, list) for value in held)
            bad = [listed and value is not None and not isinstance(value, list) for value in held]
            objects, problem = _without(objects, problem, bad)
        if objects:
            yield _chunk(objects, problem, names)


def read_objects(block: bytes, names: Sequence[str], parse: Callable[[bytes], dict[str, Any]]) -> Chunk:
    """Read lines that were cut out of the middle of a file."""
    return _chunk(*_parse_objects(_lines(block), parse), names)


def holds_array(path: Path) -> bool:
    """True for a file that begins as an array of objects, as ``mongoexport --jsonArray`` writes it."""
    return _ARRAY.match(next(pieces(path), (b"", True))[0]) is not None


def _array_entries(path: Path) -> Iterator[list[bytes]]:
    """Yield the texts of the objects of an array, some thousand at a time.

    Raises:
        InputError: the file is no array, or too large to be read whole.
    """
    data = bytearray()
    for piece, _ in pieces(path):
        data += piece
        if len(data) > _LARGEST:
            raise InputError(
                f"{path} is one JSON array of over {_LARGEST >> 20} MB; write an object per line, as by: "
                f"jq -c '.[]' {path.name} > lines-{path.name}"
            )
    text = bytes(data).removeprefix(b"\xef\xbb\xbf")
    try:
        try:
            entries = [bytes(entry) for entry in msgspec.json.decode(text, type=list[msgspec.Raw])]
        except msgspec.DecodeError:  # such as NaN
            entries = [json.dumps(entry).encode() for entry in json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} begins as a JSON array and is none ({error}); it is cut short or damaged."
        ) from error
    for start in range(0, len(entries), _ENTRIES):
        yield entries[start : start + _ENTRIES]


def _lines(block: bytes) -> list[bytes]:
    return [line for line in block.split(b"\n") if line.strip()]


def _chunk(objects: list[dict[str, Any]], problem: pa.Array, names: Sequence[str]) -> Chunk:
    known = {name for entry in objects for name in entry}
    bases = {name: base for name in names if (base := base_of(name, known)) not in (None, name)}
    held = {base: [entry.get(base) for entry in objects] for base in bases.values()}
    inner, broken = objects_at(held, bases)
    arrays = [
        inner[name] if name in inner else array_of([entry.get(name) for entry in objects]) for name in names
    ]
    chunk = checked(pa.RecordBatch.from_arrays(arrays, names=list(names)), problem)
    for base, is_broken in broken.items():
        texts = [str(value) if bad else None for value, bad in zip(held[base], is_broken, strict=True)]
        chunk = chunk.marked(is_broken, "bad_object", base, pa.array(texts, pa.string()))
    return chunk


def _list_at(entry: dict[str, Any], column: str) -> Any:
    """Return what a line has in a column of lists; the text of a list is put there as a list."""
    base = base_of(column, entry) or column
    value = object_at(entry.get(base), steps_below(column, base))
    if column in entry and isinstance(value, str) and value.strip().startswith("["):
        try:
            value = entry[column] = object_of(value)
        except ValueError:
            return value
    return value


def _without(
    objects: list[dict[str, Any]], problem: pa.Array, bad: list[bool]
) -> tuple[list[dict[str, Any]], pa.Array]:
    """Empty bad lines, which get the problem ``bad_row``."""
    kept = [{} if is_bad else entry for entry, is_bad in zip(objects, bad, strict=True)]
    return kept, mark(problem, np.array(bad, bool), "bad_row")


def _literal_line(line: bytes) -> dict[str, Any]:
    """Parse a Python dict literal (older files of Amazon and Steam); nothing in it is run."""
    try:
        return _object(ast.literal_eval(line.decode("utf-8")))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("not a literal") from error


def json_line(line: bytes) -> dict[str, Any]:
    """Parse a JSON object, in which NaN and infinity are allowed, or what Python prints of one."""
    try:
        return _object(msgspec.json.decode(line))
    except msgspec.DecodeError:
        if line.lstrip().startswith((b"{'", b"{u'")):
            return _literal_line(line)
        return _object(json.loads(line))  # many writers emit NaN, which the fast one refuses


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _parse_objects(
    lines: list[bytes], parse: Callable[[bytes], dict[str, Any]]
) -> tuple[list[dict[str, Any]], pa.Array]:
    objects: list[dict[str, Any]] = []
    problems: list[str | None] = []
    for line in lines:
        try:
            objects.append(parse(line))
            problems.append(None)
        except UnicodeDecodeError:
            objects.append({})
            problems.append("invalid_utf8")
        except (ValueError, RecursionError):
            objects.append({})
            problems.append("bad_row")
    return objects, pa.array(problems, pa.string())
