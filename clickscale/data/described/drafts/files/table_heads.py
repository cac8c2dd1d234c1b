"""Reading of samples: rows of a table in any known format, and what its columns are called."""

import glob
import re
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.files.text_layout import sniff
from clickscale.data.described.drafts.lists.event_lists import list_of_events
from clickscale.data.described.drafts.lists.inner_columns import inner_columns
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.features.texts import read_texts
from clickscale.data.tables.arrow_types import unreadable
from clickscale.data.tables.casts import numbers
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.folders import files_below, matching_files
from clickscale.data.tables.object_texts import array_of
from clickscale.data.tables.paths import is_list
from clickscale.data.tables.raw_tables import Format, detect_format
from clickscale.data.tables.spread import spread
from clickscale.errors import InputError

_ROWS = 5000  # from each of head, middle and end
_MOST_FILES = 100  # of a table of many small ones
_UNTYPED = (pa.null(), pa.list_(pa.null()))


def read_head(path: Path, headers: Sequence[Sequence[str]] = ()) -> Head:
    """Sample a table in any known format: a file, a folder of files, or the files that match a pattern.

    Args:
        headers: names of columns that other files hold, for a table without names that has as many columns.

    Raises:
        InputError: the file is missing, damaged, empty, or of unknown format.
    """
    files = _files_of(path)
    kind = detect_format(files[0])
    # The first file may hold nothing but the names of the columns.
    largest = max(files, key=lambda file: file.stat().st_size if file.is_file() else 0)
    text, named = sniff(largest, kind, files) if kind in ("csv", "tsv") else (TextFormat(), True)
    given = [names for names in headers if len(set(names)) == len(names) == len(text.names) and all(names)]
    if given and not named:
        text, named = msgspec.structs.replace(text, names=tuple(given[0])), True
    parts = _parts_of(files, kind, text)
    if not parts:
        raise InputError(f"{path} has no rows; a guess needs some.")
    lines, unnest = sum(map(len, parts)), list_of_events(parts[0])
    parts = [part.unnested(unnest) for part in parts] if unnest else parts
    inner = [inner_columns(part.rows) for part in parts]
    # The time of an event goes before that of the line in which it was sent.
    names = sorted(
        dict.fromkeys(chain.from_iterable(inner)), key=lambda name: not name.startswith(f"{unnest}.")
    )
    values = {name: _joined(parts, inner, name) for name in names}
    rows = sum(map(len, parts))
    left_out = {name: why for name, array in values.items() if (why := _why_not(name, array))}
    left_out |= {name: told for name in values if (told := _bookkeeping(name, values))}
    if kind != "jsonl":  # where a key may be missing
        held = [part.rows.schema.names for part in parts]
        left_out |= {name: "some files lack it" for name in chain(*held) if any(name not in h for h in held)}
    columns = {name: Column(name, array) for name, array in values.items() if name not in left_out}
    objects = {name: values[name] for name, why in left_out.items() if why == "lists of objects"}
    return Head(path, kind, text, named, columns, rows, left_out, objects, {}, unnest, rows / max(lines, 1))


def _parts_of(files: list[Path], kind: Format, text: TextFormat) -> list[Chunk]:
    """Read rows of the first, the middle and the last file, and of files between them if these are small."""
    read_of: dict[int, list[Chunk]] = {}
    places = {0, len(files) // 2, len(files) - 1}
    while places - {*read_of}:
        for place in places - {*read_of}:
            read_of[place] = [part for part in spread(files[place], kind, text, _ROWS) if len(part)]
        rows = sum(len(part) for parts in read_of.values() for part in parts)
        if rows < _ROWS and len(read_of) < min(len(files), _MOST_FILES):
            wanted = min(len(files), _MOST_FILES, 2 * len(read_of))
            places = {round(share * (len(files) - 1) / (wanted - 1)) for share in range(wanted)}
    return [part for place in sorted(read_of) for part in read_of[place]]


def _files_of(path: Path) -> list[Path]:
    if path.is_dir() and not files_below(path):
        raise InputError(f"{path} holds no files; name the folder or the file of a table.")
    is_one = path.is_file() or not glob.has_magic(str(path))
    return [path] if is_one and not path.is_dir() else matching_files("table", Path(), str(path))


def _joined(parts: list[Chunk], inner: list[dict[str, pa.Array]], name: str) -> pa.Array:
    """Join the values of a column, null where a part lacks it; those of several types as numbers or texts.

    Args:
        inner: the columns of each part, those inside of objects by their path.
    """
    held = [columns.get(name, pa.nulls(len(part))) for part, columns in zip(parts, inner, strict=True)]
    # In JSON, lists without values have no type either.
    known = [array for array in held if array.type not in _UNTYPED]
    kinds = {array.type for array in known}
    if len(kinds) > 1 and any(map(pa.types.is_nested, kinds)):
        return array_of([value for array in held for value in array.to_pylist()])
    if len(kinds) > 1:
        both = [numbers(array) for array in known]
        alike = all(pa.types.is_floating(array.type) for array in both)
        known = both if alike else [read_texts(array)[0].cast(pa.string()) for array in known]
    kind, typed = known[0].type if known else pa.null(), iter(known)
    empty = [array.type in _UNTYPED for array in held]
    return pa.concat_arrays(
        [pa.nulls(len(array), kind) if no else next(typed) for array, no in zip(held, empty, strict=True)]
    )


def _why_not(name: str, values: pa.Array) -> str:
    """Say what a column holds of which no field can be made, or return an empty text."""
    if not name:
        return "a column without a name"
    if values.null_count == len(values) or _holds_empty_lists(values):
        return f"no value in {len(values):,} sampled rows"
    held = unreadable(values.type)
    if held == "objects":
        inner = values.type.field(0).name if values.type.num_fields else "name"
        return f'objects; a field is made of a value inside by its path, such as column = "{name}.{inner}"'
    return held


def _bookkeeping(name: str, names: Collection[str]) -> str:
    """Say what a tool wrote into a table for its own use, or return an empty text."""
    if name in ("partition", "offset") and {"partition", "offset"} <= {*names}:
        return "the place of a message in Kafka"
    return "the version of a document, which Mongoose counts" if re.match(r"__v(\.\$\w+)?$", name) else ""


def _holds_empty_lists(values: pa.Array) -> bool:
    """True for lists of which none holds a value."""
    return is_list(values.type) and pc.all(pc.is_null(pc.list_flatten(values))).as_py() is not False
