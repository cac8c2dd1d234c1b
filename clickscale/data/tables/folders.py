"""Files of a table in folders, and columns that only the names of the folders hold.

Spark and Hive write a table as a folder of files, such as ``log/dt=2024-01-31/country=de/part-0.parquet``
beside files such as ``_SUCCESS``. The parts ``NAME=VALUE`` of a path are columns of its rows.
"""

import urllib.parse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from clickscale.data.tables.chunks import Chunk
from clickscale.errors import InputError

# Endings of files that lie beside tables in a folder.
_NO_TABLES = (
    *(".md", ".rst", ".toml", ".yaml", ".yml", ".py", ".sql", ".sh", ".html", ".pdf", ".png", ".jpg", ".svg"),
    *(".npy", ".npz", ".pt", ".pkl", ".ipynb", ".zip", ".crc", ".md5", ".sha256"),
)
_NULL = "__HIVE_DEFAULT_PARTITION__"


def matching_files(what: str, base: Path, pattern: str) -> list[Path]:
    """List the files of a path, a pattern or a folder, in the order of their names.

    Args:
        what: name of the table, for messages.

    Raises:
        InputError: there is none, or the file system refuses to look.
    """
    try:
        paths = _matching(base, pattern)
    except (OSError, ValueError) as error:  # such as a name that is too long, or an unacceptable pattern
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{what}: {pattern!r} in {base} cannot be looked up: {why}.") from error
    if not paths:
        raise InputError(f"{what}: no file matches {pattern!r} in {base}.")
    return paths


def _matching(base: Path, pattern: str) -> list[Path]:
    """Files that match, sorted."""
    path = Path(pattern)
    root = Path(path.anchor) if path.is_absolute() else base
    inner = str(path.relative_to(path.anchor)) if path.is_absolute() else pattern
    whole = (
        [base / pattern] if (base / pattern).exists() else root.glob(inner)
    )  # brackets are no pattern then
    return sorted({file for found in whole for file in files_below(found)})


def files_below(path: Path) -> list[Path]:
    """List a file, or all files of a folder that may hold tables.

    Names that begin with ``.`` or ``_``, or end as those of descriptions and scripts do, are none of tables.
    """
    if not path.is_dir():
        return [path] if path.is_file() and not _is_hidden(path.name) else []
    files = (file for file in path.rglob("*") if file.is_file() and file.suffix not in _NO_TABLES)
    return sorted(file for file in files if not any(map(_is_hidden, file.relative_to(path).parts)))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def columns_of_path(path: Path) -> dict[str, str | None]:
    """Read the columns that the folders of a path name."""
    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part)
    return {
        urllib.parse.unquote(name): None if value == _NULL else urllib.parse.unquote(value)
        for name, value in pairs
        if name
    }


def with_columns(chunk: Chunk, values: dict[str, str | None], wanted: Sequence[str] | None) -> Chunk:
    """Add columns of one value each to the rows of a file; choose and order all if ``wanted`` says how."""
    rows = {name: chunk[name] for name in chunk.rows.schema.names}
    rows |= {name: _repeated(value, len(chunk)) for name, value in values.items()}
    names = list(rows) if wanted is None else list(wanted)
    batch = pa.RecordBatch.from_arrays([rows[name] for name in names], names=names)
    return Chunk(batch, chunk.problem, chunk.evidence)


def _repeated(value: str | None, rows: int) -> pa.Array:
    return pa.nulls(rows, pa.string()) if value is None else pa.repeat(pa.scalar(value), rows)
