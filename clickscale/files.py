"""Files and folders that appear whole or not at all, and the hashes that show that they are unchanged.

A folder is built beside its place under a lock, brought to disk, and renamed::

    NAME.partial     being built; the next builder clears it
    NAME.replaced    the older folder, for the moment between two renames; `heal` gives it its name back
    NAME.removed     an older folder that is being deleted; the next builder clears it

A single file is written inside a folder ``NAME.partial`` in the same way, and moved over the older file.

Whenever the process is killed or the power fails, a reader finds the older content or the newer one, never a
mixture and never nothing. The locks (`clickscale.locks`) end with their process. A full disk is an error that
says so, and leaves what was there.

Only this module renames over files, calls fsync and computes hashes of files. The keys of cached states
(`clickscale.inference.states.fingerprint`) are not hashes of files.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from clickscale.config import Config
from clickscale.errors import ClickscaleError, DamagedError
from clickscale.locks import WRITER, holder, is_at, lock, sign

FAILPOINT = "CLICKSCALE_FAILPOINT"  # environment variable, see `failpoint`

_PARTIAL, _REPLACED, _REMOVED = ".partial", ".replaced", ".removed"
_SAMPLE = 4096  # bytes of each piece of a file that opening a folder hashes: a page
_PATIENCE = 0.2  # seconds to wait for a process that clears a partial folder


# --- folders


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that `building` writes.

    Attributes:
        name: with its article, such as ``a prepared data set``.
        error: class of the errors about such a folder.
        marker: a file that each of them holds: a folder without it is never overwritten. Empty where the
            program chose the name of the folder, so that nothing else can be there.
    """

    name: str
    error: type[ClickscaleError]
    marker: str = ""


@contextmanager
def building(folder: Path, kind: FolderKind, *, overwrite: bool | None = None) -> Iterator[Path]:
    """Yield the folder to build in; after the block it has become ``folder``.

    Args:
        overwrite: replace an older folder of the same kind; None where nobody may ask for that.

    Raises:
        ClickscaleError: of the class ``kind.error``, if ``folder`` exists and may not be replaced, another
            process is building it, or the disk is full.
    """
    folder = Path(os.path.abspath(folder))
    heal(folder)
    _check_replaceable(folder, kind, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    try:
        partial = _beside(folder, _PARTIAL)
        with _locked(partial) as ours:
            if not ours:
                raise kind.error(
                    f"{folder} is being built by {holder(partial)}; wait for it or choose another folder."
                )
            _put_back(folder)
            _check_replaceable(folder, kind, overwrite)  # now that nobody else can publish
            sign(partial)
            yield partial
            (partial / WRITER).unlink(missing_ok=True)
            failpoint("folder_built")
            _sync_tree(partial)
            failpoint("folder_synced")
            _publish(partial, folder)
    except (OSError, SafetensorError) as error:
        if (code := _lack_of_room(error)) is None:
            raise
        why = f"its disk is full: {kind.name} needs more than the {free:,} bytes that were free"
        if code == errno.EFBIG:
            why = f"a file of {kind.name} is larger than the file system, or ulimit -f, allows"
        raise kind.error(
            f"{folder} cannot be written: {why}. What was written of it is removed and nothing else was"
            f" changed; free some space and start again, or choose another folder. ({os.strerror(code)})"
        ) from error


def heal(folder: Path) -> None:
    """Give a folder its name back if a process was killed just before it put a newer one in its place.

    Every reader calls this first. It changes nothing if the folder is there.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() or not _beside(folder, _REPLACED).is_dir():
        return
    try:
        handle = os.open(_beside(folder, _PARTIAL), os.O_RDONLY)
    except FileNotFoundError:
        _put_back(folder)
        return
    try:
        lock(handle, wait=True)  # a living process needs only its second rename
        _put_back(folder)
    finally:
        os.close(handle)


def remove_folder(folder: Path) -> None:
    """Delete a folder; a kill on the way leaves no half of it under its name."""
    removed = _beside(folder, _REMOVED)
    shutil.rmtree(removed, ignore_errors=True)
    os.rename(folder, removed)
    failpoint("folder_removed")
    shutil.rmtree(removed, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Clear what killed processes left in a folder; what a living process is writing stays."""
    for path in sorted(folder.iterdir()):
        place = path.with_suffix("")
        if path.suffix == _REPLACED:
            heal(place)
            if path.exists():
                remove_folder(path)
        elif path.suffix == _REMOVED:
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == _PARTIAL:
            _sweep_partial(path)


def _sweep_partial(path: Path) -> None:
    """Remove a partial folder whose writer is dead."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        if lock(handle) and is_at(handle, path):
            shutil.rmtree(path)
    finally:
        os.close(handle)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.parent / (folder.name + suffix)


def _check_replaceable(folder: Path, kind: FolderKind, overwrite: bool | None) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        way = "" if overwrite is None else ", or overwrite it with --overwrite"
        raise kind.error(f"{folder} exists already; choose another folder{way}.")
    if not folder.is_dir() or not (folder / kind.marker).exists():
        raise kind.error(f"{folder} is not {kind.name}, so it is not overwritten; remove it by hand.")


@contextmanager
def _locked(partial: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the partial folder, empty at first, and remove what is still in it at the end.

    Yields whether the folder is ours; it is not if another process keeps it and we do not wait.
    """
    handle = _take(partial, wait)
    if handle is None:
        yield False
        return
    try:
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield True
    finally:
        # Once it is published, a folder of that name belongs to the next process.
        if is_at(handle, partial):
            shutil.rmtree(partial, ignore_errors=True)
        os.close(handle)


def _take(partial: Path, wait: bool) -> int | None:
    """Open and lock the partial folder; None if another process keeps it and we do not wait."""
    end = time.monotonic() + _PATIENCE
    while True:
        partial.mkdir(exist_ok=True)
        try:
            handle = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:  # the process that held it has just ended
            continue
        if lock(handle, wait) and is_at(handle, partial):
            return handle
        os.close(handle)
        if not wait and time.monotonic() > end:
            return None
        time.sleep(0.01)


def _publish(partial: Path, folder: Path) -> None:
    """Give the partial folder its name; what had the name before goes away last."""
    replaced = _beside(folder, _REPLACED)
    if replaced.exists():  # of a process that was killed after its second rename
        remove_folder(replaced)
    if folder.exists() and any(folder.iterdir()):
        os.rename(folder, replaced)
        failpoint("folder_moved_away")
    try:
        os.rename(partial, folder)
    except OSError:
        _put_back(folder)
        raise
    failpoint("folder_published")
    _sync(folder.parent)  # before the older folder goes: the power may fail too
    if replaced.exists():
        remove_folder(replaced)


def _put_back(folder: Path) -> None:
    """Undo the first of the two renames, unless the folder is there."""
    if folder.exists():
        return
    try:
        os.rename(_beside(folder, _REPLACED), folder)
    except OSError as error:
        # Nothing was replaced, or another process has just healed or published the folder.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


# --- files


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the file to write instead of ``path``; after the block it has become ``path``.

    For writers that need a name, such as those of tensors. Two processes that write the same file do so one
    after the other.

    Raises:
        OSError: it cannot be written, or ``path`` is not a file; an older file stays as it was.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and not path.is_file():  # a folder, or a device that would be replaced by a file
        raise FileExistsError(errno.EEXIST, "It exists and is not a regular file", str(path))
    try:
        with _locked(_beside(path, _PARTIAL), wait=True):
            written = _beside(path, _PARTIAL) / path.name
            yield written
            failpoint("file_written")
            _sync(written)
            failpoint("file_synced")
            os.replace(written, path)
            failpoint("file_published")
            _sync(path.parent)
    except (OSError, SafetensorError) as error:
        if (code := _lack_of_room(error)) is None:
            raise
        advice = "nothing was changed; free some space, or choose another place"
        raise OSError(code, f"{os.strerror(code)}; {advice}", str(path)) from error


def replace_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one move that survives a loss of power."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file in one move that survives a loss of power."""
    replace_bytes(path, text.encode())


def array_on_disk(
    path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...], version: tuple[int, int] | None = None
) -> np.memmap[Any, Any]:
    """Make an array of zeros in a file, to be filled in any order.

    Its space is taken at once, where the system can: a page of a mapped file that finds the disk full ends
    the process.

    Raises:
        OSError: there is no room for it.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape, version=version)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
    return array


def free_space(folder: Path) -> str:
    """Free space of the disk of ``folder``, for a message."""
    return f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB"


# --- hashes


class FileEntry(Config, frozen=True):
    """Size in bytes and sha256 of one file."""

    bytes: int
    sha256: str


def file_entry(path: Path) -> FileEntry:
    """Size and hash of a file, read in pieces."""
    return FileEntry(bytes=path.stat().st_size, sha256=checksum(path))


def check_sizes(folder: Path, files: Mapping[str, FileEntry], advice: str) -> None:
    """Refuse a folder in which a file is missing or has another size (cheap; `verify` compares hashes).

    Args:
        files: by path relative to the folder.
        advice: end of the message, such as ``prepare the data set again``.

    Raises:
        DamagedError: names the first such file.
    """
    for name, entry in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else -1
        if found != entry.bytes:
            what = "is missing" if found < 0 else f"is damaged: {found} bytes instead of {entry.bytes}"
            raise DamagedError(f"{path} {what}; {advice}.")


def verify(folder: Path, files: Mapping[str, FileEntry], advice: str) -> None:
    """Compare every file with its recorded size and hash; arguments as for `check_sizes`.

    Raises:
        DamagedError: names the first file whose bytes changed.
    """
    check_sizes(folder, files, advice)
    for name, entry in files.items():
        if (found := checksum(folder / name)) != entry.sha256:
            raise DamagedError(
                f"{folder / name} is damaged: sha256 {found}, expected {entry.sha256}; {advice}."
            )


def sample_hash(path: Path) -> str:
    """Hash of the beginning, the middle and the end of a file: a few pages, however large it is."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= 3 * _SAMPLE:
            return sha256_of([stream.read()])
        starts = (0, (size - _SAMPLE) // 2, size - _SAMPLE)
        return sha256_of(os.pread(stream.fileno(), _SAMPLE, start) for start in starts)


def check_samples(folder: Path, samples: Mapping[str, str], advice: str) -> None:
    """Compare the sampled pieces of every file with their recorded hash; cheap, as `verify` is not.

    Args:
        samples: `sample_hash` of each file by its path relative to the folder.

    Raises:
        DamagedError: names the first file whose pieces changed.
    """
    for name, expected in samples.items():
        try:
            found = sample_hash(folder / name)
        except OSError as error:
            raise DamagedError(f"Cannot read {folder / name}: {error.strerror}; {advice}.") from error
        if found != expected:
            raise DamagedError(
                f"{folder / name} is damaged: sha256 of its sampled pieces {found}, expected {expected};"
                f" {advice}."
            )


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file in hexadecimal; ``md5`` where a publisher gives only that."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def sha256_text(text: str) -> str:
    """Hash of a text in hexadecimal."""
    return sha256_of([text.encode()])


def sha256_of(pieces: Iterable[bytes | memoryview]) -> str:
    """Hash of pieces of memory, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


# --- the system


def system_error(error: Exception) -> str:
    """Say what the system refused, and of which file, without the number of the error."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    named = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([" to ".join(named), error.strerror]) if named else error.strerror


def failpoint(name: str) -> None:
    """Kill the process or fill the disk here if a test asks for it.

    The environment variable ``CLICKSCALE_FAILPOINT`` holds ``name:action``. When the code passes the point
    of that name, ``kill`` ends the process at once, as SIGKILL does, and ``enospc`` raises what a full disk
    raises.
    """
    wanted = os.environ.get(FAILPOINT)
    if not wanted or wanted.partition(":")[0] != name:
        return
    if wanted.endswith(":kill"):
        os._exit(137)
    if wanted.endswith(":enospc"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def _sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        found = os.fstat(handle)
        # The writer of tensors makes files that only their owner may read; a server may be somebody else.
        if stat.S_IMODE(found.st_mode) == 0o600 and found.st_nlink == 1:
            os.fchmod(handle, path.parent.stat().st_mode & 0o666)
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    """Bring every file and folder below to the disk."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _lack_of_room(error: OSError | SafetensorError) -> int | None:
    """Return the code of an error of a full disk or a limit; the writer of tensors reports it in its text."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError):
        return error.errno if error.errno in codes else None
    found = re.search(r"os error (\d+)\b", str(error))
    return int(found[1]) if found and int(found[1]) in codes else None
