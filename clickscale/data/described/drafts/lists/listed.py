"""Columns of lists in a sample: lists, texts of several ids, and one id in each row."""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.roles.column_values import numbers_or_none
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.rows import Flat, as_text, flat

_ENTRIES = 20_000  # of lists that are looked at
_ID = re.compile(r"[\w.:/+-]{1,40}\Z")
_SEPARATORS = (" ", ",", ";", "|")
_MOSTLY = 0.95  # share of the entries that are their place in the list


@dataclass(frozen=True)
class Listed:
    """A column of lists: its entries, and the separator that divides texts.

    Attributes:
        column: the entries as a column of their own.
    """

    flat: Flat
    separator: str
    column: Column

    @property
    def said_separator(self) -> str:
        """Separator that a description must name; spaces and commas need no word."""
        return "" if self.separator in (" ", ",") else self.separator

    @property
    def ids(self) -> bool:
        """True if the entries may be ids: neither flags nor moments nor fractions, nor places in the list."""
        column = self.column
        return (
            column.distinct > 2
            and not column.unit
            and (column.floats is None or column.is_id or column.is_padded)
            and not self._counts_up
        )

    @property
    def _counts_up(self) -> bool:
        """True for the numbers of the entries: 1, 2, 3 in every list, or 0, 1, 2."""
        numbers = numbers_or_none(self.column)
        if numbers is None:
            return False
        place = (np.arange(len(self.flat.values)) - np.repeat(self.flat.start, self.flat.count))[
            : len(numbers)
        ]
        return max(np.mean(numbers == place), np.mean(numbers == place + 1)) > _MOSTLY

    def parallels(self, other: "Listed") -> bool:
        """True if both have lists of equal lengths in nearly every row, and not always of one entry.

        Values of the same objects may have one entry in every row.
        """
        alike = float(np.mean(self.flat.count == other.flat.count))
        inside, theirs = (listed.column.name.rpartition(".")[0] for listed in (self, other))
        if inside and inside == theirs:
            return alike == 1
        return alike > 0.98 and bool((self.flat.count > 1).any())

    def share_in(self, other: "Listed") -> float:
        """Return the share of the entries that are in the list of the same row of the other column.

        Rows without such a list, as of events beside requests, do not count.
        """
        mine, theirs = as_text(self.flat.values), as_text(other.flat.values)
        codes = (
            pa.concat_arrays([mine, theirs])
            .dictionary_encode()
            .indices.fill_null(-1)
            .to_numpy(zero_copy_only=False)
        )
        span = int(codes.max(initial=0)) + 2
        mine_keys = self.flat.row * span + codes[: len(mine)]
        keys = other.flat.row * span + codes[len(mine) :]
        asked = other.flat.count[self.flat.row] > 0
        return float(np.isin(mine_keys, keys)[asked].mean()) if asked.any() else 0.0

    def is_like(self, ids: pa.Array) -> bool:
        """True if the entries have the form of other ids that begin with letters, such as ``N12``."""
        forms = [
            set(pc.replace_substring_regex(as_text(values).drop_null(), r"\d+", "0").unique().to_pylist())
            for values in (self.flat.values.slice(0, _ENTRIES), ids.slice(0, _ENTRIES))
        ]
        return forms[0] == forms[1] and len(forms[0]) == 1 and forms[0].pop()[:1].isalpha()

    def share_among(self, values: pa.Array) -> float:
        """Return the share of the entries that are among other ids."""
        if not len(self.flat.values):
            return 0.0
        return float(
            pc.mean(pc.is_in(as_text(self.flat.values), as_text(values).unique()).cast(pa.float64())).as_py()
        )


def as_list(column: Column, of_objects: bool = False) -> Listed | None:
    """Read a column as lists if its values are lists, or texts of several ids.

    Args:
        of_objects: true for what stands in lists of objects; numbers there are no vectors.
    """
    separator = ""
    if pa.types.is_nested(column.values.type):
        if not _is_list(column.values.type) or (column.width and not of_objects):
            return None
    elif (found := divider(column)) is None:
        return None
    else:
        separator = found
    listed = flat(column.values, separator)
    return (
        Listed(listed, separator, Column(column.name, listed.values.slice(0, _ENTRIES)))
        if len(listed.values)
        else None
    )


def _is_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and not pa.types.is_nested(kind.value_type)


def divider(column: Column) -> str | None:
    """Find what divides the ids in the texts of a column; empty for brackets, None if it holds no lists."""
    if not pa.types.is_string(column.values.type) or column.unit or column.floats is not None:
        return None
    texts = [text for text in column.known.slice(0, 500).to_pylist() if text.strip()]
    if not texts:
        return None
    bracketed = sum(text.strip()[0] + text.strip()[-1] in ("[]", "()") for text in texts) > 0.9 * len(texts)
    for separator in ("",) if bracketed else _SEPARATORS:
        if bracketed:
            parts = flat(pa.array(texts)).lists()
        elif sum(separator in text for text in texts) <= 0.3 * len(texts):
            continue
        else:
            parts = [[token for token in text.strip().split(separator) if token] for text in texts]
        if not bracketed and sum(len(tokens) > 1 for tokens in parts) <= 0.3 * len(texts):
            continue
        tokens = [token for entry in parts for token in entry]
        ids = sum(bool(_ID.match(token)) and any(map(str.isdigit, token)) for token in tokens)
        if ids > 0.9 * len(tokens):
            return separator
    return None
