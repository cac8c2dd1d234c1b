"""What the configuration of another library declares of a log, in one form for all libraries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clickscale.data.tables.folders import matching_files
from clickscale.errors import InputError

DeclaredKind = Literal["categorical", "numeric", "sequence", "numbers", "vector", "meta"]


@dataclass(frozen=True)
class DeclaredField:
    """A column and the meaning that a configuration gives it.

    Attributes:
        kind: ``sequence`` is a list of categories, ``numbers`` one of numbers; ``meta`` is no feature.
        source: ``user``, ``item`` or anything else, as far as it is said.
        separator: of texts that hold several values.
        most: largest number of values; 0 if it is not said.
        shares: name of the field whose embedding it uses.
        group: sequences of one group are lists over the same behaviors.
    """

    name: str
    kind: DeclaredKind
    column: str
    source: str = ""
    separator: str = ""
    most: int = 0
    shares: str = ""
    min_count: int = 1
    group: str = ""

    @property
    def is_list(self) -> bool:
        """True for a sequence of either kind."""
        return self.kind in ("sequence", "numbers")


@dataclass(frozen=True)
class DeclaredLog:
    """A log as a configuration declares it.

    Attributes:
        name: of the log.
        library: that the configuration belongs to. config: its file.
        files: path or pattern of each part, ``train`` first.
        labels: columns of outcomes.
        left_out: names of features that are not taken over, with the reason.
    """

    name: str
    library: str
    config: Path
    files: Mapping[str, Path]
    fields: tuple[DeclaredField, ...]
    labels: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def located(config: Path, key: str, text: str, endings: Iterable[str]) -> Path:
    """Find the data that a configuration names; return its path or pattern.

    Such a path begins at the folder in which the library was run, which is hardly ever that of the
    configuration. So the longest end of the path that exists beside the configuration counts.

    Args:
        key: that holds the path, for messages.
        endings: that a path may lack.

    Raises:
        InputError: there is no such file.
    """
    base = config.parent
    parts = [part for part in Path(text.rstrip("/")).parts if part not in (".", "..")]
    tails = [Path(*parts[first:]) for first in range(len(parts))]
    whole = [Path(text)] if Path(text).is_absolute() else [base / text]
    for path in [*whole, *(base / tail for tail in tails if not tail.is_absolute())]:
        for tried in (path, *(path.with_name(path.name + ending) for ending in endings)):
            try:
                matching_files(key, tried.parent, tried.name)
            except InputError:
                continue
            return tried
    raise InputError(
        f"{config}: {key} names {text!r}, of which nothing is in {base}; put the data beside the "
        "configuration, or correct the path."
    )
