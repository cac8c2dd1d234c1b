"""A folder that appears complete or not at all.

Everything is built in ``NAME.partial`` beside the goal and renamed when it is whole and on disk. A killed
process leaves at most the partial folder, which nothing reads and which the next run clears; a full disk
leaves nothing.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clickscale.errors import DataError
from clickscale.failpoint import failpoint

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def building(out: Path, overwrite: bool, manifest: str) -> Iterator[Path]:
    """The folder to build in; after the block it has become ``out``.

    Raises:
        DataError: ``out`` exists and may not be replaced, another process is building it, or the disk is
            full.
    """
    out = Path(os.path.abspath(out))
    partial, replaced = out.with_name(out.name + ".partial"), out.with_name(out.name + ".replaced")
    if replaced.exists() and not out.exists():
        replaced.rename(out)  # a process was killed between the two renames of `_publish`
    _check_goal(out, overwrite, manifest)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(partial):
        free = shutil.disk_usage(partial).free
        try:
            yield partial
            _sync(partial)
            failpoint("workspace_publish")
            _publish(partial, out, replaced)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise DataError(_full_message(partial, free, error)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _check_goal(out: Path, overwrite: bool, manifest: str) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise DataError(f"{out} exists already; choose another folder, or overwrite it with --overwrite.")
    if not (out / manifest).is_file():
        raise DataError(f"{out} is not a prepared data set, so it is not overwritten; remove it by hand.")


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Hold the partial folder, empty; the system lets go of it when the process dies."""
    partial.mkdir(exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        if not _lock(handle, partial):
            raise DataError(f"Another process is building {partial}; wait for it or choose another folder.")
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
    finally:
        os.close(handle)


def _lock(handle: int, partial: Path) -> bool:
    """Lock an open folder, and make sure that it still is the one of that name."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), partial.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _full_message(partial: Path, free: int, error: OSError) -> str:
    return (
        f"The disk of {partial.parent} is full ({error.strerror}): preparation needs more than the {free:,} "
        "bytes that were free when it began. What it wrote is removed, the log is untouched; free some space "
        "or choose another folder."
    )


def _sync(folder: Path) -> None:
    """Bring every file and folder below to the disk."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _publish(partial: Path, out: Path, replaced: Path) -> None:
    if out.exists() and any(out.iterdir()):
        shutil.rmtree(replaced, ignore_errors=True)
        out.rename(replaced)
    partial.rename(out)
    shutil.rmtree(replaced, ignore_errors=True)
    handle = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
