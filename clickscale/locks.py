"""Locks of the kernel, which end with their process however it ends, and the name of whoever holds one.

A folder that is being written holds a file ``.writer``::

    {"pid": 4711, "host": "train-3", "since": "2026-11-28 21:40:12 UTC"}

The lock decides, and the file only says whose it is: what a killed process left there stops nobody. A file
system without locks is used without them.
"""

import errno
import fcntl
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clickscale.errors import ClickscaleError

WRITER = ".writer"

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
_held: dict[Path, tuple[int, int]] = {}  # folders of `one_writer`: process and thread
_log = logging.getLogger("clickscale")


@contextmanager
def one_writer(folder: Path, error: type[ClickscaleError]) -> Iterator[None]:
    """Let no other process or thread write into a folder during the block; steps inside may ask again.

    Args:
        folder: made if absent, and removed again if the block leaves it empty.
        error: class of the error if somebody else is writing.

    Raises:
        ClickscaleError: of the class ``error``; it names the process that holds the folder, and since when.
    """
    folder = Path(os.path.realpath(folder))
    owner = os.getpid(), threading.get_ident()
    if _held.get(folder) == owner:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        handle = _take(folder)
    except OSError as problem:
        _remove_empty(made)
        raise error(f"{folder} cannot be written: {problem.strerror}; choose another folder.") from problem
    if handle is None:
        raise error(
            f"{folder} is being written by {holder(folder)}; wait for it, stop it, or choose another folder."
        )
    _held[folder] = owner
    try:
        yield
    finally:
        del _held[folder]
        with suppress(OSError):  # the folder may have been removed or become unwritable meanwhile
            os.unlink(folder / WRITER)
        os.close(handle)
        _remove_empty(made)


def _take(folder: Path) -> int | None:
    """Open and lock the file of the writer; None if somebody else has it."""
    path = folder / WRITER
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # a writer that left the folder empty has just removed it
            continue
        if not lock(handle):
            os.close(handle)
            return None
        if is_at(handle, path):
            break
        os.close(handle)  # its writer has just ended, and the file went with it
    if os.fstat(handle).st_size:
        _log.info(f"{folder} was left by {holder(folder)}, which did not come to its end")
    _write(handle)
    return handle


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, as long as they are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def is_empty(folder: Path) -> bool:
    """True if a folder is absent, or holds nothing but the name of its writer."""
    return not folder.is_dir() or set(os.listdir(folder)) <= {WRITER}


def sign(folder: Path) -> None:
    """Say in a folder, whose lock this process has, that it does."""
    handle = os.open(folder / WRITER, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        _write(handle)
    finally:
        os.close(handle)


def _write(handle: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    facts = {"pid": os.getpid(), "host": platform.node(), "since": since}
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps(facts) + "\n").encode(), 0)


def holder(folder: Path) -> str:
    """Name the process that signed a folder, for a message."""
    try:
        facts = json.loads((folder / WRITER).read_bytes())
        return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it ended, or did not sign yet
        return "another process"


def lock(handle: int, wait: bool = False) -> bool:
    """Lock an open file or folder; False if another process holds it and we do not wait."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def is_at(handle: int, path: Path) -> bool:
    """True if an open file or folder still has this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
