"""Tables that are parts of one log: files with equal columns whose names say train, valid or test."""

import re
from collections.abc import Sequence
from pathlib import Path

from clickscale.data.described.drafts.samples import Head
from clickscale.data.source import PART_NAMES, PARTS


def part_files(heads: Sequence[Head]) -> tuple[list[Head], dict[Path, dict[str, Path]]]:
    """Join tables with equal columns whose names tell parts; return the rest, and the paths by first path."""
    groups: dict[tuple[str, ...], dict[str, Head]] = {}
    for head in heads:
        part = _part_of(head.path)
        if part and head.named:
            groups.setdefault(tuple(head.columns), {}).setdefault(part, head)
    kept, joined = list(heads), {}
    for parts in groups.values():
        if "train" in parts and len(parts) > 1:
            kept = [head for head in kept if head is parts["train"] or head not in parts.values()]
            joined[parts["train"].path] = {
                part: head.path for part, head in sorted(parts.items(), key=_in_turn)
            }
    return kept, joined


def tables_of_folder(path: Path) -> list[Path]:
    """List the tables of a folder that holds one file or folder for each part; else the path itself."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    parts = {inner: _part_of(inner if inner.is_file() else inner / "part") for inner in inside}
    found = [inner for inner, part in parts.items() if part and not inner.name.startswith((".", "_"))]
    told = {parts[inner] for inner in found}
    return found if "train" in told and len(told) > 1 else [path]


def _in_turn(entry: tuple[str, Head]) -> int:
    return PARTS.index(entry[0])


def _part_of(path: Path) -> str:
    """Find the part that the name of a file, or of its folder, tells."""
    for text in (path.name.split(".")[0], path.parent.name):
        words = [PART_NAMES[word] for word in re.split(r"[^a-z]+", text.lower()) if word in PART_NAMES]
        if words:
            return words[-1]
    return ""
