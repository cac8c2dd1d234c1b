"""Facts about a public log: where it comes from, on which terms, and how it is recognized."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clickscale.data.tables.delimited import TextFormat


@dataclass(frozen=True)
class Archive:
    """A published zip file, and the figures that its content must have.

    Attributes:
        files: those that the folder must hold, with their md5; empty where several versions are in use.
        extras: files that are taken along if they are there.
        ratings: name and layout of the file of ratings.
        histogram: how many ratings of 1, 2, 3, 4 and 5 it holds.
        sha256: of its rows (user, item, rating, time as integers), sorted, one per line; empty if copies with
            other times are in use.
        mirrors: other ways to get the files, by a name for messages; each writes them into an empty folder.
    """

    address: str
    md5: str
    files: dict[str, str]
    extras: tuple[str, ...]
    ratings: tuple[str, TextFormat]
    histogram: tuple[int, ...]
    sha256: str = ""
    mirrors: dict[str, Callable[[Path], None]] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """The constant ``ABOUT`` of an adapter.

    Attributes:
        title: one line on what the log holds.
        size: of the download.
        licence: terms of use.
        where: the page of the publisher.
        archive: for a log that a program may fetch.
    """

    title: str
    size: str
    licence: str
    where: str
    archive: Archive | None = None
