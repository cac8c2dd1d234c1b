"""Files of one table of a described log as they stand: where they lie, and which columns they have."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from clickscale.data.described.table_options import Files
from clickscale.data.tables.chunks import Chunk
from clickscale.data.tables.folders import matching_files
from clickscale.data.tables.paths import base_of
from clickscale.data.tables.raw_tables import column_names, read
from clickscale.errors import InputError, unknown


class RawFiles:
    """Files of one table.

    Args:
        what: name of the table in messages.
        base: folder at which relative paths begin.

    Attributes:
        parts: name of the part of each file, if files are given by part.
        known: columns of the files.

    Raises:
        InputError: a file is missing, or the table has no rows.
    """

    def __init__(self, what: str, files: Files, base: Path) -> None:
        found: dict[str, list[Path]] = {part: [] for part, _ in files.patterns()}
        for part, pattern in files.patterns():
            found[part] += matching_files(what, base, pattern)
        self._what, self._files = what, files
        self._paths = [path for paths in found.values() for path in paths]
        self.parts = {path: part for part, paths in found.items() for path in paths if part}
        for path in self._paths:
            self._first = path
            self.known = column_names(path, format=files.format, text=files.text())
            if self.known:
                break
        else:
            raise InputError(f"{what} {path}: the table has no rows.")

    def has(self, column: str) -> bool:
        """True for a column of the files, and for a path inside of one, such as ``context.device``."""
        return base_of(column, self.known) is not None

    def require(self, columns: Sequence[str]) -> None:
        """Refuse columns that the files do not have.

        Raises:
            InputError: names the first of them, with the nearest known one.
        """
        for name in columns:
            if not self.has(name):
                raise InputError(f"{self._what} {self._first}: " + unknown("column", name, self.known))

    def chunks(self, columns: Sequence[str]) -> Iterator[tuple[Path, Chunk]]:
        """Read columns of all files, one after the other."""
        for path in self._paths:
            files = self._files
            for chunk in read(path, columns, format=files.format, text=files.text(), unnest=files.unnest):
                yield path, chunk
