"""Texts of the items of a data set, from its own fields or from a table with more columns.

A text is the value of the first field, then ``Name: value`` for each other field, as sentences. Commas
separate several values of a field: ``Toy Story (1995). Genres: Animation, Children's, Comedy``. Fields that
an item does not have are left out.

A data set keeps the raw values of its categorical fields in their vocabularies. These hold the values of the
training part, so values that occur only later are unknown. A table of texts has all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.dataset import Dataset
from clickscale.data.features.texts import BRACKETS, entries_of, read_texts
from clickscale.data.features.values import read_keys
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import Format, column_names, name_the_rest, read
from clickscale.errors import InputError, SchemaError, unknown
from clickscale.features import FIRST, UNKNOWN, column_of
from clickscale.schema import Field

Texts = list[str]


@dataclass(frozen=True)
class TextTable:
    """A table with a column of item ids and columns of text.

    Attributes:
        key: name of the column of ids.
        text: layout of a delimited file; columns after those that it names are skipped.
    """

    path: Path
    key: str
    text: TextFormat = TextFormat()

    @property
    def format(self) -> Format:
        """Format of the file: delimited text if there is a separator, else by the ending of its name."""
        return "csv" if self.text.separator else "auto"

    @property
    def layout(self) -> TextFormat:
        """Layout of the file with a name for every column."""
        return name_the_rest(self.path, self.format, self.text) if self.text.names else self.text

    def columns(self) -> list[str]:
        """List the names of its columns.

        Raises:
            InputError: the file cannot be read, or lacks the column of ids.
        """
        names = column_names(self.path, format=self.format, text=self.layout)
        if self.key not in names:
            raise InputError(f"{self.path}: " + unknown("column", self.key, names) + " Name it with --key.")
        return names


def item_texts(dataset: Dataset, names: Sequence[str], table: TextTable | None = None) -> Texts:
    """Build the text of every row of the item table; empty if the item has no value of any field.

    Args:
        names: fields, in their order in the text; a column of ``table`` takes precedence over a field of
            the data set with the same name.

    Raises:
        SchemaError: a field does not exist, or does not hold text.
        InputError: the table cannot be read.
    """
    held = table.columns() if table else []
    from_table = [name for name in names if name in held]
    fields = {field.name: field for field in (dataset.schema.item, *dataset.schema.items)}
    for name in names:
        if name not in held and name not in fields:
            raise SchemaError(unknown("field", name, {*held, *fields}))
    columns = _table_texts(dataset, table, from_table) if table and from_table else {}
    columns |= {name: _field_texts(dataset, fields[name]) for name in names if name not in held}
    return [_sentence(names, [columns[name][row] for name in names]) for row in range(dataset.features.items)]


def _sentence(names: Sequence[str], values: Sequence[str]) -> str:
    """Join the values of one item into one text."""
    parts = [
        value if index == 0 else f"{_spoken(name)}: {value}"
        for index, (name, value) in enumerate(zip(names, values, strict=True))
        if value
    ]
    return ". ".join(parts)


def _spoken(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _field_texts(dataset: Dataset, field: Field) -> Texts:
    """List the raw values of a categorical field by item, joined by commas; empty where unknown."""
    if field.kind != "categorical" or field.vocabulary == "hash":
        raise SchemaError(
            f"The data set does not keep the text of field {field.name!r} ({field.kind},"
            f" {field.vocabulary} vocabulary); give a table that has it with --texts."
        )
    values: pa.Array = dataset.encoder.vocabulary(field.name).values
    words = ["", "", *values.cast(pa.large_string()).to_pylist()]
    column = np.asarray(dataset.items[column_of(field.name)])
    rows = (column if column.ndim == 2 else column[:, None]).tolist()
    return [", ".join(words[index] for index in row if index > UNKNOWN) for row in rows]


def _table_texts(dataset: Dataset, table: TextTable, names: Sequence[str]) -> dict[str, Texts]:
    """Read columns of a table by row of the item table; the first row of an item counts."""
    columns = {name: [""] * dataset.features.items for name in names}
    fields = dataset.schema.fields()
    separators = {name: fields[name].separator if name in fields else "" for name in names}
    seen = np.zeros(dataset.features.items, bool)
    for chunk in read(table.path, [table.key, *names], format=table.format, text=table.layout):
        keys = read_keys(chunk[table.key], dataset.schema.item.dtype).data.astype(np.int64)
        rows = dataset.encoder.item_rows.lookup(keys)
        texts = {name: _readable(chunk[name], separators[name]) for name in names}
        for line in np.flatnonzero(rows > UNKNOWN).tolist():
            if not seen[rows[line]]:
                seen[rows[line]] = True
                for name in names:
                    columns[name][rows[line]] = texts[name][line]
    if not seen[FIRST:].any():
        raise InputError(
            f"No row of {table.path} belongs to an item of the data set; its ids were read from the column"
            f" {table.key!r}. Name another with --key."
        )
    return columns


def _readable(values: pa.Array, separator: str) -> Texts:
    """Make one text per row; commas separate several values."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return [
            ", ".join(str(value) for value in row or () if value is not None) for row in values.to_pylist()
        ]
    texts = pc.utf8_trim_whitespace(read_texts(values)[0].fill_null(""))
    if separator == BRACKETS:
        return [", ".join(entries_of(text, separator)) for text in texts.to_pylist()]
    if separator:
        texts = pc.replace_substring(texts, separator, ", ")
    return [str(text) for text in texts.to_pylist()]
