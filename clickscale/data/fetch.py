"""Get a public log: from its official address, from a mirror, or from a local copy.

Where a log comes from, and how its content is recognized, stands in its adapter (``ABOUT``). Whatever the
way, what arrives is checked against the published figures, and the folder appears whole or not at all.
"""

import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from clickscale.arrays import Ints
from clickscale.data.adapters import about, adapter_names
from clickscale.data.adapters._about import About, Archive
from clickscale.data.tables.casts import integers
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import read
from clickscale.errors import ClickscaleError, ConfigError, DamagedError, DataError, unknown
from clickscale.files import FolderKind, building, checksum, sha256_text

PATIENCE = 5  # seconds that a connection may take to answer
LARGEST = 1 << 28  # bytes of any file that an archive may hold
LOG = FolderKind("a public log", DataError)


def catalog() -> dict[str, About]:
    """Every public log that has an adapter, by name."""
    return {name: about(name) for name in adapter_names()}


def get(name: str, folder: Path, source: Path | None = None) -> Path:
    """Put a public log into ``folder`` in its published layout, checked; return the folder.

    A folder that already holds the log is left as it is.

    Args:
        source: a local folder or zip file with the log, instead of the network.

    Raises:
        ConfigError: no such log.
        DataError: it cannot be fetched (the message says what to do), or the folder holds other things.
        DamagedError: what ``source`` or the folder holds is not the log.
    """
    if name not in adapter_names():
        raise ConfigError(unknown("public log", name, adapter_names()))
    log = about(name)
    if log.archive is None:
        raise DataError(_by_hand(name, log, source))
    if folder.is_dir() and any(folder.iterdir()):
        _check(folder, log.archive)
        return folder
    with building(folder, LOG) as work:
        if source is not None:
            _take(source, log.archive, work)
            _check(work, log.archive)
        else:
            _from_network(name, log.archive, work)
    return folder


def _by_hand(name: str, log: About, source: Path | None) -> str:
    """Instructions for a log that this program may not or need not fetch."""
    folder = source or "FOLDER"
    step = "" if source else f"Download it from {log.where} and unpack it into a folder, then: "
    return (
        f"{name} ({log.size}; {log.licence}) is not fetched by a program. {step}"
        f"clickscale prepare {name}:{folder} --out prepared"
    )


def _from_network(name: str, archive: Archive, work: Path) -> None:
    """Try the official address, then the mirrors."""

    def official(empty: Path) -> None:
        _download(archive, empty)

    ways: dict[str, Callable[[Path], None]] = {archive.address: official, **archive.mirrors}
    failures = []
    for place, way in ways.items():
        try:
            way(work)
            _check(work, archive)
            return
        except (ClickscaleError, OSError) as error:
            failures.append(f"{place}: {error}")
        for path in work.iterdir():
            path.unlink()
    raise DataError(
        f"Cannot get {name}. "
        + "; ".join(failures)
        + f". On a machine with a network download {archive.address}, "
        f"then: clickscale data get {name} --source FILE_OR_FOLDER --out DIR"
    )


def _download(archive: Archive, work: Path) -> None:
    """Fetch the zip file from its official address and unpack what is wanted into the empty folder ``work``.

    Raises:
        DataError: the address does not answer, or the file is not the published one.
    """
    packed = work / "archive.zip"
    try:
        with urllib.request.urlopen(archive.address, timeout=PATIENCE) as answer, packed.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"no answer ({error})") from error
    if (found := checksum(packed, "md5")) != archive.md5:  # the checksum that the publisher gives
        raise DamagedError(f"md5 {found} instead of {archive.md5}")
    _unpack(packed, archive, work)
    packed.unlink()


def _take(source: Path, archive: Archive, work: Path) -> None:
    """Copy the log from a local folder (or one below it), or unpack it from a zip file, into ``work``.

    Raises:
        DataError: a file is missing.
    """
    if source.is_file():
        _unpack(source, archive, work)
        return
    for name in (*archive.files, *archive.extras):
        found = [path for path in (source / name, *sorted(source.glob(f"*/{name}"))) if path.is_file()]
        if found:
            shutil.copyfile(found[0], work / name)
        elif name in archive.files:
            raise DataError(
                f"{source} holds no {name}; it should hold {', '.join(archive.files)} or be a zip of them."
            )


def _unpack(packed: Path, archive: Archive, work: Path) -> None:
    """The wanted files of a zip file, whatever folder they are in; nothing else is written."""
    try:
        with zipfile.ZipFile(packed) as file:
            members = {Path(entry.filename).name: entry for entry in file.infolist() if not entry.is_dir()}
            for name in (*archive.files, *archive.extras):
                if name in members and members[name].file_size <= LARGEST:
                    with file.open(members[name]) as member, (work / name).open("wb") as out:
                        shutil.copyfileobj(member, out)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DamagedError(f"{packed} is not a zip file, or is damaged: {error}") from error
    missing = [name for name in archive.files if not (work / name).is_file()]
    if missing:
        raise DataError(f"{packed} holds no {', '.join(missing)}.")


def _check(folder: Path, archive: Archive) -> None:
    """Compare a folder with the published figures of the log.

    Raises:
        DataError: a file is missing.
        DamagedError: a file or its ratings are not the published ones.
    """
    for name, md5 in archive.files.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder} holds no {name}; choose an empty folder, or one with the whole log.")
        found = checksum(folder / name, "md5") if md5 else ""
        if found != md5:
            raise DamagedError(f"{folder / name} is not the published file: md5 {found} instead of {md5}.")
    name, text = archive.ratings
    rows = _ratings(folder / name, text)
    histogram = tuple(int(n) for n in np.bincount(np.clip(rows[:, 2], 0, 6), minlength=7)[1:6])
    if histogram != archive.histogram:
        raise DamagedError(
            f"{folder / name} holds {histogram} ratings of 1 to 5 instead of {archive.histogram}."
        )
    if archive.sha256 and _fingerprint(rows) != archive.sha256:
        raise DamagedError(
            f"{folder / name} differs from the published ratings (sha256 {_fingerprint(rows)})."
        )


def _ratings(path: Path, text: TextFormat) -> Ints:
    """(ratings, 4) integers; rows that are not four integers are left out, so that the counts differ."""
    parts = [np.zeros((0, 4), np.int64)]
    for chunk in read(path, format="csv", text=text):
        columns = [integers(chunk[name].filter(chunk.problem.is_null())) for name in text.names]
        if not all(pa.types.is_integer(column.type) for column in columns):
            raise DamagedError(f"{path} holds values that are not integers.")
        parts.append(
            np.stack([column.fill_null(0).to_numpy(zero_copy_only=False) for column in columns], axis=1)
        )
    return np.concatenate(parts)


def _fingerprint(rows: Ints) -> str:
    """sha256 of rows of integers whatever their order: sorted, one per line, separated by spaces."""
    ordered = rows[np.lexsort(rows.T[::-1])]
    text = "\n".join(" ".join(map(str, row)) for row in ordered.tolist())
    return sha256_text(text)
