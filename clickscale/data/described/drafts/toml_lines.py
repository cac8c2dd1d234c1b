"""Pieces of the TOML draft that describes a log: strings, names, files and the options of a field."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from clickscale.data.described.drafts.labels.outcome_words import PLAIN_LETTERS
from clickscale.data.described.drafts.roles.column_names import is_quantity, is_version
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.features.ranges import ends_of
from clickscale.data.tables.delimited import TextFormat

MOST_VALUES = 10  # kept of a list
_MANY, _MANY_OF_USERS = 1000, 50  # different values beyond which rare ones count as unknown
_ACCENTS = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+")  # other scripts are no words without their marks
_LOOKED = 32  # values that tell whether there are ranges among them


def file_lines(head: Head, base: Path, parts: Mapping[str, Path] | None = None) -> Iterator[str]:
    """Yield the keys of a table's location and layout; paths below ``base`` are relative to it."""
    if parts:
        files = ", ".join(f"{part} = {_file(path, base)}" for part, path in parts.items())
        yield f"files = {{ {files} }}  # by their names"
    else:
        pieces = "" if head.path.exists() else f"  # {len(head.files)} files of one table"
        yield f"files = {_file(head.path, base)}{pieces}"
    if head.unnest:
        yield f"unnest = {quoted(head.unnest)}  # each object of these lists is a row"
    if head.format in ("csv", "tsv"):
        usual = "\t" if head.format == "tsv" else ","
        if head.text.separator != usual:
            yield f"separator = {quoted(head.text.separator)}"
        if head.text.encoding != "utf-8":
            yield f"encoding = {quoted(head.text.encoding)}  # its bytes are not UTF-8"
        if head.text.skip:
            yield f"skip = {head.text.skip}  # lines before the header"
        if head.text.nulls != TextFormat().nulls:
            nulls = ", ".join(map(quoted, head.text.nulls))
            yield f"nulls = [{nulls}]  # the last one is taken for an unknown label"
        if head.text.names:
            names = ", ".join(quoted(name) for name in head.text.names)
            told = "as another file names them" if head.named else "give them better names here"
            yield f"names = [{names}]  # {told}"


def _file(path: Path, base: Path) -> str:
    path, root = path.resolve(), base.resolve()
    return quoted(str(path.relative_to(root) if path.is_relative_to(root) else path))


def time_lines(column: Column, shares_moments: bool = False) -> Iterator[str]:
    """Yield the keys of a table's time column.

    Args:
        shares_moments: true if a user has many rows of one moment, of which none sees another.
    """
    parts = f"[{', '.join(map(quoted, column.parts))}]" if column.parts else quoted(column.name)
    yield f"time = {parts}"
    whys = {"iso": "dates and times as text", "DMY": "days before months", "MDY": "months before days"}
    why = whys.get(column.unit, "by the size of its values")
    yield f'time_unit = "{column.unit}"  # {why}'
    if shares_moments:
        yield "# ordered = true  # if a user's rows of a moment are in true order: now none sees another"


def field_options(
    column: Column, may_be_count: bool = False, ordered: bool = False, of_users: bool = False
) -> tuple[str, str]:
    """Return the options of a field in TOML, and the reason.

    Args:
        may_be_count: true if whole numbers that look like counts are counts and no ids.
        ordered: true if the outcomes of whole numbers follow their order.
        of_users: true if values that a single user has, which are second ids of users, may be among many.
    """
    if column.width:
        return f', kind = "content", width = {column.width}', "vectors of one length"
    if column.parts:
        names = ", ".join(map(quoted, column.parts))
        several = f", values = {column.most}" if column.most > 1 else ""
        why = f"{len(column.parts)} columns of 0 and 1, of which up to {column.most} are 1"
        return f"{several}, flags = [{names}]", why
    if pa.types.is_nested(column.values.type):
        return f", values = {min(column.most, MOST_VALUES)}", f"lists of up to {column.most} values"
    if column.url:
        return f', url = "{column.url}"', f"{column.distinct} different values in {len(column.values)} URLs"
    if column.is_date:
        return ', kind = "timestamp"', "moments"
    if column.separator:
        values = min(column.most, MOST_VALUES)
        return (
            f", values = {values}, separator = {quoted(column.separator)}",
            f"lists of up to {column.most} values",
        )
    if column.unit:
        return ', kind = "timestamp"', "moments"
    if may_be_count and _looks_counted(column):
        return f', kind = "numeric", transform = "log1p"{_notation(column)}', "counts"
    amount = column.written[0] or ((not column.is_whole or is_quantity(column)) and not is_version(column))
    if column.floats is not None and not column.is_flag and amount:
        return _numeric(column)
    if ordered:
        options, why = _numeric(column)
        return options, f"{why}, of which neighbors have similar outcomes"
    rare = ", min_count = 2" if column.distinct > (_MANY_OF_USERS if of_users else _MANY) else ""
    return rare, f"{column.distinct} different values in {len(column.values)} rows"


def _looks_counted(column: Column) -> bool:
    """True for whole numbers that are mostly small and sometimes large, as counts are and ids are not."""
    if column.floats is None or not column.is_whole or column.distinct <= 10:
        return False
    values = column.floats.to_numpy(zero_copy_only=False)
    return bool(np.median(values) < 0.2 * values.max())


def _numeric(column: Column) -> tuple[str, str]:
    values = column.floats.to_numpy(zero_copy_only=False) if column.floats is not None else np.zeros(1)
    finite = values[np.isfinite(values)]
    skewed = len(finite) > 0 and finite.min() >= 0 and np.mean(finite) > 2 * np.median(finite)
    options = ', kind = "numeric"' + (', transform = "log1p"' if skewed else "") + _notation(column)
    example = f" such as {remark(str(column.known[0]))}" if column.written[0] else ""
    if example and any(map(ends_of, column.known[:_LOOKED].to_pylist())):
        example += ", ranges by their middle"
    return options, f"numbers{example}" + (" with a long tail" if skewed else "")


def _notation(column: Column) -> str:
    """Return the options for the notation and the unit of numbers that people wrote."""
    notation, unit = column.written
    of_unit = f", unit = {quoted(unit)}" if unit else ""
    return f', notation = "{notation}"{of_unit}' if notation else ""


def identifier(name: str) -> str:
    """Reduce a name to letters, digits and '_', beginning with a letter; letters of English lose accents."""
    letters = unicodedata.normalize("NFKD", name.replace("ß", "ss").translate(PLAIN_LETTERS))
    plain = unicodedata.normalize("NFKC", _ACCENTS.sub("", letters))
    kept = "".join(letter if f"a{letter}".isidentifier() else "_" for letter in plain).strip("_")
    return kept if kept[:1].isidentifier() else f"f_{kept}"


def quoted(value: str) -> str:
    """Write a TOML string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def remark(text: str) -> str:
    """Write a name from a log in a comment, without characters that would end it."""
    return quoted(text)[1:-1].replace('\\"', '"')
