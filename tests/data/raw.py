"""Raw tables on disk, and their rows as dicts."""

from pathlib import Path

from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import read

ABC = TextFormat(names=("a", "b", "c"))


def rows(path: Path, columns: list[str] | None = None, **options) -> list[dict]:
    found = []
    for chunk in read(path, columns, **options):
        problems = chunk.problem.to_pylist()
        found += [{**row, "problem": p} for row, p in zip(chunk.rows.to_pylist(), problems, strict=True)]
    return found


def written(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
